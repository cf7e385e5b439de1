/* SPDX-License-Identifier: MIT */
/*
 * match_xen.c - offers and claims over xen: this end is asked about here, the other end is another guest's xshimd's (match.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>
#include <xshim/backend.h>
#include <xshim/region.h>

#include "bounded.h"
#include "match.h"
#include "verify.h"
#include "xen.h"
#include "xen_channels.h"
#include "xen_guest.h"
#include "xen_keeper.h"
#include "xshimd.h"

enum { FD_TCP, FD_BELL };
#define ORDER_MAX 21	/* a header has room for the grants of 2 MiB */

static bool is_malformed(struct xshimd_conn *c, const union xshim_msg *m)
{
	const char *name = xshim_msg_name(m->h.type);
	bool is_offer = m->h.type == XSHIM_MSG_OFFER;

	if (m->channel.order >= XSHIM_RING_ORDER_MIN && m->channel.order <= ORDER_MAX && m->channel.gref &&
	    is_offer == (m->channel.port != 0))
		return false;
	xshimd_conn_note(c, XSHIM_LOG_WARN, "xen-channel", "%s: order=%u gref=%u port=%u: not those of a channel over xen; "
			 "connection closed", name, m->channel.order, m->channel.gref, m->channel.port);
	c->d->stats.bad_messages++;
	xshimd_conn_drop(c);
	return true;
}

/* Whose connection is it? 0, or a reason to decline. */
static uint32_t find_peer(struct xshimd *d, const union xshim_msg *m, const struct xshimd_tcp *tcp,
			  struct xshimd_guest_peer **out)
{
	struct xshimd_guest *g = d->guest;
	struct xshimd_guest_peer *p;

	if (!g)
		return XSHIM_R_NOT_CORESIDENT;
	if (tcp->netns != g->netns)
		return XSHIM_R_NETNS;
	p = xshimd_guest_at(g, &tcp->tuple.remote);
	if (!p || p->is.domid != m->channel.domid || !g->has_self ||
	    !xshimd_xen_addrs_have(&g->self.addrs, &tcp->tuple.local))
		return XSHIM_R_NOT_CORESIDENT;
	if (xshimd_is_draining(g, p->is.domid))
		return XSHIM_R_DRAIN;
	if (p->link.state != XSHIMD_PEER_UP)
		return XSHIM_R_PEER_SILENT;
	if (((uint32_t)1 << m->channel.order) > d->opt.max_ring_size)
		return XSHIM_R_QUOTA;
	*out = p;
	return 0;
}

static struct xshimd_peer_half half_of(const union xshim_msg *m)
{
	return (struct xshimd_peer_half){ .order = m->channel.order, .gref = m->channel.gref, .port = m->channel.port,
		.nonce = m->channel.nonce };
}

/* A second socket with these addresses in one namespace: the older offer is stale, or a copy of the same. */
static void replace_twin(struct xshimd_guest *g, const struct xshimd_tcp *tcp)
{
	struct xshimd_wait *w, *tmp;

	HASH_ITER(xh, g->offers, w, tmp) {
		if (!xshim_tuple_equal(&w->tcp.tuple, &tcp->tuple))
			continue;
		xshimd_wait_decline(g->d, w, w->tcp.cookie == tcp->cookie ? XSHIM_R_SHARED : XSHIM_R_PEER_DIED);
	}
}

/* It is not made before the other one has said what time it is, and the socket has been looked at after that (xen_peer.h). */
static uint32_t enter_offer(struct xshimd_conn *c, const union xshim_msg *m, const struct xshimd_tcp *tcp,
			    struct xshimd_guest_peer *p, int *bell)
{
	struct xshimd *d = c->d;
	struct xshimd_wait *w;
	uint32_t ask;

