/* SPDX-License-Identifier: MIT */
/*
 * behave_sandbox.c - programs that put themselves under a seccomp filter once they are connected. Each scene allows the one
 * call that it makes, as the C library makes it; any other is the end of the program, with the call's number in what it prints.
 *
 * Over plain TCP the filter is just wide enough, so the scenes also say whether anybody else makes other calls in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "behave.h"

#define MOST 24

/* ---- the other end: does what it is told over the step socket ---- */

/* It listens for the connection's own affairs, too, as a server does that sleeps in poll. */
static void obey(struct scene *s)
{
	struct pollfd p[2] = { { .fd = s->step, .events = POLLIN }, { .fd = s->fd, .events = POLLRDHUP } };
	struct timespec pause = { .tv_nsec = 30000000 };
	char c;

	for (;;) {
		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[1].revents)
			p[1].fd = -1;
		if (!p[0].revents)
			continue;
		if (read(s->step, &c, 1) != 1 || c == '.')
			return;
		if (c == 's')
			send_exactly(s->fd, 5);
		if (c == 'r')
			recv_exactly(s->fd, 5);
		if (write(s->step, &c, 1) != 1)
			return;
		if (c == 'l') {		/* when the other one sleeps, or soon */
			nanosleep(&pause, NULL);
			send_exactly(s->fd, 5);
		}
	}
}

/* By calls that each filter allows. */
static void tell(struct scene *s, char c)
{
	if (write(s->step, &c, 1) != 1 || (c != '.' && read(s->step, &c, 1) != 1))
		die("the step socket");
}

/* ---- the filter ---- */

static void on_call(int sig, siginfo_t *info, void *context)
{
	char line[60];
	int n = snprintf(line, sizeof(line), "call %d is not allowed\n", info->si_syscall);

	(void)context;
	(void)!write(1, line, (size_t)n);
	_exit(sig);
}

static struct sock_filter jump_to_allow(int nr, int left)
{
	return (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)nr, (unsigned char)(left + 1), 0);
}

/* How a program asks for it: the two ways that exist. */
enum way { BY_PRCTL, BY_SYSCALL };

