/* SPDX-License-Identifier: MIT */
/*
 * conn.h - this process's view of one TCP connection.
 *
 * What must survive fork (cursors, locks, modes, counters) is in the slot, in the arena shared with
 * children; what is here is private: where the ring is mapped, which descriptors ring it, how far the
 * introduction has got.
 *
 * Life:  PLAIN -> OFFERED | CLAIMED -> MATCHED -> (channel attached: obj.ch != NULL) -> PLAIN -> ...
 *        NEVER: stays on TCP for good, slot->reason says why.
 *
 * While ch is NULL every call goes to the kernel as it is and holds a reference (fdtab.h) meanwhile; a
 * channel is attached only when no call is inside, so nobody can sleep in the kernel over a switch. Threads that
 * would sleep there for long sleep outside instead (kick.h).
 * While ch is set, every call goes through stream_*.c.
 *
 * Locks (slot): rx_lock before tx_lock. `intro` is guarded by the client lock (client.c).
 */
#ifndef XSHIM_CONN_H
#define XSHIM_CONN_H
#include "fdtab.h"
#include "libc.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>
#include <xshim/arena.h>
#include <xshim/backend.h>
#include <xshim/spin.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum xshim_intro {
	XSHIM_INTRO_PLAIN = 0,
	XSHIM_INTRO_OFFERED,
	XSHIM_INTRO_CLAIMED,
	XSHIM_INTRO_MATCHED,
	XSHIM_INTRO_NEVER,
};

#define XSHIM_NEVER_OPS UINT32_MAX

struct xshim_eset;

#define XSHIM_BELL_HEARD 1u
#define XSHIM_BELL_LET 2u		/* and looked after, but not emptied */

