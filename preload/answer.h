/* SPDX-License-Identifier: MIT */
/*
 * answer.h - one answer of an epoll_wait: what the ready list of the set has to tell (epoll.h), in the program's own terms. epoll.c
 * begins it, and puts what the kernel names besides into it.
 *
 * Threads: one, the wait's. Locks: the set's lock held, unless it says otherwise. Fork: as the set.
 */
#ifndef XSHIM_ANSWER_H
#define XSHIM_ANSWER_H
#include "eset.h"

#define XSHIM_ANSWER_HELD 16

struct xshim_answer {
	struct xshim_eset *set;
	struct epoll_event *events;
	int max, n;
	uint64_t number;		/* 0: not yet given */
	bool arming;			/* about to sleep: arm all */
	bool kernel_next;		/* the kernel is asked before the program has its answer */
	bool probe;			/* nobody is told of it: xshim_answer_tell_again() follows */
	bool plain;			/* told of what the kernel would name again */
	int stall_ms;			/* look again after so long, -1: no need */
	struct xshim_conn *leaving[XSHIM_ANSWER_HELD]; /* held: their channel is to be taken away */
	int leavings;
};

/* Go once through the ready list, until max are told of. */
void xshim_answer_collect(struct xshim_answer *a, int max);
/*
 * Nobody looks at the set for a while: what is hot must ring. Who is told of something on the way does not sleep, and the rest may
 * stay hot, unless all.
 */
void xshim_answer_arm_hot(struct xshim_answer *a, bool all);
/* What it has told of is ready as if it had not. */
void xshim_answer_tell_again(const struct xshim_answer *a);
/* No lock held. True if a channel went: the kernel's entry is the program's own again, and may speak for itself. */
bool xshim_answer_take_away(struct xshim_answer *a);

#endif
