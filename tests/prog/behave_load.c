/* SPDX-License-Identifier: MIT */
/* behave_load.c - how a program is started, what is loaded into it later, and the limits that it lives under. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "behave.h"

/* What was loaded, for the script. */
static void leave_maps(void)
{
	const char *to = getenv("BEHAVE_MAPS");
	FILE *out = to ? fopen(to, "w") : NULL, *in = fopen("/proc/self/maps", "r");
	char line[600];

	while (out && in && fgets(line, sizeof(line), in))
		fputs(line, out);
	if (out)
		fprintf(out, "secure %lu\n", getauxval(AT_SECURE));
	if (out)
		fclose(out);
	if (in)
		fclose(in);
}

static void *in_thread(void *arg)
{
	struct scene *s = arg;

	for (int i = 0; i < 20; i++)
		echo(s, s->fd, 10000);
	return NULL;
}

/* A little of everything. */
static void exchange(struct scene *s)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 6 };
	int set = epoll_create1(0);
	pthread_t t;
	char buf[10];

	echo(s, s->fd, 300000);
	if (pthread_create(&t, NULL, in_thread, s))
		die("pthread_create");
	pthread_join(t, NULL);
	if (epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		die("epoll_ctl");
	barrier(s);
	for (int i = 0; i < 50; i++) {
		if (s->is_server && send(s->fd, "ping", 4, 0) != 4)
			die("send");
		if (epoll_wait(set, &ev, 1, 5000) != 1 || recv(s->fd, buf, 4, MSG_WAITALL) != 4)
			die("epoll_wait");
		if (!s->is_server && send(s->fd, "pong", 4, 0) != 4)
			die("send");
	}
	leave_maps();
	say("all the bytes have come");
	barrier(s);
	if (s->is_server)
		shutdown(s->fd, SHUT_WR);
	else
		say_recv_all("the end", s->fd);
	barrier(s);
}

/* ---- libraries that come later ---- */

static void with_library(struct scene *s, int mode)
{
	const char *path = getenv("BEHAVE_LIBRARY");
	int (*talk)(int, size_t);
	void *lib;

	if (s->is_server) {
		char buf[20000];

		for (int i = 0; i < 3; i++) {
			for (size_t n = 0; n < sizeof(buf);) {
				ssize_t k = recv(s->fd, buf + n, sizeof(buf) - n, 0);

				if (k <= 0)
					die("recv");
				n += (size_t)k;
			}
			if (send(s->fd, buf, sizeof(buf), 0) != sizeof(buf))
				die("send");
		}
		barrier(s);
		return;
	}
	for (int i = 0; i < 3; i++) {
		lib = path ? dlopen(path, mode) : NULL;
		if (!lib)
			die(path ? dlerror() : "BEHAVE_LIBRARY is not set");
		*(void **)&talk = dlsym(lib, "early_talk");
		say("it talks: %d", talk(s->fd, 20000));
		dlclose(lib);
	}
	barrier(s);
}

static void dlopen_lazy(struct scene *s) { with_library(s, RTLD_LAZY); }
static void dlopen_now_global(struct scene *s) { with_library(s, RTLD_NOW | RTLD_GLOBAL); }
static void dlopen_deepbind(struct scene *s) { with_library(s, RTLD_NOW | RTLD_DEEPBIND); }

/* ---- descriptors ---- */

static void limit_to(rlim_t n)
{
	struct rlimit rl;

	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = n;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		die("setrlimit");
	getrlimit(RLIMIT_NOFILE, &rl);
	say("limit: %llu", (unsigned long long)rl.rlim_cur);
}

/* How many more can be opened, and the number of the last one. */
static void fill_up(void)
{
	int fds[100], n = 0;

	while (n < 100 && (fds[n] = open("/dev/null", O_RDONLY)) >= 0)
		n++;
	say("%d more, the last is %d, then %s", n, n ? fds[n - 1] : -1, n < 100 ? errno_name(errno) : "no end");
	while (n)
		close(fds[--n]);
}

