/* SPDX-License-Identifier: MIT */
/*
 * xen_guest.h - role guest: this guest's xshimd among those of the other guests of the host.
 *
 * xen_guest.c holds what is known (the other guests, their addresses, the connections to their xshimd), xen_guest_job.c does all
 * that may wait (xenstore, opening and closing connections), xen_channels.c and xen_drain.c what has become of it,
 * match_xen.c the introductions. Texts in xenstore: xen_text.h; messages to peers: xen_peer.h.
 *
 *   the host's list --> peers --> map->guests         which addresses are other guests', for the shims
 *   peers' ENDPOINT_ADD -------> map->endpoints       where a shimmed program accepts over there
 *   peers' OFFER --------------> map->offers
 *
 * A domain that goes (its entry leaves the list, or has another life, or its leaf cannot be read any more) takes its endpoints, its
 * offers and its channels with it: FORSAKE. A xshimd that goes takes its endpoints and offers; established channels stay.
 * When our own domid or life changes we were saved or moved: everybody else is gone, as seen from here.
 */
#ifndef XSHIMD_XEN_GUEST_H
#define XSHIMD_XEN_GUEST_H
#include <stdbool.h>
#include <stdint.h>

#include "journal.h"
#include "table.h"
#include "verify.h"
#include "watch.h"
#include "xen_bells.h"
#include "xen_drain.h"
#include "xen_peer.h"
#include "xen_store.h"
#include "xen_sync.h"
#include "xen_text.h"

#define XSHIMD_GUEST_PEERS 60		/* a guest has 128 watches; each peer takes two */
#define XSHIMD_GUEST_CLAIMS 64
#define XSHIMD_GUEST_EXPORTS 1024	/* as many as a peer takes */

struct xshimd;
struct xshimd_channel;
struct xshimd_guest;
struct xshimd_wire;
struct xshimd_wait;

struct xshimd_guest_peer {
	struct xshimd_guest *g;
	struct xshimd_xen_guest is;	/* what the host says */
	struct xshimd_peer link;
	struct xshimd_wire *wire;	/* while link is attached */
	struct xshimd_watch *watch;
	const char *said;		/* why it was closed last, until it is up again */
	unsigned int failures;
	uint64_t tried_ms, retry_ms;	/* when to connect again */
	uint32_t offers_out;		/* ours that wait there */
	UT_hash_handle hh;		/* by is.domid */
};

struct xshimd_guest_export {		/* an endpoint of ours */
	struct xshim_endpoint ep;
	uint32_t refs;
	bool announced;
	UT_hash_handle hh;
};

struct xshimd_guest_open {		/* a connection that the job is to make */
	uint32_t domid;
	struct xshimd_wire *wire;
	int rc;
	const char *why;
};

struct xshimd_guest_claim {
	struct xshimd_tcp tcp;
	uint64_t since_ns;
};

struct xshimd_guest_half {		/* an offer of ours that has not been claimed */
	uint32_t domid;
	struct xshimd_wire *wire;
};

struct xshimd_guest_job {
	/* the job's own */
	struct xshimd_store *store;
	bool has_domid;
	uint32_t domid;
	uint64_t instance_out;		/* as published */
	char addr_out[XSHIMD_XEN_VALUE_MAX + 1], answer_out[64];
	uint32_t watched[XSHIMD_GUEST_PEERS];
	uint32_t watched_n;
	struct xshimd_guest_half half[XSHIMD_GUEST_PEERS];
	uint32_t half_n;
	struct xshimd_journal journal;
	/* for the job */
	bool reopen;			/* the store is of no use any more */
	uint64_t instance;
	char addr[XSHIMD_XEN_VALUE_MAX + 1], answer[64];
	struct xshimd_wire *close[2 * XSHIMD_GUEST_PEERS];
	uint32_t close_n;
	struct xshimd_guest_open open[XSHIMD_GUEST_PEERS];
	uint32_t open_n;
	uint32_t waits[XSHIMD_GUEST_PEERS];	/* those whom we may offer one */
	uint32_t waits_n;
	uint32_t ended[XSHIMD_DRAINS];	/* drains that are ready to be answered once the connections are closed */
	uint32_t ended_n;
	/* from the job */
	bool moved;			/* our domid is another one; nothing else was looked at */
	bool has_list, has_self;
	struct xshimd_xen_guest self;
	struct xshimd_xen_guest list[XSHIMD_GUEST_PEERS];
	uint32_t list_n;
	struct xshimd_xen_drain drain;
};

