/* SPDX-License-Identifier: MIT */
/* behave_signal.c - a signal handler runs while a call sleeps. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "behave.h"

#define BIG (64u << 20)		/* more than all buffers and rings together hold */

static volatile sig_atomic_t signals;
static int step_fd;

/* Tells the other end, so that it goes on only after the handler has run. */
static void on_signal(int sig)
{
	int saved = errno;

	(void)sig;
	signals++;
	if (write(step_fd, "s", 1) != 1)
		_exit(3);
	errno = saved;
}

/* For the one SIGUSR1 that the other end sends once the call that follows is asleep (signal_other). */
static void expect_signal(struct scene *s, int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	step_fd = s->step;
	signals = 0;
	if (sigaction(SIGUSR1, &sa, NULL) < 0)
		die("sigaction");
	about_to_sleep(s);
}

static void await_handler(struct scene *s)
{
	char c;

	if (recv(s->step, &c, 1, 0) != 1)
		die("the other's handler");
}

/* What expect_signal() waits for; returns when the handler has run. */
static void signal_other(struct scene *s)
{
	if (kill(other_sleeps(s), SIGUSR1) < 0)
		die("kill");
	await_handler(s);
}

static void say_result(const char *what, ssize_t n)
{
	say("%s: %zd %s, signals %d", what, n, n < 0 ? errno_name(errno) : "", (int)signals);
}

static void receive_twice(struct scene *s, size_t len, int flags)
{
	char buf[64];

	say_result("recv", recv(s->fd, buf, len, flags));
	say_result("recv again", recv(s->fd, buf, len, 0));
}

/* The client sleeps in a receive, the handler runs, then the server sends 10 bytes. */
static void interrupted_receive(struct scene *s, int sa_flags, int flags, size_t len, long timeout_ms)
{
	struct timeval tv = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };

	if (s->is_server) {
		if (flags & MSG_WAITALL)
			send_exactly(s->fd, 5);
		barrier(s);
		signal_other(s);
		send_exactly(s->fd, 10);
	} else {
		if (timeout_ms && setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0)
			die("setsockopt(SO_RCVTIMEO)");
		barrier(s);
		expect_signal(s, sa_flags);
		receive_twice(s, len, flags);
	}
	barrier(s);
}

static void nothing(int sig) { (void)sig; }

/* A handler for another signal, that does not come, has the other flag. */
static void another_handler(int sa_flags)
{
	struct sigaction sa = { .sa_handler = nothing, .sa_flags = sa_flags };

	if (sigaction(SIGUSR2, &sa, NULL) < 0 || sigaction(SIGTERM, &sa, NULL) < 0)
		die("sigaction");
}

static void receive_restarts_among_others(struct scene *s)
{
	another_handler(0);
	interrupted_receive(s, SA_RESTART, 0, 3, 0);
}

static void receive_is_interrupted_among_others(struct scene *s)
{
	another_handler(SA_RESTART);
	interrupted_receive(s, 0, 0, 3, 0);
}

/* Both signals are there when the receiver goes on: the kernel goes by the lower number. usr1, usr2: flags */
static void two_at_once(struct scene *s, int usr1, int usr2)
{
	struct sigaction one = { .sa_handler = on_signal, .sa_flags = usr1 }, two = { .sa_handler = on_signal, .sa_flags = usr2 };
	pid_t pid;

	step_fd = s->step;
	if (!s->is_server && (sigaction(SIGUSR1, &one, NULL) < 0 || sigaction(SIGUSR2, &two, NULL) < 0))
		die("sigaction");
	barrier(s);
	if (s->is_server) {
		pid = other_sleeps(s);
		kill(pid, SIGSTOP);
		await_state(pid, 'T');
		kill(pid, SIGUSR2);
		kill(pid, SIGUSR1);
		kill(pid, SIGCONT);
		await_handler(s);
		await_handler(s);
		send_exactly(s->fd, 10);
	} else {
		about_to_sleep(s);
		receive_twice(s, 3, 0);
	}
	barrier(s);
}

static void two_at_once_and_restart(struct scene *s) { two_at_once(s, SA_RESTART, 0); }
static void two_at_once_and_interrupt(struct scene *s) { two_at_once(s, 0, SA_RESTART); }

/* Being stopped and continued ends no receive, whatever handlers there are. */
static void receive_is_stopped(struct scene *s)
{
	pid_t pid;

	if (!s->is_server)
		another_handler(0);
	barrier(s);
	if (s->is_server) {
		pid = other_sleeps(s);
		for (int i = 0; i < 3; i++) {
			kill(pid, SIGSTOP);
			await_state(pid, 'T');
			kill(pid, SIGCONT);
			await_state(pid, 'S');
		}
		send_exactly(s->fd, 10);
	} else {
		about_to_sleep(s);
		receive_twice(s, 3, 0);
	}
	barrier(s);
}

