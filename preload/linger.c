/* SPDX-License-Identifier: MIT */
/* linger.c - a close that waits for the ring (linger.h). */
#include "linger.h"
#include "process.h"
#include "raw.h"
#include "ready.h"
#include "sigact.h"
#include "stream.h"
#include "unwind.h"

#include <limits.h>

void xshim_linger_begin(struct xshim_conn *c, int fd)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct linger linger = { 0 };
	socklen_t len = sizeof(linger);
	uint64_t unacked;

	/* the bell is to be ours alone */
	if (!xshim_active || !ch || ch->cuttable ||
	    (atomic_load_explicit(&c->obj.refs, memory_order_acquire) & ~XSHIM_REF_EXCL) > 2 ||
	    xshim_lock_take(&c->slot->tx_lock, xshim_tid()) < 0)
		return;
	unacked = xshim_stream_unacked(c->slot, ch);
	xshim_lock_drop(&c->slot->tx_lock);
	if (!unacked || !xshim_slot_is_sole(c->slot, getpid()) ||
	    libc.getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) < 0 || !linger.l_onoff || !linger.l_linger)
		return;
	xshim_sigact_begin();
	/* as the kernel takes it: a negative one is very long */
	atomic_store_explicit(&c->linger_until, xshim_clock_ns() + (uint64_t)(unsigned int)linger.l_linger * 1000000000,
			      memory_order_relaxed);
}

/* The other end has something to say to nobody, which makes TCP reset the connection: what it reads later is its affair. */
static bool has_sent(const struct xshim_slot *s, const struct xshim_chan *ch)
{
	return s->link.rx.state == XSHIM_RX_RING &&
	       atomic_load_explicit(&ch->remote.region->head, memory_order_relaxed) > s->link.rx.pos;
}

/* False: there is nothing to wait for. */
static bool arm(struct xshim_slot *s, struct xshim_chan *ch)
{
	bool waits;

	if (xshim_lock_take(&s->tx_lock, xshim_tid()) < 0)
		return false;
	/* Empty the bell /then/ store the wish /then/ look; pairs with xshim_rx_took_ring(). */
	waits = ch->be->hush(&ch->local, &ch->remote) != -EPIPE;
	xshim_tx_want_unread(&s->link, ch->local.region, xshim_stream_takes(s, ch));
	waits = waits && xshim_stream_unacked(s, ch) && !has_sent(s, ch);
	xshim_lock_drop(&s->tx_lock);
	return waits;
}

static void wait_for_reader(struct xshim_slot *s, struct xshim_chan *ch, uint64_t until)
{
	struct pollfd p[2] = { { .fd = xshim_ready_bell_fd(ch), .events = POLLIN }, { .fd = xshim_ready_peer_fd(ch) } };
	uint64_t now, ms;

	while (p[1].fd >= 0 && arm(s, ch)) {
		now = xshim_clock_ns();
		/* a signal that came before the sleep ends it, too */
		if (now >= until || !xshim_sigact_sleep_again())
			return;
		ms = (until - now + 999999) / 1000000;
		if (raw_poll(p, 2, ms < INT_MAX ? (int)ms : INT_MAX) < 0 || p[1].revents)
			return;
	}
}

bool xshim_linger_forked(struct xshim_conn *c)
{
	if (atomic_load_explicit(&c->obj.fds, memory_order_relaxed))
		return false;
	atomic_fetch_sub_explicit(&c->slot->fork_pending, 1, memory_order_acq_rel);
	c->slot = NULL;
	return true;
}

void xshim_linger(struct xshim_conn *c)
{
	XSHIM_DEFERRED(was);
	uint64_t until = atomic_exchange_explicit(&c->linger_until, 0, memory_order_relaxed);
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_hold h;

	(void)xshim_hold_begin(&h, c, was);
	if (until && ch)
		wait_for_reader(c->slot, ch, until);
	xshim_hold_end(&h);
}
