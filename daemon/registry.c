/* SPDX-License-Identifier: MIT */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#include "bounded.h"
#include "xen.h"
#include "xen_bells.h"
#include "xshimd.h"

static struct xshim_tuple acceptors_view(const struct xshimd_wait *w)
{
	return w->is_claim ? w->tcp.tuple : xshim_tuple_mirror(&w->tcp.tuple);
}

int xshimd_wait_add(struct xshimd *d, struct xshimd_wait *w)
{
	struct xshimd_registry *r = &d->registry;
	struct xshim_tuple tuple = acceptors_view(w);
	struct xshimd_bucket *b;
	int rc;

	HASH_FIND(hh, r->buckets, &tuple, sizeof(tuple), b);
	if (!b) {
		b = calloc(1, sizeof(*b));
		if (!b)
			return -ENOMEM;
		b->tuple = tuple;
		HASH_ADD(hh, r->buckets, tuple, sizeof(b->tuple), b);
		if (!XSHIMD_ADDED(hh, b)) {
			free(b);
			return -ENOMEM;
		}
	}
	w->bucket = b;
	DL_APPEND(b->waits, w);
	DL_APPEND2(w->conn->waits, w, c_prev, c_next);
	if (w->is_claim) {
		DL_APPEND2(r->claims, w, a_prev, a_next);
		r->claims_n++;
	} else {
		DL_APPEND2(r->offers, w, a_prev, a_next);
		r->offers_n++;
		/* Last, so that a claim that follows from it finds the offer here. */
		rc = xshimd_publish_offer(&d->publish, xshim_tuple_hash(&tuple));
		if (rc < 0)
			goto unlink;
	}
	xshimd_timer_by(d, w->until_ms);
	return 0;
unlink:
	DL_DELETE2(r->offers, w, a_prev, a_next);
	r->offers_n--;
	DL_DELETE2(w->conn->waits, w, c_prev, c_next);
	DL_DELETE(b->waits, w);
	if (!b->waits) {
		HASH_DEL(r->buckets, b);
		free(b);
	}
	return rc;
}

void xshimd_wait_free(struct xshimd *d, struct xshimd_wait *w)
{
	struct xshimd_registry *r = &d->registry;
	struct xshimd_bucket *b = w->bucket;

	if (w->is_xen) {
		xshimd_xen_wait_gone(d, w);
		DL_DELETE2(r->offers, w, a_prev, a_next);
		r->offers_n--;
		goto of_the_client;
	}
	xshimd_probe_forget(d, w);
	if (w->is_claim) {
		DL_DELETE2(r->claims, w, a_prev, a_next);
		r->claims_n--;
	} else {
		xshimd_withdraw_offer(&d->publish, xshim_tuple_hash(&b->tuple));
		DL_DELETE2(r->offers, w, a_prev, a_next);
		r->offers_n--;
	}
	DL_DELETE(b->waits, w);
	if (!b->waits) {
		HASH_DEL(r->buckets, b);
		free(b);
	}
	close(w->region);
	close(w->life);
of_the_client:
	DL_DELETE2(w->conn->waits, w, c_prev, c_next);
	if (w->is_xen)
		xshimd_bell_close(d, w->bell);
	else if (w->bell >= 0)
		close(w->bell);
	if (w->probe >= 0)
		xshimd_bounded_close(w->probe);
	xshimd_quota_give(&d->quota, w->conn->cred.uid, XSHIMD_OFFERS);
	/* Fewer candidates can settle what was ambiguous, or free a claim that waited for this one's probe. */
	d->rematch = true;
	free(w);
}

void xshimd_wait_decline(struct xshimd *d, struct xshimd_wait *w, uint32_t reason)
{
	struct xshimd_conn *c = w->conn;
	uint32_t id = w->id;

	xshimd_wait_free(d, w);
	xshimd_conn_decline(c, id, reason);
}

struct xshimd_wait *xshimd_wait_find(const struct xshimd_conn *c, uint32_t id)
{
	struct xshimd_wait *w;

	DL_FOREACH2(c->waits, w, c_next)
		if (w->id == id)
			return w;
	return NULL;
}

static uint64_t sweep(struct xshimd *d, struct xshimd_wait *list, uint32_t reason, uint64_t now_ms)
{
	struct xshimd_wait *w, *tmp;
	uint64_t next = UINT64_MAX;

	DL_FOREACH_SAFE2(list, w, tmp, a_next) {
		if (w->until_ms > now_ms) {
			if (w->until_ms < next)
				next = w->until_ms;
			continue;
		}
		xshimd_wait_decline(d, w, reason);
	}
	return next;
}

uint64_t xshimd_waits_sweep(struct xshimd *d, uint64_t now_ms)
{
	uint64_t offers = sweep(d, d->registry.offers, XSHIM_R_PEER_SILENT, now_ms);
	uint64_t claims = sweep(d, d->registry.claims, XSHIM_R_NETNS, now_ms);

	return offers < claims ? offers : claims;
}

int xshimd_endpoint_add(struct xshimd *d, struct xshimd_conn *c, const struct xshimd_tcp *tcp, uint32_t *limit)
{
	const struct xshim_endpoint *ep = &tcp->tuple.local;
	uint64_t hash = xshim_endpoint_hash(ep);
	struct xshimd_endpoint_reg *e;
	int rc;

	*limit = 0;
	HASH_FIND(hh, c->endpoints, &hash, sizeof(hash), e);
	if (e)
		return 0;
	rc = xshimd_quota_take(&d->quota, &d->opt, c->cred.uid, XSHIMD_ENDPOINTS, limit);
	if (rc < 0)
		return rc;
	e = calloc(1, sizeof(*e));
	rc = -ENOMEM;
	if (!e)
		goto give;
	e->hash = hash;
	e->ep = *ep;
	HASH_ADD(hh, c->endpoints, hash, sizeof(e->hash), e);
	if (!XSHIMD_ADDED(hh, e))
		goto free_reg;
	rc = xshimd_publish_endpoint(&d->publish, hash);
	if (rc < 0)
		goto forget;
	d->registry.endpoints_n++;
	e->exported = xshimd_xen_export(d, ep, tcp->netns);
	return 0;
forget:
	HASH_DEL(c->endpoints, e);
free_reg:
	free(e);
give:
	xshimd_quota_give(&d->quota, c->cred.uid, XSHIMD_ENDPOINTS);
	return rc;
}

void xshimd_registry_leave(struct xshimd *d, struct xshimd_conn *c)
{
	struct xshimd_endpoint_reg *e, *tmp;

	while (c->waits)
		xshimd_wait_free(d, c->waits);
	HASH_ITER(hh, c->endpoints, e, tmp) {
		if (e->exported)
			xshimd_xen_unexport(d, &e->ep);
		xshimd_withdraw_endpoint(&d->publish, e->hash);
		xshimd_quota_give(&d->quota, c->cred.uid, XSHIMD_ENDPOINTS);
		d->registry.endpoints_n--;
		HASH_DEL(c->endpoints, e);
		free(e);
	}
}