static void wait_for_it(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct epoll_event ev;
	fd_set set;
	char c;

	barrier(s);
	if (s->is_server) {
		for (int i = 0; i < 3; i++) {
			if (send(s->fd, "1", 1, 0) != 1 || recv(s->fd, &c, 1, 0) != 1)
				die("serving");
		}
		return;
	}
	say("poll: %d", poll(&p, 1, 5000));
	if (recv(s->fd, &c, 1, 0) != 1 || send(s->fd, "2", 1, 0) != 1)
		die("poll");
	FD_ZERO(&set);
	FD_SET(s->fd, &set);
	say("select: %d", select(s->fd + 1, &set, NULL, NULL, NULL));
	if (recv(s->fd, &c, 1, 0) != 1 || send(s->fd, "2", 1, 0) != 1)
		die("select");
	(void)ev;
	if (recv(s->fd, &c, 1, 0) != 1 || send(s->fd, "2", 1, 0) != 1)
		die("recv");
}

/* The limit goes below the descriptors that are open, and up again. */
static void limit_changes(struct scene *s)
{
	static const rlim_t steps[] = { 12, 40, 1024, 5, 300 };
	int more;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (!s->is_server) {
			limit_to(steps[i]);
			if (steps[i] < 60)
				fill_up();
		}
		echo(s, s->fd, 50000);
		wait_for_it(s);
	}
	more = another_connection(s);
	echo(s, more, 50000);
	barrier(s);
}

/* From the start there is room for few: then connections stay on TCP, and the program has its numbers. */
static void limit_is_small(struct scene *s)
{
	int more, copy;

	if (!s->is_server)
		limit_to(14);
	more = young_connection(s);
	for (int i = 0; i < 30; i++)
		echo(s, more, 1000);
	if (!s->is_server) {
		fill_up();
		copy = dup(more);
		say("copy: %d", copy);
		fill_up();
	}
	echo(s, s->fd, 50000);
	echo(s, more, 50000);
	barrier(s);
}

/* As a program sees itself: its own, and others only at the top of the range, which go over exec with nothing. */
static void numbers_in_proc(struct scene *s)
{
	struct rlimit rl;
	struct dirent *e;
	int own = 0, strange = 0, open_over_exec = 0, closed = 0;
	DIR *d;

	getrlimit(RLIMIT_NOFILE, &rl);
	d = opendir("/proc/self/fd");
	while (d && (e = readdir(d))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] == '.' || fd == dirfd(d))
			continue;
		if (fd < 64) {
			own++;
			continue;
		}
		/* not the program's: at the top, and nothing that it could close */
		strange += (rlim_t)fd < rl.rlim_cur / 2;
		open_over_exec += fcntl(fd, F_GETFD) >= 0;
		closed += close(fd) == 0;
	}
	closedir(d);
	say("%d of its own, %d in the middle, %d it can ask for, %d it can close", own, strange, open_over_exec, closed);
	echo(s, s->fd, 100000);
	barrier(s);
}

/* With 0, 1 and 2 closed at the start (BEHAVE_OUT has what is said): they are the program's, and stay as it leaves them. */
static void standard_ones(const char *when)
{
	char text[80] = "";

	for (int fd = 0; fd < 3; fd++)
		strcat(text, fcntl(fd, F_GETFD) < 0 ? " closed" : " open");
	say("%s:%s", when, text);
}

static void closed_at_start(struct scene *s)
{
	int low = -1, pair[2];
	char buf[100];

	if (!s->is_server) {
		say("connection %d, steps %d", s->fd, s->step);
		standard_ones("at first");
	}
	echo(s, s->fd, 100000);
	barrier(s);
	if (!s->is_server) {
		standard_ones("on a ring");
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
			die("socketpair");
		say("pair: %d %d", pair[0], pair[1]);
	}
	low = another_connection(s);
	if (!s->is_server) {
		say("another: %d", low);
		/* a fault that the log would have */
		echo(s, low, 100000);
		say("nothing was written to %d: %zd", pair[1], recv(pair[0], buf, sizeof(buf), MSG_DONTWAIT));
		standard_ones("afterwards");
		close(pair[1]);
		say("only the end is: %zd", recv(pair[0], buf, sizeof(buf), MSG_DONTWAIT));
	} else {
		echo(s, low, 100000);
	}
	barrier(s);
}

const struct scene_case scenes_load[] = {
	{ "load_exchange", exchange },
	{ "dlopen_lazy", dlopen_lazy },
	{ "dlopen_now_global", dlopen_now_global },
	{ "dlopen_deepbind", dlopen_deepbind },
	{ "limit_changes", limit_changes },
	{ "limit_is_small", limit_is_small },
	{ "numbers_in_proc", numbers_in_proc },
	{ "closed_at_start", closed_at_start },
	{ NULL, NULL },
};
