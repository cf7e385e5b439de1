/* SPDX-License-Identifier: MIT */
/*
 * fdcost.c - what a read or write of 64 bytes costs that has nothing to do with sockets.
 *
 *   fdcost SECONDS DIRECTORY
 *
 * Prints {"pipe_ns": N, "file_ns": N}: a call, the mean of read and write. Taken from batches of calls, of
 * which a tenth was faster: those that nothing came between. DIRECTORY is where the file is, without a name.
 */
#include "bench_util.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE 64
#define BATCH 500
#define FILE_BYTES (1 << 20)
#define BATCHES 100000

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double per_call(int out, int in, double seconds, bool rewinds)
{
	double *ns = calloc(BATCHES, sizeof(*ns)), start = bench_now(), t0, t1 = start, found;
	char buf[SIZE] = { 0 };
	size_t n, done = 0;
	int i;

	if (!ns)
		bench_die("calloc");
	for (n = 0; n < BATCHES && t1 < start + seconds; n++) {
		if (rewinds && done > FILE_BYTES) {
			lseek(out, 0, SEEK_SET);
			lseek(in, 0, SEEK_SET);
			done = 0;
		}
		t0 = bench_now();
		for (i = 0; i < BATCH; i++)
			if (write(out, buf, SIZE) != SIZE || read(in, buf, SIZE) != SIZE)
				bench_die("write and read");
		t1 = bench_now();
		ns[n] = (t1 - t0) * 1e9 / (2 * BATCH);
		done += SIZE * BATCH;
	}
	qsort(ns, n, sizeof(*ns), compare);
	found = ns[n / 10];
	free(ns);
	return found;
}

int main(int argc, char **argv)
{
	double pipe_ns, seconds;
	char path[4096];
	int p[2], out, in;

	if (argc != 3) {
		fprintf(stderr, "usage: fdcost SECONDS DIRECTORY\n");
		return 2;
	}
	seconds = atof(argv[1]) / 2;
	snprintf(path, sizeof(path), "%s/fdcost.XXXXXX", argv[2]);
	out = mkstemp(path);
	in = open(path, O_RDONLY);
	if (pipe(p) < 0 || out < 0 || in < 0)
		bench_die(path);
	unlink(path);
	pipe_ns = per_call(p[1], p[0], seconds, false);
	printf("{\"pipe_ns\": %.1f, \"file_ns\": %.1f}\n", pipe_ns, per_call(out, in, seconds, true));
	return 0;
}