struct xshim_chan {
	struct xshim_obj obj;		/* references: the connection's, or its list of the dead */
	const struct xshim_backend *be;
	struct xshim_local local;
	struct xshim_remote remote;
	_Atomic uint32_t bell_maybe;	/* XSHIM_BELL_*; 0: not seen readable since it was last emptied. Back to 0 by who has both locks */
	_Atomic uint32_t self_rung;	/* we have rung it ourselves since then */
	/* rings; 0: not known. The peer's count when the bell was emptied, and when one of its rings was last let be. Both locks of the slot */
	uint32_t bell_holds, hushed_rung, let_rung;
	/*
	 * Both locks: since we emptied it we have rung it for others of ours, and how long to sleep without it next, in ms (ready.h). Of this
	 * process: where another has emptied it meanwhile what is in it is looked after once too often, or XSHIM_THEIRS_MS late.
	 */
	bool rung_for_others;
	int theirs_ms;
	_Atomic uint32_t forked;	/* another process has it, too, or had */
	struct xshim_slot *slot;	/* of its connection, and where this process counts the calls and epoll entries that */
	struct xshim_waits *waits;	/* count on the bell (ready.c); set when attached, and in a forked child */
	_Atomic uint32_t edge_waiters;	/* edge-triggered epoll entries for what is to be read */
	_Atomic uint32_t taken_away;	/* 1: somebody takes it from its connection, or has; never 0 again */
	uint64_t hushed_at;		/* what was seen when the bell was last emptied; both locks of the slot */
	_Atomic uint32_t bell_dead;	/* the peer shut our bell down: always readable, no use any more */
	_Atomic uint32_t fin_seen;	/* TCP has given EOF or an error: no frame will come */
	/*
	 * 1: the peer's decision (XSHIM_REGION_STOP) has been waited for in vain: it is not waited for again (xshim_chan_decided()). Any thread
	 * of the process writes it; 0 by who pumps, under both locks, when the peer's word is another. Lost or stale: a wait more, or
	 * one less, of DECIDES_NS. Each process that shares the end has its own.
	 */
	_Atomic uint32_t undecided;
	_Atomic uint32_t tcp_dead;	/* an error of the socket: reset, timed out */
	_Atomic uint32_t consult_seen;	/* the peer's hint at our last look */
	struct xshim_spin spin;
	_Atomic uint64_t nap_sent;	/* nap.c: bytes sent by ring when a busy wait last paid */
	/* doze.h */
	_Atomic uint32_t dozer;		/* 1: somebody sleeps by it, or is about to */
	uint32_t doze_after;		/* sleeps before it is made, or XSHIM_DOZE_NEVER; who has dozer, as the rest */
	int doze_ep, doze_fd;		/* -1: none; the number that the socket has in it */
	bool doze_stale;		/* it has told of the socket, and would not again */
	bool dozing;			/* somebody is in that sleep; still so when it is over: it was left without what it told */
	/* the peer's head and our tail when nothing could be done on the ring; XSHIM_WANT_NOTHING: the direction is on TCP */
	_Atomic uint64_t rx_empty_at, tx_full_at;
	uint64_t tx_mask, rx_mask;	/* the size of our ring and of the peer's, less one, const while attached */
	uint32_t cuttable;		/* the peer's memory may go from under us (be->forsake); const */
	/* What makes a send a special one, next to each other (fast.h) */
	_Alignas(8) _Atomic uint32_t gone; /* the peer's half of the channel is closed */
	_Atomic int tcp_err;		/* the errno of tcp_dead, if we took it from the socket: owed to the program */
	_Atomic uint64_t stall_ns;	/* since when the ring has been full without progress, 0: it is not */
	/*
	 * The peer was rung, which does not tell that it is gone, and nobody has watched its life since; how far it had read before. Of this process:
	 * set by who rings, the place first; cleared by who sleeps or asks; looked at by each send. One too many costs a poll().
	 */
	_Atomic uint64_t unheard_tail;
	_Atomic uint32_t unheard;
	uint64_t sent;			/* ring bytes since attached or since the last spill, for the test options */
	uint64_t stall_tail;
	bool opts_back;			/* the socket has the program's SO_RCVLOWAT and SO_PEEK_OFF again (rxopts.h); rx_lock */
	/* XSHIM_SLOT_LEAVE: when to ask again, how long not to after that, in ns, and why */
	_Atomic uint64_t leave_next, leave_pause;
	_Atomic uint32_t leave_why;
	/* xen (depart.h) */
	_Atomic uint32_t told;		/* XSHIM_TOLD_*: what is to be done */
	_Atomic uint32_t session;	/* of the xshimd that is to hear LEFT; 0: none */
	uint32_t id;			/* in LEFT */
	struct xshim_chan *next_dead;
};

struct xshim_conn {
	struct xshim_obj obj;
	struct xshim_slot *slot;	/* const; NULL: no slot was to be had, then never a ring */
	struct xshim_arena arena;	/* where the slot is */
	/* when to think about a ring again; racy on purpose, a call early or late does not matter */
	_Atomic uint32_t ops, next_ops;	/* next_ops: XSHIM_NEVER_OPS if only something else may be a reason to */
	_Atomic uint64_t bytes, next_bytes;
	_Atomic uint64_t gen_seen;
	uint64_t since_ns;		/* ACCEPT: it was there then (xshim_clock_ns()) */
	uint64_t hash;			/* CONNECT: of the peer's endpoint; ACCEPT: of the tuple; 0: not named yet */
	bool identified;		/* identity.h; under the client lock */
	_Atomic uint32_t mode_due;	/* whether O_NONBLOCK is set has not been asked yet */
	_Atomic uint64_t retry_ns, retry_wait_ns;
	/* introduction, under the client lock */
	uint32_t intro;			/* enum xshim_intro */
	uint32_t id;			/* in messages */
	struct xshim_chan *pending;	/* local half made; remote half after MATCHED */
	_Atomic uint32_t attach_due;	/* pending is complete, attach at the next chance */
	_Atomic uint32_t detach_due;	/* the link has left: take the channel away */
	_Atomic uint32_t kickable;	/* a channel is likely, or was kept out by a sleeper: sleep as in kick.h */
	bool look_due;			/* of an offer: xshimd is to be sent its descriptor once more */
	/* written under the client lock; a close looks without it, and ends what the kernel would if it finds true a moment too long */
	_Atomic bool lent;		/* xshimd was sent its descriptor and has not answered yet: close does not end the socket */
	_Atomic int left_fd;		/* plus one: a number of ours for the socket, whose last one was closed while calls were inside */
	_Atomic uint64_t linger_until;	/* linger.h; 0: its close does not wait */
	bool lost;			/* a forked child could not map the peer's memory again */
	struct xshim_chan *_Atomic dead; /* detached; calls under way may still look at it */
	/* epoll sets that watch it, under their structure lock (eset.h) */
	struct xshim_reg *regs;
	struct xshim_conn *next_late;	/* late.h: of the thread that has closed it */
};

