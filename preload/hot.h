/* SPDX-License-Identifier: MIT */
/*
 * hot.h - entries of an epoll set that are watched in memory (epoll.h, "hot"): a circle, of which each wait looks at the next ones, so that
 * what is looked at is about what is found, however many there are.
 *
 * All: the set's lock held, if nothing else is said. Threads and fork: as the set.
 */
#ifndef XSHIM_HOT_H
#define XSHIM_HOT_H
#include "eset.h"

struct xshim_ready;

struct xshim_hot_wait {			/* of one call; zeroed */
	enum xshim_spin_how how;
	bool goes_on;
	uint64_t now, until;		/* xshim_clock_ns() at the last look, and when it is over */
};

/* dir: POLLIN | POLLOUT that r is for; rdy: a look at it that did not arm. */
bool xshim_hot_may(const struct xshim_eset *set, const struct xshim_reg *r, const struct xshim_ready *rdy, unsigned int dir);
/* r is hot from now on, the last to be looked at; seen_head: how far the last look saw. / It is neither hot nor resting any more. */
void xshim_hot_heat(struct xshim_eset *set, struct xshim_reg *r, uint64_t seen_head);
void xshim_hot_cool(struct xshim_eset *set, struct xshim_reg *r);
/* r was hot and is armed now, for a sleep. */
void xshim_hot_rest(struct xshim_eset *set, struct xshim_reg *r);
/* The set is awake: so many of those that rest are hot again. */
void xshim_hot_rouse(struct xshim_eset *set, int most);
/* Bytes have come by ring since it was looked at, as far as memory tells. */
bool xshim_hot_has_moved(const struct xshim_reg *r);
/* A hot entry goes to the ready list; to_be_armed: only because nobody will look at it for a while. */
void xshim_hot_goes(struct xshim_eset *set, struct xshim_reg *r, bool to_be_armed);
/*
 * So many looks at hot entries; those whose peer has moved go to the ready list, until there are max. age: one that has not, in
 * many of them, goes there, too, to be armed. True if one has moved.
 */
bool xshim_hot_to_ready(struct xshim_eset *set, int looks, int max, bool age);
/*
 * A busy wait on the hot entries, if one is due (xshim/spin.h). True if one has moved. w->goes_on: not yet, and a far wait is not over: the
 * kernel is to be asked what else there is, as often as after each near one, and xshim_hot_let() called, before it is called again.
 */
bool xshim_hot_spin(struct xshim_eset *set, int max, struct xshim_hot_wait *w);
/* No lock. A far wait lets others be run / has ended by something else. */
void xshim_hot_let(struct xshim_eset *set, struct xshim_hot_wait *w);
void xshim_hot_over(struct xshim_eset *set, struct xshim_hot_wait *w);

#endif
