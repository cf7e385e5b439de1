/* SPDX-License-Identifier: MIT */
/* eset.c - entries of epoll sets: lists, what is in the kernel, attach, detach, close (epoll.h). joint.c shares them by fork, epoll_ctl.c enters them, epoll.c waits. */
#include "eset.h"
#include "hot.h"
#include "joint.h"
#include "late.h"
#include "nest.h"
#include "privfd.h"
#include "process.h"
#include "raw.h"
#include "ready.h"
#include "told.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

uint64_t xshim_eset_datum(const struct xshim_reg *r, uint32_t extra)
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
void xshim_eset_unlist(struct xshim_eset *set, struct xshim_reg *r)
{
	struct xshim_reg **at = &set->list_head, *prev = NULL;

	xshim_hot_cool(set, r);
	r->cold = r->was_hot = false;
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

bool xshim_eset_is_plain(struct xshim_eset *set)
{
	const struct xshim_reg *r;

	if (set->members || !xshim_eset_lock(&set->lock))
		return false;
	for (r = set->regs; r && !r->attached; r = r->next_of_set)
		;
	xshim_eset_unlock(&set->lock);
	return !r;
}

void xshim_eset_kick(struct xshim_eset *set, bool even_if_none)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	uint64_t one = 1;
	int fd;

	if (!even_if_none && !atomic_load_explicit(&set->waiting, memory_order_seq_cst) &&
	    !atomic_load_explicit(&set->shown, memory_order_relaxed))
		return;
	if (!set->kick) {
		fd = libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
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
	(void)raw_write(set->kick, &one, sizeof(one));
}

static void count(_Atomic uint32_t *waits, uint32_t *have, uint32_t want)
{
	if (*have == want)
		return;
	atomic_fetch_add_explicit(waits, want - *have, memory_order_seq_cst);
	*have = want;
}

void xshim_eset_count_waiters(struct xshim_reg *r, struct xshim_chan *ch, bool rx, bool tx, bool edge)
{
	/* by another entry of the same connection who waits in another process may have to be told by the bell */
	bool joint = xshim_joint_is_for_one(r) && r->conn->regs == r && !r->next_of_conn;
	uint32_t unit = joint ? XSHIM_WAITS_JOINT : 1;

	count(&ch->waits->rx, &r->rx_wait, rx ? unit : 0);
	count(&ch->waits->tx, &r->tx_wait, tx ? unit : 0);
	if (r->edge_wait != edge) {
		r->edge_wait = edge;
		atomic_fetch_add_explicit(&ch->edge_waiters, edge ? 1 : (uint32_t)-1, memory_order_relaxed);
	}
}

static int tagged_in(const struct xshim_eset *set)
{
	return set->inner ? set->inner : set->epfd;
}

/*
 * The kernel knows the socket's entry by the number it was added by, also when that is closed and the socket is open under another one.
 * Then the number is made to mean the socket for a moment, if it is free: *lent, to be closed. False: the entry cannot be reached.
 */
static bool number_is_good(const struct xshim_reg *r, int *lent)
{
	int other;

	*lent = -1;
	if (xshim_fd_peek(r->fd) == &r->conn->obj)
		return true;
	other = xshim_conn_other_fd(r->conn, r->fd);
	if (other == r->fd || !xshim_active)
		return false;
	*lent = libc.fcntl(other, F_DUPFD_CLOEXEC, r->fd);
	if (*lent == r->fd)
		return true;
	if (*lent >= 0)
		raw_close(*lent);
	*lent = -1;
	return false;
}

/* The socket's entry is changed, and moved if it is elsewhere. An exclusive one cannot be modified. Set lock held. False: it stays as it is. */
static bool place(struct xshim_reg *r, bool inside, struct epoll_event *ev)
{
	struct xshim_eset *set = r->set;
	int from = r->inside ? set->inner : set->epfd, to = inside ? set->inner : set->epfd, lent;

	if (!number_is_good(r, &lent))
		return false;
	r->inside = inside;
	if (from == to && !(r->events & EPOLLEXCLUSIVE) &&
	    (libc.epoll_ctl(to, EPOLL_CTL_MOD, r->fd, ev) == 0 || errno != ENOENT))
		goto out;
	if (from != to || (r->events & EPOLLEXCLUSIVE))
		libc.epoll_ctl(from, EPOLL_CTL_DEL, r->fd, NULL);
	libc.epoll_ctl(to, EPOLL_CTL_ADD, r->fd, ev);
out:
	if (lent >= 0)
		raw_close(lent);
	return true;
}

/* Structure lock held. */
static bool some_are_below(const struct xshim_conn *c)
{
	const struct xshim_reg *r = c->regs;

	while (r && atomic_load_explicit(&r->set->lock, memory_order_relaxed) != xshim_tid())
		r = r->next_of_conn;
	return r;
}

bool xshim_epoll_is_below(struct xshim_conn *c)
{
	bool below;

	if (!c->regs)
		return false;
	if (!xshim_eset_structure_lock())
		return true;
	below = some_are_below(c);
	xshim_eset_structure_unlock();
	return below;
}

/* The set's lock, to list an entry. False: this is a handler on top of who has it. Then whoever waits next looks at all of them. */
static bool lock_to_list(struct xshim_eset *set)
{
	if (xshim_eset_lock(&set->lock))
		return true;
	xshim_eset_leave(set, false);
	return false;
}

void xshim_eset_list_all(struct xshim_eset *set)
{
	for (struct xshim_reg *r = set->regs; r; r = r->next_of_set) {
		if (!r->attached || r->parked)
			continue;
		r->tcp_dirty = true;
		r->quiet = false;
		xshim_eset_list(set, r);
	}
}

bool xshim_epoll_can_follow(struct xshim_conn *c)
{
	bool good = true;
	int lent;

	if (!c->regs || !xshim_eset_structure_lock())
		return true;
	for (struct xshim_reg *r = c->regs; r && good; r = r->next_of_conn) {
		good = number_is_good(r, &lent);
		if (lent >= 0)
			raw_close(lent);
	}
	xshim_eset_structure_unlock();
	return good;
}

/* The kernel's entry becomes ours, and the bell joins it. Set lock held. */
void xshim_eset_put_bell_in(struct xshim_reg *r, struct xshim_chan *ch)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
				  .data.u64 = xshim_eset_datum(r, 0) };
	struct xshim_eset *set = r->set;

	if (!set->inner && atomic_load_explicit(&set->shown, memory_order_relaxed))
		(void)xshim_eset_turn_in(set);
	place(r, set->inner, &ev);
	if (!r->tagged) {
		r->tagged = true;
		atomic_fetch_add_explicit(&set->tagged, 1, memory_order_release);
	}
	ev.events = EPOLLIN | EPOLLET;
	ev.data.u64 = xshim_eset_datum(r, XSHIM_TAG_BELL);
	r->bell = ch->local.fds[XSHIM_LOCAL_BELL];
	r->deaf = libc.epoll_ctl(tagged_in(set), EPOLL_CTL_ADD, r->bell, &ev) < 0 && errno != EEXIST;
	ev.events = EPOLLET;			/* POLLHUP only */
	ev.data.u64 = xshim_eset_datum(r, XSHIM_TAG_PEER);
	r->life = ch->remote.life;
	if (r->life >= 0 &&			/* xen: the bell tells that, too */
	    libc.epoll_ctl(tagged_in(set), EPOLL_CTL_ADD, r->life, &ev) < 0 && errno != EEXIST)
		r->deaf = true;
	r->attached = true;
	r->stuck = false;
	r->tcp_dirty = true;
	r->kmask = 0;
	r->quiet = false;
	xshim_eset_list(set, r);
	xshim_eset_kick(set, false);
}

