/* SPDX-License-Identifier: MIT */
/* behave_fork.c - a connection that a fork has given to two processes. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "behave.h"

#define ROUNDS 300
#define RECORD 100
#define RECORDS 150	/* of two writers, fits into the send buffer: TCP splits a send that has to wait */

static pid_t fork_or_die(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	return pid;
}

/* As a forking server does it. */
static void child_serves(struct scene *s)
{
	pid_t pid;

	if (!s->is_server) {
		echo(s, s->fd, 2000000);
		shutdown(s->fd, SHUT_WR);
		say_recv_all("after the echo", s->fd);
		barrier(s);
		return;
	}
	pid = fork_or_die();
	if (pid == 0) {
		echo(s, s->fd, 2000000);
		say_recv_all("child", s->fd);
		_exit(0);
	}
	close(s->fd);
	reap(pid);
	barrier(s);
}

/* The parent goes on, the child only inherits and ends; its end must not close the connection. */
static void child_ends(struct scene *s, bool by_kill)
{
	pid_t pid;

	if (s->is_server) {
		pid = fork_or_die();
		if (pid == 0) {
			if (by_kill)
				raise(SIGKILL);
			_exit(0);
		}
		reap(pid);
	}
	echo(s, s->fd, 500000);
	barrier(s);
}

static void child_exits(struct scene *s) { child_ends(s, false); }
static void child_is_killed(struct scene *s) { child_ends(s, true); }

/* The client forks, with data unread and under way. */
static void client_forks(struct scene *s)
{
	pid_t pid;

	if (s->is_server) {
		send_exactly(s->fd, 30000);
		barrier(s);
		recv_exactly(s->fd, 30000);
		send_exactly(s->fd, 40000);
		say_recv_all("server", s->fd);
		barrier(s);
		return;
	}
	barrier(s);
	pid = fork_or_die();
	if (pid == 0) {
		recv_exactly(s->fd, 30000);	/* sent before the fork */
		send_exactly(s->fd, 30000);
		_exit(0);
	}
	reap(pid);
	recv_exactly(s->fd, 40000);
	shutdown(s->fd, SHUT_WR);
	barrier(s);
}

/* One process reads, the other writes. */
static void reader_and_writer(struct scene *s)
{
	pid_t pid;

	if (s->is_server) {
		pid = fork_or_die();
		if (pid == 0) {
			send_exactly(s->fd, 3000000);
			_exit(0);
		}
		recv_exactly(s->fd, 3000000);
		reap(pid);
	} else {
		pid = fork_or_die();
		if (pid == 0) {
			recv_exactly(s->fd, 3000000);
			_exit(0);
		}
		send_exactly(s->fd, 3000000);
		reap(pid);
	}
	say("3000000 bytes each way");
	barrier(s);
}

static void write_records(int fd, char who)
{
	char record[RECORD];
	int i;

	for (i = 0; i < RECORDS; i++) {
		memset(record, who, sizeof(record));
		memcpy(record, &i, sizeof(i));
		if (send(fd, record, sizeof(record), MSG_NOSIGNAL) != RECORD)
			die("send of a record");
	}
}

/* Both write: sends stay whole, each one's in its order. */
static void both_write(struct scene *s)
{
	char record[RECORD];
	int next[2] = { 0, 0 }, n, i, who;
	pid_t pid;

	if (s->is_server) {
		pid = fork_or_die();
		write_records(s->fd, pid == 0 ? 'c' : 'p');
		if (pid == 0)
			_exit(0);
		reap(pid);
		barrier(s);
		return;
	}
	for (i = 0; i < 2 * RECORDS; i++) {
		if (recv(s->fd, record, sizeof(record), MSG_WAITALL) != RECORD)
			die("recv of a record");
		memcpy(&n, record, sizeof(n));
		who = record[RECORD - 1] == 'c';
		if (n != next[who]++ || record[4] != record[RECORD - 1]) {
			say("record %d is number %d of %c, or mixed", i, n, record[4]);
			exit(1);
		}
	}
	say("%d records of each", RECORDS);
	barrier(s);
}

/* A daemon: the parent ends, the child goes on. */
static void parent_exits(struct scene *s)
{
	if (s->is_server && fork_or_die() > 0) {
		/* the step socket and output are the child's as well */
		_exit(0);
	}
	echo(s, s->fd, 1000000);
	barrier(s);
}

static void wait_in(int ep, const char *when)
{
	struct epoll_event ev;
	int n = epoll_wait(ep, &ev, 1, 10000);

	if (n != 1 || !(ev.events & EPOLLIN)) {
		say("%s: %d events", when, n);
		exit(1);
	}
}

