/* SPDX-License-Identifier: MIT */
/* ready.c - readiness of a connection with a channel (ready.h); wait.c sleeps until there is some. */
#include "ready.h"
#include "epoll.h"
#include "options.h"
#include "raw.h"
#include "rxopts.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

uint64_t xshim_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* In arm: nobody waits for room, so it is not looked whether there is any. */
#define LOOK_IN 0x80000u

/*
 * How far what the peer has sent by ring reaches, also behind what is still on TCP. A lie of the peer's costs its own stream an event
 * too many or too few. rx_lock.
 */
static uint64_t reach(const struct xshim_link *l, const struct xshim_chan *ch)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	uint64_t head;

	if (l->rx.state != XSHIM_RX_TCP ||
	    atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) == l->rx.seq)
		return l->rx.head;
	head = atomic_load_explicit(&peer->head, memory_order_seq_cst);
	return head > atomic_load_explicit(&peer->sw_at[(l->rx.seq + 1) & 1], memory_order_relaxed) ? head : l->rx.head;
}

/* We have given back what is next, and a receive would find it there still: the peer is not at it. rx_lock. */
static bool is_ours_still(const struct xshim_link *l, const struct xshim_chan *ch)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	uint64_t from = l->rx.seq & 1 ? l->rx.end : atomic_load_explicit(&peer->sw_at[1], memory_order_relaxed);

	return atomic_load_explicit(&peer->head, memory_order_seq_cst) > from &&
	       !atomic_load_explicit(&peer->answering, memory_order_seq_cst);
}

/* What the ring decides. 0, 1 if a boundary was crossed on the way, or -EPROTO. */
static int look_locked(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int arm, struct xshim_ready *r)
{
	struct xshim_link *l = &c->slot->link;
	enum xshim_rx_step step;
	uint64_t limit;
	bool crossed, fin = atomic_load_explicit(&ch->fin_seen, memory_order_relaxed);
	int64_t space;
	int rc, moved = 0;

	*r = (struct xshim_ready){ 0 };
	do {
		rc = xshim_rx_next(l, ch->local.region, ch->remote.region, &step, &limit, &crossed);
		if (rc < 0)
			return rc;
		if (crossed) {
			xshim_count(&c->slot->n.switches, 1);
			xshim_chan_ring(c, ch);
			xshim_chan_note(c, ch);
		}
	} while (crossed && ++moved <= XSHIM_CROSSINGS);
	r->reach = reach(l, ch);
	r->all_by_ring = l->rx.state == XSHIM_RX_RING &&
			 atomic_load_explicit(&ch->remote.region->sw_seq, memory_order_relaxed) == l->rx.seq;
	switch (step) {
	case XSHIM_RX_STEP_TCP:
		r->in_from_tcp = true;
		r->tcp_events |= POLLIN;
		break;
	case XSHIM_RX_STEP_RING:
		if (limit)
			r->mask |= POLLIN;
		/* a frame or the end may come on TCP, unless a boundary says that what comes is data */
		if (!fin && !xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) && r->all_by_ring)
			r->tcp_events |= POLLIN;
		break;
	default:
		r->tcp_events |= POLLIN;
		break;
	}
	if (l->rx.state == XSHIM_RX_GIVEN) {
		r->tcp_events |= POLLIN;
		if (step == XSHIM_RX_STEP_RING && is_ours_still(l, ch))
			r->mask |= POLLIN;
	}
	if (arm & XSHIM_LOOK_RECV)
		xshim_rxopts_any(c, fd);
	else if (xshim_rxopts_lowat(c))
		xshim_rxopts_look(c, ch, fd, step, limit, r);
	if (fin || xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) || xshim_chan_owed(c, false))
		r->mask |= POLLIN;
	switch (atomic_load_explicit(&l->tx.state, memory_order_relaxed)) {
	case XSHIM_TX_RING:
		if (arm & LOOK_IN)
			break;
		space = xshim_tx_space(l, ch->remote.region);
		if (space < 0)
			return (int)space;
		/* nothing is put there while the peer decides whether it leaves alone */
		r->full = (uint64_t)space < xshim_ready_threshold(ch);
		if (!r->full && xshim_tx_is_alone(ch->remote.region) != XSHIM_REGION_STOP)
			r->mask |= POLLOUT;
		break;
	case XSHIM_TX_HELD:
		if (l->tx.frame_sent < l->tx.frame_len)
			r->tcp_events |= POLLOUT;
		break;
	case XSHIM_TX_RESEND:
		r->tcp_events |= POLLOUT;
		break;
	default:
		r->out_from_tcp = true;
		r->tcp_events |= POLLOUT;
		break;
	}
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR))	/* a send has its answer, also before the kernel is told */
		r->mask |= POLLOUT;
	return moved;
}

