/* SPDX-License-Identifier: MIT */
/*
 * offer.c - when to offer a ring, or to claim one.
 *
 * A connection is offered only once it has shown that it lives (XSHIM_TRIGGER_OPS, _BYTES), so that short
 * ones pay a table look-up and one getsockname. Nothing is ever waited for.
 */
#include "channel.h"
#include "client.h"
#include "conn.h"
#include "identity.h"
#include "options.h"
#include "privfd.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

void xshim_conn_look_first(struct xshim_conn *c, int fd)
{
	const struct xshim_map *m = xshim_client_map();
	uint32_t role = c->slot->role;
	/* before the look */
	uint64_t gen = atomic_load_explicit(xshim_gen_word(role), memory_order_acquire);

	if (role == XSHIM_ROLE_CONNECT) {
		if (xshim_map_has_endpoint(m, c->hash))
			atomic_store_explicit(&c->kickable, 1, memory_order_relaxed);
	} else if (!xshim_map_has_endpoint(m, xshim_endpoint_hash(&c->slot->tuple.local))) {
		if (xshim_client_is_fresh())
			atomic_store_explicit(&c->lent, xshim_client_show(XSHIM_MSG_ENDPOINT, 0, fd) == 0, memory_order_relaxed);
		return;		/* its first call sees whether it is there */
	} else if (xshim_map_has_offer(m, c->hash)) {
		return;		/* and claims it */
	}
	atomic_store_explicit(&c->next_ops, (uint32_t)xshim_opt.trigger_ops, memory_order_relaxed);
	atomic_store_explicit(&c->gen_seen, gen, memory_order_relaxed);
}

#define DESCRIPTORS 7		/* that a ring takes while both ends are introduced; three of them stay */

/* Something about the socket or the process that keeps it on TCP for now. 0: nothing. */
static enum xshim_reason obstacle(struct xshim_conn *c, int fd)
{
	char ulp[32] = "";
	socklen_t len = sizeof(ulp);

	if (xshim_conn_on_stdio(c))
		return XSHIM_R_STDIO;
	if (!xshim_slot_is_sole(c->slot, getpid()))
		return XSHIM_R_SHARED;
	if (libc.getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) == 0 && ulp[0])
		return XSHIM_R_ULP;
	if (libc.fcntl(fd, F_GETFL) & O_ASYNC)
		return XSHIM_R_SIGIO;
	return xshim_privfd_room(DESCRIPTORS) ? XSHIM_R_RING : XSHIM_R_FD_LIMIT;
}

static void later(struct xshim_conn *c)
{
	uint32_t step = c->ops < 256 ? c->ops : 256;

	if (xshim_opt.force_leave)
		step = 1;
	c->next_ops = c->ops + (step ? step : 1);
	c->next_bytes = UINT64_MAX;
}

/* Client lock held, greeted, named. */
static void introduce(struct xshim_conn *c, int fd)
{
	bool offer = c->slot->role == XSHIM_ROLE_CONNECT, in_guest;
	struct xshim_party guest = { .offers = offer };
	enum xshim_reason why;

	why = obstacle(c, fd);
	if (why != XSHIM_R_RING) {
		xshim_conn_reason(c, why);
		/* a server that forks for each connection has it for itself soon */
		if (why == XSHIM_R_SHARED && c->next_ops > c->ops + 32)
			c->next_ops = c->ops + 32;
		return;
	}
	/* The map may change until the descriptor goes; a TCP descriptor goes only to a live xshimd. */
	if (!xshim_client_is_fresh()) {
		c->next_ops = c->ops + 1;
		return;
	}
	in_guest = xshim_map_guest_of(xshim_client_map(), &c->slot->tuple.remote, &guest.domid);
	c->pending = xshim_chan_new(in_guest ? &guest : NULL, &why);
	if (!c->pending) {
		xshim_conn_reason(c, why);
		c->retry_ns = xshim_now_ns() + 1000000000ull;
		return;
	}
	if (xshim_client_channel(c, fd) < 0) {
		xshim_chan_drop(c->pending);
		c->pending = NULL;
		c->retry_ns = xshim_now_ns() + 50000000;
		return;
	}
	atomic_store_explicit(&c->lent, true, memory_order_relaxed);
	c->look_due = false;
	c->intro = offer ? XSHIM_INTRO_OFFERED : XSHIM_INTRO_CLAIMED;
	xshim_conn_reason(c, offer ? XSHIM_R_OFFERED : XSHIM_R_SWITCHING);
	xlog(DEBUG, "connection %u: %s after %llu bytes by TCP", c->id, offer ? "offered" : "claimed",
	     (unsigned long long)c->bytes);
	/* The answer comes by mail. */
	c->next_ops = c->ops + 256;
	c->next_bytes = UINT64_MAX;
}

