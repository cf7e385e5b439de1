/* SPDX-License-Identifier: MIT */
/* epoll.c - epoll_wait and its relatives: tagged events into the program's (epoll.h). */
#include "client.h"
#include "eset.h"
#include "fault.h"
#include "hot.h"
#include "nest.h"
#include "process.h"
#include "options.h"
#include "ready.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>

#define HELD 16
#define HINTS 64		/* an entry gives at most three at a time */
#define ARMED_AT_ONCE 32

enum call { WAIT, PWAIT, PWAIT2 };

struct wait {
	struct xshim_eset *set;
	enum call call;			/* the program's */
	struct epoll_event *events;
	int max, n;
	uint64_t number;		/* 0: not yet given */
	bool arming;			/* about to sleep: arm all */
	bool kernel_next;		/* the kernel is asked before the program has its answer */
	int stall_ms;			/* look again after so long, -1: no need */
	struct xshim_conn *leaving[HELD]; /* held: their channel is to be taken away */
	int leavings;
	bool heard;			/* a bell has rung */
	bool inner;			/* the inner set has news */
	bool plain;			/* told of what the kernel would name again */
	uint32_t nest[HINTS];		/* tags of members that the kernel says are ready */
	int nests;
};

/*
 * May r go unarmed until somebody is about to sleep? Only what comes on the ring can be seen without the
 * kernel, and only by a thread that will look. A process that sleeps in the same set has to hear the bell from who took it.
 */
static bool may_be_hot(struct wait *w, struct xshim_reg *r, const struct xshim_ready *rdy, unsigned int dir)
{
	return !w->arming && (dir & POLLIN) && !rdy->in_from_tcp &&
	       r->conn->slot->link.rx.state == XSHIM_RX_RING &&
	       (!(dir & POLLOUT) || (rdy->mask & POLLOUT)) &&
	       !(w->set->shared && xshim_slot_others_wait(r->conn->slot, xshim_conn_chan(r->conn)->waits, true, false)) &&
	       atomic_load_explicit(&w->set->waiting, memory_order_seq_cst) == 1;
}

/* What the program is to be told of r now. *hot: it was not armed; *goes: its channel will be taken away. Set lock held. */
static uint32_t evaluate(struct wait *w, struct xshim_reg *r, bool *hot, bool *goes)
{
	struct xshim_conn *c = r->conn;
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint32_t want = r->events & (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLRDNORM |
				     EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND);
	unsigned int dir = ((want & (EPOLLIN | EPOLLRDNORM)) ? POLLIN : 0) |
			   ((want & (EPOLLOUT | EPOLLWRNORM)) ? POLLOUT : 0);
	struct xshim_ready rdy;
	struct pollfd p;
	uint32_t mask;
	int stall, fd = xshim_conn_fd(c, r->fd);	/* the number of the entry may be closed */

	*hot = *goes = false;
	if (!ch)
		return 0;
	if (xshim_ready_look(c, ch, fd, 0, &rdy) < 0)
		r->tcp_dirty = true;
	*hot = !r->cold && may_be_hot(w, r, &rdy, dir);
	r->cold = false;
	if (*hot) {
		xshim_hot_heat(w->set, r, rdy.reach);
	} else {
		xshim_hot_cool(w->set, r);
		if (xshim_ready_look(c, ch, fd, dir ? dir | XSHIM_LOOK_EPOLL : 0, &rdy) < 0)
			r->tcp_dirty = true;
	}
	/* what the kernel said last holds until it says more; but an error and urgent data may have been taken */
	if (r->tcp_dirty || (r->kmask & (POLLERR | POLLPRI)) || ((dir & POLLIN) && rdy.in_from_tcp) || ((dir & POLLOUT) && rdy.out_from_tcp)) {
		p = (struct pollfd){ .fd = fd,
				     .events = (short)(rdy.tcp_events | POLLRDHUP | POLLPRI) };
		r->tcp_dirty = false;
		if (libc.poll(&p, 1, 0) < 0)
			p.revents = 0;
		r->kmask = (unsigned short)p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLPRI);
		mask = xshim_ready_result(c, ch, fd, &rdy, (unsigned short)p.revents);
	} else {
		mask = rdy.mask | r->kmask;
	}
	if (atomic_load_explicit(&c->detach_due, memory_order_acquire) && w->leavings < HELD) {
		xshim_obj_hold(&c->obj);
		w->leaving[w->leavings++] = c;
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
		if (stall >= 0 && (w->stall_ms < 0 || stall < w->stall_ms))
			w->stall_ms = stall;
	}
	return mask & (want | EPOLLERR | EPOLLHUP);
}

