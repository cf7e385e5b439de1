/* SPDX-License-Identifier: MIT */
#include "late.h"
#include "epoll.h"

#include <errno.h>

__thread _Atomic(struct xshim_conn *) xshim_late __attribute__((tls_model("initial-exec")));

void xshim_late_add(struct xshim_conn *c)
{
	struct xshim_conn *next = atomic_load_explicit(&xshim_late, memory_order_relaxed);

	xshim_obj_hold(&c->obj);
	do
		c->next_late = next;
	while (!atomic_compare_exchange_weak_explicit(&xshim_late, &next, c, memory_order_relaxed, memory_order_relaxed));
}

static __thread bool runs __attribute__((tls_model("initial-exec")));	/* it gives locks back itself, and is not to begin anew for each */

/* One that is still below a lock is added again, for when that is given back. */
void xshim_late_run_slow(void)
{
	struct xshim_conn *c, *next;
	int saved = errno;

	if (runs)
		return;
	runs = true;
	c = atomic_exchange_explicit(&xshim_late, NULL, memory_order_relaxed);
	for (; c; c = next) {
		next = c->next_late;
		xshim_epoll_forget(c, -1);
		xshim_conn_put(c);
	}
	runs = false;
	errno = saved;
}
