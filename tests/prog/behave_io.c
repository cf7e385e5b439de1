/* SPDX-License-Identifier: MIT */
/* behave_io.c - flags, time limits, non-blocking calls, counts of what is queued, sendfile. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "behave.h"

static void say_result(const char *what, ssize_t n)
{
	say("%s: %zd %s", what, n, n < 0 ? errno_name(errno) : "");
}

static void set_time_limit(int fd, int which, long ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (setsockopt(fd, SOL_SOCKET, which, &tv, sizeof(tv)) < 0)
		die("setsockopt(SO_*TIMEO)");
}

static void say_in_time(const char *what, int64_t since, int64_t want)
{
	int64_t took = now_ms() - since;

	if (took >= want - 10 && took < want + 1000)
		say("%s: at its time", what);
	else
		say("%s: after %lld ms instead of %lld", what, (long long)took, (long long)want);
}

/* Wait until n bytes can be read, as FIONREAD tells it. */
static int wait_queued(int fd, int n)
{
	int64_t deadline = now_ms() + 5000;
	int got = 0;

	do {
		if (ioctl(fd, FIONREAD, &got) < 0)
			die("ioctl(FIONREAD)");
	} while (got < n && now_ms() < deadline);
	return got;
}

static void receive_timeout(struct scene *s)
{
	char c;
	int64_t t;

	if (s->is_server) {
		barrier(s);
		return;
	}
	set_time_limit(s->fd, SO_RCVTIMEO, 150);
	t = now_ms();
	say_result("recv", recv(s->fd, &c, 1, 0));
	say_in_time("recv", t, 150);
	t = now_ms();
	say_result("read", read(s->fd, &c, 1));
	say_in_time("read", t, 150);
	t = now_ms();
	say_result("recv(MSG_WAITALL)", recv(s->fd, &c, 1, MSG_WAITALL));
	say_in_time("recv(MSG_WAITALL)", t, 150);
	barrier(s);
}

/* A time limit in the middle of WAITALL: what has come is returned. */
static void waitall(struct scene *s)
{
	char buf[100];

	if (s->is_server) {
		send_exactly(s->fd, 10);
		barrier(s);
		barrier(s);
		send_exactly(s->fd, 60);
		barrier(s);
		send_exactly(s->fd, 40);
		shutdown(s->fd, SHUT_WR);
		barrier(s);
		return;
	}
	barrier(s);
	wait_queued(s->fd, 10);
	set_time_limit(s->fd, SO_RCVTIMEO, 150);
	say_result("WAITALL with a time limit", recv(s->fd, buf, 100, MSG_WAITALL));
	set_time_limit(s->fd, SO_RCVTIMEO, 0);
	barrier(s);
	say_result("WAITALL of 60", recv(s->fd, buf, 60, MSG_WAITALL));
	barrier(s);
	say_result("WAITALL cut by the end", recv(s->fd, buf, 100, MSG_WAITALL));
	say_result("then", recv(s->fd, buf, 100, MSG_WAITALL));
	barrier(s);
}

