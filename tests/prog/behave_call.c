/* SPDX-License-Identifier: MIT */
/* behave_call.c - the same by other names: system calls by number, aliases, and what the C library does by itself. */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wordexp.h>

#include "behave.h"

/* ---- by number ---- */

/* The server sends lines of 10; the client takes each by another call. */
static void numbers_receive(struct scene *s)
{
	char buf[16], lines[] = "0........\n1........\n2........\n3........\n4........\n5........\n";
	struct iovec v = { buf, 10 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct mmsghdr mm = { .msg_hdr = m };
	int n[6];

	if (s->is_server) {
		send(s->fd, lines, 60, 0);
		barrier(s);
		return;
	}
	recv(s->fd, buf, 1, MSG_PEEK | MSG_WAITALL);
	n[0] = (int)syscall(SYS_read, s->fd, buf, 10);
	n[1] = (int)syscall(SYS_readv, s->fd, &v, 1);
	n[2] = (int)syscall(SYS_recvfrom, s->fd, buf, 10, 0, NULL, NULL);
	n[3] = (int)syscall(SYS_recvmsg, s->fd, &m, 0);
	n[4] = (int)syscall(SYS_preadv2, s->fd, &v, 1, -1L, -1L, 0);
	n[5] = (int)syscall(SYS_recvmmsg, s->fd, &mm, 1, 0, NULL);
	say("%d %d %d %d %d %d, at last '%.9s'", n[0], n[1], n[2], n[3], n[4], n[5], buf);
	n[0] = (int)syscall(SYS_recvfrom, s->fd, buf, 10, MSG_DONTWAIT, NULL, NULL);
	say("and then %d %s", n[0], errno_name(errno));
	barrier(s);
}

static void numbers_send(struct scene *s)
{
	char line[] = "123456789\n", buf[80] = "";
	struct iovec v = { line, 10 };
	struct mmsghdr mm = { .msg_hdr = { .msg_iov = &v, .msg_iovlen = 1 } };
	int n[5];

	if (s->is_server) {
		n[0] = (int)recv(s->fd, buf, 50, MSG_WAITALL);
		say("%d bytes: %.50s", n[0], buf);
		barrier(s);
		return;
	}
	n[0] = (int)syscall(SYS_write, s->fd, line, 10);
	n[1] = (int)syscall(SYS_writev, s->fd, &v, 1);
	n[2] = (int)syscall(SYS_sendto, s->fd, line, 10, 0, NULL, 0);
	n[3] = (int)syscall(SYS_sendmsg, s->fd, &mm.msg_hdr, 0);
	n[4] = (int)syscall(SYS_sendmmsg, s->fd, &mm, 1, 0);
	say("%d %d %d %d %d", n[0], n[1], n[2], n[3], n[4]);
	barrier(s);
}

static void numbers_ready(struct scene *s)
{
	struct timespec ts = { .tv_sec = 20 };
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	sigset_t none;
	fd_set set;
	int queued = 0, n;

	sigemptyset(&none);
	if (s->is_server) {
		barrier(s);
		send_exactly(s->fd, 5000);
		barrier(s);
		return;
	}
	n = (int)syscall(SYS_ppoll, &p, 1, &(struct timespec){ .tv_nsec = 1000000 }, &none, 8);
	say("nothing: %d %d", n, p.revents);
	barrier(s);
	n = (int)syscall(SYS_ppoll, &p, 1, &ts, &none, 8);
	say("ppoll: %d %d, time left: %s", n, p.revents, ts.tv_sec < 20 && ts.tv_sec > 5 ? "some" : "as it was");
	n = (int)syscall(SYS_ppoll, &p, 1, &ts, &none, 3);
	say("ppoll, mask of a strange size: %d %s", n, errno_name(errno));
	FD_ZERO(&set);
	FD_SET(s->fd, &set);
	n = (int)syscall(SYS_pselect6, s->fd + 1, &set, NULL, NULL, &ts, NULL);
	say("pselect6: %d, in the set: %d", n, FD_ISSET(s->fd, &set));
	recv_part(s->fd, 0, 1000);
	do {
		if (syscall(SYS_ioctl, s->fd, FIONREAD, &queued) < 0)
			die("FIONREAD");
	} while (queued < 4000);
	say("queued: %d", queued);
	recv_part(s->fd, 1000, 4000);
	barrier(s);
}

/* Numbers that come and go are known afterwards: a new connection on the same number is as good as any. */
static void numbers_close(struct scene *s)
{
	int copy, fd = s->fd;

	copy = (int)syscall(SYS_dup, fd);
	say("copy %d", copy);
	if (syscall(SYS_close, fd) < 0)
		die("close");
	echo(s, copy, 50000);
	if (syscall(SYS_dup3, copy, fd, 0) != fd || syscall(SYS_fcntl, fd, F_DUPFD, 30) != 30)
		die("dup3");
	syscall(SYS_close, copy);
	echo(s, 30, 50000);
	barrier(s);
	if (s->is_server) {
		syscall(SYS_close_range, 30, 30, 0);
		syscall(SYS_close, fd);
	} else {
		say_poll("all copies are closed", fd, POLLRDHUP);
		say_recv_all("all copies are closed", fd);
		close(30);
		close(fd);
	}
	s->connections = 0;
	fd = another_connection(s);
	say("new: %d", fd);
	echo(s, fd, 50000);
	barrier(s);
}

static void child_takes_over(struct scene *s, pid_t (*make)(void))
{
	pid_t pid;

	if (s->is_server) {
		pid = make();
		if (pid == 0) {
			echo(s, s->fd, 300000);
			_exit(0);
		}
		close(s->fd);
		reap(pid);
	} else {
		echo(s, s->fd, 300000);
		say_recv_all("after that", s->fd);
	}
	barrier(s);
}

static pid_t by_clone3(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static pid_t by_clone(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void numbers_clone(struct scene *s) { child_takes_over(s, by_clone); }
static void numbers_clone3(struct scene *s) { child_takes_over(s, by_clone3); }
static void bare_fork(struct scene *s) { child_takes_over(s, _Fork); }

/* ---- clone ---- */

static int closes_all(void *arg)
{
	struct scene *s = arg;

	close(s->fd);
	close(s->step);
	return 0;
}

/* As some spawn a program: the child has the parent's memory, but descriptors of its own. */
static void clone_as(struct scene *s, int flags)
{
	const size_t size = 256 * 1024;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		die("mmap");
	if (!s->is_server)
		reap(clone(closes_all, stack + size, flags | SIGCHLD, s));
	echo(s, s->fd, 300000);
	barrier(s);
}

static void clone_like_fork(struct scene *s) { clone_as(s, 0); }
static void clone_like_vfork(struct scene *s) { clone_as(s, CLONE_VM | CLONE_VFORK); }
static void clone_shares_memory(struct scene *s) { clone_as(s, CLONE_VM); }

/* ---- second names ---- */

ssize_t __read(int, void *, size_t);
ssize_t __write(int, const void *, size_t);
ssize_t __send(int, const void *, size_t, int);
int __close(int);
int __dup2(int, int);
int __fcntl(int, int, ...);
int __poll(struct pollfd *, nfds_t, int);
int __select(int, fd_set *, fd_set *, fd_set *, struct timeval *);

static void second_names(struct scene *s)
{
	struct pollfd p = { .fd = 40, .events = POLLIN };
	struct timeval tv = { .tv_sec = 10 };
	char buf[20] = "";
	fd_set set;
	int n;

	if (s->is_server) {
		say("%zd %zd", __write(s->fd, "abcde", 5), __send(s->fd, "fghij", 5, MSG_NOSIGNAL));
		barrier(s);
		say_recv_all("server", s->fd);
	} else {
		if (__dup2(s->fd, 40) != 40 || __close(s->fd) < 0)
			die("__dup2");
		n = __poll(&p, 1, 10000);
		say("__poll: %d %d", n, p.revents);
		FD_ZERO(&set);
		FD_SET(40, &set);
		say("__select: %d", __select(41, &set, NULL, NULL, &tv));
		barrier(s);
		n = (int)__read(40, buf, 10);
		say("__read: %d %s", n, buf);
		if (__fcntl(40, F_SETFL, O_NONBLOCK) < 0)
			die("__fcntl");
		n = (int)__read(40, buf, 10);
		say("__read: %d %s", n, errno_name(errno));
		__close(40);
	}
	barrier(s);
}

/* ---- the C library reads and writes ---- */

static void by_dprintf(struct scene *s)
{
	char buf[40] = "";

	if (s->is_server) {
		say("%zd write", write(s->fd, "one,", 4));
		say("%d dprintf", dprintf(s->fd, "%s,", "two"));
		say("%zd write", write(s->fd, "three,", 6));
	} else {
		if (recv(s->fd, buf, 14, MSG_WAITALL) != 14)
			die("recv");
		say("%s", buf);
	}
	echo(s, s->fd, 100000);
	barrier(s);
}

static void as_stdin(struct scene *s)
{
	char line[40] = "";

	if (s->is_server) {
		send(s->fd, "first\nsecond\n", 13, 0);
	} else {
		if (dup2(s->fd, 0) < 0)
			die("dup2");
		close(s->fd);
		s->fd = 0;
		if (!fgets(line, sizeof(line), stdin))
			die("fgets");
		say("from stdin: %s", line);
		if (!fgets(line, sizeof(line), stdin))
			die("fgets");
		say("from stdin: %s", line);
	}
	echo(s, s->fd, 100000);
	barrier(s);
}

/* fclose closes the descriptor inside the C library; the number is another connection's then. */
static void stream_closed(struct scene *s)
{
	FILE *f = fdopen(s->fd, "r+");

	if (!f)
		die("fdopen");
	if (s->is_server) {
		fputs("a line\n", f);
		fclose(f);
	} else {
		char line[40] = "";

		say("%s", fgets(line, sizeof(line), f) ? line : "nothing");
		say("then %s", fgets(line, sizeof(line), f) ? line : "nothing");
		fclose(f);
	}
	connection_instead(s);
}

static void by_aio(struct scene *s)
{
	char buf[40] = "sent before this";
	struct aiocb cb = { .aio_fildes = s->fd, .aio_buf = buf, .aio_nbytes = 16 };
	const struct aiocb *list[] = { &cb };

	if (s->is_server) {
		send(s->fd, "sent to be read.", 16, 0);
	} else {
		if (aio_read(&cb) < 0)
			die("aio_read");
		while (aio_error(&cb) == EINPROGRESS)
			aio_suspend(list, 1, NULL);
		say("%d: %.16s", aio_error(&cb), buf);
		say("%zd", aio_return(&cb));
	}
	echo(s, s->fd, 100000);
	barrier(s);
}

/* The shell that expands the words inherits the connection. */
static void by_wordexp(struct scene *s)
{
	char text[80];
	wordexp_t we;

	if (s->is_server) {
		send(s->fd, "words from afar", 15, 0);
	} else {
		snprintf(text, sizeof(text), "$(head -c 15 <&%d)", s->fd);
		say("wordexp: %d", wordexp(text, &we, 0));
		for (size_t i = 0; i < we.we_wordc; i++)
			say("%s", we.we_wordv[i]);
		wordfree(&we);
	}
	echo(s, s->fd, 100000);
	barrier(s);
}

static void by_execveat(struct scene *s)
{
	char text[80], *argv[] = { (char *)"sh", (char *)"-c", text, NULL }, *env[] = { NULL };
	pid_t pid;

	if (s->is_server) {
		send(s->fd, "for the shell", 13, 0);
		recv(s->fd, text, 13, MSG_WAITALL);
		say("%.13s", text);
	} else {
		pid = fork();
		if (pid == 0) {
			snprintf(text, sizeof(text), "head -c 13 <&%d >&%d", s->fd, s->fd);
			execveat(AT_FDCWD, "/bin/sh", argv, env, 0);
			_exit(9);
		}
		reap(pid);
	}
	echo(s, s->fd, 100000);
	barrier(s);
}

/* ---- signals, limits ---- */

static void signal_driven(struct scene *s)
{
	struct timespec limit = { .tv_sec = 10 };
	sigset_t io;

	if (s->is_server) {
		barrier(s);
		send_exactly(s->fd, 100);
	} else {
		sigemptyset(&io);
		sigaddset(&io, SIGIO);
		sigprocmask(SIG_BLOCK, &io, NULL);
		if (fcntl(s->fd, F_SETOWN, getpid()) < 0 || fcntl(s->fd, F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
			die("O_ASYNC");
		barrier(s);
		say("signal: %s", sigtimedwait(&io, NULL, &limit) == SIGIO ? "SIGIO" : "none");
		say_poll("after it", s->fd, POLLIN);
		fcntl(s->fd, F_SETFL, 0);
		recv_exactly(s->fd, 100);
	}
	barrier(s);
}

/*
 * It could not return to TCP at once, because there was something unread and the other end makes no call. Urgent data is sent
 * meanwhile; what comes afterwards gives the signal.
 */
static void signal_driven_and_urgent(struct scene *s)
{
	struct timespec limit = { .tv_sec = 10 }, none = { 0 };
	sigset_t io;
	char c;

	if (s->is_server) {
		send_exactly(s->fd, 10);
		barrier(s);
		barrier(s);
		say("urgent: %zd", recv(s->fd, &c, 1, MSG_OOB));
		send_part(s->fd, 10, 100);
	} else {
		sigemptyset(&io);
		sigaddset(&io, SIGIO);
		sigprocmask(SIG_BLOCK, &io, NULL);
		barrier(s);
		if (fcntl(s->fd, F_SETOWN, getpid()) < 0 || fcntl(s->fd, F_SETFL, O_ASYNC) < 0)
			die("O_ASYNC");
		recv_exactly(s->fd, 10);
		say("urgent: %zd", send(s->fd, "!", 1, MSG_OOB));
		while (sigtimedwait(&io, NULL, &none) > 0)
			;
		barrier(s);
		say("signal: %s", sigtimedwait(&io, NULL, &limit) == SIGIO ? "SIGIO" : "none");
		fcntl(s->fd, F_SETFL, 0);
		recv_part(s->fd, 10, 100);
	}
	barrier(s);
}

/* As above, but the other end has half-closed: it answers no question to return to TCP any more. */
static void signal_driven_and_urgent_at_the_end(struct scene *s)
{
	char c;

	if (s->is_server) {
		send_exactly(s->fd, 10);
		shutdown(s->fd, SHUT_WR);
		barrier(s);
		barrier(s);
		say("urgent: %zd", recv(s->fd, &c, 1, MSG_OOB));
	} else {
		signal(SIGIO, SIG_IGN);
		barrier(s);
		if (fcntl(s->fd, F_SETOWN, getpid()) < 0 || fcntl(s->fd, F_SETFL, O_ASYNC) < 0)
			die("O_ASYNC");
		say("urgent: %zd", send(s->fd, "!", 1, MSG_OOB));
		barrier(s);
		fcntl(s->fd, F_SETFL, 0);
		recv_exactly(s->fd, 10);
		say_recv_all("the end", s->fd);
	}
	barrier(s);
}

/* The other end, which has something unread, half-closes, and only then asks to return to TCP: nobody can answer that. */
static void urgent_to_one_that_is_signal_driven(struct scene *s)
{
	char c;

	if (s->is_server) {
		signal(SIGIO, SIG_IGN);
		barrier(s);
		shutdown(s->fd, SHUT_WR);
		if (fcntl(s->fd, F_SETOWN, getpid()) < 0 || fcntl(s->fd, F_SETFL, O_ASYNC) < 0)
			die("O_ASYNC");
		barrier(s);
		barrier(s);
		recv_exactly(s->fd, 10);
		say("urgent: %zd", recv(s->fd, &c, 1, MSG_OOB));
	} else {
		send_exactly(s->fd, 10);
		barrier(s);
		barrier(s);
		say("urgent: %zd", send(s->fd, "!", 1, MSG_OOB));
		barrier(s);
		say_recv_all("the end", s->fd);
	}
	barrier(s);
}

static volatile sig_atomic_t pipe_signals;

static void count_pipe_signal(int sig)
{
	(void)sig;
	pipe_signals++;
}

/* A half-close has to wait until the other end, which makes no call, has answered a LEAVE. What is sent after it is refused at once. */
static void send_after_a_half_close_that_waits(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLOUT };
	int rc, err, before;

	if (s->is_server) {
		signal(SIGPIPE, count_pipe_signal);
		send_exactly(s->fd, 10);
		barrier(s);
		barrier(s);
		(void)poll(&p, 1, 0);	/* begins LEAVE */
		say("shutdown: %d", shutdown(s->fd, SHUT_WR));
		for (int i = 0; i < 4; i++) {
			before = pipe_signals;
			rc = (int)send(s->fd, "x", i < 3, i % 2 ? MSG_DONTWAIT : MSG_DONTWAIT | MSG_NOSIGNAL);
			err = errno;
			say("send: %d %s, %d signals", rc, errno_name(err), pipe_signals - before);
		}
		p.events = POLLOUT;
		rc = poll(&p, 1, 0);
		say("poll: %d, %#x", rc, (unsigned int)p.revents);
		barrier(s);
		say_recv_all("the other's end", s->fd);
	} else {
		signal(SIGIO, SIG_IGN);
		barrier(s);
		if (fcntl(s->fd, F_SETOWN, getpid()) < 0 || fcntl(s->fd, F_SETFL, O_ASYNC) < 0)
			die("O_ASYNC");
		barrier(s);
		barrier(s);
		recv_exactly(s->fd, 10);
		say_recv_all("the end", s->fd);
		shutdown(s->fd, SHUT_WR);
	}
	barrier(s);
}

/* What no kernel knows is refused, also when no descriptor is to be had to ask it with. */
static void unknown_flags_at_the_limit(struct scene *s)
{
	struct rlimit had, few;
	struct iovec v = { (char[10]){ 0 }, 10 };
	int fd;
	ssize_t rc;

	if (!s->is_server) {
		getrlimit(RLIMIT_NOFILE, &had);
		few = had;
		fd = dup(0);
		few.rlim_cur = (rlim_t)fd;
		close(fd);
		if (setrlimit(RLIMIT_NOFILE, &few) < 0)
			die("setrlimit");
		say("dup: %d", dup(0));
		rc = pwritev2(s->fd, &v, 1, -1, 0x40000000);
		say("pwritev2: %zd %s", rc, errno_name(errno));
		rc = preadv2(s->fd, &v, 1, -1, 0x40000000);
		say("preadv2: %zd %s", rc, errno_name(errno));
		setrlimit(RLIMIT_NOFILE, &had);
	}
	echo(s, s->fd, 100);
	barrier(s);
}

/* poll takes as many entries as descriptors are allowed; what is added to them may not count. */
static void poll_at_the_limit(struct scene *s)
{
	struct rlimit few = { .rlim_cur = 12, .rlim_max = 12 };
	struct pollfd p[10];
	int i, n;

	if (s->is_server) {
		barrier(s);
		send_exactly(s->fd, 100);
	} else {
		for (i = 0; i < 10; i++)
			p[i] = (struct pollfd){ .fd = s->fd, .events = i % 2 ? POLLIN : POLLIN | POLLOUT };
		if (setrlimit(RLIMIT_NOFILE, &few) < 0)
			die("setrlimit");
		n = poll(p, 10, 0);
		say("poll: %d, %d %d", n, p[0].revents, p[1].revents);
		for (i = 0; i < 10; i++)
			p[i].events = POLLIN;
		barrier(s);
		n = poll(p, 10, 10000);
		say("poll: %d, %d %d", n, p[0].revents, p[9].revents);
		recv_exactly(s->fd, 100);
	}
	barrier(s);
}

/* The connections of a process with an io_uring are the kernel's, which reads and writes them past everybody. */
static void uring(struct scene *s)
{
	char params[120] = { 0 };
	int fd;

	echo(s, s->fd, 10000);
	if (!s->is_server)
		say("io_uring: %s", syscall(SYS_io_uring_setup, 4, params) >= 0 || errno == ENOSYS || errno == EPERM ?
					    "made, or not to be had" : errno_name(errno));
	echo(s, s->fd, 10000);
	fd = young_connection(s);
	for (int i = 0; i < 100; i++)
		echo(s, fd, 1000);
	barrier(s);
}

const struct scene_case scenes_call[] = {
	{ "numbers_receive", numbers_receive },
	{ "numbers_send", numbers_send },
	{ "numbers_ready", numbers_ready },
	{ "numbers_close", numbers_close },
	{ "numbers_clone", numbers_clone },
	{ "numbers_clone3", numbers_clone3 },
	{ "bare_fork", bare_fork },
	{ "clone_like_fork", clone_like_fork },
	{ "clone_like_vfork", clone_like_vfork },
	{ "clone_shares_memory", clone_shares_memory },
	{ "second_names", second_names },
	{ "by_dprintf", by_dprintf },
	{ "as_stdin", as_stdin },
	{ "stream_closed", stream_closed },
	{ "by_aio", by_aio },
	{ "by_wordexp", by_wordexp },
	{ "by_execveat", by_execveat },
	{ "signal_driven", signal_driven },
	{ "signal_driven_and_urgent", signal_driven_and_urgent },
	{ "signal_driven_and_urgent_at_the_end", signal_driven_and_urgent_at_the_end },
	{ "urgent_to_one_that_is_signal_driven", urgent_to_one_that_is_signal_driven },
	{ "send_after_a_half_close_that_waits", send_after_a_half_close_that_waits },
	{ "unknown_flags_at_the_limit", unknown_flags_at_the_limit },
	{ "poll_at_the_limit", poll_at_the_limit },
	{ "uring", uring },
	{ NULL, NULL },
};
