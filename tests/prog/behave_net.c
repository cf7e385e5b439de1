/* SPDX-License-Identifier: MIT */
/*
 * behave_net.c - the network below a connection goes, or somebody with the right to do so ends it. What a ring carries needs no network,
 * but the connection is the kernel's: when that says that it is over, it is, behind what has come before.
 */
#include <arpa/inet.h>
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
#include <sys/syscall.h>
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

enum open_by { SENDTO, SENDMSG, SENDMMSG, BY_NUMBER, NONBLOCKING, BY_CONNECT, OPEN_WAYS };

/* A connection that a send has begun, 5 bytes of it with it; NONBLOCKING: perhaps only begun. */
static int opened(struct scene *s, enum open_by how)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(s->port)) };
	char buf[5];
	struct iovec v = { buf, sizeof(buf) };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &v, .msg_iovlen = 1, .msg_name = &to, .msg_namelen = sizeof(to) } };
	struct pollfd p;
	ssize_t n;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);	/* as it is, while other programs are run */

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)pattern(i);
	if (inet_pton(AF_INET, s->address, &to.sin_addr) != 1)
		die("inet_pton");
	switch (how) {
	case SENDTO:
		n = sendto(fd, buf, sizeof(buf), MSG_FASTOPEN, (struct sockaddr *)&to, sizeof(to));
		break;
	case SENDMSG:
		n = sendmsg(fd, &m.msg_hdr, MSG_FASTOPEN);
		break;
	case SENDMMSG:
		n = sendmmsg(fd, &m, 1, MSG_FASTOPEN) == 1 ? (ssize_t)m.msg_len : -1;
		break;
	case BY_NUMBER:
		n = syscall(SYS_sendto, fd, buf, sizeof(buf), MSG_FASTOPEN, &to, sizeof(to));
		break;
	case NONBLOCKING:
		fcntl(fd, F_SETFL, O_NONBLOCK);
		n = sendto(fd, buf, sizeof(buf), MSG_FASTOPEN, (struct sockaddr *)&to, sizeof(to));
		say("at once: %zd %s", n, n < 0 ? errno_name(errno) : "");
		p = (struct pollfd){ .fd = fd, .events = POLLOUT };
		if (poll(&p, 1, 10000) != 1)
			die("poll");
		if (n < 0)
			n = send(fd, buf, sizeof(buf), 0);
		fcntl(fd, F_SETFL, 0);
		break;
	default:
		set(fd, TCP_FASTOPEN_CONNECT, 1);
		say("connect: %d", connect(fd, (struct sockaddr *)&to, sizeof(to)));
		n = write(fd, buf, sizeof(buf));
	}
	say("way %d: %zd %s", (int)how, n, n < 0 ? errno_name(errno) : "");
	set(fd, TCP_NODELAY, 1);
	return fd;
}

static void open_by_sends(struct scene *s)
{
	int fd;

	for (enum open_by how = SENDTO; how < OPEN_WAYS; how++) {
		fd = s->is_server ? accept4(s->listener, NULL, NULL, SOCK_CLOEXEC) : opened(s, how);
		if (fd < 0)
			die("accept");
		if (s->is_server)
			recv_exactly(fd, 5);
		s->connections++;
		warm_up(s, fd);
		echo(s, fd, 100000);
		barrier(s);
	}
}

/* A send begins the connection (TCP Fast Open); by a kernel that does not put data into the first segment, and by one that does. */
static void fast_open(struct scene *s)
{
	fcntl(s->fd, F_SETFD, FD_CLOEXEC);
	say("data with the connection");
	open_by_sends(s);
	/* both directions, without a cookie, and for each listener */
	run("echo 1543 >/proc/sys/net/ipv4/tcp_fastopen");
	barrier(s);
	say("data in the first segment");
	open_by_sends(s);
	run("echo 1 >/proc/sys/net/ipv4/tcp_fastopen");
}

const struct scene_case scenes_net[] = {
	{ "fast_open", fast_open },
	{ "cut_off_for_a_moment", cut_off_for_a_moment },
	{ "cut_off_in_recv", cut_off_in_recv },
	{ "cut_off_in_epoll", cut_off_in_epoll },
	{ "destroyed", destroyed },
	{ NULL, NULL },
};
