/* SPDX-License-Identifier: MIT */
/* epoll_ctl.c - what the program says of epoll sets: epoll_create, epoll_ctl (epoll.h). eset.c has the entries. */
#include "eset.h"
#include "joint.h"
#include "nest.h"
#include "privfd.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>

static struct xshim_reg *find(struct xshim_eset *set, struct xshim_conn *c, int fd)
{
	struct xshim_reg *r;

	for (r = c->regs; r; r = r->next_of_conn)
		if (r->set == set && r->fd == fd)
			return r;
	return NULL;
}

static int add(struct xshim_eset *set, struct xshim_conn *c, int fd, const struct epoll_event *want)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_reg *r = (struct xshim_reg *)xshim_obj_new(XSHIM_OBJ_REG);
	struct epoll_event ev = *want;
	uint32_t before;
	bool taken;
	int rc;

	if (!r)
		return libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
	r->set = set;
	r->conn = c;
	r->fd = fd;
	r->events = want->events;
	r->data = want->data.u64;
	r->tag = (r->obj.index & 0xffff) | (r->obj.life & 0x0fff) << 16;
	if (set->family)	/* other processes count lives of their own */
		r->tag ^= (xshim_tid() & 0x0fff) << 16;
	taken = xshim_eset_lock(&set->lock);
	before = xshim_joint_rejoin(r);
	xshim_eset_leave(set, taken);
	if (want->events & EPOLLONESHOT)
		ev.data.u64 = xshim_eset_datum(r, 0);
	rc = libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev);
	if (rc < 0) {
		rc = -errno;
		xshim_joint_undo(r, before);
		xshim_obj_put(&r->obj);
		return rc;
	}
	taken = xshim_eset_lock(&set->lock);
	if (want->events & EPOLLONESHOT) {
		r->tagged = true;
		atomic_fetch_add_explicit(&set->tagged, 1, memory_order_release);
	}
	r->next_of_conn = c->regs;
	c->regs = r;
	r->next_of_set = set->regs;
	set->regs = r;
	if (ch)
		xshim_eset_put_bell_in(r, ch);
	xshim_eset_leave(set, taken);
	return 0;
}

/*
 * The program asks anew, and is told of all that is so. What the socket has to say beside the ring is known from its edges, which are
 * heeded also while the entry is parked, and what has come since the last wait the next one hears from the kernel in any case. Only
 * what may have ended without an edge, or may have gone to another process, is to be asked for. Set lock held.
 */
static void ask_anew(struct xshim_reg *r, const struct epoll_event *want)
{
	r->events = want->events;
	r->data = want->data.u64;
	r->disabled = false;
	r->quiet = r->rearmed = false;
	/* a process that has not waited for this yet is told of it when this one is */
	r->hinted = r->joint != NULL;
	xshim_joint_changed(r);
	if (r->kmask || r->set->shared || (want->events & EPOLLPRI))
		r->tcp_dirty = true;
}

static int modify(struct xshim_reg *r, const struct epoll_event *want)
{
	struct xshim_eset *set = r->set;
	struct epoll_event old = { .events = r->events, .data.u64 = r->data };
	bool fired = r->disabled, taken;
	int rc = 0;

	if ((want->events | r->events) & EPOLLEXCLUSIVE)
		return -EINVAL;
	taken = xshim_eset_lock(&set->lock);
	ask_anew(r, want);
	if (r->attached) {
		xshim_eset_list(set, r);
		xshim_eset_kick(set, false);
		xshim_joint_pass_on(r);
	} else {
		struct epoll_event ev = *want;

		if ((want->events & EPOLLONESHOT) && !r->tagged) {
			r->tagged = true;
			atomic_fetch_add_explicit(&set->tagged, 1, memory_order_release);
		} else if (!(want->events & EPOLLONESHOT) && r->tagged) {
			/* without a channel only ONESHOT is ours to report */
			r->tagged = false;
			atomic_fetch_sub_explicit(&set->tagged, 1, memory_order_release);
		}
		if (r->tagged)
			ev.data.u64 = xshim_eset_datum(r, 0);
		rc = libc.epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &ev) < 0 ? -errno : 0;
		if (rc && r->joint) {	/* what others will find is what the kernel has */
			r->events = old.events;
			r->data = old.data.u64;
			r->disabled = fired;
			xshim_joint_changed(r);
		}
		r->stuck = r->stuck && rc;
	}
	xshim_eset_leave(set, taken);
	return rc;
}

/*
 * Event loops take a connection out and put it back for each request; with three kernel entries behind it
 * that would cost seven system calls. Edge-triggered and with no wish stored, they are silent meanwhile.
 */
static void park(struct xshim_reg *r)
{
	struct xshim_chan *ch = xshim_conn_chan(r->conn);
	bool taken = xshim_eset_lock(&r->set->lock);

	r->parked = true;
	xshim_eset_unlist(r->set, r);
	if (ch)
		xshim_eset_count_waiters(r, ch, false, false, false);
	xshim_joint_changed(r);
	xshim_eset_leave(r->set, taken);
}

