/* SPDX-License-Identifier: MIT */
/*
 * hot.h - entries of an epoll set that are watched in memory (epoll.h, "hot"): a circle, of which each wait looks at the next ones, so that
 * what is looked at is about what is found, however many there are.
 *
 * All: the set's lock held. Threads and fork: as the set.
 */
#ifndef XSHIM_HOT_H
#define XSHIM_HOT_H
#include "eset.h"

/* r is hot from now on, the last to be looked at; seen_head: how far the last look saw. / It is not any more. */
void xshim_hot_heat(struct xshim_eset *set, struct xshim_reg *r, uint64_t seen_head);
void xshim_hot_cool(struct xshim_eset *set, struct xshim_reg *r);
/* A hot entry goes to the ready list; to_be_armed: only because nobody will look at it for a while. */
void xshim_hot_goes(struct xshim_eset *set, struct xshim_reg *r, bool to_be_armed);
/*
 * So many looks at hot entries; those whose peer has moved go to the ready list, until there are max. age: one that has not, in
 * many of them, goes there, too, to be armed. True if one has moved.
 */
bool xshim_hot_to_ready(struct xshim_eset *set, int looks, int max, bool age);
/* A bounded busy wait on the hot entries, while such waits have paid lately. True if one has moved. */
bool xshim_hot_spin(struct xshim_eset *set, int max);

#endif
