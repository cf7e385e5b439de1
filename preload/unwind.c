/* SPDX-License-Identifier: MIT */
/* unwind.c - what a call that never returns lets go, and cancellation that is put off (unwind.h). */
#include "unwind.h"

_Atomic uint32_t xshim_may_end;
__thread uint32_t xshim_async __attribute__((tls_model("initial-exec")));

void xshim_put_off(void)
{
	if (xshim_async++ == 1)
		(void)libc.pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
}

void xshim_put_on(void)
{
	if (--xshim_async == 1)
		(void)libc.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
}

void xshim_put_back(uint32_t was)
{
	if (xshim_async == was)
		return;
	xshim_async = was;
	if (was == 1)
		(void)libc.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
}

XSHIM_EXPORT int pthread_setcanceltype(int type, int *old)
{
	int rc;

	if (xshim_async > 1) {		/* by a handler on top of a call of ours, which may not: it stays as it is */
		if (old)
			*old = PTHREAD_CANCEL_ASYNCHRONOUS;
		return type == PTHREAD_CANCEL_DEFERRED || type == PTHREAD_CANCEL_ASYNCHRONOUS ? 0 : EINVAL;
	}
	/* asynchronous: known /then/ so; the call itself acts on what is pending */
	if (type == PTHREAD_CANCEL_ASYNCHRONOUS) {
		atomic_store_explicit(&xshim_may_end, 1, memory_order_seq_cst);
		xshim_async = 1;
	}
	rc = libc.pthread_setcanceltype(type, old);
	if (type == PTHREAD_CANCEL_DEFERRED)
		xshim_async = 0;
	return rc;
}

XSHIM_EXPORT int pthread_cancel(pthread_t thread)
{
	atomic_store_explicit(&xshim_may_end, 1, memory_order_seq_cst);
	return libc.pthread_cancel(thread);
}

void xshim_hold_drop(void *hold)
{
	struct xshim_hold *h = hold;

	if (h->c)
		xshim_conn_put(h->c);
	h->c = NULL;
	xshim_put_back(h->was);
}
