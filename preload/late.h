/* SPDX-License-Identifier: MIT */
/*
 * late.h - connections that a signal handler has closed on top of a call that is at their entries of epoll sets.
 *
 * Their entries stay as they are, and they with them, until the call below has given back what it holds. Each thread has its own; a handler on
 * top of any of these lines is the same thread, so one word that is exchanged is enough.
 */
#ifndef XSHIM_LATE_H
#define XSHIM_LATE_H
#include "conn.h"

extern __thread _Atomic(struct xshim_conn *) xshim_late __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* c stays, until xshim_late_run() finds that its entries can be dropped. */
void xshim_late_add(struct xshim_conn *c);
void xshim_late_run_slow(void);

/* A lock of a set, or of all sets, has been given back. */
static inline void xshim_late_run(void)
{
	if (__builtin_expect(atomic_load_explicit(&xshim_late, memory_order_relaxed) != NULL, 0))
		xshim_late_run_slow();
}

#endif
