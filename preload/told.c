/* SPDX-License-Identifier: MIT */
/* told.c - what an edge-triggered entry has told (told.h). */
#include "told.h"
#include "ask.h"
#include "channel.h"
#include "process.h"
#include "rxopts.h"

#define LASTING (POLLRDHUP | POLLHUP | POLLERR | POLLPRI)

/* It is all that is so, if nothing in the set waits to be told. What comes meanwhile shows in the count. */
void xshim_told_learn(struct xshim_reg *r)
{
	struct xshim_told *t = &r->told;
	int fd = xshim_conn_fd(r->conn, r->fd);

	t->head = r->conn->slot->link.rx.head;
	t->fulls = atomic_load_explicit(&r->conn->slot->fulls, memory_order_relaxed);
	t->mask = 0;
	if (!(r->events & EPOLLET) || (r->events & (EPOLLONESHOT | EPOLLEXCLUSIVE)) || xshim_rxopts_lowat(r->conn))
		return;
	t->arrived = xshim_tcp_arrived(fd);
	if (xshim_ask_poll(r->set->epfd, POLLIN))
		return;
	t->mask = xshim_ask_poll(fd, (short)((r->events & 0xffff) | POLLRDHUP | POLLPRI));
	t->kmask = t->mask & LASTING;
}

void xshim_told_note(struct xshim_reg *r, uint32_t mask, const struct xshim_sight *s)
{
	r->told = (struct xshim_told){ .mask = mask, .kmask = r->kmask, .fulls = s->fulls, .arrived = s->arrived,
				       .head = r->seen_head, .hints = r->joint_hints };
}

/*
 * The kernel wakes all that wait when an end of the connection, ours too, is done; where its hints are counted it has then given one. And
 * who shares the connection, but not what is told of it, may have been told instead of us.
 */
bool xshim_told_is_old(const struct xshim_reg *r, uint32_t mask, const struct xshim_sight *s)
{
	const struct xshim_told *t = &r->told;
	struct xshim_conn *c = r->conn;

	if (!t->mask || (mask & ~t->mask) || r->kmask != t->kmask ||
	    ((!r->joint || r->joint_hints != t->hints) &&
	     ((mask & (EPOLLERR | EPOLLHUP | EPOLLPRI | EPOLLRDHUP)) ||
	      xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR | XSHIM_SLOT_SHUT_RD))))
		return false;
	if ((r->events & XSHIM_EPOLL_READS) &&
	    (r->seen_head != t->head || s->arrived != t->arrived || s->arrived == UINT64_MAX))
		return false;
	if ((r->events & XSHIM_EPOLL_WRITES) &&
	    atomic_load_explicit(&c->slot->fulls, memory_order_relaxed) != t->fulls)
		return false;
	return r->joint || (!r->set->shared && xshim_slot_is_sole(c->slot, xshim_sandbox_pid()));
}
