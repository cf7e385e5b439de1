/* SPDX-License-Identifier: MIT */
/* eset_fork.c - epoll sets over a fork: its locks, and what a child does not know of its entries (epoll.h). */
#include "eset.h"
#include "joint.h"

/*
 * A fork by a handler, on top of a call of its thread that has some of the locks, or is in a fork itself: those are not its to give back.
 * In the child that call goes on, as another thread. Under the structure lock, whoever has taken it.
 */
static uint32_t fork_depth, structure_forked, forker;

void xshim_epoll_fork_prepare(void)
{
	bool taken = xshim_eset_structure_lock();

	forker = xshim_tid();
	fork_depth++;
	if (taken)
		structure_forked = fork_depth;
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_EPOLL); i++) {
		struct xshim_eset *set = (struct xshim_eset *)xshim_obj_at(XSHIM_OBJ_EPOLL, i);

		if (!set)
			continue;
		set->shared = true;
		if (!xshim_eset_lock(&set->lock))
			continue;
		set->forked = fork_depth;
		xshim_joint_fork(set);
	}
}

void xshim_epoll_fork_child(void)
{
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_REG); i++) {
		struct xshim_reg *r = (struct xshim_reg *)xshim_obj_at(XSHIM_OBJ_REG, i);

		if (r)
			r->inherited = r->set->inherited = true;
	}
}

/* It was taken below, by the thread that we are the child's copy of. */
static void inherit_lock(_Atomic uint32_t *l, uint32_t from)
{
	if (atomic_load_explicit(l, memory_order_relaxed) == from)
		atomic_store_explicit(l, xshim_tid(), memory_order_relaxed);
}

void xshim_epoll_fork_done(void)
{
	uint32_t depth = fork_depth--, from = forker;

	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_EPOLL); i++) {
		struct xshim_eset *set = (struct xshim_eset *)xshim_obj_at(XSHIM_OBJ_EPOLL, i);

		if (!set)
			continue;
		if (set->forked == depth) {
			set->forked = 0;
			xshim_eset_unlock(&set->lock);
		} else {
			inherit_lock(&set->lock, from);
		}
	}
	if (structure_forked == depth) {
		structure_forked = 0;
		xshim_eset_structure_unlock();
	} else {
		inherit_lock(&xshim_eset_structure, from);
	}
}
