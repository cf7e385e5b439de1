/* SPDX-License-Identifier: MIT */
/*
 * nap.h - the short way to sleep, for a blocking receive that has found nothing on the ring and nothing special, as fast.h is the short way
 * for one that finds something.
 *
 * It does what a look and a sleep of the long way would (rx_once() in stream_recv.c, xshim_wait()) where these have nothing to decide, and
 * with one of the locks instead of both, once instead of twice. So it needs: both directions on the ring, nobody leaves, no end and no error is
 * owed or near, one who has the bell for himself or may let it be, and a channel that has a descriptor to sleep by (doze.h). In all other cases
 * it has done nothing that the long way does not do again.
 *
 * What it goes by is changed by others only with rx_lock held, or is followed by a ring of our bell, which ends the sleep: whoever changes
 * it looks at `waits` after that, where we count before we look.
 *
 * Threads: any. Signals, cancellation, fork: as xshim_wait().
 */
#ifndef XSHIM_NAP_H
#define XSHIM_NAP_H
#include "conn.h"

/*
 * rx_lock, which is dropped: the peer's words said that nothing is there. Bytes received, after a sleep or a busy wait; -EINTR; or -EAGAIN:
 * to be looked at anew by the long way, *slept tells whether the call has been asleep, and blocks from then on.
 */
ssize_t xshim_nap(struct xshim_conn *c, int fd, void *buf, size_t n, bool *slept);

#endif