/* The connection that fd names, referenced; NULL for everything else. */
static inline struct xshim_conn *xshim_conn_get(int fd)
{
	struct xshim_obj *o = xshim_fd_get(fd);

	if (!o)
		return NULL;
	if (o->kind == XSHIM_OBJ_CONN)
		return (struct xshim_conn *)o;
	xshim_obj_put(o);
	return NULL;
}

static inline void xshim_conn_put(struct xshim_conn *c)
{
	xshim_obj_put(&c->obj);
}

/*
 * A call that has slept: the number it was made with may be closed by now, or name something else. The kernel goes on with the socket
 * that the call began with, and so do we.
 */
int xshim_conn_other_fd(struct xshim_conn *c, int fd);
static inline int xshim_conn_fd(struct xshim_conn *c, int fd)
{
	return xshim_fd_peek(fd) == &c->obj ? fd : xshim_conn_other_fd(c, fd);
}
/* The last descriptor, fd, is about to be closed: if other calls are inside, the socket stays open until the last of them has left. */
bool xshim_conn_keep_socket(struct xshim_conn *c, int fd);

/*
 * The last descriptors of a connection without a ring, fd among them, are about to be closed, and the caller holds it. If xshimd may still have the copy that it was sent, the
 * kernel would send FIN or RST only when xshimd has looked at that: they are made to go now.
 */
void xshim_conn_end(struct xshim_conn *c, int fd);

uint32_t xshim_tid_slow(void);
extern __thread uint32_t xshim_tid_cache __attribute__((tls_model("initial-exec")));
static inline uint32_t xshim_tid(void)
{
	uint32_t tid = xshim_tid_cache;

	return tid ? tid : xshim_tid_slow();
}

/*
 * A connection begins here (role CONNECT or ACCEPT) of proto, IPPROTO_TCP or IPPROTO_MPTCP. flags: XSHIM_SLOT_NONBLOCK or 0; of a
 * CONNECT that is what it seems to be. peer: the other end, or NULL.
 */
void xshim_conn_track(int fd, enum xshim_role role, int proto, uint32_t flags, const struct sockaddr *peer, socklen_t len);
/*
 * Client lock held, greeted, c has a name and nobody has used it yet. What the map says of it now, so that its first calls need not look: there is nothing
 * new until the map changes, or it has shown that it lives.
 */
void xshim_conn_look_first(struct xshim_conn *c, int fd);
/* Found in an arena that came over exec. */
void xshim_conn_adopt(int fd, const struct xshim_arena *a, struct xshim_slot *s);
/* It stays on TCP for good. A ring that is attached is not taken away by this, but once it has gone none comes again. */
void xshim_conn_never(struct xshim_conn *c, enum xshim_reason why);
void xshim_conn_reason(struct xshim_conn *c, enum xshim_reason why);

/*
 * Every data call on a connection: true if it is to go through stream_*.c.
 */
bool xshim_conn_consider(struct xshim_conn *c, int fd);
extern const _Atomic uint64_t *_Atomic xshim_conn_gen[3];	/* by role: what to watch in the map */
extern const _Atomic uint32_t *_Atomic xshim_mail;
extern _Atomic uint32_t xshim_mail_seen;

