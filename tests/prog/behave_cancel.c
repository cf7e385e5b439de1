/* SPDX-License-Identifier: MIT */
/* behave_cancel.c - threads that are cancelled in calls: where they end, and that the connection is good for the others afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "behave.h"

struct victim {
	const char *what;
	ssize_t (*call)(int fd);
	int fd, type, state;
	_Atomic pid_t tid;
	_Atomic int go;
	bool cleaned;
	ssize_t rc;
};

static ssize_t by_recv(int fd) { char b[100]; return recv(fd, b, sizeof(b), 0); }
static ssize_t by_read(int fd) { char b[100]; return read(fd, b, sizeof(b)); }
static ssize_t by_recv_all(int fd) { char b[100]; return recv(fd, b, sizeof(b), MSG_WAITALL); }
static ssize_t by_peek(int fd) { char b[100]; return recv(fd, b, sizeof(b), MSG_PEEK); }

static ssize_t by_recvmsg(int fd)
{
	char b[100];
	struct iovec v = { b, sizeof(b) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	return recvmsg(fd, &m, 0);
}

static ssize_t by_readv(int fd)
{
	char b[100];
	struct iovec v = { b, sizeof(b) };

	return readv(fd, &v, 1);
}

static ssize_t by_recvfrom(int fd) { char b[100]; return recvfrom(fd, b, sizeof(b), MSG_DONTWAIT, NULL, NULL); }

static ssize_t by_poll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, -1);
}

static ssize_t by_ppoll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return ppoll(&p, 1, NULL, NULL);
}

static ssize_t by_select(int fd)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	return select(fd + 1, &set, NULL, NULL, NULL);
}

static int epoll_set;

static ssize_t by_epoll(int fd)
{
	struct epoll_event ev;

	(void)fd;
	return epoll_wait(epoll_set, &ev, 1, -1);
}

static ssize_t by_send(int fd) { return send(fd, "not to be sent", 14, 0); }
static ssize_t by_write(int fd) { return write(fd, "not to be sent", 14); }


static ssize_t by_sendmsg(int fd)
{
	char b[] = "not to be sent";
	struct iovec v = { b, sizeof(b) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static ssize_t by_writev(int fd)
{
	char b[] = "not to be sent";
	struct iovec v = { b, sizeof(b) };

	return writev(fd, &v, 1);
}

static ssize_t by_open(int fd) { (void)fd; return open("/dev/null", O_RDONLY | O_CLOEXEC); }

static const struct { const char *what; ssize_t (*call)(int fd); } calls[] = {
	{ "recv", by_recv }, { "read", by_read }, { "recvmsg", by_recvmsg }, { "recv all", by_recv_all }, { "peek", by_peek },
	{ "poll", by_poll }, { "ppoll", by_ppoll }, { "select", by_select }, { "epoll_wait", by_epoll },
	{ "readv", by_readv }, { "recvfrom", by_recvfrom },
	{ "send", by_send }, { "write", by_write }, { "sendmsg", by_sendmsg }, { "writev", by_writev },
	{ "open", by_open },
};
#define SLEEPS 9	/* the first of them sleep where there is nothing to receive */
#define CALLS (sizeof(calls) / sizeof(calls[0]))

static void clean_up(void *arg) { ((struct victim *)arg)->cleaned = true; }

static void *victim(void *arg)
{
	struct victim *v = arg;

	pthread_cleanup_push(clean_up, v);
	pthread_setcanceltype(v->type, NULL);
	pthread_setcancelstate(v->state, NULL);
	v->tid = gettid();
	while (!v->go)
		sched_yield();
	if (v->state == PTHREAD_CANCEL_DISABLE && v->type == PTHREAD_CANCEL_DEFERRED)
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	v->rc = v->call(v->fd);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cleanup_pop(0);
	return NULL;
}

static pthread_t begin(struct victim *v)
{
	pthread_t t;

	if (pthread_create(&t, NULL, victim, v))
		die("pthread_create");
	while (!v->tid)
		sched_yield();
	return t;
}

static void ended(struct victim *v, pthread_t t)
{
	void *how;

	if (pthread_join(t, &how))
		die("pthread_join");
	if (how == PTHREAD_CANCELED)
		say("%s: cancelled%s", v->what, v->cleaned ? ", has cleaned up" : "");
	else
		say("%s: %zd%s", v->what, v->rc, v->cleaned ? ", has cleaned up" : "");
}