static void flags(struct scene *s)
{
	char buf[100], before[100];

	if (s->is_server) {
		barrier(s);
		send_exactly(s->fd, 50);
		barrier(s);
		barrier(s);
		return;
	}
	say_result("recv(DONTWAIT) of nothing", recv(s->fd, buf, 10, MSG_DONTWAIT));
	say_result("recv(PEEK|DONTWAIT) of nothing", recv(s->fd, buf, 10, MSG_PEEK | MSG_DONTWAIT));
	say_result("recv of length 0", recv(s->fd, buf, 0, MSG_DONTWAIT));
	say_result("send of length 0", send(s->fd, buf, 0, 0));
	barrier(s);
	barrier(s);
	wait_queued(s->fd, 50);
	say_result("recv(PEEK) of 20", recv(s->fd, buf, 20, MSG_PEEK));
	say("peeked: %s", (uint8_t)buf[19] == pattern(19) ? "right" : "wrong");
	say_result("recv(PEEK) of 100", recv(s->fd, buf, 100, MSG_PEEK));
	say("peeked: %s", (uint8_t)buf[49] == pattern(49) ? "right" : "wrong");
	say_result("recv of 20", recv(s->fd, buf, 20, 0));
	memset(buf, 'z', sizeof(buf));
	memcpy(before, buf, sizeof(buf));
	say_result("recv(TRUNC) of 10", recv(s->fd, buf, 10, MSG_TRUNC));
	say("buffer: %s", memcmp(buf, before, sizeof(buf)) ? "written" : "untouched");
	say_result("recv(TRUNC|PEEK) of 10", recv(s->fd, buf, 10, MSG_TRUNC | MSG_PEEK));
	say_result("recv of the rest", recv(s->fd, buf, 100, 0));
	say("first of the rest: %s", (uint8_t)buf[0] == pattern(30) ? "right" : "wrong");
	say_result("recv(OOB) of nothing", recv(s->fd, buf, 1, MSG_OOB));
	say_result("recv(DONTWAIT) of nothing", recv(s->fd, buf, 10, MSG_DONTWAIT));
	barrier(s);
}

static void set_nonblocking(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		die("fcntl");
}

/* Fill until EAGAIN, be told when there is room again. The amount is the implementation's affair. */
static void nonblocking(struct scene *s)
{
	static char buf[65536];
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };
	uint64_t sum = 0, total;
	ssize_t n;
	int rounds;

	if (s->is_server) {
		barrier(s);
		if (recv(s->step, &total, sizeof(total), MSG_WAITALL) != sizeof(total))
			die("step socket");
		for (sum = 0; sum < total; sum += (uint64_t)n) {
			n = recv(s->fd, buf, sizeof(buf), 0);
			if (n <= 0)
				die("recv");
		}
		say("all came: %s", sum == total ? "yes" : "no");
		barrier(s);
		barrier(s);
		return;
	}
	set_nonblocking(s->fd);
	say_result("recv of nothing", recv(s->fd, buf, 1, 0));
	/* until three tries in a row, a tenth of a second apart, find no room */
	for (rounds = 0; rounds < 3; rounds++) {
		while ((n = send(s->fd, buf, sizeof(buf), 0)) > 0) {
			sum += (uint64_t)n;
			rounds = 0;
		}
		if (errno != EAGAIN)
			die("send");
		poll(NULL, 0, 100);
	}
	say("full: send: %s", errno_name(errno));
	say("more than 100000 bytes fitted: %s", sum > 100000 ? "yes" : "no");
	say("POLLOUT when full: %d", poll(&p, 1, 0));
	barrier(s);
	if (write(s->step, &sum, sizeof(sum)) != sizeof(sum))
		die("step socket");
	say("POLLOUT when there is room: %d", poll(&p, 1, 10000));
	barrier(s);
	say_result("send", send(s->fd, buf, 1, 0));
	barrier(s);
}

static void send_timeout(struct scene *s)
{
	static char buf[1 << 20];
	ssize_t n;
	int64_t t;

	if (s->is_server) {
		barrier(s);
		return;
	}
	set_time_limit(s->fd, SO_SNDTIMEO, 200);
	do {
		t = now_ms();
		n = send(s->fd, buf, sizeof(buf), 0);
	} while (n > 0);
	say_result("send when all is full", n);
	say_in_time("send when all is full", t, 200);
	barrier(s);
}

static void queued(struct scene *s)
{
	int n = -1;
	int64_t deadline;

	if (s->is_server) {
		send_exactly(s->fd, 1234);
		barrier(s);
		barrier(s);
		deadline = now_ms() + 5000;
		do {
			if (ioctl(s->fd, TIOCOUTQ, &n) < 0)
				die("ioctl(TIOCOUTQ)");
		} while (n && now_ms() < deadline);
		say("TIOCOUTQ when all is read: %d", n);
		barrier(s);
		return;
	}
	barrier(s);
	say("FIONREAD: %d", wait_queued(s->fd, 1234));
	recv_exactly(s->fd, 234);
	say("FIONREAD after 234: %d", wait_queued(s->fd, 1000));
	say_poll("1000 unread", s->fd, POLLIN);
	recv(s->fd, (char[1000]){ 0 }, 1000, MSG_WAITALL);
	if (ioctl(s->fd, FIONREAD, &n) < 0)
		die("ioctl(FIONREAD)");
	say("FIONREAD at the end: %d", n);
	say_poll("nothing unread", s->fd, 0);
	barrier(s);
	barrier(s);
}

