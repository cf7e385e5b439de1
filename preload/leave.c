/* SPDX-License-Identifier: MIT */
/* leave.c - return a connection to TCP and wait for it, now or in later calls (channel.h); pump.c moves what both ends have begun. */
#include "channel.h"
#include "client.h"
#include "epoll.h"
#include "raw.h"
#include "ready.h"
#include "rxopts.h"

#include <errno.h>
#include <poll.h>

/*
 * Who is called by a signal when something comes makes no call before that: the question stands, and the peer's LEAVE, which its next
 * call begins, is what comes.
 */
static bool stands(enum xshim_reason why)
{
	return why == XSHIM_R_SIGIO;
}

/* Cross what boundaries can be crossed without reading: how many. Both locks. */
static int cross_all(struct xshim_conn *c, struct xshim_chan *ch)
{
	enum xshim_rx_step step;
	uint64_t limit;
	bool crossed;
	int n = 0;

	while (xshim_rx_next(&c->slot->link, ch->local.region, ch->remote.region, &step, &limit, &crossed) == 0 &&
	       crossed && n++ < XSHIM_CROSSINGS) {
		xshim_count(&c->slot->n.switches, 1);
		xshim_chan_ring(c, ch);
		xshim_chan_note(c, ch);
	}
	return n;
}

bool xshim_chan_leave_step(struct xshim_conn *c, struct xshim_chan *ch, int fd, enum xshim_reason why)
{
	struct xshim_link *l = &c->slot->link;
	bool crossed;

	if (!l->tx.seq && !l->rx.seq) {
		xshim_conn_reason(c, why);
		if (xshim_link_withdraw(l, ch->local.region, ch->remote.region))
			atomic_store_explicit(&c->detach_due, 1, memory_order_release);
		xshim_chan_ring(c, ch);
	}
	crossed = cross_all(c, ch) > 0;
	if (l->tx.state == XSHIM_TX_TCP && l->rx.state == XSHIM_RX_RING)
		xshim_chan_up_locked(c, ch, fd, true);
	if (l->tx.state == XSHIM_TX_RING && !l->want_leave) {
		xshim_link_leave_ask(l, ch->local.region);
		xshim_conn_reason(c, why);
		xshim_chan_ring(c, ch);
	}
	if (l->want_leave && stands(why))	/* whoever asked first */
		l->want_leave = XSHIM_ASKS_STANDS;
	return crossed;
}

/* A peer whose LEAVE is on its way has a second more; it is in the middle of its call. */
#define ANSWER_NS 1000000000ull
/* One that did not come in time is tried again: first after so long, then seldomer; it may be asleep in a call by then. */
#define AGAIN_NS 100000000ull
#define AGAIN_MOST_NS 10000000000ull
#define AGAIN_MS 10

/* We do not wait for it any more, so the peer is not to begin it. Both locks. False: it has. */
static bool unask(struct xshim_conn *c, struct xshim_chan *ch)
{
	bool yes = xshim_link_leave_unask(&c->slot->link, ch->local.region, ch->remote.region);

	if (yes) {
		xshim_conn_reason(c, XSHIM_R_SWITCHING);
		xshim_chan_note(c, ch);
	}
	xshim_chan_ring(c, ch);
	return yes;
}

/* A peer that sleeps in a call would have answered by now. */
#define ALONE_MS 200

/* Not over xen, where the peer may lose what it has not read of our ring when we let go of it. */
void xshim_chan_leave_alone(struct xshim_conn *c, struct xshim_chan *ch, enum xshim_reason why)
{
	struct xshim_link *l = &c->slot->link;

	if (ch->be->forsake)
		return;
	if (xshim_link_leave_alone(l, ch->local.region, ch->remote.region)) {
		xshim_conn_reason(c, why);
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
		xshim_chan_wake_own(ch);
	}
	xshim_chan_ring(c, ch);		/* also of a decision against it: who sends waits for that */
}

/*
 * From now on another program reads the connection, or what in this one does not come through here. One that goes on by our calls is
 * better off with the ring: nobody else keeps what lies there from it.
 */
