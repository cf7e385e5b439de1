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
 * It is all inline, because half of what it takes would be calls, and whatever else is to be done is another function's, which is gone
 * to and not called: so this one keeps nothing across a call, and need not save what it would be kept in.
 *
 * Threads: any. Signals: a handler that interrupts a holder of the lock goes the long way. errno is kept.
 */
#ifndef XSHIM_FAST_H
#define XSHIM_FAST_H
#include "channel.h"
#include "depart.h"
#include "options.h"

#include <errno.h>
#include <stddef.h>
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
#define XSHIM_ASIDE static __attribute__((noinline))
#define XSHIM_LIKELY(x) __builtin_expect(!!(x), 1)
#define XSHIM_RARELY(x) __builtin_expect(!!(x), 0)

/*
 * Looks at one word of many, relaxed. The compiler makes three instructions and a register of each that is atomic, and saves registers to
 * load many at once.
 */
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__) && !XSHIM_UCOPY_WATCHED
#define XSHIM_FAST_IS(word, value)                                                                 \
	__extension__({                                                                            \
		bool is_;                                                                          \
		_Static_assert(sizeof(word) == 4, "32 bits");                                      \
		__asm__ volatile("cmpl %2, %1" : "=@cce"(is_) : "m"(word), "i"(value));            \
		XSHIM_LIKELY(is_);                                                                 \
	})
#define XSHIM_FAST_LACKS(word, mask)                                                               \
	__extension__({                                                                            \
		bool lacks_;                                                                       \
		_Static_assert(sizeof(word) == 4, "32 bits");                                      \
		__asm__ volatile("testl %2, %1" : "=@ccz"(lacks_) : "m"(word), "i"(mask));         \
		XSHIM_LIKELY(lacks_);                                                              \
	})
/* sum: 64 bits. Words of 32 bits first, since that clears its upper half, then two that lie next to each other, then a last one or two. */
#define XSHIM_FAST_OR(sum, word)                                                                   \
	__extension__({                                                                            \
		_Static_assert(sizeof(word) == 4 && sizeof(sum) == 8, "32 bits");                  \
		__asm__ volatile("orl %1, %k0" : "+r"(sum) : "m"(word) : "cc");                    \
	})
#define XSHIM_FAST_OR_BOTH(sum, first, second) __asm__ volatile("orq %1, %0" : "+r"(sum) : "m"(*(const char(*)[8])&(first)) : "cc")
/* Whether it is 0 then. */
#define XSHIM_FAST_NONE(sum, word)                                                                 \
	__extension__({                                                                            \
		bool none_;                                                                        \
		__asm__ volatile("orq %2, %1" : "=@ccz"(none_), "+r"(sum) : "m"(*(const char(*)[8])&(word)) : "cc"); \
		XSHIM_LIKELY(none_);                                                               \
	})
#define XSHIM_FAST_NONE_BOTH(sum, first, second) XSHIM_FAST_NONE(sum, first)
/* By who holds the lock that guards it; others read it. */
#define XSHIM_FAST_ADD(word, n)                                                                    \
	__extension__({                                                                            \
		_Static_assert(sizeof(word) == 8, "64 bits");                                      \
		__asm__ volatile("addq %1, %0" : "+m"(word) : "r"((uint64_t)(n)) : "cc");          \
	})
/* Unsigned, and not before what was stored before by an exchange. */
#define XSHIM_FAST_UPTO(word, value)                                                               \
	__extension__({                                                                            \
		bool is_;                                                                          \
		_Static_assert(sizeof(word) == 4, "32 bits");                                      \
		__asm__ volatile("cmpl %2, %1" : "=@ccbe"(is_) : "m"(word), "i"(value) : "memory"); \
		XSHIM_LIKELY(is_);                                                                 \
	})
/* One more; whether it is not negative, which XSHIM_REF_EXCL makes it. */
#define XSHIM_FAST_ENTER(refs)                                                                     \
	__extension__({                                                                            \
		bool enters_;                                                                      \
		__asm__ volatile("lock incl %1" : "=@ccns"(enters_), "+m"(refs) : : "memory");     \
		enters_;                                                                           \
	})
/* A pointer in memory, after what was done before. */
#define XSHIM_FAST_SAME(at, pointer)                                                               \
	__extension__({                                                                            \
		bool same_;                                                                        \
		__asm__ volatile("cmpq %2, %1" : "=@cce"(same_) : "m"(at), "r"(pointer) : "memory"); \
		XSHIM_LIKELY(same_);                                                               \
	})
