/* SPDX-License-Identifier: MIT */
/*
 * libc.h - the C library's own versions of the calls in calls.def.
 *
 * Threads: any. Fork: inherited. Signals: safe once xshim_libc_init() has run, which the constructor does;
 * a call made earlier resolves on the way. A pointer is NULL when this C library lacks the call.
 */
#ifndef XSHIM_LIBC_H
#define XSHIM_LIBC_H
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <aio.h>
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <utmp.h>
#include <wordexp.h>

#define XSHIM_EXPORT __attribute__((visibility("default")))
/* The C library's second name of a call: the same function. */
#if __has_attribute(copy)
#define XSHIM_COPY(name) copy(name)
#else
#define XSHIM_COPY(name)
#endif
#define XSHIM_ALIAS(ret, alias_, name, args)                                                       \
	extern ret alias_ args __attribute__((visibility("default"), alias(#name), XSHIM_COPY(name)));

struct xshim_libc {
#define CALL(ret, name, args) ret(*name) args;
#include "calls.def"
#undef CALL
};

extern struct xshim_libc xshim_libc;
extern _Bool xshim_libc_ready;

/* The same by number: its name, and its place in xshim_libc. */
#define XSHIM_CALLS (sizeof(struct xshim_libc) / sizeof(void *))
extern const char *const xshim_call_names[XSHIM_CALLS];
static inline void **xshim_call_place(size_t i)
{
	return (void **)((char *)&xshim_libc + i * sizeof(void *));
}

void xshim_libc_init(void);

static inline const struct xshim_libc *xshim_real(void)
{
	if (__builtin_expect(!xshim_libc_ready, 0))
		xshim_libc_init();
	return &xshim_libc;
}

#define libc (*xshim_real())

/* Not all of what we export has a declaration in public headers. */
#define CALL(ret, name, args) ret name args;
CALL(int, __open, (const char *, int, ...))
CALL(int, __open64, (const char *, int, ...))
CALL(int, __open_2, (const char *, int))
CALL(int, __open64_2, (const char *, int))
CALL(int, __openat_2, (int, const char *, int))
CALL(int, __openat64_2, (int, const char *, int))
CALL(mqd_t, __mq_open_2, (const char *, int))
CALL(int, __pipe, (int[2]))
CALL(int, pidfd_open, (pid_t, unsigned int))
CALL(FILE *, _IO_fopen, (const char *, const char *))
CALL(ssize_t, __read_chk, (int, void *, size_t, size_t))
CALL(ssize_t, __recv_chk, (int, void *, size_t, size_t, int))
CALL(ssize_t, __recvfrom_chk, (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))
CALL(int, __poll_chk, (struct pollfd *, nfds_t, int, size_t))
CALL(int, __ppoll_chk, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))
CALL(int, __dprintf_chk, (int, int, const char *, ...))
CALL(int, __vdprintf_chk, (int, int, const char *, va_list))
CALL(int, __sigaction, (int, const struct sigaction *, struct sigaction *))
CALL(sighandler_t, bsd_signal, (int, sighandler_t))
#undef CALL

/* rc >= 0 as it is; -errno becomes -1 and errno. The one place where that happens. */
ssize_t xshim_ret(ssize_t rc);
/* The same after work that may have changed errno; a call that succeeds leaves it as it was. */
static inline ssize_t xshim_ret_kept(ssize_t rc, int saved)
{
	errno = saved;
	return xshim_ret(rc);
}

/* An address that cannot be memory of the program: the page of NULL, the kernel's half. user.h knows more. */
static inline bool xshim_is_nowhere(const void *p)
{
	return (uintptr_t)p < 4096 || (intptr_t)p < 0;
}

#endif
