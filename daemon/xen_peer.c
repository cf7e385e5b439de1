/* SPDX-License-Identifier: MIT */
#include "xen_peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include <xshim/reason.h>
#include <xshim/region.h>

#define BURST 64			/* messages taken in one go */
#define RING_ORDER_MAX 21		/* XSHIM_REGION_GREFS pages */

void xshimd_peer_init(struct xshimd_peer *p, const struct xshimd_peer_ops *ops, void *owner, uint32_t offer_timeout_s)
{
	memset(p, 0, sizeof(*p));
	p->ops = ops;
	p->owner = owner;
	p->offer_timeout_s = offer_timeout_s;
	p->deadline_ms = p->ping_due_ms = UINT64_MAX;
}

/* ---- sending ---- */

/* 0 or -errno; the caller ends the peer for the latter. */
static int flush(struct xshimd_peer *p)
{
	int rc = 1;

	while (p->queue_n) {
		rc = p->carrier->send(p->carried, &p->queue[p->queue_at]);
		if (rc <= 0)
			break;
		p->queue_at = (p->queue_at + 1) % XSHIMD_PEER_QUEUE;
		p->queue_n--;
	}
	return rc < 0 ? rc : 0;
}

static void prepare(struct xshimd_peer_msg *m, enum xshimd_peer_type type, uint32_t number)
{
	memset(m, 0, sizeof(*m));
	m->magic = XSHIMD_PEER_MAGIC;
	m->version = XSHIMD_PEER_VERSION;
	m->type = (uint16_t)type;
	m->number = number;
}

static int put(struct xshimd_peer *p, const struct xshimd_peer_msg *m)
{
	if (p->state == XSHIMD_PEER_CLOSED)
		return -ENOTCONN;
	if (p->queue_n == XSHIMD_PEER_QUEUE) {
		xshimd_peer_detach(p, "it does not read: 2048 messages wait");
		return -ENOBUFS;
	}
	p->queue[(p->queue_at + p->queue_n) % XSHIMD_PEER_QUEUE] = *m;
	p->queue_n++;
	/* An error here is seen at the next event or sweep: nobody who sends has to expect the end of the peer. */
	(void)flush(p);
	return 0;
}

static int put_up(struct xshimd_peer *p, const struct xshimd_peer_msg *m)
{
	return p->state == XSHIMD_PEER_UP ? put(p, m) : -ENOTCONN;
}

int xshimd_peer_endpoint(struct xshimd_peer *p, const struct xshim_endpoint *ep, bool add)
{
	struct xshimd_peer_msg m;

	prepare(&m, add ? XSHIMD_PEER_ENDPOINT_ADD : XSHIMD_PEER_ENDPOINT_DEL, 0);
	m.u.endpoint = *ep;
	return put_up(p, &m);
}

int xshimd_peer_offer(struct xshimd_peer *p, uint32_t number, const struct xshim_tuple *tuple,
		      const struct xshimd_peer_half *half)
{
	struct xshimd_peer_msg m;

	prepare(&m, XSHIMD_PEER_OFFER, number);
	m.u.channel.tuple = *tuple;
	m.u.channel.half = *half;
	m.u.channel.heard_ns = p->heard_ns;
	return put_up(p, &m);
}

static int put_number(struct xshimd_peer *p, enum xshimd_peer_type type, uint32_t number)
{
	struct xshimd_peer_msg m;

	prepare(&m, type, number);
	return put_up(p, &m);
}

int xshimd_peer_withdraw(struct xshimd_peer *p, uint32_t number)
{
	return put_number(p, XSHIMD_PEER_WITHDRAW, number);
}

int xshimd_peer_gone(struct xshimd_peer *p, uint32_t number, bool ours)
{
	struct xshimd_peer_msg m;

	prepare(&m, XSHIMD_PEER_GONE, number);
	m.u.mine = ours;
	return put_up(p, &m);
}