/* xshim_lock_let() */
#define XSHIM_FAST_LET(lock)                                                                       \
	__extension__({                                                                            \
		bool alone_;                                                                       \
		__asm__ volatile("lock andl %2, %1" : "=@ccz"(alone_), "+m"((lock)->word) : "i"(XSHIM_LOCK_WAITERS) : "memory"); \
		XSHIM_LIKELY(alone_);                                                              \
	})
#else
#define XSHIM_FAST_SAME(at, pointer) XSHIM_LIKELY(atomic_load_explicit(&(at), memory_order_acquire) == (pointer))
#define XSHIM_FAST_LET(lock) XSHIM_LIKELY(xshim_lock_let(lock))
#define XSHIM_FAST_ENTER(refs) (!(atomic_fetch_add_explicit(&(refs), 1, memory_order_acquire) & XSHIM_REF_EXCL))
#define XSHIM_FAST_IS(word, value) XSHIM_LIKELY(atomic_load_explicit(&(word), memory_order_relaxed) == (value))
#define XSHIM_FAST_LACKS(word, mask) XSHIM_LIKELY(!(atomic_load_explicit(&(word), memory_order_relaxed) & (mask)))
#define XSHIM_FAST_OR(sum, word) ((sum) |= (uint32_t)atomic_load_explicit(&(word), memory_order_relaxed))
#define XSHIM_FAST_OR_BOTH(sum, first, second) (XSHIM_FAST_OR(sum, first), XSHIM_FAST_OR(sum, second))
#define XSHIM_FAST_NONE(sum, word) XSHIM_LIKELY(!((sum) | atomic_load_explicit(&(word), memory_order_relaxed)))
#define XSHIM_FAST_NONE_BOTH(sum, first, second) (XSHIM_FAST_OR(sum, first), XSHIM_FAST_NONE(sum, second))
#define XSHIM_FAST_ADD(word, n) xshim_count(&(word), n)
#define XSHIM_FAST_UPTO(word, value) XSHIM_LIKELY(atomic_load_explicit(&(word), memory_order_seq_cst) <= (value))
#endif

/* The same call on the long way. */
typedef ssize_t xshim_long_send(int fd, const void *buf, size_t n, int flags);
typedef ssize_t xshim_long_recv(int fd, void *buf, size_t n, int flags);
/* The same for who holds a reference and rx_lock, and has found nothing there but perhaps a boundary. */
typedef ssize_t xshim_none_recv(int fd, void *buf, size_t n, int flags, struct xshim_conn *c);

/*
 * [buf, buf + n) may be the program's. An address that is nobody's faults when it is used (ucopy.h), and the long way says what it is; only
 * the kernel's half of them must not be tried, as there may be a page that anybody can read.
 */
#if defined(__x86_64__)
#define XSHIM_FAST_TOP ((uintptr_t)1 << 63)
#else
#define XSHIM_FAST_TOP ((uintptr_t)0x7ffffffff000 - XSHIM_FAST_MANY)
#endif
XSHIM_FAST bool xshim_fast_fits(const void *buf, size_t n, size_t most)
{
	return n - 1 < most && (uintptr_t)buf < XSHIM_FAST_TOP;
}

/*
 * A reference, as by xshim_conn_get(). False: there is one all the same, to be dropped, but nobody may be inside, or *e names it no more, or
 * another channel than ch has been attached, or none.
 */
XSHIM_FAST bool xshim_fast_hold(const xshim_fdtab_entry *e, struct xshim_obj *o, struct xshim_chan *ch)
{
	return XSHIM_LIKELY(XSHIM_FAST_ENTER(o->refs)) && XSHIM_FAST_SAME(*e, o) && XSHIM_FAST_SAME(o->ch, ch);
}

/* Last of all, in this way: n is what the call returns. */
XSHIM_ASIDE ssize_t xshim_fast_recycle(struct xshim_conn *c, size_t n)
{
	xshim_obj_recycle(&c->obj);
	return (ssize_t)n;
}

XSHIM_FAST ssize_t xshim_fast_done(struct xshim_conn *c, size_t n)
{
	if (XSHIM_RARELY(atomic_fetch_sub_explicit(&c->obj.refs, 1, memory_order_acq_rel) == 1))
		return xshim_fast_recycle(c, n);
	return (ssize_t)n;
}