static bool hands_over(enum xshim_reason why)
{
	return why == XSHIM_R_EXEC || why == XSHIM_R_FD_PASSED || why == XSHIM_R_STDIO || why == XSHIM_R_AIO ||
	       why == XSHIM_R_SPLICE || why == XSHIM_R_URING;
}

/*
 * What lies unread goes to the peer, who sends it again in its next call; a call of ours that would read it first takes it back. Not over
 * xen, as above. Both locks. False: to be tried again at once.
 */
static bool give(struct xshim_conn *c, struct xshim_chan *ch, enum xshim_reason why)
{
	struct xshim_link *l = &c->slot->link;
	int rc;

	if (!hands_over(why) || ch->be->forsake || atomic_load_explicit(&ch->fin_seen, memory_order_relaxed))
		return true;
	rc = xshim_link_give(l, ch->local.region, ch->remote.region);
	if (rc > 0) {
		atomic_store_explicit(&c->slot->transport, XSHIM_TRANSPORT_SWITCHING, memory_order_relaxed);
		xshim_conn_reason(c, why);
		xshim_chan_if_out(c);
	}
	xshim_chan_wake_own(ch);
	xshim_chan_ring(c, ch);
	return rc >= 0;
}

void xshim_chan_ungive(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	bool dead;

	if (xshim_lock_take(&c->slot->tx_lock, xshim_tid()) < 0)
		return;
	/* FIN /then/ whether it was taken: it is taken before */
	dead = xshim_tcp_peer_closed(fd);
	if (xshim_link_ungive(l, ch->local.region, ch->remote.region, dead) > 0) {
		xshim_conn_reason(c, XSHIM_R_SWITCHING);
		/* the other program may have read what comes before that by TCP */
		if (l->rx.state == XSHIM_RX_TCP)
			xshim_chan_rx_mend_slow(c, ch, fd);
	}
	xshim_chan_if_out(c);
	xshim_chan_ring(c, ch);
	xshim_lock_drop(&c->slot->tx_lock);
}

static int step_ms(uint64_t now, uint64_t until)
{
	return now < until ? (int)((until - now) / 1000000) + 1 : 10;
}

