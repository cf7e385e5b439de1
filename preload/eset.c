/* SPDX-License-Identifier: MIT */
/* eset.c - entries of epoll sets: epoll_ctl, attach, detach, close (epoll.h). epoll.c waits. */
#include "eset.h"
#include "privfd.h"
#include "ready.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <unistd.h>

static _Atomic uint32_t structure;

bool xshim_eset_lock(_Atomic uint32_t *l)
{
	uint32_t none, self = xshim_tid();

	for (;;) {
		none = 0;
		if (atomic_compare_exchange_weak_explicit(l, &none, self, memory_order_acquire,
							  memory_order_relaxed))
			return true;
		if (none == self)
			return false;	/* a signal handler on top of the holder */
		if (none)
			sched_yield();
	}
}

void xshim_eset_unlock(_Atomic uint32_t *l)
{
	atomic_store_explicit(l, 0, memory_order_release);
}

/* Upper half of our data: 32 random bits of this process, so that no program's own datum looks like it. */
uint32_t xshim_eset_magic(void)
{
	static _Atomic uint32_t magic;
	uint32_t m = atomic_load_explicit(&magic, memory_order_relaxed);

	if (!m) {
		const void *random = (const void *)getauxval(AT_RANDOM);

		if (random)
			memcpy(&m, (const char *)random + 8, sizeof(m));
		m |= 0x80000001u;
		atomic_store_explicit(&magic, m, memory_order_relaxed);
	}
	return m;
}

static uint64_t datum(const struct xshim_reg *r, uint32_t extra)
{
	return (uint64_t)xshim_eset_magic() << 32 | extra | r->tag;
}

void xshim_eset_list(struct xshim_eset *set, struct xshim_reg *r)
{
	if (r->listed)
		return;
	r->listed = true;
	r->next_listed = NULL;
	if (set->list_tail)
		set->list_tail->next_listed = r;
	else
		set->list_head = r;
	set->list_tail = r;
}

/* Out of the ready list and out of the hot ones. */
static void unlist(struct xshim_eset *set, struct xshim_reg *r)
{
	struct xshim_reg **at = &set->list_head, *prev = NULL;

	xshim_eset_cool(set, r);
	if (!r->listed)
		return;
	for (; *at && *at != r; at = &(*at)->next_listed)
		prev = *at;
	if (*at)
		*at = r->next_listed;
	if (set->list_tail == r)
		set->list_tail = prev;
	r->listed = false;
}

bool xshim_eset_heat(struct xshim_eset *set, struct xshim_reg *r, uint64_t seen_head)
{
	r->seen_head = seen_head;
	if (r->hot_at)
		return true;
	if (set->hots == XSHIM_HOT)
		return false;
	set->hot[set->hots++] = r;
	r->hot_at = set->hots;
	return true;
}

void xshim_eset_cool(struct xshim_eset *set, struct xshim_reg *r)
{
	struct xshim_reg *last;

	if (!r->hot_at)
		return;
	last = set->hot[--set->hots];
	set->hot[r->hot_at - 1] = last;
	last->hot_at = r->hot_at;
	r->hot_at = 0;
}

void xshim_eset_kick(struct xshim_eset *set, bool even_if_none)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	uint64_t one = 1;
	int fd;

	if (!even_if_none && !atomic_load_explicit(&set->waiting, memory_order_seq_cst))
		return;
	if (!set->kick) {
		fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		fd = fd < 0 ? fd : xshim_privfd_move(fd);
		if (fd < 0)
			return;
		ev.data.u64 = (uint64_t)xshim_eset_magic() << 32 | XSHIM_TAG_KICK;
		if (libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
			xshim_privfd_close(fd);
			return;
		}
		set->kick = fd;
	}
	(void)libc.write(set->kick, &one, sizeof(one));
}

void xshim_eset_count_waiters(struct xshim_reg *r, struct xshim_chan *ch, bool rx, bool tx)
{
	if (r->rx_wait != rx) {
		r->rx_wait = rx;
		if (rx)
			xshim_wait_enter(ch, POLLIN);
		else
			xshim_wait_leave(ch, POLLIN);
	}
	if (r->tx_wait != tx) {
		r->tx_wait = tx;
		if (tx)
			xshim_wait_enter(ch, POLLOUT);
		else
			xshim_wait_leave(ch, POLLOUT);
	}
}