static void decline(struct xshimd_peer *p, uint32_t number, uint32_t reason)
{
	struct xshimd_peer_msg m;

	prepare(&m, XSHIMD_PEER_DECLINED, number);
	m.u.reason = reason;
	(void)put_up(p, &m);
}

static void put_time(struct xshimd_peer *p, enum xshimd_peer_type type, uint32_t number)
{
	struct xshimd_peer_msg m;

	prepare(&m, type, number);
	m.u.time_ns = p->ops->clock_ns();
	(void)put_up(p, &m);
}

static int put_ping(struct xshimd_peer *p, uint64_t now_ms)
{
	p->ask_again = false;
	p->pinged_ms = now_ms;
	p->deadline_ms = now_ms + XSHIMD_PEER_PATIENCE_MS;
	return put_number(p, XSHIMD_PEER_PING, ++p->ping);
}

int xshimd_peer_ask(struct xshimd_peer *p, uint64_t now_ms, uint32_t *ask)
{
	if (p->state != XSHIMD_PEER_UP)
		return -ENOTCONN;
	/* PONG to one that is under way may have been sent before now. */
	p->ask_again = p->deadline_ms != UINT64_MAX;
	*ask = p->ping + 1;
	return p->ask_again ? 0 : put_ping(p, now_ms);
}

/* Is the peer alive? At most once a second; PONG is due in XSHIMD_PEER_PATIENCE_MS. */
static void ping(struct xshimd_peer *p, uint64_t now_ms)
{
	p->ping_due_ms = UINT64_MAX;
	if (p->state != XSHIMD_PEER_UP || p->deadline_ms != UINT64_MAX)
		return;
	if (now_ms < p->pinged_ms + 1000) {
		p->ping_due_ms = p->pinged_ms + 1000;
		return;
	}
	(void)put_ping(p, now_ms);
}

/* ---- what came from the peer ---- */

static void drop_offer(struct xshimd_peer *p, struct xshimd_peer_offer *o)
{
	DL_DELETE(p->offers, o);
	p->offers_n--;
	p->ops->offer(p, o, false);
	free(o);
}

static void drop_endpoint(struct xshimd_peer *p, struct xshimd_peer_endpoint *e)
{
	HASH_DEL(p->endpoints, e);
	if (e->published)
		p->ops->endpoint(p, &e->ep, false);
	free(e);
}

static struct xshimd_peer_offer *find_offer(const struct xshimd_peer *p, uint32_t number)
{
	struct xshimd_peer_offer *o;

	DL_FOREACH(p->offers, o)
		if (o->number == number)
			return o;
	return NULL;
}

/* The host's list may be behind what a peer says, or before it: what is not allowed now is kept, unpublished. */
static void publish(struct xshimd_peer *p, struct xshimd_peer_endpoint *e)
{
	bool allowed = p->ops->is_theirs(p, &e->ep);

	if (allowed == e->published)
		return;
	if (!allowed)
		p->ops->endpoint(p, &e->ep, false);
	e->published = allowed && p->ops->endpoint(p, &e->ep, true) == 0;
}

static const char *take_endpoint(struct xshimd_peer *p, const struct xshim_endpoint *ep, bool add)
{
	struct xshimd_peer_endpoint *e;

	if (ep->pad[0] || ep->pad[1] || ep->pad[2] || !ep->port)
		return "an endpoint that is none";
	HASH_FIND(hh, p->endpoints, ep, sizeof(*ep), e);
	if (!add) {
		if (e)
			drop_endpoint(p, e);
		return NULL;
	}
	if (e)
		return NULL;
	if (HASH_COUNT(p->endpoints) >= XSHIMD_PEER_ENDPOINTS)
		return "more than 1024 endpoints";
	e = calloc(1, sizeof(*e));
	if (!e)
		return "no memory";
	e->ep = *ep;
	HASH_ADD(hh, p->endpoints, ep, sizeof(e->ep), e);
	if (!XSHIMD_ADDED(hh, e)) {
		free(e);
		return "no memory";
	}
	publish(p, e);
	return NULL;
}