int xshim_chan_leave_wait(struct xshim_conn *c, int fd, enum xshim_reason why, int wait_ms)
{
	uint64_t deadline = xshim_now_ns() + (uint64_t)wait_ms * 1000000;
	uint64_t alone = xshim_now_ns() + (wait_ms < ALONE_MS ? (uint64_t)wait_ms : ALONE_MS) * 1000000;
	struct xshim_slot *s = c->slot;
	struct xshim_chan *ch;
	bool ours = false;	/* it is this call that asks */

	while ((ch = xshim_conn_chan(c))) {
		struct pollfd p[2] = { { .fd = fd, .events = POLLIN | POLLRDHUP },
				       { .fd = xshim_ready_bell_fd(ch), .events = POLLIN } };
		uint64_t now;
		bool crossed, stuck, given, over = false;
		uint32_t asked;

		if (!xshim_chan_lock(s))
			return -EAGAIN;
		xshim_chan_rx_mend(c, ch, fd);
		/* Empty the bell /then/ look: a ring after this is seen by the poll below. */
		if (ch->be->hush(&ch->local, &ch->remote) == -EPIPE)
			atomic_store_explicit(&ch->bell_dead, 1, memory_order_relaxed);
		asked = s->link.want_leave;
		crossed = xshim_chan_leave_step(c, ch, fd, why);
		ours = ours || (!asked && s->link.want_leave);
		(void)xshim_chan_pump_locked(c, ch, fd, POLLIN);
		given = s->link.rx.state == XSHIM_RX_GIVEN;	/* before: there is nothing to wait for */
		if (s->link.rx.state != XSHIM_RX_RING && s->link.rx.state != XSHIM_RX_FRAME)
			p[0].events = 0;	/* what is there is the program's */
		if (s->link.tx.state == XSHIM_TX_RESEND || s->link.tx.frame_sent < s->link.tx.frame_len)
			p[0].events |= POLLOUT;
		/* Both LEAVEs are exchanged and ours is all on TCP: what is to come comes there. */
		if (s->link.left && s->link.tx.state == XSHIM_TX_OUT &&
		    s->link.tx.frame_sent == s->link.tx.frame_len) {
			s->link.rx.state = XSHIM_RX_OUT;
			atomic_store_explicit(&c->detach_due, 1, memory_order_release);
		}
		stuck = atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) ||
			xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR) || s->link.error ||
			(xshim_conn_flag(c, XSHIM_SLOT_URGENT) && s->link.tx.state == XSHIM_TX_TCP);
		now = xshim_now_ns();
		if (stuck || now >= alone)
			xshim_chan_leave_alone(c, ch, why);
		if ((stuck || now >= deadline) && !atomic_load_explicit(&c->detach_due, memory_order_relaxed))
			over = !ours || s->link.want_leave == XSHIM_ASKS_STANDS || unask(c, ch) || stuck || now >= deadline + ANSWER_NS;
		if ((over || given) && !give(c, ch, why) && now < deadline + ANSWER_NS)
			over = given = false;
		xshim_rxopts_any(c, fd);	/* before the poll below */
		xshim_chan_unlock(s);
		if (crossed)
			xshim_epoll_crossed(c);
		if (atomic_load_explicit(&c->detach_due, memory_order_acquire)) {
			if (why == XSHIM_R_EXEC || why == XSHIM_R_SECCOMP)
				(void)xshim_chan_owed(c, true);	/* nobody of ours will be there to tell it */
			xshim_chan_detach(c);
			if (!xshim_conn_chan(c))
				return 0;
			if (xshim_chan_owed(c, false))
				return -EAGAIN;	/* when that has been told */
			continue;	/* another thread is at it */
		}
		if (over || given) {
			xshim_chan_wake_own(ch);	/* the bell that was emptied here may have been rung for others of ours */
			return -EAGAIN;
		}
		/* Each step of the peer's rings or comes on TCP. */
		if (raw_poll(p, 2, step_ms(now, alone)) < 0 && errno == EINVAL)
			(void)raw_poll(NULL, 0, 1);	/* RLIMIT_NOFILE allows poll no two descriptors */
		if (p[1].revents)
			xshim_client_mail();
	}
	return 0;
}

void xshim_chan_leave_soon(struct xshim_conn *c, int fd, enum xshim_reason why)
{
	struct xshim_chan *ch = xshim_conn_chan(c);

	if (!ch || xshim_chan_leave_wait(c, fd, why, XSHIM_LEAVE_MS) == 0 || stands(why))
		return;
	atomic_store_explicit(&ch->leave_why, why, memory_order_relaxed);
	atomic_store_explicit(&ch->leave_pause, AGAIN_NS, memory_order_relaxed);
	atomic_store_explicit(&ch->leave_next, xshim_now_ns() + AGAIN_NS, memory_order_relaxed);
	xshim_conn_set_flag(c, XSHIM_SLOT_LEAVE, true);
}

void xshim_chan_leave_again(struct xshim_conn *c, int fd)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint64_t now = xshim_now_ns(), next, pause;
	int saved = errno;

	if (!ch)
		return;
	next = atomic_load_explicit(&ch->leave_next, memory_order_relaxed);
	pause = atomic_load_explicit(&ch->leave_pause, memory_order_relaxed);
	if (now < next || !atomic_compare_exchange_strong_explicit(&ch->leave_next, &next, now + pause, memory_order_relaxed,
								   memory_order_relaxed))
		return;
	atomic_store_explicit(&ch->leave_pause, pause < AGAIN_MOST_NS ? 2 * pause : pause, memory_order_relaxed);
	(void)xshim_chan_leave_wait(c, fd, atomic_load_explicit(&ch->leave_why, memory_order_relaxed), AGAIN_MS);
	errno = saved;
}
