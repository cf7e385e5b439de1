/* SPDX-License-Identifier: MIT */
/*
 * urgent.h - urgent data (MSG_OOB): it goes by TCP, whose kernel has the mark and tells the other end's program of it.
 *
 * Who sends some brings its direction down to TCP first, as for a ring that nobody empties, and leaves it there
 * (XSHIM_SLOT_URGENT): the kernel's counts have the urgent byte in them, and what the reader takes has not. The other
 * direction stays where it is. The reader needs nothing but to end a receive at the mark, as the kernel does.
 *
 * Threads: any. Locks: takes those of the slot. Errors: 0 or -errno.
 */
#ifndef XSHIM_URGENT_H
#define XSHIM_URGENT_H
#include "channel.h"

/* How long a send of urgent data waits for a peer that is leaving, if it may not block. */
#define XSHIM_URGENT_MS 1000

/* Bring the direction down to TCP if that can be done now. */
void xshim_urgent_down(struct xshim_conn *c, struct xshim_chan *ch);
/* The next octet of the socket is urgent. */
bool xshim_urgent_is_next(int fd);
/* There is some, not read yet; somewhere. */
bool xshim_urgent_is_there(int fd);
/* SIOCATMARK. */
int xshim_urgent_at_mark(struct xshim_conn *c, int fd, int *yes);
/*
 * Sleep once while the direction cannot be brought down, because somebody is leaving. deadline_ns: UINT64_MAX, none.
 * 0: try again; -EAGAIN: the time is over; -EINTR.
 */
int xshim_urgent_wait(struct xshim_conn *c, struct xshim_chan *ch, int fd, uint64_t deadline_ns);

#endif