static void take_bell_out(struct xshim_reg *r)
{
	int in = tagged_in(r->set);

	r->deaf = false;
	libc.epoll_ctl(in, EPOLL_CTL_DEL, r->bell, NULL);
	if (r->life >= 0)
		libc.epoll_ctl(in, EPOLL_CTL_DEL, r->life, NULL);
}

void xshim_eset_take_out(struct xshim_reg *r)
{
	bool taken = xshim_eset_lock(&r->set->lock);

	libc.epoll_ctl(r->inside ? r->set->inner : r->set->epfd, EPOLL_CTL_DEL, r->fd, NULL);
	take_bell_out(r);
	xshim_joint_went(r);
	xshim_eset_leave(r->set, taken);
}

bool xshim_eset_turn_in(struct xshim_eset *set)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd;

	if (set->inner)
		return true;
	fd = libc.epoll_create1(EPOLL_CLOEXEC);
	fd = fd < 0 ? fd : xshim_privfd_move(fd);
	if (fd < 0)
		return false;
	ev.data.u64 = (uint64_t)xshim_eset_magic() << 32 | XSHIM_TAG_INNER;
	if (libc.epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		xshim_privfd_close(fd);
		return false;
	}
	for (struct xshim_reg *r = set->regs; r; r = r->next_of_set)
		if (r->attached)
			take_bell_out(r);
	set->inner = fd;
	for (struct xshim_reg *r = set->regs; r; r = r->next_of_set)
		if (r->attached)
			xshim_eset_put_bell_in(r, xshim_conn_chan(r->conn));
	return true;
}

