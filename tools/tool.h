/* SPDX-License-Identifier: MIT */
/*
 * tool.h - what the subcommands of xshim share: their entry points, exit statuses and small output helpers.
 *
 * Each subcommand gets its own argc and argv, argv[0] being "xshim NAME", parses them with argp, and
 * returns the exit status. One thread; nothing here is meant for signal handlers.
 */
#ifndef XSHIM_TOOL_H
#define XSHIM_TOOL_H
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdio.h>

#ifdef PACKAGE_VERSION
#define XSHIM_TOOL_VERSION PACKAGE_VERSION
#else
#define XSHIM_TOOL_VERSION "unconfigured"
#endif

enum xshim_exit {
	XSHIM_EXIT_OK = 0,
	XSHIM_EXIT_FAIL = 1,
	XSHIM_EXIT_USAGE = 2,
	/* of `xshim run`, the numbers of env(1) */
	XSHIM_EXIT_RUN_FAIL = 125,
	XSHIM_EXIT_CANNOT_EXECUTE = 126,
	XSHIM_EXIT_NOT_FOUND = 127,
};

int xshim_run_main(int argc, char **argv);
int xshim_ss_main(int argc, char **argv);
int xshim_stat_main(int argc, char **argv);
int xshim_doctor_main(int argc, char **argv);
int xshim_drain_main(int argc, char **argv);

/* Where xshimd listens: the option's value, else $XSHIM_SOCKET, else the default of options.def. */
const char *xshim_tool_socket(const char *option);

/* Print a text that others made: control characters, which could steer a terminal, become '?'. */
void xshim_tool_print_clean(FILE *f, const char *text);

/* Flush stdout; EXIT_FAIL with one line on stderr if something could not be written, else `status`. */
int xshim_tool_finish(int status);

#endif
