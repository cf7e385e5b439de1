/* SPDX-License-Identifier: MIT */
/* eset.h - between eset.c (entries), answer.c (what is told of them) and epoll.c (waiting); the concept is in epoll.h. */
#ifndef XSHIM_ESET_H
#define XSHIM_ESET_H
#include "epoll.h"

/* Lower half of a tagged datum: kind of event, life and index of the entry. */
#define XSHIM_TAG_BELL 0x80000000u
#define XSHIM_TAG_KICK 0x40000000u
#define XSHIM_TAG_PEER 0x20000000u
#define XSHIM_TAG_NEST 0x10000000u	/* another set that is a member */
#define XSHIM_TAG_ENTRY 0x0fffffffu
/* All entry bits and XSHIM_TAG_KICK: the inner set has news. */
#define XSHIM_TAG_INNER (XSHIM_TAG_KICK | XSHIM_TAG_ENTRY)

uint32_t xshim_eset_magic(void);
extern _Atomic uint32_t xshim_eset_structure __attribute__((visibility("hidden")));	/* the lock of all sets, taken before a set's own */
bool xshim_eset_lock(_Atomic uint32_t *l);	/* false: this thread holds it already */
void xshim_eset_unlock(_Atomic uint32_t *l);
/*
 * A set's lock that was to be taken; taken: as xshim_eset_lock() said. If not, this is a handler on top of who has it, which goes on with it: all is
 * looked at in the next wait, as both may have been at the list.
 */
void xshim_eset_leave(struct xshim_eset *set, bool taken);
/* Put it at the end of the ready list. Set lock held. */
void xshim_eset_list(struct xshim_eset *set, struct xshim_reg *r);
/* All that has a ring, to be looked at anew. Set lock held. */
void xshim_eset_list_all(struct xshim_eset *set);
/* From now on tagged entries are in the inner set (epoll.h). Structure lock and set lock held. False: it cannot be made. */
bool xshim_eset_turn_in(struct xshim_eset *set);
/* Our datum for the entry; extra: XSHIM_TAG_*. */
uint64_t xshim_eset_datum(const struct xshim_reg *r, uint32_t extra);
/* The kernel's entry becomes ours, and the bell joins it. Structure lock and set lock held. */
void xshim_eset_put_bell_in(struct xshim_reg *r, struct xshim_chan *ch);
/* Out of the ready list and out of the hot ones. Set lock held. */
void xshim_eset_unlist(struct xshim_eset *set, struct xshim_reg *r);
/*
 * The program has taken it out, and another process may look at the set, where the connection may be off its ring already: there the
 * kernel's entry would tell of it, and be in the way of another one. Structure lock held.
 */
void xshim_eset_take_out(struct xshim_reg *r);
/* The entry's end; in_kernel: of the bells' entries, too. Structure lock held. */
void xshim_eset_drop(struct xshim_reg *r, bool in_kernel);
bool xshim_eset_structure_lock(void);	/* as xshim_eset_lock */
void xshim_eset_structure_unlock(void);
/* Nothing in it is on a ring: the kernel knows all that there is to tell of. */
bool xshim_eset_is_plain(struct xshim_eset *set);
/* Wake threads that sleep in the set, for what the kernel does not see. */
void xshim_eset_kick(struct xshim_eset *set, bool even_if_none);
/* Who waits by r counts, or does not any more. */
void xshim_eset_count_waiters(struct xshim_reg *r, struct xshim_chan *ch, bool rx, bool tx, bool edge);

#endif