static void restore(struct xshim_reg *r)
{
	struct xshim_eset *set = r->set;
	struct epoll_event ev = { .events = r->events, .data.u64 = r->data };

	if (r->events & EPOLLONESHOT) {
		ev.data.u64 = xshim_eset_datum(r, 0);	/* stays tagged */
		if (r->disabled)
			ev.events &= EPOLLONESHOT | EPOLLET;
	}
	r->stuck = !place(r, false, &ev);
	if (r->stuck) {			/* as the kernel does after a change: what is so is told */
		xshim_eset_list(set, r);
		xshim_eset_kick(set, false);
	}
	if (!r->stuck && r->tagged && !(r->events & EPOLLONESHOT)) {
		r->tagged = false;
		atomic_fetch_sub_explicit(&set->tagged, 1, memory_order_release);
	}
}

/* As far as this process and others have said it is in the set. Structure lock held. */
static bool heed(struct xshim_reg *r)
{
	if (r->joint) {
		bool taken = xshim_eset_lock(&r->set->lock);

		xshim_joint_heed(r);
		xshim_eset_leave(r->set, taken);
	}
	return !r->parked;
}

bool xshim_epoll_attached(struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_reg *r, *next;
	bool heard = true;

	if (!xshim_eset_structure_lock())
		return true;
	for (r = c->regs; r; r = next) {
		next = r->next_of_conn;
		if (!heed(r)) {		/* nor is it in the kernel's */
			xshim_eset_drop(r, false);
			continue;
		}
		xshim_eset_lock(&r->set->lock);
		xshim_told_learn(r);
		xshim_joint_learnt(r);
		xshim_eset_put_bell_in(r, ch);
		heard = heard && !r->deaf;
		xshim_eset_unlock(&r->set->lock);
	}
	xshim_eset_structure_unlock();
	return heard;
}

/*
 * May the kernel's entries of r go with this process's copy of the connection? Not while another process has one. But what the program
 * has taken out itself is nobody's; only a child cannot know what its parent has done with it since, and where it is common another process may
 * be putting it back: it says so in the slot, and the kernel's entries would go after that. So they stay, silent, and are its, or go with its copy.
 */
static bool is_ours_to_drop(struct xshim_reg *r)
{
	return (r->parked && !r->inherited && !r->joint) || !r->conn->slot ||
	       xshim_slot_is_sole(r->conn->slot, xshim_sandbox_pid());
}

/* Structure lock held. */
void xshim_eset_drop(struct xshim_reg *r, bool in_kernel)
{
	struct xshim_eset *set = r->set;
	struct xshim_reg **at;
	struct xshim_chan *ch = xshim_conn_chan(r->conn);
	bool taken = xshim_eset_lock(&set->lock);

	xshim_eset_unlist(set, r);
	if (r->attached && in_kernel) {
		take_bell_out(r);
		xshim_joint_went(r);
	}
	if (ch)
		xshim_eset_count_waiters(r, ch, false, false, false);
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
	xshim_eset_leave(set, taken);
	xshim_obj_put(&r->obj);
}

