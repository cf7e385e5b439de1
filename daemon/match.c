/* SPDX-License-Identifier: MIT */
#include "match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "bounded.h"
#include "verify.h"
#include "xshimd.h"

enum { FD_TCP, FD_REGION, FD_BELL, FD_LIFE, FD_PROBE };

/* Tell `to` about `from`: its region, bell and life. */
static int introduce(struct xshimd_wait *to, const struct xshimd_wait *from)
{
	const int fds[] = { from->region, from->bell, from->life };
	union xshim_msg m;

	xshim_msg_init(&m, XSHIM_MSG_MATCHED, to->id);
	m.matched.order = from->order;
	m.matched.peer_pid = (uint32_t)from->conn->cred.pid;
	m.matched.nonce = from->nonce;
	return xshimd_conn_send(to->conn, &m, fds, 3);
}

static void hand_over(struct xshimd *d, struct xshimd_wait *offer, struct xshimd_wait *claim)
{
	int to_claim, to_offer;

	/* The claiming end first: it is the one that must be attached before anything moves. */
	to_claim = introduce(claim, offer);
	to_offer = to_claim == 0 ? introduce(offer, claim) : -EPIPE;
	if (to_claim == 0 && to_offer == 0) {
		d->stats.matched++;
		xshimd_wait_free(d, offer);
		xshimd_wait_free(d, claim);
		return;
	}
	/* A failed send has dropped that client; the other one is left alone. */
	xshimd_wait_free(d, to_claim < 0 ? claim : offer);
	xshimd_wait_decline(d, to_claim < 0 ? offer : claim, XSHIM_R_DAEMON_LOST);
}

static bool is_live(const struct xshimd_wait *w)
{
	return w->conn->state == XSHIMD_CONN_GREETED;
}

/* Each was there when the other one was (proto.h). */
static bool is_of_its_time(const struct xshimd_wait *offer, const struct xshimd_wait *claim)
{
	return offer->seen_ns > claim->since_ns && claim->seen_ns > offer->seen_ns;
}

/*
 * Another claim for the same offer, from another namespace, that is proven too (YES) or may yet be (PENDING).
 * Of two processes in one namespace the first claims; they hold the same connection.
 */
static enum xshimd_reach rival(struct xshimd *d, struct xshimd_wait *offer, const struct xshimd_wait *claim,
			       struct xshimd_wait **who)
{
	enum xshimd_reach worst = XSHIMD_REACH_NO, r;
	struct xshimd_wait *w;

	DL_FOREACH(claim->bucket->waits, w) {
		if (!w->is_claim || w == claim || !is_live(w) || !is_of_its_time(offer, w) || w->tcp.netns == claim->tcp.netns)
			continue;
		r = xshimd_probe_reach(d, offer, w);
		if (r == XSHIMD_REACH_YES) {
			*who = w;
			return r;
		}
		if (r == XSHIMD_REACH_PENDING)
			worst = r;
	}
	return worst;
}

/* Of a connection that had these addresses before this one, perhaps: its end may offer anew. */
static void drop_older(struct xshimd *d, const struct xshimd_wait *claim)
{
	struct xshimd_wait *w, *tmp;

	DL_FOREACH_SAFE(claim->bucket->waits, w, tmp)
		if (!w->is_claim && is_live(w) && w->seen_ns <= claim->since_ns)
			xshimd_wait_decline(d, w, XSHIM_R_PEER_SILENT);
	/* The bucket outlives this, as `claim` is in it. */
}

