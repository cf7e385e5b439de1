/* SPDX-License-Identifier: MIT */
/*
 * link_give.c - returns to TCP without LEAVE (link.h, region.h): before anything was switched; and with something unread, which is given
 * back to who sent it, for another program to read. Pure code, as link.c.
 */
#include <xshim/link.h>

#include <errno.h>

/*
 * Each end stores its own `attached` /then/ reads the other's. An end that is not attached yet, when ours is read, will
 * find 2 when it is; one that is attached may have read 1 and be switching now.
 */
bool xshim_link_withdraw(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	uint32_t its;

	if (l->error || l->tx.seq || l->rx.seq)
		return false;
	l->withdrawn = 1;
	atomic_store_explicit(&own->attached, 2, memory_order_seq_cst);
	its = atomic_load_explicit(&peer->attached, memory_order_seq_cst);
	if (atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst)) {
		/* It has switched, so it does not count on this. */
		l->withdrawn = 0;
		atomic_store_explicit(&own->attached, 1, memory_order_seq_cst);
		return false;
	}
	return its != 1;
}

bool xshim_link_is_withdrawn(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	if (l->error || l->tx.seq || l->rx.seq ||
	    atomic_load_explicit(&peer->attached, memory_order_seq_cst) != 2 ||
	    atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst))
		return false;
	l->withdrawn = 1;
	atomic_store_explicit(&own->attached, 2, memory_order_seq_cst);
	return true;
}

/* Up to the head that the peer was shown. */
void xshim_tx_take(struct xshim_link *l, struct xshim_region_hdr *own)
{
	l->tx.seq += l->tx.seq & 1;
	atomic_store_explicit(&own->want_space, XSHIM_WANT_NOTHING, memory_order_relaxed);
	atomic_store_explicit(&own->sw_at[0], l->tx.tail, memory_order_relaxed);
	atomic_store_explicit(&own->sw_seq, l->tx.seq, memory_order_seq_cst);
	l->tx.end = atomic_load_explicit(&own->head, memory_order_relaxed);
	l->tx.pos = l->tx.tail;
	l->tx.state = l->tx.tail < l->tx.end ? XSHIM_TX_RESEND : XSHIM_TX_OUT;
}

static bool is_out_of_ring(const struct xshim_region_hdr *peer)
{
	return !(atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) & 1) ||
	       atomic_load_explicit(&peer->fin, memory_order_seq_cst) ||
	       atomic_load_explicit(&peer->deaf, memory_order_seq_cst) == XSHIM_REGION_CLOSED;
}

int xshim_link_give(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	int rc;

	if (l->rx.state != XSHIM_RX_GIVEN) {
		if (l->error || l->tx.frame_len || l->left || l->want_leave || l->tx.state > XSHIM_TX_RING || l->rx.state > XSHIM_RX_RING)
			return 0;
		/* a down ahead of what is unread, or nothing on its ring; and one whose LEAVE was called off answers for ever */
		if (is_out_of_ring(peer) || atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) - l->rx.seq > 1 ||
		    atomic_load_explicit(&peer->answering, memory_order_seq_cst))
			return 0;
		if (l->tx.state == XSHIM_TX_RING && !l->fin && !(xshim_tx_may_come_down(l, peer) && xshim_tx_down(l, own, peer)))
			return 0;
		l->rx.end = l->rx.pos;
		l->rx.state = XSHIM_RX_GIVEN;	/* first: from here on nothing of it is consumed */
	}
	/* leave /then/ answering /then/ sw_seq, fin and deaf; pairs with xshim_tx_down() and xshim_link_try_fin(). */
	atomic_store_explicit(&own->leave, XSHIM_REGION_GIVES, memory_order_seq_cst);
	if (atomic_load_explicit(&peer->answering, memory_order_seq_cst))
		return xshim_link_is_taken(l, own, peer) ? 1 : -EAGAIN;
	if (!is_out_of_ring(peer))
		return 1;
	rc = xshim_link_ungive(l, own, peer, false);
	return rc < 0 ? rc : !rc;
}

