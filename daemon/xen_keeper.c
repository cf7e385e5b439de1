/* SPDX-License-Identifier: MIT */
#include "xen_keeper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 1000		/* it does nothing but receive */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int to_keeper = -1;		/* under the lock */

union control {
	struct cmsghdr c;
	char room[CMSG_SPACE(sizeof(int))];
};

/* In the child of a process with threads: system calls only. */
static _Noreturn void keep(int from)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	(void)prctl(PR_SET_NAME, "xshimd-keeper");
	if (from != 0)
		from = dup2(from, 0);
	(void)syscall(SYS_close_range, 1u, ~0u, 0u);
	(void)setsid();
	for (;;) {
		union control u;
		char byte;
		struct iovec v = { .iov_base = &byte, .iov_len = 1 };
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u) };

		if (recvmsg(0, &m, 0) > 0)
			continue;	/* the descriptor has a number now, which nobody needs */
		if (errno != EINTR)
			for (;;)
				pause();
	}
}

/* A child of a child, so that nobody has to wait for it. */
static void start(void)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			keep(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	to_keeper = pair[0];
}

static int hand_over(int fd)
{
	union control u;
	struct iovec v = { .iov_base = (char[]){ 0 }, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u) };
	struct pollfd p = { .fd = to_keeper, .events = POLLOUT };

	memset(&u, 0, sizeof(u));
	u.c.cmsg_level = SOL_SOCKET;
	u.c.cmsg_type = SCM_RIGHTS;
	u.c.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.c), &fd, sizeof(fd));
	if (poll(&p, 1, PATIENCE_MS) <= 0)
		return -EAGAIN;
	return sendmsg(to_keeper, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void xshimd_keeper_hold(int fd)
{
	if (fd < 0)
		return;
	pthread_mutex_lock(&lock);
	if (to_keeper < 0)
		start();
	if (to_keeper >= 0 && hand_over(fd) == 0)
		close(fd);
	pthread_mutex_unlock(&lock);
}
