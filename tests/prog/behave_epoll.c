/* SPDX-License-Identifier: MIT */
/* behave_epoll.c - epoll sets as wholes: who is told of first, under which number a set goes. */
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "behave.h"

#define TURNS 40

static void enter(int ep, int fd, uint64_t who)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = who };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

/* With room for one event, nobody who stays ready is passed over for ever. */
static void takes_turns(struct scene *s)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), other = eventfd(1, 0), told[2] = { 0 }, i;
	struct epoll_event ev;

	if (!s->is_server) {
		send_exactly(s->fd, 1);
		barrier(s);
		barrier(s);
		return;
	}
	enter(ep, s->fd, 0);
	enter(ep, other, 1);
	barrier(s);
	while (epoll_wait(ep, &ev, 1, 10000) == 1 && ev.data.u64 != 0)
		;	/* until the byte has come */
	for (i = 0; i < TURNS; i++) {
		if (epoll_wait(ep, &ev, 1, 0) != 1)
			die("epoll_wait");
		told[ev.data.u64]++;
	}
	say("the connection and the eventfd have their turns: %s", told[0] >= 5 && told[1] >= 5 ? "yes" : "no");
	recv_exactly(s->fd, 1);
	barrier(s);
	close(other);
	close(ep);
}

/* The number under which the set was made is closed, and means something else then. */
static void renumbered(struct scene *s)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), kept, fds[3], i;
	struct epoll_event ev;

	kept = dup(ep);
	close(ep);
	if (eventfd(0, 0) != ep)
		die("the number is not the lowest one");
	for (i = 0; i < 3; i++) {
		fds[i] = another_connection(s);
		if (s->is_server) {
			enter(kept, fds[i], (uint64_t)i);
			barrier(s);
			say("connection %d: %d events", i, epoll_wait(kept, &ev, 1, 10000));
			recv_exactly(fds[i], 1000);
			say("connection %d: then %d", i, epoll_wait(kept, &ev, 1, 0));
		} else {
			barrier(s);
			send_exactly(fds[i], 1000);
		}
		barrier(s);
	}
	for (i = 0; i < 3; i++)
		close(fds[i]);
	close(ep);
	close(kept);
}

const struct scene_case scenes_epoll[] = {
	{ "takes_turns", takes_turns },
	{ "renumbered", renumbered },
	{ NULL, NULL },
};
