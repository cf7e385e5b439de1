/* SPDX-License-Identifier: MIT */
/*
 * fast.h - a send or a receive on a ring when nothing is special: the short way of stream_send.c and stream_recv.c.
 *
 * What it does is what they would do, and it does it only if there is nothing to decide: the connection is on the ring in this
 * direction, nobody leaves, has shut down or has an error to tell, nobody else is at it, all that is to be sent fits at one place of
 * the ring, or what is to be had of what is wanted lies at one. In all other cases it has done nothing, and the caller goes the
 * long way, which looks at everything anew.
 *
 * The peer's positions are those of the last look as long as they will do: for a send that fits there, for a receive that
 * is served in full. So two ends that both have something to do touch each other's cache lines now and then, not at each call. Where
 * they will not do, the peer's words are loaded: a receive sees all that is there, and no send fails or sleeps for want of a look.
 *
 * It is all inline, because half of what it takes would be calls.
 *
 * Threads: any. Signals: a handler that interrupts a holder of the lock goes the long way. errno is kept.
 */
#ifndef XSHIM_FAST_H
#define XSHIM_FAST_H
#include "channel.h"
#include "depart.h"
#include "options.h"
#include "unwind.h"

#include <errno.h>
#include <sys/socket.h>
#include <xshim/link.h>
#include <xshim/ring.h>
#include <xshim/ucopy.h>

/* A call with other flags is not for us. MSG_DONTWAIT: we never wait. */
#define XSHIM_FAST_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#define XSHIM_FAST_MANY ((size_t)XSHIM_RING_PART) /* what goes in parts goes the long way */

#define XSHIM_FAST_NOT (XSHIM_SLOT_SHUT_WR | XSHIM_SLOT_RESET | XSHIM_SLOT_FORCED | XSHIM_SLOT_LEAVE)	/* for a send */

/*
 * What the next call is likely to want is asked for while this one ends, because it is in the other processor's cache: that many
 * bytes of the ring behind, if they are known to be there or to be free. Measured: 1.3 to 1.4 times the rate for 64 to 512 bytes,
 * 1.2 for 1 KiB; beyond these limits it is lost, or costs.
 */
#define XSHIM_FETCH_LEAST 64
#define XSHIM_FETCH_TX 512
#define XSHIM_FETCH_RX 2048
#define XSHIM_FAST static inline __attribute__((always_inline))
#define XSHIM_LIKELY(x) __builtin_expect(!!(x), 1)

/*
 * Receives and sends are cancellation points, also those that need not sleep: a thread that has been cancelled ends before its call does
 * anything. Before anything is held; where the kernel is called, the C library does it.
 */
XSHIM_FAST void xshim_cancel_point(void)
{
	pthread_testcancel();
}

/* [buf, buf + n) may be the program's; below the end of the smallest address space there is nothing to ask (user.h). */
XSHIM_FAST bool xshim_fast_fits(const void *buf, size_t n)
{
	return n - 1 < XSHIM_FAST_MANY && (uintptr_t)buf < 0x7ffffffff000u - XSHIM_FAST_MANY;
}

/* The connection that fd names if it has a channel, referenced, as by xshim_conn_get(). NULL: nothing is held. */
XSHIM_FAST struct xshim_conn *xshim_fast_enter(int fd, struct xshim_chan **ch)
{
	xshim_fdtab_entry *e = xshim_fd_place(fd);
	struct xshim_obj *o;

	if (!e || xshim_async)		/* the long way has it put off (unwind.h) */
		return NULL;
	o = atomic_load_explicit(e, memory_order_acquire);
	/* An object's kind stays with its place, the rest is believed once the reference is ours. */
	if (!o || o->kind != XSHIM_OBJ_CONN || !xshim_conn_chan((struct xshim_conn *)o))
		return NULL;
	if (XSHIM_LIKELY(!(atomic_fetch_add_explicit(&o->refs, 1, memory_order_acquire) & XSHIM_REF_EXCL)) &&
	    XSHIM_LIKELY(atomic_load_explicit(e, memory_order_acquire) == o)) {
		*ch = xshim_conn_chan((struct xshim_conn *)o);
		if (XSHIM_LIKELY(*ch))
			return (struct xshim_conn *)o;
	}
	xshim_obj_put(o);
	return NULL;
}

/* It may have left without what was just put there (link.h). */
XSHIM_FAST void xshim_fast_left_alone(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	int saved = errno;

	xshim_chan_left_alone(c, ch, fd);
	errno = saved;
}

/*
 * The ring can take n bytes in one piece, and nothing is special: where. Else NULL. Who is on the ring is not to be detached.
 * tx_lock.
 */
XSHIM_FAST uint8_t *xshim_fast_room(struct xshim_slot *s, struct xshim_chan *ch, size_t n)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_link *l = &s->link;
	size_t size = (size_t)1 << l->order_own, at = (size_t)l->tx.pos & (size - 1);

	if (atomic_load_explicit(&l->tx.state, memory_order_relaxed) != XSHIM_TX_RING ||
	    (atomic_load_explicit(&s->flags, memory_order_relaxed) & XSHIM_FAST_NOT) ||
	    (atomic_load_explicit(&l->error, memory_order_relaxed) |
	     atomic_load_explicit(&ch->gone, memory_order_relaxed) |
	     (uint32_t)atomic_load_explicit(&ch->tcp_err, memory_order_relaxed) |
	     atomic_load_explicit(&peer->deaf, memory_order_relaxed) |
	     atomic_load_explicit(&peer->leave, memory_order_relaxed)) ||
	    at + n > size)
		return NULL;
	if (!XSHIM_LIKELY(n <= xshim_tx_known_space(l)) && (int64_t)n > xshim_tx_space(l, peer))
		return NULL;
	return xshim_region_data(ch->local.region) + at;
}

