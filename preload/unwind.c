/* SPDX-License-Identifier: MIT */
/* unwind.c - what a call that never returns lets go (unwind.h). */
#include "unwind.h"

void xshim_hold_drop(void *hold)
{
	struct xshim_hold *h = hold;

	if (h->c)
		xshim_conn_put(h->c);
	h->c = NULL;
}