/* `allowed` ends with -1; what every program needs comes on top. */
static void confine(const int *allowed, enum way way)
{
	static const int always[] = { SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn };
	struct sigaction sa = { .sa_sigaction = on_call, .sa_flags = SA_SIGINFO };
	struct sock_filter f[MOST + 12];
	struct sock_fprog prog = { .filter = f };
	int all[MOST + 8], n = 0, k = 0;

	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		all[n++] = always[i];
	while (*allowed >= 0 && n < MOST)
		all[n++] = *allowed++;
	f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < n; i++)
		f[k++] = jump_to_allow(all[i], n - 1 - i);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)k;
	if (sigaction(SIGSYS, &sa, NULL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("no_new_privs");
	if (way == BY_PRCTL ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 :
			      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		die("seccomp");
}

static void said(const char *what, ssize_t n)
{
	say("%s: %zd %s", what, n, n < 0 ? errno_name(errno) : "");
}

/* Both directions, once with something there, once with a sleep. */
static void by_read_and_write(struct scene *s)
{
	char buf[20];

	tell(s, 's');
	said("read", read(s->fd, buf, sizeof(buf)));
	said("write", write(s->fd, "12345", 5));
	tell(s, 'l');
	said("read asleep", read(s->fd, buf, sizeof(buf)));
}

/* ---- the uses ---- */

static int extra;		/* made before the filter */
static struct sockaddr_in at;

static void by_recv_and_send(struct scene *s)
{
	char buf[20];
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	tell(s, 's');
	said("recv", recv(s->fd, buf, sizeof(buf), 0));
	said("recv of nothing", recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT));
	said("send", send(s->fd, "12345", 5, MSG_NOSIGNAL));
	said("sendto", sendto(s->fd, "12345", 5, 0, NULL, 0));
	tell(s, 'l');
	said("recvfrom asleep", recvfrom(s->fd, buf, sizeof(buf), 0, (struct sockaddr *)&ss, &len));
}

static void by_messages(struct scene *s)
{
	char buf[20];
	struct iovec v = { buf, 5 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct mmsghdr two[2] = { { .msg_hdr = m }, { .msg_hdr = m } };

	tell(s, 's');
	said("recvmsg", recvmsg(s->fd, &m, 0));
	said("sendmsg", sendmsg(s->fd, &m, 0));
	tell(s, 'l');
	said("recvmsg asleep", recvmsg(s->fd, &m, 0));
	tell(s, 's');
	said("recvmmsg", recvmmsg(s->fd, two, 2, MSG_DONTWAIT, NULL));
	said("sendmmsg", sendmmsg(s->fd, two, 2, 0));
}

static void by_vectors(struct scene *s)
{
	char buf[20];
	struct iovec v[2] = { { buf, 2 }, { buf + 2, 3 } };

	tell(s, 's');
	said("readv", readv(s->fd, v, 2));
	said("writev", writev(s->fd, v, 2));
	tell(s, 'l');
	said("readv asleep", readv(s->fd, v, 2));
}

static void by_poll(struct scene *s)
{
	struct pollfd p[100] = { { .fd = s->fd, .events = POLLIN } };
	char buf[20];

	said("poll for nothing", poll(p, 1, 10));
	tell(s, 'l');
	said("poll", poll(p, 1, -1));
	said("read", read(s->fd, buf, sizeof(buf)));
	p[0].events = POLLOUT;
	for (int i = 1; i < 100; i++)
		p[i] = (struct pollfd){ .fd = s->fd, .events = POLLIN };
	said("poll of many", poll(p, 100, -1));
}

static void by_ppoll(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	char buf[20];

	tell(s, 'l');
	said("ppoll", ppoll(&p, 1, NULL, NULL));
	said("read", read(s->fd, buf, sizeof(buf)));
}

static void by_select(struct scene *s)
{
	struct timeval tv = { .tv_usec = 10000 };
	struct timespec ts = { .tv_sec = 5 };
	fd_set set;
	char buf[20];

	FD_ZERO(&set);
	FD_SET(s->fd, &set);
	said("select for nothing", select(s->fd + 1, &set, NULL, NULL, &tv));
	tell(s, 'l');
	FD_SET(s->fd, &set);
	said("select", select(s->fd + 1, &set, NULL, NULL, NULL));
	said("pselect", pselect(s->fd + 1, &set, NULL, NULL, &ts, NULL));
	said("read", read(s->fd, buf, sizeof(buf)));
}

static void with_set(struct scene *s)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 77 };

	extra = epoll_create1(0);
	if (extra < 0 || epoll_ctl(extra, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		die("epoll");
}

static void by_epoll(struct scene *s)
{
	struct epoll_event ev;
	struct timespec ts = { .tv_sec = 5 };
	char buf[20];

	said("epoll_wait for nothing", epoll_wait(extra, &ev, 1, 10));
	tell(s, 'l');
	said("epoll_wait", epoll_wait(extra, &ev, 1, -1));
	said("datum", ev.data.u32);
	said("epoll_pwait", epoll_pwait(extra, &ev, 1, -1, NULL));
	said("epoll_pwait2", epoll_pwait2(extra, &ev, 1, &ts, NULL));
	said("read", read(s->fd, buf, sizeof(buf)));
	ev = (struct epoll_event){ .events = EPOLLOUT, .data.u32 = 78 };
	said("epoll_ctl", epoll_ctl(extra, EPOLL_CTL_MOD, s->fd, &ev));
	said("epoll_wait", epoll_wait(extra, &ev, 1, -1));
	said("datum", ev.data.u32);
	said("epoll_ctl", epoll_ctl(extra, EPOLL_CTL_DEL, s->fd, NULL));
}

/* A listener, with a connection that waits in it; another one that is to connect. */
static void with_listener(struct scene *s)
{
	socklen_t len = sizeof(at);
	int pair;

	(void)s;
	at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	extra = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(extra, (struct sockaddr *)&at, len) < 0 || listen(extra, 5) < 0 ||
	    getsockname(extra, (struct sockaddr *)&at, &len) < 0)
		die("listen");
	for (int i = 0; i < 2; i++) {
		pair = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(pair, (struct sockaddr *)&at, sizeof(at)) < 0 || write(pair, "12345", 5) != 5)
			die("connect");
	}
}

