/* SPDX-License-Identifier: MIT */
/*
 * told.h - what an edge-triggered entry of an epoll set has told the program already.
 *
 * The kernel tells such an entry of an event, not of a state: it is woken by bytes that come, by room after a time without, by an end of
 * the connection. Our signs of that, the bell and the socket, ring for more, and an entry that gets its bell tells all that is so once
 * more. So before an entry on a ring is told of something it is compared with what it was told last. Where that cannot be known, it
 * is news: one event too many harms less than one too few.
 *
 * An entry that is put back when the ring goes is the kernel's again, which takes it for a new one, and tells what is so once more. To know that
 * event it would have to carry our datum, which only another change takes off again, and that is told again, too; by the program's own
 * datum it cannot be told from one of another entry. An entry that kept our datum for good would have to be put back later all the
 * same: before an exec, or for a send that found the ring full just before it went.
 *
 * All with the lock of the entry's set held.
 */
#ifndef XSHIM_TOLD_H
#define XSHIM_TOLD_H
#include "epoll.h"

/* What of an entry's events is about reading, and about writing. */
#define XSHIM_EPOLL_READS (EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLPRI)
#define XSHIM_EPOLL_WRITES (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)

/* What there is to be told, and how far the connection was when it was looked at. */
struct xshim_sight {
	uint32_t fulls;		/* of the connection, before the look */
	uint64_t arrived;	/* by TCP; 0: the entry is told of all that comes by the ring */
};

/* Nobody is inside the connection, which has just got its channel: what the kernel has told the program of it. */
void xshim_told_learn(struct xshim_reg *r);
/* It is told of mask, r->kmask and r->seen_head. */
void xshim_told_note(struct xshim_reg *r, uint32_t mask, const struct xshim_sight *s);
/* The like has been told, and nothing of the kind that the entry asks for has happened since. */
bool xshim_told_is_old(const struct xshim_reg *r, uint32_t mask, const struct xshim_sight *s);

#endif
