/* SPDX-License-Identifier: MIT */
#include "xen_drain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "xen_guest.h"
#include "xshimd.h"

#define LOOK_MS 100

static bool covers(const struct xshimd_drain *dr, uint32_t domid)
{
	return dr->active && (dr->domid == XSHIM_DOMID_ALL || dr->domid == domid);
}

bool xshimd_is_draining(const struct xshimd_guest *g, uint32_t domid)
{
	for (int i = 0; i < XSHIMD_DRAINS; i++)
		if (covers(&g->drains.d[i], domid))
			return true;
	return false;
}

struct rows {
	const struct xshimd_guest *g;
	uint32_t domid, n;
};

static void count_row(const struct xshimd_row *row, void *arg)
{
	struct rows *r = arg;
	const struct xshimd_guest_peer *p;

	if (row->transport == XSHIM_TRANSPORT_TCP || !row->named || row->netns != r->g->netns)
		return;
	p = xshimd_guest_at(r->g, &row->tuple.remote);
	r->n += p && (r->domid == XSHIM_DOMID_ALL || r->domid == p->is.domid);
}

/*
 * Connections on a ring. The table does not know those that a xshimd before this one introduced; the programs' own figures do, if
 * they have come back to us.
 */
static uint32_t count_left(struct xshimd_guest *g, uint32_t domid)
{
	uint32_t n = xshimd_channels_count(g->d, domid);
	struct rows r = { .g = g, .domid = domid };
	struct xshimd_arena *a, *tmp;

	if (n)
		return n;
	HASH_ITER(hh, g->d->arenas.live, a, tmp)
		xshimd_arena_each(a, count_row, &r);
	return r.n;
}

static void tell_shims(struct xshimd_guest *g, uint32_t domid)
{
	struct xshimd_guest_peer *p, *tmp;

	HASH_ITER(hh, g->peers, p, tmp) {
		if (domid != XSHIM_DOMID_ALL && p->is.domid != domid)
			continue;
		xshimd_guest_decline_offers(g, p, XSHIM_R_DRAIN);
		xshimd_channels_tell(g->d, XSHIM_MSG_LEAVE, p->is.domid, XSHIM_R_DRAIN);
	}
}

int xshimd_drain_begin(struct xshimd_guest *g, uint32_t domid, struct xshimd_conn *asker, uint32_t id,
		       const struct xshimd_xen_drain *by_host)
{
	struct xshimd *d = g->d;
	struct xshimd_drain *dr = NULL;
	uint64_t now = uv_now(&d->loop);

	/* A finished one makes room: what it keeps off is kept off by its timer only. */
	for (int i = 0; i < XSHIMD_DRAINS && !dr; i++)
		if (!g->drains.d[i].active)
			dr = &g->drains.d[i];
	for (int i = 0; i < XSHIMD_DRAINS && !dr; i++)
		if (g->drains.d[i].state == XSHIMD_DRAIN_HELD)
			dr = &g->drains.d[i];
	if (!dr)
		return -EBUSY;
	memset(dr, 0, sizeof(*dr));
	dr->active = true;
	dr->domid = domid;
	dr->asker = asker;
	dr->id = id;
	dr->by_host = by_host != NULL;
	dr->number = by_host ? by_host->number : 0;
	dr->state = XSHIMD_DRAIN_LEAVING;
	dr->deadline_ms = now + 1000ull * d->opt.xen_drain_timeout;
	xshim_log(&d->journal.log, XSHIM_LOG_INFO, "drain: %s asks; %u connections are to leave their rings",
		  by_host ? "the host" : "the command", count_left(g, domid));
	tell_shims(g, domid);
	xshimd_timer_by(d, now);
	return 0;
}

void xshimd_drain_end(struct xshimd_guest *g, uint32_t domid, bool by_host)
{
	bool any = false;

	for (int i = 0; i < XSHIMD_DRAINS; i++) {
		struct xshimd_drain *dr = &g->drains.d[i];

		if (!dr->active || (by_host && !dr->by_host) || (domid != XSHIM_DOMID_ALL && dr->domid != domid))
			continue;
		if (dr->asker)
			xshimd_conn_decline(dr->asker, dr->id, XSHIM_R_ADMIN);
		dr->active = false;
		any = true;
	}
	if (any)
		xshimd_sync_kick(&g->sync);	/* connect again */
}