uint64_t xshim_ready_behind(const struct xshim_link *l, struct xshim_chan *ch, uint64_t limit)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	uint64_t at = l->rx.pos + limit, size = 1ull << l->order_peer, head;
	uint64_t again = atomic_load_explicit(&peer->head, memory_order_seq_cst);

	do {
		head = again;
		/* the wish /then/ look again; pairs with xshim_tx_commit() */
		atomic_store_explicit(&ch->local.region->want_data, head, memory_order_seq_cst);
		again = atomic_load_explicit(&peer->head, memory_order_seq_cst);
	} while (again > head && again - at <= size);
	return again >= at && again - at <= size ? again - at : 0;
}

/* A writable ring needs no ring of the bell for each byte that the peer takes out. */
static uint64_t wish_for_space(struct xshim_link *l, struct xshim_chan *ch)
{
	uint64_t threshold = xshim_ready_threshold(ch);

	if (l->tx.state != XSHIM_TX_RING || xshim_tx_space(l, ch->remote.region) >= (int64_t)threshold)
		return 0;
	return threshold;
}

/*
 * Store the wishes, then look. A wish is a place on one path: who crosses to the other has to store it anew;
 * so has who finds that more has come, because who waits for edges may leave it unread, and what comes
 * next has to ring. The ring's size ends this.
 */
static int arm_and_look(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int arm, struct xshim_ready *r)
{
	struct xshim_link *l = &c->slot->link;
	uint64_t head;
	int rc, rounds = 0;

	do {
		head = l->rx.head;
		xshim_rx_want(l, ch->local.region, true);
		if (!(arm & LOOK_IN))
			xshim_tx_want(l, ch->local.region, wish_for_space(l, ch));
		/* it goes on by ring behind what is on TCP: what comes there is news to who leaves that unread */
		if (l->rx.state == XSHIM_RX_TCP &&
		    atomic_load_explicit(&ch->remote.region->sw_seq, memory_order_seq_cst) != l->rx.seq)
			(void)xshim_ready_behind(l, ch, 0);
		rc = look_locked(c, ch, fd, arm, r);
	} while ((rc > 0 && ++rounds < XSHIM_CROSSINGS) || (rc == 0 && l->rx.head != head));
	if (rc > 0)
		r->mask |= POLLIN;	/* it cannot be that much is going on; do not sleep */
	return rc;
}

/* Somebody else waits for what the look has found. */
static bool others_wait(struct xshim_chan *ch, unsigned int arm, unsigned int mask)
{
	uint32_t rx = atomic_load_explicit(&ch->waits->rx, memory_order_seq_cst);
	uint32_t tx = atomic_load_explicit(&ch->waits->tx, memory_order_seq_cst);
	uint32_t mine = arm & XSHIM_LOOK_JOINT ? XSHIM_WAITS_JOINT : 1;

	return ((mask & POLLIN) && rx > (arm & POLLIN ? mine : 0)) ||
	       ((mask & POLLOUT) && tx > (arm & POLLOUT ? mine : 0)) ||
	       xshim_slot_others_wait(ch->slot, ch->waits, mask & POLLIN, mask & POLLOUT, arm & XSHIM_LOOK_JOINT);
}

/*
 * The bell was emptied, and an edge-triggered entry, maybe of another process, is to be told of more even while there is something unread;
 * the kernel will not tell it now. Both locks held.
 */
static bool others_want_edges(struct xshim_chan *ch, unsigned int arm, uint64_t seen)
{
	bool more = seen != ch->hushed_at;

	ch->hushed_at = seen;
	return more && !(arm & XSHIM_LOOK_EPOLL) &&
	       (atomic_load_explicit(&ch->edge_waiters, memory_order_relaxed) || atomic_load_explicit(&ch->forked, memory_order_relaxed));
}

/*
 * It was heard by who hears each ring, also if it is not empty; unless it is full, and then nobody is woken any more. So it is let be only
 * while less has been put into it than it holds: the peer counts its rings. What it lies about them costs it an answer. Nor while we have
 * rung it ourselves, for others of ours: that would be news to an edge-triggered entry which is none to the program. Nor if it was heard
 * without a ring that is counted: its end is heard like that, and only found by emptying it.
 * Where a fork has given the connection to others, only by who is the one to be told of a ring that it has heard: by another set, or another
 * call, each hears it for itself, if it is not emptied. They may have emptied it since we have: then there is less in it than we reckon with.
 */
