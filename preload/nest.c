/* SPDX-License-Identifier: MIT */
/* nest.c - epoll sets that are looked at from outside (nest.h). */
#include "nest.h"
#include "eset.h"
#include "raw.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>

#define MEMBERS 16	/* that are shown before a sleep; more are shown when the kernel names them */
#define DEPTH 5		/* the kernel allows no more */

static struct xshim_eset *set_of(struct xshim_obj *o)
{
	if (o && o->kind == XSHIM_OBJ_EPOLL)
		return (struct xshim_eset *)o;
	if (o)
		xshim_obj_put(o);
	return NULL;
}

/* ---- which set is in which; structure lock ---- */

static void unlink_nest(struct xshim_nest *n)
{
	struct xshim_nest **at;

	for (at = &n->outer->members; *at; at = &(*at)->next_of_outer)
		if (*at == n) {
			*at = n->next_of_outer;
			break;
		}
	for (at = &n->member->within; *at; at = &(*at)->next_of_member)
		if (*at == n) {
			*at = n->next_of_member;
			break;
		}
	atomic_fetch_sub_explicit(&n->outer->tagged, 1, memory_order_release);
	xshim_obj_put(&n->obj);
}

static struct xshim_nest *find(const struct xshim_eset *outer, const struct xshim_eset *member, int fd)
{
	struct xshim_nest *n;

	for (n = outer->members; n; n = n->next_of_outer)
		if (n->member == member && n->fd == fd)
			return n;
	return NULL;
}

static void mark_shown(struct xshim_eset *set)
{
	if (atomic_exchange_explicit(&set->shown, true, memory_order_relaxed))
		return;
	if (!xshim_eset_lock(&set->lock))
		return;
	for (struct xshim_reg *r = set->regs; r; r = r->next_of_set)
		if (r->attached) {
			(void)xshim_eset_turn_in(set);
			break;
		}
	xshim_eset_unlock(&set->lock);
}

static int enter(struct xshim_eset *outer, struct xshim_eset *member, int op, int fd, const struct epoll_event *want)
{
	struct xshim_nest *n = find(outer, member, fd);
	struct epoll_event ev = { .events = want ? want->events : 0 };

	if (op == EPOLL_CTL_ADD && !n) {
		n = (struct xshim_nest *)xshim_obj_new(XSHIM_OBJ_NEST);
		if (!n)
			return libc.epoll_ctl(outer->epfd, op, fd, (struct epoll_event *)(uintptr_t)want) < 0 ? -errno : 0;
		n->outer = outer;
		n->member = member;
		n->fd = fd;
		n->tag = XSHIM_TAG_NEST | (n->obj.index & 0xffff) | (n->obj.life & 0x0fff) << 16;
		ev.data.u64 = (uint64_t)xshim_eset_magic() << 32 | n->tag;
		n->events = want->events;
		n->data = want->data.u64;
		mark_shown(member);
		if (libc.epoll_ctl(outer->epfd, op, fd, &ev) < 0) {
			int rc = -errno;

			xshim_obj_put(&n->obj);
			return rc;
		}
		n->next_of_outer = outer->members;
		outer->members = n;
		n->next_of_member = member->within;
		member->within = n;
		atomic_fetch_add_explicit(&outer->tagged, 1, memory_order_release);
		return 0;
	}
	/* what is wrong with it the kernel says */
	if (n)
		ev.data.u64 = (uint64_t)xshim_eset_magic() << 32 | n->tag;
	if (libc.epoll_ctl(outer->epfd, op, fd, &ev) < 0)
		return -errno;
	if (n && op == EPOLL_CTL_MOD) {
		n->events = want->events;
		n->data = want->data.u64;
	} else if (n) {
		unlink_nest(n);
	}
	return 0;
}

