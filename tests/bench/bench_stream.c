/* SPDX-License-Identifier: MIT */
/* bench_stream.c - one way, as fast as it goes. */
#include "sockbench.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

void serve_stream(struct bench *b, int listener)
{
	int fd = bench_accept(listener);
	uint64_t sum = 0;
	ssize_t n;

	while ((n = recv(fd, b->buf, b->size, 0)) > 0)
		sum += (uint64_t)n;
	if (n < 0)
		bench_die("recv");
	bench_send(fd, (const char *)&sum, sizeof(sum));
	close(fd);
}

void run_stream(struct bench *b)
{
	int fd = bench_connect(b), i;
	uint64_t sum = 0, seen = 0;
	double start = bench_now(), end = start + b->seconds;

	while (bench_now() < end) {
		for (i = 0; i < 16; i++) {
			bench_send(fd, b->buf, b->size);
			sum += b->size;
		}
	}
	shutdown(fd, SHUT_WR);
	if (!bench_recv(fd, (char *)&seen, sizeof(seen)) || seen != sum) {
		errno = EPROTO;
		bench_die("the server has not counted what was sent");
	}
	printf("{\"bytes_per_s\": %.1f}\n", (double)sum / (bench_now() - start));
	close(fd);
}
