/* SPDX-License-Identifier: MIT */
/*
 * stat.c - `xshim stat`: totals since xshimd was started, finished connections included.
 */
#include "tool.h"

#include <argp.h>
#include <stdbool.h>
#include <string.h>
#include <xshim/reason.h>

#include "client.h"

#define KEY_SOCKET 0x100

struct stat_args {
	const char *socket;
	bool json;
};

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "print xshimd's report as JSON", 1 },
	{ "socket", KEY_SOCKET, "PATH", 0, "where xshimd listens", 2 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct stat_args *args = state->input;

	switch (key) {
	case 'j':
		args->json = true;
		return 0;
	case KEY_SOCKET:
		args->socket = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "argument '%s': stat takes none", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static long long number(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

static void print_bytes(const json_t *bytes, const char *title, const char *ring, const char *tcp)
{
	double by_ring = (double)number(bytes, ring), all = by_ring + (double)number(bytes, tcp);

	printf("%-12s %20lld %20lld", title, number(bytes, ring), number(bytes, tcp));
	if (all > 0)
		printf(" %10.2f %%\n", 100 * by_ring / all);
	else
		printf(" %12s\n", "-");
}

/* "a 1, b 2" of the members of an object that are numbers. */
static void print_numbers(const char *title, json_t *object)
{
	const char *key, *separator = "";
	json_t *value;

	printf("%-12s ", title);
	json_object_foreach(object, key, value) {
		if (!json_is_integer(value))
			continue;
		fputs(separator, stdout);
		xshim_tool_print_clean(stdout, key);
		printf(" %lld", (long long)json_integer_value(value));
		separator = ", ";
	}
	puts(*separator ? "" : "none");
}

static void print_reasons(json_t *reasons)
{
	const char *name;
	json_t *value;
	int number_of;

	printf("\n%-16s %12s %12s  %s\n", "REASON", "OPEN", "ENDED", "MEANING");
	json_object_foreach(reasons, name, value) {
		number_of = xshim_reason_from_name(name);
		xshim_tool_print_clean(stdout, name);
		printf("%*s %12lld %12lld  %s\n", (int)(strlen(name) < 16 ? 16 - strlen(name) : 0), "",
		       number(value, "open"), number(value, "ended"),
		       number_of < 0 ? "not known to this version" : xshim_reason_text((uint32_t)number_of));
	}
}

static void print_people(json_t *report)
{
	json_t *conns = json_object_get(report, "connections"), *bytes = json_object_get(report, "bytes");
	json_t *daemon = json_object_get(report, "daemon");
	const char *instance = json_string_value(json_object_get(report, "instance"));

	fputs("xshimd ", stdout);
	xshim_tool_print_clean(stdout, instance ? instance : "?");
	printf(", up %lld s, %lld clients\n\n", number(report, "uptime_s"), number(report, "clients"));
	printf("%-12s %20s %20s %12s\n", "BYTES", "RING", "TCP", "RING-SHARE");
	print_bytes(bytes, "sent", "ring_tx", "tcp_tx");
	print_bytes(bytes, "received", "ring_rx", "tcp_rx");
	putchar('\n');
	print_numbers("connections", conns);
	print_numbers("counters", json_object_get(report, "counters"));
	print_numbers("daemon", daemon);
	print_numbers("declined", json_object_get(daemon, "declined"));
	if (json_object_get(report, "xen")) {
		const char *role = json_string_value(json_object_get(report, "role"));

		print_numbers("xen", json_object_get(report, "xen"));
		printf("%-12s ", "role");
		xshim_tool_print_clean(stdout, role ? role : "?");
		putchar('\n');
	}
	print_reasons(json_object_get(report, "reasons"));
}

int xshim_stat_main(int argc, char **argv)
{
	static const struct argp argp = { .options = options, .parser = parse,
		.doc = "Totals of all connections of preloaded programs, and a count for each reason." };
	struct stat_args args = { 0 };
	json_t *report;

	if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
		return XSHIM_EXIT_USAGE;
	if (xshim_client_fetch(xshim_tool_socket(args.socket), XSHIM_REPORT_TOTALS, &report) < 0)
		return XSHIM_EXIT_FAIL;
	if (args.json) {
		json_dumpf(report, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_people(report);
	}
	json_decref(report);
	return xshim_tool_finish(XSHIM_EXIT_OK);
}
