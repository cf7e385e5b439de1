/* SPDX-License-Identifier: MIT */
/*
 * publish.h - the writer's side of the co-residency map (xshim/map.h).
 *
 * The map's sets hold each fingerprint once; several clients may stand behind one (the processes of one
 * server, two offers with equal fingerprints), so they are counted here and leave the map with the last.
 */
#ifndef XSHIMD_PUBLISH_H
#define XSHIMD_PUBLISH_H
#include <stdint.h>
#include <xshim/map.h>

#include "table.h"

struct xshimd_print {
	uint64_t hash;
	uint32_t refs;
	UT_hash_handle hh;
};

struct xshimd_publish {
	struct xshim_map *map;
	int fd;				/* given to clients in WELCOME */
	struct xshimd_print *endpoints, *offers;
	uint32_t mail_free[XSHIM_MAP_MAIL];
	uint32_t mail_frees;
};

int xshimd_publish_open(struct xshimd_publish *p);
void xshimd_publish_close(struct xshimd_publish *p);	/* sets `closing` first */

/* 0, -ENOMEM or -ENOSPC (the map has no room near this fingerprint). */
int xshimd_publish_endpoint(struct xshimd_publish *p, uint64_t hash);
void xshimd_withdraw_endpoint(struct xshimd_publish *p, uint64_t hash);
int xshimd_publish_offer(struct xshimd_publish *p, uint64_t hash);
void xshimd_withdraw_offer(struct xshimd_publish *p, uint64_t hash);

/* A mail slot, or -ENOSPC. */
int xshimd_mail_take(struct xshimd_publish *p);
void xshimd_mail_give(struct xshimd_publish *p, uint32_t slot);
void xshimd_mail_ring(struct xshimd_publish *p, uint32_t slot);

#endif