static bool may_be_let(struct xshim_chan *ch, unsigned int arm, uint32_t bell)
{
	uint32_t rung;

	if (!(arm & XSHIM_LOOK_EDGE) || atomic_load_explicit(&ch->self_rung, memory_order_relaxed) ||
	    (atomic_load_explicit(&ch->forked, memory_order_relaxed) && !(arm & XSHIM_LOOK_ONE)))
		return false;
	rung = atomic_load_explicit(&ch->remote.region->rung, memory_order_seq_cst);
	if (rung - ch->hushed_rung >= ch->bell_holds)
		return false;
	if (bell == XSHIM_BELL_HEARD) {
		if (rung == ch->let_rung)
			return false;
		ch->let_rung = rung;
		(void)atomic_compare_exchange_strong_explicit(&ch->bell_maybe, &bell, XSHIM_BELL_LET, memory_order_relaxed,
							      memory_order_relaxed);
	}
	return true;
}

/* It is to be emptied now. Both locks. */
static bool is_to_be_hushed(struct xshim_chan *ch, unsigned int arm)
{
	uint32_t bell = atomic_load_explicit(&ch->bell_maybe, memory_order_acquire);

	if (!bell || may_be_let(ch, arm, bell))
		return false;
	atomic_store_explicit(&ch->bell_maybe, 0, memory_order_relaxed);
	return true;
}

/* Both locks. */
static void hush(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	atomic_store_explicit(&ch->self_rung, 0, memory_order_relaxed);
	ch->rung_for_others = false;
	if (!ch->bell_holds && ch->be->holds)
		ch->bell_holds = ch->be->holds(&ch->local);
	/*
	 * The count /then/ the bell: what is rung between them is counted once too often, and not missed. One that is counted, or noted as
	 * our own, and not yet put in is missed; each thread has one at most, and the bell holds some hundreds more than it says.
	 */
	ch->hushed_rung = ch->let_rung = atomic_load_explicit(&ch->remote.region->rung, memory_order_seq_cst);
	if (ch->be->hush(&ch->local, &ch->remote) == -EPIPE) {
		atomic_store_explicit(&ch->bell_dead, 1, memory_order_relaxed);
		atomic_store_explicit(&ch->gone, 1, memory_order_relaxed);
		(void)xshim_chan_pump_locked(c, ch, fd, 0);
	}
}

/*
 * Nothing is in it but what we have rung for others, who may have taken that and rung for others themselves. Both locks. Not between guests, where
 * each ring has to be emptied before the next is heard.
 */
static bool is_for_others(struct xshim_chan *ch)
{
	return ch->rung_for_others && ch->be->holds &&
	       atomic_load_explicit(&ch->remote.region->rung, memory_order_seq_cst) == ch->hushed_rung;
}

/* Both locks. */
static void ring_for_others(struct xshim_chan *ch)
{
	xshim_chan_ring_self(ch);
	ch->rung_for_others = true;
}

/* It is left in the bell, and looked after by whoever looks next. Both locks. */
static int leave_to_others(struct xshim_chan *ch)
{
	int ms = ch->theirs_ms ? ch->theirs_ms : 1;

	ch->theirs_ms = ms < XSHIM_THEIRS_MS ? 2 * ms : ms;
	atomic_store_explicit(&ch->bell_maybe, XSHIM_BELL_HEARD, memory_order_relaxed);
	return ms;
}

/* Empty the bell if it was heard /then/ store the wishes /then/ look; whoever else waits for what there is then is rung for. Both locks. */
static int hear_and_look(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int arm, struct xshim_ready *r, bool *heard)
{
	bool theirs = false;
	int rc;

	*heard = is_to_be_hushed(ch, arm);
	if (*heard)
		theirs = is_for_others(ch);
	if (*heard && !theirs)
		hush(c, ch, fd);
	rc = arm_and_look(c, ch, fd, arm, r);
	if (!*heard || rc)
		return rc;
	if (others_wait(ch, arm, r->mask)) {
		if (theirs)
			r->theirs_ms = leave_to_others(ch);
		else
			ring_for_others(ch);
		return 0;
	}
	ch->theirs_ms = 0;
	if (!theirs)
		return 0;
	hush(c, ch, fd);
	rc = arm_and_look(c, ch, fd, arm, r);
	if (!rc && others_wait(ch, arm, r->mask))
		ring_for_others(ch);
	return rc;
}

