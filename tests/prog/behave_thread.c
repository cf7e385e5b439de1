/* SPDX-License-Identifier: MIT */
/* behave_thread.c - threads that use one connection together. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
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

struct taker {
	pthread_t thread;
	int fd, id_to;
	bool by_message;
};

static void *take_some(void *arg)
{
	struct taker *t = arg;
	char buf[64];
	struct iovec v = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	pid_t id = gettid();

	if (write(t->id_to, &id, sizeof(id)) != sizeof(id))
		die("write");
	/* what it says is another scene's */
	if (t->by_message)
		(void)recvmsg(t->fd, &m, 0);
	else
		(void)recv(t->fd, buf, sizeof(buf), 0);
	return NULL;
}

/*
 * While a thread sleeps in a receive, on a connection that may still be introduced, its number is given to something else. When the
 * thread wakes, what that has to read is not the thread's.
 */
static void number_goes_to(struct scene *s, bool to_connection, bool by_message)
{
	struct taker t = { .by_message = by_message };
	int other, pair[2], fd = young_connection(s);
	struct pollfd p = { .events = POLLIN };
	char buf[64] = "";
	pid_t id;

	other = young_connection(s);
	if (s->is_server) {
		send_exactly(other, 20);
		barrier(s);
		send_exactly(fd, 10);
		barrier(s);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || send(pair[1], buf, 20, 0) != 20)
		die("socketpair");
	t.fd = fd;
	t.id_to = pair[0];
	if (pthread_create(&t.thread, NULL, take_some, &t) || recv(pair[1], &id, sizeof(id), MSG_WAITALL) != sizeof(id))
		die("pthread_create");
	await_state(id, 'S');
	p.fd = to_connection ? other : pair[0];
	if (poll(&p, 1, 10000) != 1 || dup2(p.fd, fd) != fd)
		die("dup2");
	barrier(s);
	if (pthread_join(t.thread, NULL))
		die("pthread_join");
	say("still there: %zd", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	barrier(s);
}

static void number_goes_to_a_connection(struct scene *s) { number_goes_to(s, true, false); }
static void number_goes_to_a_pair(struct scene *s) { number_goes_to(s, false, false); }
static void message_number_goes_to_a_connection(struct scene *s) { number_goes_to(s, true, true); }
static void message_number_goes_to_a_pair(struct scene *s) { number_goes_to(s, false, true); }

static _Atomic bool looks;

static void *look_on(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	while (looks)
		if (poll(&p, 1, 0) < 0)
			die("poll");
	return NULL;
}

/* What a program sets as SO_RCVLOWAT is what it reads, whatever the socket has meanwhile, for the look of another thread. */
static void mark_is_set_while_another_looks(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLPRI };
	int wrong = 0, low;
	socklen_t len = sizeof(low);
	pthread_t thread;
	char byte;

	/* after urgent data the server's stream stays on TCP */
	if (s->is_server) {
		if (send(s->fd, "u", 1, MSG_OOB) != 1)
			die("send");
		barrier(s);
		barrier(s);
		return;
	}
	barrier(s);
	if (poll(&p, 1, 10000) != 1 || recv(s->fd, &byte, 1, MSG_OOB) != 1)
		die("urgent data");
	looks = true;
	if (pthread_create(&thread, NULL, look_on, &s->fd))
		die("pthread_create");
	for (int i = 0; i < 20000; i++) {
		low = 2 + i % 50;
		if (setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)) < 0 ||
		    getsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &low, &len) < 0)
			die("SO_RCVLOWAT");
		wrong += low != 2 + i % 50;
	}
	looks = false;
	if (pthread_join(thread, NULL))
		die("pthread_join");
	say("wrong: %d", wrong);
	barrier(s);
}

#define PARTS 200

/* The byte with the number `at` is peeked at, with one part and with many. */
static void *peek_on_a_small_stack(void *arg)
{
	static char buf[PARTS];
	static struct iovec v[PARTS];
	struct msghdr m = { .msg_iov = v, .msg_iovlen = PARTS };
	int fd = *(int *)arg;

	for (size_t i = 0; i < PARTS; i++)
		v[i] = (struct iovec){ buf + i, 1 };
	say("peek: %zd", recv(fd, buf, 10, MSG_PEEK));
	say("peek: %zd", recvmsg(fd, &m, MSG_PEEK));
	for (size_t i = 0; i < PARTS; i++)
		if ((uint8_t)buf[i] != pattern(60 + i))
			die("peek");
	return NULL;
}