static void receive_restarts(struct scene *s) { interrupted_receive(s, SA_RESTART, 0, 3, 0); }
static void receive_is_interrupted(struct scene *s) { interrupted_receive(s, 0, 0, 3, 0); }
static void receive_all_restarts(struct scene *s) { interrupted_receive(s, SA_RESTART, MSG_WAITALL, 8, 0); }
static void receive_all_is_interrupted(struct scene *s) { interrupted_receive(s, 0, MSG_WAITALL, 8, 0); }
static void receive_with_time_limit(struct scene *s) { interrupted_receive(s, SA_RESTART, 0, 3, 20000); }

/* The client fills everything and sleeps in a send that has taken something already. */
static void interrupted_send(struct scene *s, int sa_flags)
{
	static char big[BIG];
	ssize_t n;

	if (s->is_server) {
		barrier(s);
		signal_other(s);
		while ((n = recv(s->fd, big, sizeof(big), 0)) > 0)
			;
		say_result("in the end", n);
	} else {
		barrier(s);
		expect_signal(s, sa_flags);
		n = send(s->fd, big, sizeof(big), MSG_NOSIGNAL);
		say("send took %s, signals %d", n > 0 && n < (ssize_t)sizeof(big) ? "a part" : "something else",
		    (int)signals);
		if (shutdown(s->fd, SHUT_WR) < 0)
			die("shutdown");
	}
	barrier(s);
}

static void send_stops(struct scene *s) { interrupted_send(s, 0); }
static void send_stops_in_spite_of_restart(struct scene *s) { interrupted_send(s, SA_RESTART); }

