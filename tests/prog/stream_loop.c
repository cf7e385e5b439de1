/* SPDX-License-Identifier: MIT */
/* stream_loop.c - the ways in which "stream" waits: threads, lock-step, poll, select, epoll. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

#include "stream.h"

#define BURST 8		/* calls on one connection before the next has its turn */

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool is_done(const struct conn *c)
{
	return c->tx_shut && c->rx_eof;
}

static void finish(struct conn *c)
{
	if (close(c->fd) < 0)
		conn_fail(c, "close", errno);
	c->fd = -1;
	conn_free(c);
}

static void *write_thread(void *arg)
{
	struct conn *c = arg;

	while (!c->tx_shut)
		conn_send_some(c);
	return NULL;
}

static void *read_thread(void *arg)
{
	struct conn *c = arg;

	while (!c->rx_eof)
		conn_recv_some(c);
	return NULL;
}

void run_threads(struct conn *conns, unsigned int n)
{
	pthread_t threads[2 * MAX_CONNS];
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (pthread_create(&threads[2 * i], NULL, write_thread, &conns[i]) ||
		    pthread_create(&threads[2 * i + 1], NULL, read_thread, &conns[i]))
			die("pthread_create");
	}
	for (i = 0; i < 2 * n; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < n; i++)
		finish(&conns[i]);
}

/*
 * The client sends a message, the server answers with one. Both ends draw the lengths from one
 * generator seeded alike, so each knows what the other will send.
 */
void run_lockstep(struct conn *c, bool is_server)
{
	struct rng sizes = { .state = c->seed ^ (c->index * 77777ull) };
	uint64_t left = c->bytes;
	int one = 1;

	/* or each second small message waits 40 ms for a delayed acknowledgement */
	if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		conn_fail(c, "setsockopt(TCP_NODELAY)", errno);
	while (left) {
		uint64_t n = rng_size(&sizes, c->max_message);

		if (n > left)
			n = left;
		if (is_server) {
			conn_recv_all(c, n);
			conn_send_all(c, n);
		} else {
			conn_send_all(c, n);
			conn_recv_all(c, n);
		}
		left -= n;
	}
	conn_send_some(c);	/* half close */
	while (!c->rx_eof)
		conn_recv_some(c);
	finish(c);
}

/* ---- event styles ---- */

struct loop {
	enum style style;
	struct conn *conns;
	unsigned int want, have, done;
	int listener;
	int epfd;
	bool readable[MAX_CONNS], writable[MAX_CONNS];
	/* The last wait said so: with TCP the next call then does not say EAGAIN. Programs rely on it. */
	bool said_in[MAX_CONNS], said_out[MAX_CONNS];
	uint32_t interest[MAX_CONNS];	/* what epoll was told */
};

static uint32_t interest_of(const struct loop *l, const struct conn *c)
{
	uint32_t ev = 0;

	if (l->style == STYLE_EPOLL_ET)
		return EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET;
	if (!c->rx_eof)
		ev |= EPOLLIN;
	if (!c->tx_shut)
		ev |= EPOLLOUT;
	return ev;
}

static void epoll_set(struct loop *l, unsigned int i, int op)
{
	struct epoll_event ev = { .events = interest_of(l, &l->conns[i]), .data.u64 = i };

	if (op == EPOLL_CTL_MOD && l->interest[i] == ev.events)
		return;
	if (epoll_ctl(l->epfd, op, l->conns[i].fd, &ev) < 0)
		die("epoll_ctl");
	l->interest[i] = ev.events;
}

static void accept_one(struct loop *l)
{
	unsigned int i = l->have;
	int fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		die("accept");
	server_greet(&l->conns[i], fd, true);
	watch_conns(l->conns, ++l->have);
	if (l->epfd >= 0)
		epoll_set(l, i, EPOLL_CTL_ADD);
}

static void serve(struct loop *l, unsigned int i)
{
	struct conn *c = &l->conns[i];
	int k;

	if (c->fd < 0)
		return;
	for (k = 0; k < BURST && l->readable[i] && !c->rx_eof; k++) {
		l->readable[i] = conn_recv_some(c);
		if (k == 0 && c->exact && l->said_in[i] && !l->readable[i])
			conn_fail(c, "said to be readable, and there is nothing to read", 0);
	}
	for (k = 0; k < BURST && l->writable[i] && !c->tx_shut; k++) {
		l->writable[i] = conn_send_some(c);
		if (k == 0 && c->exact && l->said_out[i] && !l->writable[i])
			conn_fail(c, "said to be writable, and there is no room", 0);
	}
	l->said_in[i] = l->said_out[i] = false;
	if (is_done(c)) {
		finish(c);
		l->done++;
	} else if (l->style == STYLE_EPOLL_LT) {
		epoll_set(l, i, EPOLL_CTL_MOD);
	}
}