/* lock: where in the slot. */
XSHIM_FAST struct xshim_lock *xshim_fast_lock(struct xshim_slot *s, size_t lock)
{
	return (struct xshim_lock *)((char *)s + lock);
}

/* Somebody waits for the lock that was dropped. */
XSHIM_ASIDE ssize_t xshim_fast_wake(struct xshim_conn *c, size_t n, size_t lock)
{
	xshim_lock_hand_on(xshim_fast_lock(c->slot, lock));
	return xshim_fast_done(c, n);
}

XSHIM_FAST ssize_t xshim_fast_leave(struct xshim_conn *c, struct xshim_slot *s, size_t n, size_t lock)
{
	if (!XSHIM_FAST_LET(xshim_fast_lock(s, lock)))
		return xshim_fast_wake(c, n, lock);
	return xshim_fast_done(c, n);
}

/* How far a call has come: to nothing, to a reference, to the lock of its direction as well. */
enum xshim_fast_in { XSHIM_FAST_OUTSIDE, XSHIM_FAST_INSIDE, XSHIM_FAST_LOCKED };

/* most: of n. */
XSHIM_FAST enum xshim_fast_in xshim_fast_enter(int fd, const void *buf, size_t n, size_t most, size_t lock, struct xshim_conn **c,
					       struct xshim_chan **ch, struct xshim_slot **s)
{
	const xshim_fdtab_entry *e;
	struct xshim_obj *o;
	uint32_t tid;

	if (!XSHIM_LIKELY(xshim_fast_fits(buf, n, most)))
		return XSHIM_FAST_OUTSIDE;
	e = xshim_fd_place(fd);
	if (!XSHIM_LIKELY(e))
		return XSHIM_FAST_OUTSIDE;
	o = atomic_load_explicit(e, memory_order_acquire);
	if (!XSHIM_LIKELY(o))
		return XSHIM_FAST_OUTSIDE;
	/* Not to be believed before the reference is ours. Who has one is a connection. */
	*ch = atomic_load_explicit(&o->ch, memory_order_acquire);
	if (!XSHIM_LIKELY(*ch))
		return XSHIM_FAST_OUTSIDE;
	tid = xshim_tid_cache;
	if (!XSHIM_LIKELY(tid))
		return XSHIM_FAST_OUTSIDE;
	*c = (struct xshim_conn *)o;
	if (!xshim_fast_hold(e, o, *ch))
		return XSHIM_FAST_INSIDE;
	*s = (*c)->slot;
	return XSHIM_LIKELY(xshim_lock_try(xshim_fast_lock(*s, lock), tid)) ? XSHIM_FAST_LOCKED : XSHIM_FAST_INSIDE;
}

XSHIM_FAST void xshim_fast_fetch(const uint8_t *at, size_t n)
{
	__builtin_prefetch(at, 0, 3);
	for (size_t i = 64; i < n; i += 64)
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

/* ---- sending ---- */

/* Nothing has been done, and a reference is held. */
XSHIM_ASIDE ssize_t xshim_fast_not_sent(int fd, const void *buf, size_t n, int flags, xshim_long_send *longer, struct xshim_conn *c)
{
	xshim_conn_put(c);
	return longer(fd, buf, n, flags);
}

/* So is the lock. */
XSHIM_ASIDE ssize_t xshim_fast_no_room(int fd, const void *buf, size_t n, int flags, xshim_long_send *longer, struct xshim_conn *c)
{
	xshim_lock_drop(&c->slot->tx_lock);
	xshim_conn_put(c);
	return longer(fd, buf, n, flags);
}

/* The peer is to be rung, or is leaving alone: it may have left without what was just put there (link.h). */
XSHIM_ASIDE ssize_t xshim_fast_tell(int fd, struct xshim_conn *c, struct xshim_chan *ch, size_t n, bool bell)
{
	bool alone = xshim_tx_is_alone(ch->remote.region);
	int saved;

	if (alone)
		atomic_store_explicit(&c->slot->link.late, 1, memory_order_relaxed);
	xshim_chan_drop_lock(c, ch, &c->slot->tx_lock, bell);
	if (alone) {
		saved = errno;
		xshim_chan_left_alone(c, ch, fd);
		errno = saved;
	}
	return xshim_fast_done(c, n);
}

/*
 * Nothing is special. A stall that is over is noted by the long way. Who is on the ring is not to be detached. tx_lock.
 */
XSHIM_FAST bool xshim_fast_may_send(const struct xshim_slot *s, const struct xshim_chan *ch)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	uint64_t special = atomic_load_explicit(&s->link.error, memory_order_relaxed);

	_Static_assert(offsetof(struct xshim_chan, tcp_err) == offsetof(struct xshim_chan, gone) + 4, "looked at at once");
	XSHIM_FAST_OR(special, peer->deaf);
	XSHIM_FAST_OR(special, peer->leave);
	XSHIM_FAST_OR(special, ch->unheard);
	XSHIM_FAST_OR_BOTH(special, ch->gone, ch->tcp_err);
	return XSHIM_FAST_NONE(special, ch->stall_ns) && XSHIM_FAST_IS(s->link.tx.state, XSHIM_TX_RING) &&
	       XSHIM_FAST_LACKS(s->flags, XSHIM_FAST_NOT);
}

