/* SPDX-License-Identifier: MIT */
/*
 * xen_vchan.h - libxenvchan as the carrier of the messages between two guests' daemons (xen_peer.h).
 *
 * The daemon of the lower domid is the server: it grants one page to the other domain alone and names it, and an event channel, in
 * two leaves that only that domain may read. open and close wait for xenstored, so they are for jobs (xen_sync.h).
 *
 * libxenvchan asks the kernel to clear a byte of the server's page when the client's mapping goes. In a PV guest that was saved
 * meanwhile the page is not there any more, and the kernel falls over it. So that request is taken back right after the mapping has been
 * made, only the event stays; the server finds out by a PING that nobody is there.
 *
 * After our own guest was saved or moved, the descriptors of an old connection are kept open for good (measured with Linux 6.1, PV and PVH):
 * closing an event channel's descriptor that was bound before is a BUG() in evtchn_release(), and unmapping warns in gntdev. The
 * memory behind it is not touched either: xshimd_vchan_abandon().
 */
#ifndef XSHIMD_XEN_VCHAN_H
#define XSHIMD_XEN_VCHAN_H
#include <stdbool.h>
#include <stdint.h>

#include "xen_peer.h"
#include "xen_store.h"

struct xshimd_vchan;
extern const struct xshimd_carrier xshimd_vchan_carrier;

/*
 * Between domain `self` and domain `peer`. -EAGAIN: the server's leaves are not there yet; -EINVAL: they hold something else than
 * numbers, *why.
 */
int xshimd_vchan_open(struct xshimd_vchan **out, struct xshimd_store *s, uint32_t self, uint32_t peer, const char **why);
void xshimd_vchan_close(struct xshimd_vchan *v);

/* In the loop: */
int xshimd_vchan_fd(const struct xshimd_vchan *v);
void xshimd_vchan_take_event(struct xshimd_vchan *v);	/* the descriptor is readable */
/* From here on nothing touches it, and xshimd_vchan_close() lets it lie. */
void xshimd_vchan_abandon(struct xshimd_vchan *v);

#endif