void xshim_epoll_detached(struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_reg *r, *next;

	if (!xshim_eset_structure_lock())
		return;
	for (r = c->regs; r; r = next) {
		next = r->next_of_conn;
		if (!heed(r)) {
			libc.epoll_ctl(r->inside ? r->set->inner : r->set->epfd, EPOLL_CTL_DEL, r->fd, NULL);
			xshim_eset_drop(r, true);
			continue;
		}
		xshim_eset_lock(&r->set->lock);
		if (r->attached) {
			take_bell_out(r);
			xshim_eset_count_waiters(r, ch, false, false, false);
			r->attached = false;
			xshim_eset_unlist(r->set, r);
			restore(r);
		}
		xshim_eset_unlock(&r->set->lock);
	}
	xshim_eset_structure_unlock();
}

/*
 * The close that follows takes the socket out of the set, unless somebody else has it open: xshimd, which looks at what it was sent, a child
 * from before the program took it out, or a call that is inside.
 */
static void take_out(struct xshim_conn *c, const struct xshim_reg *r, int fd, bool in)
{
	if (r->fd == fd && (!in || atomic_load_explicit(&c->lent, memory_order_relaxed) || c->left_fd))
		libc.epoll_ctl(r->inside ? r->set->inner : r->set->epfd, EPOLL_CTL_DEL, fd, NULL);
}

void xshim_epoll_forget(struct xshim_conn *c, int fd)
{
	bool locked;

	if (!c->regs)
		return;
	locked = xshim_eset_structure_lock();
	if (!locked || some_are_below(c)) {
		/* What the call below is at stays; the number is closed now. */
		for (struct xshim_reg *r = c->regs; r; r = r->next_of_conn)
			if (is_ours_to_drop(r))
				take_out(c, r, fd, !r->parked);
		if (locked)
			xshim_eset_structure_unlock();
		xshim_late_add(c);
		return;
	}
	while (c->regs) {
		struct xshim_reg *r = c->regs;
		bool in = heed(r), ours = is_ours_to_drop(r);

		if (ours)
			take_out(c, r, fd, in);
		xshim_eset_drop(r, ours);
	}
	xshim_eset_structure_unlock();
}

void xshim_epoll_release(struct xshim_obj *o)
{
	struct xshim_eset *set = (struct xshim_eset *)o;

	if (set->kick)
		xshim_privfd_close(set->kick);
	if (set->inner)
		xshim_privfd_close(set->inner);
	xshim_nest_forget(set);
	if (set->regs && xshim_eset_structure_lock()) {
		while (set->regs)
			xshim_eset_drop(set->regs, false);
		xshim_eset_structure_unlock();
	}
	if (set->kept)
		xshim_privfd_close(set->epfd);
}

static void look_again(struct xshim_conn *c, uint32_t events, bool quiet)
{
	struct xshim_reg *r;

	if (!c->regs || !xshim_eset_structure_lock())
		return;
	for (r = c->regs; r; r = r->next_of_conn) {
		if ((!r->parked && !(r->events & events)) || !lock_to_list(r->set))
			continue;
		xshim_joint_untell(r, events, false);
		if (r->parked) {
			r->tcp_dirty |= !quiet;
		} else if (r->attached && (!r->listed || !quiet)) {
			r->quiet = quiet;
			if (!quiet)
				r->tcp_dirty = true;
			xshim_eset_list(r->set, r);
			xshim_eset_kick(r->set, false);
		}
		xshim_eset_unlock(&r->set->lock);
	}
	xshim_eset_structure_unlock();
}

void xshim_epoll_full(struct xshim_conn *c)
{
	look_again(c, XSHIM_EPOLL_WRITES, true);
}

void xshim_epoll_crossed(struct xshim_conn *c)
{
	look_again(c, XSHIM_EPOLL_READS, false);
}

void xshim_epoll_edge(struct xshim_conn *c)
{
	struct xshim_reg *r;

	if (!c->regs || !xshim_eset_structure_lock())
		return;
	for (r = c->regs; r; r = r->next_of_conn) {
		if (!lock_to_list(r->set))
			continue;
		if (r->attached && !r->parked && r->edge_wait && !r->listed) {
			r->rearmed = true;
			xshim_eset_list(r->set, r);
			xshim_eset_kick(r->set, false);
		}
		/* whoever is in the set elsewhere looks by itself: nobody takes the kick's edge but who waits in the set */
		if (r->attached && r->set->family)
			xshim_eset_kick(r->set, true);
		xshim_eset_unlock(&r->set->lock);
	}
	xshim_eset_structure_unlock();
}
