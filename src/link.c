/* SPDX-License-Identifier: MIT */
/*
 * link.c - the switch state machine (link.h), pure code. link_leave.c ends it.
 *
 * Every word of the peer is loaded once per call into a local; what is stored in struct xshim_link has
 * been checked. A lie is answered with -EPROTO, which sticks: nothing after it is believed.
 */
#include "link_parts.h"

#include <errno.h>
#include <string.h>

void xshim_link_init(struct xshim_link *l, unsigned int order_own, uint64_t nonce_own,
		     unsigned int order_peer, uint64_t nonce_peer)
{
	memset(l, 0, sizeof(*l));
	l->order_own = order_own;
	l->order_peer = order_peer;
	l->nonce_own = nonce_own;
	l->nonce_peer = nonce_peer;
	l->tx.room = 1ull << order_own;
}

void xshim_link_buffers(struct xshim_link *l, struct xshim_region_hdr *own, uint32_t sndbuf, uint32_t rcvbuf)
{
	atomic_store_explicit(&l->sndbuf, sndbuf, memory_order_relaxed);
	atomic_store_explicit(&l->rcvbuf, rcvbuf, memory_order_relaxed);
	atomic_store_explicit(&own->sndbuf, sndbuf, memory_order_relaxed);
	atomic_store_explicit(&own->rcvbuf, rcvbuf, memory_order_relaxed);
	/* until the next look at the peer's words, if ours alone says less */
	l->tx.room = xshim_region_room(l->order_own, sndbuf, 0);
}

uint64_t xshim_rx_room(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	return xshim_region_room(l->order_peer, atomic_load_explicit(&peer->sndbuf, memory_order_relaxed),
				 atomic_load_explicit(&l->rcvbuf, memory_order_relaxed));
}

/* ---- sending ---- */

/* The peer has crossed our last switch. An ack of a switch never made is a lie, seen as "not crossed". */
bool xshim_link_acked(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	return atomic_load_explicit(&peer->ack, memory_order_acquire) == l->tx.seq;
}

/*
 * Bytes may be put on TCP behind an up: no read is under way that has not seen it. The up was stored, seq_cst, by this
 * end before; pairs with xshim_rx_read_begin().
 */
bool xshim_link_is_seen(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	return xshim_link_acked(l, peer) || !atomic_load_explicit(&peer->reading, memory_order_seq_cst);
}

bool xshim_tx_may_switch(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	if (l->error)
		return false;
	switch (atomic_load_explicit(&l->tx.state, memory_order_relaxed)) {
	case XSHIM_TX_TCP:
		/* up: also while the peer waits to leave, it needs us on the ring for that */
		return !l->withdrawn && l->rx.state != XSHIM_RX_GIVEN &&
		       atomic_load_explicit(&peer->leave, memory_order_relaxed) != XSHIM_REGION_LEFT &&
		       atomic_load_explicit(&peer->attached, memory_order_seq_cst) == 1 && xshim_link_acked(l, peer);
	case XSHIM_TX_RING:
		/* down: not when somebody is leaving, LEAVE itself brings us back; and no bytes behind one that was undone */
		return !l->want_leave && !l->tx.frame_len && xshim_link_is_seen(l, peer) &&
		       !atomic_load_explicit(&peer->leave, memory_order_acquire);
	default:
		return false;
	}
}

bool xshim_tx_may_come_down(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	if (l->error || atomic_load_explicit(&l->tx.state, memory_order_relaxed) != XSHIM_TX_RING || l->tx.frame_len ||
	    !xshim_link_is_seen(l, peer))
		return false;
	return l->rx.state == XSHIM_RX_TCP || atomic_load_explicit(&peer->fin, memory_order_acquire) ||
	       (!l->want_leave && !atomic_load_explicit(&peer->leave, memory_order_acquire));
}

bool xshim_tx_peer_reads(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	return !l->error && atomic_load_explicit(&l->tx.state, memory_order_relaxed) == XSHIM_TX_RING && !xshim_link_is_seen(l, peer);
}

static void publish_switch(struct xshim_link *l, struct xshim_region_hdr *own, uint64_t at)
{
	l->tx.seq++;
	/* sw_at /then/ sw_seq; pairs with xshim_rx_next(). */
	atomic_store_explicit(&own->sw_at[l->tx.seq & 1], at, memory_order_relaxed);
	atomic_store_explicit(&own->sw_seq, l->tx.seq, memory_order_seq_cst);
}