/* What a child closes stays in the sets of its parent. */
static void epoll_child_closes(struct scene *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep;
	pid_t pid;

	if (!s->is_server) {
		echo(s, s->fd, 1000);
		barrier(s);
		for (int i = 0; i < ROUNDS; i++)
			echo(s, s->fd, 1);
		shutdown(s->fd, SHUT_WR);
		say_recv_all("the end", s->fd);
		return;
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		die("epoll");
	wait_in(ep, "before");
	echo(s, s->fd, 1000);
	pid = fork_or_die();
	if (pid == 0) {
		close(s->fd);
		_exit(0);
	}
	reap(pid);
	barrier(s);
	for (int i = 0; i < ROUNDS; i++) {	/* in some of them it sleeps before the byte comes */
		wait_in(ep, "after");
		echo(s, s->fd, 1);
	}
	wait_in(ep, "the end");
	say_recv_all("the end", s->fd);
	close(ep);
}

/* The child ends when the kernel has given it 10 bytes, and nobody knows of them. */
static void kill_in_a_read(pid_t pid)
{
	struct __ptrace_syscall_info info;
	uint64_t call = 0;
	int status;

	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0) {
			if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
				call = info.entry.nr;
			if (info.op == PTRACE_SYSCALL_INFO_EXIT && (call == SYS_recvmsg || call == SYS_recvfrom) &&
			    info.exit.rval == 10)
				kill(pid, SIGKILL);
		}
		(void)ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD);
		(void)ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
	}
	say("child: status 0x%x", status);
}

/* A child that shares the connection is killed in a receive of bytes that came by TCP. What follows them is the parent's. */
static void child_killed_in_a_read(struct scene *s)
{
	struct pollfd p = { .fd = young_connection(s), .events = POLLIN };
	char buf[64];
	pid_t pid;

	introduce(s, p.fd);
	barrier(s);
	if (s->is_server) {
		send_exactly(p.fd, 10);
		barrier(s);
		barrier(s);
		send_part(p.fd, 10, 30);
		barrier(s);
		barrier(s);
		return;
	}
	barrier(s);
	pid = fork_or_die();
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
			raise(SIGSTOP);
		(void)recv(p.fd, buf, 10, 0);
		_exit(0);
	}
	kill_in_a_read(pid);
	say("nothing: %d", poll(&p, 1, 0));
	barrier(s);
	barrier(s);
	say("poll: %d", poll(&p, 1, 3000));
	say("recv: %zd", recv(p.fd, buf, sizeof(buf), MSG_DONTWAIT));
	barrier(s);
}

/* It has returned from a system call that sent 10 bytes. */
static bool left_send(pid_t pid)
{
	struct __ptrace_syscall_info info;

	return ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0 && info.op == PTRACE_SYSCALL_INFO_EXIT &&
	       info.exit.rval == 10;
}

/* How far the bytes reach that this process has put on its ring; NULL: it has none. */
static const volatile uint64_t *own_head(void)
{
	const volatile uint64_t *found = NULL;
	char line[256], mode[8], name[128];
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long at;

	while (f && !found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%*x %7s %*s %*s %*s %127s", &at, mode, name) == 3 && !strcmp(mode, "rw-s") &&
		    strstr(name, "memfd:") && !memcmp((const void *)at, "RHSX", 4))
			found = (const volatile uint64_t *)(at + 64);
	if (f)
		fclose(f);
	return found;
}

/* The child ends when what it sends is there for the other end, and it has not come to anything else. */
static void kill_in_a_send(pid_t pid)
{
	const volatile uint64_t *head = own_head();
	uint64_t was = head ? *head : 0;
	int status;

	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		if (head && *head != was)
			kill(pid, SIGKILL);
		else if (!head && WSTOPSIG(status) == (SIGTRAP | 0x80) && left_send(pid))
			kill(pid, SIGKILL);
		(void)ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD);
		(void)ptrace(head ? PTRACE_SINGLESTEP : PTRACE_SYSCALL, pid, NULL, NULL);
	}
	say("child: status 0x%x", status);
}

/*
 * A child that shares the connection is killed in a send. The other end, which sleeps, gets what was sent once the parent makes a call;
 * and what the parent sends after that, on this ring and, if it leaves that, on the next.
 */
