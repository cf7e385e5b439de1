/* SPDX-License-Identifier: MIT */
/*
 * behave_wild.c - addresses that are none, or cannot be written, where results or requests of readiness go; and all of that in a
 * process that has never had a ring ("behave wild").
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "behave.h"

#define AREA ((size_t)65536)

static char *fixed;		/* AREA bytes that can be read */
static char *none;		/* and as many that cannot */

static void make_memory(void)
{
	fixed = mmap(NULL, 2 * AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fixed == MAP_FAILED || mprotect(fixed + AREA, AREA, PROT_NONE) < 0)
		die("memory");
	none = fixed + AREA;
}

static void freeze(bool on)
{
	if (mprotect(fixed, AREA, on ? PROT_READ : PROT_READ | PROT_WRITE) < 0)
		die("mprotect");
}

static void *bad_address(int i)
{
	void *volatile all[] = { (void *)64, none, (void *)0x0000900000000000, (void *)0xffff900000000000, none - 4 };

	return all[i];
}
#define BAD 5

static void told(const char *what, ssize_t n)
{
	say("%s: %zd %s", what, n, n < 0 ? errno_name(errno) : "");
}

/* The array can be read, and not be written; something is ready, then nothing is. */
static void fixed_arrays(int fd, bool ready)
{
	struct pollfd *p = (struct pollfd *)(void *)fixed;
	struct timespec soon = { .tv_nsec = 20000000 };
	struct timeval tv = { .tv_usec = 20000 };
	fd_set *set = (fd_set *)(void *)(fixed + 4096);

	say(ready ? "something is ready" : "nothing is ready");
	p[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = -1 };
	FD_ZERO(set);
	FD_SET(fd, set);
	freeze(true);
	told("poll", poll(p, 2, 20));
	told("ppoll", ppoll(p, 1, &soon, NULL));
	told("poll of none", poll(p, 0, 0));
	told("select", select(fd + 1, set, NULL, NULL, &tv));
	told("select for errors", select(fd + 1, NULL, NULL, set, &tv));
	told("pselect", pselect(fd + 1, set, NULL, NULL, &soon, NULL));
	freeze(false);
	told("poll", poll(p, 2, 20));
	say("revents %x", (unsigned int)p[0].revents);
}

static void set_of(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = 4711 }, *to = (struct epoll_event *)(void *)fixed;
	int set = epoll_create1(0);

	for (int i = 0; i < BAD; i++)
		told("epoll_ctl bad", epoll_ctl(set, EPOLL_CTL_ADD, fd, bad_address(i)));
	told("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev));
	for (int i = 0; i < BAD - 1; i++)
		told("epoll_wait bad", epoll_wait(set, bad_address(i), 1, 20));
	freeze(true);
	told("epoll_wait", epoll_wait(set, to, 3, 20));
	told("epoll_pwait", epoll_pwait(set, to, 1, 20, NULL));
	freeze(false);
	told("epoll_wait", epoll_wait(set, to, 3, 20));
	say("%x %llu", to->events, (unsigned long long)to->data.u64);
	close(set);
}