void xshimd_drain_over(struct xshimd_guest *g, uint32_t domid)
{
	for (int i = 0; i < XSHIMD_DRAINS; i++) {
		struct xshimd_drain *dr = &g->drains.d[i];

		if (dr->active && dr->state == XSHIMD_DRAIN_HELD && (domid == XSHIM_DOMID_ALL || dr->domid == domid))
			dr->active = false;
	}
	if (domid == XSHIM_DOMID_ALL)
		g->drains.has_seen = false;
}

void xshimd_drain_host(struct xshimd_guest *g, const struct xshimd_xen_drain *asked)
{
	struct xshimd_drains *all = &g->drains;

	if (!asked->asked) {
		if (all->has_seen)
			xshimd_drain_end(g, XSHIM_DOMID_ALL, true);
		all->has_seen = false;
		return;
	}
	if (all->has_seen && all->seen == asked->number)
		return;
	if (xshimd_drain_begin(g, asked->domid, NULL, 0, asked) == 0) {
		all->has_seen = true;
		all->seen = asked->number;
	}
}

void xshimd_drain_asker_gone(struct xshimd_guest *g, const struct xshimd_conn *c)
{
	for (int i = 0; i < XSHIMD_DRAINS; i++)
		if (g->drains.d[i].asker == c)
			g->drains.d[i].asker = NULL;
}

/* The control connections are mappings, too. */
static void close_links(struct xshimd_guest *g, uint32_t domid)
{
	struct xshimd_guest_peer *p, *tmp;

	HASH_ITER(hh, g->peers, p, tmp)
		if (domid == XSHIM_DOMID_ALL || p->is.domid == domid)
			xshimd_peer_detach(&p->link, NULL);
	xshimd_sync_kick(&g->sync);
}

uint64_t xshimd_drains_check(struct xshimd_guest *g, uint64_t now_ms)
{
	uint64_t next = UINT64_MAX;

	for (int i = 0; i < XSHIMD_DRAINS; i++) {
		struct xshimd_drain *dr = &g->drains.d[i];

		if (!dr->active || dr->state == XSHIMD_DRAIN_CLOSING)
			continue;
		if (dr->state == XSHIMD_DRAIN_LEAVING) {
			dr->left = count_left(g, dr->domid);
			if (!dr->left || dr->deadline_ms <= now_ms) {
				dr->state = XSHIMD_DRAIN_CLOSING;
				close_links(g, dr->domid);
				continue;
			}
			/* Nobody tells us when those have left that are not in the table. */
			if (now_ms + LOOK_MS < next)
				next = now_ms + LOOK_MS;
		} else if (dr->deadline_ms <= now_ms) {
			dr->active = false;
			xshimd_sync_kick(&g->sync);
			continue;
		}
		if (dr->deadline_ms < next)
			next = dr->deadline_ms;
	}
	return next;
}

void xshimd_drain_closed(struct xshimd_guest *g, uint32_t i)
{
	struct xshimd_drain *dr = &g->drains.d[i];
	struct xshimd *d = g->d;
	union xshim_msg m;

	if (!dr->active || dr->state != XSHIMD_DRAIN_CLOSING)
		return;
	dr->state = XSHIMD_DRAIN_HELD;
	dr->deadline_ms = uv_now(&d->loop) + 1000ull * d->opt.xen_drain_hold;
	xshimd_timer_by(d, dr->deadline_ms);
	xshim_log(&d->journal.log, dr->left ? XSHIM_LOG_WARN : XSHIM_LOG_INFO,
		  "drain: %u connections are left on their rings%s", dr->left,
		  dr->left ? "; a save or a move now will reset them" : "");
	if (!dr->asker)
		return;
	xshim_msg_init(&m, XSHIM_MSG_DRAINED, dr->id);
	m.drain.domid = dr->domid;
	m.drain.left = dr->left;
	xshimd_conn_send(dr->asker, &m, NULL, 0);
	dr->asker = NULL;
}
