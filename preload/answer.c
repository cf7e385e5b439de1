/* SPDX-License-Identifier: MIT */
/* answer.c - what a wait in an epoll set tells of connections on rings (answer.h). */
#include "answer.h"
#include "channel.h"
#include "hot.h"
#include "joint.h"
#include "raw.h"
#include "ready.h"
#include "told.h"

#include <poll.h>
#include <stdint.h>

#define ARMED_AT_ONCE 32
#define CLAIMS 8		/* tries to be the first to tell of what others see, too */

/* Nobody else is to be told by the edges that r hears. Set lock held. */
static bool is_for_one(const struct xshim_reg *r)
{
	const struct xshim_reg *o;

	if (!(r->events & (EPOLLET | EPOLLONESHOT)))
		return false;
	/* of those of this set, as good without the structure lock: they come and go under the set's, too */
	if (r->conn->regs == r && !r->next_of_conn)
		return true;
	for (o = r->set->regs; o && (o == r || o->conn != r->conn); o = o->next_of_set)
		;
	return !o;
}

/* What the program is to be told of r now. Set lock held. */
static uint32_t evaluate(struct xshim_answer *a, struct xshim_reg *r, struct xshim_sight *s, bool *goes)
{
	struct xshim_conn *c = r->conn;
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint32_t want = r->events & (XSHIM_EPOLL_READS | XSHIM_EPOLL_WRITES | EPOLLRDHUP);
	unsigned int dir = ((want & (EPOLLIN | EPOLLRDNORM)) ? POLLIN : 0) |
			   ((want & (EPOLLOUT | EPOLLWRNORM)) ? POLLOUT : 0);
	struct xshim_ready rdy;
	struct pollfd p;
	uint32_t mask, joint;
	bool hot;
	int stall, fd = xshim_conn_fd(c, r->fd);	/* the number of the entry may be closed */

	*s = (struct xshim_sight){ 0 };
	*goes = false;
	if (!ch)
		return 0;
	xshim_chan_watches_life(ch);
	s->fulls = atomic_load_explicit(&c->slot->fulls, memory_order_relaxed);
	if (xshim_ready_look(c, ch, fd, 0, &rdy) < 0)
		r->tcp_dirty = true;
	hot = !r->cold && !r->deaf && !a->arming && xshim_hot_may(a->set, r, &rdy, dir);
	r->cold = false;
	if (hot) {
		xshim_hot_heat(a->set, r, rdy.reach);
	} else {
		xshim_hot_cool(a->set, r);
		/* before our wish is there: who empties the bell, or takes a wish back, is to know of us */
		xshim_eset_count_waiters(r, ch, dir & POLLIN, dir & POLLOUT, (dir & POLLIN) && (r->events & EPOLLET));
		joint = (r->rx_wait | r->tx_wait) & XSHIM_WAITS_JOINT ? XSHIM_LOOK_JOINT : 0;
		if (atomic_load_explicit(&ch->forked, memory_order_relaxed) && is_for_one(r))
			joint |= XSHIM_LOOK_ONE;
		if (xshim_ready_look(c, ch, fd, dir ? dir | XSHIM_LOOK_EPOLL | XSHIM_LOOK_EDGE | joint : 0, &rdy) < 0)
			r->tcp_dirty = true;
	}
	/* what the kernel said last holds until it says more; but an error and urgent data may have been taken, and the end been found by us */
	if (atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) && !(r->kmask & POLLRDHUP))
		r->tcp_dirty = true;
	if (r->tcp_dirty || (r->kmask & (POLLERR | POLLPRI)) || ((dir & POLLIN) && rdy.in_from_tcp) || ((dir & POLLOUT) && rdy.out_from_tcp)) {
		p = (struct pollfd){ .fd = fd,
				     .events = (short)(rdy.tcp_events | POLLRDHUP | POLLPRI) };
		r->tcp_dirty = false;
		if (raw_poll(&p, 1, 0) < 0)
			p.revents = 0;
		r->kmask = (unsigned short)p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLPRI);
		mask = xshim_ready_result(c, ch, fd, &rdy, (unsigned short)p.revents);
		xshim_ready_count_full(ch, &rdy, dir, mask);
	} else {
		mask = rdy.mask | r->kmask;
	}
	if (atomic_load_explicit(&c->detach_due, memory_order_acquire) && a->leavings < XSHIM_ANSWER_HELD) {
		xshim_obj_hold(&c->obj);
		a->leaving[a->leavings++] = c;
		*goes = true;
	}
	r->seen_head = rdy.reach;
	if (mask & POLLIN)
		mask |= EPOLLRDNORM;
	if (mask & POLLOUT)
		mask |= EPOLLWRNORM;
	xshim_eset_count_waiters(r, ch, (dir & POLLIN) && !(mask & POLLIN), (dir & POLLOUT) && !(mask & POLLOUT),
				 (dir & POLLIN) && (r->events & EPOLLET));
	if (r->tx_wait) {
		stall = xshim_stall(c, ch);
		if (stall >= 0 && (a->stall_ms < 0 || stall < a->stall_ms))
			a->stall_ms = stall;
	}
	if (r->deaf && (a->stall_ms < 0 || a->stall_ms > XSHIM_DEAF_MS))
		a->stall_ms = XSHIM_DEAF_MS;
	mask &= want | EPOLLERR | EPOLLHUP;
	if (!mask || !(r->events & EPOLLET))
		return mask;
	if ((want & XSHIM_EPOLL_READS) && (!rdy.all_by_ring || r->told.arrived))
		s->arrived = xshim_tcp_arrived(fd);
	if (xshim_told_is_old(r, mask, s))
		return 0;
	if (rdy.all_by_ring)
		s->arrived = 0;		/* and the count need not be asked for any more */
	return mask;
}

