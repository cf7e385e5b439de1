/* SPDX-License-Identifier: MIT */
#include "quota.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <xshim/map.h>

#include "closer.h"
#include "options.h"

#define CLOSED_MAX 4u	/* that of an honest user, if he has one at all, is closed in no time */

/* What there is altogether; 0: bounded by memory and descriptors alone. */
static const uint32_t totals[XSHIMD_THINGS] = {
	[XSHIMD_CONNECTIONS] = XSHIM_MAP_MAIL,
	[XSHIMD_OFFERS] = XSHIM_MAP_OFFERS,
	/* twice what the map holds, as many clients of one server register the same endpoint */
	[XSHIMD_ENDPOINTS] = 2 * XSHIM_MAP_ENDPOINTS,
	[XSHIMD_ARENAS] = 4 * XSHIM_MAP_MAIL,
	[XSHIMD_CLOSED] = XSHIMD_CLOSINGS,
};

static uint32_t limit_of(const struct xshimd_options *o, enum xshimd_thing what)
{
	switch (what) {
	case XSHIMD_CONNECTIONS:
		return o->max_connections;
	case XSHIMD_OFFERS:
		return o->max_offers;
	case XSHIMD_ENDPOINTS:
		return o->max_endpoints;
	case XSHIMD_ARENAS:
		return o->max_arenas;
	case XSHIMD_CLOSED:
		return CLOSED_MAX;
	case XSHIMD_THINGS:
		break;
	}
	return 0;
}

struct xshimd_user *xshimd_quota_user(const struct xshimd_quota *q, uid_t uid)
{
	struct xshimd_user *u;

	HASH_FIND(hh, q->users, &uid, sizeof(uid), u);
	return u;
}

bool xshimd_quota_is_met(const struct xshimd_quota *q, const struct xshimd_options *o, uid_t uid, enum xshimd_thing what,
			 uint32_t *limit)
{
	const struct xshimd_user *u = xshimd_quota_user(q, uid);
	uint32_t has = u ? u->has[what] : 0;
	uint32_t left = totals[what] > q->total[what] ? totals[what] - q->total[what] : 0;

	*limit = limit_of(o, what);
	if (has >= *limit)
		return true;
	if (left && (uid == 0 || has < left))
		return false;
	*limit = has;
	return true;
}

int xshimd_quota_take(struct xshimd_quota *q, const struct xshimd_options *o, uid_t uid,
		      enum xshimd_thing what, uint32_t *limit)
{
	struct xshimd_user *u = xshimd_quota_user(q, uid);

	if (xshimd_quota_is_met(q, o, uid, what, limit))
		return -EDQUOT;
	if (!u) {
		u = calloc(1, sizeof(*u));
		if (!u)
			return -ENOMEM;
		u->uid = uid;
		HASH_ADD(hh, q->users, uid, sizeof(uid), u);
		if (!XSHIMD_ADDED(hh, u)) {
			free(u);
			return -ENOMEM;
		}
	}
	u->has[what]++;
	q->total[what]++;
	return 0;
}

void xshimd_quota_give(struct xshimd_quota *q, uid_t uid, enum xshimd_thing what)
{
	struct xshimd_user *u = xshimd_quota_user(q, uid);

	assert(u && u->has[what] > 0);
	u->has[what]--;
	q->total[what]--;
	for (int i = 0; i < XSHIMD_THINGS; i++)
		if (u->has[i])
			return;
	HASH_DEL(q->users, u);
	free(u);
}

const char *xshimd_thing_name(enum xshimd_thing what)
{
	static const char *const names[XSHIMD_THINGS] = {
		[XSHIMD_CONNECTIONS] = "control connections",
		[XSHIMD_OFFERS] = "waiting offers",
		[XSHIMD_ENDPOINTS] = "endpoints",
		[XSHIMD_ARENAS] = "arenas",
		[XSHIMD_CLOSED] = "descriptors that do not close",
	};

	return names[what];
}