void xshim_tx_up(struct xshim_link *l, struct xshim_region_hdr *own, uint64_t at)
{
	l->tx.pos = at;
	l->tx.start = at;
	l->tx.tail = at;
	l->tx.state = XSHIM_TX_RING;
	/* head /then/ the switch: who sees the switch sees an empty ring, not the last segment's head. */
	atomic_store_explicit(&own->head, at, memory_order_seq_cst);
	publish_switch(l, own, at);
}

void xshim_link_come_down(struct xshim_link *l, struct xshim_region_hdr *own)
{
	l->tx.state = XSHIM_TX_TCP;
	atomic_store_explicit(&own->want_space, XSHIM_WANT_NOTHING, memory_order_relaxed);
	publish_switch(l, own, l->tx.pos);
}

bool xshim_tx_down(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	uint32_t leave;

	/* answering /then/ leave; pairs with xshim_link_stop(). */
	atomic_store_explicit(&own->answering, 1, memory_order_seq_cst);
	leave = atomic_load_explicit(&peer->leave, memory_order_seq_cst);
	if (leave <= XSHIM_REGION_ASKS)
		xshim_link_come_down(l, own);
	atomic_store_explicit(&own->answering, 0, memory_order_seq_cst);
	return leave <= XSHIM_REGION_ASKS;
}

bool xshim_tx_fin_waits(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	uint64_t tail;

	switch (atomic_load_explicit(&l->tx.state, memory_order_relaxed)) {
	case XSHIM_TX_HELD:
	case XSHIM_TX_RESEND:
		return true;
	case XSHIM_TX_RING:
		if (!atomic_load_explicit(&l->late, memory_order_relaxed) || !xshim_tx_is_alone(peer))
			return false;
		tail = atomic_load_explicit(&peer->tail, memory_order_seq_cst);
		return (tail < l->tx.start ? l->tx.start : tail) < l->tx.pos;
	default:
		return false;
	}
}

int64_t xshim_tx_space(struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	uint64_t tail;

	if (l->error)
		return -EPROTO;
	l->tx.room = xshim_region_room(l->order_own, atomic_load_explicit(&l->sndbuf, memory_order_relaxed),
				       atomic_load_explicit(&peer->rcvbuf, memory_order_relaxed));
	tail = atomic_load_explicit(&peer->tail, memory_order_seq_cst);
	/* Until the peer crosses our up, its tail still speaks of an earlier segment. */
	if (tail > l->tx.tail) {
		if (tail > l->tx.pos)
			return broken(l);
		l->tx.tail = tail;
	} else if (tail < l->tx.tail && l->tx.tail != l->tx.start) {
		return broken(l);
	}
	return (int64_t)xshim_tx_known_space(l);
}

void xshim_tx_anew(struct xshim_link *l, struct xshim_region_hdr *own, uint64_t n)
{
	uint64_t last = (1ull << l->order_own) - 1, end;

	if (l->tx.tail == l->tx.pos && l->tx.base != l->tx.pos) {
		/* ours /then/ the word: who takes the lock over announces it (xshim_tx_mend()) */
		l->tx.base = l->tx.pos;
		atomic_store_explicit(&own->base, l->tx.pos, memory_order_release);
	}
	end = (xshim_tx_place(l) + n - 1) | (XSHIM_TX_LAP - 1);
	l->tx.soft = end < last ? end : last;
}

void xshim_tx_want(struct xshim_link *l, struct xshim_region_hdr *own, uint64_t free_wanted)
{
	uint64_t size = l->tx.room;
	uint64_t used = l->tx.pos - l->tx.tail;
	uint64_t at;

	if (l->tx.state != XSHIM_TX_RING || free_wanted == 0) {
		at = XSHIM_WANT_NOTHING;
	} else {
		if (free_wanted > size)
			free_wanted = size;
		/* free >= wanted once tail > at: tail >= pos - size + wanted. Ring is on "passes at". */
		at = used + free_wanted > size ? l->tx.pos - size + free_wanted - 1 : l->tx.tail;
	}
	atomic_store_explicit(&own->want_space, at, memory_order_seq_cst);
}