/* The smallest stack that a thread may have does for a peek that begins behind what is next to be read. */
static void peeks_on_a_small_stack(struct scene *s)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	size_t size = 1 << 20;	/* its own needs are larger */
#else
	size_t size = (size_t)PTHREAD_STACK_MIN;
#endif
	pthread_attr_t attr;
	pthread_t thread;
	int at = 50;

	if (s->is_server) {
		send_exactly(s->fd, 1000);
		barrier(s);
	} else {
		barrier(s);
		if (setsockopt(s->fd, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof(at)) < 0 || pthread_attr_init(&attr) ||
		    pthread_attr_setstacksize(&attr, size) || pthread_create(&thread, &attr, peek_on_a_small_stack, &s->fd) ||
		    pthread_join(thread, NULL))
			die("a thread with a small stack");
		recv_exactly(s->fd, 1000);
	}
	barrier(s);
}

static void *take_and_say(void *arg)
{
	struct taker *t = arg;
	pid_t id = gettid();
	char buf[64];

	if (write(t->id_to, &id, sizeof(id)) != sizeof(id))
		die("write");
	say("received: %zd", recv(t->fd, buf, sizeof(buf), 0));
	return NULL;
}

/* The number is closed while a thread sleeps in a receive: the connection is there until the thread has its bytes. */
static void closed_under_a_receive(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLRDHUP };
	struct taker t = { .fd = s->fd };
	int pair[2];
	char c;
	pid_t id;

	if (s->is_server) {
		barrier(s);
		say("before: %d 0x%x", poll(&p, 1, 100), (unsigned int)p.revents);
		send_exactly(s->fd, 10);
		say("after: %zd", recv(s->fd, &c, 1, 0));
		barrier(s);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		die("socketpair");
	t.id_to = pair[0];
	if (pthread_create(&t.thread, NULL, take_and_say, &t) || recv(pair[1], &id, sizeof(id), MSG_WAITALL) != sizeof(id))
		die("pthread_create");
	await_state(id, 'S');
	close(s->fd);
	barrier(s);
	if (pthread_join(t.thread, NULL))
		die("pthread_join");
	barrier(s);
}

#define DROPS 2000
#define DRINKERS 2

struct drinker {
	pthread_t thread;
	int from, to;			/* to: -1: nowhere */
	size_t sum;
	const atomic_bool *over;	/* nothing more is put in */
};

static void *drink(void *arg)
{
	struct drinker *d = arg;
	bool too_early = false;
	char buf[100];
	ssize_t n;

	do {
		n = d->to < 0 ? read(d->from, buf, sizeof(buf)) : splice(d->from, NULL, d->to, NULL, sizeof(buf), 0);
		d->sum += n > 0 ? (size_t)n : 0;
		too_early |= !n && !*d->over;
	} while (n > 0 || (n < 0 && errno == EAGAIN) || (!n && !*d->over));
	say("the last answer: %zd%s", n, too_early ? ", and before nothing more came" : "");
	return NULL;
}

/*
 * A splice and a read share a pipe, which the splice finds empty at times where there has just been something in it. Who sends on the
 * connection meanwhile does not wait for what is put into the pipe next, and he it is who does that.
 */
static void splice_from_a_common_pipe(struct scene *s)
{
	struct drinker d[DRINKERS];
	atomic_bool over = false;
	char buf[4096];
	size_t sum = 0, spliced;
	int p[3];
	ssize_t n;

	if (s->is_server) {
		while ((n = recv(s->fd, buf, sizeof(buf), 0)) > 0)
			sum += (size_t)n;
		if (recv(s->step, &spliced, sizeof(spliced), MSG_WAITALL) != sizeof(spliced))
			die("the step socket");
		say("then %zd, %s", n, sum == DROPS + spliced ? "all has come" : "what has come is not what was sent");
	} else {
		if (pipe(p) < 0)
			die("pipe");
		/* one that does not sleep is there whenever something comes */
		snprintf(buf, sizeof(buf), "/proc/self/fd/%d", p[0]);
		p[2] = open(buf, O_RDONLY | O_NONBLOCK);
		if (p[2] < 0)
			die(buf);
		for (int i = 0; i < DRINKERS; i++) {
			d[i] = (struct drinker){ .from = i ? p[2] : p[0], .to = i ? -1 : s->fd, .over = &over };
			if (pthread_create(&d[i].thread, NULL, drink, &d[i]))
				die("pthread_create");
		}
		for (int i = 0; i < DROPS; i++)
			if (write(p[1], "p", 1) != 1 || send(s->fd, "m", 1, 0) != 1)
				die("a drop");
		over = true;
		close(p[1]);
		for (int i = 0; i < DRINKERS; i++) {
			pthread_join(d[i].thread, NULL);
			sum += d[i].sum;
		}
		say("%zu", sum);
		shutdown(s->fd, SHUT_WR);
		if (write(s->step, &d[0].sum, sizeof(d[0].sum)) != sizeof(d[0].sum))
			die("the step socket");
	}
	barrier(s);
}

