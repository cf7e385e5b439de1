/* SPDX-License-Identifier: MIT */
/*
 * ss.c - `xshim ss`: one row a connection, as a table or as xshimd's JSON.
 */
#include "tool.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

#define KEY_WATCH 0x100
#define KEY_COUNT 0x101
#define KEY_SOCKET 0x102

static const char *const states[] = { "tcp", "switching", "ring" };
#define STATES (sizeof(states) / sizeof(states[0]))

struct ss {
	const char *socket;
	bool json;
	bool wanted[STATES];
	bool any_wanted;
	long long pid;			/* -1: all */
	const char *address;		/* NULL: all */
	double watch_s;			/* 0: once */
	long long count;		/* of reports with --watch; 0: without end */
};

static const struct column {
	const char *title;
	const char *key;
	bool is_number;
} columns[] = {
	{ "NETNS", "netns", true },
	{ "LOCAL", "local", false },
	{ "REMOTE", "remote", false },
	{ "PID", "pid", true },
	{ "COMMAND", "command", false },
	{ "TRANSPORT", "transport", false },
	{ "BACKEND", "backend", false },
	{ "REASON", "reason", false },
	{ "PEER-REASON", "peer_reason", false },
	{ "RING-TX", "ring_tx", true },
	{ "RING-RX", "ring_rx", true },
	{ "TCP-TX", "tcp_tx", true },
	{ "TCP-RX", "tcp_rx", true },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "print xshimd's report as JSON; with --watch, one line a report", 1 },
	{ "pid", 'p', "PID", 0, "only connections of this process", 2 },
	{ "address", 'a', "TEXT", 0, "only where LOCAL or REMOTE contains TEXT, such as 10.0.0.1 or :80", 2 },
	{ "watch", KEY_WATCH, "SECONDS", OPTION_ARG_OPTIONAL, "again every SECONDS (1), until interrupted", 3 },
	{ "count", KEY_COUNT, "N", 0, "with --watch: end after N reports", 3 },
	{ "socket", KEY_SOCKET, "PATH", 0, "where xshimd listens", 4 },
	{ 0 }
};

static const char doc[] =
	"List TCP connections of preloaded programs.\v"
	"STATE is ring, tcp or switching; several may be named. The word 'state' before it is allowed, as in ss(8).";

static long long parse_count(struct argp_state *state, const char *what, const char *arg)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(arg, &end, 10);
	if (arg[0] < '0' || arg[0] > '9' || *end || errno || n < 1)
		argp_error(state, "%s=%s: not a number from 1", what, arg);
	return n;
}