uint64_t xshim_tx_unread(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	uint32_t state = atomic_load_explicit(&l->tx.state, memory_order_relaxed);
	uint64_t tail;

	if (state != XSHIM_TX_RING && (state != XSHIM_TX_TCP || !l->tx.seq))
		return 0;
	/* it has crossed the down, and goes on by TCP */
	if (state == XSHIM_TX_TCP && atomic_load_explicit(&peer->ack, memory_order_acquire) == l->tx.seq)
		return 0;
	tail = atomic_load_explicit(&peer->tail, memory_order_seq_cst);
	/* Until it crosses our up, it speaks of an earlier segment. */
	if (tail < l->tx.start || tail > l->tx.pos)
		tail = l->tx.start;
	return l->tx.pos - tail;
}

void xshim_tx_want_unread(const struct xshim_link *l, struct xshim_region_hdr *own, uint64_t left)
{
	/* no more than `left` are once tail > at */
	uint64_t at = l->tx.pos - l->tx.start > left ? l->tx.pos - left - 1 : XSHIM_WANT_NOTHING;

	atomic_store_explicit(&own->want_space, at, memory_order_seq_cst);
}

void xshim_tx_mend(struct xshim_link *l, struct xshim_region_hdr *own)
{
	bool ring = l->tx.state == XSHIM_TX_RING;

	if (l->tx.state > XSHIM_TX_RING)
		return;
	if (l->taken) {
		xshim_tx_take(l, own);
		return;
	}
	atomic_store_explicit(&own->base, l->tx.base, memory_order_release);
	if (ring)
		atomic_store_explicit(&own->head, l->tx.pos, memory_order_seq_cst);
	if (ring != (l->tx.seq & 1)) {
		publish_switch(l, own, l->tx.pos);
	} else if (atomic_load_explicit(&own->sw_seq, memory_order_relaxed) != l->tx.seq) {
		atomic_store_explicit(&own->sw_at[l->tx.seq & 1], l->tx.pos, memory_order_relaxed);
		atomic_store_explicit(&own->sw_seq, l->tx.seq, memory_order_seq_cst);
	}
}

void xshim_tx_resent(struct xshim_link *l, uint64_t n)
{
	l->tx.pos += n;
	if (l->tx.pos >= l->tx.end)
		l->tx.state = XSHIM_TX_OUT;
}

/* ---- receiving ---- */

/* The peer's next switch, if one is announced that we have not crossed: 1, and *at; 0: none; -EPROTO. */
static int boundary(struct xshim_link *l, const struct xshim_region_hdr *peer, uint64_t *at)
{
	uint32_t ahead = atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) - l->rx.seq;

	if (!ahead)
		return 0;
	/* an up, maybe with a down behind it; a down alone */
	if (ahead > (l->rx.seq & 1 ? 1u : 2u))
		return broken(l);
	*at = atomic_load_explicit(&peer->sw_at[(l->rx.seq + 1) & 1], memory_order_relaxed);
	return 1;
}

static int ring_limit(struct xshim_link *l, const struct xshim_region_hdr *peer, uint64_t *limit)
{
	return xshim_rx_take_head(l, peer, 1ull << l->order_peer, limit) ? 0 : broken(l);
}

static void cross(struct xshim_link *l, struct xshim_region_hdr *own)
{
	l->rx.seq++;
	if (l->rx.state == XSHIM_RX_TCP) {
		l->rx.state = XSHIM_RX_RING;
		l->rx.head = l->rx.pos;
		/* tail /then/ ack: who sees the ack sees a tail of this segment. */
		atomic_store_explicit(&own->tail, l->rx.pos, memory_order_seq_cst);
	} else {
		l->rx.state = XSHIM_RX_TCP;
	}
	atomic_store_explicit(&own->ack, l->rx.seq, memory_order_seq_cst);
}

int xshim_rx_next(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer,
		  enum xshim_rx_step *step, uint64_t *limit, bool *crossed)
{
	uint64_t at = 0;
	int rc;

