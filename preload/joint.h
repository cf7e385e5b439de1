/* SPDX-License-Identifier: MIT */
/*
 * joint.h - entries of epoll sets that a fork has given to several processes (struct xshim_joint).
 *
 * To the kernel a set is one, whoever has it: an edge is told to one process, one-shot fires once, and what one process changes by
 * epoll_ctl is changed. Each process has a view of its own of an entry (struct xshim_reg); what the views have to agree on is in the
 * connection's slot from the first fork on, with the entry in it. Before an entry is told of or changed its view heeds what others have done to
 * it, and who tells claims that under the lock: if another has told of it, or changed it, since, the look is made anew.
 *
 * The kernel's hints (eset.h) go to one process, as the set's entries in the kernel are common, too: whoever takes one finds by itself what
 * is to be told. A process that never looks at what it has inherited costs the others no call.
 *
 * An entry that is made after the fork has a view in another process once that hears of it, by a hint with a tag that it does not know or by
 * an epoll_ctl of its own. One too many of a connection is of one process, and so is one of a connection that another does not have: what
 * the kernel says of them there is dropped.
 *
 * To the kernel an entry is the set's while any process has the connection open, so it wakes also who has closed it: what is told of edges, or
 * once, that process is told, and the others are not; what is level-triggered all of them are. So a process that takes a hint of such an entry
 * counts it for the others and kicks the set, for one that sleeps there; and it tells its program of an end, which is all that it can know without
 * the ring, if the entry is level-triggered. With that it leaves the wait, and the kick is another's. Where it goes on waiting it may be the one that
 * takes its own kick, as the kernel gives that to whoever comes first, and to give it anew until another has it would be to spin while no
 * other waits; what was counted is seen then when one is woken by anything else.
 *
 * The kernel has given a hint when its call returns, before anything of ours can be written. A process that is killed between that and its telling
 * the others (xshim_joint_hint(), xshim_joint_pass_on(), the bell that is rung again) takes it with it. Of edges that is what the kernel does: it has told
 * them to the dead. A level-triggered entry it would tell to the next one that sleeps; here that hears of it when the
 * connection is next looked at by any process, or the socket says something, but not by more that comes by ring, as the wish was crossed. The time is that from
 * epoll_wait's return to the end of the look, without a sleep. To close it the others would have to hear of the death itself, by
 * a descriptor of each process in each set.
 *
 * Locks: all with the lock of the entry's set held; takes joint_lock of the slot, for a few stores, and pass_on none. Threads: any.
 * Fork: it is what this is about; eset_fork.c begins and ends it.
 */
#ifndef XSHIM_JOINT_H
#define XSHIM_JOINT_H
#include "epoll.h"

struct xshim_sight;

/* A fork begins: the set's entries get what they will have in common with the child's. Lock of the set, and of all sets. */
void xshim_joint_fork(struct xshim_eset *set);
/* The first wait of a forked child: its sleeps are to be known to its parent, which looks at what is hot by itself. */
void xshim_joint_begin_inherited(struct xshim_eset *set);

/*
 * It is about to be added, and others have the set, or had taken it out / it could not be, and what rejoin returned is so again, unless others
 * have changed that: another process that adds it at the same time may have been first. Structure lock held, too.
 */
uint32_t xshim_joint_rejoin(struct xshim_reg *r);
void xshim_joint_undo(struct xshim_reg *r, uint32_t before);
/* The entries of c that other processes have added get views here / of all connections; no lock held. Structure lock held, the set's not. */
void xshim_joint_adopt_of(struct xshim_eset *set, struct xshim_conn *c);
void xshim_joint_adopt(struct xshim_eset *set);
/*
 * The entry with this tag, wherever it was made. Those of one process differ in their place. Two that two processes have made after the fork, in
 * the same place of each, have the same tag if twelve bits of life and thread do, one time in 4096. Then a hint of either goes to the one that is found.
 * On a ring it is only looked at: an event of the other may be missed, until it is looked at for another reason. One-shot and without a ring it
 * is told what the kernel has said of the other: an event too many, which must be expected of any descriptor; the other is told none before it is asked
 * for anew. No datum, length or byte is another's. A connection's slot in the tag instead would tell them apart, but not one that
 * was deleted a moment ago from the next one in its place, and threads that share a set come to that more often.
 */
struct xshim_reg *xshim_joint_by_tag(struct xshim_eset *set, uint32_t tag);
/*
 * A hint, with the lower half `low`, that no entry here is meant by: of a connection that this process has closed, and others have? They are told. True: so is the
 * program, *ev.
 */
bool xshim_joint_is_stray(struct xshim_eset *set, uint32_t low, struct epoll_event *ev);
/* What other processes have done to it is done to r: events, data, disabled, parked, told. */
void xshim_joint_heed_slow(struct xshim_reg *r);
static inline void xshim_joint_heed(struct xshim_reg *r)
{
	if (r->joint)
		xshim_joint_heed_slow(r);
}
/* r, which was taken out, is to be in the set as it is now. False: another process was first with that, and r is as that has it. */
bool xshim_joint_enter(struct xshim_reg *r);
/* r is what the program has asked for now: nothing of that has been told. parked: it is not in the set. */
void xshim_joint_changed(struct xshim_reg *r);
/* r is to be told of mask. False: another process was first, with that or a change; look again. */
bool xshim_joint_claim(struct xshim_reg *r, uint32_t mask, const struct xshim_sight *s);
/* r->told is what the program knows: this process is the only one left, and has brought the connection onto a ring. */
void xshim_joint_learnt(struct xshim_reg *r);
/* What was told of these events is to be told again / and it has not fired. */
void xshim_joint_untell(struct xshim_reg *r, uint32_t events, bool unfire);
/* The kernel has said something of the socket: the others are to ask, too. */
void xshim_joint_hint(struct xshim_reg *r);
/* Another process has counted one since this one last heeded it. */
static inline bool xshim_joint_has_hints(const struct xshim_reg *r)
{
	return r->joint && atomic_load_explicit(&r->joint->hints, memory_order_acquire) != r->joint_hints;
}
/*
 * The kernel's entries were taken out, not only the program's / since r was last put back. What is taken out of the set is so after that, and
 * one that is out already leaves them where they are while another process has the connection, as that may be putting it back: else it
 * would be in the set, and silent. Only who leaves the ring (xshim_epoll_detached()) takes out what he has seen to be out a moment ago.
 */
void xshim_joint_went(struct xshim_reg *r);
bool xshim_joint_has_gone(struct xshim_reg *r);
/* Another process that has it has looked at it, and still has the connection. */
bool xshim_joint_is_used(const struct xshim_reg *r);
/* Who waits for r in any process is to look. */
void xshim_joint_pass_on(struct xshim_reg *r);
/* One process is told of it, and the others are not. */
static inline bool xshim_joint_is_for_one(const struct xshim_reg *r)
{
	return r->joint && (r->events & (EPOLLET | EPOLLONESHOT));
}

#endif
