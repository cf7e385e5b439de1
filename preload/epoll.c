/* SPDX-License-Identifier: MIT */
/* epoll.c - epoll_wait and its relatives: sleeping in a set, and what the kernel says of it (epoll.h). */
#include "answer.h"
#include "client.h"
#include "eset.h"
#include "fault.h"
#include "hot.h"
#include "joint.h"
#include "nest.h"
#include "options.h"
#include "process.h"
#include "raw.h"
#include "ready.h"
#include "sigact.h"
#include "told.h"
#include "unwind.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>

#define HINTS 64		/* an entry gives at most three at a time */
#define STRANGERS 16
/*
 * Of an answer that rings could fill, others have at least this part: who serves many on TCP beside many on rings would wait for
 * TCP half of the time if they had each second one.
 */
#define KERNEL_SHARE 4
#define ROUSED_FIRST 16		/* before the one is told of that has ended the sleep */
#define ROUSED_NEXT 64

enum call { WAIT, PWAIT, PWAIT2 };

struct wait {
	struct xshim_answer to;		/* the program */
	enum call call;			/* the program's */
	bool heard;			/* a bell has rung */
	bool slept;			/* until the kernel gave what is being taken in */
	bool inner;			/* the inner set has news */
	uint32_t nest[HINTS];		/* tags of members that the kernel says are ready */
	int nests;
	struct epoll_event stranger[STRANGERS];	/* hints of entries that another process may have added */
	int strangers;
	struct xshim_hot_wait spin;
};

/* Another process has emptied the bells of some, or taken a hint that was for us. Set lock held. */
static void list_news(struct xshim_eset *set)
{
	for (struct xshim_reg *r = set->regs; r; r = r->next_of_set)
		if (r->attached && !r->parked && !r->disabled && !r->listed && (xshim_hot_has_moved(r) || xshim_joint_has_hints(r))) {
			r->rearmed = true;
			xshim_eset_list(set, r);
		}
}

/* A tagged event. True: *ev is the program's, with what it is to be told. Set lock held. */
static bool take_hint(struct wait *w, struct epoll_event *ev)
{
	struct xshim_eset *set = w->to.set;
	uint32_t low = (uint32_t)ev->data.u64;
	struct xshim_chan *ch;
	struct xshim_reg *r;

	if (low == XSHIM_TAG_INNER) {
		w->inner = true;
		return false;
	}
	if (low & XSHIM_TAG_KICK) {
		set->kick_up = false;
		if (set->family)
			list_news(set);
		return false;
	}
	if ((low & XSHIM_TAG_NEST) && !(low & (XSHIM_TAG_BELL | XSHIM_TAG_PEER))) {
		if (w->nests < HINTS)
			w->nest[w->nests++] = low;
		return false;
	}
	r = (struct xshim_reg *)xshim_obj_at(XSHIM_OBJ_REG, low & 0xffff);
	if ((!r || r->set != set || r->tag != (low & XSHIM_TAG_ENTRY)) &&
	    (!set->family || !(r = xshim_joint_by_tag(set, low & XSHIM_TAG_ENTRY)))) {
		if (set->family && w->strangers < STRANGERS)
			w->stranger[w->strangers++] = *ev;
		return false;		/* it was deleted meanwhile */
	}
	if (!(low & XSHIM_TAG_BELL))
		xshim_joint_hint(r);
	r->hinted |= !(low & XSHIM_TAG_BELL) || (r->kmask && r->joint);
	xshim_joint_heed(r);
	ch = xshim_conn_chan(r->conn);
	if (r->parked) {
		if (!(low & XSHIM_TAG_BELL))
			r->tcp_dirty = true;
		if (!ch)	/* another process, or thread, has taken it out since it has left its ring here */
			return false;
		if (low & XSHIM_TAG_BELL) {
			w->heard = true;
			xshim_chan_heard(r->conn, ch);
		}
		if (low & XSHIM_TAG_PEER)
			atomic_store_explicit(&ch->gone, 1, memory_order_relaxed);
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
		/* if it was changed just now the kernel has it armed again, and this was before */
		(void)xshim_joint_claim(r, ev->events, &(struct xshim_sight){ 0 });
		ev->data.u64 = r->data;
		return true;
	}
	if (low & XSHIM_TAG_BELL) {
		w->heard = true;
		xshim_chan_heard(r->conn, ch);
	} else if (low & XSHIM_TAG_PEER) {
		xshim_ready_peer_hup(r->conn, ch, xshim_conn_fd(r->conn, r->fd));
	} else {
		r->tcp_dirty = true;
	}
	r->quiet = false;
	xshim_eset_list(set, r);
	return false;
}

