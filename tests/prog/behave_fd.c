/* SPDX-License-Identifier: MIT */
/* behave_fd.c - descriptor numbers, dup, and programs that close everything. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "behave.h"

static void say_numbers(const char *when, struct scene *s)
{
	int fds[12], p[2], i, n = 0;

	fds[n++] = open("/dev/null", O_RDONLY);
	fds[n++] = socket(AF_INET, SOCK_STREAM, 0);
	fds[n++] = dup(s->fd);
	if (pipe(p) < 0)
		die("pipe");
	fds[n++] = p[0];
	fds[n++] = p[1];
	fds[n++] = epoll_create1(0);
	fds[n++] = eventfd(0, 0);
	fds[n++] = fcntl(s->fd, F_DUPFD, 20);
	fds[n++] = fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) < 0)
		die("socketpair");
	fds[n++] = p[0];
	fds[n++] = p[1];
	for (i = 0; i < n; i++)
		say("%s: number %d", when, fds[i]);
	for (i = n - 1; i >= 0; i--)
		close(fds[i]);
}

static void fd_numbers(struct scene *s)
{
	int more[3], i;

	say("connection: %d, step socket: %d", s->fd, s->step);
	say_numbers("one connection", s);
	for (i = 0; i < 3; i++)
		more[i] = another_connection(s);
	say("more connections: %d %d %d", more[0], more[1], more[2]);
	say_numbers("four connections", s);
	close(more[1]);
	say("in the gap: %d", open("/dev/null", O_RDONLY));
	close(more[1]);
	say_numbers("three connections", s);
	barrier(s);
}

static void duplicates(struct scene *s)
{
	int copy = dup(s->fd), third, rc;

	if (copy < 0 || close(s->fd) < 0)
		die("dup");
	echo(s, copy, 100000);
	third = dup2(copy, 50);
	echo(s, third, 100000);
	close(copy);
	copy = dup3(third, s->fd, O_CLOEXEC);
	echo(s, copy, 100000);
	say("copies: %d %d, FD_CLOEXEC %d", copy, third, fcntl(copy, F_GETFD));
	barrier(s);
	if (s->is_server) {
		close(copy);
		say_poll("one copy is left", third, 0);
		close(third);
		rc = close(third);
		say("close again: %d %s", rc, errno_name(errno));
		barrier(s);
	} else {
		barrier(s);
		say_poll("all copies are closed", copy, POLLRDHUP);
		say_recv_all("all copies are closed", copy);
	}
	barrier(s);
}

/* dup2 onto the connection closes it */
static void dup_over(struct scene *s)
{
	int null = open("/dev/null", O_RDWR);

	echo(s, s->fd, 10000);
	barrier(s);
	if (s->is_server) {
		say("dup2: %s", dup2(null, s->fd) == s->fd ? "same number" : "other number");
		say("write to /dev/null: %zd", write(s->fd, "x", 1));
		barrier(s);
	} else {
		barrier(s);
		say_poll("the other is gone", s->fd, POLLRDHUP);
		say_recv_all("the other is gone", s->fd);
	}
	barrier(s);
}

static void close_by_loop(void)
{
	int fd;

	for (fd = 3; fd < 1024; fd++)
		close(fd);
}

static void close_by_range(void)
{
	if (close_range(3, ~0u, 0) < 0)
		die("close_range");
}

static void close_by_closefrom(void)
{
	closefrom(3);
}

/* The client closes everything it does not know, and goes on with a new connection. */
static void close_all(struct scene *s)
{
	static void (*const ways[])(void) = { close_by_loop, close_by_range, close_by_closefrom };
	unsigned int i;
	int fd = s->fd;

	for (i = 0; i < 3; i++) {
		echo(s, fd, 50000);
		if (s->is_server) {
			say_recv_all("the other has closed everything", fd);
			close(fd);
		} else {
			ways[i]();
		}
		s->connections = 0;
		fd = another_connection(s);
		if (!s->is_server)
			say("connection after closing everything: %d", fd);
		echo(s, fd, 50000);
		say_numbers("after closing everything", &(struct scene){ .fd = fd });
	}
	echo(s, fd, 300000);
}

/* close_range(CLOEXEC) must leave everything usable. */
static void close_range_cloexec(struct scene *s)
{
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		die("close_range");
	echo(s, s->fd, 50000);
	say("FD_CLOEXEC: %d", fcntl(s->fd, F_GETFD));
	barrier(s);
}

/* xshimd, which is stopped, still has what it was sent: the set must not say anything of it all the same. */
static void closed_when_offered(struct scene *s)
{
	const char *pid = getenv("XSHIM_TEST_DAEMON");
	pid_t daemon = pid ? atoi(pid) : 0;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.u64 = 0 }, got;
	int ep = epoll_create1(EPOLL_CLOEXEC), i, fd, told = 0;

	for (i = 0; i < 50; i++) {
		fd = young_connection(s);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
			die("epoll_ctl");
		if (s->is_server) {
			recv_exactly(fd, 1);
			close(fd);
		} else {
			if (daemon && kill(daemon, SIGSTOP) < 0)
				die("stopping xshimd");
			send_exactly(fd, 1);
			close(fd);
			told += epoll_wait(ep, &got, 1, 0);
			if (daemon)
				kill(daemon, SIGCONT);
		}
		barrier(s);
	}
	say("told of %d connections that are closed", told);
	close(ep);
}

const struct scene_case scenes_fd[] = {
	{ "fd_numbers", fd_numbers },
	{ "duplicates", duplicates },
	{ "dup_over", dup_over },
	{ "close_all", close_all },
	{ "close_range_cloexec", close_range_cloexec },
	{ "closed_when_offered", closed_when_offered },
	{ NULL, NULL },
};