/* The same of an entry without a ring that has kept our tag, and is edge-triggered in the kernel whatever the program asked for. */
static uint32_t ask_kernel(const struct xshim_reg *r)
{
	struct pollfd p = { .fd = xshim_conn_fd(r->conn, r->fd), .events = (short)(r->events & 0xffff) };

	return libc.poll(&p, 1, 0) > 0 ? (unsigned short)p.revents : 0;
}

/* This answer names a descriptor of the connection already. Set lock held. */
static bool is_named(const struct wait *w, const struct xshim_conn *c)
{
	for (const struct xshim_reg *r = w->set->regs; r; r = r->next_of_set)
		if (r->conn == c && r->told_by == w->number)
			return true;
	return false;
}

/* Go once through the ready list, until max are told of. Set lock held. */
static void collect(struct wait *w, int max)
{
	struct xshim_eset *set = w->set;
	struct xshim_reg *r, *last = set->list_tail;
	uint32_t mask;
	bool stays, hot, goes;

	w->stall_ms = -1;
	if (!w->number)
		w->number = ++set->waits;
	while (w->n < max && (r = set->list_head)) {
		set->list_head = r->next_listed;
		if (!set->list_head)
			set->list_tail = NULL;
		r->listed = false;
		stays = goes = false;
		if ((r->attached || r->stuck) && !r->disabled) {
			int stall_before = w->stall_ms;
			bool told = r->rearmed && (r->events & EPOLLET) && !r->tcp_dirty;
			uint64_t seen = r->seen_head;

			mask = r->attached ? evaluate(w, r, &hot, &goes) : ask_kernel(r);
			/* the kernel is asked behind this, and tells of it together with the others; but not a second time */
			if (goes && w->kernel_next && !w->plain && !is_named(w, r->conn))
				mask = 0;
			else if (goes)
				w->plain = true;
			/* what has come since changes the head, seen after the wish was stored */
			if (told && r->seen_head == seen &&
			    !(mask & ~(EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM)))
				mask = 0;
			if (r->quiet && (r->events & EPOLLET) && r->seen_head == seen && !(mask & EPOLLOUT))
				mask = 0;
			r->quiet = r->rearmed = false;
			if (mask) {
				/* one answer names an entry once */
				if (r->told_by == w->number) {
					w->events[r->told_at].events |= mask;
				} else {
					r->told_by = w->number;
					r->told_at = w->n;
					w->events[w->n].events = mask;
					w->events[w->n++].data.u64 = r->data;
				}
				if (r->events & EPOLLONESHOT)
					r->disabled = true;
				else
					stays = !(r->events & EPOLLET);
			} else if (w->stall_ms != stall_before) {
				stays = true;
				r->quiet = true;
			}
		}
		if (stays)
			xshim_eset_list(set, r);
		if (r == last)
			break;
	}
}

/*
 * Nobody looks at the set for a while: what is hot must ring. Who is told of something on the way does not sleep, and the rest may
 * stay hot. Set lock held.
 */
static void arm_hot(struct wait *w, bool all)
{
	w->arming = true;
	while (w->set->hot && (all || !w->n)) {
		for (int i = 0; i < ARMED_AT_ONCE && w->set->hot; i++)
			xshim_hot_goes(w->set, w->set->hot, true);
		collect(w, w->max);
	}
	w->arming = false;
}

/* A tagged event. True: *ev is the program's, with what it is to be told. Set lock held. */
static bool take_hint(struct wait *w, struct epoll_event *ev)
{
	struct xshim_eset *set = w->set;
	uint32_t low = (uint32_t)ev->data.u64;
	struct xshim_reg *r;

	if (low == XSHIM_TAG_INNER) {
		w->inner = true;
		return false;
	}
	if (low & XSHIM_TAG_KICK) {
		set->kick_up = false;
		return false;
	}
	if ((low & XSHIM_TAG_NEST) && !(low & (XSHIM_TAG_BELL | XSHIM_TAG_PEER))) {
		if (w->nests < HINTS)
			w->nest[w->nests++] = low;
		return false;
	}
	r = (struct xshim_reg *)xshim_obj_at(XSHIM_OBJ_REG, low & 0xffff);
	if (!r || r->set != set || r->tag != (low & XSHIM_TAG_ENTRY))
		return false;		/* it was deleted meanwhile */
	if (r->parked) {
		if (low & XSHIM_TAG_BELL) {
			w->heard = true;
			atomic_store_explicit(&xshim_conn_chan(r->conn)->bell_maybe, 1, memory_order_release);
		} else {
			r->tcp_dirty = true;
		}
		if (low & XSHIM_TAG_PEER)
			atomic_store_explicit(&xshim_conn_chan(r->conn)->gone, 1, memory_order_relaxed);
		return false;
	}
	if (!r->attached) {
		if (r->stuck) {
			xshim_eset_list(set, r);
			return false;
		}
		/* ONESHOT over plain TCP; else it has left, and the kernel's entry speaks for itself */
		if (r->disabled || !(r->events & EPOLLONESHOT))
			return false;
		r->disabled = true;
		ev->data.u64 = r->data;
		return true;
	}
	if (low & XSHIM_TAG_BELL) {
		w->heard = true;
		atomic_store_explicit(&xshim_conn_chan(r->conn)->bell_maybe, 1, memory_order_release);
	} else if (low & XSHIM_TAG_PEER) {
		xshim_ready_peer_hup(r->conn, xshim_conn_chan(r->conn), xshim_conn_fd(r->conn, r->fd));
	} else {
		r->tcp_dirty = true;
	}
	r->quiet = false;
	xshim_eset_list(set, r);
	return false;
}

