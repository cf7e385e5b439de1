/* SPDX-License-Identifier: MIT */
/*
 * quota.h - what each user has of the things that run out.
 *
 * Two bounds: a fixed limit per user (root too), and for users other than root a fair share where the
 * total is fixed: nobody may come to hold more than is left for everybody else. So one user gets at most half,
 * a second one a quarter, and there is always something for the next.
 */
#ifndef XSHIMD_QUOTA_H
#define XSHIMD_QUOTA_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "table.h"

struct xshimd_options;

enum xshimd_thing {
	XSHIMD_CONNECTIONS,
	XSHIMD_OFFERS,
	XSHIMD_ENDPOINTS,
	XSHIMD_ARENAS,
	XSHIMD_CLOSED,		/* messages whose descriptors are being closed (closer.h) */
	XSHIMD_THINGS
};

struct xshimd_user {
	uid_t uid;
	uint32_t has[XSHIMD_THINGS];
	uint32_t rings;			/* as the arenas showed it at rings_ms; see arenas.c */
	uint64_t rings_ms;
	UT_hash_handle hh;
};

struct xshimd_quota {
	struct xshimd_user *users;
	uint32_t total[XSHIMD_THINGS];
};

/* He can have no more; *limit is the bound that is met. */
bool xshimd_quota_is_met(const struct xshimd_quota *q, const struct xshimd_options *o, uid_t uid, enum xshimd_thing what,
			 uint32_t *limit);
/* 0, -EDQUOT or -ENOMEM. *limit then is the bound that was met, for the message. */
int xshimd_quota_take(struct xshimd_quota *q, const struct xshimd_options *o, uid_t uid,
		      enum xshimd_thing what, uint32_t *limit);
void xshimd_quota_give(struct xshimd_quota *q, uid_t uid, enum xshimd_thing what);
/* NULL for a user who has nothing. */
struct xshimd_user *xshimd_quota_user(const struct xshimd_quota *q, uid_t uid);
const char *xshimd_thing_name(enum xshimd_thing what);

#endif