/* The kernel's entry becomes ours, and the bell joins it. Set lock held. */
static void put_bell_in(struct xshim_reg *r, struct xshim_chan *ch)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
				  .data.u64 = datum(r, 0) };
	struct xshim_eset *set = r->set;

	if (r->events & EPOLLEXCLUSIVE) {	/* cannot be modified */
		libc.epoll_ctl(set->epfd, EPOLL_CTL_DEL, r->fd, NULL);
		libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, r->fd, &ev);
	} else if (libc.epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &ev) < 0 && errno == ENOENT) {
		libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, r->fd, &ev);
	}
	if (!r->tagged) {
		r->tagged = true;
		atomic_fetch_add_explicit(&set->tagged, 1, memory_order_release);
	}
	ev.events = EPOLLIN | EPOLLET;
	ev.data.u64 = datum(r, XSHIM_TAG_BELL);
	r->bell = ch->local.fds[XSHIM_LOCAL_BELL];
	libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, r->bell, &ev);
	ev.events = EPOLLET;			/* POLLHUP only */
	ev.data.u64 = datum(r, XSHIM_TAG_PEER);
	r->peer_bell = ch->remote.bell;
	if (r->peer_bell >= 0)			/* xen: the bell tells that, too */
		libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, r->peer_bell, &ev);
	r->attached = true;
	r->tcp_dirty = true;
	r->kmask = 0;
	r->quiet = false;
	xshim_eset_list(set, r);
	xshim_eset_kick(set, false);
}

static void take_bell_out(struct xshim_reg *r)
{
	libc.epoll_ctl(r->set->epfd, EPOLL_CTL_DEL, r->bell, NULL);
	if (r->peer_bell >= 0)
		libc.epoll_ctl(r->set->epfd, EPOLL_CTL_DEL, r->peer_bell, NULL);
}

static void restore(struct xshim_reg *r)
{
	struct xshim_eset *set = r->set;
	struct epoll_event ev = { .events = r->events, .data.u64 = r->data };

	if (r->events & EPOLLONESHOT) {
		ev.data.u64 = datum(r, 0);	/* stays tagged */
		if (r->disabled)
			ev.events &= EPOLLONESHOT | EPOLLET;
	} else if (r->tagged) {
		r->tagged = false;
		atomic_fetch_sub_explicit(&set->tagged, 1, memory_order_release);
	}
	if (r->events & EPOLLEXCLUSIVE) {
		libc.epoll_ctl(set->epfd, EPOLL_CTL_DEL, r->fd, NULL);
		libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, r->fd, &ev);
	} else {
		libc.epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &ev);
	}
}

void xshim_epoll_attached(struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_reg *r;

	if (!xshim_eset_lock(&structure))
		return;
	for (r = c->regs; r; r = r->next_of_conn) {
		xshim_eset_lock(&r->set->lock);
		put_bell_in(r, ch);
		xshim_eset_unlock(&r->set->lock);
	}
	xshim_eset_unlock(&structure);
}

/*
 * May the kernel's entries of r go with this process's copy of the connection? Not while another process has one. But what the program
 * has taken out itself is nobody's; only a child cannot know what its parent has done with it since.
 */
static bool is_ours_to_drop(struct xshim_reg *r)
{
	return (r->parked && !r->inherited) || !r->conn->slot || xshim_slot_is_sole(r->conn->slot, getpid());
}

/* Structure lock held. */
static void drop_reg(struct xshim_reg *r, bool in_kernel)
{
	struct xshim_eset *set = r->set;
	struct xshim_reg **at;
	struct xshim_chan *ch = xshim_conn_chan(r->conn);

	xshim_eset_lock(&set->lock);
	unlist(set, r);
	if (r->attached && in_kernel)
		take_bell_out(r);
	if (ch)
		xshim_eset_count_waiters(r, ch, false, false);
	if (r->tagged)
		atomic_fetch_sub_explicit(&set->tagged, 1, memory_order_release);
	for (at = &set->regs; *at; at = &(*at)->next_of_set)
		if (*at == r) {
			*at = r->next_of_set;
			break;
		}
	for (at = &r->conn->regs; *at; at = &(*at)->next_of_conn)
		if (*at == r) {
			*at = r->next_of_conn;
			break;
		}
	xshim_eset_unlock(&set->lock);
	xshim_obj_put(&r->obj);
}