	replace_twin(d->guest, tcp);
	if (p->offers_out >= XSHIMD_PEER_OFFERS)
		return XSHIM_R_QUOTA;
	if (xshimd_peer_ask(&p->link, uv_now(&d->loop), &ask) < 0)
		return XSHIM_R_PEER_SILENT;
	xshimd_timer_by(d, p->link.deadline_ms);
	w = calloc(1, sizeof(*w));
	if (!w)
		return XSHIM_R_MEMORY;
	w->number = ++d->guest->offer_number;
	HASH_ADD(xh, d->guest->offers, number, sizeof(w->number), w);
	if (!XSHIMD_ADDED(xh, w)) {
		free(w);
		return XSHIM_R_MEMORY;
	}
	w->conn = c;
	w->id = m->h.id;
	w->tcp = *tcp;
	w->region = w->life = w->probe = -1;
	w->bell = *bell;
	*bell = -1;
	w->order = m->channel.order;
	w->nonce = m->channel.nonce;
	w->is_xen = true;
	w->ask = ask;
	w->domid = p->is.domid;
	w->gref = m->channel.gref;
	w->port = m->channel.port;
	w->until_ms = uv_now(&d->loop) + 1000ull * d->opt.offer_timeout;
	p->offers_out++;
	DL_APPEND2(c->waits, w, c_prev, c_next);
	DL_APPEND2(d->registry.offers, w, a_prev, a_next);
	d->registry.offers_n++;
	xshimd_timer_by(d, w->until_ms);
	return 0;
}

static void ask_look(struct xshimd_wait *w)
{
	union xshim_msg m;

	w->look_asked = true;
	xshim_msg_init(&m, XSHIM_MSG_LOOK_WANTED, w->id);
	(void)xshimd_conn_send(w->conn, &m, NULL, 0);
}

void xshimd_guest_heard(struct xshimd_peer *link, uint32_t ask)
{
	struct xshimd_guest_peer *p = link->owner;
	struct xshimd_wait *w, *tmp;

	HASH_ITER(xh, p->g->offers, w, tmp)
		if (w->domid == p->is.domid && w->ask == ask && !w->look_asked)
			ask_look(w);
}

void xshimd_guest_older(struct xshimd_peer *link, uint32_t number)
{
	struct xshimd_guest_peer *p = link->owner;
	struct xshimd_wait *w;

	HASH_FIND(xh, p->g->offers, &number, sizeof(number), w);
	if (!w || w->domid != p->is.domid || !w->is_made)
		return;
	w->is_made = false;
	if (w->was_older) {
		xshimd_wait_decline(p->g->d, w, XSHIM_R_PEER_SILENT);
		return;
	}
	w->was_older = true;
	ask_look(w);
}

uint32_t xshimd_guest_offers_made(const struct xshimd_guest *g)
{
	struct xshimd_wait *w, *tmp;
	uint32_t n = 0;

	HASH_ITER(xh, g->offers, w, tmp)
		n += w->is_made;
	return n;
}

/* The socket that was offered is still there; the offer is made. False: it cannot be. */
static bool make_offer(struct xshimd *d, struct xshimd_wait *w)
{
	struct xshimd_guest_peer *p = xshimd_guest_find(d->guest, w->domid);
	struct xshimd_peer_half half = { .order = w->order, .gref = w->gref, .port = w->port, .nonce = w->nonce };
	struct xshim_tuple mirror = xshim_tuple_mirror(&w->tcp.tuple);

	/* If this is the end of the peer, it goes with all that wait there. */
	w->is_made = true;
	return p && xshimd_peer_offer(&p->link, w->number, &mirror, &half) == 0;
}