/* Masks that are none, or of another size: asked before anything else, whatever is ready. */
static void masks(int fd, bool ready)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec soon = { .tv_nsec = 20000000 };
	struct epoll_event ev = { .events = EPOLLIN };
	int set = epoll_create1(0);
	sigset_t good;
	fd_set s;

	say(ready ? "masks, something is ready" : "masks, nothing is ready");
	sigemptyset(&good);
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
	for (int i = 0; i < BAD; i++) {
		sigset_t *bad = bad_address(i);
		uintptr_t pair[2] = { (uintptr_t)bad, 8 };

		FD_ZERO(&s);
		FD_SET(fd, &s);
		say("mask %d", i);
		told("ppoll", ppoll(&p, 1, &soon, bad));
		told("pselect", pselect(fd + 1, &s, NULL, NULL, &soon, bad));
		told("epoll_pwait", epoll_pwait(set, &ev, 1, 20, bad));
		told("epoll_pwait of none", epoll_pwait(set, &ev, 0, 20, bad));
		told("epoll_pwait2", epoll_pwait2(set, &ev, 1, &soon, bad));
		told("ppoll by number", syscall(SYS_ppoll, &p, 1, &soon, bad, 8));
		told("pselect6 by number", syscall(SYS_pselect6, fd + 1, &s, NULL, NULL, &soon, pair));
		told("pselect6 by number, bad pair", syscall(SYS_pselect6, fd + 1, &s, NULL, NULL, &soon, bad));
		told("epoll_pwait by number", syscall(SYS_epoll_pwait, set, &ev, 1, 20, bad, 8));
		told("epoll_pwait2 by number", syscall(SYS_epoll_pwait2, set, &ev, 1, &soon, bad, 8));
	}
	for (size_t size = 0; size <= 16; size += 4) {
		uintptr_t pair[2] = { (uintptr_t)&good, size };

		FD_ZERO(&s);
		FD_SET(fd, &s);
		say("size %zu", size);
		told("ppoll", syscall(SYS_ppoll, &p, 1, &soon, &good, size));
		told("pselect6", syscall(SYS_pselect6, fd + 1, &s, NULL, NULL, &soon, pair));
		told("epoll_pwait", syscall(SYS_epoll_pwait, set, &ev, 1, 20, &good, size));
		told("epoll_pwait2", syscall(SYS_epoll_pwait2, set, &ev, 1, &soon, &good, size));
	}
	close(set);
}

/* Times that are none, or not the program's, or cannot be written back. */
static void times(int fd, bool ready)
{
	static const struct timespec all[] = { { 0, 1000000000 }, { 0, -1 }, { -1, 0 }, { -1, 5 }, { 0, 0 },
					       { (time_t)1 << 40, 0 }, { (time_t)((~0ull) >> 1), 999999999 } };
	struct timespec *frozen = (struct timespec *)(void *)fixed;
	struct timeval *frozen_tv = (struct timeval *)(void *)(fixed + 64);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	struct mmsghdr m = { .msg_hdr = { 0 } };
	int set = epoll_create1(0);
	struct timespec t;
	struct timeval tv;
	fd_set s;

	say(ready ? "times, something is ready" : "times, nothing is ready");
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
	FD_ZERO(&s);
	/* of the last two nobody sees the end */
	for (size_t i = 0; i < (ready ? 7 : 5); i++) {
		say("time %zu", i);
		FD_SET(fd, &s);
		t = all[i];
		told("ppoll", ppoll(&p, 1, &t, NULL));
		told("epoll_pwait2", epoll_pwait2(set, &ev, 1, &t, NULL));
		told("recvmmsg", recvmmsg(fd, &m, 1, MSG_DONTWAIT | MSG_PEEK, &t));
		t = all[i];
		told("ppoll by number", syscall(SYS_ppoll, &p, 1, &t, NULL, 8));
		say("left %d", t.tv_sec > 1000000);
		told("pselect", pselect(fd + 1, &s, NULL, NULL, &t, NULL));
		FD_SET(fd, &s);
		t = all[i];
		told("pselect6 by number", syscall(SYS_pselect6, fd + 1, &s, NULL, NULL, &t, NULL));
		say("left %d", t.tv_sec > 1000000);
		FD_SET(fd, &s);
		tv = (struct timeval){ .tv_sec = all[i].tv_sec, .tv_usec = all[i].tv_nsec < 0 ? -1 : all[i].tv_nsec % 1000000 };
		told("select", select(fd + 1, &s, NULL, NULL, &tv));
		say("left %d", tv.tv_sec > 1000000);
	}
	for (int i = 0; i < BAD; i++) {
		void *bad = bad_address(i);

		say("no time %d", i);
		FD_SET(fd, &s);
		told("ppoll", syscall(SYS_ppoll, &p, 1, bad, NULL, 8));
		told("ppoll array", syscall(SYS_ppoll, bad, 2, NULL, NULL, 8));
		told("pselect6", syscall(SYS_pselect6, fd + 1, &s, NULL, NULL, bad, NULL));
#ifdef SYS_select
		told("select", syscall(SYS_select, fd + 1, &s, NULL, NULL, bad));
#endif
		told("epoll_pwait2", epoll_pwait2(set, &ev, 1, bad, NULL));
		told("recvmmsg", recvmmsg(fd, &m, 1, MSG_DONTWAIT | MSG_PEEK, bad));
	}
	*frozen = (struct timespec){ .tv_nsec = 20000000 };
	*frozen_tv = (struct timeval){ .tv_usec = 20000 };
	freeze(true);
	FD_SET(fd, &s);
	told("fixed: ppoll", syscall(SYS_ppoll, &p, 1, frozen, NULL, 8));
	told("fixed: pselect6", syscall(SYS_pselect6, fd + 1, &s, NULL, NULL, frozen, NULL));
#ifdef SYS_select
	FD_SET(fd, &s);
	told("fixed: select", syscall(SYS_select, fd + 1, &s, NULL, NULL, frozen_tv));
#endif
	told("fixed: epoll_pwait2", epoll_pwait2(set, &ev, 1, frozen, NULL));
	told("fixed: recvmmsg", recvmmsg(fd, &m, 1, MSG_DONTWAIT | MSG_PEEK, frozen));
	freeze(false);
	close(set);
}