/* By the call that the program made, unless what is left of the time needs another; under a filter that may be forbidden. */
static int kernel_wait(enum call call, int epfd, struct epoll_event *events, int max, int64_t timeout_ns,
		       const sigset_t *mask)
{
	struct timespec ts;
	int ms = -1;

	if (libc.epoll_pwait2 && (call == PWAIT2 || (timeout_ns > 0 && timeout_ns % 1000000 && xshim_active))) {
		ts.tv_sec = (time_t)(timeout_ns / 1000000000);
		ts.tv_nsec = (long)(timeout_ns % 1000000000);
		return libc.epoll_pwait2(epfd, events, max, timeout_ns < 0 ? NULL : &ts, mask);
	}
	if (timeout_ns >= 0)
		ms = timeout_ns / 1000000 >= INT_MAX ? INT_MAX : (int)((timeout_ns + 999999) / 1000000);
	return call == WAIT ? libc.epoll_wait(epfd, events, max, ms) : libc.epoll_pwait(epfd, events, max, ms, mask);
}

/* All that is in the inner set goes to the ready list. Set lock held. */
static void empty_inner(struct wait *w)
{
	struct epoll_event hints[16];
	int k, round = 0;

	w->inner = false;
	if (!w->set->inner)
		return;
	do {
		k = kernel_wait(w->call, w->set->inner, hints, 16, 0, NULL);
		for (int i = 0; i < k; i++)
			(void)take_hint(w, &hints[i]);
	} while (k == 16 && ++round < HINTS);
}

/* Sort what the kernel gave, events[n..n+k): plain ones stay, tagged ones go to the ready list. */
static void sort(struct wait *w, int k)
{
	uint32_t magic = xshim_eset_magic();
	int from = w->n;

	for (int i = from; i < from + k; i++) {
		struct epoll_event ev = w->events[i];

		if (ev.data.u64 >> 32 == magic && !take_hint(w, &ev))
			continue;
		w->events[w->n++] = ev;
		w->plain = true;
	}
	if (w->inner)
		empty_inner(w);
}

/* True if a channel went: the kernel's entry is the program's own again, and may speak for itself. */
static bool take_away(struct wait *w)
{
	bool some = w->leavings > 0;

	for (int i = 0; i < w->leavings; i++) {
		xshim_chan_detach(w->leaving[i]);
		xshim_conn_put(w->leaving[i]);
	}
	w->leavings = 0;
	return some;
}

/*
 * The kernel gave k events at events[n]. Several may be of one entry, and hints that are no event to the program: when they have
 * taken all the room, there may be more behind them.
 */
static void take_in(struct wait *w, int k)
{
	for (int round = 0; k > 0; round++) {
		int before = w->n, room = w->max - before;
		bool went;

		if (!xshim_eset_lock(&w->set->lock))
			return;
		sort(w, k);
		if (w->n - before < k && w->n + w->nests < w->max)
			collect(w, w->max - w->nests);
		xshim_eset_unlock(&w->set->lock);
		while (w->nests)
			if (xshim_nest_event(w->set, w->nest[--w->nests], &w->events[w->n])) {
				w->n++;
				w->plain = true;
			}
		went = take_away(w);
		if (w->heard)
			xshim_client_mail();
		w->heard = false;
		/* of one that went the kernel may now speak, too: not in the same answer */
		if (went || w->plain || k < room || w->n == w->max || round == HINTS)
			return;
		k = kernel_wait(w->call, w->set->epfd, w->events + w->n, w->max - w->n, 0, NULL);
	}
}

