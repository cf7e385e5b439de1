/* SPDX-License-Identifier: MIT */
/* link_leave.c - the leave state machine (link.h): the return of both directions to TCP. Pure code, as link.c. */
#include "link_parts.h"

#include <errno.h>
#include <string.h>

void xshim_link_leave_ask(struct xshim_link *l, struct xshim_region_hdr *own)
{
	if (l->rx.state == XSHIM_RX_GIVEN)
		return;
	l->want_leave = XSHIM_ASKS_WAITS;
	atomic_store_explicit(&own->leave, XSHIM_REGION_ASKS, memory_order_seq_cst);
}

bool xshim_link_leave_due(const struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	if (l->error || l->fin || l->tx.state != XSHIM_TX_RING || l->rx.state != XSHIM_RX_RING)
		return false;
	if (atomic_load_explicit(&peer->fin, memory_order_acquire))
		return false;
	/* leave /then/ sw_seq: the peer makes no switch after it has stored leave. */
	if (atomic_load_explicit(&peer->leave, memory_order_seq_cst) != XSHIM_REGION_ASKS)
		return false;
	/* Our up is crossed, and the peer, who makes no switch after `leave`, has none ahead of us. */
	return xshim_link_acked(l, peer) &&
	       atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) == l->rx.seq;
}

static void begin(struct xshim_link *l)
{
	struct xshim_frame f = {
		.type = XSHIM_FRAME_LEAVE,
		.nonce = l->nonce_peer,
		.upto = l->rx.pos,
		.head = l->tx.pos,
	};

	xshim_frame_encode(&f, l->tx.frame);
	l->tx.frame_len = XSHIM_FRAME_BYTES;
	l->tx.frame_sent = 0;
	l->tx.end = l->tx.pos;
	l->tx.state = XSHIM_TX_HELD;
	l->rx.state = XSHIM_RX_FRAME;
}

bool xshim_link_leave_begin(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	/* answering /then/ leave, in here; pairs with xshim_link_leave_unask(). */
	atomic_store_explicit(&own->answering, 1, memory_order_seq_cst);
	if (!xshim_link_leave_due(l, peer)) {
		atomic_store_explicit(&own->answering, 0, memory_order_seq_cst);
		return false;
	}
	begin(l);
	return true;
}

bool xshim_link_leave_unask(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	if (!l->want_leave)
		return true;
	if (l->error || l->tx.frame_len || l->left)
		return false;
	atomic_store_explicit(&own->leave, 0, memory_order_seq_cst);
	if (atomic_load_explicit(&peer->answering, memory_order_seq_cst)) {
		atomic_store_explicit(&own->leave, XSHIM_REGION_ASKS, memory_order_seq_cst);
		return false;
	}
	l->want_leave = 0;
	return true;
}

bool xshim_link_stop(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	uint64_t at = l->rx.pos, head;
	uint32_t ahead;
	bool busy;

	if (l->error || l->tx.frame_len || l->left || l->tx.state > XSHIM_TX_RING || l->rx.state > XSHIM_RX_RING)
		return false;
	if (l->tx.state == XSHIM_TX_RING && !l->fin && !xshim_link_is_seen(l, peer))
		return false;
	/* leave /then/ answering /then/ sw_seq, and /then/ head; pairs with xshim_tx_down() and xshim_tx_is_alone(). */
	atomic_store_explicit(&own->leave, XSHIM_REGION_STOP, memory_order_seq_cst);
	busy = atomic_load_explicit(&peer->answering, memory_order_seq_cst);
	ahead = atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) - l->rx.seq;
	if (ahead == 1 && l->rx.state == XSHIM_RX_TCP)	/* an up, with nothing behind it */
		at = atomic_load_explicit(&peer->sw_at[(l->rx.seq + 1) & 1], memory_order_relaxed);
	else
		busy = busy || ahead;
	head = atomic_load_explicit(&peer->head, memory_order_seq_cst);
	/* it leaves alone, too: a send of ours may have seen that, and wait to put its bytes on TCP */
	busy = busy || xshim_tx_is_alone(peer);
	if (busy || ((ahead || l->rx.state == XSHIM_RX_RING) && head != at)) {
		atomic_store_explicit(&own->leave, l->want_leave ? XSHIM_REGION_ASKS : 0, memory_order_seq_cst);
		return false;
	}
	return true;
}

void xshim_link_stopped(struct xshim_link *l, struct xshim_region_hdr *own)
{
	l->left = 1;			/* first: from here on it can only be finished */
	if (l->tx.state == XSHIM_TX_RING && !l->fin)
		xshim_link_come_down(l, own);
	l->tx.state = XSHIM_TX_OUT;
	l->rx.state = XSHIM_RX_OUT;
	l->want_leave = 0;
	atomic_store_explicit(&own->leave, XSHIM_REGION_LEFT, memory_order_seq_cst);
}

