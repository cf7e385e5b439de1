/* SPDX-License-Identifier: MIT */
/* behave_thread.c - threads that use one connection together. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "behave.h"

#define REPLY 3000

enum how { BY_RECV, BY_POLL, BY_SELECT };

struct reader {
	pthread_t thread;
	int fd;
	enum how how;
};

static void *read_reply(void *arg)
{
	struct reader *r = arg;
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	fd_set set;

	if (r->how == BY_POLL && poll(&p, 1, -1) != 1)
		die("poll");
	FD_ZERO(&set);
	FD_SET(r->fd, &set);
	if (r->how == BY_SELECT && select(r->fd + 1, &set, NULL, NULL, NULL) != 1)
		die("select");
	recv_exactly(r->fd, REPLY);
	return NULL;
}

/*
 * A thread sleeps in a receive from the first moment on, while another sends: the connection is introduced
 * all the same, and the sleeper gets what comes after that.
 */
static void sleeping_reader(struct scene *s, enum how how)
{
	struct reader r = { .how = how };

	r.fd = young_connection(s);
	if (s->is_server) {
		introduce(s, r.fd);
		barrier(s);
		send_exactly(r.fd, REPLY);
	} else {
		if (pthread_create(&r.thread, NULL, read_reply, &r))
			die("pthread_create");
		introduce(s, r.fd);
		barrier(s);
		if (pthread_join(r.thread, NULL))
			die("pthread_join");
		say("%d bytes were right", REPLY);
	}
	barrier(s);
}

static void reader_in_recv(struct scene *s) { sleeping_reader(s, BY_RECV); }
static void reader_in_poll(struct scene *s) { sleeping_reader(s, BY_POLL); }
static void reader_in_select(struct scene *s) { sleeping_reader(s, BY_SELECT); }

const struct scene_case scenes_thread[] = {
	{ "reader_in_recv", reader_in_recv },
	{ "reader_in_poll", reader_in_poll },
	{ "reader_in_select", reader_in_select },
	{ NULL, NULL },
};