bool xshim_link_is_taken(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	bool ring = l->rx.seq & 1;
	uint32_t ahead;
	uint64_t up, down;

	if (l->error || l->rx.state != XSHIM_RX_GIVEN)
		return false;
	ahead = atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) - l->rx.seq;
	up = ring ? l->rx.end : atomic_load_explicit(&peer->sw_at[1], memory_order_relaxed);
	down = atomic_load_explicit(&peer->sw_at[0], memory_order_relaxed);
	/* a down further on was on its way when it was given, and lies behind what is unread */
	if (ahead != (ring ? 1u : 2u) || down != up)
		return false;
	xshim_link_stopped(l, own);
	return true;
}

int xshim_link_ungive(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer, bool dead)
{
	if (l->rx.state != XSHIM_RX_GIVEN)
		return 1;
	if (xshim_link_is_taken(l, own, peer))
		return 0;
	/* leave /then/ answering; pairs with xshim_link_is_given(). */
	atomic_store_explicit(&own->leave, 0, memory_order_seq_cst);
	if (!dead && atomic_load_explicit(&peer->answering, memory_order_seq_cst)) {
		atomic_store_explicit(&own->leave, XSHIM_REGION_GIVES, memory_order_seq_cst);
		return -EAGAIN;
	}
	l->rx.state = l->rx.seq & 1 ? XSHIM_RX_RING : XSHIM_RX_TCP;
	return 1;
}

/* The owner can take it back so often in the middle of one look of the peer's, and no more: each time takes a call of its. */
#define TAKES 16

int xshim_link_is_given(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	bool gives = true;
	uint64_t tail;

	if (l->error)
		return -EPROTO;
	for (int i = 0; i < TAKES && gives && !l->taken && !l->fin && !l->tx.frame_len && l->tx.state == XSHIM_TX_RING; i++) {
		/* answering /then/ leave /then/ tail; pairs with xshim_link_ungive(). */
		atomic_store_explicit(&own->answering, 1, memory_order_seq_cst);
		if (atomic_load_explicit(&peer->leave, memory_order_seq_cst) == XSHIM_REGION_GIVES) {
			tail = atomic_load_explicit(&peer->tail, memory_order_seq_cst);
			if (tail < l->tx.start)
				tail = l->tx.start;
			if (tail < l->tx.tail || tail > l->tx.pos)
				goto broken;
			l->tx.tail = tail;
			l->taken = 1;		/* first: from here on it can only be finished */
			xshim_tx_take(l, own);
		} else {
			atomic_store_explicit(&own->answering, 0, memory_order_seq_cst);
			/* who gives on because we were looking is not to wait for our next call */
			gives = atomic_load_explicit(&peer->leave, memory_order_seq_cst) == XSHIM_REGION_GIVES;
		}
	}
	/* its last switch is final: it has stored it before, and can make none any more */
	if (l->taken && l->rx.state == XSHIM_RX_TCP && atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) == l->rx.seq)
		l->rx.state = XSHIM_RX_OUT;
	return 0;
broken:
	l->error = EPROTO;
	return -EPROTO;
}

bool xshim_link_try_fin(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	bool ring = l->tx.state == XSHIM_TX_RING && !l->tx.frame_len, gives;

	/* answering /then/ leave; pairs with xshim_link_give(). */
	if (ring)
		atomic_store_explicit(&own->answering, 1, memory_order_seq_cst);
	gives = ring && !l->fin && atomic_load_explicit(&peer->leave, memory_order_seq_cst) == XSHIM_REGION_GIVES;
	if (!gives)
		xshim_link_fin(l, own);
	if (ring)
		atomic_store_explicit(&own->answering, 0, memory_order_seq_cst);
	return !gives;
}
