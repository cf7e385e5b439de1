/* SPDX-License-Identifier: MIT */
/* hot.c - entries of an epoll set that are watched in memory (hot.h). */
#include "hot.h"
#include "options.h"
#include "ready.h"

#define IDLE_LOOKS 32		/* at a hot entry that has nothing new */
#define LOOKS_BY_CLOCK 64	/* at hot entries between two looks at the clock */

void xshim_hot_heat(struct xshim_eset *set, struct xshim_reg *r, uint64_t seen_head)
{
	struct xshim_reg *first = set->hot;

	r->seen_head = seen_head;
	if (r->hot_next)
		return;
	r->hot_idle = 0;
	if (first) {			/* it is the last to be looked at */
		r->hot_next = first;
		r->hot_prev = first->hot_prev;
		first->hot_prev->hot_next = r;
		first->hot_prev = r;
	} else {
		set->hot = r->hot_next = r->hot_prev = r;
	}
	set->hots++;
}

void xshim_hot_cool(struct xshim_eset *set, struct xshim_reg *r)
{
	if (!r->hot_next)
		return;
	if (set->hot == r)
		set->hot = r->hot_next == r ? NULL : r->hot_next;
	r->hot_next->hot_prev = r->hot_prev;
	r->hot_prev->hot_next = r->hot_next;
	r->hot_next = r->hot_prev = NULL;
	set->hots--;
}

static bool has_moved(const struct xshim_reg *r)
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
		if (has_moved(r)) {
			xshim_hot_goes(set, r, false);
			found++;
		} else if (age && ++r->hot_idle > IDLE_LOOKS) {
			xshim_hot_goes(set, r, true);
		}
	}
	return found;
}

bool xshim_hot_spin(struct xshim_eset *set, int max)
{
	uint64_t end;

	if (!set->hots || !xshim_spin_allowed())
		return false;
	if (!set->spin_good) {
		if (++set->spin_skip % xshim_spin_rarity(set->spin_missed))
			return false;
		set->spin_missed += set->spin_missed < XSHIM_SPIN_MISSED;
	}
	end = xshim_clock_ns() + xshim_opt.spin_us * 1000;
	do {
		for (int i = 0; i < 8 && i * set->hots < LOOKS_BY_CLOCK; i++) {
			if (xshim_hot_to_ready(set, LOOKS_BY_CLOCK, max, false)) {
				if (!set->spin_good)
					set->spin_missed = 0;
				if (set->spin_good < 8)
					set->spin_good++;
				return true;
			}
			xshim_relax();
		}
	} while (xshim_clock_ns() < end);
	set->spin_good /= 2;
	return false;
}