static void calls(int fd)
{
	int file = memfd_create("file", 0);
	off_t *offset = (off_t *)(void *)fixed;
	char buf[20];
	struct iovec v = { buf, 0 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	socklen_t len = 4;

	if (write(file, "1234567890", 10) != 10)
		die("file");
	for (int i = 0; i < BAD; i++) {
		void *bad = bad_address(i);

		say("address %d", i);
		told("poll", poll(bad, 2, 0));
		told("ppoll", ppoll(bad, 2, NULL, NULL));
		told("select", select(fd + 1, bad, NULL, NULL, NULL));
		told("readv", readv(fd, bad, 2));
		told("writev", writev(fd, bad, 2));
		told("preadv2", preadv2(fd, bad, 2, -1, 0));
		told("pwritev2", pwritev2(fd, bad, 2, -1, 0));
		told("recvmsg", recvmsg(fd, bad, MSG_DONTWAIT));
		told("sendmsg", sendmsg(fd, bad, 0));
		m.msg_iov = bad;
		told("recvmsg array", recvmsg(fd, &m, MSG_DONTWAIT));
		told("sendmsg array", sendmsg(fd, &m, 0));
		m.msg_iov = &v;
		m.msg_control = bad;
		m.msg_controllen = 64;
		told("sendmsg control", sendmsg(fd, &m, 0));
		m.msg_controllen = 0;
		told("recvmmsg", recvmmsg(fd, bad, 2, MSG_DONTWAIT, NULL));
		told("sendmmsg", sendmmsg(fd, bad, 2, 0));
		told("sendto", sendto(fd, "12345", 5, 0, bad, 16));
		told("sendfile", sendfile(fd, file, bad, 5));
		told("splice", splice(fd, bad, file, NULL, 5, 0));
		told("FIONREAD", ioctl(fd, FIONREAD, bad));
		told("TIOCOUTQ", ioctl(fd, TIOCOUTQ, bad));
		told("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, bad, &len));
		told("getsockopt length", getsockopt(fd, SOL_SOCKET, SO_ERROR, buf, bad));
		told("setsockopt", setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, bad, 4));
		told("connect", connect(fd, bad, 16));
		told("getpeername", getpeername(fd, bad, &len));
	}
	*offset = 2;
	freeze(true);
	told("sendfile, fixed offset", sendfile(fd, file, offset, 5));
	freeze(false);
	say("offset %lld", (long long)*offset);
	told("sendfile", sendfile(fd, file, offset, 5));
	say("offset %lld", (long long)*offset);
	close(file);
}

/* On a ring: the client makes them all, the server has said something. */
static void bad_places(struct scene *s)
{
	char buf[200];
	size_t sum = 0;
	ssize_t n;

	make_memory();
	if (!s->is_server) {
		fixed_arrays(s->fd, false);
		masks(s->fd, false);
		times(s->fd, false);
	}
	barrier(s);
	if (s->is_server)
		send_exactly(s->fd, 50);
	barrier(s);
	if (!s->is_server) {
		fixed_arrays(s->fd, true);
		masks(s->fd, true);
		times(s->fd, true);
		set_of(s->fd, EPOLLIN);
		set_of(s->fd, EPOLLIN | EPOLLONESHOT);
		calls(s->fd);
		recv_exactly(s->fd, 50);
	}
	barrier(s);
	if (s->is_server) {
		while ((n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
			sum += (size_t)n;
		say("%zu bytes have come", sum);
	}
	barrier(s);
}

/* Sleeps of more years than one can live to see: what comes ends them. */
static void endless_times(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	int set = epoll_create1(0);

	if (epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		die("epoll_ctl");
	for (int i = 0; i < 12; i++) {
		time_t sec = i < 6 ? (time_t)2000000000 : (time_t)((~0ull) >> 1);
		struct timespec t = { .tv_sec = sec, .tv_nsec = 999999999 };
		struct timeval tv = { .tv_sec = sec, .tv_usec = 999999 };
		fd_set in;

		if (s->is_server) {
			(void)other_sleeps(s);
			send_exactly(s->fd, 1);
		} else {
			FD_ZERO(&in);
			FD_SET(s->fd, &in);
			about_to_sleep(s);
			switch (i % 6) {
			case 0: told("ppoll", ppoll(&p, 1, &t, NULL)); break;
			case 1: told("pselect", pselect(s->fd + 1, &in, NULL, NULL, &t, NULL)); break;
			case 2: told("select", select(s->fd + 1, &in, NULL, NULL, &tv)); break;
			case 3: told("epoll_pwait2", epoll_pwait2(set, &ev, 1, &t, NULL)); break;
			case 4: told("ppoll by number", syscall(SYS_ppoll, &p, 1, &t, NULL, 8)); break;
			default: told("pselect6 by number", syscall(SYS_pselect6, s->fd + 1, &in, NULL, NULL, &t, NULL));
			}
			say("much is left: %d", t.tv_sec > 1900000000 && tv.tv_sec > 1900000000);
			recv_exactly(s->fd, 1);
		}
	}
	close(set);
	barrier(s);
}

static void *idle(void *arg)
{
	char c;

	(void)!read(*(int *)arg, &c, 1);
	return NULL;
}

/* Connections to ourselves, which do not live long enough to be offered; of the second it is known that somebody listens there. */
static void all_without_ring(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM, 0), first = socket(AF_INET, SOCK_STREAM, 0), un[2];
	socklen_t len = sizeof(at);

	if (bind(l, (struct sockaddr *)&at, len) < 0 || listen(l, 1) < 0 || getsockname(l, (struct sockaddr *)&at, &len) < 0)
		die("listen");
	for (int i = 0; i < 4; i++)
		told("connect", connect(first, bad_address(i), 16));
	for (int i = 0; i < 2; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0), other;

		if (connect(fd, (struct sockaddr *)&at, len) < 0)
			die("connect");
		other = accept(l, NULL, NULL);
		fixed_arrays(fd, false);
		masks(fd, false);
		times(fd, false);
		if (send(other, "12345", 5, 0) != 5)
			die("send");
		fixed_arrays(fd, true);
		masks(fd, true);
		times(fd, true);
		set_of(fd, EPOLLIN);
		set_of(fd, EPOLLIN | EPOLLONESHOT);
		calls(fd);
		close(fd);
		close(other);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, un) < 0)
		die("socketpair");
	say("a unix socket");
	calls(un[0]);
	close(first);
	close(l);
}

int behave_wild(void)
{
	make_memory();
	all_without_ring();
	return 0;
}

/* Several threads do not change it. */
int behave_wild_threads(void)
{
	struct pollfd *nowhere = (struct pollfd *)(uintptr_t)64;
	struct pollfd *volatile hidden = nowhere;
	pthread_t t;
	int p[2];

	make_memory();
	if (pipe(p) < 0 || pthread_create(&t, NULL, idle, &p[0]))
		die("pthread_create");
	told("poll", poll(hidden, 1, 0));
	told("recvmsg", recvmsg(p[0], (struct msghdr *)hidden, 0));
	all_without_ring();
	close(p[1]);
	pthread_join(t, NULL);
	return 0;
}

const struct scene_case scenes_wild[] = {
	{ "bad_places", bad_places },
	{ "endless_times", endless_times },
	{ NULL, NULL },
};
