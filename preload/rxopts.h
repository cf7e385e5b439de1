/* SPDX-License-Identifier: MIT */
/*
 * rxopts.h - SO_RCVLOWAT and SO_PEEK_OFF while a channel is attached.
 *
 * Both say something about the stream that the program reads, and the socket sees only a part of it. From attach to detach the
 * program's values are in the slot, and the socket has others:
 *
 * SO_RCVLOWAT: 1, so that a frame and the end are always told of. Only a look that finds that what the socket gives next is the
 * program's sets what is still missing there: then POLLIN of the socket means that both paths together have enough.
 *
 * SO_PEEK_OFF: off. A peek is made from the beginning, with a part in front that is thrown away. So it does not go beyond a mark of
 * urgent data that is not read yet, where the kernel's own, which begins behind it, does: it finds nothing there until the program has
 * read up to the mark.
 *
 * Connections on which neither was set pay a load for each look and for each receive.
 *
 * Threads: any. Processes that share the connection share the values. Locks: as said below, and of each word at its
 * declaration (arena.h). The program's own setsockopt is made under rx_lock, too.
 */
#ifndef XSHIM_RXOPTS_H
#define XSHIM_RXOPTS_H
#include "ready.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <xshim/link.h>

static inline uint32_t xshim_rxopts_lowat(const struct xshim_conn *c)
{
	return atomic_load_explicit(&c->slot->lowat, memory_order_relaxed);
}

/* Where a peek begins, behind what is next to be read. */
static inline uint32_t xshim_rxopts_peek_at(const struct xshim_conn *c)
{
	uint32_t at = atomic_load_explicit(&c->slot->peek_at, memory_order_relaxed);

	return at ? at - 1 : 0;
}

/* Attach, with nobody inside: take the values from the socket. Detach: give them back; takes rx_lock. */
void xshim_rxopts_take(struct xshim_conn *c, int fd);
void xshim_rxopts_give_back(struct xshim_conn *c);
/*
 * The program's own setsockopt, and what it is to return; under rx_lock, so that no mark of ours is taken for the program's. / The value
 * that getsockopt is to tell, with a channel.
 */
int xshim_rxopts_set(struct xshim_conn *c, int fd, int name, const void *value, socklen_t len);
void xshim_rxopts_get(struct xshim_conn *c, int name, void *value, const socklen_t *len);

/* What is next on the socket may be a frame: no mark may keep it from being told of. rx_lock. */
void xshim_rxopts_any(struct xshim_conn *c, int fd);
/*
 * A mark is set, and xshim_rx_next() has said step and limit: make POLLIN in r what the kernel's would be, and the socket's mark what
 * that needs. Both locks.
 */
void xshim_rxopts_look(struct xshim_conn *c, struct xshim_chan *ch, int fd, enum xshim_rx_step step, uint64_t limit,
		       struct xshim_ready *r);

/* n bytes were received, or peeked at. */
void xshim_rxopts_moved(struct xshim_conn *c, size_t n, bool peeked);
#define XSHIM_RXOPTS_PARTS 17
/* Parts in front of the program's, for `at` bytes (as many of them as there is room for); returns how many parts. */
size_t xshim_rxopts_front(struct iovec v[XSHIM_RXOPTS_PARTS], size_t at);

#endif
