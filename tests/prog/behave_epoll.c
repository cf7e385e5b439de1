/* SPDX-License-Identifier: MIT */
/* behave_epoll.c - epoll sets as wholes: who is told of first, under which number a set goes. */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "behave.h"

#define TURNS 40

static void enter(int ep, int fd, uint64_t who)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = who };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

/* With room for one event, nobody who stays ready is passed over for ever. */
static void takes_turns(struct scene *s)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), other = eventfd(1, 0), told[2] = { 0 }, i;
	struct epoll_event ev;

	if (!s->is_server) {
		send_exactly(s->fd, 1);
		barrier(s);
		barrier(s);
		return;
	}
	enter(ep, s->fd, 0);
	enter(ep, other, 1);
	barrier(s);
	while (epoll_wait(ep, &ev, 1, 10000) == 1 && ev.data.u64 != 0)
		;	/* until the byte has come */
	for (i = 0; i < TURNS; i++) {
		if (epoll_wait(ep, &ev, 1, 0) != 1)
			die("epoll_wait");
		told[ev.data.u64]++;
	}
	say("the connection and the eventfd have their turns: %s", told[0] >= 5 && told[1] >= 5 ? "yes" : "no");
	recv_exactly(s->fd, 1);
	barrier(s);
	close(other);
	close(ep);
}

/* The number under which the set was made is closed, and means something else then. */
static void renumbered(struct scene *s)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), kept, fds[3], i;
	struct epoll_event ev;

	kept = dup(ep);
	close(ep);
	if (eventfd(0, 0) != ep)
		die("the number is not the lowest one");
	for (i = 0; i < 3; i++) {
		fds[i] = another_connection(s);
		if (s->is_server) {
			enter(kept, fds[i], (uint64_t)i);
			barrier(s);
			say("connection %d: %d events", i, epoll_wait(kept, &ev, 1, 10000));
			recv_exactly(fds[i], 1000);
			say("connection %d: then %d", i, epoll_wait(kept, &ev, 1, 0));
		} else {
			barrier(s);
			send_exactly(fds[i], 1000);
		}
		barrier(s);
	}
	for (i = 0; i < 3; i++)
		close(fds[i]);
	close(ep);
	close(kept);
}

#define ROUNDS 60

static volatile sig_atomic_t handler_fd, handled;
static void (*volatile in_handler)(void);

/* Where the signal has come: in the object that epoll_ctl is in. */
static bool is_in_a_call(const ucontext_t *u)
{
	Dl_info ours, its;
	uintptr_t at = 0;

#if defined(__x86_64__)
	at = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	at = (uintptr_t)u->uc_mcontext.pc;
#endif
	return !at || (dladdr((void *)at, &its) && dladdr((void *)(uintptr_t)epoll_ctl, &ours) && its.dli_fbase == ours.dli_fbase);
}

static void on_alarm(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)sig;
	(void)info;
	if (!handled && is_in_a_call(context)) {
		in_handler();
		handled = 1;
	}
	errno = saved;
}

/* One timer signal, at a moment that differs from round to round; calls on the set go on until it has come. */
static void signal_amid_calls(struct scene *s, int ep, unsigned int round)
{
	const struct itimerval off = { .it_value = { 0 } }, soon = { .it_value = { .tv_usec = 200 + 37 * (round * 7 % 24) },
		.it_interval = { .tv_usec = 211 } };
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 0 }, got[4];

	handled = 0;
	if (setitimer(ITIMER_REAL, &soon, NULL) < 0)
		die("setitimer");
	while (!handled) {
		for (int i = 0; i < 50; i++)
			if (epoll_ctl(ep, EPOLL_CTL_MOD, s->fd, &ev) < 0)
				die("epoll_ctl");
		if (epoll_wait(ep, got, 4, 0) < 0 && errno != EINTR)
			die("epoll_wait");
	}
	setitimer(ITIMER_REAL, &off, NULL);
}

static void handle(void (*what)(void))
{
	struct sigaction sa = { .sa_sigaction = on_alarm, .sa_flags = SA_RESTART | SA_SIGINFO };

	in_handler = what;
	if (sigaction(SIGALRM, &sa, NULL) < 0)
		die("sigaction");
}

static void close_it(void)
{
	close(handler_fd);
}

/*
 * A handler closes a connection that is in the set, and ready, on top of a call on the set: nothing is told of it any more, and the next one takes its
 * place there.
 */
static void closed_by_a_handler(struct scene *s)
{
	struct epoll_event ev = { .events = EPOLLIN }, got[4];
	int ep = epoll_create1(EPOLL_CLOEXEC), fd, n;
	unsigned int i;

	handle(close_it);
	if (s->is_server)
		enter(ep, s->fd, 0);
	for (i = 1; i <= ROUNDS; i++) {
		fd = another_connection(s);
		if (s->is_server) {
			handler_fd = fd;
			ev.data.u64 = i;
			if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
				say("round %u: %s", i, errno_name(errno));
			barrier(s);
			n = epoll_wait(ep, got, 4, 10000);
			if (n != 1 || got[0].data.u64 != i)
				say("round %u: %d events, the first is of %d", i, n, (int)got[0].data.u64);
			signal_amid_calls(s, ep, i);
			n = epoll_wait(ep, got, 4, 0);
			if (n)
				say("round %u: %d events after the close, the first is of %d", i, n, (int)got[0].data.u64);
			barrier(s);
		} else {
			send_exactly(fd, 1);
			barrier(s);
			barrier(s);
			close(fd);
		}
		s->connections--;
	}
	say("%d rounds", ROUNDS);
	barrier(s);
	close(ep);
}

static int made;	/* the child's set, by its parent */

static void fork_it(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 2 };
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		alarm(10);
		signal(SIGALRM, SIG_DFL);
		(void)epoll_wait(made, &ev, 1, 0);
		close(handler_fd);
		_exit(close(made) < 0);
	}
	reap(pid);
}

/* A handler forks on top of a call on the set, and the child has it, too. */
static void forked_by_a_handler(struct scene *s)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = another_connection(s);
	struct epoll_event ev;
	unsigned int i;

	handle(fork_it);
	made = ep;
	handler_fd = fd;
	barrier(s);
	if (s->is_server) {
		enter(ep, s->fd, 0);
		enter(ep, fd, 2);
		for (i = 0; i < ROUNDS; i++)
			signal_amid_calls(s, ep, i);
		barrier(s);
		say("%d events", epoll_wait(ep, &ev, 1, 10000));
		recv_exactly(fd, 100);
	} else {
		barrier(s);
		send_exactly(fd, 100);
	}
	barrier(s);
	close(fd);
	close(ep);
}

const struct scene_case scenes_epoll[] = {
	{ "closed_by_a_handler", closed_by_a_handler },
	{ "forked_by_a_handler", forked_by_a_handler },
	{ "takes_turns", takes_turns },
	{ "renumbered", renumbered },
	{ NULL, NULL },
};
