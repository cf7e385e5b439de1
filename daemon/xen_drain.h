/* SPDX-License-Identifier: MIT */
/*
 * xen_drain.h - role guest: leave the rings with one guest, or all, before a guest is saved or moved.
 *
 *   asked: LEAVE to the shims --> none left, or xen_drain_timeout --> connections to those guests are closed --> answered
 *
 * A connection that is half-closed cannot leave (link.h). It is waited for like the others, as it is probably near its end, and then
 * counted as left over: the drain does not harm it. Who saves the guest all the same resets it.
 *
 * From the request on nothing new is introduced with those guests, until xen_drain_hold has passed, the one who asked says that it is over,
 * or the guest that it was about has gone.
 */
#ifndef XSHIMD_XEN_DRAIN_H
#define XSHIMD_XEN_DRAIN_H
#include <stdbool.h>
#include <stdint.h>

#define XSHIMD_DRAINS 8

struct xshimd_conn;
struct xshimd_guest;
struct xshimd_xen_drain;

struct xshimd_drain {
	bool active;
	uint32_t domid;			/* XSHIM_DOMID_ALL: every one */
	struct xshimd_conn *asker;	/* NULL: the host, or the command has gone */
	uint32_t id;			/* of the command's message */
	bool by_host;
	uint32_t number;		/* of the host's request */
	enum { XSHIMD_DRAIN_LEAVING, XSHIMD_DRAIN_CLOSING, XSHIMD_DRAIN_HELD } state;
	uint64_t deadline_ms;		/* LEAVING; HELD: its end */
	uint32_t left;
};

struct xshimd_drains {
	struct xshimd_drain d[XSHIMD_DRAINS];
	bool has_seen;
	uint32_t seen;			/* number of the host's last request */
};

bool xshimd_is_draining(const struct xshimd_guest *g, uint32_t domid);
/* 0, or -EBUSY: as many as can be at a time are under way. */
int xshimd_drain_begin(struct xshimd_guest *g, uint32_t domid, struct xshimd_conn *asker, uint32_t id,
		       const struct xshimd_xen_drain *by_host);
void xshimd_drain_end(struct xshimd_guest *g, uint32_t domid, bool by_host);
/* The domain has gone, or (XSHIM_DOMID_ALL) we have moved: what was held off may come again. */
void xshimd_drain_over(struct xshimd_guest *g, uint32_t domid);
/* What the host's drain leaf holds. */
void xshimd_drain_host(struct xshimd_guest *g, const struct xshimd_xen_drain *asked);
void xshimd_drain_asker_gone(struct xshimd_guest *g, const struct xshimd_conn *c);
/* Something has left, or time has passed; the next deadline. */
uint64_t xshimd_drains_check(struct xshimd_guest *g, uint64_t now_ms);
/* The job has closed the connections: answer. i: index of a drain in CLOSING. */
void xshimd_drain_closed(struct xshimd_guest *g, uint32_t i);

#endif
