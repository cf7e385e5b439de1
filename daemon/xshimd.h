/* SPDX-License-Identifier: MIT */
/*
 * xshimd.h - the whole daemon: one struct, one thread, one loop.
 *
 * Each part has its own header and owns its member here. What a client can make happen ends in
 * xshimd_settle(), which takes apart the clients that were dropped on the way and tries the claims again
 * that something has changed for.
 */
#ifndef XSHIMD_XSHIMD_H
#define XSHIMD_XSHIMD_H
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include <xshim/reason.h>

#include "arenas.h"
#include "closer.h"
#include "conn.h"
#include "journal.h"
#include "options.h"
#include "probe.h"
#include "publish.h"
#include "quota.h"
#include "registry.h"
#include "server.h"
#include "watch.h"
#include "xen_channels.h"

#ifdef PACKAGE_VERSION
#define XSHIMD_VERSION PACKAGE_VERSION
#else
#define XSHIMD_VERSION "unversioned"
#endif

struct xshimd_stats {			/* since the start; they outlive the clients */
	uint64_t offers, claims, matched, probes_ok, probes_failed, bad_messages, clients;
	uint64_t declined[XSHIM_R_COUNT];
};

struct xshimd_guest;
struct xshimd_host;

struct xshimd {
	uv_loop_t loop;
	uv_timer_t timer;		/* the earliest time at which something is due; stopped when nothing is */
	uint64_t timer_ms;
	uint64_t started_ms;
	struct xshimd_options opt;
	struct xshimd_journal journal;
	struct xshimd_quota quota;
	struct xshimd_publish publish;
	struct xshimd_server server;
	struct xshimd_registry registry;
	struct xshimd_probes probes;
	struct xshimd_arenas arenas;
	struct xshimd_closer closer;
	struct xshimd_stats stats;
	struct xshimd_channels channels;	/* over xen */
	struct xshimd_guest *guest;	/* role guest, else NULL */
	struct xshimd_host *host;	/* role host, else NULL */
	uint32_t role;			/* enum xshimd_role; not auto */
	struct xshimd_conn *conns, *dead;
	uint32_t conns_n;
	uint32_t round;			/* match.c */
	bool rematch;			/* something has changed for waiting claims */
	bool settling;
};

/* 0 or -errno. */
int xshimd_init(struct xshimd *d);
/* Every client, offer and descriptor; the map is marked as closing first. */
void xshimd_shut(struct xshimd *d);

void xshimd_settle(struct xshimd *d);
/* The timer is to fire at ms (of uv_now) at the latest. */
void xshimd_timer_by(struct xshimd *d, uint64_t ms);
/* Descriptors left for one more client's things, with a reserve for those that are on their way. */
bool xshimd_has_room(const struct xshimd *d);

#endif
