/* SPDX-License-Identifier: MIT */
/* depart.c - guests that go (depart.h). */
#include "depart.h"
#include "channel.h"
#include "client.h"

#include <errno.h>

static void left(struct xshim_conn *c, struct xshim_chan *ch)
{
	uint32_t session = atomic_exchange_explicit(&ch->session, 0, memory_order_relaxed);

	if (session && c->slot && xshim_slot_is_sole(c->slot, getpid()))
		xshim_client_left(ch->id, session);
}

void xshim_depart_let_go(struct xshim_conn *c, struct xshim_chan *ch)
{
	if (!ch->be->forsake)
		return;
	ch->be->forsake(&ch->remote);
	left(c, ch);
}

void xshim_depart_closed(struct xshim_conn *c, struct xshim_chan *ch)
{
	/* Only whether it is to be said by whoever frees the channel. */
	if (ch && c->slot && !xshim_slot_is_sole(c->slot, getpid()))
		atomic_store_explicit(&ch->session, 0, memory_order_relaxed);
}

int xshim_depart_obey(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	uint32_t told = atomic_load_explicit(&ch->told, memory_order_relaxed);
	struct xshim_link *l = &c->slot->link;

	if (told & XSHIM_TOLD_FORSAKE) {
		atomic_store_explicit(&ch->told, 0, memory_order_relaxed);
		if (!xshim_link_is_out(l))
			return xshim_chan_break(c, fd, XSHIM_R_PEER_MOVED);
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
	} else if (told & XSHIM_TOLD_LEAVE) {
		/* wishes are places on one path: who sleeps stores them anew */
		if (xshim_chan_leave_step(c, ch, fd, XSHIM_R_DRAIN))
			xshim_chan_ring_self(ch);
		if (l->want_leave || l->left || l->error)
			atomic_store_explicit(&ch->told, 0, memory_order_relaxed);
	}
	return 0;
}

/* A channel that is to go, put in place. */
static void act(struct xshim_conn *c, struct xshim_chan *ch, int fd, uint32_t what)
{
	struct xshim_slot *s = c->slot;

	atomic_fetch_or_explicit(&ch->told, what, memory_order_relaxed);
	if (xshim_chan_lock(s)) {
		if (xshim_conn_chan(c) == ch)
			(void)xshim_depart_obey(c, ch, fd);
		xshim_chan_unlock(s);
	}
	/* Whoever of ours sleeps on it, in this process or in one that shares it. */
	xshim_chan_ring_self(ch);
}

static bool is_meant(const struct xshim_chan *ch, const struct xshim_msg_leave *m)
{
	return ch && ch->be->forsake && (m->domid == XSHIM_DOMID_ALL || ch->local.domid == m->domid);
}

static void told_one(struct xshim_obj *o, const struct xshim_msg_leave *m)
{
	bool gone = m->h.type == XSHIM_MSG_FORSAKE;
	struct xshim_conn *c = (struct xshim_conn *)o;
	struct xshim_chan *ch;
	int fd;

	if (m->h.type != XSHIM_MSG_NUDGE && is_meant(c->pending, m))
		xshim_client_call_off(c, gone ? XSHIM_R_PEER_MOVED : XSHIM_R_DRAIN);
	if (!is_meant(xshim_conn_chan(c), m))
		return;
	/* The connection may be closed now by another thread: not before we have a reference. */
	fd = xshim_fd_find(o);
	c = fd < 0 ? NULL : xshim_conn_get(fd);
	if (!c)
		return;
	ch = xshim_conn_chan(c);
	if (&c->obj == o && is_meant(ch, m) && m->h.type == XSHIM_MSG_NUDGE)
		(void)ch->be->ring(&ch->local, &ch->remote);
	else if (&c->obj == o && is_meant(ch, m))
		act(c, ch, fd, gone ? XSHIM_TOLD_FORSAKE : XSHIM_TOLD_LEAVE);
	xshim_conn_put(c);
}

void xshim_depart_told(const union xshim_msg *m)
{
	struct xshim_obj *o;

	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		o = xshim_obj_at(XSHIM_OBJ_CONN, i);
		if (o && (!m->h.id || ((struct xshim_conn *)o)->id == m->h.id))
			told_one(o, &m->leave);
	}
}