/* The call that the program made is made, unless what is left of the time needs another: under a filter others may be forbidden. */
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

/* Without a wait, and no cancellation point: what has been taken already is to be told. */
static int kernel_ask(enum call call, int epfd, struct epoll_event *events, int max, const sigset_t *mask)
{
	if (call == WAIT)
		return raw_epoll_wait(epfd, events, max);
	return raw_epoll_pwait(call == PWAIT2, epfd, events, max, mask);
}

/* All that is in the inner set goes to the ready list. Set lock held. */
static void empty_inner(struct wait *w)
{
	struct epoll_event hints[16];
	int k, round = 0;

	w->inner = false;
	if (!w->to.set->inner)
		return;
	do {
		k = kernel_ask(w->call, w->to.set->inner, hints, 16, NULL);
		for (int i = 0; i < k; i++)
			(void)take_hint(w, &hints[i]);
	} while (k == 16 && ++round < HINTS);
}

/* Sort what the kernel gave, events[n..n+k): plain ones stay, tagged ones go to the ready list. */
static void sort(struct wait *w, int k)
{
	uint32_t magic = xshim_eset_magic();
	int from = w->to.n;

	for (int i = from; i < from + k; i++) {
		struct epoll_event ev = w->to.events[i];

		if (ev.data.u64 >> 32 == magic && !take_hint(w, &ev))
			continue;
		w->to.events[w->to.n++] = ev;
		w->to.plain = true;
	}
	if (w->inner)
		empty_inner(w);
}

/* Each hint has left its place in the answer. */
static void meet(struct wait *w)
{
	struct xshim_answer *to = &w->to;
	int n = w->strangers;

	xshim_joint_adopt(to->set);
	if (!xshim_eset_lock(&to->set->lock))
		return;
	for (int i = 0; i < n; i++) {
		struct epoll_event ev = w->stranger[i];

		w->strangers = 0;
		if ((take_hint(w, &ev) || (w->strangers && xshim_joint_is_stray(to->set, (uint32_t)ev.data.u64, &ev))) && to->n < to->max) {
			to->events[to->n++] = ev;
			to->plain = true;
		}
	}
	w->strangers = 0;
	if (to->n < to->max)
		xshim_answer_collect(to, to->max);
	xshim_eset_unlock(&to->set->lock);
}

/*
 * The kernel gave k events at events[n]. Several may be of one entry, and hints that are no event to the program: when they have
 * taken all the room, there may be more behind them.
 */
static void take_in(struct wait *w, int k)
{
	struct xshim_answer *to = &w->to;

	for (int round = 0; k > 0; round++) {
		int before = to->n, room = to->max - before, kept;
		bool went;

		if (!xshim_eset_lock(&to->set->lock))
			return;
		sort(w, k);
		if (w->slept) {
			w->slept = false;
			to->set->rousing = true;
			xshim_hot_rouse(to->set, ROUSED_FIRST);
		}
		kept = w->nests + w->strangers;
		if (to->n - before < k && to->n + kept < to->max)
			xshim_answer_collect(to, to->max - kept);
		xshim_eset_unlock(&to->set->lock);
		while (w->nests)
			if (xshim_nest_event(to->set, w->nest[--w->nests], &to->events[to->n])) {
				to->n++;
				to->plain = true;
			}
		if (w->strangers)
			meet(w);
		went = xshim_answer_take_away(to);
		if (w->heard)
			xshim_client_mail();
		w->heard = false;
		/* of one that went the kernel may now speak, too: not in the same answer */
		if (went || to->plain || k < room || to->n == to->max || round == HINTS)
			return;
		k = kernel_ask(w->call, to->set->epfd, to->events + to->n, to->max - to->n, NULL);
	}
}