static int unpark(struct xshim_reg *r, const struct epoll_event *want)
{
	struct xshim_chan *ch = xshim_conn_chan(r->conn);
	bool taken = xshim_eset_lock(&r->set->lock);

	r->events = want->events;
	r->data = want->data.u64;
	r->disabled = false;
	if (!xshim_joint_enter(r)) {
		xshim_eset_leave(r->set, taken);
		return -EEXIST;
	}
	r->parked = false;
	ask_anew(r, want);
	/* another process may have taken them out for good */
	if ((xshim_joint_has_gone(r) || (r->inherited && !r->joint)) && ch)
		xshim_eset_put_bell_in(r, ch);
	if (!r->joint)
		r->inherited = false;
	xshim_eset_list(r->set, r);
	xshim_eset_kick(r->set, false);
	xshim_joint_pass_on(r);
	xshim_eset_leave(r->set, taken);
	return 0;
}

/* All that an exclusive entry may ask for. */
#define WITH_EXCLUSIVE (EPOLLEXCLUSIVE | EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET)

static int control(struct xshim_eset *set, struct xshim_conn *c, int op, int fd,
		   const struct epoll_event *ev)
{
	struct xshim_reg *r = find(set, c, fd);
	bool taken;
	int rc;

	if (!r && set->family) {
		xshim_joint_adopt_of(set, c);
		r = find(set, c, fd);
	}
	if (r && r->joint) {
		taken = xshim_eset_lock(&set->lock);
		xshim_joint_heed(r);
		xshim_eset_leave(set, taken);
		if (r->parked && !r->attached) {	/* it is not in the kernel's set any more */
			xshim_eset_drop(r, false);
			r = NULL;
		}
	}
	if (op != EPOLL_CTL_DEL && (ev->events & EPOLLEXCLUSIVE) && (op == EPOLL_CTL_MOD || (ev->events & ~WITH_EXCLUSIVE)))
		return -EINVAL;
	switch (op) {
	case EPOLL_CTL_ADD:
		if (r && r->parked)
			return unpark(r, ev);
		return r ? -EEXIST : add(set, c, fd, ev);
	case EPOLL_CTL_MOD:
		return r && !r->parked ? modify(r, ev) : -ENOENT;
	default:
		if (!r || r->parked)
			return -ENOENT;
		if (r->attached) {
			/* out of the kernel's set /then/ out of it: another process that puts it back after that knows that they went */
			if (xshim_joint_is_used(r))
				xshim_eset_take_out(r);
			park(r);
			return 0;
		}
		rc = libc.epoll_ctl(set->epfd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
		if (r->joint) {		/* kept, to hear of it when another process puts it back */
			taken = xshim_eset_lock(&set->lock);
			r->parked = true;
			xshim_joint_changed(r);
			xshim_eset_leave(set, taken);
		} else {
			xshim_eset_drop(r, true);
		}
		return rc;
	}
}

XSHIM_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct xshim_conn *c = xshim_conn_get(fd);
	struct xshim_obj *o;
	int rc, saved = errno;

	if (!c)
		return xshim_nest_ctl(epfd, op, fd, event);
	o = xshim_fd_get(epfd);
	if (!o || o->kind != XSHIM_OBJ_EPOLL ||
	    (op != EPOLL_CTL_DEL && !xshim_user_can_read(event, sizeof(*event))) || op < EPOLL_CTL_ADD ||
	    op > EPOLL_CTL_MOD || !xshim_eset_structure_lock()) {
		/* a set that we do not know: no ring may come, it could not be seen there */
		if (!o && op == EPOLL_CTL_ADD)
			xshim_conn_never(c, XSHIM_R_INHERITED);
		rc = libc.epoll_ctl(epfd, op, fd, event) < 0 ? -errno : 0;
	} else {
		rc = control((struct xshim_eset *)o, c, op, fd, event);
		xshim_eset_structure_unlock();
	}
	if (o)
		xshim_obj_put(o);
	xshim_conn_put(c);
	return (int)xshim_ret_kept(rc, saved);
}

void xshim_epoll_renumber(struct xshim_obj *o, int fd)
{
	struct xshim_eset *set = (struct xshim_eset *)o;
	int other;

	if (set->epfd != fd)
		return;
	other = xshim_fd_find(o);
	if (other >= 0)
		set->epfd = other;
}

void xshim_epoll_keep(int fd)
{
	struct xshim_obj *o = xshim_fd_get(fd);
	struct xshim_eset *set = (struct xshim_eset *)o;
	int own;

	if (!o)
		return;
	if (o->kind == XSHIM_OBJ_EPOLL && atomic_load_explicit(&o->fds, memory_order_relaxed) == 1 &&
	    atomic_load_explicit(&set->waiting, memory_order_seq_cst) && !set->kept) {
		own = xshim_privfd_dup(fd);
		if (own >= 0) {
			set->kept = true;
			set->epfd = own;
		}
	}
	xshim_obj_put(o);
}

static int track_set(int epfd)
{
	struct xshim_eset *set;

	if (epfd < 0)
		return epfd;
	set = (struct xshim_eset *)xshim_obj_new(XSHIM_OBJ_EPOLL);
	if (!set) {
		xshim_fd_clear(epfd);
		return epfd;
	}
	set->epfd = epfd;
	xshim_fd_set(epfd, &set->obj);
	xshim_obj_put(&set->obj);
	return epfd;
}

XSHIM_EXPORT int epoll_create(int size)
{
	return track_set(xshim_privfd_note(XSHIM_NUMBER(libc.epoll_create(size))));
}

XSHIM_EXPORT int epoll_create1(int flags)
{
	return track_set(xshim_privfd_note(XSHIM_NUMBER(libc.epoll_create1(flags))));
}
