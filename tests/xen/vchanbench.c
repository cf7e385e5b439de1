/* SPDX-License-Identifier: MIT */
/*
 * vchanbench.c - what sockbench measures, over libxenvchan: the yardstick between two guests.
 *
 *   vchanbench server rr|stream SIZE PEER-DOMID PORT
 *   vchanbench client rr|stream SIZE PEER-DOMID PORT SECONDS
 *
 * Both rings have 128 KiB, half of what xshim's have if nobody says otherwise. PORT only tells one run from another: the server's end
 * is at data/vchan/PORT in xenstore. Blocking calls, which sleep when there is nothing to do. The client prints one JSON object like
 * sockbench's.
 */
#include <errno.h>
#include <libxenvchan.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RING 131072
#define WARM_UP_S 0.1
#define MAX_SAMPLES 4000000

static struct libxenvchan *vc;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "vchanbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void send_all(const char *buf, size_t len)
{
	while (len) {
		int n = libxenvchan_write(vc, buf, len);

		if (n <= 0)
			die("libxenvchan_write");
		buf += n;
		len -= (size_t)n;
	}
}

/* False: the end came first. */
static int recv_all(char *buf, size_t len)
{
	while (len) {
		int n = libxenvchan_read(vc, buf, len);

		if (n <= 0)
			return 0;
		buf += n;
		len -= (size_t)n;
	}
	return 1;
}

static void open_end(int is_server, int domid, const char *port)
{
	char path[128];
	int tries;

	if (is_server) {
		snprintf(path, sizeof(path), "data/vchan/%s", port);
		vc = libxenvchan_server_init(NULL, domid, path, RING, RING);
	} else {
		snprintf(path, sizeof(path), "/local/domain/%d/data/vchan/%s", domid, port);
		/* until the server is there; it ends by the time limit of whoever runs this */
		for (tries = 0; !vc && tries < 3000; tries++) {
			vc = libxenvchan_client_init(NULL, domid, path);
			if (!vc)
				usleep(10000);
		}
	}
	if (!vc)
		die(path);
	vc->blocking = 1;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static void run_rr(char *buf, size_t size, double seconds)
{
	float *us = malloc(MAX_SAMPLES * sizeof(*us));
	double start = now_s(), end, t0, t1;
	size_t n = 0;

	if (!us)
		die("malloc");
	for (t1 = start; t1 < start + WARM_UP_S; t1 = now_s()) {
		send_all(buf, size);
		recv_all(buf, size);
	}
	start = t1 = now_s();
	end = start + seconds;
	while (t1 < end && n < MAX_SAMPLES) {
		t0 = t1;
		send_all(buf, size);
		if (!recv_all(buf, size))
			die("the server has closed");
		t1 = now_s();
		us[n++] = (float)((t1 - t0) * 1e6);
	}
	qsort(us, n, sizeof(*us), compare);
	printf("{\"p50_us\": %.3f, \"p99_us\": %.3f, \"per_s\": %.1f}\n", (double)us[n / 2],
	       (double)us[n - 1 - n / 100], (double)n / (t1 - start));
	free(us);
}

/* Each message says in its first byte whether it is the last; the server answers that one with its count. */
static void run_stream(char *buf, size_t size, double seconds)
{
	double start = now_s(), end = start + seconds;
	uint64_t sum = 0, seen = 0;
	int i;

	buf[0] = 'm';
	while (now_s() < end) {
		for (i = 0; i < 16; i++) {
			send_all(buf, size);
			sum += size;
		}
	}
	buf[0] = 'q';
	send_all(buf, size);
	sum += size;
	if (!recv_all((char *)&seen, sizeof(seen)) || seen != sum)
		die("the server has not counted what was sent");
	printf("{\"bytes_per_s\": %.1f}\n", (double)sum / (now_s() - start));
}

static void serve_stream(char *buf, size_t size)
{
	size_t at = 0;
	uint64_t sum = 0;
	int last = 0;

	while (!last || at) {
		int n = libxenvchan_read(vc, buf, size - at);

		if (n <= 0)
			die("libxenvchan_read");
		if (!at)
			last = buf[0] == 'q';
		at += (size_t)n;
		at %= size;
		sum += (uint64_t)n;
	}
	send_all((const char *)&sum, sizeof(sum));
}

int main(int argc, char **argv)
{
	int is_server = argc > 1 && !strcmp(argv[1], "server"), rr = argc > 2 && !strcmp(argv[2], "rr");
	size_t size;
	char *buf;

	if (argc != (is_server ? 6 : 7)) {
		fprintf(stderr, "usage: vchanbench server rr|stream SIZE PEER-DOMID PORT\n"
			"       vchanbench client rr|stream SIZE PEER-DOMID PORT SECONDS\n");
		return 2;
	}
	size = strtoul(argv[3], NULL, 0);
	buf = calloc(1, size + 1);
	if (!buf)
		die("calloc");
	open_end(is_server, atoi(argv[4]), argv[5]);
	if (is_server && rr) {
		while (recv_all(buf, size))
			send_all(buf, size);
	} else if (is_server) {
		serve_stream(buf, size);
		/* the client is to have read it before the pages go */
		while (libxenvchan_is_open(vc) == 1)
			libxenvchan_wait(vc);
	} else if (rr) {
		run_rr(buf, size, atof(argv[6]));
	} else {
		run_stream(buf, size, atof(argv[6]));
	}
	libxenvchan_close(vc);
	return 0;
}
