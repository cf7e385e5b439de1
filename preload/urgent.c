/* SPDX-License-Identifier: MIT */
/*
 * urgent.c - urgent data (MSG_OOB) on a connection with a channel (urgent.h).
 */
#include "urgent.h"
#include "ask.h"
#include "ready.h"
#include "unwind.h"
#include "user.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>

bool xshim_urgent_is_next(int fd)
{
	int yes = 0;

	return libc.ioctl(fd, SIOCATMARK, &yes) == 0 && yes;
}

bool xshim_urgent_is_there(int fd)
{
	return xshim_ask_poll(fd, POLLPRI) & POLLPRI;
}

int xshim_urgent_at_mark(struct xshim_conn *c, int fd, int *yes)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	enum xshim_rx_step step = XSHIM_RX_STEP_TCP;
	uint64_t limit = 0;
	bool crossed = false;
	int crossings = 0, none = 0;

	if (ch && xshim_lock_take(&c->slot->rx_lock, xshim_tid()) == 0) {
		xshim_chan_rx_mend(c, ch, fd);
		while (xshim_rx_next(&c->slot->link, ch->local.region, ch->remote.region, &step, &limit, &crossed) == 0 &&
		       crossed && ++crossings < XSHIM_CROSSINGS)
			xshim_chan_ring(c, ch);
		xshim_lock_drop(&c->slot->rx_lock);
	}
	/* what is on the ring comes first, and a frame is nothing of the program's */
	if (step == XSHIM_RX_STEP_FRAME || (step == XSHIM_RX_STEP_RING && limit))
		return xshim_user_put(yes, &none, sizeof(none));
	return libc.ioctl(fd, SIOCATMARK, yes) < 0 ? -errno : 0;
}

/* The peer's stream: all that is to come of it is here, or on its way. */
static bool has_ended(const struct xshim_chan *ch)
{
	return atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) ||
	       atomic_load_explicit(&ch->remote.region->fin, memory_order_acquire);
}

/*
 * A question of ours that the peer is too busy to answer is no reason to wait for it: on TCP is where we want to be. If it stands, so
 * is it for the other direction, which we cannot bring there: by leaving alone, or by waiting for the answer, but not for ever (late).
 * Where that direction has ended no answer comes, and nothing that a signal would tell of. Both locks.
 */
static void take_back(struct xshim_conn *c, struct xshim_chan *ch, bool late)
{
	struct xshim_link *l = &c->slot->link;

	if (l->want_leave == XSHIM_ASKS_STANDS && !late && !has_ended(ch))
		xshim_chan_leave_alone(c, ch, XSHIM_R_SIGIO);
	else if (l->want_leave && xshim_link_leave_unask(l, ch->local.region, ch->remote.region))
		xshim_chan_ring(c, ch);
}

void xshim_urgent_down(struct xshim_conn *c, struct xshim_chan *ch)
{
	struct xshim_link *l = &c->slot->link;
	bool down;

	if (!xshim_chan_lock(c->slot))
		return;
	if (l->tx.state == XSHIM_TX_RING)
		take_back(c, ch, false);
	down = xshim_tx_may_come_down(l, ch->remote.region) && xshim_tx_down(l, ch->local.region, ch->remote.region);
	if (down) {
		xshim_count(&c->slot->n.switches, 1);
		xshim_conn_reason(c, XSHIM_R_OOB);
		xshim_chan_ring(c, ch);
		xshim_chan_wake_own(ch);
	}
	xshim_chan_unlock(c->slot);
}

/* The direction is on the ring, and not to be brought down now. */
static bool is_held_up(struct xshim_conn *c, struct xshim_chan *ch)
{
	struct xshim_link *l = &c->slot->link;
	bool yes;

	if (xshim_conn_chan(c) != ch || atomic_load_explicit(&c->detach_due, memory_order_acquire) ||
	    atomic_load_explicit(&ch->gone, memory_order_relaxed) || !xshim_chan_lock(c->slot))
		return false;
	yes = l->tx.state == XSHIM_TX_RING && !l->error &&
	      (!xshim_tx_may_come_down(l, ch->remote.region) || xshim_tx_is_alone(ch->remote.region));
	xshim_chan_unlock(c->slot);
	return yes;
}

/* Also of a wait that never ends (unwind.h). */
static void wake_up(void *ch) { xshim_wait_leave(ch, POLLOUT); }

int xshim_urgent_wait(struct xshim_conn *c, struct xshim_chan *ch, int fd, uint64_t deadline_ns)
{
	struct pollfd p[3] = { { .fd = fd },
			       { .fd = xshim_ready_bell_fd(ch), .events = POLLIN },
			       { .fd = xshim_ready_peer_fd(ch) } };
	struct _pthread_cleanup_buffer list;
	struct xshim_ready r;
	uint64_t now;
	int rc = 0;

	xshim_wait_enter(ch, POLLOUT);
	_pthread_cleanup_push(&list, wake_up, ch);
	/* Empty the bell /then/ look; the peer rings when it has crossed. Its LEAVE comes on TCP. */
	if (xshim_ready_look(c, ch, fd, POLLOUT, &r) == 0 && is_held_up(c, ch)) {
		if (!r.in_from_tcp)
			p[0].events = (short)(r.tcp_events & POLLIN);
		if (!atomic_load_explicit(&ch->fin_seen, memory_order_relaxed))
			p[0].events |= POLLRDHUP;
		if (r.theirs_ms)
			p[1].fd = -1;
		now = xshim_clock_ns();
		if (r.theirs_ms && deadline_ns > now)
			rc = libc.poll(p, 3, r.theirs_ms) < 0 ? -1 : 1;
		else if ((xshim_tx_peer_reads(&c->slot->link, ch->remote.region) || xshim_tx_is_alone(ch->remote.region)) &&
			 deadline_ns > now)
			rc = libc.poll(p, 3, XSHIM_READ_MS) < 0 ? -1 : 1;
		else if (deadline_ns == UINT64_MAX && c->slot->link.want_leave != XSHIM_ASKS_STANDS)
			rc = libc.poll(p, 3, -1);
		else if (deadline_ns == UINT64_MAX)
			rc = libc.poll(p, 3, XSHIM_URGENT_MS);
		else
			rc = deadline_ns <= now ? 0 : libc.poll(p, 3, (int)((deadline_ns - now) / 1000000) + 1);
		if (rc == 0 && xshim_chan_lock(c->slot)) {
			take_back(c, ch, true);
			xshim_chan_unlock(c->slot);
		}
		if (rc == 0)
			rc = deadline_ns == UINT64_MAX;
		rc = rc < 0 ? -errno : rc == 0 ? -EAGAIN : 0;
		if (!rc && p[1].revents)
			xshim_chan_heard(c, ch);
		if (!rc && p[2].revents)
			xshim_ready_peer_hup(c, ch, fd);
		if (!rc && p[0].revents)
			(void)xshim_chan_pump(c, ch, fd, (unsigned short)p[0].revents);
	}
	_pthread_cleanup_pop(&list, 1);
	return rc;
}