/* n bytes have been put at `to`, where `used` wait for the peer. tx_lock. */
XSHIM_FAST ssize_t xshim_fast_sent(int fd, struct xshim_conn *c, struct xshim_chan *ch, uint8_t *to, uint64_t used, size_t n)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_slot *s = c->slot;
	bool bell = xshim_tx_commit(&s->link, ch->local.region, peer, n);

	if (n >= XSHIM_FETCH_LEAST && used + 2 * n <= s->link.tx.room && n <= XSHIM_FETCH_TX)
		xshim_fast_claim(to + n, n);
	XSHIM_FAST_ADD(s->n.ring_tx, n);
	if (bell || !XSHIM_FAST_UPTO(peer->leave, XSHIM_REGION_ASKS))	/* xshim_tx_is_alone() */
		return xshim_fast_tell(fd, c, ch, n, bell);
	return xshim_fast_leave(c, s, n, offsetof(struct xshim_slot, tx_lock));
}

/* Nothing is special, but it is much, or more than the peer was known to have room for, or goes beyond the lap (link.h). tx_lock. */
XSHIM_ASIDE ssize_t xshim_fast_send_more(int fd, const void *buf, size_t n, int flags, xshim_long_send *longer, struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_link *l = &c->slot->link;
	int64_t space = (int64_t)xshim_tx_known_space(l);
	uint8_t *to;

	if (!ch)		/* taken away just now */
		return xshim_fast_no_room(fd, buf, n, flags, longer, c);
	if ((int64_t)n > space || xshim_tx_place(l) + n - 1 > l->tx.soft)
		space = xshim_tx_space(l, ch->remote.region);
	if ((int64_t)n <= space && xshim_tx_place(l) + n - 1 > l->tx.soft)
		xshim_tx_anew(l, ch->local.region, n);
	to = xshim_region_data(ch->local.region) + xshim_tx_place(l);
	/* in one piece */
	if ((int64_t)n > space || xshim_tx_place(l) + n - 1 > l->tx.soft || !XSHIM_LIKELY(xshim_ucopy_inline(to, buf, n) == 0))
		return xshim_fast_no_room(fd, buf, n, flags, longer, c);
	return xshim_fast_sent(fd, c, ch, to, l->tx.pos - l->tx.tail, n);
}

/* At most `most` bytes. */
XSHIM_FAST ssize_t xshim_fast_send_upto(size_t most, int fd, const void *buf, size_t n, int flags, xshim_long_send *longer)
{
	struct xshim_chan *ch;
	struct xshim_conn *c;
	struct xshim_slot *s;
	enum xshim_fast_in in;
	uint64_t pos, used;
	uint8_t *to;
	size_t at;

	in = xshim_fast_enter(fd, buf, n, most, offsetof(struct xshim_slot, tx_lock), &c, &ch, &s);
	if (!XSHIM_LIKELY(in != XSHIM_FAST_OUTSIDE))
		return longer(fd, buf, n, flags);
	if (!XSHIM_LIKELY(in == XSHIM_FAST_LOCKED))
		return xshim_fast_not_sent(fd, buf, n, flags, longer, c);
	pos = s->link.tx.pos;
	at = (size_t)(pos - s->link.tx.base) & ch->tx_mask;
	used = pos - s->link.tx.tail;
	if (!XSHIM_LIKELY(xshim_fast_may_send(s, ch)))
		return xshim_fast_no_room(fd, buf, n, flags, longer, c);
	if (most > XSHIM_UCOPY_FEW || !XSHIM_LIKELY(used + n <= s->link.tx.room) || !XSHIM_LIKELY(at + n - 1 <= s->link.tx.soft))
		return xshim_fast_send_more(fd, buf, n, flags, longer, c);
	to = xshim_region_data(ch->local.region) + at;
	if (!XSHIM_LIKELY(xshim_ucopy_few(to, buf, n) == 0))
		return xshim_fast_no_room(fd, buf, n, flags, longer, c);
	return xshim_fast_sent(fd, c, ch, to, used, n);
}

