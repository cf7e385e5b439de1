/* SPDX-License-Identifier: MIT */
/*
 * probe.h - does one network namespace reach another at these addresses? A TCP connection tells.
 *
 * The offering end supplies an unconnected socket of its namespace bound to its address, the claiming end a
 * listening one bound to its own. xshimd connects the first to the second, compares both ends' names, and
 * passes a fresh nonce each way. The answer is kept for (namespace, address, namespace, address).
 *
 *   WANT --both sockets here--> RUN --nonces equal--> PROVEN   (for probe_cache)
 *    |                           +--anything else---> REFUTED  (for probe_retry)
 *    +--an end goes away: given up, nothing is remembered; whoever still waits starts it again
 *
 * What it does not show. Bytes that come through might have been carried by a relay. A proxy, a NAT or
 * a user-mode network is found out by the names, which differ. A relay that forges them needs a process in the real
 * namespace and power over a private one, which any user can make with unshare -Urn. Hence the rule
 * cross_netns=owned: if either namespace belongs to another user namespace than xshimd's, the two clients must be
 * of one uid. Asking whose it is takes CAP_NET_ADMIN; without it xshimd cannot tell, and says so at its start.
 */
#ifndef XSHIMD_PROBE_H
#define XSHIMD_PROBE_H
#include <stdbool.h>
#include <stdint.h>
#include <xshim/endpoint.h>

#include "table.h"
#include "watch.h"

#define XSHIMD_PROBE_NONCE 16
#define XSHIMD_PROBES_KEPT 4096		/* answers remembered; the oldest goes */

struct xshimd;
struct xshimd_wait;

enum xshimd_probe_state { XSHIMD_PROBE_WANT, XSHIMD_PROBE_RUN, XSHIMD_PROBE_PROVEN, XSHIMD_PROBE_REFUTED };
enum xshimd_reach { XSHIMD_REACH_NO, XSHIMD_REACH_YES, XSHIMD_REACH_PENDING };

struct xshimd_probe_key {
	uint64_t offer_netns, claim_netns;
	uint8_t offer_addr[16], claim_addr[16];
};

struct xshimd_probe {
	struct xshimd_probe_key key;
	struct xshimd *d;
	enum xshimd_probe_state state;
	bool strange;			/* a namespace of another user namespace: equal uids needed */
	uint64_t until_ms;		/* WANT, RUN: deadline; else how long the answer holds */
	struct xshimd_wait *offer, *claim; /* WANT: who is to supply the sockets */
	int connector, listener, accepted; /* RUN; -1: none */
	bool connected;
	bool got_there, got_back;	/* nonces that arrived */
	struct xshim_endpoint from, to;	/* what the two are bound to */
	uint8_t there[XSHIMD_PROBE_NONCE], back[XSHIMD_PROBE_NONCE];
	struct xshimd_watch *w_connector, *w_listener, *w_accepted;
	struct xshimd_probe *prev, *next; /* WANT, RUN */
	UT_hash_handle hh;
};

struct xshimd_probes {
	struct xshimd_probe *table;
	struct xshimd_probe *running;
	uint32_t running_n;
	bool ready;			/* one that WANTs has both its sockets: xshimd_probes_start() is due */
};

/* Does the offer's end reach the claim's? Starts a probe when that is not known. */
enum xshimd_reach xshimd_probe_reach(struct xshimd *d, struct xshimd_wait *offer, struct xshimd_wait *claim);
/* Run what has its sockets. From xshimd_settle(), as clients may be declined on the way. */
void xshimd_probes_start(struct xshimd *d);
/* w goes away. */
void xshimd_probe_forget(struct xshimd *d, struct xshimd_wait *w);
/* Deadlines; the next one, or UINT64_MAX. */
uint64_t xshimd_probes_sweep(struct xshimd *d, uint64_t now_ms);
void xshimd_probes_close(struct xshimd *d);

#endif
