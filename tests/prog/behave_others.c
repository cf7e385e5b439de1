/* SPDX-License-Identifier: MIT */
/* behave_others.c - what other libraries of this kind got wrong, where no other scene has it (tests/features.txt). */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "behave.h"

static void told(const char *what, ssize_t n)
{
	say("%s: %zd %s", what, n, n < 0 ? errno_name(errno) : "");
}

/* ---- other names of calls ---- */

ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *from, socklen_t *len);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room);

/* As programs make them that were compiled with _FORTIFY_SOURCE. */
static void fortified(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	char buf[10];

	if (s->is_server)
		send_exactly(s->fd, 20);
	barrier(s);
	if (!s->is_server) {
		told("poll", __poll_chk(&p, 1, 1000, sizeof(p)));
		told("ppoll", __ppoll_chk(&p, 1, NULL, NULL, sizeof(p)));
		told("read", __read_chk(s->fd, buf, 5, sizeof(buf)));
		told("recv", __recv_chk(s->fd, buf, 5, sizeof(buf), 0));
		told("recvfrom", __recvfrom_chk(s->fd, buf, 10, sizeof(buf), 0, NULL, NULL));
		told("nothing", __recv_chk(s->fd, buf, 5, sizeof(buf), MSG_DONTWAIT));
	}
	barrier(s);
}

static void streams_without_descriptor(struct scene *s)
{
	char mem[20] = "some text", *out = NULL;
	size_t n = 0;
	FILE *f = fmemopen(mem, sizeof(mem), "r"), *g = open_memstream(&out, &n);

	errno = 0;
	told("fmemopen", fclose(f));
	told("open_memstream", fclose(g));
	say("errno: %s", errno ? errno_name(errno) : "0");
	free(out);
	f = fopen("/nonexistent", "r");
	say("fopen: %s", f ? "opened" : errno_name(errno));
	echo(s, s->fd, 10000);
	barrier(s);
}

/* What is no TCP connection is as it was, beside one that is on a ring. */
static void other_families(struct scene *s)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int udp = socket(AF_INET, SOCK_DGRAM, 0), un[2], rc;
	char buf[20];

	rc = socketpair(AF_INET, SOCK_STREAM, 0, un);
	told("socketpair of AF_INET", rc);
	told("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, un));
	told("recv DONTWAIT of nothing", recv(un[0], buf, 5, MSG_DONTWAIT));
	told("recvmsg DONTWAIT of nothing", recvmsg(un[0], &(struct msghdr){ 0 }, MSG_DONTWAIT));
	if (bind(udp, (struct sockaddr *)&at, len) < 0 || getsockname(udp, (struct sockaddr *)&at, &len) < 0)
		die("bind");
	told("UDP recv DONTWAIT of nothing", recv(udp, buf, 5, MSG_DONTWAIT));
	told("UDP sendto", sendto(udp, "12345", 5, 0, (struct sockaddr *)&at, len));
	told("UDP recvfrom", recvfrom(udp, buf, sizeof(buf), 0, (struct sockaddr *)&at, &len));
	told("shutdown of an unconnected one", shutdown(socket(AF_INET, SOCK_STREAM, 0), SHUT_WR));
	told("recv DONTWAIT of nothing on the connection", recv(s->fd, buf, 5, MSG_DONTWAIT));
	barrier(s);
	echo(s, s->fd, 10000);
	barrier(s);
}

/* ---- many, and large numbers ---- */

static void high_numbers(struct scene *s)
{
	struct rlimit rl;
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 9 };
	struct pollfd p = { .events = POLLIN };
	int high, set;

	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max < 8000 ? rl.rlim_max : 8000;
	setrlimit(RLIMIT_NOFILE, &rl);
	high = fcntl(s->fd, F_DUPFD_CLOEXEC, 3000);
	if (high < 3000)
		die("F_DUPFD_CLOEXEC");
	say("number %d", high);
	close(s->fd);
	echo(s, high, 100000);
	set = fcntl(epoll_create1(0), F_DUPFD, 3500);
	told("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, high, &ev));
	barrier(s);
	if (s->is_server)
		send_exactly(high, 5);
	p.fd = high;
	if (!s->is_server) {
		told("epoll_wait", epoll_wait(set, &ev, 1, 5000));
		told("poll", poll(&p, 1, 5000));
		recv_exactly(high, 5);
	}
	s->fd = another_connection(s);
	say("the next: %d", s->fd);
	echo(s, s->fd, 1000);
	barrier(s);
}

#define MANY 52	/* above 50 */

