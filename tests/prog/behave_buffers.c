/* SPDX-License-Identifier: MIT */
/* behave_buffers.c - SO_SNDBUF and SO_RCVBUF: how much may be under way before its reader reads. */
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "behave.h"

#define MOST 600000
#define QUIET 60	/* naps of 10 ms: more than a full ring takes to go on over TCP, and than TCP's probes of a window */

/* As much as is taken, until nothing is for some time. */
static size_t flood(int fd)
{
	uint8_t buf[4096];
	size_t done = 0;
	ssize_t rc;

	for (int quiet = 0; quiet < QUIET && done < MOST;) {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(done + i);
		rc = send(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (rc > 0) {
			done += (size_t)rc;
			quiet = 0;
		} else {
			nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
			quiet++;
		}
	}
	return done;
}

static void receive_to_the_end(int fd)
{
	uint8_t buf[4096];
	size_t done = 0;
	ssize_t rc;

	while ((rc = recv(fd, buf, sizeof(buf), 0)) > 0) {
		for (ssize_t i = 0; i < rc; i++, done++) {
			if (buf[i] == pattern(done))
				continue;
			say("byte %zu is wrong", done);
			return;
		}
	}
	say("all came, then %zd", rc);
}

/* name: SO_RCVBUF of the reader, or SO_SNDBUF of the sender. By the order of magnitude it is what the sizes say. */
static void bounded(struct scene *s, int name)
{
	int fd = young_connection(s), small = 4096;

	if (s->is_server == (name == SO_RCVBUF) && setsockopt(fd, SOL_SOCKET, name, &small, sizeof(small)) < 0)
		die("setsockopt");
	introduce(s, fd);
	barrier(s);
	if (!s->is_server) {
		say("under way: %s", flood(fd) < MOST ? "little" : "much");
		shutdown(fd, SHUT_WR);
	}
	barrier(s);
	if (s->is_server)
		receive_to_the_end(fd);
	barrier(s);
	close(fd);
}

static void reader_bounds(struct scene *s) { bounded(s, SO_RCVBUF); }
static void sender_bounds(struct scene *s) { bounded(s, SO_SNDBUF); }

const struct scene_case scenes_buffers[] = {
	{ "reader_bounds", reader_bounds },
	{ "sender_bounds", sender_bounds },
	{ NULL, NULL },
};