/* Decide on a claim, as far as can be done now. Returns true if it, and perhaps others, are gone. */
static bool consider(struct xshimd *d, struct xshimd_wait *claim)
{
	struct xshimd_wait *w, *proven = NULL, *other = NULL;
	unsigned int proven_n = 0, pending_n = 0, foreign_n = 0;

	drop_older(d, claim);
	DL_FOREACH(claim->bucket->waits, w) {
		if (w->is_claim || !is_live(w) || !is_of_its_time(w, claim))
			continue;
		if (w->tcp.netns == claim->tcp.netns) {
			if (w->conn != claim->conn) {
				hand_over(d, w, claim);
				return true;
			}
			xshimd_wait_decline(d, w, XSHIM_R_SAME_PROCESS);
			xshimd_wait_decline(d, claim, XSHIM_R_SAME_PROCESS);
			return true;
		}
		foreign_n++;
		switch (xshimd_probe_reach(d, w, claim)) {
		case XSHIMD_REACH_YES:
			proven_n++;
			proven = w;
			break;
		case XSHIMD_REACH_PENDING:
			pending_n++;
			break;
		case XSHIMD_REACH_NO:
			break;
		}
	}
	if (pending_n)
		return false;
	if (proven_n > 1) {
		xshimd_wait_decline(d, claim, XSHIM_R_AMBIGUOUS);
		return true;
	}
	if (!proven) {
		xshimd_wait_decline(d, claim, foreign_n ? XSHIM_R_NETNS : XSHIM_R_PEER_SILENT);
		return true;
	}
	switch (rival(d, proven, claim, &other)) {
	case XSHIMD_REACH_PENDING:
		return false;
	case XSHIMD_REACH_YES:
		xshimd_wait_decline(d, other, XSHIM_R_AMBIGUOUS);
		xshimd_wait_decline(d, claim, XSHIM_R_AMBIGUOUS);
		return true;
	case XSHIMD_REACH_NO:
		break;
	}
	if (proven->conn == claim->conn) {
		xshimd_wait_decline(d, proven, XSHIM_R_SAME_PROCESS);
		xshimd_wait_decline(d, claim, XSHIM_R_SAME_PROCESS);
	} else {
		hand_over(d, proven, claim);
	}
	return true;
}

void xshimd_match_all(struct xshimd *d)
{
	struct xshimd_wait *w;

	d->round++;
again:
	DL_FOREACH2(d->registry.claims, w, a_next) {
		if (w->round == d->round || !is_live(w))
			continue;
		w->round = d->round;
		if (consider(d, w))
			goto again;
	}
}

/* Two sockets of one namespace cannot both have this connection: the older offer is stale, or a copy of the same. */
static void replace_twin(struct xshimd *d, const struct xshimd_wait *offer)
{
	struct xshimd_wait *w, *tmp;

	DL_FOREACH_SAFE(offer->bucket->waits, w, tmp) {
		if (w == offer || w->is_claim || w->tcp.netns != offer->tcp.netns)
			continue;
		xshimd_wait_decline(d, w, w->tcp.cookie == offer->tcp.cookie ? XSHIM_R_SHARED : XSHIM_R_PEER_DIED);
		/* The bucket outlives this, as `offer` is in it. */
	}
}

uint32_t xshimd_match_quota(struct xshimd_conn *c)
{
	struct xshimd *d = c->d;
	uint32_t limit;

	if (!xshimd_has_room(d)) {
		xshimd_conn_note(c, XSHIM_LOG_WARN, "room", "descriptors=%u: nearly all are in use; declined (fd-limit)",
				 d->server.fd_limit);
		return XSHIM_R_FD_LIMIT;
	}
	if (xshimd_arenas_rings(d, c->cred.uid) >= d->opt.max_rings) {
		xshimd_conn_note(c, XSHIM_LOG_WARN, "rings", "rings=%u: as many as max_rings allows; declined (quota)",
				 d->opt.max_rings);
		return XSHIM_R_QUOTA;
	}
	switch (xshimd_quota_take(&d->quota, &d->opt, c->cred.uid, XSHIMD_OFFERS, &limit)) {
	case 0:
		return 0;
	case -EDQUOT:
		xshimd_conn_note(c, XSHIM_LOG_WARN, "offers", "waiting offers=%u: as many as one user may have; "
				 "declined (quota)", limit);
		return XSHIM_R_QUOTA;
	default:
		return XSHIM_R_MEMORY;
	}
}

uint64_t xshimd_match_since(const union xshim_msg *m, uint64_t seen_ns)
{
	/* what the message took to get here makes it younger */
	return seen_ns > 1000ull * m->channel.age_us ? seen_ns - 1000ull * m->channel.age_us : 0;
}

