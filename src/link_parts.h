/* SPDX-License-Identifier: MIT */
/* link_parts.h - what the link_*.c have in common; nobody else calls it. */
#ifndef XSHIM_LINK_PARTS_H
#define XSHIM_LINK_PARTS_H
#include <xshim/link.h>

#include <errno.h>

/* It sticks: nothing of the peer's is believed any more. */
static inline int broken(struct xshim_link *l)
{
	l->error = EPROTO;
	return -EPROTO;
}

/* In link.c, with their reasons. The locks of both directions, as for a leave. */
bool xshim_link_acked(const struct xshim_link *l, const struct xshim_region_hdr *peer);
bool xshim_link_is_seen(const struct xshim_link *l, const struct xshim_region_hdr *peer);
void xshim_link_come_down(struct xshim_link *l, struct xshim_region_hdr *own);

#endif
