/* SPDX-License-Identifier: MIT */
/* poll.h - poll over plain descriptors and connections with a channel; select.c is a caller, too. */
#ifndef XSHIM_POLL_H
#define XSHIM_POLL_H
#include "libc.h"

/* Like ppoll(2), but -errno. */
int xshim_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);

#endif
