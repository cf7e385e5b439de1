/* SPDX-License-Identifier: MIT */
/*
 * raw.h - calls of ours in the middle of the program's, which the C library would make cancellation points: they only ask, or do a part of
 * what is under way, and a thread that ended there would leave the rest undone. What sleeps for the program goes by its name (libc.h).
 *
 * The kernel's numbers are those that the C library uses, so that a filter of system calls sees nothing new. Results and errno as there.
 * Threads: any. Signals: safe.
 */
#ifndef XSHIM_RAW_H
#define XSHIM_RAW_H
#include "libc.h"

#include <sys/syscall.h>

static inline int raw_poll(struct pollfd *p, nfds_t n, int ms)
{
#ifdef SYS_poll
	return (int)libc.syscall(SYS_poll, p, n, ms);
#else
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

	return (int)libc.syscall(SYS_ppoll, p, n, ms < 0 ? NULL : &ts, NULL, 0l);
#endif
}

/* Without a wait. */
static inline int raw_epoll_wait(int epfd, struct epoll_event *ev, int max)
{
#ifdef SYS_epoll_wait
	return (int)libc.syscall(SYS_epoll_wait, epfd, ev, max, 0);
#else
	return (int)libc.syscall(SYS_epoll_pwait, epfd, ev, max, 0, NULL, 0l);
#endif
}

/* By epoll_pwait2() where two, which the program has made itself then. */
static inline int raw_epoll_pwait(bool two, int epfd, struct epoll_event *ev, int max, const sigset_t *mask)
{
	static const struct timespec zero;

#ifdef SYS_epoll_pwait2
	if (two)
		return (int)libc.syscall(SYS_epoll_pwait2, epfd, ev, max, &zero, mask, 8l);
#endif
	(void)two, (void)zero;
	return (int)libc.syscall(SYS_epoll_pwait, epfd, ev, max, 0, mask, 8l);
}

static inline ssize_t raw_recv(int fd, void *buf, size_t n, int flags)
{
	return libc.syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

static inline ssize_t raw_send(int fd, const void *buf, size_t n, int flags)
{
	return libc.syscall(SYS_sendto, fd, buf, n, flags, NULL, 0);
}

static inline ssize_t raw_recvmsg(int fd, struct msghdr *m, int flags) { return libc.syscall(SYS_recvmsg, fd, m, flags); }
static inline ssize_t raw_sendmsg(int fd, const struct msghdr *m, int flags) { return libc.syscall(SYS_sendmsg, fd, m, flags); }
static inline ssize_t raw_read(int fd, void *buf, size_t n) { return libc.syscall(SYS_read, fd, buf, n); }
static inline ssize_t raw_write(int fd, const void *buf, size_t n) { return libc.syscall(SYS_write, fd, buf, n); }
static inline ssize_t raw_readv(int fd, const struct iovec *v, int n) { return libc.syscall(SYS_readv, fd, v, n); }
static inline int raw_close(int fd) { return (int)libc.syscall(SYS_close, fd); }
static inline int raw_accept4(int fd, int flags) { return (int)libc.syscall(SYS_accept4, fd, NULL, NULL, flags); }

static inline ssize_t raw_preadv(int fd, const struct iovec *v, int n, off64_t at)
{
	return libc.syscall(SYS_preadv, fd, v, n, (long)at, sizeof(long) < 8 ? (long)(at >> 31 >> 1) : 0l);
}

/* Between a pipe and a socket, neither of which has a position. */
static inline ssize_t raw_splice(int in, int out, size_t n, unsigned int flags)
{
	return libc.syscall(SYS_splice, in, NULL, out, NULL, n, flags);
}

/* Out of a pipe, into memory. */
static inline ssize_t raw_vmsplice(int in, const struct iovec *v, size_t n, unsigned int flags)
{
	return libc.syscall(SYS_vmsplice, in, v, n, flags);
}

static inline int raw_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return (int)libc.syscall(SYS_connect, fd, sa, len);
}

#endif