XSHIM_ASIDE ssize_t xshim_fast_send_much(int fd, const void *buf, size_t n, int flags, xshim_long_send *longer)
{
	return xshim_fast_send_upto(XSHIM_FAST_MANY, fd, buf, n, flags, longer);
}

XSHIM_FAST ssize_t xshim_fast_send(int fd, const void *buf, size_t n, int flags, xshim_long_send *longer)
{
	if (XSHIM_LIKELY(n - 1 < XSHIM_UCOPY_FEW))
		return xshim_fast_send_upto(XSHIM_UCOPY_FEW, fd, buf, n, flags, longer);
	return xshim_fast_send_much(fd, buf, n, flags, longer);
}

/* ---- receiving ---- */

/* Nothing has been done, and a reference is held. */
XSHIM_ASIDE ssize_t xshim_fast_not_received(int fd, void *buf, size_t n, int flags, xshim_long_recv *longer, struct xshim_conn *c)
{
	xshim_conn_put(c);
	return longer(fd, buf, n, flags);
}

/* So is the lock. */
XSHIM_ASIDE ssize_t xshim_fast_none_there(int fd, void *buf, size_t n, int flags, xshim_long_recv *longer, struct xshim_conn *c)
{
	xshim_lock_drop(&c->slot->rx_lock);
	xshim_conn_put(c);
	return longer(fd, buf, n, flags);
}

XSHIM_ASIDE ssize_t xshim_fast_ring(struct xshim_conn *c, struct xshim_chan *ch, size_t n)
{
	xshim_chan_drop_ringing(c, ch, &c->slot->rx_lock);
	return xshim_fast_done(c, n);
}

/* Nothing is special. rx_lock. */
XSHIM_FAST bool xshim_fast_may_recv(const struct xshim_slot *s)
{
	uint64_t special = atomic_load_explicit(&s->link.error, memory_order_relaxed);

	_Static_assert(offsetof(struct xshim_slot, peek_at) == offsetof(struct xshim_slot, lowat) + 4, "looked at at once");
	/* a receive under these is counted otherwise (rxopts.h) */
	return XSHIM_FAST_NONE_BOTH(special, s->lowat, s->peek_at) && XSHIM_FAST_IS(s->link.rx.state, XSHIM_RX_RING) && XSHIM_FAST_LACKS(s->flags, XSHIM_SLOT_LEAVE);
}

/* `got` bytes were taken at `from`. True: the peer is to be rung. rx_lock. */
XSHIM_FAST bool xshim_fast_took(struct xshim_slot *s, struct xshim_chan *ch, const struct xshim_region_hdr *peer, const uint8_t *from, size_t got)
{
	if (s->link.rx.head - s->link.rx.pos >= 2 * got && got >= XSHIM_FETCH_LEAST && got <= XSHIM_FETCH_RX)
		xshim_fast_fetch(from + got, got);
	XSHIM_FAST_ADD(s->n.ring_rx, got);
	return xshim_rx_took_ring(&s->link, ch->local.region, peer, got);
}

XSHIM_FAST ssize_t xshim_fast_received(struct xshim_conn *c, struct xshim_slot *s, struct xshim_chan *ch, const struct xshim_region_hdr *peer,
				       const uint8_t *from, size_t got)
{
	if (xshim_fast_took(s, ch, peer, from, got))
		return xshim_fast_ring(c, ch, got);
	return xshim_fast_leave(c, s, got, offsetof(struct xshim_slot, rx_lock));
}