static void make_set(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	epoll_set = epoll_create1(0);
	if (epoll_ctl(epoll_set, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

/* Asleep: there is nothing to receive. */
static void asleep(struct scene *s, int type)
{
	if (!s->is_server) {
		make_set(s->fd);
		for (size_t i = 0; i < SLEEPS; i++) {
			struct victim v = { .what = calls[i].what, .call = calls[i].call, .fd = s->fd, .go = 1, .type = type,
					    .state = PTHREAD_CANCEL_ENABLE };
			pthread_t t = begin(&v);

			await_state(v.tid, 'S');
			pthread_cancel(t);
			ended(&v, t);
		}
	}
	barrier(s);
	for (int i = 0; i < 20; i++)
		echo(s, s->fd, 10000);
	barrier(s);
}

static void cancelled_asleep(struct scene *s) { asleep(s, PTHREAD_CANCEL_DEFERRED); }
static void cancelled_at_any_time(struct scene *s) { asleep(s, PTHREAD_CANCEL_ASYNCHRONOUS); }

/* It was cancelled while it could not be, and comes to the call afterwards: that ends it, and does nothing else. */
static void cancelled_before(struct scene *s)
{
	if (s->is_server)
		send_exactly(s->fd, 1000);
	barrier(s);
	if (!s->is_server) {
		make_set(s->fd);
		if (by_poll(s->fd) != 1)
			die("poll");
		for (size_t i = 0; i < CALLS; i++) {
			struct victim v = { .what = calls[i].what, .call = calls[i].call, .fd = s->fd,
					    .type = PTHREAD_CANCEL_DEFERRED, .state = PTHREAD_CANCEL_DISABLE };
			pthread_t t = begin(&v);

			pthread_cancel(t);
			v.go = 1;
			ended(&v, t);
		}
		recv_exactly(s->fd, 1000);
	}
	barrier(s);
	echo(s, s->fd, 10000);
	barrier(s);
}

static ssize_t disabled_recv(int fd)
{
	ssize_t n;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	n = by_recv(fd);
	return n;
}

/* One that does not let itself be cancelled sleeps on. */
static void cancelled_in_vain(struct scene *s)
{
	struct victim v = { .what = "recv", .call = disabled_recv, .fd = s->fd, .go = 1, .type = PTHREAD_CANCEL_DEFERRED,
			    .state = PTHREAD_CANCEL_ENABLE };
	pthread_t t;

	if (s->is_server) {
		barrier(s);
		send_exactly(s->fd, 7);
	} else {
		t = begin(&v);
		await_state(v.tid, 'S');
		pthread_cancel(t);
		barrier(s);
		ended(&v, t);
	}
	barrier(s);
	echo(s, s->fd, 10000);
	barrier(s);
}

#define MUCH (64 * 1024 * 1024)

static ssize_t much(int fd)
{
	send_exactly(fd, MUCH);
	return 0;
}

/* In a send that nobody takes: what came of it is the beginning of what was to be sent, and the connection goes on to its end. */
static void cancelled_in_a_send(struct scene *s)
{
	struct victim v = { .what = "send", .call = much, .fd = s->fd, .go = 1, .type = PTHREAD_CANCEL_DEFERRED,
			    .state = PTHREAD_CANCEL_ENABLE };
	uint8_t buf[65536];
	size_t sum = 0;
	pthread_t t;
	ssize_t n;

	if (s->is_server) {
		barrier(s);
		while ((n = recv(s->fd, buf, sizeof(buf), 0)) > 0)
			for (ssize_t i = 0; i < n; i++, sum++)
				if (buf[i] != pattern(sum))
					die("a wrong byte");
		say("%s, then %zd", sum > 0 && sum < MUCH ? "some" : "none or all", n);
		send_exactly(s->fd, 1000);
	} else {
		t = begin(&v);
		await_state(v.tid, 'S');
		pthread_cancel(t);
		ended(&v, t);
		barrier(s);
		shutdown(s->fd, SHUT_WR);
		recv_exactly(s->fd, 1000);
	}
	barrier(s);
}

/* It begins, and a while later it is cancelled, at whatever it is then. */
static void cancel_after(struct victim *v, int turns)
{
	pthread_t t = begin(v);
	void *how;

	for (volatile int spin = 0; spin < turns; spin++)
		;
	pthread_cancel(t);
	if (pthread_join(t, &how) || how != PTHREAD_CANCELED)
		die("a thread was not cancelled");
}

/* At whatever place a thread is: going to sleep, asleep, waking. Only calls that take nothing, because that would be lost. */
static void cancelled_anywhere(struct scene *s)
{
	if (!s->is_server) {
		make_set(s->fd);
		for (int i = 0; i < 300; i++) {
			struct victim v = { .call = calls[4 + i % 5].call, .fd = s->fd, .go = 1, .state = PTHREAD_CANCEL_ENABLE,
					    .type = PTHREAD_CANCEL_DEFERRED };

			cancel_after(&v, i * 50);
		}
	}
	barrier(s);
	for (int i = 0; i < 20; i++)
		echo(s, s->fd, 10000);
	barrier(s);
}

/* Calls that take nothing, one after the other, on a connection that has something. */
static ssize_t busy(int fd)
{
	struct epoll_event ev;
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	char b[100];

	for (;;) {
		if (recv(fd, b, sizeof(b), MSG_PEEK) <= 0 || poll(&p, 1, -1) != 1 || epoll_wait(epoll_set, &ev, 1, -1) != 1 ||
		    recv(fd, b, sizeof(b), MSG_PEEK | MSG_WAITALL) <= 0)
			die("a call of a busy thread");
	}
}

/* In the middle of calls that do not sleep: what they hold is let go, and the last close is one. */
static void at_work(struct scene *s, int type)
{
	int fd = another_connection(s);

	if (s->is_server) {
		send_exactly(fd, 1000);
		say_recv_all("the end", fd);
	} else {
		make_set(fd);
		for (int i = 0; i < 300; i++) {
			struct victim v = { .call = busy, .fd = fd, .go = 1, .type = type, .state = PTHREAD_CANCEL_ENABLE };

			cancel_after(&v, i * 200);
		}
		recv_exactly(fd, 1000);
		close(epoll_set);
	}
	close(fd);
	s->connections--;
	barrier(s);
}

static void cancelled_at_work(struct scene *s) { at_work(s, PTHREAD_CANCEL_DEFERRED); }
static void cancelled_at_any_instruction(struct scene *s) { at_work(s, PTHREAD_CANCEL_ASYNCHRONOUS); }

/* This thread, and those that it begins, share one processor: another one of them runs only while this one sleeps. */
static void alone_on_a_processor(bool yes)
{
	const struct sched_param first = { .sched_priority = 1 }, as_others = { 0 };
	static cpu_set_t all;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (yes && sched_getaffinity(0, sizeof(all), &all))
		die("sched_getaffinity");
	if (sched_setaffinity(0, sizeof(all), yes ? &one : &all))
		die("sched_setaffinity");
	(void)sched_setscheduler(0, yes ? SCHED_FIFO : SCHED_OTHER, yes ? &first : &as_others);	/* without the right to it, it may prove nothing */
}

/* The kernel has told it of the end of the stream already, and it never comes to say so: the next one is told. */
static void cancelled_with_the_end_in_hand(struct scene *s)
{
	if (s->is_server) {
		barrier(s);
		shutdown(s->fd, SHUT_WR);
	} else {
		struct victim v = { .what = calls[0].what, .call = calls[0].call, .fd = s->fd, .go = 1, .state = PTHREAD_CANCEL_ENABLE,
				    .type = PTHREAD_CANCEL_DEFERRED };
		struct tcp_info info = { 0 };
		socklen_t len = sizeof(info);
		pthread_t t;

		alone_on_a_processor(true);
		t = begin(&v);
		await_state(v.tid, 'S');
		barrier(s);
		while (info.tcpi_state != TCP_CLOSE_WAIT)
			if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len))
				die("TCP_INFO");
		pthread_cancel(t);
		ended(&v, t);
		alone_on_a_processor(false);
		say("then: %zd", by_recv(s->fd));
	}
	barrier(s);
}

/* A connection that a thread has been cancelled in ends like others, and leaves nothing behind. */
static void cancelled_and_closed(struct scene *s)
{
	int maps = 0, set = epoll_create1(0);

	for (int i = 0; i < 12; i++) {
		int fd = another_connection(s);
		struct epoll_event ev = { .events = EPOLLIN };

		if (s->is_server) {
			epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev);
			if (epoll_wait(set, &ev, 1, 10000) != 1)
				die("epoll_wait");
			say_recv_all("the end", fd);
		} else {
			struct victim v = { .what = calls[i % SLEEPS].what, .call = calls[i % SLEEPS].call, .fd = fd, .go = 1,
					    .type = PTHREAD_CANCEL_DEFERRED, .state = PTHREAD_CANCEL_ENABLE };
			pthread_t t;

			make_set(fd);
			t = begin(&v);
			await_state(v.tid, 'S');
			pthread_cancel(t);
			ended(&v, t);
			close(epoll_set);
		}
		close(fd);
		s->connections--;
		barrier(s);
		if (i == 3)
			maps = lines_of("/proc/self/maps");
	}
	say("memory: %s", lines_of("/proc/self/maps") > maps + 6 ? "more" : "as before");
	barrier(s);
}

const struct scene_case scenes_cancel[] = {
	{ "cancelled_asleep", cancelled_asleep },
	{ "cancelled_at_any_time", cancelled_at_any_time },
	{ "cancelled_before", cancelled_before },
	{ "cancelled_in_vain", cancelled_in_vain },
	{ "cancelled_in_a_send", cancelled_in_a_send },
	{ "cancelled_anywhere", cancelled_anywhere },
	{ "cancelled_at_work", cancelled_at_work },
	{ "cancelled_at_any_instruction", cancelled_at_any_instruction },
	{ "cancelled_with_the_end_in_hand", cancelled_with_the_end_in_hand },
	{ "cancelled_and_closed", cancelled_and_closed },
	{ NULL, NULL },
};