static int wait_in(struct wait *w, int64_t timeout_ns, const sigset_t *mask)
{
	struct xshim_answer *to = &w->to;
	struct xshim_eset *set = to->set;
	uint64_t deadline = timeout_ns > 0 ? xshim_clock_ns() + (uint64_t)timeout_ns : 0;
	uint64_t began = 0;
	int64_t left, sleep_ns;
	int k, handlers = xshim_sigact_awake();
	bool capped;

	if (atomic_load_explicit(&set->kernel_first, memory_order_relaxed)) {
		k = kernel_ask(w->call, to->set->epfd, to->events, (to->max + KERNEL_SHARE - 1) / KERNEL_SHARE, NULL);
		if (k > 0)
			take_in(w, k);
		atomic_store_explicit(&set->kernel_first, false, memory_order_relaxed);
		if (to->n == to->max)
			return to->n;
	}
	for (;;) {
		if (set->members)
			xshim_nest_show_members(set);
		if (!xshim_eset_lock(&set->lock))
			return kernel_ask(w->call, to->set->epfd, to->events, to->max, mask);
		to->kernel_next = true;
		if (atomic_load_explicit(&set->again, memory_order_relaxed)) {
			atomic_store_explicit(&set->again, false, memory_order_seq_cst);
			xshim_eset_list_all(set);
		}
		if (set->inherited)
			xshim_joint_begin_inherited(set);
		if (set->rousing)
			xshim_hot_rouse(set, ROUSED_NEXT);
		xshim_hot_to_ready(set, set->hots, to->max, !w->spin.goes_on);
		xshim_answer_collect(to, to->max);
		if (!to->n && timeout_ns) {
			if (xshim_hot_spin(set, to->max, &w->spin))
				xshim_answer_collect(to, to->max);
			if (!to->n && !w->spin.goes_on)
				xshim_answer_arm_hot(to, false);
		}
		to->kernel_next = false;
		xshim_eset_unlock(&set->lock);
		xshim_answer_take_away(to);
		if (to->plain && to->n)
			return to->n;	/* the kernel would name the same descriptor again */
		left = timeout_ns;
		if (timeout_ns > 0) {
			uint64_t now = xshim_clock_ns();

			left = deadline > now ? (int64_t)(deadline - now) : 0;
		}
		if (to->n == to->max) {
			atomic_store_explicit(&set->kernel_first, true, memory_order_relaxed);
			return to->n;
		}
		sleep_ns = to->n || w->spin.goes_on ? 0 : left;
		capped = to->stall_ms >= 0 && (sleep_ns < 0 || sleep_ns > to->stall_ms * 1000000ll);
		if (capped)
			sleep_ns = to->stall_ms * 1000000ll;
		/* the busy wait was the program's sleep, too */
		if (sleep_ns && w->spin.how > XSHIM_SPIN_TIME && xshim_sigact_awake() != handlers)
			return -EINTR;
		if (sleep_ns && w->spin.how == XSHIM_SPIN_TIME)
			began = xshim_clock_ns();
		k = sleep_ns ? kernel_wait(w->call, to->set->epfd, to->events + to->n, to->max - to->n, sleep_ns, mask) :
			       kernel_ask(w->call, to->set->epfd, to->events + to->n, to->max - to->n, mask);
		if (k < 0)
			return to->n ? to->n : -errno;
		w->slept = sleep_ns != 0;
		if (began)
			began = xshim_clock_ns() - began;
		if (k > 0)
			take_in(w, k);
		if (began)
			xshim_spin_slept(&set->spin, to->n && !to->plain ? began : 0, xshim_opt.spin_us * 1000);
		began = 0;
		if (to->n)
			return to->n;
		if (k == 0 && !capped && !w->spin.goes_on)
			return 0;
		if (left == 0)
			return 0;
		xshim_hot_let(set, &w->spin);
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
	struct wait w = { .to = { .set = set, .events = good ? events : &none, .max = good ? max : 1 }, .call = call };
	int n;

	xshim_cancel_point();
	if (!good && xshim_eset_is_plain(set)) {
		n = kernel_wait(call, set->epfd, events, max, timeout_ns, mask);
		good = true;	/* by now */
		if (n > 0) {
			w.to.events = events;
			w.to.max = max;
			take_in(&w, n);
			n = w.to.n;
		} else if (n < 0) {
			n = -errno;
		}
	} else {
		n = wait_in(&w, timeout_ns, mask);
		xshim_hot_over(set, &w.spin);
	}
	if (!good && n > 0) {
		bool taken = xshim_eset_lock(&set->lock);

		xshim_answer_tell_again(&w.to);
		xshim_eset_leave(set, taken);
		n = -EFAULT;
	}
	return n;
}

/*
 * A look from outside: arm all, and leave what is ready for the wait that follows. show: the kernel will be asked for the set itself; else
 * only threads that sleep in it are to be woken.
 */
static void look(struct xshim_eset *set, bool show)
{
	struct epoll_event probe[16];
	struct wait w = { .to = { .set = set, .events = probe, .max = 16, .probe = true } };
	uint64_t count;

	if (!xshim_eset_lock(&set->lock))
		return;
	if (show)
		empty_inner(&w);
	xshim_answer_arm_hot(&w.to, true);
	w.to.arming = true;
	xshim_answer_collect(&w.to, w.to.max);
	if (w.to.n)
		xshim_answer_tell_again(&w.to);
	if (w.to.n && !(show && set->kick_up)) {
		xshim_eset_kick(set, true);
		set->kick_up = show;
	} else if (!w.to.n && show && set->kick) {
		(void)!raw_read(set->kick, &count, sizeof(count));
		set->kick_up = false;
	}
	xshim_eset_unlock(&set->lock);
	xshim_answer_take_away(&w.to);
	if (w.heard)
		xshim_client_mail();
}

void xshim_epoll_show_list(struct xshim_eset *set)
{
	look(set, true);
}

/* What the kernel has told us of, and there was no room for, is the other processes', too; and so is what others are to be told of as well. */
static void pass_on(struct xshim_eset *set)
{
	if (!xshim_eset_lock(&set->lock))
		return;
	for (struct xshim_reg *r = set->list_head; r; r = r->next_listed)
		if (r->attached && !r->quiet && !r->passed && (r->hinted || xshim_joint_is_for_one(r))) {
			r->passed = true;
			r->hinted = false;
			xshim_joint_pass_on(r);
		}
	xshim_eset_unlock(&set->lock);
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
	if (set->shared && set->list_head)
		pass_on(set);
}

static bool has_ours(const struct epoll_event *events, int n)
{
	uint32_t magic = xshim_eset_magic();

	for (int i = 0; i < n; i++)
		if (events[i].data.u64 >> 32 == magic)
			return true;
	return false;
}

struct waiter {
	struct xshim_eset *set;
	uint32_t was;		/* XSHIM_DEFERRED */
};

/* A wait that never returns (unwind.h). */
static void drop(void *arg)
{
	struct waiter *me = arg;

	atomic_fetch_sub_explicit(&me->set->waiting, 1, memory_order_seq_cst);
	xshim_obj_put(&me->set->obj);
	xshim_put_back(me->was);
}

static int do_wait(enum call call, int epfd, struct epoll_event *events, int max, int64_t timeout_ns, const sigset_t *mask)
{
	XSHIM_DEFERRED(was);
	struct xshim_obj *o = xshim_fd_get(epfd);
	struct xshim_eset *set = (struct xshim_eset *)o;
	struct waiter me = { set, was };
	struct _pthread_cleanup_buffer list;
	uint64_t began = 0, gone;
	int n, saved = errno;

	if (o && o->kind != XSHIM_OBJ_EPOLL) {
		xshim_obj_put(o);
		o = NULL;
	}
	if (!o || max <= 0 || max > INT_MAX / (int)sizeof(*events) || !events || xshim_user_is_no_mask(mask) ||
	    xshim_user_is_outside(events, (size_t)max * sizeof(*events))) {
		n = kernel_wait(call, epfd, events, max, timeout_ns, mask);
		n = n < 0 ? -errno : n;
		goto out;
	}
	if (xshim_client_has_mail() && xshim_client_try()) {
		xshim_client_service();
		xshim_client_drop();
	}
	_pthread_cleanup_push(&list, drop, &me);
	atomic_fetch_add_explicit(&set->waiting, 1, memory_order_seq_cst);
	if (!atomic_load_explicit(&set->tagged, memory_order_acquire)) {
		if (timeout_ns > 0)
			began = xshim_clock_ns();
		n = kernel_wait(call, epfd, events, max, timeout_ns, mask);
		n = n < 0 ? -errno : n;
		/* something may have been attached while we slept, or be so in a process that shares the set */
		if (n > 0 && (atomic_load_explicit(&set->tagged, memory_order_acquire) || has_ours(events, n))) {
			struct wait w = { .to = { .set = set, .events = events, .max = max }, .call = call };

			take_in(&w, n);
			gone = timeout_ns > 0 ? xshim_clock_ns() - began : 0;
			if (timeout_ns > 0)
				timeout_ns = gone < (uint64_t)timeout_ns ? timeout_ns - (int64_t)gone : 0;
			n = w.to.n ? w.to.n : wait_tagged(set, call, events, max, timeout_ns, mask);
		}
	} else {
		n = wait_tagged(set, call, events, max, timeout_ns, mask);
	}
	_pthread_cleanup_pop(&list, 0);
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
