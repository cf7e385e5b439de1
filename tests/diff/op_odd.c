/* SPDX-License-Identifier: MIT */
/*
 * op_odd.c - calls about readiness and descriptors that are rare, or wrong.
 *
 *   odd WHAT [NAME [OTHER]]    epoll-*: NAME is a set, OTHER is in it or not; else NAME is a connection (default: s)
 *   listen [NAME]; bind [NAME] of a socket that has an address
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "player.h"

/* Not seen through by the compiler, which knows what cannot be right. */
static void *volatile nowhere = (void *)64;
static volatile int minus_one = -1;

static int odd_set(const char *what, int set, int other)
{
	struct epoll_event ev = { .events = EPOLLIN };
	static const struct timespec wrong = { .tv_nsec = 2000000000 }, less = { .tv_sec = -1 };

	before_call();
	if (!strcmp(what, "epoll-bad-op"))
		return epoll_ctl(set, 77, other, &ev);
	if (!strcmp(what, "epoll-add-null"))
		return epoll_ctl(set, EPOLL_CTL_ADD, other, NULL);
	if (!strcmp(what, "epoll-add-nowhere"))
		return epoll_ctl(set, EPOLL_CTL_ADD, other, nowhere);
	if (!strcmp(what, "epoll-wait-nowhere"))
		return epoll_wait(set, nowhere, 1, 0);
	if (!strcmp(what, "epoll-wait-in-the-past"))
		return epoll_wait(set, &ev, 1, -77);
	if (!strcmp(what, "epoll-pwait2-wrong-time"))
		return epoll_pwait2(set, &ev, 1, &wrong, NULL);
	if (!strcmp(what, "epoll-pwait2-negative-time"))
		return epoll_pwait2(set, &ev, 1, &less, NULL);
	if (!strcmp(what, "epoll-pwait2-time-nowhere"))
		return epoll_pwait2(set, &ev, 1, nowhere, NULL);
	if (!strcmp(what, "epoll-read"))
		return (int)read(set, &ev, 1);
	die("odd %s: unknown", what);
}

static int odd_call(const char *what, int fd)
{
	struct timespec wrong = { .tv_nsec = 2000000000 };
	struct timeval late = { .tv_usec = 3000000 }, less = { .tv_sec = -1 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct flock lock = { .l_type = F_RDLCK };
	void *map;
	fd_set set;
	int n = 1;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	before_call();
	if (!strcmp(what, "ppoll-wrong-time"))
		return ppoll(&p, 1, &wrong, NULL);
	if (!strcmp(what, "poll-of-none"))
		return poll(NULL, 0, 0);
	if (!strcmp(what, "poll-too-many"))
		return poll(&p, (nfds_t)minus_one, 0);
	if (!strcmp(what, "select-negative"))
		return select(minus_one, &set, NULL, NULL, NULL);
	if (!strcmp(what, "select-long-second")) {	/* the C library and the kernel make whole seconds of it */
		less.tv_sec = select(fd + 1, NULL, NULL, &set, &late);
		return (int)less.tv_sec;
	}
	if (!strcmp(what, "select-in-the-past"))
		return select(fd + 1, &set, NULL, NULL, &less);
	if (!strcmp(what, "select-nowhere"))
		return select(fd + 1, nowhere, NULL, NULL, &(struct timeval){ 0 });
	if (!strcmp(what, "pselect-wrong-time"))
		return pselect(fd + 1, &set, NULL, NULL, &wrong, NULL);
	if (!strcmp(what, "cloexec"))
		return ioctl(fd, FIOCLEX);
	if (!strcmp(what, "no-cloexec"))
		return ioctl(fd, FIONCLEX);
	if (!strcmp(what, "not-sent"))
		return ioctl(fd, SIOCOUTQNSD, &n) < 0 ? -1 : n;
	if (!strcmp(what, "inq-nowhere"))
		return ioctl(fd, FIONREAD, nowhere);
	if (!strcmp(what, "outq-nowhere"))
		return ioctl(fd, TIOCOUTQ, nowhere);
	if (!strcmp(what, "atmark-nowhere"))
		return ioctl(fd, SIOCATMARK, nowhere);
	if (!strcmp(what, "nonblock-nowhere"))
		return ioctl(fd, FIONBIO, nowhere);
	if (!strcmp(what, "terminal"))
		return ioctl(fd, TIOCNOTTY);
	if (!strcmp(what, "request"))
		return ioctl(fd, 0x12345678ul, &n);
	if (!strcmp(what, "owner"))
		return fcntl(fd, F_SETOWN, getpid()) < 0 ? -1 : fcntl(fd, F_GETOWN) == getpid();
	if (!strcmp(what, "signal"))
		return fcntl(fd, F_SETSIG, SIGUSR2) < 0 ? -1 : fcntl(fd, F_GETSIG) == SIGUSR2;
	if (!strcmp(what, "lock"))
		return fcntl(fd, F_SETLK, &lock);
	if (!strcmp(what, "pipe-size"))
		return fcntl(fd, F_GETPIPE_SZ);
	if (!strcmp(what, "seals"))
		return fcntl(fd, F_GET_SEALS);
	if (!strcmp(what, "command"))
		return fcntl(fd, 7777, 0);
	if (!strcmp(what, "option-nowhere"))
		return getsockopt(fd, SOL_SOCKET, SO_ERROR, nowhere, &(socklen_t){ sizeof(n) });
	if (!strcmp(what, "option-length-nowhere"))
		return getsockopt(fd, SOL_SOCKET, SO_ERROR, &n, nowhere);
	if (!strcmp(what, "option-negative-length"))
		return getsockopt(fd, SOL_SOCKET, SO_ERROR, &n, &(socklen_t){ (socklen_t)minus_one });
	if (!strcmp(what, "name-nowhere"))
		return getpeername(fd, nowhere, &(socklen_t){ 16 });
	if (!strcmp(what, "truncate"))
		return ftruncate(fd, 0);
	if (!strcmp(what, "sync"))
		return fsync(fd);
	if (!strcmp(what, "map")) {
		map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		return map == MAP_FAILED ? -1 : 0;
	}
	if (!strcmp(what, "copy"))
		return (int)copy_file_range(fd, NULL, fd, NULL, 10, 0);
	die("odd %s: unknown", what);
}

static void op_odd(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strncmp(what, "epoll-", 6))
		put_result(odd_set(what, fd_of(argv[2]), fd_of(argc > 3 ? argv[3] : "s")));
	else
		put_result(odd_call(what, fd_of(argc > 2 ? argv[2] : "s")));
}

static void op_server(int argc, char **argv)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd = fd_of(argc > 1 ? argv[1] : "s");

	before_call();
	put_result(!strcmp(argv[0], "listen") ? listen(fd, 5) : bind(fd, (struct sockaddr *)&sin, sizeof(sin)));
}

const struct op odd_ops[] = {
	{ "odd", op_odd }, { "listen", op_server }, { "bind", op_server }, { NULL, NULL },
};
