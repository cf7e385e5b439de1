/* SPDX-License-Identifier: MIT */
/* fault.c - SIGBUS from the other guest's memory (fault.h). */
#include "fault.h"
#include "conn.h"

#include <signal.h>

static struct sigaction before;

static bool is_within(const void *at, const struct xshim_remote *r)
{
	const uint8_t *from = (const uint8_t *)r->region, *p = at;

	return from && p >= from && p < from + xshim_region_bytes(r->order);
}

/* Only loads and one system call; whoever faults is inside a channel, so that one is not freed now. */
static bool let_go(const void *at)
{
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CHAN); i++) {
		struct xshim_chan *ch = (struct xshim_chan *)xshim_obj_at(XSHIM_OBJ_CHAN, i);

		if (ch && ch->be && ch->be->forsake && is_within(at, &ch->remote)) {
			ch->be->forsake(&ch->remote);
			return true;
		}
	}
	return false;
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	struct sigaction act = before;

	if (info->si_code > 0 && let_go(info->si_addr))
		return;
	if ((act.sa_flags & SA_SIGINFO) && act.sa_sigaction) {
		act.sa_sigaction(sig, info, context);
	} else if (act.sa_handler != SIG_DFL && act.sa_handler != SIG_IGN) {
		act.sa_handler(sig);
	} else {
		/* As if we had not been here: the instruction faults again, or, if somebody sent it, it is sent again. */
		(void)sigaction(SIGBUS, &act, NULL);
		if (info->si_code <= 0)
			(void)raise(sig);
	}
}

void xshim_fault_ready(void)
{
	struct sigaction act = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	static _Atomic uint32_t done;

	if (atomic_exchange_explicit(&done, 1, memory_order_relaxed))
		return;
	if (sigaction(SIGBUS, NULL, &before) < 0)
		return;
	act.sa_mask = before.sa_mask;
	(void)sigaction(SIGBUS, &act, NULL);
}
