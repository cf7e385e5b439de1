/* SPDX-License-Identifier: MIT */
/*
 * bench_step.c - send and recv for stepcount: the shortest way through each, with nobody asleep.
 *
 * The server never sleeps, so that no send has to wake it; the client gives the answer time to come without
 * asking for it, so that recv finds it there.
 */
#include "bench_step.h"
#include "sockbench.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 200
#define ROUNDS 50

void serve_step(struct bench *b, int listener)
{
	int fd = bench_accept(listener);
	ssize_t n;

	while ((n = recv(fd, b->buf, b->size, MSG_DONTWAIT)) != 0) {
		if (n > 0)
			bench_send(fd, b->buf, (size_t)n);
		else if (errno != EAGAIN)
			bench_die("recv");
	}
	close(fd);
}

void run_step(struct bench *b)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	int fd = bench_connect(b), i;

	for (i = 0; i < WARM_UP; i++) {
		bench_send(fd, b->buf, b->size);
		if (!bench_recv(fd, b->buf, b->size))
			bench_die("the server has closed");
	}
	for (i = 0; i < ROUNDS; i++) {
		ssize_t sent, got;

		STEP_MARK(STEP_NOTHING);
		STEP_MARK(STEP_END);
		STEP_MARK(STEP_SEND);
		sent = send(fd, b->buf, b->size, 0);
		STEP_MARK(STEP_END);
		nanosleep(&pause, NULL);
		STEP_MARK(STEP_RECV);
		got = recv(fd, b->buf, b->size, 0);
		STEP_MARK(STEP_END);
		if (sent != (ssize_t)b->size || got != sent)
			bench_die("send and recv");
	}
	STEP_MARK(STEP_DONE);
	close(fd);
}
