/* SPDX-License-Identifier: MIT */
/*
 * peer_sides.h - two ends of the connection between guests' daemons, A and B, and a carrier in memory between them.
 *
 * Included once per test program, like unit.h.
 */
#ifndef XSHIM_TESTS_PEER_SIDES_H
#define XSHIM_TESTS_PEER_SIDES_H
#include "unit.h"

#include <xshim/reason.h>

#include "../daemon/xen_peer.h"

#define HEARD 5000000000u	/* what the clock of B shows when A has asked */
#define ROOM 16		/* messages in flight, as in a small ring */

struct pipe_end {		/* one direction */
	struct xshimd_peer_msg m[ROOM];
	uint32_t at, n;
	bool closed;
};

struct side {
	struct xshimd_peer p;
	struct pipe_end *in, *out;
	int ups, downs, added, removed, offers, withdrawn, answers, declined, gones, heard, older;
	char why[128];
	uint32_t number, reason, ask;
	bool ours;
	struct xshimd_peer_half half;
	uint8_t own, other;	/* last octets of the two guests' addresses */
	bool deny;		/* the host's list does not give the peer its address */
	int fail_publish;
};

static struct pipe_end ab, ba;
static struct side a, b;
static uint64_t now;
static uint64_t b_ns;	/* the clock of B, to whom offers are made */

static int carrier_send(void *carrier, const struct xshimd_peer_msg *m)
{
	struct side *s = carrier;

	if (s->out->closed)
		return -EPIPE;
	if (s->out->n == ROOM)
		return 0;
	s->out->m[(s->out->at + s->out->n++) % ROOM] = *m;
	return 1;
}

static int carrier_recv(void *carrier, struct xshimd_peer_msg *m)
{
	struct side *s = carrier;

	if (!s->in->n)
		return s->in->closed ? -EPIPE : 0;
	*m = s->in->m[s->in->at];
	s->in->at = (s->in->at + 1) % ROOM;
	s->in->n--;
	return 1;
}

static const struct xshimd_carrier carrier = { carrier_send, carrier_recv };