static void receive_low_water(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	int low = 10;

	if (s->is_server) {
		barrier(s);
		send_exactly(s->fd, 5);
		barrier(s);
		send_exactly(s->fd, 5);
		barrier(s);
		return;
	}
	if (setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)) < 0)
		die("setsockopt(SO_RCVLOWAT)");
	barrier(s);
	wait_queued(s->fd, 5);
	say("poll with 5 of 10: %d", poll(&p, 1, 50));
	barrier(s);
	wait_queued(s->fd, 10);
	say("poll with 10 of 10: %d", poll(&p, 1, 5000));
	barrier(s);
}

static void send_file(struct scene *s)
{
	char path[] = "/tmp/behave.XXXXXX";
	uint8_t *buf = malloc(300000);
	off_t off = 1000;
	ssize_t n;
	size_t i, sum;
	int f;

	if (!s->is_server) {
		recv_exactly(s->fd, 300000);
		say("300000 bytes are right");
		for (sum = 0; sum < 299000; sum += (size_t)n) {
			n = recv(s->fd, buf + sum, 299000 - sum, 0);
			if (n <= 0)
				die("recv");
		}
		for (i = 0; i < 299000 && buf[i] == pattern(1000 + i); i++)
			;
		say("right up to byte %zu", i);
		free(buf);
		barrier(s);
		return;
	}
	for (i = 0; i < 300000; i++)
		buf[i] = pattern(i);
	f = mkstemp(path);
	if (f < 0 || write(f, buf, 300000) != 300000 || lseek(f, 0, SEEK_SET))
		die("temporary file");
	unlink(path);
	for (sum = 0; sum < 300000; sum += (size_t)n) {
		n = sendfile(s->fd, f, NULL, 300000 - sum);
		if (n <= 0)
			die("sendfile");
	}
	say("file position: %lld", (long long)lseek(f, 0, SEEK_CUR));
	say_result("sendfile at the end", sendfile(s->fd, f, NULL, 1000));
	lseek(f, 77, SEEK_SET);
	while (off < 300000) {
		if (sendfile(s->fd, f, &off, 1 << 20) <= 0)
			die("sendfile");
	}
	say("offset: %lld, file position: %lld", (long long)off, (long long)lseek(f, 0, SEEK_CUR));
	say_result("sendfile from a bad descriptor", sendfile(s->fd, -1, NULL, 10));
	free(buf);
	close(f);
	barrier(s);
}

/* What a program may ask about its socket is as it always was. */
static void options(struct scene *s)
{
	struct sockaddr_storage a = { 0 };
	struct tcp_info info = { 0 };
	socklen_t len;
	int v = 1, rc;

	len = sizeof(a);
	rc = getsockname(s->fd, (struct sockaddr *)&a, &len);
	say("getsockname: %d, family %d, length %u", rc, a.ss_family, len);
	len = sizeof(a);
	rc = getpeername(s->fd, (struct sockaddr *)&a, &len);
	say("getpeername: %d, family %d, length %u", rc, a.ss_family, len);
	len = sizeof(info);
	rc = getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	say("TCP_INFO: %d, state %d", rc, info.tcpi_state);
	say("TCP_NODELAY: %d", setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &v, sizeof(v)));
	say("SO_KEEPALIVE: %d", setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof(v)));
	len = sizeof(v);
	rc = getsockopt(s->fd, SOL_SOCKET, SO_TYPE, &v, &len);
	say("SO_TYPE: %d %d", rc, v);
	say("O_NONBLOCK: %d", !!(fcntl(s->fd, F_GETFL) & O_NONBLOCK));
	v = 1;
	say("FIONBIO: %d", ioctl(s->fd, FIONBIO, &v));
	say("O_NONBLOCK: %d", !!(fcntl(s->fd, F_GETFL) & O_NONBLOCK));
	say_result("recv", recv(s->fd, &v, 1, 0));
	rc = connect(s->fd, (struct sockaddr *)&a, sizeof(a));
	say("connect again: %d %s", rc, errno_name(errno));
	say_so_error("in the end", s->fd);
	barrier(s);
}