/* The same of an entry without a ring that has kept our tag, and is edge-triggered in the kernel whatever the program asked for. */
static uint32_t ask_kernel(const struct xshim_reg *r)
{
	struct pollfd p = { .fd = xshim_conn_fd(r->conn, r->fd), .events = (short)(r->events & 0xffff) };

	return raw_poll(&p, 1, 0) > 0 ? (unsigned short)p.revents : 0;
}

/* This answer names a descriptor of the connection already. Set lock held. */
static bool is_named(const struct xshim_answer *a, const struct xshim_conn *c)
{
	for (const struct xshim_reg *r = a->set->regs; r; r = r->next_of_set)
		if (r->conn == c && r->told_by == a->number)
			return true;
	return false;
}

/* What r is to be told of in this answer, and what comes of that for others. Set lock held. */
static uint32_t look_once(struct xshim_answer *a, struct xshim_reg *r, uint64_t seen, struct xshim_sight *s, bool *goes)
{
	bool told = r->rearmed && (r->events & EPOLLET) && !r->tcp_dirty;
	uint32_t mask = r->attached ? evaluate(a, r, s, goes) : ask_kernel(r);

	/* the kernel is asked behind this, and tells of it together with the others; but not a second time */
	if (*goes && a->kernel_next && !a->plain && !is_named(a, r->conn))
		mask = 0;
	else if (*goes)
		a->plain = true;
	/* what has come since changes the head, seen after the wish was stored */
	if (told && r->seen_head == seen && !(mask & ~(EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM)))
		mask = 0;
	if (r->quiet && (r->events & EPOLLET) && r->seen_head == seen && !(mask & EPOLLOUT))
		mask = 0;
	return mask;
}

/* Another process may tell of it while we look: then it is looked at anew. */
static uint32_t look(struct xshim_answer *a, struct xshim_reg *r, bool *goes)
{
	uint64_t seen = r->seen_head;
	struct xshim_sight s;
	uint32_t mask;

	for (int rounds = 0;; rounds++) {
		mask = look_once(a, r, seen, &s, goes);
		if (!mask || !r->attached || (a->probe && r->joint))
			break;
		if (xshim_joint_claim(r, mask, &s))
			break;
		if (rounds == CLAIMS)
			break;		/* it cannot be that much is going on; one event too many */
		xshim_joint_heed(r);
		if (r->disabled || r->parked) {
			mask = 0;
			break;
		}
	}
	r->quiet = r->rearmed = false;
	return mask;
}

void xshim_answer_collect(struct xshim_answer *a, int max)
{
	struct xshim_eset *set = a->set;
	struct xshim_reg *r, *last = set->list_tail;
	uint32_t mask;
	bool stays, goes, rest;

	a->stall_ms = -1;
	if (!a->number)
		a->number = ++set->waits;
	while (a->n < max && (r = set->list_head)) {
		set->list_head = r->next_listed;
		if (!set->list_head)
			set->list_tail = NULL;
		r->listed = r->passed = false;
		stays = goes = false;
		rest = r->was_hot && r->attached;
		r->was_hot = false;
		xshim_joint_heed(r);
		if ((r->attached || r->stuck) && !r->disabled && !r->parked) {
			int stall_before = a->stall_ms;

			mask = look(a, r, &goes);
			r->hinted = r->hinted && mask && !xshim_joint_is_for_one(r);
			/* as the kernel does it with what is level-triggered: one wakes the next; where it is asked behind this, at the end (epoll.c) */
			if (r->hinted && !a->kernel_next) {
				xshim_joint_pass_on(r);
				r->hinted = false;
			}
			if (mask) {
				/* one answer names an entry once */
				if (r->told_by == a->number) {
					a->events[r->told_at].events |= mask;
				} else {
					r->told_by = a->number;
					r->told_at = a->n;
					a->events[a->n].events = mask;
					a->events[a->n++].data.u64 = r->data;
				}
				if (r->events & EPOLLONESHOT)
					r->disabled = true;
				else
					stays = !(r->events & EPOLLET);
			} else if (a->stall_ms != stall_before || r->deaf) {
				stays = true;
				r->quiet = true;
			} else if (rest && a->arming && !goes) {
				xshim_hot_rest(set, r);
			}
		}
		if (stays)
			xshim_eset_list(set, r);
		if (r == last)
			break;
	}
}

void xshim_answer_arm_hot(struct xshim_answer *a, bool all)
{
	a->set->rousing = false;
	a->arming = true;
	while (a->set->hot && (all || !a->n)) {
		for (int i = 0; i < ARMED_AT_ONCE && a->set->hot; i++) {
			a->set->hot->was_hot = true;
			xshim_hot_goes(a->set, a->set->hot, true);
		}
		xshim_answer_collect(a, a->max);
	}
	a->arming = false;
}

bool xshim_answer_take_away(struct xshim_answer *a)
{
	bool some = a->leavings > 0;

	for (int i = 0; i < a->leavings; i++) {
		xshim_chan_detach(a->leaving[i]);
		xshim_conn_put(a->leaving[i]);
	}
	a->leavings = 0;
	return some;
}

void xshim_answer_tell_again(const struct xshim_answer *a)
{
	for (struct xshim_reg *r = a->set->regs; r; r = r->next_of_set)
		if (r->told_by == a->number) {
			r->disabled = false;
			if (!a->probe)
				xshim_joint_untell(r, UINT32_MAX, true);
			r->told.mask = 0;
			xshim_eset_list(a->set, r);
		}
}