	*crossed = false;
	*limit = 0;
	if (l->error)
		return -EPROTO;
	switch (atomic_load_explicit(&l->rx.state, memory_order_relaxed)) {
	case XSHIM_RX_TCP:
		*step = XSHIM_RX_STEP_TCP;
		rc = boundary(l, peer, &at);
		if (rc < 0)
			return rc;
		if (!rc) {
			*limit = UINT64_MAX;
			return 0;
		}
		if (at < l->rx.pos)
			return broken(l);
		if (at > l->rx.pos) {
			*limit = at - l->rx.pos;
			return 0;
		}
		/* One at a time: a peer that announces as fast as we ack must not keep us here. */
		cross(l, own);
		*crossed = true;
		return 0;
	case XSHIM_RX_RING:
		*step = XSHIM_RX_STEP_RING;
		/*
		 * Boundary /then/ head: the peer stores its last head before it announces a down, so a
		 * boundary that we see comes with a head that is final.
		 */
		rc = boundary(l, peer, &at);
		if (rc < 0)
			return rc;
		if (!rc)
			return ring_limit(l, peer, limit);
		if (at < l->rx.head || at - l->rx.pos > (1ull << l->order_peer) || !xshim_rx_take_base(l, peer))
			return broken(l);
		l->rx.head = at;
		if (at > l->rx.pos) {
			*limit = at - l->rx.pos;
			return 0;
		}
		cross(l, own);
		*crossed = true;
		return 0;
	case XSHIM_RX_FRAME:
		*step = XSHIM_RX_STEP_FRAME;
		*limit = XSHIM_FRAME_BYTES - l->rx.frame_got;
		return 0;
	case XSHIM_RX_GIVEN:
		/* nothing, but what precedes it by TCP: until it is taken, what comes there may follow it */
		*step = XSHIM_RX_STEP_RING;
		rc = l->rx.seq & 1 ? 0 : boundary(l, peer, &at);
		if (rc > 0 && at > l->rx.pos) {
			*step = XSHIM_RX_STEP_TCP;
			*limit = at - l->rx.pos;
		}
		return rc < 0 ? rc : 0;
	default:
		*step = XSHIM_RX_STEP_TCP;
		*limit = UINT64_MAX;
		return 0;
	}
}

bool xshim_rx_ends_at(const struct xshim_link *l, const struct xshim_region_hdr *peer, uint64_t limit)
{
	/* more may have come between that look and the switch */
	return atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) != l->rx.seq &&
	       atomic_load_explicit(&peer->sw_at[(l->rx.seq + 1) & 1], memory_order_relaxed) == l->rx.pos + limit;
}

void xshim_rx_set_pos(struct xshim_link *l, uint64_t pos)
{
	l->rx.pos = pos;
}

bool xshim_rx_read_begin(const struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	/* reading /then/ sw_seq; pairs with xshim_link_is_seen(). */
	atomic_store_explicit(&own->reading, 1, memory_order_seq_cst);
	return l->rx.state != XSHIM_RX_TCP || atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) == l->rx.seq;
}

void xshim_rx_read_end(struct xshim_region_hdr *own)
{
	atomic_store_explicit(&own->reading, 0, memory_order_release);
}

int xshim_rx_took_tcp(struct xshim_link *l, uint64_t n)
{
	l->rx.pos += n;
	if (l->rx.state == XSHIM_RX_RAW && l->rx.pos >= l->rx.end)
		l->rx.state = XSHIM_RX_OUT;
	return 0;
}

void xshim_rx_want(struct xshim_link *l, struct xshim_region_hdr *own, bool want)
{
	uint64_t at = XSHIM_WANT_NOTHING;

	/*
	 * The last head that we know: whatever comes after what we have looked at rings, also when
	 * that has not been consumed. On the TCP path there is none; an announcement rings anyway.
	 */
	if (want)
		at = l->rx.state == XSHIM_RX_RING ? l->rx.head : 0;
	atomic_store_explicit(&own->want_data, at, memory_order_seq_cst);
}

void xshim_rx_mend(struct xshim_link *l, struct xshim_region_hdr *own)
{
	if (l->rx.state > XSHIM_RX_RING)
		return;
	if ((l->rx.state == XSHIM_RX_RING) != (l->rx.seq & 1))
		l->rx.state = l->rx.seq & 1 ? XSHIM_RX_RING : XSHIM_RX_TCP;
	if (l->rx.state == XSHIM_RX_RING) {
		if (l->rx.head < l->rx.pos || atomic_load_explicit(&own->ack, memory_order_relaxed) != l->rx.seq)
			l->rx.head = l->rx.pos;	/* it was crossing */
		atomic_store_explicit(&own->tail, l->rx.pos, memory_order_seq_cst);
	}
	atomic_store_explicit(&own->ack, l->rx.seq, memory_order_seq_cst);
}
