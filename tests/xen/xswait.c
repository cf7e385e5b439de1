/* SPDX-License-Identifier: MIT */
/*
 * xswait.c - waits for xenstore without polling, which an emulated processor cannot afford.
 *
 *   xswait SECONDS PATH[=VALUE]...
 *
 * Until every PATH has a value (VALUE, if one is given), or lies in a domain that is gone. Status 0: so;
 * 1: not within SECONDS; 2: usage, or no xenstore.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xenstore.h>

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* "No such node" and not "may not": a guest cannot read the directories of the others. */
static bool domain_is_gone(struct xs_handle *xs, const char *path)
{
	char dir[64];
	unsigned int id, len;
	char *value;

	if (sscanf(path, "/local/domain/%u/", &id) != 1)
		return false;
	snprintf(dir, sizeof(dir), "/local/domain/%u", id);
	value = xs_read(xs, XBT_NULL, dir, &len);
	if (!value)
		return errno == ENOENT;
	free(value);
	return false;
}

static bool is_satisfied(struct xs_handle *xs, const char *path, const char *want)
{
	unsigned int len;
	char *value = xs_read(xs, XBT_NULL, path, &len);
	bool ok = value && (want ? strcmp(value, want) == 0 : len > 0);

	free(value);
	return ok || domain_is_gone(xs, path);
}

int main(int argc, char **argv)
{
	double deadline = argc > 1 ? now_s() + atof(argv[1]) : 0;
	struct xs_handle *xs = xs_open(0);
	char **want;
	int i;

	if (argc < 3 || !xs || !(want = calloc((size_t)argc, sizeof(*want)))) {
		fprintf(stderr, "xswait SECONDS PATH[=VALUE]...%s\n", xs ? "" : ": xenstore cannot be reached");
		return 2;
	}
	for (i = 2; i < argc; i++) {
		want[i] = strchr(argv[i], '=');
		if (want[i])
			*want[i]++ = '\0';
		if (!xs_watch(xs, argv[i], "w")) {
			perror(argv[i]);
			return 2;
		}
	}
	for (;;) {
		struct pollfd event = { xs_fileno(xs), POLLIN, 0 };
		double left = deadline - now_s();
		int first = 2;

		while (first < argc && is_satisfied(xs, argv[first], want[first]))
			first++;
		if (first == argc)
			return 0;
		if (left <= 0)
			return 1;
		/* the end of a domain need not touch the watched node: look again every 2 s */
		if (poll(&event, 1, left > 2 ? 2000 : (int)(left * 1000) + 1) > 0)
			free(xs_check_watch(xs));
	}
}