#define MUCH ((size_t)4 << 20)

struct file_to {
	pthread_t thread;
	int fd, file;
	bool by_pipe;
};

static void *send_file(void *arg)
{
	struct file_to *f = arg;
	size_t done = 0;
	ssize_t n;
	int p[2];

	if (pipe(p) < 0)
		die("pipe");
	while (done < MUCH) {
		if (f->by_pipe) {
			n = splice(f->file, NULL, p[1], NULL, 65536, 0);
			for (ssize_t out, gone = 0; gone < n; gone += out) {
				out = splice(p[0], NULL, f->fd, NULL, (size_t)(n - gone), 0);
				if (out <= 0)
					die("splice");
			}
		} else {
			n = sendfile(f->fd, f->file, NULL, MUCH - done);
		}
		if (n <= 0)
			die("sendfile");
		done += (size_t)n;
	}
	close(p[0]);
	close(p[1]);
	return NULL;
}

/*
 * A thread sends a file to who takes nothing yet, but sends as much: only the thread that receives it can bring the other end to read. There
 * is little room on the way, so what goes by TCP, as when a ring has been full for long, is soon waited for.
 */
static void file_and_receive(struct scene *s, bool by_pipe)
{
	struct file_to f = { .by_pipe = by_pipe };
	char part[65536];
	int small = 4096;

	if (setsockopt(s->fd, SOL_SOCKET, s->is_server ? SO_RCVBUF : SO_SNDBUF, &small, sizeof(small)) < 0)
		die("a buffer's size");
	barrier(s);
	if (s->is_server) {
		(void)other_sleeps(s);
		send_exactly(s->fd, MUCH);
		recv_exactly(s->fd, MUCH);
	} else {
		f.fd = s->fd;
		f.file = memfd_create("file", 0);
		for (size_t at = 0; at < MUCH; at += sizeof(part)) {
			for (size_t i = 0; i < sizeof(part); i++)
				part[i] = (char)pattern(at + i);
			if (write(f.file, part, sizeof(part)) != sizeof(part))
				die("memfd");
		}
		lseek(f.file, 0, SEEK_SET);
		if (pthread_create(&f.thread, NULL, send_file, &f))
			die("pthread_create");
		about_to_sleep(s);
		recv_exactly(s->fd, MUCH);
		pthread_join(f.thread, NULL);
	}
	barrier(s);
}

static void file_and_receive_by_sendfile(struct scene *s) { file_and_receive(s, false); }
static void file_and_receive_by_splice(struct scene *s) { file_and_receive(s, true); }

const struct scene_case scenes_thread[] = {
	{ "file_and_receive_by_sendfile", file_and_receive_by_sendfile },
	{ "file_and_receive_by_splice", file_and_receive_by_splice },
	{ "splice_from_a_common_pipe", splice_from_a_common_pipe },
	{ "closed_under_a_receive", closed_under_a_receive },
	{ "peeks_on_a_small_stack", peeks_on_a_small_stack },
	{ "mark_is_set_while_another_looks", mark_is_set_while_another_looks },
	{ "number_goes_to_a_connection", number_goes_to_a_connection },
	{ "number_goes_to_a_pair", number_goes_to_a_pair },
	{ "message_number_goes_to_a_connection", message_number_goes_to_a_connection },
	{ "message_number_goes_to_a_pair", message_number_goes_to_a_pair },
	{ "reader_in_recv", reader_in_recv },
	{ "reader_in_poll", reader_in_poll },
	{ "reader_in_select", reader_in_select },
	{ NULL, NULL },
};