static int wait_in(struct wait *w, int64_t timeout_ns, const sigset_t *mask)
{
	struct xshim_eset *set = w->set;
	uint64_t deadline = timeout_ns > 0 ? xshim_clock_ns() + (uint64_t)timeout_ns : 0;
	int64_t left, sleep_ns;
	bool capped;
	int k;

	if (atomic_load_explicit(&set->kernel_first, memory_order_relaxed)) {
		k = kernel_wait(w->call, w->set->epfd, w->events, w->max, 0, NULL);
		if (k > 0)
			take_in(w, k);
		atomic_store_explicit(&set->kernel_first, false, memory_order_relaxed);
		if (w->n == w->max)
			return w->n;
	}
	for (;;) {
		if (set->members)
			xshim_nest_show_members(set);
		if (!xshim_eset_lock(&set->lock))
			return kernel_wait(w->call, w->set->epfd, w->events, w->max, 0, mask);
		w->kernel_next = true;
		xshim_hot_to_ready(set, set->hots, w->max, true);
		collect(w, w->max);
		if (!w->n && timeout_ns) {
			if (xshim_hot_spin(set, w->max))
				collect(w, w->max);
			if (!w->n)
				arm_hot(w, false);
		}
		w->kernel_next = false;
		xshim_eset_unlock(&set->lock);
		take_away(w);
		if (w->plain && w->n)
			return w->n;	/* the kernel would name the same descriptor again */
		left = timeout_ns;
		if (timeout_ns > 0) {
			uint64_t now = xshim_clock_ns();

			left = deadline > now ? (int64_t)(deadline - now) : 0;
		}
		if (w->n == w->max) {
			atomic_store_explicit(&set->kernel_first, true, memory_order_relaxed);
			return w->n;
		}
		sleep_ns = w->n ? 0 : left;
		capped = w->stall_ms >= 0 && (sleep_ns < 0 || sleep_ns > w->stall_ms * 1000000ll);
		if (capped)
			sleep_ns = w->stall_ms * 1000000ll;
		k = kernel_wait(w->call, w->set->epfd, w->events + w->n, w->max - w->n, sleep_ns, mask);
		if (k < 0)
			return w->n ? w->n : -errno;
		if (k > 0)
			take_in(w, k);
		if (w->n)
			return w->n;
		if (k == 0 && !capped)
			return 0;
		if (left == 0)
			return 0;
	}
}

/* What the wait has told of is ready as if it had not. Set lock held. */
static void tell_again(const struct wait *w)
{
	for (struct xshim_reg *r = w->set->regs; r; r = r->next_of_set)
		if (r->told_by == w->number) {
			r->disabled = false;
			xshim_eset_list(w->set, r);
		}
}

/*
 * timeout_ns < 0: for ever. Returns a count or -errno. Events that cannot be stored are not taken: the kernel says EFAULT, and has
 * them the next time.
 */
static int wait_tagged(struct xshim_eset *set, enum call call, struct epoll_event *events, int max, int64_t timeout_ns,
		       const sigset_t *mask)
{
	/* before the first ring only the kernel stores */
	bool good = !xshim_fault_is_caught() || xshim_user_can_write(events);
	struct epoll_event none;
	struct wait w = { .set = set, .call = call, .events = good ? events : &none, .max = good ? max : 1 };
	int n;

	if (!good && xshim_eset_is_plain(set)) {
		n = kernel_wait(call, set->epfd, events, max, timeout_ns, mask);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		good = true;	/* by now */
		w.events = events;
		w.max = max;
		take_in(&w, n);
		n = w.n;
	} else {
		n = wait_in(&w, timeout_ns, mask);
	}
	if (good || n <= 0)
		return n;
	xshim_eset_lock(&set->lock);
	tell_again(&w);
	xshim_eset_unlock(&set->lock);
	return -EFAULT;
}

/*
 * A look from outside: arm all, and leave what is ready for the wait that follows. show: the kernel will be asked for the set itself; else
 * only threads that sleep in it are to be woken.
 */
static void look(struct xshim_eset *set, bool show)
{
	struct epoll_event probe[16];
	struct wait w = { .set = set, .events = probe, .max = 16 };
	uint64_t count;

	if (!xshim_eset_lock(&set->lock))
		return;
	if (show)
		empty_inner(&w);
	arm_hot(&w, true);
	w.arming = true;
	collect(&w, w.max);
	if (w.n)
		tell_again(&w);
	if (w.n && !(show && set->kick_up)) {
		xshim_eset_kick(set, true);
		set->kick_up = show;
	} else if (!w.n && show && set->kick) {
		(void)!libc.read(set->kick, &count, sizeof(count));
		set->kick_up = false;
	}
	xshim_eset_unlock(&set->lock);
	take_away(&w);
	if (w.heard)
		xshim_client_mail();
}