static void by_accept(struct scene *s)
{
	char buf[20];
	int fd;

	(void)s;
	fd = accept(extra, NULL, NULL);
	said("accept", fd);
	said("read", read(fd, buf, sizeof(buf)));
	fd = accept4(extra, NULL, NULL, SOCK_CLOEXEC);
	said("accept4", fd);
	said("read", read(fd, buf, sizeof(buf)));
	for (int i = 0; i < 20; i++)
		if (write(fd, "12345", 5) != 5)
			die("write");
}

static void by_connect(struct scene *s)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)s;
	said("socket", fd);
	said("connect", connect(fd, (struct sockaddr *)&at, sizeof(at)));
	for (int i = 0; i < 20; i++)
		if (write(fd, "12345", 5) != 5)
			die("write");
}

static void by_its_end(struct scene *s)
{
	char buf[20];

	said("shutdown", shutdown(s->fd, SHUT_WR));
	tell(s, 's');
	said("read", read(s->fd, buf, sizeof(buf)));
	said("close", close(s->fd));
	said("close again", close(s->fd));
}

static void by_dup(struct scene *s)
{
	char buf[20];
	int one = dup(s->fd), two = dup2(s->fd, 60), three = dup3(s->fd, 61, O_CLOEXEC),
	    four = fcntl(s->fd, F_DUPFD_CLOEXEC, 50);

	say("%d %d %d %d", one, two, three, four);
	said("close", close(s->fd));
	tell(s, 'l');
	said("read", read(four, buf, sizeof(buf)));
	said("write", write(two, "12345", 5));
	said("close_range", close_range(50, 70, 0));
	said("write", write(two, "12345", 5));
	said("write", write(one, "12345", 5));
}

static void by_options(struct scene *s)
{
	int v = 1, n = -1;
	socklen_t len = sizeof(v);
	struct sockaddr_storage ss;

	tell(s, 's');
	said("setsockopt", setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &v, sizeof(v)));
	said("getsockopt", getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &v, &len));
	said("SO_RCVLOWAT", setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ 1 }, sizeof(int)));
	len = sizeof(ss);
	said("getpeername", getpeername(s->fd, (struct sockaddr *)&ss, &len));
	said("FIONREAD", ioctl(s->fd, FIONREAD, &n));
	said("there", n);
	said("FIONBIO", ioctl(s->fd, FIONBIO, &(int){ 1 }));
	said("F_GETFL", fcntl(s->fd, F_GETFL));
	said("F_SETFL", fcntl(s->fd, F_SETFL, O_RDWR));
	said("F_SETFD", fcntl(s->fd, F_SETFD, FD_CLOEXEC));
}

static void with_file(struct scene *s)
{
	(void)s;
	extra = memfd_create("file", 0);
	if (write(extra, "1234567890", 10) != 10)
		die("file");
}

static void by_files(struct scene *s)
{
	off_t offset = 2;

	said("sendfile", sendfile(s->fd, extra, &offset, 5));
	said("offset", offset);
}

static void quiet(int sig)
{
	(void)sig;
}

static void by_signals(struct scene *s)
{
	struct sigaction sa = { .sa_handler = quiet };

	(void)s;
	said("sigaction", sigaction(SIGUSR1, &sa, NULL));
	said("asked", sigaction(SIGUSR1, NULL, &sa));
	say("%s", sa.sa_handler == quiet ? "its own" : "another");
	said("raise", raise(SIGUSR1));
	said("asked", sigaction(SIGSYS, NULL, &sa));
	say("%s", sa.sa_sigaction == on_call ? "its own" : "another");
}

static void by_fork(struct scene *s)
{
	char buf[20];
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		tell(s, 's');
		said("read in the child", read(s->fd, buf, sizeof(buf)));
		_exit(5);
	}
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	said("status", status);
	tell(s, 's');
	said("read", read(s->fd, buf, sizeof(buf)));
}

/* The call is blocked in by a thread when the filter comes, which the filter is for, too. */
static void *sleeps(void *arg)
{
	struct scene *s = arg;
	char buf[20];

	said("recv in a thread", recv(s->fd, buf, sizeof(buf), 0));
	return NULL;
}

static pthread_t thread;