/* Nothing is special, and something is there, in one piece, but it is much. rx_lock. */
XSHIM_ASIDE ssize_t xshim_fast_recv_more(int fd, void *buf, size_t n, int flags, xshim_long_recv *longer, struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_link *l = &c->slot->link;
	uint64_t there = l->rx.head - l->rx.pos;
	size_t got = there < n ? (size_t)there : n;
	const uint8_t *from;

	if (!ch)		/* taken away just now */
		return xshim_fast_none_there(fd, buf, n, flags, longer, c);
	from = xshim_region_cdata(ch->remote.region) + xshim_rx_place(l);
	if (!XSHIM_LIKELY(xshim_ucopy_inline(buf, from, got) == 0) || !XSHIM_LIKELY(!xshim_chan_is_cut(ch)))
		return xshim_fast_none_there(fd, buf, n, flags, longer, c);
	return xshim_fast_received(c, c->slot, ch, ch->remote.region, from, got);
}

/* As much of *n bytes as there is lies in one piece, at *at: so much in *n. False: there is none, or it does not. rx_lock. */
XSHIM_FAST bool xshim_fast_there(struct xshim_link *l, const struct xshim_chan *ch, size_t *at, size_t *n)
{
	uint64_t there = l->rx.head - l->rx.pos;

	if (there < *n) {
		if (!XSHIM_LIKELY(xshim_rx_look(l, ch->remote.region, ch->rx_mask + 1, &there)))
			return false;
		if (there < *n)
			*n = (size_t)there;
	}
	*at = (size_t)(l->rx.pos - l->rx.base) & ch->rx_mask;
	return XSHIM_LIKELY(*at + *n - 1 <= ch->rx_mask);
}

/* For who holds a reference, and has slept until something came. 0: the long way. */
XSHIM_FAST ssize_t xshim_fast_take(struct xshim_conn *c, struct xshim_chan *ch, void *buf, size_t n)
{
	struct xshim_slot *s = c->slot;
	const uint8_t *from;
	bool bell = false;
	size_t at, got = 0, most = n;

	if (!xshim_fast_fits(buf, n, XSHIM_FAST_MANY) || !xshim_lock_try(&s->rx_lock, xshim_tid()))
		return 0;
	if (xshim_fast_may_recv(s) && xshim_fast_there(&s->link, ch, &at, &most)) {
		from = xshim_region_cdata(ch->remote.region) + at;
		if (xshim_ucopy_inline(buf, from, most) == 0 && !xshim_chan_is_cut(ch)) {
			got = most;
			bell = xshim_fast_took(s, ch, ch->remote.region, from, got);
		}
	}
	xshim_chan_drop_lock(c, ch, &s->rx_lock, bell);
	return (ssize_t)got;
}

XSHIM_FAST ssize_t xshim_fast_recv(int fd, void *buf, size_t n, int flags, xshim_long_recv *longer, xshim_none_recv *none)
{
	struct xshim_chan *ch;
	struct xshim_conn *c;
	struct xshim_slot *s;
	enum xshim_fast_in in;
	const uint8_t *from;
	size_t at, got;

	in = xshim_fast_enter(fd, buf, n, XSHIM_FAST_MANY, offsetof(struct xshim_slot, rx_lock), &c, &ch, &s);
	if (!XSHIM_LIKELY(in != XSHIM_FAST_OUTSIDE))
		return longer(fd, buf, n, flags);
	if (!XSHIM_LIKELY(in == XSHIM_FAST_LOCKED))
		return xshim_fast_not_received(fd, buf, n, flags, longer, c);
	if (!XSHIM_LIKELY(xshim_fast_may_recv(s)))
		return xshim_fast_none_there(fd, buf, n, flags, longer, c);
	got = n;
	if (!xshim_fast_there(&s->link, ch, &at, &got))
		return none(fd, buf, n, flags, c);
	if (!XSHIM_LIKELY(got <= XSHIM_UCOPY_FEW))
		return xshim_fast_recv_more(fd, buf, n, flags, longer, c);
	from = xshim_region_cdata(ch->remote.region) + at;
	if (!XSHIM_LIKELY(xshim_ucopy_few(buf, from, got) == 0))
		return xshim_fast_none_there(fd, buf, n, flags, longer, c);
	if (!XSHIM_FAST_IS(ch->cuttable, 0) && xshim_chan_is_cut(ch))
		return xshim_fast_none_there(fd, buf, n, flags, longer, c);
	return xshim_fast_received(c, s, ch, ch->remote.region, from, got);
}

#endif