void xshim_epoll_show_list(struct xshim_eset *set)
{
	look(set, true);
}

/*
 * Others sleep in the set while we go back to the program, or ask from outside whether it is ready: nothing may be left to our next look,
 * and what is level-triggered and still ready is theirs, too. As the kernel does it, one wakes the next.
 */
static void leave_set(struct xshim_eset *set)
{
	bool others = atomic_fetch_sub_explicit(&set->waiting, 1, memory_order_seq_cst) > 1;
	bool shown = atomic_load_explicit(&set->shown, memory_order_relaxed);

	if ((others && set->hots) || ((others || shown) && set->list_head))
		look(set, shown);
}

static bool has_ours(const struct epoll_event *events, int n)
{
	uint32_t magic = xshim_eset_magic();

	for (int i = 0; i < n; i++)
		if (events[i].data.u64 >> 32 == magic)
			return true;
	return false;
}

static int do_wait(enum call call, int epfd, struct epoll_event *events, int max, int64_t timeout_ns, const sigset_t *mask)
{
	struct xshim_obj *o = xshim_fd_get(epfd);
	struct xshim_eset *set = (struct xshim_eset *)o;
	uint64_t began = 0, gone;
	int n, saved = errno;

	if (o && o->kind != XSHIM_OBJ_EPOLL) {
		xshim_obj_put(o);
		o = NULL;
	}
	if (!o || max <= 0 || max > INT_MAX / (int)sizeof(*events) || !events ||
	    xshim_user_is_outside(events, (size_t)max * sizeof(*events))) {
		n = kernel_wait(call, epfd, events, max, timeout_ns, mask);
		n = n < 0 ? -errno : n;
		goto out;
	}
	if (xshim_client_has_mail() && xshim_client_try()) {
		xshim_client_service();
		xshim_client_drop();
	}
	atomic_fetch_add_explicit(&set->waiting, 1, memory_order_seq_cst);
	if (!atomic_load_explicit(&set->tagged, memory_order_acquire)) {
		if (timeout_ns > 0)
			began = xshim_clock_ns();
		n = kernel_wait(call, epfd, events, max, timeout_ns, mask);
		n = n < 0 ? -errno : n;
		/* something may have been attached while we slept, or be so in a process that shares the set */
		if (n > 0 && (atomic_load_explicit(&set->tagged, memory_order_acquire) || has_ours(events, n))) {
			struct wait w = { .set = set, .call = call, .events = events, .max = max };

			take_in(&w, n);
			gone = timeout_ns > 0 ? xshim_clock_ns() - began : 0;
			if (timeout_ns > 0)
				timeout_ns = gone < (uint64_t)timeout_ns ? timeout_ns - (int64_t)gone : 0;
			n = w.n ? w.n : wait_tagged(set, call, events, max, timeout_ns, mask);
		}
	} else {
		n = wait_tagged(set, call, events, max, timeout_ns, mask);
	}
	leave_set(set);
out:
	if (o)
		xshim_obj_put(o);
	errno = saved;
	return n;
}

static int64_t ms_to_ns(int ms)
{
	return ms < 0 ? -1 : ms * 1000000ll;
}

XSHIM_EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	return (int)xshim_ret(do_wait(WAIT, epfd, events, max, ms_to_ns(timeout), NULL));
}

XSHIM_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
			     const sigset_t *mask)
{
	return (int)xshim_ret(do_wait(PWAIT, epfd, events, max, ms_to_ns(timeout), mask));
}

XSHIM_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
			      const struct timespec *timeout, const sigset_t *mask)
{
	struct xshim_obj *o = xshim_fd_peek(epfd);
	int64_t ns = -1;

	/* what is wrong with the arguments the kernel says best */
	if (!o || o->kind != XSHIM_OBJ_EPOLL || (timeout && !xshim_user_can_read(timeout, sizeof(*timeout))) ||
	    (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)))
		return libc.epoll_pwait2(epfd, events, max, timeout, mask);
	if (timeout)
		ns = timeout->tv_sec > 9000000000ll ? -1 :
			     timeout->tv_sec * 1000000000ll + timeout->tv_nsec;
	return (int)xshim_ret(do_wait(PWAIT2, epfd, events, max, ns, mask));
}