/* A checked OFFER or CLAIM becomes a wait; it takes region, bell, life and probe. 0 or a reason to decline. */
static uint32_t enter(struct xshimd_conn *c, const union xshim_msg *m, int *fds, unsigned int nfds,
		      const struct xshimd_tcp *tcp, uint64_t seen_ns)
{
	struct xshimd *d = c->d;
	struct xshimd_wait *w;
	uint32_t reason;
	int rc;

	w = xshimd_wait_find(c, m->h.id);
	if (w)
		xshimd_wait_free(d, w);
	reason = xshimd_match_quota(c);
	if (reason)
		return reason;
	w = calloc(1, sizeof(*w));
	if (!w) {
		rc = -ENOMEM;
		goto give;
	}
	w->conn = c;
	w->id = m->h.id;
	w->is_claim = m->h.type == XSHIM_MSG_CLAIM;
	w->tcp = *tcp;
	w->region = fds[FD_REGION];
	w->bell = fds[FD_BELL];
	w->life = fds[FD_LIFE];
	w->probe = nfds > FD_PROBE ? fds[FD_PROBE] : -1;
	w->order = m->channel.order;
	w->nonce = m->channel.nonce;
	w->seen_ns = seen_ns;
	w->since_ns = xshimd_match_since(m, seen_ns);
	w->until_ms = uv_now(&d->loop) +
		      1000ull * (w->is_claim ? d->opt.probe_timeout : d->opt.offer_timeout);
	rc = xshimd_wait_add(d, w);
	if (rc < 0)
		goto free_wait;
	fds[FD_REGION] = fds[FD_BELL] = fds[FD_LIFE] = -1;
	if (nfds > FD_PROBE)
		fds[FD_PROBE] = -1;
	if (!w->is_claim)
		replace_twin(d, w);
	d->rematch = true;
	return 0;
free_wait:
	free(w);
give:
	xshimd_quota_give(&d->quota, c->cred.uid, XSHIMD_OFFERS);
	return rc == -ENOSPC ? XSHIM_R_QUOTA : XSHIM_R_MEMORY;
}

void xshimd_match_channel(struct xshimd_conn *c, const union xshim_msg *m, int *fds, unsigned int nfds)
{
	struct xshimd *d = c->d;
	struct xshimd_verdict v;
	struct xshimd_tcp tcp;
	uint64_t seen_ns = uv_hrtime();
	enum xshimd_answer a;
	uint32_t reason;

	if (m->h.type == XSHIM_MSG_OFFER)
		d->stats.offers++;
	else
		d->stats.claims++;
	a = xshimd_verify_tcp(fds[FD_TCP], FD_TCP, c->cred.uid, &m->channel.cookie, &tcp, &v);
	/* At once: while it is open here the connection cannot end. */
	if (xshimd_verify_closes_at_once(fds[FD_TCP])) {
		xshimd_bounded_close(fds[FD_TCP]);
		fds[FD_TCP] = -1;
	}
	if (a == XSHIMD_OK)
		a = xshimd_verify_region(fds[FD_REGION], FD_REGION, m->channel.order, d->opt.max_ring_size, &v);
	if (a == XSHIMD_OK)
		a = xshimd_verify_bell(fds[FD_BELL], FD_BELL, &v);
	if (a == XSHIMD_OK)
		a = xshimd_verify_pair(fds[FD_LIFE], FD_LIFE, "a life", &v);
	if (a == XSHIMD_OK && nfds > FD_PROBE)
		a = xshimd_verify_kind(fds[FD_PROBE], FD_PROBE, &v);
	if (a != XSHIMD_OK) {
		xshimd_conn_verdict(c, m, &v);
		if (a == XSHIMD_NO) {
			/* What it offered before under this id was another state of the connection. */
			xshimd_match_withdraw(c, m->h.id);
			xshimd_conn_decline(c, m->h.id, v.reason);
		}
	} else {
		reason = enter(c, m, fds, nfds, &tcp, seen_ns);
		if (reason)
			xshimd_conn_decline(c, m->h.id, reason);
	}
	xshimd_closer_take(d, c->cred.uid, fds, nfds);
}

void xshimd_match_withdraw(struct xshimd_conn *c, uint32_t id)
{
	struct xshimd_wait *w = xshimd_wait_find(c, id);

	if (w)
		xshimd_wait_free(c->d, w);
}