static inline struct xshim_chan *xshim_conn_chan(struct xshim_conn *c)
{
	return atomic_load_explicit(&c->obj.ch, memory_order_acquire);
}

static inline const _Atomic uint64_t *xshim_gen_word(uint32_t role)
{
	return atomic_load_explicit(&xshim_conn_gen[role % 3], memory_order_acquire);
}

static inline const _Atomic uint32_t *xshim_mail_word(void)
{
	return atomic_load_explicit(&xshim_mail, memory_order_acquire);
}

static inline bool xshim_conn_on_ring(struct xshim_conn *c, int fd)
{
	uint32_t ops;

	if (xshim_conn_chan(c) &&
	    !atomic_load_explicit(&c->detach_due, memory_order_relaxed))
		return true;
	if (!c->slot)
		return false;
	/* threads may count at the same time; one count less does not matter */
	ops = atomic_load_explicit(&c->ops, memory_order_relaxed) + 1;
	atomic_store_explicit(&c->ops, ops, memory_order_relaxed);
	if (ops < atomic_load_explicit(&c->next_ops, memory_order_relaxed) &&
	    atomic_load_explicit(&c->bytes, memory_order_relaxed) <
		    atomic_load_explicit(&c->next_bytes, memory_order_relaxed) &&
	    !atomic_load_explicit(&c->attach_due, memory_order_relaxed) &&
	    !atomic_load_explicit(&c->detach_due, memory_order_relaxed) &&
	    atomic_load_explicit(xshim_gen_word(c->slot->role), memory_order_relaxed) ==
		    atomic_load_explicit(&c->gen_seen, memory_order_relaxed) &&
	    atomic_load_explicit(xshim_mail_word(), memory_order_relaxed) ==
		    atomic_load_explicit(&xshim_mail_seen, memory_order_relaxed))
		return false;
	return xshim_conn_consider(c, fd);
}

/* One of its descriptors is 0, 1 or 2, which streams may use. */
static inline bool xshim_conn_on_stdio(const struct xshim_conn *c)
{
	for (int std = 0; std < 3; std++)
		if (xshim_fd_peek(std) == &c->obj)
			return true;
	return false;
}

/* Count what a plain call moved. */
static inline void xshim_conn_plain_rx(struct xshim_conn *c, ssize_t n)
{
	if (n > 0 && c->slot) {
		xshim_count(&c->bytes, (uint64_t)n);
		xshim_count(&c->slot->n.tcp_rx, (uint64_t)n);
	}
}

static inline void xshim_conn_plain_tx(struct xshim_conn *c, ssize_t n)
{
	if (n > 0 && c->slot) {
		xshim_count(&c->bytes, (uint64_t)n);
		xshim_count(&c->slot->n.tcp_tx, (uint64_t)n);
	}
}

static inline bool xshim_conn_flag(const struct xshim_conn *c, uint32_t flag)
{
	return c->slot && (atomic_load_explicit(&c->slot->flags, memory_order_relaxed) & flag);
}
void xshim_conn_set_flag(struct xshim_conn *c, uint32_t flag, bool on);

/* Monotonic nanoseconds, coarse (a clock tick). */
uint64_t xshim_now_ns(void);

/* The process: arenas it uses. */
extern struct xshim_arena xshim_own_arena;
extern int xshim_own_arena_fd;
#define XSHIM_ARENAS_MAX 4
extern struct xshim_arena xshim_old_arenas[XSHIM_ARENAS_MAX - 1];	/* inherited */
extern int xshim_old_arena_fds[XSHIM_ARENAS_MAX - 1];
bool xshim_arena_ready(void);	/* make our own if there is none */
void xshim_conn_fork_prepare(void);
void xshim_conn_fork_undo(void);
void xshim_conn_fork_child(pid_t parent);
/* Last in the child: descriptors of connections that it cannot go on with become ones that were reset. */
void xshim_conn_fork_lost(void);
/* 0, or the reason why nothing of this process is introduced any more: a seccomp filter, an io_uring, ... */
extern _Atomic uint32_t xshim_tcp_only;

#endif