/* A send that finds no room at all begins anew, or says EINTR. */
static void interrupted_before_send(struct scene *s, int sa_flags)
{
	static char big[BIG];
	struct pollfd never = { .fd = -1 };
	ssize_t n;
	int full = 0;

	if (s->is_server) {
		barrier(s);
		signal_other(s);
		while ((n = recv(s->fd, big, sizeof(big), 0)) > 0)
			;
		say_result("in the end", n);
	} else {
		/* full for good: not a byte goes for half a second, in which buffers that can grow have grown */
		for (full = 0; full < 10; full++) {
			while ((n = send(s->fd, big, 65536, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
				full = 0;
			if (poll(&never, 1, 50) < 0)
				die("poll");
		}
		barrier(s);
		expect_signal(s, sa_flags);
		say_result("send", send(s->fd, big, 1000, MSG_NOSIGNAL));
		if (shutdown(s->fd, SHUT_WR) < 0)
			die("shutdown");
	}
	barrier(s);
}

static void send_restarts(struct scene *s) { interrupted_before_send(s, SA_RESTART); }
static void send_is_interrupted(struct scene *s) { interrupted_before_send(s, 0); }

static void send_restarts_among_others(struct scene *s)
{
	another_handler(0);
	interrupted_before_send(s, SA_RESTART);
}

/* What the program set is what it sees. */
static void say_disposition(const char *when, int sig)
{
	struct sigaction sa;

	if (sigaction(sig, NULL, &sa) < 0)
		die("sigaction");
	say("%s: %s, flags %x, mask%s%s", when,
	    sa.sa_handler == SIG_DFL ? "default" : sa.sa_handler == SIG_IGN ? "ignored" : sa.sa_handler == nothing ? "its own" :
													       "another",
	    (unsigned int)sa.sa_flags, sigismember(&sa.sa_mask, SIGUSR1) ? " USR1" : "",
	    sigismember(&sa.sa_mask, SIGHUP) ? " HUP" : "");
}

static volatile sig_atomic_t value, code;

static void take_value(int sig, siginfo_t *info, void *context)
{
	(void)context;
	signals++;
	value = info->si_value.sival_int;
	code = info->si_code;
	say("handler for %d", sig);
}

static void dispositions_among_rings(struct scene *s)
{
	struct sigaction sa = { .sa_handler = nothing, .sa_flags = SA_RESTART | SA_NOCLDSTOP };
	int sigs[] = { SIGHUP, SIGCHLD, SIGUSR1, SIGRTMIN + 3, SIGFPE };
	union sigval v = { .sival_int = 42 };

	barrier(s);
	for (size_t i = 0; !s->is_server && i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		int sig = sigs[i];

		say_disposition("before", sig);
		sigaddset(&sa.sa_mask, SIGHUP);
		sa.sa_handler = nothing;
		sa.sa_flags = SA_RESTART | SA_NOCLDSTOP;
		sigaction(sig, &sa, NULL);
		say_disposition("set", sig);
		raise(sig);
		say("signal: %d", signal(sig, SIG_IGN) == nothing);
		say_disposition("ignored", sig);
		raise(sig);
		say("signal: %d", signal(sig, nothing) == SIG_IGN);
		say_disposition("by signal", sig);
		sa.sa_sigaction = take_value;
		sa.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND);
		sigaction(sig, &sa, NULL);
		sigqueue(getpid(), sig, v);
		say("value %d, code %d", (int)value, (int)code);
		say_disposition("once only", sig);
		sa.sa_handler = nothing;
		sa.sa_flags = (int)(SA_RESETHAND | SA_NODEFER | SA_NOCLDSTOP);
		sigaction(sig, &sa, NULL);
		say_disposition("once", sig);
		raise(sig);
		say_disposition("once, and gone", sig);
		sigaction(sig, NULL, &sa);
		sa.sa_flags &= ~SA_NODEFER;
		sigaction(sig, &sa, NULL);
		say_disposition("put back", sig);
		sa.sa_sigaction = take_value;
		sa.sa_flags = SA_SIGINFO;
		sigaction(sig, &sa, NULL);
		sigqueue(getpid(), sig, v);
		say("value %d, code %d, %d signals", (int)value, (int)code, (int)signals);
		signal(sig, SIG_DFL);
		say_disposition("in the end", sig);
	}
	barrier(s);
}

/* poll is never restarted. */
static void poll_is_interrupted(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	barrier(s);
	if (s->is_server) {
		signal_other(s);
	} else {
		expect_signal(s, SA_RESTART);
		say_result("poll", poll(&p, 1, 10000));
	}
	barrier(s);
}

/* The client has a processor for itself, if there are two. */
static void part_processors(const struct scene *s)
{
	cpu_set_t all, last;
	int cpu = CPU_SETSIZE;

	if (sched_getaffinity(0, sizeof(all), &all) < 0 || CPU_COUNT(&all) < 2)
		return;
	while (!CPU_ISSET(--cpu, &all))
		;
	CPU_ZERO(&last);
	CPU_SET(cpu, &last);
	CPU_CLR(cpu, &all);
	sched_setaffinity(0, sizeof(all), s->is_server ? &all : &last);
}

#define BUSY_ROUNDS 2500
static volatile sig_atomic_t ticks;
static void on_tick(int sig) { (void)sig; ticks++; }

/*
 * A handler runs while a wait in a set is busy, because what was waited for before came soon: it has ended the wait all the same. Where the
 * timer was early, as the program had no processor, the next tick does; that is seldom.
 */
static void busy_wait_is_interrupted(struct scene *s)
{
	struct itimerval soon = { .it_value = { .tv_usec = 300 }, .it_interval = { .tv_usec = 5000 } }, off = { 0 };
	struct sigaction sa = { .sa_handler = on_tick };
	struct epoll_event ev = { .events = EPOLLIN };
	int set = epoll_create1(0), late = 0;

	part_processors(s);
	barrier(s);
	if (s->is_server) {
		for (int i = 0; i < BUSY_ROUNDS; i++)
			echo(s, s->fd, 1);
		barrier(s);
		return;
	}
	if (epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &ev) < 0 || sigaction(SIGALRM, &sa, NULL) < 0)
		die("epoll_ctl");
	for (int i = 0; i < BUSY_ROUNDS; i++) {
		send_exactly(s->fd, 1);
		if (epoll_wait(set, &ev, 1, -1) != 1)
			die("epoll_wait");
		recv_exactly(s->fd, 1);
		if (i % 5)
			continue;
		ticks = 0;
		setitimer(ITIMER_REAL, &soon, NULL);
		if (epoll_wait(set, &ev, 1, -1) >= 0 || errno != EINTR)
			die("epoll_wait, and nothing comes");
		late += ticks != 1;
		setitimer(ITIMER_REAL, &off, NULL);
	}
	say("%s", late > BUSY_ROUNDS / 50 ? "handlers have not ended waits" : "each handler has ended a wait");
	barrier(s);
}

const struct scene_case scenes_signal[] = {
	{ "receive_restarts", receive_restarts },
	{ "receive_is_interrupted", receive_is_interrupted },
	{ "receive_restarts_among_others", receive_restarts_among_others },
	{ "receive_is_interrupted_among_others", receive_is_interrupted_among_others },
	{ "two_at_once_and_restart", two_at_once_and_restart },
	{ "two_at_once_and_interrupt", two_at_once_and_interrupt },
	{ "receive_is_stopped", receive_is_stopped },
	{ "send_restarts_among_others", send_restarts_among_others },
	{ "dispositions_among_rings", dispositions_among_rings },
	{ "receive_all_restarts", receive_all_restarts },
	{ "receive_all_is_interrupted", receive_all_is_interrupted },
	{ "receive_with_time_limit", receive_with_time_limit },
	{ "send_stops", send_stops },
	{ "send_stops_in_spite_of_restart", send_stops_in_spite_of_restart },
	{ "send_restarts", send_restarts },
	{ "send_is_interrupted", send_is_interrupted },
	{ "poll_is_interrupted", poll_is_interrupted },
	{ "busy_wait_is_interrupted", busy_wait_is_interrupted },
	{ NULL, NULL },
};
