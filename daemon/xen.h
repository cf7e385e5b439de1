/* SPDX-License-Identifier: MIT */
/*
 * xen.h - what the rest of xshimd has to call for Xen. In role local, d->guest and d->host are NULL and each of these does nothing,
 * or declines.
 */
#ifndef XSHIMD_XEN_H
#define XSHIMD_XEN_H
#include <stdbool.h>
#include <stdint.h>
#include <xshim/proto.h>

#include "registry.h"

struct xshimd;
struct xshimd_conn;

/* Start what the role needs. 0, or -errno after a line in the log. */
int xshimd_xen_open(struct xshimd *d);
/* In two steps: the memory is needed until the loop has ended. */
void xshimd_xen_close(struct xshimd *d);
bool xshimd_xen_is_busy(const struct xshimd *d);	/* a job still waits for xenstored */
void xshimd_xen_free(struct xshimd *d);
/* Deadlines; the next one, or UINT64_MAX. */
uint64_t xshimd_xen_sweep(struct xshimd *d, uint64_t now_ms);

/* OFFER or CLAIM with backend xen and its two descriptors, which are taken over (match_xen.c). */
void xshimd_xen_channel(struct xshimd_conn *c, const union xshim_msg *m, int *fds);
/* LOOK with the TCP socket of an offer over xen, which stays the caller's. */
void xshimd_xen_look(struct xshimd_conn *c, const union xshim_msg *m, int tcp);
/* An offer over xen is about to be freed, for whatever reason. */
void xshimd_xen_wait_gone(struct xshimd *d, struct xshimd_wait *w);
/* A preloaded program accepts at ep, in this namespace; or no longer. */
bool xshimd_xen_export(struct xshimd *d, const struct xshim_endpoint *ep, uint64_t netns);
void xshimd_xen_unexport(struct xshimd *d, const struct xshim_endpoint *ep);

/* RESUME with its descriptor, which is taken over if this is true; LEFT, DRAIN_ASK, the end of a client. */
bool xshimd_xen_resume(struct xshimd_conn *c, const union xshim_msg *m, int bell);
void xshimd_xen_left(struct xshimd_conn *c, uint32_t id);
void xshimd_xen_drain(struct xshimd_conn *c, const union xshim_msg *m);
void xshimd_xen_conn_gone(struct xshimd_conn *c);

#endif
