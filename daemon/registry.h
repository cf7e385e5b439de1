/* SPDX-License-Identifier: MIT */
/*
 * registry.h - who waits for whom: endpoints by client, offers and claims by connection.
 *
 * An offer and the claims for it lie in one bucket, under the connection's addresses as the accepting end
 * sees them. Several offers in one bucket are connections of different network namespaces with equal
 * addresses; matching tells them apart.
 */
#ifndef XSHIMD_REGISTRY_H
#define XSHIMD_REGISTRY_H
#include <stdbool.h>
#include <stdint.h>
#include <xshim/endpoint.h>

#include "table.h"
#include "verify.h"

struct xshimd;
struct xshimd_conn;
struct xshimd_bucket;

struct xshimd_endpoint_reg {
	uint64_t hash;
	struct xshim_endpoint ep;
	bool exported;			/* other guests are told of it */
	UT_hash_handle hh;		/* in conn->endpoints */
};

struct xshimd_wait {			/* an offer or a claim that waits */
	struct xshimd_conn *conn;
	uint32_t id;
	bool is_claim;
	bool probe_asked;		/* PROBE_WANTED is out */
	struct xshimd_tcp tcp;		/* as its own end sees it */
	int region, bell, life, probe;	/* ours; region and life -1: xen; probe -1: none yet */
	uint32_t order;
	uint64_t nonce;
	uint64_t until_ms;
	uint64_t seen_ns;		/* when its socket was seen to be there; uv_hrtime() */
	uint64_t since_ns;		/* a claim: it has been there since then, or longer */
	uint32_t round;			/* match.c: looked at in this round */
	uint32_t probes;		/* probe.c: probes that count on it for a socket */
	/* an offer over xen: it waits at another guest's xshimd, in no bucket */
	bool is_xen;
	bool is_made;			/* that one has been sent it */
	bool settled;			/* by the other one's answer */
	bool look_asked;		/* LOOK_WANTED is out */
	bool was_older;			/* that one has said so */
	uint32_t ask;			/* after this PONG its socket is to be looked at */
	uint32_t domid, gref, port;
	uint32_t number;		/* under which the other one knows it */
	UT_hash_handle xh;		/* guest->offers, by number */
	struct xshimd_bucket *bucket;
	struct xshimd_wait *prev, *next;	/* in the bucket */
	struct xshimd_wait *c_prev, *c_next;	/* of the client */
	struct xshimd_wait *a_prev, *a_next;	/* all offers, or all claims */
};

struct xshimd_bucket {
	struct xshim_tuple tuple;	/* as the accepting end sees it */
	struct xshimd_wait *waits;
	UT_hash_handle hh;
};

struct xshimd_registry {
	struct xshimd_bucket *buckets;
	struct xshimd_wait *offers, *claims;
	uint32_t offers_n, claims_n, endpoints_n;
};

/*
 * Put a filled-in wait (allocated by the caller) into its bucket and publish an offer. 0 or -ENOMEM, -ENOSPC;
 * then it is the caller's still. Its quota has been taken.
 */
int xshimd_wait_add(struct xshimd *d, struct xshimd_wait *w);
/*
 * Take it out, close what it holds, give the quota back. The client is told nothing by this: it has been introduced, has withdrawn
 * it or is gone itself. Who declines it calls the next one.
 */
void xshimd_wait_free(struct xshimd *d, struct xshimd_wait *w);
/*
 * Free it, then tell the client: so who hears of it finds it gone from the map and its descriptors closed, and may offer anew. Its
 * client may be dropped by this, and is there until the loop comes round.
 */
void xshimd_wait_decline(struct xshimd *d, struct xshimd_wait *w, uint32_t reason);
struct xshimd_wait *xshimd_wait_find(const struct xshimd_conn *c, uint32_t id);
/* Decline what has waited long enough; the next such time, or UINT64_MAX. */
uint64_t xshimd_waits_sweep(struct xshimd *d, uint64_t now_ms);

/* The local end of an accepted socket of a client as an endpoint. 0, also when it has it already; -EDQUOT, -ENOMEM, -ENOSPC. */
int xshimd_endpoint_add(struct xshimd *d, struct xshimd_conn *c, const struct xshimd_tcp *tcp, uint32_t *limit);

/* All that a client that goes away has here. */
void xshimd_registry_leave(struct xshimd *d, struct xshimd_conn *c);

#endif
