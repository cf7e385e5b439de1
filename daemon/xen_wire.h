/* SPDX-License-Identifier: MIT */
/*
 * xen_wire.h - what carries the messages between two guests' daemons (xen_peer.h): a pair of rings as programs have them.
 *
 * Each daemon shares a region (region.h) with the other domain alone, read-only, and maps the other's; of its words only head, tail
 * and alive are used. The one of the lower domid offers, the other one claims, by two leaves (xen_text.h) that only the other may read:
 *
 *   lower domid                                    higher domid
 *   creates its half, writes `offer`      ------>  creates its half, maps the other's, writes `claim`, which names the offer
 *   maps the other's half, empties `offer`  <----
 *
 * An offer is used once: after that it is empty until the next one, so nobody comes into the middle of a stream. Not
 * libxenvchan: it maps where there is room, and a PV guest that is saved then loses its neighbours, too (src/xen_map.h).
 *
 * When our own guest was saved or moved under it, reading the other's region gives ones, or a SIGBUS, which is caught: -EPIPE. What may
 * not be closed then goes to xen_keeper.h.
 *
 * open and close wait for xenstored, so they are for jobs (xen_sync.h).
 */
#ifndef XSHIMD_XEN_WIRE_H
#define XSHIMD_XEN_WIRE_H
#include <stdbool.h>
#include <stdint.h>

#include "xen_peer.h"
#include "xen_store.h"

struct xshimd_wire;
extern const struct xshimd_carrier xshimd_wire_carrier;

/*
 * Between domain `self` and domain `peer`. -EAGAIN: it is the other's turn, its leaf tells; *half is what we have so far, for
 * the next call. -EINVAL: the leaf holds something else than it should, *why.
 */
int xshimd_wire_open(struct xshimd_wire **out, struct xshimd_wire **half, struct xshimd_store *s, uint32_t self, uint32_t peer,
		     const char **why);
/* Also a half one. */
void xshimd_wire_close(struct xshimd_wire *w);

/* In the loop: */
int xshimd_wire_fd(const struct xshimd_wire *w);
void xshimd_wire_take_event(struct xshimd_wire *w);	/* the descriptor is readable */
/* Our guest has moved: from here on the other's region is not touched, and closing is done with care. */
void xshimd_wire_abandon(struct xshimd_wire *w);

#endif