static bool is_sound(const struct xshimd_peer_half *h)
{
	return h->order >= XSHIM_RING_ORDER_MIN && h->order <= RING_ORDER_MAX && h->gref && !h->reserved;
}

static const char *take_offer(struct xshimd_peer *p, const struct xshimd_peer_msg *m, uint64_t now_ms)
{
	const struct xshim_tuple *t = &m->u.channel.tuple;
	struct xshimd_peer_offer *o;

	if (!is_sound(&m->u.channel.half) || !m->u.channel.half.port)
		return "an offer without order, grant or port";
	if (t->local.pad[0] || t->local.pad[1] || t->local.pad[2] || t->remote.pad[0] || t->remote.pad[1] || t->remote.pad[2])
		return "an offer without addresses";
	if (m->u.channel.heard_ns > p->ops->clock_ns())
		return "an offer with a time that has not come";
	if (find_offer(p, m->number))
		return "one offer number twice";
	if (p->offers_n >= XSHIMD_PEER_OFFERS)
		return "more than 256 offers";
	if (!p->ops->is_theirs(p, &t->remote) || !p->ops->is_ours(p, &t->local)) {
		/* Ordinary while addresses come and go. */
		decline(p, m->number, XSHIM_R_NOT_CORESIDENT);
		return NULL;
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		return "no memory";
	o->number = m->number;
	o->tuple = *t;
	o->half = m->u.channel.half;
	o->heard_ns = m->u.channel.heard_ns;
	o->until_ms = now_ms + 1000ull * p->offer_timeout_s;
	DL_APPEND(p->offers, o);
	p->offers_n++;
	if (p->ops->offer(p, o, true) < 0) {
		DL_DELETE(p->offers, o);
		p->offers_n--;
		free(o);
		decline(p, m->number, XSHIM_R_QUOTA);
	}
	return NULL;
}

static const char *take_hello(struct xshimd_peer *p, const struct xshimd_peer_msg *m)
{
	if (p->state == XSHIMD_PEER_UP)
		return "HELLO twice";
	if (m->u.instance != p->peer_instance)
		return "its instance is not the one that the host names";
	p->state = XSHIMD_PEER_UP;
	p->deadline_ms = UINT64_MAX;
	p->ops->up(p);
	return NULL;
}

static void take_pong(struct xshimd_peer *p, const struct xshimd_peer_msg *m, uint64_t now_ms)
{
	if (m->number != p->ping || p->deadline_ms == UINT64_MAX)
		return;
	p->deadline_ms = UINT64_MAX;
	p->heard_ns = m->u.time_ns;
	p->ops->heard(p, m->number);
	if (p->ask_again)
		(void)put_ping(p, now_ms);
}

/* NULL, or what is wrong with it. */
static const char *take(struct xshimd_peer *p, const struct xshimd_peer_msg *m, uint64_t now_ms)
{
	struct xshimd_peer_offer *o;

	if (m->magic != XSHIMD_PEER_MAGIC || m->reserved)
		return "a message that is none";
	if (m->version != XSHIMD_PEER_VERSION)
		return "another version of the protocol between guests";
	if (m->type == XSHIMD_PEER_HELLO)
		return take_hello(p, m);
	if (p->state != XSHIMD_PEER_UP)
		return "no HELLO first";
	switch (m->type) {
	case XSHIMD_PEER_ENDPOINT_ADD:
	case XSHIMD_PEER_ENDPOINT_DEL:
		return take_endpoint(p, &m->u.endpoint, m->type == XSHIMD_PEER_ENDPOINT_ADD);
	case XSHIMD_PEER_OFFER:
		return take_offer(p, m, now_ms);
	case XSHIMD_PEER_WITHDRAW:
		o = find_offer(p, m->number);
		if (o)
			drop_offer(p, o);
		return NULL;
	case XSHIMD_PEER_CLAIMED:
		if (!is_sound(&m->u.channel.half))
			return "a claim without order or grant";
		p->ops->answer(p, m->number, &m->u.channel.half, 0);
		return NULL;
	case XSHIMD_PEER_DECLINED:
		p->ops->answer(p, m->number, NULL, m->u.reason < XSHIM_R_COUNT ? m->u.reason : XSHIM_R_PEER_SILENT);
		return NULL;
	case XSHIMD_PEER_GONE:
		p->ops->gone(p, m->number, !m->u.mine);
		return NULL;
	case XSHIMD_PEER_PING:
		put_time(p, XSHIMD_PEER_PONG, m->number);
		return NULL;
	case XSHIMD_PEER_PONG:
		take_pong(p, m, now_ms);
		return NULL;
	case XSHIMD_PEER_OLDER:
		p->heard_ns = m->u.time_ns;
		p->ops->older(p, m->number);
		return NULL;
	default:
		return "a message of unknown type";
	}
}

/* ---- life ---- */

int xshimd_peer_attach(struct xshimd_peer *p, const struct xshimd_carrier *carrier, void *carried, uint64_t instance,
		       uint64_t peer_instance, uint64_t now_ms)
{
	struct xshimd_peer_msg m;

	if (p->state != XSHIMD_PEER_CLOSED)
		return -EISCONN;
	p->queue = malloc(XSHIMD_PEER_QUEUE * sizeof(*p->queue));
	if (!p->queue)
		return -ENOMEM;
	p->queue_at = p->queue_n = 0;
	p->carrier = carrier;
	p->carried = carried;
	p->instance = instance;
	p->peer_instance = peer_instance;
	p->second_ms = now_ms;
	p->empty_events = 0;
	p->pinged_ms = 0;
	p->ping_due_ms = UINT64_MAX;
	p->ask_again = false;
	p->heard_ns = 0;
	p->more = false;
	p->state = XSHIMD_PEER_GREETING;
	p->deadline_ms = now_ms + XSHIMD_PEER_PATIENCE_MS;
	prepare(&m, XSHIMD_PEER_HELLO, 0);
	m.u.instance = instance;
	return put(p, &m);
}

void xshimd_peer_detach(struct xshimd_peer *p, const char *why)
{
	struct xshimd_peer_endpoint *e, *tmp;

	if (p->state == XSHIMD_PEER_CLOSED)
		return;
	p->state = XSHIMD_PEER_CLOSED;
	p->deadline_ms = UINT64_MAX;
	while (p->offers)
		drop_offer(p, p->offers);
	HASH_ITER(hh, p->endpoints, e, tmp)
		drop_endpoint(p, e);
	free(p->queue);
	p->queue = NULL;
	p->queue_n = 0;
	p->ops->down(p, why);
}

bool xshimd_peer_event(struct xshimd_peer *p, uint64_t now_ms)
{
	const char *why = NULL;
	struct xshimd_peer_msg m;
	uint32_t waiting = p->queue_n;
	int rc = -ENOTCONN, n;

	for (n = 0; n < BURST && p->state != XSHIMD_PEER_CLOSED; n++) {
		rc = flush(p);
		if (rc == 0)
			rc = p->carrier->recv(p->carried, &m);
		if (rc <= 0)
			break;
		why = take(p, &m, now_ms);
		if (why)
			break;
	}
	if (p->state == XSHIMD_PEER_CLOSED)
		return false;
	if (rc == -EPROTO)
		why = "positions that cannot be";
	if (why || rc < 0) {
		xshimd_peer_detach(p, why);
		return false;
	}
	p->more = n == BURST;
	if (now_ms - p->second_ms >= 1000) {
		p->second_ms = now_ms;
		p->empty_events = 0;
	}
	if (!n && waiting == p->queue_n) {
		if (++p->empty_events > XSHIMD_PEER_STORM) {
			xshimd_peer_detach(p, "an event storm");
			return false;
		}
		/* For nothing: perhaps its process has ended. */
		ping(p, now_ms);
	}
	return p->state != XSHIMD_PEER_CLOSED;
}

uint64_t xshimd_peer_sweep(struct xshimd_peer *p, uint64_t now_ms)
{
	struct xshimd_peer_offer *o, *tmp;
	uint64_t next = UINT64_MAX;

	if (p->state == XSHIMD_PEER_CLOSED)
		return next;
	if (p->deadline_ms <= now_ms) {
		xshimd_peer_detach(p, p->state == XSHIMD_PEER_UP ? "it does not answer" : NULL);
		return next;
	}
	if (p->more && !xshimd_peer_event(p, now_ms))
		return next;
	if (p->ping_due_ms <= now_ms)
		ping(p, now_ms);
	if (p->state == XSHIMD_PEER_CLOSED)
		return next;
	next = p->more ? now_ms : p->deadline_ms < p->ping_due_ms ? p->deadline_ms : p->ping_due_ms;
	DL_FOREACH_SAFE(p->offers, o, tmp) {
		if (o->until_ms > now_ms) {
			next = o->until_ms < next ? o->until_ms : next;
			continue;
		}
		decline(p, o->number, XSHIM_R_PEER_SILENT);
		if (p->state == XSHIMD_PEER_CLOSED)
			return UINT64_MAX;
		drop_offer(p, o);
	}
	return next;
}

void xshimd_peer_recheck(struct xshimd_peer *p)
{
	struct xshimd_peer_endpoint *e, *etmp;
	struct xshimd_peer_offer *o, *otmp;

	HASH_ITER(hh, p->endpoints, e, etmp)
		publish(p, e);
	DL_FOREACH_SAFE(p->offers, o, otmp) {
		if (p->ops->is_theirs(p, &o->tuple.remote) && p->ops->is_ours(p, &o->tuple.local))
			continue;
		decline(p, o->number, XSHIM_R_NOT_CORESIDENT);
		if (p->state == XSHIMD_PEER_CLOSED)
			return;
		drop_offer(p, o);
	}
}

/* Every offer for these addresses that was made at a time up to this one; reason 0: OLDER. False: that was the end of the peer. */
static bool settle_until(struct xshimd_peer *p, const struct xshim_tuple *tuple, uint64_t heard_ns, uint32_t reason)
{
	struct xshimd_peer_offer *o, *tmp;

	DL_FOREACH_SAFE(p->offers, o, tmp) {
		if (o->heard_ns > heard_ns || !xshim_tuple_equal(&o->tuple, tuple))
			continue;
		if (reason)
			decline(p, o->number, reason);
		else
			put_time(p, XSHIMD_PEER_OLDER, o->number);
		if (p->state == XSHIMD_PEER_CLOSED)
			return false;
		drop_offer(p, o);
	}
	return true;
}

int xshimd_peer_claim(struct xshimd_peer *p, const struct xshim_tuple *tuple, uint64_t since_ns,
		      const struct xshimd_peer_half *half, struct xshimd_peer_offer *out)
{
	struct xshimd_peer_offer *o, *found = NULL;
	struct xshimd_peer_msg m;
	unsigned int n = 0;

	if (!settle_until(p, tuple, since_ns, 0))
		return -ENOENT;
	DL_FOREACH(p->offers, o) {
		if (xshim_tuple_equal(&o->tuple, tuple)) {
			found = o;
			n++;
		}
	}
	if (!n)
		return -ENOENT;
	if (n > 1) {
		(void)settle_until(p, tuple, UINT64_MAX, XSHIM_R_AMBIGUOUS);
		return -EEXIST;
	}
	*out = *found;
	prepare(&m, XSHIMD_PEER_CLAIMED, found->number);
	m.u.channel.half = *half;
	if (put_up(p, &m) < 0)
		return -ENOENT;
	drop_offer(p, found);
	return 0;
}