XSHIM_FAST void xshim_fast_fetch(const uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; i += 64)
		__builtin_prefetch(at + i, 0, 3);
}

/* To write there. A processor that does not know the instruction does nothing. */
XSHIM_FAST void xshim_fast_claim(const uint8_t *at, size_t n)
{
#if defined(__x86_64__)
	for (size_t i = 0; i < n; i += 64)
		__asm__ volatile("prefetchw %0" : : "m"(at[i]));
#else
	for (size_t i = 0; i < n; i += 64)
		__builtin_prefetch(at + i, 1, 3);
#endif
}

/* Bytes moved; 0: go the long way. */
XSHIM_FAST ssize_t xshim_fast_send(int fd, const void *buf, size_t n)
{
	struct xshim_chan *ch;
	struct xshim_conn *c;
	struct xshim_slot *s;
	bool bell = false, alone = false;
	ssize_t done = 0;
	uint8_t *to;

	if (!XSHIM_LIKELY(xshim_fast_fits(buf, n)))
		return 0;
	c = xshim_fast_enter(fd, &ch);
	if (!c)
		return 0;
	s = c->slot;
	if (XSHIM_LIKELY(xshim_lock_try(&s->tx_lock, xshim_tid()))) {
		to = xshim_fast_room(s, ch, n);
		if (XSHIM_LIKELY(to) && XSHIM_LIKELY(xshim_ucopy_inline(to, buf, n) == 0)) {
			bell = xshim_tx_commit(&s->link, ch->local.region, ch->remote.region, n);
			alone = xshim_tx_is_alone(ch->remote.region);
			if (alone)
				atomic_store_explicit(&s->link.late, 1, memory_order_relaxed);
			if (n >= XSHIM_FETCH_LEAST && n <= XSHIM_FETCH_TX && n <= xshim_tx_known_space(&s->link))
				xshim_fast_claim(to + n, n);
			s->base_tx += (int64_t)n;
			xshim_count(&s->n.ring_tx, n);
			if (atomic_load_explicit(&ch->stall_ns, memory_order_relaxed))
				atomic_store_explicit(&ch->stall_ns, 0, memory_order_relaxed);
			done = (ssize_t)n;
		}
		xshim_chan_drop_lock(c, ch, &s->tx_lock, bell);
	}
	if (alone)
		xshim_fast_left_alone(c, ch, fd);
	xshim_conn_put(c);
	return done;
}

/* As much of n bytes as there is lies in one piece, *n bytes at what is returned. NULL: there is none, or something is special. rx_lock. */
XSHIM_FAST const uint8_t *xshim_fast_there(struct xshim_slot *s, struct xshim_chan *ch, size_t *n)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_link *l = &s->link;
	size_t size = (size_t)1 << l->order_peer, at = (size_t)l->rx.pos & (size - 1);
	uint64_t there = l->rx.head - l->rx.pos;

	if (atomic_load_explicit(&l->rx.state, memory_order_relaxed) != XSHIM_RX_RING ||
	    (atomic_load_explicit(&s->flags, memory_order_relaxed) & XSHIM_SLOT_LEAVE) ||
	    (atomic_load_explicit(&l->error, memory_order_relaxed) |
	     /* a receive under these is counted otherwise (rxopts.h) */
	     atomic_load_explicit(&s->peek_at, memory_order_relaxed) |
	     atomic_load_explicit(&s->lowat, memory_order_relaxed)))
		return NULL;
	if (there < *n) {
		if (!xshim_rx_look(l, peer, &there) || !there)
			return NULL;
		if (there < *n)
			*n = (size_t)there;
	}
	return at + *n <= size ? xshim_region_cdata(peer) + at : NULL;
}

XSHIM_FAST ssize_t xshim_fast_recv(int fd, void *buf, size_t n)
{
	struct xshim_chan *ch;
	struct xshim_conn *c;
	struct xshim_slot *s;
	const uint8_t *from;
	bool bell = false;
	ssize_t done = 0;

	if (!XSHIM_LIKELY(xshim_fast_fits(buf, n)))
		return 0;
	c = xshim_fast_enter(fd, &ch);
	if (!c)
		return 0;
	s = c->slot;
	if (XSHIM_LIKELY(xshim_lock_try(&s->rx_lock, xshim_tid()))) {
		from = xshim_fast_there(s, ch, &n);
		if (from && XSHIM_LIKELY(xshim_ucopy_inline(buf, from, n) == 0) && XSHIM_LIKELY(!xshim_chan_is_cut(ch))) {
			bell = xshim_rx_took_ring(&s->link, ch->local.region, ch->remote.region, n);
			if (n >= XSHIM_FETCH_LEAST && n <= XSHIM_FETCH_RX && s->link.rx.head - s->link.rx.pos >= n)
				xshim_fast_fetch(from + n, n);
			s->base_rx += (int64_t)n;
			xshim_count(&s->n.ring_rx, n);
			done = (ssize_t)n;
		}
		xshim_chan_drop_lock(c, ch, &s->rx_lock, bell);
	}
	xshim_conn_put(c);
	return done;
}

#endif
