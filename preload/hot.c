/* SPDX-License-Identifier: MIT */
/* hot.c - entries of an epoll set that are watched in memory (hot.h). */
#include "hot.h"
#include "options.h"
#include "ready.h"

#define IDLE_LOOKS 32		/* at a hot entry that has nothing new */
#define REST_LOOKS 8		/* a rest counts for so many */
#define LOOKS_BY_CLOCK 64	/* at hot entries between two looks at the clock */

/*
 * May r go unarmed until somebody is about to sleep? Only what comes on the ring can be seen without the
 * kernel, and only by a thread that will look. A process that sleeps in the same set has to hear the bell from who took it.
 */
bool xshim_hot_may(const struct xshim_eset *set, const struct xshim_reg *r, const struct xshim_ready *rdy, unsigned int dir)
{
	return (dir & POLLIN) && !rdy->in_from_tcp &&
	       r->conn->slot->link.rx.state == XSHIM_RX_RING &&
	       (!(dir & POLLOUT) || (rdy->mask & POLLOUT)) &&
	       !(set->shared && xshim_slot_others_wait(r->conn->slot, xshim_conn_chan(r->conn)->waits, true, false, false)) &&
	       atomic_load_explicit(&set->waiting, memory_order_seq_cst) == 1;
}

/* As the last of a circle. */
static void join(struct xshim_reg **circle, struct xshim_reg *r)
{
	struct xshim_reg *first = *circle;

	if (first) {
		r->hot_next = first;
		r->hot_prev = first->hot_prev;
		first->hot_prev->hot_next = r;
		first->hot_prev = r;
	} else {
		*circle = r->hot_next = r->hot_prev = r;
	}
}

static void part(struct xshim_reg **circle, struct xshim_reg *r)
{
	if (*circle == r)
		*circle = r->hot_next == r ? NULL : r->hot_next;
	r->hot_next->hot_prev = r->hot_prev;
	r->hot_prev->hot_next = r->hot_next;
	r->hot_next = r->hot_prev = NULL;
}

void xshim_hot_heat(struct xshim_eset *set, struct xshim_reg *r, uint64_t seen_head)
{
	r->seen_head = seen_head;
	if (r->hot_next && !r->rests)
		return;
	xshim_hot_cool(set, r);
	r->hot_idle = 0;
	join(&set->hot, r);
	set->hots++;
}

void xshim_hot_cool(struct xshim_eset *set, struct xshim_reg *r)
{
	if (!r->hot_next)
		return;
	if (r->rests) {
		part(&set->resting, r);
		r->rests = false;
	} else {
		part(&set->hot, r);
		set->hots--;
	}
}

void xshim_hot_rest(struct xshim_eset *set, struct xshim_reg *r)
{
	xshim_hot_cool(set, r);
	join(&set->resting, r);
	r->rests = true;
}

void xshim_hot_rouse(struct xshim_eset *set, int most)
{
	if (set->shared || atomic_load_explicit(&set->shown, memory_order_relaxed) ||
	    atomic_load_explicit(&set->waiting, memory_order_seq_cst) != 1)
		return;			/* somebody would not look */
	while (set->resting && most-- > 0) {
		struct xshim_reg *r = set->resting;
		struct xshim_chan *ch = xshim_conn_chan(r->conn);

		xshim_hot_cool(set, r);
		r->hot_idle += REST_LOOKS;
		if (r->hot_idle > IDLE_LOOKS || r->listed || !ch || !r->rx_wait || r->tx_wait ||
		    !xshim_ready_unwish(r->conn, ch, r->edge_wait))
			continue;
		join(&set->hot, r);
		set->hots++;
	}
}

bool xshim_hot_has_moved(const struct xshim_reg *r)
{
	struct xshim_chan *ch = xshim_conn_chan(r->conn);

	return !ch || atomic_load_explicit(&ch->remote.region->head, memory_order_acquire) != r->seen_head;
}

void xshim_hot_goes(struct xshim_eset *set, struct xshim_reg *r, bool to_be_armed)
{
	xshim_hot_cool(set, r);
	r->quiet = false;
	r->rearmed = r->cold = to_be_armed;
	xshim_eset_list(set, r);
}

bool xshim_hot_to_ready(struct xshim_eset *set, int looks, int max, bool age)
{
	int found = 0;

	for (int left = looks < set->hots ? looks : set->hots; left > 0 && found < max; left--) {
		struct xshim_reg *r = set->hot;

		set->hot = r->hot_next;		/* next time it is the last */
		if (xshim_hot_has_moved(r)) {
			xshim_hot_goes(set, r, false);
			found++;
		} else if (age && ++r->hot_idle > IDLE_LOOKS) {
			xshim_hot_goes(set, r, true);
		}
	}
	return found;
}

static bool spin_until(struct xshim_eset *set, int max, uint64_t end, uint64_t *now)
{
	do {
		for (int i = 0; i < 8 && i * set->hots < LOOKS_BY_CLOCK; i++) {
			if (xshim_hot_to_ready(set, LOOKS_BY_CLOCK, max, false))
				return true;
			xshim_relax();
		}
		*now = xshim_clock_ns();
	} while (*now < end);
	return false;
}

bool xshim_hot_spin(struct xshim_eset *set, int max, struct xshim_hot_wait *w)
{
	uint64_t near_ns = xshim_opt.spin_us * 1000, end;
	bool paid;

	if (!w->goes_on) {
		w->how = set->hots && xshim_spin_allowed() ? xshim_spin_ask(&set->spin) : XSHIM_SPIN_NOT;
		if (w->how <= XSHIM_SPIN_TIME)
			return false;
		w->now = xshim_clock_ns();
		w->until = w->now + (w->how == XSHIM_SPIN_LONG ? xshim_spin_far_ns(near_ns) : near_ns);
	}
	end = w->now + near_ns < w->until ? w->now + near_ns : w->until;
	paid = set->hots && spin_until(set, max, end, &w->now);
	w->goes_on = !paid && set->hots && w->now < w->until;
	if (!w->goes_on)
		xshim_spin_done(&set->spin, w->how, paid, false);
	return paid;
}

void xshim_hot_let(struct xshim_eset *set, struct xshim_hot_wait *w)
{
	if (!w->goes_on || !xshim_spin_lets(&w->now))
		return;
	w->goes_on = false;
	xshim_spin_done(&set->spin, w->how, false, true);
}

void xshim_hot_over(struct xshim_eset *set, struct xshim_hot_wait *w)
{
	if (w->goes_on)
		xshim_spin_done(&set->spin, w->how, false, false);
	w->goes_on = false;
}