/* One descriptor is in the set, so there is room for more events than may come. */
static uint32_t wait_epoll(int ep)
{
	static bool told;
	struct epoll_event ev[8];
	int n = epoll_wait(ep, ev, 8, -1);

	if (n < 0)
		die("epoll_wait");
	if (n != 1 && !told)
		say("epoll_wait tells of one descriptor by %d events: 0x%x, 0x%x", n, ev[0].events, ev[1].events);
	told |= n != 1;
	return ev[0].events;
}

/* Wait until readable by one means or another. */
static void wait_readable(int fd, int ep, int how)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	if (how == 0)
		wait_epoll(ep);
	else if ((how == 1 ? poll(&p, 1, -1) : select(fd + 1, &set, NULL, NULL, NULL)) != 1)
		die("waiting");
}

/* Requests and answers: what is said to be readable is, every time. Programs take EAGAIN there for an error. */
/* Ask for room before a request, as event loops do: nothing can be readable then. */
static int wait_writable(int fd, int ep)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT };
	uint32_t told;
	int untrue = 0;

	if (epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev) < 0)
		die("epoll_ctl");
	do {
		told = wait_epoll(ep);
		untrue += !!(told & EPOLLIN);
	} while (!(told & EPOLLOUT));
	ev.events = EPOLLIN;
	if (epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev) < 0)
		die("epoll_ctl");
	return untrue;
}

/* A request is a byte, an answer two bytes by two calls, so that the second may come at any time. */
static int count_untrue(struct scene *s, int fd, int how, int rounds)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0), untrue = 0, tries;
	ssize_t want, n;
	char c[2] = { 0 };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
	while (rounds--) {
		if (!s->is_server && how == 0)
			untrue += wait_writable(fd, ep);
		if (!s->is_server && send(fd, c, 1, 0) != 1)
			die("send");
		tries = 0;
		for (want = s->is_server ? 1 : 2; want; want -= n) {
			wait_readable(fd, ep, how);
			n = recv(fd, c, sizeof(c), MSG_DONTWAIT);
			if (n > 0)
				continue;
			n = 0;
			untrue++;
			if (++tries == 10)
				die("readable ten times and nothing there");
		}
		if (s->is_server && (send(fd, c, 1, 0) != 1 || send(fd, c, 1, 0) != 1))
			die("send");
	}
	close(ep);
	return untrue;
}

static const char *const ways[] = { "epoll", "poll", "select" };

static void true_readiness(struct scene *s)
{
	int how;

	for (how = 0; how < 3; how++)
		say("%s: untrue %d times", ways[how], count_untrue(s, s->fd, how, 5000));
	barrier(s);
}

/* The same while connections are young, and so at the time when they move to a ring. */
static void true_readiness_when_young(struct scene *s)
{
	int how, i, untrue, fd;

	for (how = 0; how < 3; how++) {
		untrue = 0;
		for (i = 0; i < 15; i++) {
			fd = young_connection(s);
			untrue += count_untrue(s, fd, how, 300);
			barrier(s);
			close(fd);
		}
		say("%s: untrue %d times", ways[how], untrue);
	}
	barrier(s);
}

/*
 * The server's stream goes to the ring while the client, who has read, has not come to the end of what went by TCP, and makes no
 * call now: it takes what a socket takes.
 */
