/* SPDX-License-Identifier: MIT */
/*
 * kick.h - sleeping on connections that may still get a channel, so that an attach can call the sleeper away.
 *
 * A thread inside the kernel's own receive keeps a channel from being attached (conn.h). So a thread that would sleep there, in a
 * process with several threads, on a connection that is likely to be attached, sleeps here first: in poll, on
 * the descriptors and on an eventfd of its own, and holding no reference. An attach writes to the eventfds of those who sleep
 * on that connection; they look again and find the channel.
 *
 *   sleeper                                  attacher
 *   place->who = connection    (seq_cst)     conn's ch = channel  (seq_cst, or a fence after it)
 *   conn's ch still NULL? then poll           place->who == connection? then write to place->fd
 *
 * One of the two sees the other. A write that comes when its sleeper has gone wakes the next one who
 * uses the place for nothing.
 *
 * Threads: any, lock-free. Fork: the child's places are made anew. Cancellation in the sleep loses a place for good; there are
 * XSHIM_KICK_PLACES, and without one the caller goes to the kernel's call as without all this.
 */
#ifndef XSHIM_KICK_H
#define XSHIM_KICK_H
#include "conn.h"

#include <poll.h>
#include <sys/single_threaded.h>
#include <time.h>

#define XSHIM_KICK_PLACES 256

/* A sleep on this connection is worth being done so. */
static inline bool xshim_kick_able(const struct xshim_conn *c)
{
	return !__libc_single_threaded && atomic_load_explicit(&c->kickable, memory_order_relaxed) &&
	       !xshim_conn_flag(c, XSHIM_SLOT_CROWDED);
}

/*
 * Before a blocking receive: sleep until the socket is readable (1), a channel was attached (0: look again), or -EINTR. 1 also
 * when it cannot be done: then call the kernel. The caller's reference is dropped meanwhile and is not his any
 * more on return.
 */
int xshim_kick_wait(struct xshim_conn *c, int fd);
/*
 * ppoll over the n descriptors at p, which has room for one more: as ppoll, or 0 with *kicked when any connection of this process
 * got a channel. No references are held.
 */
int xshim_kick_poll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask, bool *kicked);
/* A channel was attached to c. */
void xshim_kick(struct xshim_conn *c);
void xshim_kick_fork_child(void);

#endif