static inline struct xshim_endpoint at(uint8_t last, uint16_t port)
{
	struct xshim_endpoint ep = { .port = port };

	memcpy(ep.addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x00\x00", 15);
	ep.addr[15] = last;
	return ep;
}

static void on_up(struct xshimd_peer *p)
{
	((struct side *)p->owner)->ups++;
}

static bool is_theirs(struct xshimd_peer *p, const struct xshim_endpoint *ep)
{
	const struct side *s = p->owner;

	return !s->deny && ep->addr[15] == s->other;
}

static bool is_ours(struct xshimd_peer *p, const struct xshim_endpoint *ep)
{
	return ep->addr[15] == ((struct side *)p->owner)->own;
}

static int on_endpoint(struct xshimd_peer *p, const struct xshim_endpoint *ep, bool add)
{
	struct side *s = p->owner;

	(void)ep;
	if (add && s->fail_publish)
		return s->fail_publish;
	*(add ? &s->added : &s->removed) += 1;
	return 0;
}

static int on_offer(struct xshimd_peer *p, const struct xshimd_peer_offer *o, bool add)
{
	struct side *s = p->owner;

	(void)o;
	if (add && s->fail_publish)
		return s->fail_publish;
	*(add ? &s->offers : &s->withdrawn) += 1;
	return 0;
}

static void on_answer(struct xshimd_peer *p, uint32_t number, const struct xshimd_peer_half *half, uint32_t reason)
{
	struct side *s = p->owner;

	s->number = number;
	s->reason = reason;
	if (half) {
		s->answers++;
		s->half = *half;
	} else {
		s->declined++;
	}
}

static void on_gone(struct xshimd_peer *p, uint32_t number, bool ours)
{
	struct side *s = p->owner;

	s->gones++;
	s->number = number;
	s->ours = ours;
}

static void on_heard(struct xshimd_peer *p, uint32_t ask)
{
	struct side *s = p->owner;

	s->heard++;
	s->ask = ask;
}

static void on_older(struct xshimd_peer *p, uint32_t number)
{
	struct side *s = p->owner;

	s->older++;
	s->number = number;
}

static uint64_t clock_ns(void)
{
	return b_ns;
}

static void on_down(struct xshimd_peer *p, const char *why)
{
	struct side *s = p->owner;

	s->downs++;
	s->in->closed = s->out->closed = true;
	strncpy(s->why, why ? why : "", sizeof(s->why) - 1);
}

static const struct xshimd_peer_ops ops = {
	.up = on_up, .is_theirs = is_theirs, .is_ours = is_ours, .endpoint = on_endpoint, .offer = on_offer, .answer = on_answer,
	.gone = on_gone, .heard = on_heard, .older = on_older, .clock_ns = clock_ns, .down = on_down,
};

static inline void run(void)
{
	for (int i = 0; i < 200; i++) {
		if (a.p.state != XSHIMD_PEER_CLOSED)
			xshimd_peer_event(&a.p, now);
		if (b.p.state != XSHIMD_PEER_CLOSED)
			xshimd_peer_event(&b.p, now);
		if (!ab.n && !ba.n && !a.p.queue_n && !b.p.queue_n)
			return;
	}
}

static inline void connect_as(uint64_t a_instance, uint64_t b_expects)
{
	memset(&ab, 0, sizeof(ab));
	memset(&ba, 0, sizeof(ba));
	ck_assert_int_eq(xshimd_peer_attach(&a.p, &carrier, &a, a_instance, 22, now), 0);
	ck_assert_int_eq(xshimd_peer_attach(&b.p, &carrier, &b, 22, b_expects, now), 0);
	run();
}

static inline void fresh(void)
{
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	now = 100000;
	a.out = b.in = &ab;
	a.in = b.out = &ba;
	a.own = b.other = 1;
	a.other = b.own = 2;
	xshimd_peer_init(&a.p, &ops, &a, 60);
	xshimd_peer_init(&b.p, &ops, &b, 60);
	b_ns = HEARD;
	connect_as(11, 11);
}

/* A asks for the time and gets it; what it offers from now on it has seen after that. */
static inline void hear_time(void)
{
	uint32_t ask;

	ck_assert_int_eq(xshimd_peer_ask(&a.p, now, &ask), 0);
	run();
	ck_assert_uint_eq(a.ask, ask);
	ck_assert_uint_eq(a.p.heard_ns, b_ns);
}

static inline void done(void)
{
	xshimd_peer_detach(&a.p, NULL);
	xshimd_peer_detach(&b.p, NULL);
	ck_assert_int_eq(a.added, a.removed);
	ck_assert_int_eq(b.added, b.removed);
	ck_assert_int_eq(a.offers, a.withdrawn);
	ck_assert_int_eq(b.offers, b.withdrawn);
}

/* A connection that A's guest made to B's: as B sees it. */
static inline struct xshim_tuple tuple(uint16_t port)
{
	return (struct xshim_tuple){ .local = at(2, 80), .remote = at(1, port) };
}

static const struct xshimd_peer_half offered = { .order = 17, .gref = 9, .port = 33, .nonce = 0x1234 };
static const struct xshimd_peer_half claimed = { .order = 16, .gref = 8, .nonce = 0x5678 };

/* From a peer that says what it likes: into B. */
static inline void forge(struct xshimd_peer_msg *m, enum xshimd_peer_type type, uint32_t number)
{
	memset(m, 0, sizeof(*m));
	m->magic = XSHIMD_PEER_MAGIC;
	m->version = XSHIMD_PEER_VERSION;
	m->type = (uint16_t)type;
	m->number = number;
}

static inline void into_b(const struct xshimd_peer_msg *m)
{
	if (b.p.state == XSHIMD_PEER_CLOSED)
		return;
	ck_assert_int_eq(carrier_send(&a, m), 1);
	xshimd_peer_event(&b.p, now);
	ba.n = 0;	/* what B answers is not looked at */
}

#endif