static void more_than_the_ring(struct scene *s)
{
	int fd = unread_connection(s, 1000), size = 400000;
	const size_t len = 5 * 65536;

	if (!s->is_server) {
		recv_exactly(fd, 1);
		barrier(s);
		barrier(s);
		recv_part(fd, 1, 999);
		recv_part(fd, 0, len);
		say("all is there");
		barrier(s);
	} else {
		if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0)
			die("SO_SNDBUF");
		barrier(s);
		send_part(fd, 0, len);
		say("all is sent");
		barrier(s);
		barrier(s);
	}
	close(fd);
}

#define MANY 150

/* More than fit on the stack; the connection is among them often, the rest is closed or none. */
static void poll_many(struct scene *s)
{
	struct pollfd p[MANY];
	int marked = 0, n;

	for (int i = 0; i < MANY; i++)
		p[i] = (struct pollfd){ .fd = i % 3 ? s->fd : i % 2 ? -1 : 1000, .events = i % 4 ? POLLIN : POLLIN | POLLOUT };
	if (s->is_server) {
		barrier(s);
		send_exactly(s->fd, 10);
		barrier(s);
		return;
	}
	for (int round = 0; round < 3; round++) {
		if (round == 1) {	/* asleep until it comes: nothing else is ready in this half */
			barrier(s);
			for (int i = 0; i < MANY; i++)
				p[i].events = POLLIN;
		}
		n = poll(round == 1 ? p + 1 : p, round == 1 ? 2 : MANY, 10000);
		for (int i = marked = 0; i < MANY; i++)
			marked = marked * 31 % 65521 + p[i].revents;
		say("poll %d: %d, %d", round, n, marked);
	}
	for (int i = 0; i < MANY; i++)
		p[i].fd = i % 3 ? s->fd : -1;
	recv_exactly(s->fd, 10);
	say("poll: %d", poll(p, MANY, 50));
	barrier(s);
}

/* FIONREAD tells what can be read now; what lies on a ring behind bytes of TCP that the peer's kernel has still cannot. */
static void queued_behind_what_is_under_way(struct scene *s)
{
	int fd = young_connection(s), small = 4096, large = 400000, n = 0;
	char *buf = calloc(1, 1 << 20), byte;
	ssize_t got;

	if (!buf || setsockopt(fd, SOL_SOCKET, s->is_server ? SO_SNDBUF : SO_RCVBUF, s->is_server ? &large : &small, sizeof(int)) < 0)
		die("setsockopt");
	barrier(s);
	if (s->is_server)
		send_part(fd, 0, 150000);
	introduce(s, fd);
	for (int i = 0; i < 5; i++) {
		if (!s->is_server && recv(fd, &byte, 1, MSG_PEEK) != 1)
			die("recv");
		barrier(s);
		if (s->is_server)
			send_part(fd, 150000 + (size_t)i * 10, 10);
		barrier(s);
	}
	if (!s->is_server) {
		if (ioctl(fd, FIONREAD, &n) < 0 || n <= 0 || n > 1 << 20)
			die("FIONREAD");
		got = recv(fd, buf, (size_t)n, MSG_PEEK | MSG_DONTWAIT);
		say("queued: %s", got == n ? "all of it can be read" : "more than can be read");
		recv_part(fd, 0, 150050);
	}
	barrier(s);
	close(fd);
	free(buf);
}

const struct scene_case scenes_io[] = {
	{ "queued_behind_what_is_under_way", queued_behind_what_is_under_way },
	{ "poll_many", poll_many },
	{ "receive_timeout", receive_timeout },
	{ "waitall", waitall },
	{ "flags", flags },
	{ "nonblocking", nonblocking },
	{ "send_timeout", send_timeout },
	{ "queued", queued },
	{ "receive_low_water", receive_low_water },
	{ "true_readiness", true_readiness },
	{ "true_readiness_when_young", true_readiness_when_young },
	{ "send_file", send_file },
	{ "more_than_the_ring", more_than_the_ring },
	{ "options", options },
	{ NULL, NULL },
};