static void with_sleeper(struct scene *s)
{
	if (pthread_create(&thread, NULL, sleeps, s))
		die("pthread_create");
}

static void by_sleeper(struct scene *s)
{
	tell(s, 'l');
	pthread_join(thread, NULL);
	tell(s, 's');
	sleeps(s);
}

/* ---- scenes ---- */

struct use {
	void (*before)(struct scene *s), (*use)(struct scene *s);
	int allowed[MOST];
};

static void play(struct scene *s, const struct use *u)
{
	if (s->is_server) {
		obey(s);
		return;
	}
	if (u->before)
		u->before(s);
	confine(u->allowed, u->before ? BY_SYSCALL : BY_PRCTL);
	u->use(s);
	tell(s, '.');
	say("it has ended well");
	_exit(0);
}

#if defined(__x86_64__)
#define USE(name, first, then, ...)                                                                \
	static void sandbox_##name(struct scene *s)                                                \
	{                                                                                          \
		static const struct use u = { first, then, { __VA_ARGS__ } };                      \
		play(s, &u);                                                                       \
	}

USE(read, NULL, by_read_and_write, -1)
USE(recv, NULL, by_recv_and_send, SYS_recvfrom, SYS_sendto, -1)
USE(messages, NULL, by_messages, SYS_recvmsg, SYS_sendmsg, SYS_recvmmsg, SYS_sendmmsg, -1)
USE(vectors, NULL, by_vectors, SYS_readv, SYS_writev, -1)
USE(poll, NULL, by_poll, SYS_poll, -1)
USE(ppoll, NULL, by_ppoll, SYS_ppoll, -1)
USE(select, NULL, by_select, SYS_pselect6, -1)
USE(epoll, with_set, by_epoll, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_epoll_ctl, -1)
USE(accept, with_listener, by_accept, SYS_accept, SYS_accept4, -1)
USE(connect, with_listener, by_connect, SYS_socket, SYS_connect, -1)
USE(close, NULL, by_its_end, SYS_shutdown, SYS_close, -1)
USE(dup, NULL, by_dup, SYS_dup, SYS_dup2, SYS_dup3, SYS_fcntl, SYS_close, SYS_close_range, -1)
USE(options, NULL, by_options, SYS_setsockopt, SYS_getsockopt, SYS_getpeername, SYS_ioctl, SYS_fcntl, -1)
USE(files, with_file, by_files, SYS_sendfile, -1)
USE(signals, NULL, by_signals, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_gettid, SYS_getpid, SYS_tgkill, -1)
USE(fork, NULL, by_fork, SYS_clone, SYS_wait4, SYS_rt_sigprocmask, SYS_set_robust_list, -1)
USE(sleeper, with_sleeper, by_sleeper, SYS_recvfrom, SYS_futex, SYS_madvise, SYS_rt_sigprocmask, -1)

/* The mode that allows four calls and ends in a kill. */
static void sandbox_strict(struct scene *s)
{
	if (s->is_server) {
		obey(s);
		return;
	}
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) < 0)
		die("seccomp");
	by_read_and_write(s);
	tell(s, '.');
	say("it has ended well");
	syscall(SYS_exit, 0);
}
#endif

const struct scene_case scenes_sandbox[] = {
#if defined(__x86_64__)
	{ "sandbox_read", sandbox_read },
	{ "sandbox_recv", sandbox_recv },
	{ "sandbox_messages", sandbox_messages },
	{ "sandbox_vectors", sandbox_vectors },
	{ "sandbox_poll", sandbox_poll },
	{ "sandbox_ppoll", sandbox_ppoll },
	{ "sandbox_select", sandbox_select },
	{ "sandbox_epoll", sandbox_epoll },
	{ "sandbox_accept", sandbox_accept },
	{ "sandbox_connect", sandbox_connect },
	{ "sandbox_close", sandbox_close },
	{ "sandbox_dup", sandbox_dup },
	{ "sandbox_options", sandbox_options },
	{ "sandbox_files", sandbox_files },
	{ "sandbox_signals", sandbox_signals },
	{ "sandbox_fork", sandbox_fork },
	{ "sandbox_sleeper", sandbox_sleeper },
	{ "sandbox_strict", sandbox_strict },
#endif
	{ NULL, NULL },
};