static void child_killed_in_a_send(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };
	char buf[10];
	pid_t pid;

	barrier(s);
	if (s->is_server) {
		recv_exactly(s->fd, 10);
		barrier(s);
		recv_part(s->fd, 10, 30);
	} else {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = (char)pattern(i);
		pid = fork_or_die();
		if (pid == 0) {
			if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
				raise(SIGSTOP);
			(void)send(s->fd, buf, sizeof(buf), 0);
			_exit(0);
		}
		kill_in_a_send(pid);
		say("poll: %d", poll(&p, 1, 3000));
		barrier(s);
		send_part(s->fd, 10, 30);
	}
	barrier(s);
	for (int i = 0; i < 6; i++) {
		echo(s, s->fd, 100000);
		barrier(s);
	}
	say("all that was sent");
}

#define OF_ALL 4
#define EACH 2000

struct tally {
	_Atomic unsigned int told, vain, served;
};

static void enter(int ep, int op, int fd, uint32_t events, int which)
{
	struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)which };

	if (epoll_ctl(ep, op, fd, &ev) < 0)
		die("epoll_ctl");
}

/* Until the eventfd, which is the last, says that all have been served. */
static void serve(int ep, const int *fds, uint32_t how, struct tally *t)
{
	struct epoll_event ev;
	uint64_t one = 1;
	char byte;
	int i;

	for (;;) {
		if (epoll_wait(ep, &ev, 1, 20000) != 1)
			die("epoll_wait");
		i = (int)ev.data.u64;
		if (i == OF_ALL)
			return;
		t->told++;
		if (recv(fds[i], &byte, 1, MSG_DONTWAIT) != 1)
			t->vain++;
		else if (send(fds[i], &byte, 1, 0) != 1)
			die("send");
		else if (++t->served == OF_ALL * EACH && write(fds[OF_ALL], &one, sizeof(one)) != sizeof(one))
			die("write");
		if (how & EPOLLONESHOT)
			enter(ep, EPOLL_CTL_MOD, fds[i], EPOLLIN | how, i);
	}
}

/* Each byte is news to one of three processes that sleep in one set, and to none twice. */
static void told_to_one(struct scene *s, uint32_t how)
{
	int ep = epoll_create1(0), fds[OF_ALL + 1] = { s->fd }, i, round;
	struct tally *t;
	pid_t pid[2];

	for (i = 1; i < OF_ALL; i++)
		fds[i] = another_connection(s);
	if (!s->is_server) {
		barrier(s);
		for (round = 0; round < EACH; round++) {
			for (i = 0; i < OF_ALL; i++)
				send_part(fds[i], (size_t)round, 1);
			for (i = 0; i < OF_ALL; i++)
				recv_part(fds[i], (size_t)round, 1);
		}
		barrier(s);
	} else {
		t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		fds[OF_ALL] = eventfd(0, 0);
		if (t == MAP_FAILED || fds[OF_ALL] < 0)
			die("mmap, eventfd");
		for (i = 0; i < OF_ALL; i++)
			enter(ep, EPOLL_CTL_ADD, fds[i], EPOLLIN | how, i);
		enter(ep, EPOLL_CTL_ADD, fds[OF_ALL], EPOLLIN, OF_ALL);
		for (i = 0; i < 2; i++) {
			pid[i] = fork_or_die();
			if (pid[i] == 0) {
				serve(ep, fds, how, t);
				_exit(0);
			}
		}
		barrier(s);
		serve(ep, fds, how, t);
		reap(pid[0]);
		reap(pid[1]);
		say("%u bytes, told %u times, in vain %u", t->served, t->told, t->vain);
		close(fds[OF_ALL]);
		barrier(s);
	}
	for (i = 1; i < OF_ALL; i++)
		close(fds[i]);
	close(ep);
}

struct meeting {
	_Atomic unsigned int here, added;
};

/* Until both have come to the n-th. */
static void meet(struct meeting *m, unsigned int n)
{
	atomic_fetch_add(&m->here, 1);
	while (atomic_load(&m->here) < 2 * n)
		sched_yield();
}

static void try_to_add(struct meeting *m, int ep, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0)
		atomic_fetch_add(&m->added, 1);
	else if (errno != EEXIST)
		die("epoll_ctl");
}

/* Two processes add one connection to one set at the same time: one can, and then it is there. */
static void added_by_two(struct scene *s)
{
	unsigned int missed = 0, n = 0;
	struct epoll_event ev;
	struct meeting *m;
	pid_t pid;
	int ep;

	if (!s->is_server) {
		send_part(s->fd, 0, 1);
		barrier(s);
		barrier(s);
		return;
	}
	ep = epoll_create1(0);
	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		die("mmap");
	barrier(s);
	pid = fork_or_die();
	for (int round = 0; round < EACH; round++) {
		meet(m, ++n);
		try_to_add(m, ep, s->fd);
		meet(m, ++n);
		if (pid == 0)
			continue;
		missed += epoll_wait(ep, &ev, 1, 0) != 1;
		if (epoll_ctl(ep, EPOLL_CTL_DEL, s->fd, NULL) < 0)
			die("epoll_ctl");
	}
	if (pid == 0)
		_exit(0);
	reap(pid);
	say("added %u times, not told %u times", m->added, missed);
	recv_part(s->fd, 0, 1);
	close(ep);
	barrier(s);
}