int xshim_nest_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct xshim_eset *member = xshim_fd_peek(fd) ? set_of(xshim_fd_get(fd)) : NULL, *outer;
	int rc, saved = errno;

	if (!member)
		return libc.epoll_ctl(epfd, op, fd, event);
	outer = set_of(xshim_fd_get(epfd));
	if (outer && outer != member && op >= EPOLL_CTL_ADD && op <= EPOLL_CTL_MOD &&
	    (op == EPOLL_CTL_DEL || !xshim_is_nowhere(event)) && xshim_eset_structure_lock()) {
		rc = enter(outer, member, op, fd, event);
		xshim_eset_structure_unlock();
	} else {
		rc = libc.epoll_ctl(epfd, op, fd, event) < 0 ? -errno : 0;
	}
	if (outer)
		xshim_obj_put(&outer->obj);
	xshim_obj_put(&member->obj);
	return (int)xshim_ret_kept(rc, saved);
}

void xshim_nest_forget(struct xshim_eset *set)
{
	if ((!set->members && !set->within) || !xshim_eset_structure_lock())
		return;
	while (set->members)
		unlink_nest(set->members);
	while (set->within)
		unlink_nest(set->within);
	xshim_eset_structure_unlock();
}

/* ---- showing ---- */

static void show(struct xshim_eset *set, int depth);

static void show_members(struct xshim_eset *set, int depth)
{
	struct xshim_eset *held[MEMBERS];
	int n = 0;

	if (!set->members || depth > DEPTH || !xshim_eset_structure_lock())
		return;
	for (struct xshim_nest *m = set->members; m && n < MEMBERS; m = m->next_of_outer) {
		held[n] = m->member;
		xshim_obj_hold(&held[n++]->obj);
	}
	xshim_eset_structure_unlock();
	while (n) {
		show(held[--n], depth + 1);
		xshim_obj_put(&held[n]->obj);
	}
}

static void show(struct xshim_eset *set, int depth)
{
	show_members(set, depth);
	if (!atomic_load_explicit(&set->shown, memory_order_relaxed) && xshim_eset_structure_lock()) {
		mark_shown(set);
		xshim_eset_structure_unlock();
	}
	if (set->inner || atomic_load_explicit(&set->tagged, memory_order_acquire))
		xshim_epoll_show_list(set);
}

void xshim_nest_show_members(struct xshim_eset *set)
{
	show_members(set, 1);
}

void xshim_epoll_shown(struct xshim_eset *set)
{
	show(set, 1);
}

bool xshim_nest_event(struct xshim_eset *outer, uint32_t tag, struct epoll_event *to)
{
	struct pollfd p = { .events = POLLIN | POLLRDNORM };
	struct xshim_eset *member;
	struct xshim_nest *n;
	struct epoll_event ev;
	bool ready;
	int fd;

	if (!xshim_eset_structure_lock())
		return false;
	n = (struct xshim_nest *)xshim_obj_at(XSHIM_OBJ_NEST, tag & 0xffff);
	if (!n || n->outer != outer || n->tag != tag) {
		xshim_eset_structure_unlock();
		return false;	/* it was taken out meanwhile */
	}
	member = n->member;
	xshim_obj_hold(&member->obj);
	fd = n->fd;
	ev.events = n->events;
	ev.data.u64 = n->data;
	xshim_eset_structure_unlock();

	show(member, 2);
	p.fd = member->epfd;
	ready = raw_poll(&p, 1, 0) > 0;
	xshim_obj_put(&member->obj);
	if (ready) {
		to->events = (uint32_t)(unsigned short)p.revents & ev.events;
		to->data = ev.data;
	} else if (ev.events & EPOLLONESHOT) {
		/* it has not fired for the program */
		ev.data.u64 = (uint64_t)xshim_eset_magic() << 32 | tag;
		libc.epoll_ctl(outer->epfd, EPOLL_CTL_MOD, fd, &ev);
	}
	return ready && to->events;
}

bool xshim_nest_is_ready(int fd, short events, short *revents)
{
	struct xshim_eset *set = xshim_fd_peek(fd) ? set_of(xshim_fd_get(fd)) : NULL;
	struct pollfd p = { .fd = fd, .events = events };

	if (!set)
		return true;
	xshim_epoll_shown(set);
	if (raw_poll(&p, 1, 0) < 0)
		p.revents = 0;
	*revents = p.revents;
	xshim_obj_put(&set->obj);
	return p.revents != 0;
}