static void decide(struct xshim_conn *c, int fd)
{
	const struct xshim_map *m;
	uint32_t role = c->slot->role;
	bool young = c->ops < xshim_opt.trigger_ops && c->bytes < xshim_opt.trigger_bytes;

	/* Before the look, so that what changes after it is seen next time. */
	c->gen_seen = atomic_load_explicit(xshim_gen_word(role), memory_order_acquire);
	if (c->intro == XSHIM_INTRO_OFFERED || c->intro == XSHIM_INTRO_CLAIMED) {
		c->next_ops = c->ops + 256;
		if (c->look_due && xshim_client_is_fresh() && xshim_client_show(XSHIM_MSG_LOOK, c->id, fd) == 0) {
			c->look_due = false;
			atomic_store_explicit(&c->lent, true, memory_order_relaxed);
		} else if (c->look_due) {
			c->next_ops = c->ops + 1;
		}
		return;
	}
	later(c);
	if (c->intro != XSHIM_INTRO_PLAIN || xshim_now_ns() < c->retry_ns)
		return;
	if (!xshim_client_is_greeted()) {
		xshim_conn_reason(c, xshim_client_why());
		return;
	}
	if (role == XSHIM_ROLE_CONNECT && young) {
		c->next_ops = (uint32_t)xshim_opt.trigger_ops;
		c->next_bytes = xshim_opt.trigger_bytes;
		return;
	}
	if ((!young || !c->hash) && !xshim_identity_ask(c, fd))
		return;
	m = xshim_client_map();
	if (role == XSHIM_ROLE_CONNECT) {
		if (xshim_map_has_endpoint(m, c->hash))
			introduce(c, fd);
		else
			xshim_conn_reason(c, XSHIM_R_NOT_CORESIDENT);
	} else if (role == XSHIM_ROLE_ACCEPT) {
		if (!xshim_map_has_endpoint(m, xshim_endpoint_hash(&c->slot->tuple.local))) {
			if (!xshim_client_is_fresh())
				c->next_ops = c->ops + 1;
			else if (xshim_client_show(XSHIM_MSG_ENDPOINT, 0, fd) == 0)
				atomic_store_explicit(&c->lent, true, memory_order_relaxed);
		}
		if (xshim_map_has_offer(m, c->hash) && xshim_identity_ask(c, fd))
			introduce(c, fd);
	} else {
		xshim_conn_never(c, XSHIM_R_ROLE);
	}
}

bool xshim_conn_consider(struct xshim_conn *c, int fd)
{
	if (atomic_load_explicit(&c->detach_due, memory_order_acquire))
		xshim_chan_detach(c);
	if (atomic_load_explicit(&c->dead, memory_order_relaxed))
		xshim_chan_reap(c, 1);
	if (xshim_conn_chan(c))
		return true;
	if (atomic_load_explicit(&xshim_tcp_only, memory_order_relaxed)) {
		xshim_conn_reason(c, atomic_load_explicit(&xshim_tcp_only, memory_order_relaxed));
		c->next_ops = XSHIM_NEVER_OPS;
		c->next_bytes = UINT64_MAX;
		return false;
	}
	if (xshim_conn_flag(c, XSHIM_SLOT_CROWDED | XSHIM_SLOT_STAY)) {
		c->next_ops = XSHIM_NEVER_OPS;
		c->next_bytes = UINT64_MAX;
		return false;
	}
	if (!xshim_client_try())
		return false;
	xshim_client_service();
	if (atomic_load_explicit(&c->attach_due, memory_order_acquire)) {
		xshim_chan_attach(c, 1);
		if (atomic_load_explicit(&c->attach_due, memory_order_relaxed))
			c->next_ops = c->ops + 1;
	} else {
		decide(c, fd);
	}
	xshim_client_drop();
	return xshim_conn_chan(c) != NULL;
}