static void fifty_connections(struct scene *s)
{
	int fds[MANY], set = epoll_create1(0), got = 0, n;
	struct epoll_event ev, evs[8];

	for (int i = 0; i < MANY; i++) {
		fds[i] = another_connection(s);
		ev = (struct epoll_event){ .events = EPOLLIN, .data.fd = fds[i] };
		if (epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &ev) < 0)
			die("epoll_ctl");
	}
	for (int i = 0; !s->is_server && i < MANY; i++)
		send_exactly(fds[i], 1000);
	while (s->is_server && got < MANY) {
		n = epoll_wait(set, evs, 8, 5000);
		if (n <= 0)
			die("epoll_wait");
		for (int i = 0; i < n; i++, got++) {
			recv_exactly(evs[i].data.fd, 1000);
			send_exactly(evs[i].data.fd, 1000);
		}
	}
	for (int i = 0; !s->is_server && i < MANY; i++)
		recv_exactly(fds[i], 1000);
	say("all %d", MANY);
	barrier(s);
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 70000; fd++) {
		char name[40], to[8];

		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n += readlink(name, to, sizeof(to)) > 0;
	}
	return n;
}

/* Connections that were on a ring leave nothing behind. */
static void leaves_nothing(struct scene *s)
{
	int maps = 0, fds = 0, fd;

	for (int i = 0; i < 12; i++) {
		fd = another_connection(s);
		echo(s, fd, 5000);
		s->connections--;
		barrier(s);
		close(fd);
		if (i == 4) {
			maps = lines_of("/proc/self/maps");
			fds = descriptors();
		}
	}
	say("memory: %s, descriptors: %s", lines_of("/proc/self/maps") > maps + 6 ? "more" : "as before",
	    descriptors() > fds ? "more" : "as before");
	barrier(s);
}

/* ---- processes and threads ---- */

static _Atomic int going = 1;

static void *keeps_talking(void *arg)
{
	struct scene *s = arg;

	while (going)
		echo(s, s->fd, 3000);
	return NULL;
}

static void first_calls(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), set = epoll_create1(0), other;
	struct epoll_event ev = { .events = EPOLLIN };
	socklen_t len = sizeof(at);
	char c;

	alarm(30);
	if (bind(l, (struct sockaddr *)&at, len) < 0 || listen(l, 1) < 0 || getsockname(l, (struct sockaddr *)&at, &len) < 0 ||
	    connect(fd, (struct sockaddr *)&at, len) < 0 || (other = accept(l, NULL, NULL)) < 0 ||
	    epoll_ctl(set, EPOLL_CTL_ADD, other, &ev) < 0 || write(fd, "1", 1) != 1 || epoll_wait(set, &ev, 1, -1) != 1 ||
	    recv(other, &c, 1, 0) != 1)
		_exit(1);
	_exit(0);
}

/* A thread is inside calls whenever there is a fork; the children begin with calls of their own. */
static void children_among_threads(struct scene *s)
{
	int good = 0, status;
	pthread_t t;
	pid_t pid;

	if (s->is_server) {
		char buf[3000];
		ssize_t n;

		while ((n = recv(s->fd, buf, sizeof(buf), 0)) > 0)
			if (send(s->fd, buf, (size_t)n, 0) != n)
				die("send");
		say("the end: %zd", n);
		barrier(s);
		return;
	}
	if (pthread_create(&t, NULL, keeps_talking, s))
		die("pthread_create");
	for (int i = 0; i < 30; i++) {
		pid = fork();
		if (pid == 0)
			first_calls();
		if (waitpid(pid, &status, 0) == pid && status == 0)
			good++;
	}
	going = 0;
	pthread_join(t, NULL);
	say("%d children", good);
	close(s->fd);
	barrier(s);
}

/* The child goes on with the connection when its parent has gone. */
static void becomes_daemon(struct scene *s)
{
	int status;
	pid_t pid;

	echo(s, s->fd, 50000);
	barrier(s);
	if (s->is_server) {
		echo(s, s->fd, 50000);
		say_recv_all("the end", s->fd);
		return;
	}
	pid = fork();
	if (pid == 0) {
		if (daemon(1, 1) < 0)
			_exit(1);
		echo(s, s->fd, 50000);
		_exit(0);
	}
	close(s->fd);
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	say("status %d", status);
}

static sigjmp_buf back;
static int connection;

static void jump(int sig)
{
	siglongjmp(back, sig);
}

static void handle(int sig, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	if (sigaction(sig, &sa, NULL) < 0)
		die("sigaction");
}

