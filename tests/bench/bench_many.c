/* SPDX-License-Identifier: MIT */
/*
 * bench_many.c - many connections: one after the other, at once with a request under way on each, and idle.
 */
#include "sockbench.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WARM_UP_ROUNDS 20	/* on each connection: more than it takes to be moved to a ring */
#define EVENTS 64

/* One after the other until a request begins with 'q'. */
void serve_crr(struct bench *b, int listener)
{
	bool last = false;

	while (!last) {
		int fd = bench_accept(listener);

		if (!bench_recv(fd, b->buf, b->size))
			bench_die("request");
		last = b->buf[0] == 'q';
		bench_send(fd, b->buf, b->size);
		close(fd);
	}
}

void run_crr(struct bench *b)
{
	double start = bench_now(), end = start + b->seconds;
	unsigned long n = 0;
	bool last = false;

	while (!last) {
		int fd = bench_connect(b);
		char c;

		last = bench_now() >= end;
		b->buf[0] = last ? 'q' : 'r';
		bench_send(fd, b->buf, b->size);
		if (!bench_recv(fd, b->buf, b->size) || recv(fd, &c, 1, 0) != 0)
			bench_die("response");
		close(fd);
		n++;
	}
	printf("{\"per_s\": %.1f}\n", (double)n / (bench_now() - start));
}

/* Echoes whatever comes on any connection until all have gone. */
void serve_many(struct bench *b, int listener)
{
	struct epoll_event ev[EVENTS], e = { .events = EPOLLIN };
	int ep = epoll_create1(0), i, n, open_now = 0;
	bool any = false;

	e.data.fd = listener;
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
	while (!any || open_now) {
		n = epoll_wait(ep, ev, EVENTS, -1);
		for (i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			ssize_t got;

			if (fd == listener) {
				e.data.fd = bench_accept(listener);
				if (epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e) < 0)
					bench_die("epoll_ctl");
				open_now++;
				any = true;
				continue;
			}
			got = recv(fd, b->buf, b->size, MSG_DONTWAIT);
			if (got > 0) {
				bench_send(fd, b->buf, (size_t)got);
			} else if (got == 0 || errno != EAGAIN) {
				close(fd);
				open_now--;
			}
		}
	}
}

struct one {
	int fd;
	size_t got;		/* of the present response */
	unsigned int rounds;
};

/* What has come on one connection; when the response is whole, the next request. True: it was whole. */
static bool answer(struct bench *b, struct one *o)
{
	ssize_t n = recv(o->fd, b->buf, b->size - o->got, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		bench_die("recv");
	if (n < 0)
		return false;
	o->got += (size_t)n;
	if (o->got < b->size)
		return false;
	o->got = 0;
	o->rounds++;
	bench_send(o->fd, b->buf, b->size);
	return true;
}

void run_many(struct bench *b)
{
	struct one *all = calloc(b->connections, sizeof(*all));
	struct epoll_event ev[EVENTS], e = { .events = EPOLLIN };
	int ep = epoll_create1(0), n, i;
	unsigned int c, warm = 0;
	double start = 0, t;
	uint64_t done = 0;

	if (!all || ep < 0)
		bench_die("run_many");
	for (c = 0; c < b->connections; c++) {
		all[c].fd = bench_connect(b);
		e.data.u32 = c;
		if (epoll_ctl(ep, EPOLL_CTL_ADD, all[c].fd, &e) < 0)
			bench_die("epoll_ctl");
		bench_send(all[c].fd, b->buf, b->size);
	}
	for (;;) {
		n = epoll_wait(ep, ev, EVENTS, -1);
		for (i = 0; i < n; i++) {
			struct one *o = &all[ev[i].data.u32];

			if (!answer(b, o))
				continue;
			done++;
			warm += o->rounds == WARM_UP_ROUNDS;
		}
		t = bench_now();
		if (!start && warm >= b->connections) {
			start = t;
			done = 0;
		}
		if (start && t >= start + b->seconds)
			break;
	}
	printf("{\"per_s\": %.1f}\n", (double)done / (t - start));
	/* the last responses, so that nobody's send is answered by a reset */
	for (c = 0; c < b->connections; c++)
		if (!bench_recv(all[c].fd, b->buf, b->size - all[c].got))
			bench_die("the last response");
	for (c = 0; c < b->connections; c++)
		close(all[c].fd);
	free(all);
}

void run_idle(struct bench *b)
{
	int *fds = calloc(b->connections, sizeof(*fds)), round;
	unsigned int i;
	double start = bench_now();

	if (!fds)
		bench_die("calloc");
	for (i = 0; i < b->connections; i++)
		fds[i] = bench_connect(b);
	for (round = 0; round < WARM_UP_ROUNDS; round++) {
		for (i = 0; i < b->connections; i++) {
			bench_send(fds[i], b->buf, b->size);
			if (!bench_recv(fds[i], b->buf, b->size)) {
				errno = ECONNRESET;
				bench_die("the server has closed");
			}
		}
	}
	printf("{\"setup_s\": %.3f}\nidle\n", bench_now() - start);
	fflush(stdout);
	poll(NULL, 0, (int)(b->seconds * 1000));
	for (i = 0; i < b->connections; i++)
		close(fds[i]);
	free(fds);
}