bool xshim_link_mend(struct xshim_link *l, struct xshim_region_hdr *own)
{
	bool stop = atomic_load_explicit(&own->leave, memory_order_relaxed) == XSHIM_REGION_STOP;
	bool answers = !l->tx.frame_len && !l->taken && atomic_load_explicit(&own->answering, memory_order_relaxed);
	bool gives = l->rx.state == XSHIM_RX_GIVEN &&
		     atomic_load_explicit(&own->leave, memory_order_relaxed) != XSHIM_REGION_GIVES;

	/* it was about to be given, or to be taken back, and nobody has consumed any of it since */
	if (gives)
		atomic_store_explicit(&own->leave, XSHIM_REGION_GIVES, memory_order_seq_cst);
	if (stop && l->left)
		xshim_link_stopped(l, own);
	else if (stop)
		atomic_store_explicit(&own->leave, l->want_leave ? XSHIM_REGION_ASKS : 0, memory_order_seq_cst);
	if (answers)
		atomic_store_explicit(&own->answering, 0, memory_order_seq_cst);
	return stop || answers || gives;
}

bool xshim_link_leave_alone(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	if (!xshim_link_stop(l, own, peer))
		return false;
	xshim_link_stopped(l, own);
	return true;
}

int xshim_link_is_left(struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	uint64_t tail = atomic_load_explicit(&peer->tail, memory_order_seq_cst);

	if (l->error)
		return -EPROTO;
	/* if it never crossed our up, all of this stretch of the ring */
	if (tail < l->tx.start)
		tail = l->tx.start;
	switch (atomic_load_explicit(&l->tx.state, memory_order_relaxed)) {
	case XSHIM_TX_RING:
		if (tail < l->tx.tail || tail > l->tx.pos || (l->fin && tail != l->tx.pos))
			return broken(l);
		l->tx.end = l->tx.pos;
		l->tx.pos = tail;
		l->tx.state = tail < l->tx.end ? XSHIM_TX_RESEND : XSHIM_TX_OUT;
		break;
	case XSHIM_TX_TCP:
		if (!xshim_link_acked(l, peer) && tail < l->tx.pos)
			return broken(l);	/* it left what we have on the ring, and what follows is on TCP */
		l->tx.state = XSHIM_TX_OUT;
		break;
	case XSHIM_TX_HELD:
		return broken(l);
	default:
		break;
	}
	/* its last switch is final: it has stored it before */
	if (l->rx.state == XSHIM_RX_TCP && atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) == l->rx.seq)
		l->rx.state = XSHIM_RX_OUT;
	return 0;
}

int xshim_link_leave_got(struct xshim_link *l)
{
	struct xshim_frame f;

	if (xshim_frame_decode(&f, l->rx.frame) < 0 || f.type != XSHIM_FRAME_LEAVE ||
	    f.nonce != l->nonce_own)
		return broken(l);
	if (l->fin && l->rx.state == XSHIM_RX_RING) {
		l->rx.frame_got = 0;	/* our FIN, on its way, cancels it */
		return 0;
	}
	if (l->rx.state == XSHIM_RX_RING && l->tx.state == XSHIM_TX_RING)
		begin(l);
	if (l->rx.state != XSHIM_RX_FRAME || l->tx.state != XSHIM_TX_HELD)
		return broken(l);
	/* upto lies in what we have on the ring; head is where the peer's ring really ends. */
	if (f.upto < l->tx.tail || f.upto > l->tx.end ||
	    f.head < l->rx.head || f.head - l->rx.pos > (1ull << l->order_peer))
		return broken(l);
	l->left = 1;
	l->tx.pos = f.upto;
	l->tx.state = l->tx.pos < l->tx.end ? XSHIM_TX_RESEND : XSHIM_TX_OUT;
	l->rx.end = f.head;
	l->rx.state = l->rx.pos < l->rx.end ? XSHIM_RX_RAW : XSHIM_RX_OUT;
	return 0;
}

void xshim_link_fin(struct xshim_link *l, struct xshim_region_hdr *own)
{
	l->fin = 1;
	atomic_store_explicit(&own->fin, 1, memory_order_seq_cst);
}

void xshim_link_deaf(struct xshim_region_hdr *own, uint32_t how)
{
	atomic_store_explicit(&own->deaf, how, memory_order_seq_cst);
}

void xshim_link_leave_undo(struct xshim_link *l)
{
	if (l->rx.state == XSHIM_RX_FRAME)
		l->rx.state = XSHIM_RX_RING;
	if (l->tx.state == XSHIM_TX_HELD)
		l->tx.state = XSHIM_TX_RING;
	/* answering stays: our LEAVE is on TCP, and the peer is to throw it away */
}

bool xshim_link_is_out(const struct xshim_link *l)
{
	return l->tx.state == XSHIM_TX_OUT && l->rx.state == XSHIM_RX_OUT &&
	       l->tx.frame_sent == l->tx.frame_len;
}
