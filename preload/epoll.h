/* SPDX-License-Identifier: MIT */
/*
 * epoll.h - epoll sets: which connections they watch, and how a ring shows up in them.
 *
 * A set is the program's own kernel epoll descriptor. What is not a connection of ours is in it exactly as the
 * program put it. A connection is too, until a channel is attached; then its socket is changed to edge-triggered with
 * a tag as datum (for FIN, RST, frames, and bytes before a boundary), and the bell is added likewise. epoll_wait
 * turns tagged events into what the program asked for: level-triggered entries are reported from a ready list, which
 * holds the connections that may be ready; one leaves the list when a look that arms the wishes
 * finds it is not. ONESHOT entries are tagged from the start, because the kernel would not tell later that one has fired.
 *
 * An entry that was busy just now and is not ready any more becomes hot: it is not armed yet, its peer need not ring, and
 * the next epoll_waits look at its position by themselves, at one after the other until they have enough to tell. One that was looked at
 * in vain for some time is armed. Before anybody sleeps in the set, all hot entries are armed, unless one that was looked at for
 * that has something to tell; and none stays hot while another thread sleeps there.
 *
 * What was hot until the set went to sleep rests: it is armed, and will likely have something soon after the set is awake again. It then need
 * not ring for that any more, so its wish is taken back, if it is nobody else's, and it is hot as before; a few at each wait, the ones that
 * have rested longest first. One that has rested and been hot in vain some times is left armed.
 *
 * A program may also ask whether the set itself is readable, by poll, select or as a member of another set. The kernel would say yes for
 * each hint, so such a set has an inner one: tagged entries are moved there, the inner set is a member of the program's, and
 * before each such question it is emptied, and the kick made readable or not as the ready list says (nest.c).
 *
 * Locks: one for the structure (which entry is in which set), taken by epoll_ctl, attach, detach and close;
 * then the set's own, for its ready list and its entries' fields; then the slot's. Never held while waiting.
 * Fork: the child's copies name the same kernel sets; a connection shared with a child is not attached. What their entries
 * have told is common (joint.h). Who closes its copy of a
 * connection while another process has one leaves the kernel's entries alone, as the kernel does. What they then say to a
 * process that does not know them any more is dropped.
 */
#ifndef XSHIM_EPOLL_H
#define XSHIM_EPOLL_H
#include "conn.h"

#define XSHIM_DEAF_MS 10

struct xshim_told {			/* what an edge-triggered entry reported last (told.h) */
	uint32_t mask;			/* 0: what is so is news, whatever it is */
	uint32_t kmask, fulls;		/* and of which state: as in xshim_reg and in xshim_slot, */
	uint64_t head, arrived;		/* how far bytes had come by ring, and by TCP, */
	uint32_t hints;			/* and how often the kernel had said something, if others have the entry, too */
};

struct xshim_reg {			/* a connection in a set */
	struct xshim_obj obj;		/* only pool, index and life are used */
	struct xshim_eset *set;
	struct xshim_conn *conn;
	struct xshim_reg *next_of_conn;	/* structure lock */
	struct xshim_reg *next_of_set;	/* structure lock */
	int fd;				/* the number it was added by */
	/* the set's lock */
	uint32_t events;		/* as the program asked */
	uint64_t data;
	uint32_t tag;			/* with a joint, of who made that: another may have the place that it names */
	bool tagged;			/* the kernel's entry carries our tag */
	bool attached;			/* and the bell is in the set, */
	bool deaf;			/* or should be: the kernel had no room for bell or life, so they are looked at each XSHIM_DEAF_MS */
	bool disabled;			/* ONESHOT has fired */
	bool inherited;			/* made before a fork that we are the child of: the kernel's entries are the parent's, too */
	bool inside;			/* the socket's entry is in the inner set */
	bool stuck;			/* without a ring: the kernel's entry has kept our tag, as its number means something else; reported from the list */
	bool parked;			/* the program took it out; the kernel's entries stay for when it puts it back */
	bool listed;
	bool quiet;			/* listed to be armed: report only POLLOUT news */
	bool rearmed;			/* looked at before a sleep only to arm it: edge-triggered, it has been told */
	bool tcp_dirty;			/* ask the kernel about the socket at the next look */
	uint32_t rx_wait, tx_wait;	/* counted in the channel's waiters, in these units; 0: not */
	bool edge_wait;			/* likewise */
	uint32_t kmask;			/* lasting bits the kernel gave last: RDHUP HUP ERR PRI */
	int bell, life;			/* the numbers that were added */
	struct xshim_reg *hot_next, *hot_prev; /* NULL: neither hot nor resting */
	bool rests;
	uint32_t hot_idle;		/* looks at it since it became hot that found nothing */
	bool was_hot;			/* listed to be armed for a sleep */
	bool cold;			/* has been hot for nothing: arm it */
	uint64_t seen_head;		/* what the last look saw */
	uint64_t told_by;		/* the wait that reported it last, and where in its answer */
	int told_at;
	struct xshim_told told;
	struct xshim_reg *next_listed;
	/* joint.h */
	struct xshim_joint *joint;	/* of it and its like in other processes; NULL: there is none */
	uint32_t joint_word, joint_turn, joint_hints, joint_gone; /* as last heeded */
	bool passed;			/* in the list, others may look at it, too */
	bool hinted;			/* the kernel has told us of the socket, or the program has changed it here, and others do not know */
};