struct xshimd_guest {
	struct xshimd *d;
	struct xshimd_sync sync;
	struct xshimd_guest_job job;
	struct xshimd_watch *store_watch, *link_watch;
	int link_fd;			/* netlink: addresses change */
	uint64_t netns;			/* the daemon's own */
	uint64_t instance;
	uint32_t offer_number;
	bool has_self, has_list, told_absent; /* has_list: it has been read since we began, or moved */
	struct xshimd_xen_guest self;
	struct xshimd_guest_peer *peers;
	struct xshimd_guest_export *exports;
	struct xshimd_wait *offers;	/* ours, by number */
	struct xshimd_wire *closing[2 * XSHIMD_GUEST_PEERS];
	uint32_t closing_n;
	struct xshimd_drains drains;
	struct xshimd_bells bells;	/* of channels that have gone */
	struct xshimd_guest_claim claims[XSHIMD_GUEST_CLAIMS];	/* the last that found no offer, or one that was older */
	uint32_t claims_at;
};

int xshimd_guest_open(struct xshimd *d);
void xshimd_guest_close(struct xshimd_guest *g);
uint64_t xshimd_guest_sweep(struct xshimd_guest *g, uint64_t now_ms);
struct xshimd_guest_peer *xshimd_guest_find(const struct xshimd_guest *g, uint32_t domid);
/* The other guest that has this address; NULL: none. */
struct xshimd_guest_peer *xshimd_guest_at(const struct xshimd_guest *g, const struct xshim_endpoint *ep);
void xshimd_guest_channel_gone(struct xshimd_guest *g, const struct xshimd_channel *ch);
/* A channel with that domain has come to be known that a xshimd before this one introduced. */
void xshimd_guest_resumed(struct xshimd_guest *g, uint32_t domid);
uint32_t xshimd_guest_peers_up(const struct xshimd_guest *g);
/* match_xen.c: ours that other guests' xshimd have now. */
uint32_t xshimd_guest_offers_made(const struct xshimd_guest *g);

/* xen_guest_job.c: the three parts of the job. */
void xshimd_guest_job_prepare(void *guest);
int xshimd_guest_job_work(void *guest);
/* No job runs any more: give back what they hold. */
void xshimd_guest_job_end(struct xshimd_guest_job *j);

/* match_xen.c */
void xshimd_guest_answer(struct xshimd_peer *p, uint32_t number, const struct xshimd_peer_half *half, uint32_t reason);
void xshimd_guest_heard(struct xshimd_peer *p, uint32_t ask);
void xshimd_guest_older(struct xshimd_peer *p, uint32_t number);
/* Our guest has moved: their bells are not to be closed. */
void xshimd_guest_keep_offers(struct xshimd_guest *g);
/* Decline the offers that wait at this peer; NULL: all. */
void xshimd_guest_decline_offers(struct xshimd_guest *g, const struct xshimd_guest_peer *at, uint32_t reason);

/* xen_addrs.c: the addresses at which this guest is reached; and a netlink socket that tells when they may have changed, -errno. */
void xshimd_own_addrs(struct xshimd_xen_addrs *out, bool vifs_only);
int xshimd_addrs_watch(void);
void xshimd_addrs_drain(int fd);

/* xen_limits.c: raise the number of pages that all programs of this guest may share. */
void xshimd_raise_gntalloc(const struct xshimd *d);

#endif
