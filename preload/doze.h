/* SPDX-License-Identifier: MIT */
/*
 * doze.h - a quicker sleep for who waits for bytes in a blocking call and has slept there often.
 *
 * poll() of socket, bell and life takes place in three queues and leaves them again, and the bell has to be emptied
 * after it. An epoll descriptor of the channel's own stays in the queues and hears each ring as an edge: measured with both ends on one
 * processor, 2.4 us for a round trip of bells instead of 3.5. It costs one more private descriptor, so it is made only for a channel
 * on which a call has slept before, and while such descriptors are plenty.
 *
 * With another guest the bell is emptied each time, because it says nothing more before that: 77.3 us instead of 79.7 for a round trip of
 * one byte between two guests of Xen, by the virtual clock.
 *
 * What differs from poll() otherwise is that an edge is told once, and to one who waits. So one call at a time sleeps by it, all others poll;
 * after it has told of the socket it is asked anew before it is used again, which brings back what is still so; and a channel that
 * a fork has given to two processes is polled for good.
 *
 * Threads: any. Errors: as poll().
 */
#ifndef XSHIM_DOZE_H
#define XSHIM_DOZE_H
#include "channel.h"

#include <poll.h>

#define XSHIM_DOZE_NEVER UINT32_MAX

/*
 * True: the caller has it for himself until xshim_doze_end(). He looks with XSHIM_LOOK_EDGE, and if the look says to ask the socket for
 * POLLIN and nothing else, may sleep by it.
 */
bool xshim_doze_begin(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int what, uint64_t deadline_ns);
/* The same for who has looked for himself whether all that the sleep goes by is as it must be (nap.h): only if it is there, and fresh. */
static inline bool xshim_doze_take(struct xshim_chan *ch)
{
	if (atomic_exchange_explicit(&ch->dozer, 1, memory_order_acquire))
		return false;
	if (ch->doze_ep >= 0 && !ch->doze_stale)
		return true;
	atomic_store_explicit(&ch->dozer, 0, memory_order_release);
	return false;
}
/* As poll(p, 3, -1) of socket, bell and life. */
int xshim_doze(struct xshim_chan *ch, struct pollfd p[3]);
/* Also by who never comes back from the sleep (unwind.h): what it may have been told is told anew then, to the next one. */
void xshim_doze_end(struct xshim_chan *ch);
/* The channel is freed, or this is a forked child. */
void xshim_doze_close(struct xshim_chan *ch);

#endif