void xshimd_xen_look(struct xshimd_conn *c, const union xshim_msg *m, int tcp_fd)
{
	struct xshimd_wait *w = xshimd_wait_find(c, m->h.id);
	struct xshimd_verdict v;
	struct xshimd_tcp tcp;
	enum xshimd_answer a;

	/* Late, as the offer has been settled: ordinary. */
	if (!w || !w->look_asked || w->is_made)
		return;
	a = xshimd_verify_tcp(tcp_fd, FD_TCP, c->cred.uid, &w->tcp.cookie, &tcp, &v);
	if (a != XSHIMD_OK) {
		xshimd_conn_verdict(c, m, &v);
		if (a == XSHIMD_NO)
			xshimd_wait_decline(c->d, w, v.reason);
		return;
	}
	if (!xshim_tuple_equal(&tcp.tuple, &w->tcp.tuple)) {
		xshimd_wait_decline(c->d, w, XSHIM_R_PEER_DIED);
		return;
	}
	if (!make_offer(c->d, w)) {
		w = xshimd_wait_find(c, m->h.id);
		if (w)
			xshimd_wait_decline(c->d, w, XSHIM_R_PEER_SILENT);
	}
}

/* Tell a shim about the other end; the channel goes into the table. The bell is taken over. 0 or -errno. */
static int introduce(struct xshimd_conn *c, uint32_t id, uint32_t domid, const struct xshimd_peer_half *half, uint32_t number,
		     bool ours, int bell)
{
	union xshim_msg m;
	int rc;

	rc = xshimd_channel_add(c->d, c, id, domid, number, ours, bell);
	if (rc < 0) {
		xshimd_conn_decline(c, id, XSHIM_R_MEMORY);
		return rc;
	}
	xshim_msg_init(&m, XSHIM_MSG_MATCHED, id);
	m.matched.backend = XSHIM_BACKEND_XEN;
	m.matched.order = half->order;
	m.matched.nonce = half->nonce;
	m.matched.domid = domid;
	m.matched.gref = half->gref;
	m.matched.port = half->port;
	rc = xshimd_conn_send(c, &m, NULL, 0);
	if (rc < 0)
		xshimd_channel_left(c->d, c, id);	/* which tells the other side */
	else
		c->d->stats.matched++;
	return rc;
}

static bool is_same(const struct xshimd_tcp *a, const struct xshimd_tcp *b)
{
	return a->cookie == b->cookie && xshim_tuple_equal(&a->tuple, &b->tuple);
}

/*
 * Since when that socket has had these addresses, as far as is known. What a CLAIM says of it takes its time to get here, and the
 * time in OLDER, which the offer comes back with, is that of the first CLAIM.
 */
static uint64_t known_since(const struct xshimd_guest *g, const struct xshimd_tcp *tcp, uint64_t since_ns)
{
	for (uint32_t i = 0; i < XSHIMD_GUEST_CLAIMS; i++)
		if (is_same(&g->claims[i].tcp, tcp) && g->claims[i].since_ns < since_ns)
			since_ns = g->claims[i].since_ns;
	return since_ns;
}

static void remember_claim(struct xshimd_guest *g, const struct xshimd_tcp *tcp, uint64_t since_ns)
{
	g->claims[g->claims_at++ % XSHIMD_GUEST_CLAIMS] = (struct xshimd_guest_claim){ *tcp, since_ns };
}

static uint32_t enter_claim(struct xshimd_conn *c, const union xshim_msg *m, const struct xshimd_tcp *tcp, uint64_t since_ns,
			    struct xshimd_guest_peer *p, int *bell)
{
	struct xshimd_peer_half half = half_of(m);
	struct xshimd_peer_offer offer;
	int fd = *bell;

	since_ns = known_since(c->d->guest, tcp, since_ns);
	switch (xshimd_peer_claim(&p->link, &tcp->tuple, since_ns, &half, &offer)) {
	case 0:
		break;
	case -EEXIST:
		return XSHIM_R_AMBIGUOUS;
	default:
		remember_claim(c->d->guest, tcp, since_ns);
		return XSHIM_R_PEER_SILENT;
	}
	*bell = -1;
	(void)introduce(c, m->h.id, p->is.domid, &offer.half, offer.number, false, fd);
	return 0;
}