void xshim_epoll_detached(struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_reg *r, *next;

	if (!xshim_eset_lock(&structure))
		return;
	for (r = c->regs; r; r = next) {
		next = r->next_of_conn;
		if (r->parked) {
			libc.epoll_ctl(r->set->epfd, EPOLL_CTL_DEL, r->fd, NULL);
			drop_reg(r, true);
			continue;
		}
		xshim_eset_lock(&r->set->lock);
		if (r->attached) {
			take_bell_out(r);
			xshim_eset_count_waiters(r, ch, false, false);
			r->attached = false;
			unlist(r->set, r);
			restore(r);
		}
		xshim_eset_unlock(&r->set->lock);
	}
	xshim_eset_unlock(&structure);
}

void xshim_epoll_forget(struct xshim_conn *c, int fd)
{
	if (!c->regs || !xshim_eset_lock(&structure))
		return;
	while (c->regs) {
		struct xshim_reg *r = c->regs;
		bool ours = is_ours_to_drop(r);

		/*
		 * The close that follows takes the socket out of the set, unless somebody else has it open: xshimd, which
		 * looks at what it was sent, or a child from before the program took it out.
		 */
		if (ours && r->fd == fd && (r->parked || c->lent))
			libc.epoll_ctl(r->set->epfd, EPOLL_CTL_DEL, fd, NULL);
		drop_reg(r, ours);
	}
	xshim_eset_unlock(&structure);
}

void xshim_epoll_release(struct xshim_obj *o)
{
	struct xshim_eset *set = (struct xshim_eset *)o;

	if (set->kick)
		xshim_privfd_close(set->kick);
	if (!set->regs || !xshim_eset_lock(&structure))
		return;
	while (set->regs)
		drop_reg(set->regs, false);
	xshim_eset_unlock(&structure);
}

static void look_again(struct xshim_conn *c, uint32_t events, bool quiet)
{
	struct xshim_reg *r;

	if (!c->regs || !xshim_eset_lock(&structure))
		return;
	for (r = c->regs; r; r = r->next_of_conn) {
		if (r->parked || !(r->events & events))
			continue;
		xshim_eset_lock(&r->set->lock);
		if (r->attached && (!r->listed || !quiet)) {
			r->quiet = quiet;
			if (!quiet)
				r->tcp_dirty = true;
			xshim_eset_list(r->set, r);
			xshim_eset_kick(r->set, false);
		}
		xshim_eset_unlock(&r->set->lock);
	}
	xshim_eset_unlock(&structure);
}

void xshim_epoll_full(struct xshim_conn *c)
{
	look_again(c, EPOLLOUT, true);
}

void xshim_epoll_crossed(struct xshim_conn *c)
{
	look_again(c, EPOLLIN, false);
}

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
	int rc;

	if (!r)
		return libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
	r->set = set;
	r->conn = c;
	r->fd = fd;
	r->events = want->events;
	r->data = want->data.u64;
	r->tag = (r->obj.index & 0xffff) | (r->obj.life & 0x0fff) << 16;
	if (want->events & EPOLLONESHOT)
		ev.data.u64 = datum(r, 0);
	rc = libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev);
	if (rc < 0) {
		rc = -errno;
		xshim_obj_put(&r->obj);
		return rc;
	}
	xshim_eset_lock(&set->lock);
	if (want->events & EPOLLONESHOT) {
		r->tagged = true;
		atomic_fetch_add_explicit(&set->tagged, 1, memory_order_release);
	}
	r->next_of_conn = c->regs;
	c->regs = r;
	r->next_of_set = set->regs;
	set->regs = r;
	if (ch)
		put_bell_in(r, ch);
	xshim_eset_unlock(&set->lock);
	return 0;
}

