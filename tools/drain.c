/* SPDX-License-Identifier: MIT */
/*
 * drain.c - `xshim drain`: have connections leave the rings between Xen guests before one of them is saved or moved.
 */
#include "tool.h"

#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

#define KEY_SOCKET 0x100
#define KEY_END 0x101
#define KEY_TIMEOUT 0x102
#define DOMID_MAX 32751
#define TIMEOUT_S 30

struct drain {
	const char *socket;
	bool end, quiet;
	long domid;			/* -1: all */
	long timeout_s;
};

static const struct argp_option options[] = {
	{ "end", KEY_END, NULL, 0, "the drain is over: rings may be used again", 1 },
	{ "timeout", KEY_TIMEOUT, "SECONDS", 0, "how long to wait for the answer (30)", 1 },
	{ "quiet", 'q', NULL, 0, "print nothing when all is well", 1 },
	{ "socket", KEY_SOCKET, "PATH", 0, "where xshimd listens", 2 },
	{ 0 }
};

static long parse_number(struct argp_state *state, const char *what, const char *arg, long min, long max)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(arg, &end, 10);
	if (arg[0] < '0' || arg[0] > '9' || *end || errno || n < min || n > max)
		argp_error(state, "%s '%s': not a number from %ld to %ld", what, arg, min, max);
	return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct drain *d = state->input;

	switch (key) {
	case 'q':
		d->quiet = true;
		return 0;
	case KEY_END:
		d->end = true;
		return 0;
	case KEY_TIMEOUT:
		d->timeout_s = parse_number(state, "--timeout", arg, 1, 3600);
		return 0;
	case KEY_SOCKET:
		d->socket = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (d->domid >= 0)
			argp_error(state, "argument '%s': one domain at a time", arg);
		d->domid = parse_number(state, "domain", arg, 0, DOMID_MAX);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int xshim_drain_main(int argc, char **argv)
{
	static const struct argp argp = { .options = options, .parser = parse, .args_doc = "[DOMID]",
		.doc = "Have connections leave their rings to another Xen guest, and TCP carry on.\v"
		       "In a guest: the rings with guest DOMID, or all. In dom0: those of guest DOMID with all others, or all of all "
		       "guests. Status 0: none is left on a ring; 1: some are, or may be as a xshimd does not answer." };
	struct drain d = { .domid = -1, .timeout_s = TIMEOUT_S };
	struct xshim_client c;
	uint32_t left = 0;
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &d) != 0)
		return XSHIM_EXIT_USAGE;
	rc = xshim_client_open(&c, xshim_tool_socket(d.socket));
	if (rc == 0)
		rc = xshim_client_drain(&c, d.domid < 0 ? XSHIM_DOMID_ALL : (uint32_t)d.domid, d.end, (int)d.timeout_s * 1000,
					&left);
	if (rc < 0)
		xshim_client_complain(&c);
	xshim_client_close(&c);
	if (rc < 0)
		return XSHIM_EXIT_FAIL;
	/* In dom0 a guest whose xshimd does not answer counts as one: what it has is not known. */
	if (left)
		fprintf(stderr, "xshim: %u connections are left on their rings, or guests have not answered (xshimd's log says which); what "
			"is left is reset when the guest is saved or moved\n", left);
	else if (!d.quiet)
		puts(d.end ? "ended" : "drained");
	return xshim_tool_finish(left ? XSHIM_EXIT_FAIL : XSHIM_EXIT_OK);
}
