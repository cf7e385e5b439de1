/* SPDX-License-Identifier: MIT */
/*
 * bench_rr.c - request and response on one connection: as fast as it goes, one each millisecond, the first
 * ones of a connection, and by epoll.
 */
#include "sockbench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define FIRST 256
#define PERIOD_NS 1000000
#define PACED_WARM_UP 50

void serve_rr(struct bench *b, int listener)
{
	int fd = bench_accept(listener);

	while (bench_recv(fd, b->buf, b->size))
		bench_send(fd, b->buf, b->size);
	close(fd);
}

static void round_trip(struct bench *b, int fd)
{
	bench_send(fd, b->buf, b->size);
	if (!bench_recv(fd, b->buf, b->size)) {
		errno = ECONNRESET;
		bench_die("the server has closed");
	}
}

static float *samples(void)
{
	float *us = malloc(MAX_SAMPLES * sizeof(*us));

	if (!us)
		bench_die("malloc");
	return us;
}

/* `trip` until the time is over, after a warm-up. */
static void measure(struct bench *b, int fd, void (*trip)(struct bench *b, int fd))
{
	float *us = samples();
	double start = bench_now(), end, t0, t1;
	size_t n = 0;

	for (t1 = start; t1 < start + WARM_UP_S; t1 = bench_now())
		trip(b, fd);
	start = t1 = bench_now();
	end = start + b->seconds;
	while (t1 < end && n < MAX_SAMPLES) {
		t0 = t1;
		trip(b, fd);
		t1 = bench_now();
		us[n++] = (float)((t1 - t0) * 1e6);
	}
	bench_print_us(us, n, t1 - start);
	free(us);
	close(fd);
}

void run_rr(struct bench *b)
{
	measure(b, bench_connect(b), round_trip);
}

void run_first(struct bench *b)
{
	double us[FIRST], t0;
	int fd = bench_connect(b), i;

	for (i = 0; i < FIRST; i++) {
		t0 = bench_now();
		round_trip(b, fd);
		us[i] = (bench_now() - t0) * 1e6;
	}
	printf("{\"us\": [");
	for (i = 0; i < FIRST; i++)
		printf("%s%.1f", i ? ", " : "", us[i]);
	printf("]}\n");
	close(fd);
}

/* Deadlines, not pauses: a slow answer does not shift the requests that follow. */
void run_paced(struct bench *b)
{
	int fd = bench_connect(b), i;
	float *us = samples();
	struct timespec due;
	double start = 0, t0, t1 = 0;
	size_t n = 0;

	clock_gettime(CLOCK_MONOTONIC, &due);
	for (i = 0; !start || t1 < start + b->seconds; i++) {
		due.tv_nsec += PERIOD_NS;
		if (due.tv_nsec >= 1000000000) {
			due.tv_nsec -= 1000000000;
			due.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
		t0 = bench_now();
		round_trip(b, fd);
		t1 = bench_now();
		if (i < PACED_WARM_UP)
			continue;
		if (!start)
			start = t0;
		us[n++] = (float)((t1 - t0) * 1e6);
	}
	bench_print_us(us, n, t1 - start);
	free(us);
	close(fd);
}

/* ---- by epoll ---- */

static int ep = -1;

static void watch(int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	bench_nonblock(fd);
	ep = epoll_create1(0);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
		bench_die("epoll_ctl");
}

/* One message, however many pieces it comes in. False: the end. */
static bool take(struct bench *b, int fd)
{
	struct epoll_event e;
	size_t got = 0;
	ssize_t n;

	while (got < b->size) {
		if (epoll_wait(ep, &e, 1, -1) < 0)
			bench_die("epoll_wait");
		n = recv(fd, b->buf + got, b->size - got, 0);
		if (n < 0 && errno != EAGAIN)
			bench_die("recv");
		if (n == 0)
			return false;
		if (n > 0)
			got += (size_t)n;
	}
	return true;
}

void serve_epoll(struct bench *b, int listener)
{
	int fd = bench_accept(listener);

	watch(fd);
	while (take(b, fd))
		bench_send(fd, b->buf, b->size);
	close(fd);
}

static void epoll_trip(struct bench *b, int fd)
{
	bench_send(fd, b->buf, b->size);
	if (!take(b, fd)) {
		errno = ECONNRESET;
		bench_die("the server has closed");
	}
}

void run_epoll(struct bench *b)
{
	int fd = bench_connect(b);

	watch(fd);
	measure(b, fd, epoll_trip);
}