static void parse_state(struct argp_state *state, struct ss *ss, const char *arg)
{
	for (size_t i = 0; i < STATES; i++) {
		if (strcmp(arg, states[i]) == 0) {
			ss->wanted[i] = ss->any_wanted = true;
			return;
		}
	}
	if (strcmp(arg, "state") != 0)
		argp_error(state, "state '%s': one of ring, tcp, switching", arg);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct ss *ss = state->input;
	char *end;

	switch (key) {
	case 'j':
		ss->json = true;
		return 0;
	case 'p':
		ss->pid = parse_count(state, "--pid", arg);
		return 0;
	case 'a':
		ss->address = arg;
		return 0;
	case KEY_SOCKET:
		ss->socket = arg;
		return 0;
	case KEY_COUNT:
		ss->count = parse_count(state, "--count", arg);
		return 0;
	case KEY_WATCH:
		ss->watch_s = arg ? strtod(arg, &end) : 1;
		if (arg && (end == arg || *end || !(ss->watch_s >= 0.01 && ss->watch_s <= 86400)))
			argp_error(state, "--watch=%s: not a number of seconds from 0.01 to 86400", arg);
		return 0;
	case ARGP_KEY_ARG:
		parse_state(state, ss, arg);
		return 0;
	case ARGP_KEY_END:
		if (ss->count && ss->watch_s == 0)
			argp_error(state, "--count needs --watch");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const char *text_of(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s ? s : "-";
}

static bool is_wanted(const struct ss *ss, const json_t *row)
{
	const char *transport = text_of(row, "transport");
	bool state_fits = !ss->any_wanted;

	for (size_t i = 0; i < STATES; i++)
		if (ss->wanted[i] && strcmp(transport, states[i]) == 0)
			state_fits = true;
	if (!state_fits)
		return false;
	if (ss->pid >= 0 && json_integer_value(json_object_get(row, "pid")) != ss->pid)
		return false;
	return !ss->address || strstr(text_of(row, "local"), ss->address) || strstr(text_of(row, "remote"), ss->address);
}

/* Take out the rows that no filter lets through. */
static json_t *apply_filters(const struct ss *ss, json_t *report)
{
	json_t *rows = json_object_get(report, "connections");

	for (size_t i = json_array_size(rows); i-- > 0;)
		if (!is_wanted(ss, json_array_get(rows, i)))
			json_array_remove(rows, i);
	return rows;
}

static const char *cell(const json_t *row, size_t col, char buf[32])
{
	if (!columns[col].is_number)
		return text_of(row, columns[col].key);
	snprintf(buf, 32, "%" PRIu64, (uint64_t)json_integer_value(json_object_get(row, columns[col].key)));
	return buf;
}

static void print_cell(size_t col, const char *text, size_t width)
{
	int pad = (int)(width - strlen(text));

	if (columns[col].is_number)
		printf("%*s", pad, "");
	xshim_tool_print_clean(stdout, text);
	if (!columns[col].is_number && col + 1 < COLUMNS)
		printf("%*s", pad, "");
	fputs(col + 1 < COLUMNS ? "  " : "\n", stdout);
}

static void print_table(const json_t *rows)
{
	size_t width[COLUMNS], n = json_array_size(rows), i, col;
	char buf[32];

	for (col = 0; col < COLUMNS; col++) {
		width[col] = strlen(columns[col].title);
		for (i = 0; i < n; i++) {
			size_t len = strlen(cell(json_array_get(rows, i), col, buf));

			if (len > width[col])
				width[col] = len;
		}
	}
	for (col = 0; col < COLUMNS; col++)
		print_cell(col, columns[col].title, width[col]);
	for (i = 0; i < n; i++)
		for (col = 0; col < COLUMNS; col++)
			print_cell(col, cell(json_array_get(rows, i), col, buf), width[col]);
}

static int show(const struct ss *ss, bool again)
{
	json_t *report, *rows;

	if (xshim_client_fetch(xshim_tool_socket(ss->socket), XSHIM_REPORT_CONNECTIONS, &report) < 0)
		return XSHIM_EXIT_FAIL;
	rows = apply_filters(ss, report);
	if (ss->json) {
		json_dumpf(report, stdout, ss->watch_s > 0 ? JSON_COMPACT : JSON_INDENT(2));
		putchar('\n');
	} else {
		if (ss->watch_s > 0 && isatty(STDOUT_FILENO))
			fputs("\033[H\033[J", stdout);
		else if (again)
			putchar('\n');
		print_table(rows);
	}
	json_decref(report);
	return xshim_tool_finish(XSHIM_EXIT_OK);
}

int xshim_ss_main(int argc, char **argv)
{
	static const struct argp argp = { options, parse, "[[state] STATE...]", doc, NULL, NULL, NULL };
	struct ss ss = { .pid = -1 };
	struct timespec pause;
	int status;

	if (argp_parse(&argp, argc, argv, 0, NULL, &ss) != 0)
		return XSHIM_EXIT_USAGE;
	pause.tv_sec = (time_t)ss.watch_s;
	pause.tv_nsec = (long)((ss.watch_s - (double)pause.tv_sec) * 1e9);
	for (long long n = 1;; n++) {
		/* A daemon that is being restarted ends one report, not the watch. */
		status = show(&ss, n > 1);
		if (ss.watch_s == 0 || n == ss.count || ferror(stdout))
			return status;
		nanosleep(&pause, NULL);
	}
}