struct xshim_eset {
	struct xshim_obj obj;
	_Atomic int epfd;		/* a number that names it; once the program has closed all, ours (kept) */
	bool kept;
	_Atomic uint32_t lock;
	_Atomic uint32_t tagged;	/* entries with a tag: results must be looked at */
	struct xshim_reg *regs;		/* structure lock */
	struct xshim_reg *list_head, *list_tail; /* ready list, the set's lock */
	struct xshim_reg *hot;		/* a circle: the one to be looked at first; the set's lock */
	int hots;
	struct xshim_reg *resting;	/* a circle, too: the one that rests longest */
	bool rousing;			/* awake since it slept: what rests is made hot again */
	struct xshim_spin spin;
	uint64_t waits;			/* the set's lock: numbers the waits */
	_Atomic uint32_t waiting;	/* threads inside epoll_wait */
	uint32_t forked;		/* fork.c's locks: taken by the fork of this depth */
	bool shared;			/* a forked process has it, too (or had) */
	bool inherited;			/* by this process, which has not waited in it yet; the set's lock */
	uint64_t family;		/* its name among the processes that have it; 0: none has been forked yet. Structure lock */
	_Atomic bool again;		/* a handler on top of who has the lock could list nothing: all is to be looked at */
	_Atomic bool kernel_first;	/* connections on rings filled the last answer: others come first in the next */
	int kick;			/* eventfd in the set that wakes them, or 0 */
	/* nest.c */
	_Atomic bool shown;		/* somebody asks for the set itself */
	int inner;			/* epoll descriptor with the tagged entries, or 0: they are in the program's */
	bool kick_up;			/* the set's lock: the kick is readable because something is ready */
	struct xshim_nest *members;	/* structure lock: sets in this one */
	struct xshim_nest *within;	/* structure lock: where this one is a member */
};

struct xshim_nest {			/* a set in a set */
	struct xshim_obj obj;		/* only pool, index and life are used */
	struct xshim_eset *outer, *member;
	struct xshim_nest *next_of_outer, *next_of_member;	/* structure lock */
	int fd;				/* the number it was added by */
	uint32_t tag;
	uint32_t events;		/* outer's lock, as the next */
	uint64_t data;
};

/* channel.c: all entries of c can be reached in their sets, so that a ring can be seen there. */
bool xshim_epoll_can_follow(struct xshim_conn *c);
/*
 * channel.c: this is a handler on top of a call that is at the entries of c. What it finds must stay as it is, so no channel is put in
 * place or taken away here.
 */
bool xshim_epoll_is_below(struct xshim_conn *c);
/* channel.c: a channel was put in place (nobody is inside c); false: a set cannot hear its bell / is about to be taken away. */
bool xshim_epoll_attached(struct xshim_conn *c);
void xshim_epoll_detached(struct xshim_conn *c);
/* conn.c: the last descriptor of c, fd, is about to be closed. */
void xshim_epoll_forget(struct xshim_conn *c, int fd);
/*
 * stream_send.c: a send could not take all: who waits for room by edges must be armed. stream_recv.c: a boundary was crossed:
 * the wish was a place on the old path, and a receive that ended at it looks as if all had been read.
 */
void xshim_epoll_full(struct xshim_conn *c);
void xshim_epoll_crossed(struct xshim_conn *c);
/*
 * ready.c: somebody else has emptied the bell, and more had come: edge-triggered entries may have to be told, here and in processes that have
 * the sets, too. No locks held.
 */
void xshim_epoll_edge(struct xshim_conn *c);
/* nest.c: empty the inner set, make the kick readable or not as the ready list says. */
void xshim_epoll_show_list(struct xshim_eset *set);
/* poll.c: somebody asks for the set's own descriptor. Afterwards the kernel's answer is right, until something comes. */
void xshim_epoll_shown(struct xshim_eset *set);
/*
 * sock.c: fd is about to be closed. If it is the last number of a set in which threads sleep, the set stays open under a number of ours
 * until they have left it, as the kernel keeps it for them.
 */
void xshim_epoll_keep(int fd);
/* fdtab.c: fd, which names the set among others, is about to be closed. */
void xshim_epoll_renumber(struct xshim_obj *o, int fd);
void xshim_epoll_fork_prepare(void);
void xshim_epoll_fork_done(void);
void xshim_epoll_fork_child(void);	/* before fork_done */

#endif
