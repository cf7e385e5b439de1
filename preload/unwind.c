/* SPDX-License-Identifier: MIT */
/* unwind.c - what a call that never returns lets go (unwind.h). */
#include "unwind.h"

/* How many have turned it off in this thread, and what it was before the first of them. A handler on top finds and leaves both as they are. */
static __thread int off __attribute__((tls_model("initial-exec")));
static __thread int was __attribute__((tls_model("initial-exec")));

void xshim_cancel_off(void)
{
	int before;

	if (off) {
		off++;
		return;
	}
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	was = before;
	off = 1;
}

void xshim_cancel_on(void)
{
	int before = was;

	if (off && !--off)
		pthread_setcancelstate(before, NULL);
}

int xshim_cancel_let(void)
{
	int n = off, before = was;

	if (n) {
		off = 0;
		pthread_setcancelstate(before, NULL);
	}
	return n;
}

void xshim_cancel_back(int n)
{
	if (n) {
		xshim_cancel_off();
		off = n;
	}
}

void xshim_hold_drop(void *hold)
{
	struct xshim_hold *h = hold;

	if (h->c)
		xshim_conn_put(h->c);
	h->c = NULL;
}
