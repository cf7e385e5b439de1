/* SPDX-License-Identifier: MIT */
/* poll.h - poll over plain descriptors and connections with a channel; select.c is a caller, too, and syscall.c. */
#ifndef XSHIM_POLL_H
#define XSHIM_POLL_H
#include "libc.h"

/* Like ppoll(2), but -errno. */
int xshim_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
/* An array of the program's with something of ours in it. False: all that is to be said of it the kernel says. */
bool xshim_poll_is_ours(uintptr_t fds, nfds_t n);

/* One that the kernel takes. */
static inline bool xshim_is_time(const struct timespec *t)
{
	return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1000000000;
}

/* What of the whole is left, which began at the time of xshim_clock_ns(). */
struct timespec xshim_unslept(const struct timespec *whole, uint64_t began);

#endif
