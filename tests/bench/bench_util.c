/* SPDX-License-Identifier: MIT */
/* bench_util.c - errors, the clock, percentiles: for sockbench and ringbench. */
#include "bench_util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Noreturn void bench_die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

double bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

void bench_print_us(float *us, size_t n, double seconds)
{
	if (!n) {
		errno = ENODATA;
		bench_die("not one round trip in the time given");
	}
	qsort(us, n, sizeof(*us), compare);
	printf("{\"p50_us\": %.3f, \"p99_us\": %.3f, \"per_s\": %.1f}\n", (double)us[n / 2],
	       (double)us[n - 1 - n / 100], (double)n / seconds);
}