/* Out of a call that sleeps: the next one finds everything free. */
static void jumps_out_of_calls(struct scene *s)
{
	static char alternate[65536];
	stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	volatile int set = epoll_create1(0);
	char c;

	if (!s->is_server) {
		sigaltstack(&st, NULL);
		epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &ev);
		for (volatile int i = 0; i < 5; i++) {
			if (sigsetjmp(back, 1)) {
				say("out of call %d", i);
				continue;
			}
			handle(SIGUSR1, jump, i % 2 ? SA_ONSTACK : SA_RESTART);
			about_to_sleep(s);
			if (i == 0)
				told("recv", recv(s->fd, &c, 1, 0));
			if (i == 1)
				told("poll", poll(&p, 1, -1));
			if (i == 2)
				told("epoll_wait", epoll_wait(set, &ev, 1, -1));
			if (i == 3)
				told("recv all", recv(s->fd, alternate, 10, MSG_WAITALL));
			if (i == 4)
				told("read", read(s->fd, &c, 1));
		}
	}
	for (int i = 0; s->is_server && i < 5; i++)
		kill(other_sleeps(s), SIGUSR1);
	barrier(s);
	for (int i = 0; i < 20; i++)
		echo(s, s->fd, 10000);
	barrier(s);
	/* nobody is in a call any more, so this is the last close */
	if (s->is_server)
		say_recv_all("the end", s->fd);
	else
		close(s->fd);
	barrier(s);
}

static void talks(int sig)
{
	int saved = errno;
	char c;

	(void)sig;
	if (send(connection, "h", 1, MSG_NOSIGNAL) != 1)
		_exit(9);
	(void)!recv(connection, &c, 1, MSG_DONTWAIT | MSG_PEEK);
	errno = saved;
}

/* The handler makes calls on the connection on which a call sleeps. */
static void handler_makes_calls(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	char c;

	connection = s->fd;
	for (int i = 0; i < 3; i++) {
		if (s->is_server) {
			kill(other_sleeps(s), SIGUSR1);
			if (recv(s->fd, &c, 1, 0) != 1 || send(s->fd, &c, 1, 0) != 1)
				die("answering");
			continue;
		}
		handle(SIGUSR1, talks, SA_RESTART);
		about_to_sleep(s);
		if (i == 0)
			told("recv", recv(s->fd, &c, 1, 0));
		if (i == 1)
			told("read", read(s->fd, &c, 1));
		if (i == 2) {
			told("poll", poll(&p, 1, 20000));	/* it is interrupted in spite of SA_RESTART */
			told("recv", recv(s->fd, &c, 1, 0));
		}
	}
	barrier(s);
}

static void *reads_for_ever(void *arg)
{
	char buf[100];

	while (recv(*(int *)arg, buf, sizeof(buf), 0) > 0)
		;
	return NULL;
}

static void *sends_for_ever(void *arg)
{
	while (send(*(int *)arg, "something", 9, MSG_NOSIGNAL) > 0)
		;
	return NULL;
}

/* exit() while threads are inside calls. */
static void exits_among_threads(struct scene *s)
{
	pthread_t t;

	if (s->is_server) {
		char buf[1000];
		ssize_t n;

		while ((n = recv(s->fd, buf, sizeof(buf), 0)) > 0)
			;
		say("the end: %s", n ? errno_name(errno) : "0");
		return;
	}
	for (int i = 0; i < 4; i++)
		if (pthread_create(&t, NULL, i % 2 ? reads_for_ever : sends_for_ever, &s->fd))
			die("pthread_create");
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	exit(0);
}

/* ---- rest ---- */

static int64_t used_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Nobody spins while nothing comes, in whatever call. */
static void idle_costs_nothing(struct scene *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct timeval tv = { .tv_usec = 300000 };
	int set = epoll_create1(0);
	fd_set r;
	int64_t before;
	char c;

	epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &ev);
	barrier(s);
	if (s->is_server) {
		if (recv(s->step, &c, 1, 0) != 1)	/* the client has come to its last call */
			die("step");
		nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
		send_exactly(s->fd, 1);
		barrier(s);
		return;
	}
	before = used_ms();
	told("poll", poll(&p, 1, 300));
	told("epoll_wait", epoll_wait(set, &ev, 1, 300));
	FD_ZERO(&r);
	FD_SET(s->fd, &r);
	told("select", select(s->fd + 1, &r, NULL, NULL, &tv));
	if (send(s->step, "g", 1, 0) != 1)
		die("step");
	told("recv", recv(s->fd, &c, 1, 0));
	say("%s", used_ms() - before > 60 ? "it has worked" : "it has slept");
	barrier(s);
}

const struct scene_case scenes_others[] = {
	{ "fortified", fortified },
	{ "streams_without_descriptor", streams_without_descriptor },
	{ "other_families", other_families },
	{ "high_numbers", high_numbers },
	{ "fifty_connections", fifty_connections },
	{ "leaves_nothing", leaves_nothing },
	{ "children_among_threads", children_among_threads },
	{ "becomes_daemon", becomes_daemon },
	{ "jumps_out_of_calls", jumps_out_of_calls },
	{ "handler_makes_calls", handler_makes_calls },
	{ "exits_among_threads", exits_among_threads },
	{ "idle_costs_nothing", idle_costs_nothing },
	{ NULL, NULL },
};