void xshimd_xen_channel(struct xshimd_conn *c, const union xshim_msg *m, int *fds)
{
	struct xshimd *d = c->d;
	bool is_offer = m->h.type == XSHIM_MSG_OFFER;
	struct xshimd_guest_peer *p = NULL;
	uint64_t since_ns = xshimd_match_since(m, uv_hrtime());
	struct xshimd_verdict v;
	struct xshimd_tcp tcp;
	enum xshimd_answer a;
	uint32_t reason;

	if (is_offer)
		d->stats.offers++;
	else
		d->stats.claims++;
	a = xshimd_verify_tcp(fds[FD_TCP], FD_TCP, c->cred.uid, &m->channel.cookie, &tcp, &v);
	/* At once: while it is open here the connection cannot end. */
	if (xshimd_verify_closes_at_once(fds[FD_TCP])) {
		xshimd_bounded_close(fds[FD_TCP]);
		fds[FD_TCP] = -1;
	}
	/* What was offered or introduced under this id before was another state of the connection. */
	xshimd_match_withdraw(c, m->h.id);
	xshimd_channel_left(d, c, m->h.id);
	if (a == XSHIMD_OK)
		a = xshimd_verify_pair(fds[FD_BELL], FD_BELL, "a bell", &v);
	if (a != XSHIMD_OK) {
		xshimd_conn_verdict(c, m, &v);
		if (a == XSHIMD_NO)
			xshimd_conn_decline(c, m->h.id, v.reason);
		goto close_fds;
	}
	if (is_malformed(c, m))
		goto close_fds;
	reason = find_peer(d, m, &tcp, &p);
	if (!reason)
		reason = xshimd_match_quota(c);
	if (!reason) {
		reason = is_offer ? enter_offer(c, m, &tcp, p, &fds[FD_BELL]) :
				    enter_claim(c, m, &tcp, since_ns, p, &fds[FD_BELL]);
		/* A claim is settled at once; an offer holds its share while it waits. */
		if (reason || !is_offer)
			xshimd_quota_give(&d->quota, c->cred.uid, XSHIMD_OFFERS);
	}
	if (reason)
		xshimd_conn_decline(c, m->h.id, reason);
close_fds:
	xshimd_closer_take(d, c->cred.uid, fds, 2);
}

void xshimd_xen_wait_gone(struct xshimd *d, struct xshimd_wait *w)
{
	struct xshimd_guest_peer *p = xshimd_guest_find(d->guest, w->domid);

	HASH_DELETE(xh, d->guest->offers, w);
	if (!p)
		return;
	p->offers_out--;
	if (w->is_made && !w->settled)
		(void)xshimd_peer_withdraw(&p->link, w->number);
}

void xshimd_guest_answer(struct xshimd_peer *link, uint32_t number, const struct xshimd_peer_half *half, uint32_t reason)
{
	struct xshimd_guest_peer *p = link->owner;
	struct xshimd_guest *g = p->g;
	struct xshimd_wait *w;
	int bell;

	HASH_FIND(xh, g->offers, &number, sizeof(number), w);
	if (!w || w->domid != p->is.domid || !w->is_made) {
		/* Withdrawn while the claim was on its way. */
		if (half)
			(void)xshimd_peer_gone(link, number, true);
		return;
	}
	w->settled = true;
	if (!half) {
		xshimd_wait_decline(g->d, w, reason);
		return;
	}
	bell = w->bell;
	w->bell = -1;
	(void)introduce(w->conn, w->id, w->domid, half, number, true, bell);
	xshimd_wait_free(g->d, w);
}

void xshimd_guest_keep_offers(struct xshimd_guest *g)
{
	struct xshimd_wait *w, *tmp;

	HASH_ITER(xh, g->offers, w, tmp) {
		xshimd_keeper_hold(w->bell);
		w->bell = -1;
	}
}

void xshimd_guest_decline_offers(struct xshimd_guest *g, const struct xshimd_guest_peer *at, uint32_t reason)
{
	struct xshimd_wait *w, *tmp;

	HASH_ITER(xh, g->offers, w, tmp) {
		if (at && w->domid != at->is.domid)
			continue;
		xshimd_wait_decline(g->d, w, reason);
	}
}
