/* SPDX-License-Identifier: MIT */
/* eset_lock.c - the locks of epoll sets: of each, and of all (eset.h). */
#include "eset.h"
#include "late.h"
#include "unwind.h"

#include <sched.h>

_Atomic uint32_t xshim_eset_structure;

bool xshim_eset_lock(_Atomic uint32_t *l)
{
	uint32_t none, self = xshim_tid();

	xshim_deferred_begin();
	for (;;) {
		none = 0;
		if (atomic_compare_exchange_weak_explicit(l, &none, self, memory_order_acquire,
							  memory_order_relaxed))
			return true;
		if (none == self) {	/* a signal handler on top of the holder */
			xshim_deferred_end();
			return false;
		}
		if (none)
			sched_yield();
	}
}

void xshim_eset_unlock(_Atomic uint32_t *l)
{
	atomic_store_explicit(l, 0, memory_order_release);
	xshim_deferred_end();
	xshim_late_run();
}

void xshim_eset_leave(struct xshim_eset *set, bool taken)
{
	if (taken) {
		xshim_eset_unlock(&set->lock);
		return;
	}
	atomic_store_explicit(&set->again, true, memory_order_seq_cst);
	xshim_eset_kick(set, true);
}

bool xshim_eset_structure_lock(void)
{
	return xshim_eset_lock(&xshim_eset_structure);
}

void xshim_eset_structure_unlock(void)
{
	xshim_eset_unlock(&xshim_eset_structure);
}
