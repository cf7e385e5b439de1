/* SPDX-License-Identifier: MIT */
/*
 * xen_host.h - role host: dom0's xshimd tells the guests of each other. Texts in xenstore: xen_text.h; who has which address: xen_list.h.
 *
 * Watches: @introduceDomain, @releaseDomain, the network backends, and data/xshim of each domain. Whatever fires, everything is read
 * again in one job, decided anew, and what has changed for a guest is written into its tree, in one transaction that also makes sure
 * that the domain is there: nothing is left behind for the next one of that number. Where a number has been taken by another domain
 * since the last time, all are first told that the old one has gone.
 *
 * At our end nothing is taken back: the lists stay true until a domain comes or goes, and a xshimd that comes after us goes on with them.
 */
#ifndef XSHIMD_XEN_HOST_H
#define XSHIMD_XEN_HOST_H
#include <stdbool.h>
#include <stdint.h>

#include "journal.h"
#include "watch.h"
#include "xen_list.h"
#include "xen_store.h"
#include "xen_sync.h"

struct xshimd;
struct xshimd_conn;
union xshim_msg;

#define XSHIMD_HOST_OWN 4	/* lists of addresses of this host: 64 addresses */

struct xshimd_host_told {	/* what a guest has been told */
	uint32_t domid;
	uint64_t life, print;	/* fingerprint of all of it; 0: nothing yet */
};

struct xshimd_host_job {
	/* the job's own */
	struct xshimd_store *store;
	struct xshimd_journal journal;
	struct xshimd_xen_list now, before;
	struct xshimd_host_told told[XSHIMD_XEN_DOMAINS];
	uint32_t told_n;
	uint32_t watched[XSHIMD_XEN_DOMAINS];
	uint32_t watched_n;
	/* for the job */
	bool reopen, vif_only, drain;
	uint32_t drain_domid, drain_number;
	struct xshimd_xen_addrs own[XSHIMD_HOST_OWN];
	/* from the job */
	uint32_t guests, silent, left;	/* take part; have not answered the drain; connections left in those that have */
	bool drained_is_there;		/* the domain that drains still exists */
};

struct xshimd_host {
	struct xshimd *d;
	struct xshimd_sync sync;
	struct xshimd_host_job job;
	struct xshimd_watch *store_watch;
	bool told_first;
	uint32_t guests, silent, left;	/* as of the last job; silent and left of a drain */
	/* one drain at a time */
	enum { XSHIMD_HOST_IDLE, XSHIMD_HOST_ASKING, XSHIMD_HOST_HOLDING } drain;
	uint32_t drain_domid, drain_number;
	struct xshimd_conn *asker;
	uint32_t id;
	uint64_t deadline_ms;
};

int xshimd_host_open(struct xshimd *d);
void xshimd_host_close(struct xshimd_host *h);
uint64_t xshimd_host_sweep(struct xshimd_host *h, uint64_t now_ms);
void xshimd_host_drain(struct xshimd_host *h, struct xshimd_conn *c, const union xshim_msg *m);
void xshimd_host_asker_gone(struct xshimd_host *h, const struct xshimd_conn *c);

/* xen_host_job.c */
int xshimd_host_job_work(void *host);

#endif
