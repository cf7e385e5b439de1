/* SPDX-License-Identifier: MIT */
/*
 * behave_net.c - the network below a connection goes, or somebody with the right to do so ends it. What a ring carries needs no network,
 * but the connection is the kernel's: when that says that it is over, it is, behind what has come before.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "behave.h"

/* Without what is preloaded here: neither the library nor a sanitizer is for the tools. */
static void run(const char *command)
{
	char line[120];

	snprintf(line, sizeof(line), "unset LD_PRELOAD; %s", command);
	if (system(line))
		die(command);
}

static void set(int fd, int option, int value)
{
	if (setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value)) < 0)
		die("setsockopt");
}

/* One probe a second, two in all. */
static void keep_alive(int fd)
{
	const int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) < 0)
		die("SO_KEEPALIVE");
	set(fd, TCP_KEEPIDLE, 1);
	set(fd, TCP_KEEPINTVL, 1);
	set(fd, TCP_KEEPCNT, 2);
}

/* Nothing that the other end has not acknowledged, or the kernel would send that again, and not probe. */
static void settle(struct scene *s)
{
	struct tcp_info ti;
	socklen_t len;

	do {
		len = sizeof(ti);
		if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &ti, &len) < 0)
			die("TCP_INFO");
		usleep(1000);
	} while (ti.tcpi_unacked);
	barrier(s);
}

/* Both say the same of it in the end. */
static void is_gone(struct scene *s)
{
	say_poll("gone", s->fd, POLLHUP);
	say_recv_all("gone", s->fd);
	say_send("gone", s->fd, 10);
	say_so_error("gone", s->fd);
}

/* The client has something unread, sleeps for more than there is in a set or a receive, and hears of nothing until the probes have run out. */
static void cut_off(struct scene *s, bool in_recv)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP };
	int set_of = epoll_create1(EPOLL_CLOEXEC), n;
	char buf[2000];

	fcntl(s->fd, F_SETFD, FD_CLOEXEC);	/* nobody inherits it */
	keep_alive(s->fd);
	barrier(s);
	if (s->is_server)
		send_exactly(s->fd, 1000);
	else
		recv_part(s->fd, 0, 400);
	settle(s);
	if (s->is_server) {
		barrier(s);
		n = (int)recv(s->fd, buf, sizeof(buf), 0);
		say("recv: %d %s", n, n < 0 ? errno_name(errno) : "");
		is_gone(s);
	} else {
		run("ip link set v0 down");
		barrier(s);
		if (in_recv) {
			n = (int)recv(s->fd, buf, sizeof(buf), MSG_WAITALL);
			say("recv: %d", n);
		} else {
			recv_part(s->fd, 400, 600);
			if (epoll_ctl(set_of, EPOLL_CTL_ADD, s->fd, &ev) < 0)
				die("epoll_ctl");
			n = epoll_wait(set_of, &ev, 1, 20000);
			say("epoll_wait: %d, error %d", n, !!(ev.events & EPOLLERR));
		}
		is_gone(s);
	}
	barrier(s);
	if (!s->is_server)
		run("ip link set v0 up");
	barrier(s);
}

static void cut_off_in_recv(struct scene *s) { cut_off(s, true); }
static void cut_off_in_epoll(struct scene *s) { cut_off(s, false); }

/* The network is away for a moment, and nobody who does nothing meanwhile hears of that. */
static void cut_off_for_a_moment(struct scene *s)
{
	fcntl(s->fd, F_SETFD, FD_CLOEXEC);
	echo(s, s->fd, 10000);
	barrier(s);
	if (!s->is_server) {
		run("ip link set v0 down");
		run("ip link set v0 up");
	}
	barrier(s);
	echo(s, s->fd, 100000);
	barrier(s);
}

/* By its administrator (ss -K), with something unread on both sides. */
static void destroyed(struct scene *s)
{
	char command[80];

	fcntl(s->fd, F_SETFD, FD_CLOEXEC);
	send_exactly(s->fd, 1000);
	barrier(s);
	if (!s->is_server) {
		recv_part(s->fd, 0, 1);
		snprintf(command, sizeof(command), "ss -K dport = %s >/dev/null", s->port);
		run(command);
	}
	barrier(s);
	is_gone(s);
	barrier(s);
}

const struct scene_case scenes_net[] = {
	{ "cut_off_for_a_moment", cut_off_for_a_moment },
	{ "cut_off_in_recv", cut_off_in_recv },
	{ "cut_off_in_epoll", cut_off_in_epoll },
	{ "destroyed", destroyed },
	{ NULL, NULL },
};
