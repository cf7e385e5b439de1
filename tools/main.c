/* SPDX-License-Identifier: MIT */
/*
 * main.c - the command xshim: picks the subcommand; each has a file of its own.
 */
#include "tool.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"

static const struct subcommand {
	const char *name;
	int (*main)(int argc, char **argv);
} subcommands[] = {
	{ "run", xshim_run_main },
	{ "ss", xshim_ss_main },
	{ "stat", xshim_stat_main },
	{ "doctor", xshim_doctor_main },
	{ "drain", xshim_drain_main },
};

struct choice {
	const struct subcommand *sub;
	int first;			/* index of the subcommand's name in argv */
};

static const char doc[] =
	"TCP connections over shared memory: start programs with it, and see what it does.\v"
	"Commands:\n"
	"  run     start a program with libxshim.so preloaded\n"
	"  ss      list connections and how their bytes travel\n"
	"  stat    totals, and a count for each reason\n"
	"  doctor  check this machine, and whether a program can be served\n"
	"  drain   leave the rings between Xen guests, before a save or a move\n"
	"\n"
	"`xshim COMMAND --help' tells more; the manuals are xshim(1) and xshim(7).";

const char *xshim_tool_socket(const char *option)
{
	const char *env;

	if (option)
		return option;
	env = secure_getenv("XSHIM_SOCKET");
	return env && *env ? env : xshim_setting_find("XSHIM_SOCKET")->text;
}

void xshim_tool_print_clean(FILE *f, const char *text)
{
	for (; *text; text++)
		fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, f);
}

int xshim_tool_finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "xshim: cannot write to standard output: %s\n", strerror(errno));
	return XSHIM_EXIT_FAIL;
}

static void print_version(FILE *f, struct argp_state *state)
{
	(void)state;
	fprintf(f, "xshim %s\n", XSHIM_TOOL_VERSION);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct choice *choice = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
			if (strcmp(arg, subcommands[i].name) == 0)
				choice->sub = &subcommands[i];
		if (!choice->sub)
			argp_error(state, "unknown command '%s': one of run, ss, stat, doctor, drain", arg);
		choice->first = state->next - 1;
		state->next = state->argc;	/* the rest is the subcommand's */
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "a command is missing: one of run, ss, stat, doctor, drain");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = { .parser = parse, .args_doc = "COMMAND [ARG...]", .doc = doc };
	struct choice choice = { 0 };
	char name[32];

	argp_program_version_hook = print_version;
	argp_err_exit_status = XSHIM_EXIT_USAGE;
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &choice) != 0 || !choice.sub)
		return XSHIM_EXIT_USAGE;
	/* argp and getopt start their messages with argv[0]. */
	snprintf(name, sizeof(name), "xshim %s", choice.sub->name);
	argv[choice.first] = name;
	return choice.sub->main(argc - choice.first, argv + choice.first);
}
