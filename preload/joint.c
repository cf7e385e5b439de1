/* SPDX-License-Identifier: MIT */
/* joint.c - entries of epoll sets that a fork has given to several processes (joint.h). */
#include "joint.h"
#include "channel.h"
#include "eset.h"
#include "process.h"
#include "told.h"

#include <string.h>
#include <unistd.h>

#define COUNT(word) ((word) >> 2)
#define ONE_CHANGE (1u << 2)

/*
 * False: a handler on top of who has it; the next look will do. Under a filter no call may be made for it: who waits for it looks
 * again by itself after a while.
 */
static bool lock(struct xshim_reg *r)
{
	struct xshim_lock *l = &r->conn->slot->joint_lock;

	return xshim_active ? xshim_lock_take(l, xshim_tid()) == 0 : xshim_lock_try(l, xshim_tid());
}

static void unlock(struct xshim_reg *r)
{
	if (xshim_active)
		xshim_lock_drop(&r->conn->slot->joint_lock);
	else
		(void)xshim_lock_let(&r->conn->slot->joint_lock);
}

static uint32_t get(_Atomic uint32_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void put(_Atomic uint32_t *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/* Its turn is over: who has looked before looks again. Joint lock. */
static void next_turn(struct xshim_reg *r)
{
	struct xshim_joint *j = r->joint;

	r->joint_turn = get(&j->turn) + 1;
	put(&j->turn, r->joint_turn);
}

/* Joint lock. */
static void publish(struct xshim_reg *r)
{
	struct xshim_joint *j = r->joint;
	uint32_t count = COUNT(get(&j->word)) + 1;

	put(&j->mask, 0);
	j->want[count & 1].data = r->data;
	j->want[count & 1].events = r->events;
	r->joint_word = count << 2 | (r->parked ? 0 : XSHIM_JOINT_IN) | (r->disabled ? XSHIM_JOINT_FIRED : 0);
	/* what is asked for /then/ that it is; for who takes the lock from one that was killed here */
	atomic_store_explicit(&j->word, r->joint_word, memory_order_release);
	next_turn(r);
}

/* As r has been told. Joint lock. */
static void note(struct xshim_reg *r)
{
	struct xshim_joint *j = r->joint;

	put(&j->mask, 0);
	j->kmask = r->told.kmask;
	j->fulls = r->told.fulls;
	j->head = r->told.head;
	j->arrived = r->told.arrived;
	j->told_hints = r->told.hints;
	/* of what state /then/ what, as above */
	atomic_store_explicit(&j->mask, r->told.mask, memory_order_release);
}

static bool is_of(const struct xshim_joint *j, const struct xshim_reg *r)
{
	return j->set == r->set->family && j->fd == r->fd;
}

static bool is_in_use(const struct xshim_joint *j, const struct xshim_conn *c)
{
	for (const struct xshim_reg *r = c->regs; r; r = r->next_of_conn)
		if (r->joint == j)
			return true;
	return false;
}

/* An entry of the slot for r. Joint lock. */
static struct xshim_joint *find(struct xshim_reg *r, bool make)
{
	struct xshim_slot *s = r->conn->slot;

	for (int i = 0; i < XSHIM_SLOT_JOINTS; i++)
		if (is_of(&s->joint[i], r))
			return &s->joint[i];
	for (int i = 0; i < XSHIM_SLOT_JOINTS && make; i++)
		if (!s->joint[i].set)
			return &s->joint[i];
	/* what is left of sets that are no more; only who has the connection alone can know */
	for (int i = 0; i < XSHIM_SLOT_JOINTS && make; i++)
		if (!is_in_use(&s->joint[i], r->conn) && xshim_slot_is_sole(s, xshim_sandbox_pid()))
			return &s->joint[i];
	return NULL;
}

/* The word before; 0: r is the first. */
static uint32_t join(struct xshim_reg *r, bool make)
{
	struct xshim_joint *j;
	uint32_t before = 0;

	if (r->joint || !r->conn->slot || !lock(r))
		return 0;
	j = find(r, make);
	if (j && !is_of(j, r)) {
		memset(j, 0, sizeof(*j));
		j->fd = r->fd;
		j->tag = r->tag;
		j->set = r->set->family;
	}
	if (j) {
		before = get(&j->word);
		r->joint = j;
		r->tag = j->tag;
		r->joint_hints = r->told.hints = get(&j->hints);
		r->joint_gone = get(&j->gone);
		publish(r);
		note(r);
	}
	unlock(r);
	return before;
}

/* A fork is about to share it. Structure lock and set lock held. */
static void begin(struct xshim_reg *r)
{
	struct xshim_chan *ch = xshim_conn_chan(r->conn);

	if (r->joint)
		return;
	(void)join(r, true);
	if (ch && r->joint)	/* in other units from now on */
		xshim_eset_count_waiters(r, ch, r->rx_wait, r->tx_wait, r->edge_wait);
}

uint32_t xshim_joint_rejoin(struct xshim_reg *r)
{
	/* nobody who has the connection alone needs one */
	return r->set->family && r->conn->slot ? join(r, !xshim_slot_is_sole(r->conn->slot, xshim_sandbox_pid())) : 0;
}

void xshim_joint_undo(struct xshim_reg *r, uint32_t before)
{
	struct xshim_joint *j = r->joint;

	if (!j || !lock(r))
		return;
	if (get(&j->word) == r->joint_word) {
		r->events = j->want[COUNT(before) & 1].events;
		r->data = j->want[COUNT(before) & 1].data;
		r->parked = !(before & XSHIM_JOINT_IN);
		r->disabled = before & XSHIM_JOINT_FIRED;
		publish(r);
	}
	unlock(r);
}

/* What the entry has become is taken over. Joint lock. */
static void take_over(struct xshim_reg *r)
{
	struct xshim_joint *j = r->joint;
	uint32_t word = get(&j->word);

	if (COUNT(word) != COUNT(r->joint_word)) {
		r->events = j->want[COUNT(word) & 1].events;
		r->data = j->want[COUNT(word) & 1].data;
		r->parked = !(word & XSHIM_JOINT_IN);
		r->quiet = r->rearmed = false;
		r->tcp_dirty = true;
	}
	r->disabled = word & XSHIM_JOINT_FIRED;
	r->told = (struct xshim_told){ .mask = get(&j->mask), .kmask = j->kmask, .fulls = j->fulls, .head = j->head,
				       .arrived = j->arrived, .hints = j->told_hints };
	r->joint_word = word;
	r->joint_turn = get(&j->turn);
}

void xshim_joint_heed_slow(struct xshim_reg *r)
{
	struct xshim_joint *j = r->joint;
	struct xshim_chan *ch = xshim_conn_chan(r->conn);
	uint32_t hints = get(&j->hints), before = r->joint_word;

	if (r->inherited && !get(&j->used))
		put(&j->used, 1);
	if (hints != r->joint_hints) {
		r->joint_hints = hints;
		r->tcp_dirty = true;
	}
	/* both change under the lock, and who claims looks at them under it again */
	if ((get(&j->turn) == r->joint_turn && get(&j->word) == r->joint_word) || !lock(r))
		return;
	take_over(r);
	unlock(r);
	if (COUNT(before) == COUNT(r->joint_word))
		return;
	if (!r->parked) {
		if (r->attached)
			xshim_eset_list(r->set, r);
		return;
	}
	xshim_eset_unlist(r->set, r);
	if (ch)
		xshim_eset_count_waiters(r, ch, false, false, false);
}

bool xshim_joint_enter(struct xshim_reg *r)
{
	bool in;

	if (!r->joint || !lock(r))
		return true;
	in = get(&r->joint->word) & XSHIM_JOINT_IN;
	if (!in) {
		r->parked = false;
		publish(r);
	}
	unlock(r);
	if (in)
		xshim_joint_heed_slow(r);
	return !in;
}

void xshim_joint_changed(struct xshim_reg *r)
{
	r->told.mask = 0;
	if (!r->joint || !lock(r))
		return;
	publish(r);
	unlock(r);
}

bool xshim_joint_claim(struct xshim_reg *r, uint32_t mask, const struct xshim_sight *s)
{
	struct xshim_joint *j = r->joint;
	bool ours;

	if (!xshim_joint_is_for_one(r) || !lock(r)) {
		xshim_told_note(r, mask, s);
		return true;
	}
	ours = get(&j->turn) == r->joint_turn && get(&j->word) == r->joint_word;
	if (ours) {
		xshim_told_note(r, mask, s);
		note(r);
		if (r->events & EPOLLONESHOT) {
			r->joint_word |= XSHIM_JOINT_FIRED;
			put(&j->word, r->joint_word);
		}
		next_turn(r);
	}
	unlock(r);
	return ours;
}

void xshim_joint_learnt(struct xshim_reg *r)
{
	if (!r->joint || !lock(r))
		return;
	r->told.hints = r->joint_hints;
	note(r);
	next_turn(r);
	unlock(r);
}

void xshim_joint_untell(struct xshim_reg *r, uint32_t events, bool unfire)
{
	struct xshim_joint *j = r->joint;

	r->told.mask &= ~events;
	if (!j || !lock(r))
		return;
	take_over(r);
	put(&j->mask, get(&j->mask) & ~events);
	r->told.mask = get(&j->mask);
	if (unfire) {
		r->joint_word &= ~XSHIM_JOINT_FIRED;
		put(&j->word, r->joint_word);
		r->disabled = false;
	}
	next_turn(r);
	unlock(r);
}

void xshim_joint_hint(struct xshim_reg *r)
{
	if (r->joint)
		atomic_fetch_add_explicit(&r->joint->hints, 1, memory_order_relaxed);
}

void xshim_joint_went(struct xshim_reg *r)
{
	if (r->joint)
		atomic_fetch_add_explicit(&r->joint->gone, 1, memory_order_release);
}

bool xshim_joint_has_gone(struct xshim_reg *r)
{
	uint32_t gone = r->joint ? atomic_load_explicit(&r->joint->gone, memory_order_acquire) : 0;
	bool yes = gone != r->joint_gone;

	r->joint_gone = gone;
	return yes;
}

bool xshim_joint_is_used(const struct xshim_reg *r)
{
	return r->joint && get(&r->joint->used) && !xshim_slot_is_sole(r->conn->slot, xshim_sandbox_pid());
}

void xshim_joint_pass_on(struct xshim_reg *r)
{
	struct xshim_chan *ch = xshim_conn_chan(r->conn);

	if (ch && xshim_joint_is_used(r))
		xshim_chan_ring_self(ch);
}

/* ---- what others have added ---- */

static void adopt(struct xshim_eset *set, struct xshim_conn *c, struct xshim_joint *j)
{
	struct xshim_reg *r = (struct xshim_reg *)xshim_obj_new(XSHIM_OBJ_REG);
	struct xshim_chan *ch = xshim_conn_chan(c);
	bool taken;

	if (!r)
		return;
	r->set = set;
	r->conn = c;
	r->fd = j->fd;
	r->tag = j->tag;
	r->joint = j;
	r->joint_gone = get(&j->gone);
	r->joint_word = get(&j->word) - ONE_CHANGE;	/* to be heeded */
	r->inherited = true;
	if (ch) {
		r->attached = true;
		r->bell = ch->local.fds[XSHIM_LOCAL_BELL];
		r->life = ch->remote.life;
	}
	taken = xshim_eset_lock(&set->lock);
	r->next_of_conn = c->regs;
	c->regs = r;
	r->next_of_set = set->regs;
	set->regs = r;
	xshim_joint_heed_slow(r);
	r->tagged = ch || (r->events & EPOLLONESHOT);
	if (r->tagged)
		atomic_fetch_add_explicit(&set->tagged, 1, memory_order_release);
	xshim_eset_leave(set, taken);
}

void xshim_joint_adopt_of(struct xshim_eset *set, struct xshim_conn *c)
{
	if (!set->family || !c->slot)
		return;
	for (int i = 0; i < XSHIM_SLOT_JOINTS; i++) {
		struct xshim_joint *j = &c->slot->joint[i];

		if ((get(&j->word) & XSHIM_JOINT_IN) && j->set == set->family && !is_in_use(j, c))
			adopt(set, c, j);
	}
}

static bool is_open(struct xshim_conn *c)
{
	return xshim_obj_at(XSHIM_OBJ_CONN, c->obj.index) && atomic_load_explicit(&c->obj.fds, memory_order_relaxed);
}

/* Structure lock held. */
static void drop_all_of(struct xshim_eset *set, struct xshim_conn *c)
{
	struct xshim_reg *r, *next;

	for (r = c->regs; r; r = next) {
		next = r->next_of_conn;
		if (r->set == set)
			xshim_eset_drop(r, true);
	}
}

void xshim_joint_adopt(struct xshim_eset *set)
{
	if (!xshim_eset_structure_lock())
		return;
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		struct xshim_conn *c = (struct xshim_conn *)xshim_obj_at(XSHIM_OBJ_CONN, i);

		if (!c)
			continue;
		/* Held /then/ whether a number holds it, too: else it may be at its end, and is left alone. */
		xshim_obj_hold(&c->obj);
		if (is_open(c)) {
			xshim_joint_adopt_of(set, c);
			/* Entered /then/ looked; pairs with the last number's end (xshim_fd_set()) /then/ xshim_epoll_forget()'s look. */
			atomic_thread_fence(memory_order_seq_cst);
			if (!is_open(c))
				drop_all_of(set, c);
		}
		xshim_conn_put(c);
	}
	xshim_eset_structure_unlock();
}

/* As it is asked for now, by whatever process. */
static struct xshim_joint *find_stray(struct xshim_eset *set, uint32_t tag, struct epoll_event *want)
{
	uint32_t used = xshim_own_arena.hdr ? get(&xshim_own_arena.hdr->high_water) : 0, word;

	for (uint32_t i = 0; i < used; i++) {
		struct xshim_slot *s = xshim_slot_at(&xshim_own_arena, i);

		for (int k = 0; s && k < XSHIM_SLOT_JOINTS; k++) {
			struct xshim_joint *j = &s->joint[k];

			word = atomic_load_explicit(&j->word, memory_order_acquire);
			if (j->set != set->family || j->tag != tag || !(word & XSHIM_JOINT_IN) || (word & XSHIM_JOINT_FIRED))
				continue;
			want->events = j->want[COUNT(word) & 1].events;
			want->data.u64 = j->want[COUNT(word) & 1].data;
			atomic_thread_fence(memory_order_acquire);
			/* twice changed meanwhile, it may be half of each; who has changed it looks by itself */
			return get(&j->word) == word ? j : NULL;
		}
	}
	return NULL;
}

bool xshim_joint_is_stray(struct xshim_eset *set, uint32_t low, struct epoll_event *ev)
{
	struct epoll_event want;
	struct xshim_joint *j = find_stray(set, low & XSHIM_TAG_ENTRY, &want);
	uint32_t said = low & (XSHIM_TAG_BELL | XSHIM_TAG_PEER) ? 0 : ev->events;

	if (!j)
		return false;
	/* counted /then/ the kick; who takes that looks at the counts */
	atomic_fetch_add_explicit(&j->hints, 1, memory_order_release);
	xshim_eset_kick(set, true);
	/* an end is what it is; what else the socket, or the bell, says may be the ring's affair */
	if (!(said & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) || (want.events & (EPOLLET | EPOLLONESHOT)))
		return false;
	said |= said & EPOLLIN ? EPOLLRDNORM : 0;
	ev->events = said & ((want.events & (EPOLLIN | EPOLLRDNORM | EPOLLRDHUP)) | EPOLLERR | EPOLLHUP);
	ev->data.u64 = want.data.u64;
	return ev->events;
}

struct xshim_reg *xshim_joint_by_tag(struct xshim_eset *set, uint32_t tag)
{
	struct xshim_reg *r;

	for (r = set->regs; r && r->tag != tag; r = r->next_of_set)
		;
	return r;
}

/* ---- fork ---- */

void xshim_joint_begin_inherited(struct xshim_eset *set)
{
	set->inherited = false;
	for (struct xshim_reg *r = set->regs; r; r = r->next_of_set) {
		xshim_joint_heed(r);	/* the others are to know that it is looked at here */
		if (r->attached && !r->parked && !r->disabled && !r->listed && xshim_joint_is_for_one(r)) {
			r->rearmed = true;
			xshim_eset_list(set, r);
		}
	}
}

void xshim_joint_fork(struct xshim_eset *set)
{
	static uint32_t families;

	if (!xshim_active)
		return;		/* a filter: all is the kernel's */
	if (!set->family)
		/* not what an image before this one called a set of its own: what is in a slot outlives an exec */
		set->family = (uint64_t)getpid() << 32 | (uint32_t)(xshim_eset_magic() + ++families);
	for (struct xshim_reg *r = set->regs; r; r = r->next_of_set)
		begin(r);
}
