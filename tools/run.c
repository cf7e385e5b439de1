/* SPDX-License-Identifier: MIT */
/*
 * run.c - `xshim run`: set LD_PRELOAD and the XSHIM_* variables, then become the program.
 */
#include "tool.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "library.h"
#include "settings.h"

#define KEY_LIB 0x100
#define KEY_SETTING 0x200		/* KEY_SETTING + i: xshim_settings[i] */
#define MAX_SETTINGS 64
#define NAME_LEN 40

struct run {
	const char *lib;
	char **cmd;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct run *run = state->input;
	const struct xshim_setting *s;
	char why[96];

	if (key >= KEY_SETTING && key < KEY_SETTING + (int)xshim_settings_count) {
		s = &xshim_settings[key - KEY_SETTING];
		if (!arg)
			arg = (char *)"1";
		if (xshim_setting_check(s, arg, why, sizeof(why)) < 0)
			argp_error(state, "%s=%s: %s", s->variable, arg, why);
		if (setenv(s->variable, arg, 1) < 0)
			argp_failure(state, XSHIM_EXIT_RUN_FAIL, errno, "cannot set %s", s->variable);
		return 0;
	}
	switch (key) {
	case KEY_LIB:
		run->lib = arg;
		return 0;
	case ARGP_KEY_ARG:
		run->cmd = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "the program to run is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* "XSHIM_RING_SIZE" -> "ring-size" */
static void option_name(const char *variable, char name[NAME_LEN])
{
	size_t i = 0;

	for (variable += strlen("XSHIM_"); *variable && i < NAME_LEN - 1; variable++, i++)
		name[i] = *variable == '_' ? '-' : (char)tolower((unsigned char)*variable);
	name[i] = '\0';
}

static void make_options(struct argp_option opts[MAX_SETTINGS + 2], char names[MAX_SETTINGS][NAME_LEN])
{
	size_t n = 0;

	opts[n++] = (struct argp_option){ .name = "lib", .key = KEY_LIB, .arg = "FILE",
		.doc = "preload this libxshim.so instead of the one found", .group = 1 };
	for (size_t i = 0; i < xshim_settings_count && i < MAX_SETTINGS; i++) {
		const struct xshim_setting *s = &xshim_settings[i];

		option_name(s->variable, names[i]);
		opts[n++] = (struct argp_option){ .name = names[i], .key = KEY_SETTING + (int)i,
			.arg = s->is_number ? "N" : "TEXT", .doc = s->help, .group = 2,
			.flags = s->is_number && s->min == 0 && s->max == 1 ? OPTION_ARG_OPTIONAL : 0 };
	}
	opts[n] = (struct argp_option){ 0 };
}

/* A sanitizer's runtime refuses to start unless it is loaded first. */
static bool is_sanitizer(const char *entry, size_t len)
{
	static const char *const names[] = { "libasan.so", "libtsan.so", "libubsan.so", "liblsan.so" };
	const char *slash = memrchr(entry, '/', len);
	const char *base = slash ? slash + 1 : entry;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (len - (size_t)(base - entry) >= strlen(names[i]) &&
		    strncmp(base, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* Put lib before what LD_PRELOAD holds, but after a sanitizer; once is enough. */
static int set_preload(const char *lib)
{
	const char *old = getenv("LD_PRELOAD"), *p, *rest;
	char *value;
	size_t len;
	int rc;

	if (!old)
		old = "";
	rest = old;
	for (p = old; *p; p += len) {
		p += strspn(p, " :");
		len = strcspn(p, " :");
		if (len == strlen(lib) && strncmp(p, lib, len) == 0)
			return 0;
		if (len && is_sanitizer(p, len))
			rest = p + len;
	}
	if (asprintf(&value, "%.*s%s%s%s%s", (int)(rest - old), old, rest > old ? ":" : "", lib,
		     *rest && *rest != ':' && *rest != ' ' ? ":" : "", rest) < 0)
		return -ENOMEM;
	rc = setenv("LD_PRELOAD", value, 1) < 0 ? -errno : 0;
	free(value);
	return rc;
}

int xshim_run_main(int argc, char **argv)
{
	static char names[MAX_SETTINGS][NAME_LEN];
	static struct argp_option opts[MAX_SETTINGS + 2];
	const struct argp argp = { opts, parse, "[--] PROGRAM [ARG...]",
		"Run PROGRAM with libxshim.so preloaded.\v"
		"Each option but --lib sets the environment variable of the same name, XSHIM_...; see xshim(7).",
		NULL, NULL, NULL };
	char lib[PATH_MAX], why[PATH_MAX + 128];
	struct run run = { 0 };
	int rc;

	argp_err_exit_status = XSHIM_EXIT_RUN_FAIL;
	make_options(opts, names);
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &run) != 0 || !run.cmd)
		return XSHIM_EXIT_RUN_FAIL;
	if (xshim_library_find(run.lib, lib, why, sizeof(why)) < 0) {
		fprintf(stderr, "xshim: cannot preload: %s; name the library with --lib or XSHIM_LIB\n", why);
		return XSHIM_EXIT_RUN_FAIL;
	}
	rc = set_preload(lib);
	if (rc < 0) {
		fprintf(stderr, "xshim: cannot set LD_PRELOAD: %s\n", strerror(-rc));
		return XSHIM_EXIT_RUN_FAIL;
	}
	execvp(run.cmd[0], run.cmd);
	rc = errno;
	fprintf(stderr, "xshim: cannot run %s: %s\n", run.cmd[0], strerror(rc));
	return rc == ENOENT ? XSHIM_EXIT_NOT_FOUND : XSHIM_EXIT_CANNOT_EXECUTE;
}
