/* SPDX-License-Identifier: MIT */
/* io.h - what the io_*.c have in common: arguments that the kernel's own call answers best. */
#ifndef XSHIM_IO_H
#define XSHIM_IO_H
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* An array of parts that is wrong, or a read or write of nothing. */
bool xshim_io_plain_vector(const struct iovec *v, int n);
/* A header whose parts cannot be looked at, or are too many. */
bool xshim_io_plain_message(const struct msghdr *m);

/* Flags of preadv2 and pwritev2 that every kernel knows, and that say nothing of a stream but for RWF_NOWAIT. */
#define XSHIM_RWF_KNOWN (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND)
/* What this kernel says of other ones for a socket: 0, or a negative number. It is asked once for the same ones in turn. */
int xshim_io_ask_rwf(int flags, bool writes);

/* sendmsg: a descriptor of a connection that is passed on is shared with somebody we do not know. */
void xshim_io_passing(const struct msghdr *m);
/* A send with MSG_FASTOPEN, on what was no connection of ours, has returned rc, which is returned: it may be one now. errno is kept. */
ssize_t xshim_io_opened(int fd, ssize_t rc, const struct msghdr *m);

#endif