static void edges_told_to_one(struct scene *s) { told_to_one(s, EPOLLET); }
static void oneshot_told_to_one(struct scene *s) { told_to_one(s, EPOLLONESHOT); }
static void oneshot_edges_told_to_one(struct scene *s) { told_to_one(s, EPOLLONESHOT | EPOLLET); }

#define KILLS 100

static void read_all(int ep, const int *fds, _Atomic unsigned int *ended)
{
	struct epoll_event ev;
	char buf[512];
	ssize_t n;
	int i;

	while (epoll_wait(ep, &ev, 1, 20000) == 1) {
		i = (int)ev.data.u64;
		while ((n = recv(fds[i], buf, sizeof(buf), MSG_DONTWAIT)) > 0)
			;
		if (n == 0)
			ended[i] = 1;
		else
			enter(ep, EPOLL_CTL_MOD, fds[i], EPOLLIN | EPOLLET | EPOLLONESHOT, i);
	}
	_exit(1);
}

/* Whoever is killed with an event in hand has taken it away; but nothing more than that, as the others see when they ask anew. */
static void killed_with_a_set(struct scene *s)
{
	int ep = epoll_create1(0), fds[OF_ALL] = { s->fd }, i, k, left = OF_ALL;
	struct pollfd killed = { .fd = s->step, .events = POLLIN };
	_Atomic unsigned int *ended;
	pid_t pid[2] = { 0 };

	for (i = 1; i < OF_ALL; i++)
		fds[i] = another_connection(s);
	if (!s->is_server) {
		barrier(s);
		/* until the server has killed as many as it wants, and some more */
		while (poll(&killed, 1, 0) == 0)
			for (i = 0; i < OF_ALL; i++)
				send_exactly(fds[i], 400);
		barrier(s);
		for (k = 0; k < 100; k++)
			for (i = 0; i < OF_ALL; i++)
				send_exactly(fds[i], 400);
		for (i = 0; i < OF_ALL; i++)
			shutdown(fds[i], SHUT_WR);
		barrier(s);
		return;
	}
	ended = mmap(NULL, OF_ALL * sizeof(*ended), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ended == MAP_FAILED)
		die("mmap");
	for (i = 0; i < OF_ALL; i++)
		enter(ep, EPOLL_CTL_ADD, fds[i], EPOLLIN | EPOLLET | EPOLLONESHOT, i);
	barrier(s);
	for (k = 0; left; k++) {
		if (pid[k & 1] && k < KILLS) {
			kill(pid[k & 1], SIGKILL);
			waitpid(pid[k & 1], NULL, 0);
			pid[k & 1] = 0;
			for (i = 0; i < OF_ALL; i++)
				enter(ep, EPOLL_CTL_MOD, fds[i], EPOLLIN | EPOLLET | EPOLLONESHOT, i);
		}
		if (!pid[k & 1]) {
			pid[k & 1] = fork_or_die();
			if (pid[k & 1] == 0)
				read_all(ep, fds, ended);
		}
		if (k == KILLS)
			barrier(s);
		usleep((useconds_t)(k * 7919 % 1000));
		for (left = OF_ALL, i = 0; i < OF_ALL; i++)
			left -= (int)ended[i];
	}
	for (i = 0; i < 2; i++)
		if (pid[i]) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
	say("all ends have been seen");
	barrier(s);
}

const struct scene_case scenes_fork[] = {
	{ "child_killed_in_a_send", child_killed_in_a_send },
	{ "child_killed_in_a_read", child_killed_in_a_read },
	{ "child_serves", child_serves },
	{ "child_exits", child_exits },
	{ "epoll_child_closes", epoll_child_closes },
	{ "added_by_two", added_by_two },
	{ "edges_told_to_one", edges_told_to_one },
	{ "oneshot_told_to_one", oneshot_told_to_one },
	{ "oneshot_edges_told_to_one", oneshot_edges_told_to_one },
	{ "killed_with_a_set", killed_with_a_set },
	{ "child_is_killed", child_is_killed },
	{ "client_forks", client_forks },
	{ "reader_and_writer", reader_and_writer },
	{ "both_write", both_write },
	{ "parent_exits", parent_exits },
	{ NULL, NULL },
};