static void wait_poll(struct loop *l)
{
	struct pollfd p[MAX_CONNS + 1];
	unsigned int who[MAX_CONNS], n = 0, i;
	bool listening = l->have < l->want;

	for (i = 0; i < l->have; i++) {
		if (l->conns[i].fd < 0)
			continue;
		p[n].fd = l->conns[i].fd;
		p[n].events = (short)((l->conns[i].rx_eof ? 0 : POLLIN) |
				      (l->conns[i].tx_shut ? 0 : POLLOUT));
		who[n++] = i;
	}
	p[n].fd = l->listener;
	p[n].events = POLLIN;
	if (poll(p, n + listening, -1) < 0 && errno != EINTR)
		die("poll");
	for (i = 0; i < n; i++) {
		if (p[i].revents & POLLNVAL)
			conn_fail(&l->conns[who[i]], "poll says POLLNVAL", 0);
		l->said_in[who[i]] = p[i].revents & POLLIN;
		l->said_out[who[i]] = p[i].revents & POLLOUT;
		l->readable[who[i]] = p[i].revents & (POLLIN | POLLHUP | POLLERR);
		l->writable[who[i]] = p[i].revents & (POLLOUT | POLLHUP | POLLERR);
	}
	if (listening && p[n].revents)
		accept_one(l);
}

static void wait_select(struct loop *l)
{
	fd_set in, out;
	int max = -1;
	unsigned int i, have = l->have;
	bool listening = l->have < l->want;

	FD_ZERO(&in);
	FD_ZERO(&out);
	for (i = 0; i < have; i++) {
		const struct conn *c = &l->conns[i];

		if (c->fd < 0)
			continue;
		if (!c->rx_eof)
			FD_SET(c->fd, &in);
		if (!c->tx_shut)
			FD_SET(c->fd, &out);
		if (c->fd > max)
			max = c->fd;
	}
	if (listening) {
		FD_SET(l->listener, &in);
		if (l->listener > max)
			max = l->listener;
	}
	if (select(max + 1, &in, &out, NULL, NULL) < 0)
		die("select");
	for (i = 0; i < have; i++) {
		if (l->conns[i].fd < 0)
			continue;
		l->said_in[i] = l->readable[i] = FD_ISSET(l->conns[i].fd, &in);
		l->said_out[i] = l->writable[i] = FD_ISSET(l->conns[i].fd, &out);
	}
	if (listening && FD_ISSET(l->listener, &in))
		accept_one(l);
}

/* Edge-triggered: something already known to be ready is served before anything is waited for. */
static bool work_is_known(const struct loop *l)
{
	unsigned int i;

	for (i = 0; i < l->have; i++) {
		const struct conn *c = &l->conns[i];

		if (c->fd >= 0 && ((l->readable[i] && !c->rx_eof) || (l->writable[i] && !c->tx_shut)))
			return true;
	}
	return false;
}

static void wait_epoll(struct loop *l)
{
	struct epoll_event ev[16];
	bool et = l->style == STYLE_EPOLL_ET;
	int n, i;

	n = epoll_wait(l->epfd, ev, 16, et && work_is_known(l) ? 0 : -1);
	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	if (!et) {
		memset(l->readable, 0, sizeof(l->readable));
		memset(l->writable, 0, sizeof(l->writable));
	}
	for (i = 0; i < n; i++) {
		uint64_t who = ev[i].data.u64;

		if (who == MAX_CONNS) {
			if (l->have < l->want)
				accept_one(l);
			if (l->have == l->want &&
			    epoll_ctl(l->epfd, EPOLL_CTL_DEL, l->listener, NULL) < 0)
				die("epoll_ctl(DEL)");
			continue;
		}
		if (who >= l->have || l->conns[who].fd < 0) {
			fprintf(stderr, "stream: epoll reports data %llu, which is no open connection\n",
				(unsigned long long)who);
			exit(1);
		}
		l->said_in[who] = ev[i].events & EPOLLIN;
		l->said_out[who] = ev[i].events & EPOLLOUT;
		if (ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			l->readable[who] = true;
		if (ev[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
			l->writable[who] = true;
	}
}

void run_events(enum style style, struct conn *conns, unsigned int n, int listener)
{
	struct loop *l = calloc(1, sizeof(*l));
	unsigned int i;

	if (!l)
		die("calloc");
	*l = (struct loop){ .style = style, .conns = conns, .want = n, .listener = listener, .epfd = -1 };
	l->have = listener >= 0 ? 0 : n;
	if (style == STYLE_EPOLL_LT || style == STYLE_EPOLL_ET) {
		l->epfd = epoll_create1(EPOLL_CLOEXEC);
		if (l->epfd < 0)
			die("epoll_create1");
		if (listener >= 0) {
			struct epoll_event ev = { .events = EPOLLIN, .data.u64 = MAX_CONNS };

			if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, listener, &ev) < 0)
				die("epoll_ctl(ADD)");
		}
		for (i = 0; i < l->have; i++)
			epoll_set(l, i, EPOLL_CTL_ADD);
	}
	while (l->done < n) {
		if (style == STYLE_POLL)
			wait_poll(l);
		else if (style == STYLE_SELECT)
			wait_select(l);
		else
			wait_epoll(l);
		for (i = 0; i < l->have; i++)
			serve(l, i);
	}
	if (l->epfd >= 0)
		close(l->epfd);
	free(l);
}