static int modify(struct xshim_reg *r, const struct epoll_event *want)
{
	struct xshim_eset *set = r->set;
	int rc = 0;

	if ((want->events | r->events) & EPOLLEXCLUSIVE)
		return -EINVAL;
	xshim_eset_lock(&set->lock);
	r->events = want->events;
	r->data = want->data.u64;
	r->disabled = false;
	if (r->attached) {
		r->tcp_dirty = true;
		r->quiet = false;
		xshim_eset_list(set, r);
		xshim_eset_kick(set, false);
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
			ev.data.u64 = datum(r, 0);
		rc = libc.epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &ev) < 0 ? -errno : 0;
	}
	xshim_eset_unlock(&set->lock);
	return rc;
}

/*
 * Event loops take a connection out and put it back for each request; with three kernel entries behind it
 * that would cost seven system calls. Edge-triggered and with no wish stored, they are silent meanwhile.
 */
static void park(struct xshim_reg *r)
{
	struct xshim_chan *ch = xshim_conn_chan(r->conn);

	xshim_eset_lock(&r->set->lock);
	r->parked = true;
	unlist(r->set, r);
	if (ch)
		xshim_eset_count_waiters(r, ch, false, false);
	xshim_eset_unlock(&r->set->lock);
}

static int unpark(struct xshim_reg *r, const struct epoll_event *want)
{
	struct xshim_chan *ch = xshim_conn_chan(r->conn);

	xshim_eset_lock(&r->set->lock);
	r->parked = false;
	r->events = want->events;
	r->data = want->data.u64;
	r->disabled = false;
	r->quiet = false;
	r->tcp_dirty = true;
	if (r->inherited && ch) {	/* the parent may have taken them out for good */
		r->inherited = false;
		put_bell_in(r, ch);
	}
	xshim_eset_list(r->set, r);
	xshim_eset_kick(r->set, false);
	xshim_eset_unlock(&r->set->lock);
	return 0;
}

static int control(struct xshim_eset *set, struct xshim_conn *c, int op, int fd,
		   const struct epoll_event *ev)
{
	struct xshim_reg *r = find(set, c, fd);
	int rc;

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
			park(r);
			return 0;
		}
		rc = libc.epoll_ctl(set->epfd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
		drop_reg(r, true);
		return rc;
	}
}

XSHIM_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct xshim_conn *c = xshim_conn_get(fd);
	struct xshim_obj *o;
	int rc, saved = errno;

	if (!c)
		return libc.epoll_ctl(epfd, op, fd, event);
	o = xshim_fd_get(epfd);
	if (!o || o->kind != XSHIM_OBJ_EPOLL || (op != EPOLL_CTL_DEL && !event) ||
	    op < EPOLL_CTL_ADD || op > EPOLL_CTL_MOD || !xshim_eset_lock(&structure)) {
		/* a set that we do not know: no ring may come, it could not be seen there */
		if (!o && op == EPOLL_CTL_ADD)
			xshim_conn_never(c, XSHIM_R_INHERITED);
		rc = libc.epoll_ctl(epfd, op, fd, event) < 0 ? -errno : 0;
	} else {
		rc = control((struct xshim_eset *)o, c, op, fd, event);
		xshim_eset_unlock(&structure);
	}
	if (o)
		xshim_obj_put(o);
	xshim_conn_put(c);
	return (int)xshim_ret_kept(rc, saved);
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
	return track_set(libc.epoll_create(size));
}

XSHIM_EXPORT int epoll_create1(int flags)
{
	return track_set(libc.epoll_create1(flags));
}

void xshim_epoll_fork_prepare(void)
{
	(void)xshim_eset_lock(&structure);
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_EPOLL); i++) {
		struct xshim_eset *set = (struct xshim_eset *)xshim_obj_at(XSHIM_OBJ_EPOLL, i);

		if (set)
			(void)xshim_eset_lock(&set->lock);
	}
}

void xshim_epoll_fork_child(void)
{
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_REG); i++) {
		struct xshim_reg *r = (struct xshim_reg *)xshim_obj_at(XSHIM_OBJ_REG, i);

		if (r)
			r->inherited = true;
	}
}

void xshim_epoll_fork_done(void)
{
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_EPOLL); i++) {
		struct xshim_eset *set = (struct xshim_eset *)xshim_obj_at(XSHIM_OBJ_EPOLL, i);

		if (set)
			xshim_eset_unlock(&set->lock);
	}
	xshim_eset_unlock(&structure);
}
