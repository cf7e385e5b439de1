/* SPDX-License-Identifier: MIT */
/*
 * ask.h - what the kernel says of a socket now. The answers come at once and leave the socket as it is: above all an error stays in it,
 * for the call of the program's that it belongs to.
 *
 * Threads and signals: any. errno is changed where something fails.
 */
#ifndef XSHIM_ASK_H
#define XSHIM_ASK_H
#include "libc.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Of these events, and of POLLERR and POLLHUP, those that are so; POLLNVAL: it cannot be asked. */
static inline unsigned int xshim_ask_poll(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return libc.poll(&p, 1, 0) < 0 ? POLLNVAL : (unsigned short)p.revents;
}

/* Bytes that can be read from it, or -errno. */
static inline int xshim_ask_queued(int fd)
{
	int n = 0;

	return libc.ioctl(fd, FIONREAD, &n) < 0 ? -errno : n;
}

/* SO_RCVLOWAT as the socket has it (with a channel that is ours: rxopts.h), or -errno. */
static inline int xshim_ask_lowat(int fd)
{
	socklen_t len = sizeof(int);
	int low = 1;

	return libc.getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, &len) < 0 ? -errno : low;
}

/* SO_RCVTIMEO or SO_SNDTIMEO, in ns; 0: no limit; or -errno. */
static inline int64_t xshim_ask_limit(int fd, int option)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (libc.getsockopt(fd, SOL_SOCKET, option, &tv, &len) < 0)
		return -errno;
	return tv.tv_sec >= INT64_MAX / 1000000000 ? INT64_MAX : tv.tv_sec * 1000000000ll + tv.tv_usec * 1000ll;
}

#endif