bool xshim_ready_quiet_bell(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	uint32_t bell = atomic_load_explicit(&ch->bell_maybe, memory_order_acquire);
	struct xshim_slot *s = c->slot;

	if (!bell || may_be_let(ch, XSHIM_LOOK_EDGE, bell))
		return true;
	/* Nobody else waits who would have to be told that it was emptied: neither now, nor one who enters, as he looks after us. */
	if (atomic_load_explicit(&ch->waits->rx, memory_order_seq_cst) != 1 ||
	    atomic_load_explicit(&ch->edge_waiters, memory_order_relaxed) || !xshim_lock_try(&s->tx_lock, xshim_tid()))
		return false;
	atomic_store_explicit(&ch->bell_maybe, 0, memory_order_relaxed);
	hush(c, ch, fd);
	ch->hushed_at = s->link.rx.head;
	xshim_lock_drop(&s->tx_lock);
	return !atomic_load_explicit(&ch->gone, memory_order_relaxed);
}

int xshim_ready_look(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int arm,
		     struct xshim_ready *r)
{
	struct xshim_slot *s = c->slot;
	bool edges = false, heard;
	int rc;

	if (!xshim_chan_lock(s)) {
		/* a handler that interrupted us: nothing is known, the caller must not sleep */
		*r = (struct xshim_ready){ .mask = POLLIN | POLLOUT };
		return 0;
	}
	/* who enters to wait for room does so before it takes the locks */
	if ((arm & (XSHIM_LOOK_RECV | POLLOUT)) == XSHIM_LOOK_RECV && !atomic_load_explicit(&ch->waits->tx, memory_order_seq_cst))
		arm |= LOOK_IN;
	xshim_chan_rx_mend(c, ch, fd);
	xshim_chan_tx_mend(c, ch, fd);
	if (xshim_chan_pump_due(c, ch))
		(void)xshim_chan_pump_locked(c, ch, fd, 0);
	if (arm) {
		rc = hear_and_look(c, ch, fd, arm, r, &heard);
		edges = heard && others_want_edges(ch, arm, r->reach);
	} else {
		rc = look_locked(c, ch, fd, arm, r);
		if (rc > 0)	/* somebody else's wish may have been for the old path */
			rc = arm_and_look(c, ch, fd, arm, r);
	}
	if (r->full)
		xshim_chan_count_full(ch);
	xshim_chan_unlock(s);
	if (edges)
		xshim_epoll_edge(c);
	if (rc < 0) {
		*r = (struct xshim_ready){ .mask = POLLIN | POLLOUT };
		return xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
	}
	return 0;
}

bool xshim_ready_unwish(struct xshim_conn *c, struct xshim_chan *ch, bool edge)
{
	struct xshim_link *l = &c->slot->link;
	bool good;

	/*
	 * Who enters after we have looked takes the locks after us, and stores the wish anew. A process that shares the connection may have
	 * a wish that is not counted here.
	 */
	if (atomic_load_explicit(&ch->forked, memory_order_relaxed) || !xshim_chan_lock(c->slot))
		return false;
	good = l->rx.state == XSHIM_RX_RING && !l->error &&
	       atomic_load_explicit(&ch->waits->rx, memory_order_seq_cst) == 1 &&
	       atomic_load_explicit(&ch->edge_waiters, memory_order_relaxed) == edge;
	if (good)
		xshim_rx_want(l, ch->local.region, false);
	xshim_chan_unlock(c->slot);
	return good;
}

