/* SPDX-License-Identifier: MIT */
/*
 * arenas.h - the clients' arenas (xshim/arena.h), mapped read-only, and the figures in them.
 *
 * An arena lives here as long as a control connection names it: the processes of a fork family share
 * one, so it is counted. When the last has gone its final figures are added to the totals of those that
 * are gone; should it come back (a client that was dropped and connects again), they are taken off again,
 * so nothing counts twice. All that is read in an arena is untrusted: loaded once, bounded, cut.
 */
#ifndef XSHIMD_ARENAS_H
#define XSHIMD_ARENAS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <xshim/arena.h>

#include "table.h"

#define XSHIMD_ARENAS_GONE 4096		/* final figures kept for arenas that might come back */

enum xshimd_counter {
	XSHIMD_RING_TX, XSHIMD_RING_RX, XSHIMD_TCP_TX, XSHIMD_TCP_RX,
	XSHIMD_ATTACHES, XSHIMD_LEAVES, XSHIMD_SWITCHES, XSHIMD_BELLS_RUNG, XSHIMD_BELLS_GOT, XSHIMD_SLEEPS,
	XSHIMD_COUNTERS
};

struct xshimd_figures {
	uint64_t open, on_ring, ended, ended_on_ring;
	uint64_t n[XSHIMD_COUNTERS];
	uint64_t open_by[XSHIM_REASON_SLOTS], ended_by[XSHIM_REASON_SLOTS];
};

struct xshimd_row {			/* a slot in use, copied out */
	struct xshim_tuple tuple;
	uint64_t cookie, netns;
	uint32_t role, transport, reason, pid;
	bool named;
	char comm[17];
	uint64_t n[XSHIMD_COUNTERS];
};

struct xshimd;
struct xshimd_conn;

struct xshimd_arena_key {
	uint64_t dev, ino;
};

struct xshimd_arena {
	struct xshimd_arena_key key;
	struct xshim_arena map;		/* hdr NULL: gone */
	int fd;				/* tells which pages exist, see arenas.c */
	uid_t payer;			/* whose quota it counts in */
	uid_t uid;			/* of the client that named it last: the connections' owner */
	uint32_t refs;
	uint32_t pid;			/* with start_ns: is a later one with this key the same? */
	uint64_t start_ns;
	struct xshimd_figures last;	/* gone: what it had */
	UT_hash_handle hh;
};

struct xshimd_arenas {
	struct xshimd_arena *live, *gone;
	uint32_t lives, gones;
	struct xshimd_figures past;	/* of all that are gone */
};

/* The descriptor is taken over on success. -EPROTO: not an arena; -EDQUOT, -ENOMEM. *limit as in quota.h */
int xshimd_arena_join(struct xshimd *d, struct xshimd_conn *c, int fd, uint32_t *limit);
void xshimd_arena_leave(struct xshimd *d, struct xshimd_arena *a);
void xshimd_arenas_close(struct xshimd *d);

/* Each slot in use. */
void xshimd_arena_each(const struct xshimd_arena *a, void (*fn)(const struct xshimd_row *row, void *arg),
		       void *arg);
/* Add what an arena has. */
void xshimd_arena_count(const struct xshimd_arena *a, struct xshimd_figures *f);
/* Connections of a user that have a channel, at most a second old. */
uint32_t xshimd_arenas_rings(struct xshimd *d, uid_t uid);

#endif
