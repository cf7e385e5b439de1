/* SPDX-License-Identifier: MIT */
/* fault.c - faults that are ours (fault.h). */
#include "fault.h"
#include "conn.h"
#include "sigact.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>
#include <xshim/ucopy.h>

_Atomic bool xshim_fault_caught;

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
			int saved = errno;

			ch->be->forsake(&ch->remote);
			errno = saved;
			return true;
		}
	}
	return false;
}

static bool leave_copy(ucontext_t *context)
{
#if defined(__x86_64__)
	greg_t *pc = &context->uc_mcontext.gregs[REG_RIP];
	uintptr_t resume;

	if (!xshim_ucopy_resume((uintptr_t)*pc, &resume))
		return false;
	*pc = (greg_t)resume;
	return true;
#else
	(void)context;
	return false;
#endif
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	/* one that was sent may come at any instruction */
	if (info->si_code > 0) {
		if (sig == SIGBUS && let_go(info->si_addr))
			return;
		if (leave_copy(context))
			return;
	}
	xshim_sigact_pass(sig, info, context);
}

void xshim_fault_ready(void)
{
	static _Atomic bool done;

	if (atomic_load_explicit(&done, memory_order_acquire))
		return;
	xshim_sigact_watch();
	xshim_sigact_take(SIGBUS, on_fault);
	if (XSHIM_UCOPY_RESUMES) {
		xshim_sigact_take(SIGSEGV, on_fault);
		atomic_store_explicit(&xshim_fault_caught, true, memory_order_release);
	}
	atomic_store_explicit(&done, true, memory_order_release);
}
