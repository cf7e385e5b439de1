/* SPDX-License-Identifier: MIT */
/*
 * peek.h - MSG_PEEK where the stream changes its path: nothing is consumed, so no boundary is crossed, and what lies behind it has to be
 * looked for where it is.
 *
 * All: rx_lock held; flags are the program's; what is returned is the length so far and what follows. Threads: any.
 */
#ifndef XSHIM_PEEK_H
#define XSHIM_PEEK_H
#include "channel.h"
#include "rxopts.h"
#include "stream.h"

#include <xshim/ring.h>

/* A peek into more parts than these may not have had all that there is. */
#define XSHIM_PEEK_PARTS (XSHIM_STREAM_SLICES - XSHIM_RXOPTS_PARTS)

/* A peek into `begin` that took n bytes of TCP and reached a boundary: what follows is on the ring. */
ssize_t xshim_peek_beyond(struct xshim_conn *c, struct xshim_chan *ch, int fd, struct xshim_iov begin, uint64_t n, int flags);
/* A peek into `it` that took n bytes, all that is on the ring, where it goes on by TCP: what is there follows. */
ssize_t xshim_peek_behind(struct xshim_chan *ch, int fd, struct xshim_iov it, ssize_t n, int flags);

#endif