unsigned int xshim_ready_result(struct xshim_conn *c, struct xshim_chan *ch, int fd,
				struct xshim_ready *r, unsigned int kmask)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	unsigned int mask, asked = r->tcp_events;
	bool in_was = r->in_from_tcp, stale;
	int owed;

	if ((!r->in_from_tcp && (kmask & POLLIN)) || (!r->out_from_tcp && (kmask & POLLOUT)) ||
	    (kmask & (POLLRDHUP | POLLHUP | POLLERR))) {
		(void)xshim_chan_pump(c, ch, fd, kmask);
		if (xshim_ready_look(c, ch, fd, 0, r) < 0)
			return POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP;
	}
	/* what was there was the peer's frame, perhaps with the stream behind it */
	stale = !in_was && r->in_from_tcp && (kmask & POLLIN);
	if (stale)
		kmask &= ~(unsigned int)POLLIN;
	/* or a direction has become the kernel's, which was not asked about it */
	if ((stale || (r->tcp_events & ~asked) ||
	     (atomic_load_explicit(&ch->gone, memory_order_relaxed) && (r->in_from_tcp || r->out_from_tcp))) &&
	    raw_poll(&p, 1, 0) > 0)
		kmask |= (unsigned short)p.revents;
	/* the end has come since the kernel was asked, and was found on the way: what it says of it comes with it */
	p = (struct pollfd){ .fd = fd, .events = POLLRDHUP };
	if (!(kmask & POLLRDHUP) && atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) && raw_poll(&p, 1, 0) > 0)
		kmask |= (unsigned short)p.revents & (POLLRDHUP | POLLHUP | POLLERR);
	mask = r->mask | (kmask & (POLLRDHUP | POLLHUP | POLLERR | POLLPRI));
	if (r->in_from_tcp)
		mask |= kmask & POLLIN;
	if (r->out_from_tcp)
		mask |= kmask & POLLOUT;
	/* EFAULT comes from a call (recvmmsg), and ends nothing */
	owed = xshim_chan_owed(c, false);
	if (owed)
		mask |= owed == EFAULT ? POLLERR : POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP;
	if (kmask & (POLLERR | POLLHUP))
		mask |= POLLOUT | POLLIN;
	return mask;
}

void xshim_ready_peer_hup(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };

	atomic_store_explicit(&ch->gone, 1, memory_order_relaxed);
	if (raw_poll(&p, 1, 0) < 0)
		p.revents = 0;
	(void)xshim_chan_pump(c, ch, fd, (unsigned short)p.revents);
}

/*
 * The peer may not read because it waits, in a send of its own, for us to read: then more room than the ring is what lets both go
 * on. Where nothing of it is unread it is only slow, at a disk or without a processor, and what the socket's buffers
 * would take meanwhile is megabytes that go the long way. Who has not crossed to the ring since we are on it has not read.
 */
static bool may_wait_for_us(const struct xshim_slot *s, const struct xshim_chan *ch)
{
	if (atomic_load_explicit(&ch->remote.region->ack, memory_order_relaxed) != s->link.tx.seq)
		return false;
	return atomic_load_explicit(&s->link.rx.state, memory_order_relaxed) != XSHIM_RX_RING ||
	       atomic_load_explicit(&ch->local.region->tail, memory_order_relaxed) !=
		       atomic_load_explicit(&ch->remote.region->head, memory_order_relaxed);
}

int xshim_stall(struct xshim_conn *c, struct xshim_chan *ch)
{
	struct xshim_slot *s = c->slot;
	uint64_t tail, now, since, limit;
	int left = -1;

	if (!xshim_chan_lock(s))
		return -1;
	limit = xshim_opt.stall_ms * (may_wait_for_us(s, ch) ? 1000000 : 10000000);
	if (s->link.tx.state == XSHIM_TX_RING && xshim_tx_is_alone(ch->remote.region)) {
		left = XSHIM_READ_MS;	/* it is in the middle of its decision */
	} else if (s->link.tx.state == XSHIM_TX_RING &&
		   xshim_tx_space(&s->link, ch->remote.region) < (int64_t)xshim_ready_threshold(ch)) {
		now = xshim_now_ns();	/* coarse: the exact one is a system call in a Xen guest */
		tail = s->link.tx.tail;
		since = atomic_load_explicit(&ch->stall_ns, memory_order_relaxed);
		if (!since || tail != ch->stall_tail) {
			since = now;
			ch->stall_tail = tail;
			atomic_store_explicit(&ch->stall_ns, now, memory_order_relaxed);
		}
		if (!xshim_tx_may_come_down(&s->link, ch->remote.region)) {
			left = xshim_tx_peer_reads(&s->link, ch->remote.region) ? XSHIM_READ_MS : -1;
		} else if (now - since >= limit) {
			atomic_store_explicit(&ch->consult_seen,
					      atomic_load_explicit(&ch->remote.region->consult,
								   memory_order_relaxed),
					      memory_order_relaxed);
			if (xshim_tx_down(&s->link, ch->local.region, ch->remote.region)) {
				xshim_count(&s->n.switches, 1);
				xshim_chan_ring(c, ch);
				xshim_chan_wake_own(ch);
				left = 0;
			} else {
				left = XSHIM_READ_MS;	/* it leaves alone, and is in the middle of that */
			}
		} else {
			left = (int)((limit - (now - since)) / 1000000) + 1;
		}
	} else {
		atomic_store_explicit(&ch->stall_ns, 0, memory_order_relaxed);
	}
	xshim_chan_unlock(s);
	return left;
}
