/* SPDX-License-Identifier: MIT */
/*
 * ready.h - "readable or writable now?", and how to sleep until it is: the only place that knows.
 *
 * Readiness of a connection with a channel is made of its ring and its TCP socket. look() says what the ring gives
 * and what to ask the kernel about the socket; result() puts both together after the kernel has answered.
 *
 * Sleeping. A sleeper enters (waits->rx or waits->tx + 1), looks with arm, and if nothing is ready polls the socket
 * (r.tcp_events), the bell (POLLIN), and the life, which hangs up when the peer's process is gone: TCP does not always
 * tell, because the kernel does not know of what lies unread in a ring. Arming empties the bell if it was seen readable. Several calls may wait on one bell,
 * for different things; poll in the kernel drops a wake-up if the bell has been emptied meanwhile. So
 * who empties it stores every wish anew, looks at every condition, and if one holds that somebody
 * else may be waiting for, rings the own bell again. Processes that share the connection after a fork have the bell in
 * common, so that the waits of all of them are in the slot.
 * An edge-triggered entry of an epoll set counts only while nothing is unread: else who rings for it would hear that himself, empty the bell once
 * more and ring again, for as long as it is not looked at. More is news to it all the same; so in the own process it is put into its list, and
 * to other processes that have the set the set's kick tells it (xshim_epoll_edge()), which nobody takes out but who waits in the set. Two are not reached: an
 * entry of a set that another process has for itself, and between guests, where each ring has to be emptied, one whose connection another set's entry was
 * told of first. They hear of what comes after that, or of both when what was unread has been read.
 * Where the others do not come, because a program is busy between two waits in its set, who has rung for them hears that himself. He then leaves it in
 * the bell, which is theirs until the peer rings again, or nobody is left who waits for it: who hears edges hears no more of it, and
 * the next ring all the same; who polls sleeps without the bell and looks again after a millisecond, then two, up to XSHIM_THEIRS_MS.
 * Who hears edges (epoll.h, doze.h) lets a bell be that it has heard, as the next ring is another edge all the same; it is emptied now and
 * then, long before it could be full. All others empty what they, or those, have heard.
 *
 * Threads: any. Locks: takes rx_lock and tx_lock of the slot. Never blocks.
 */
#ifndef XSHIM_READY_H
#define XSHIM_READY_H
#include "channel.h"

#include <poll.h>

struct xshim_ready {
	unsigned int mask;	/* POLLIN and POLLOUT as far as the ring decides */
	unsigned int tcp_events; /* what to ask the kernel about the socket, besides ERR and HUP */
	bool in_from_tcp;	/* POLLIN of the socket is the program's */
	bool out_from_tcp;	/* POLLOUT of the socket is the program's */
	bool full;		/* not writable for want of room in the ring, not for a moment between two paths */
	uint64_t reach;		/* how far what came by ring was seen to reach: another number means that bytes have come */
	bool all_by_ring;	/* and the same number that none have: nothing comes by TCP, as far as the peer has announced */
	int theirs_ms;		/* not 0: what is in the bell is left there for others; who would poll it sleeps without, no longer than this */
};

#define XSHIM_THEIRS_MS 16

/* In arm: the caller is answer.c, which finds by itself what is new for its entries. */
#define XSHIM_LOOK_EPOLL 0x10000u
/* In arm: the caller is inside a receive, which takes whatever comes until it has enough: SO_RCVLOWAT is its own affair. */
#define XSHIM_LOOK_RECV 0x20000u
/* In arm: the caller hears each ring of the bell as an edge, so that it need not be emptied each time. */
#define XSHIM_LOOK_EDGE 0x40000u
/* In arm: the caller has entered in units of XSHIM_WAITS_JOINT, and who has done so elsewhere hears of it by what is common (joint.h). */
#define XSHIM_LOOK_JOINT 0x200000u
/* In arm: of those who hear a ring by the same edge, only one is to be told of it. */
#define XSHIM_LOOK_ONE 0x400000u
/*
 * In xshim_wait: SO_RCVLOWAT is set. The kernel does not wake such a receive before that much is there, however little the call lacks still;
 * so it goes on sleeping, and takes nothing, until poll would say POLLIN.
 */
#define XSHIM_WAIT_MARK 0x100000u
/*
 * arm: POLLIN | POLLOUT that the caller has entered to wait for; 0: only look. 0, or -ECONNRESET when the connection was
 * broken (then everything is ready).
 */
int xshim_ready_look(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int arm,
		     struct xshim_ready *r);
/*
 * kmask: revents of the socket for r->tcp_events. Moves the protocol on if need be. Returns POLL* bits as
 * the kernel would give them for this connection over plain TCP, not yet cut to what was asked.
 */
unsigned int xshim_ready_result(struct xshim_conn *c, struct xshim_chan *ch, int fd,
				struct xshim_ready *r, unsigned int kmask);
/* After that, where it gave mask: who waits for `what` has found TCP without room. */
static inline void xshim_ready_count_full(struct xshim_chan *ch, const struct xshim_ready *r, unsigned int what, unsigned int mask)
{
	if ((what & POLLOUT) && r->out_from_tcp && !(mask & POLLOUT))
		xshim_chan_count_full(ch);
}

/*
 * The peer has announced that it goes on by ring behind the next `limit` bytes of TCP: how many are there. What comes after them rings the
 * bell, which it would not before we have crossed. rx_lock.
 */
uint64_t xshim_ready_behind(const struct xshim_link *l, struct xshim_chan *ch, uint64_t limit);

/*
 * The caller, who has entered to wait for bytes (edge: and counts in edge_waiters), looks at the ring by himself from now on: the peer need not
 * ring. False: it must, because others wait, too, or because not all that comes would be seen there.
 */
bool xshim_ready_unwish(struct xshim_conn *c, struct xshim_chan *ch, bool edge);

/* Free space that makes a ring writable: a quarter of what may be used, as the kernel also waits for a third. tx_lock. */
static inline uint64_t xshim_ready_threshold(const struct xshim_chan *ch)
{
	return ch->slot->link.tx.room / 4;
}

static inline void xshim_wait_enter(struct xshim_chan *ch, unsigned int what)
{
	if (what & POLLIN)
		atomic_fetch_add_explicit(&ch->waits->rx, 1, memory_order_seq_cst);
	if (what & POLLOUT)
		atomic_fetch_add_explicit(&ch->waits->tx, 1, memory_order_seq_cst);
}

static inline void xshim_wait_leave(struct xshim_chan *ch, unsigned int what)
{
	if (what & POLLIN)
		atomic_fetch_sub_explicit(&ch->waits->rx, 1, memory_order_seq_cst);
	if (what & POLLOUT)
		atomic_fetch_sub_explicit(&ch->waits->tx, 1, memory_order_seq_cst);
}

/* The descriptor whose POLLHUP tells that the peer's end of the channel has gone; -1 once that is known. */
static inline int xshim_ready_peer_fd(const struct xshim_chan *ch)
{
	return atomic_load_explicit(&ch->gone, memory_order_relaxed) ? -1 : ch->remote.life;
}

static inline int xshim_ready_bell_fd(const struct xshim_chan *ch)
{
	return atomic_load_explicit(&ch->bell_dead, memory_order_relaxed) ? -1 :
									  ch->local.fds[XSHIM_LOCAL_BELL];
}

void xshim_ready_peer_hup(struct xshim_conn *c, struct xshim_chan *ch, int fd);

/*
 * Sleep until the connection may have become ready for `what` (POLLIN, which is of a receive, or POLLOUT, and POLLPRI or XSHIM_WAIT_MARK with
 * it), or something happened that the caller should look at. deadline_ns: xshim_clock_ns() time, UINT64_MAX: none.
 * 0; -EAGAIN: the deadline passed; -EINTR.
 */
int xshim_wait(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int what, uint64_t deadline_ns);
/* Its second half, without the busy wait. */
int xshim_wait_unspun(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int what, uint64_t deadline_ns);
/* What a sleep has heard: revents of the socket, the bell and the peer's end of it. in_from_tcp: the socket's POLLIN is the program's. */
void xshim_wait_woken(struct xshim_conn *c, struct xshim_chan *ch, int fd, const struct pollfd p[3], bool in_from_tcp);
/*
 * A receive that is alone and hears each ring (nap.h): the bell is empty, or may be let as it is. False: that is for xshim_ready_look().
 * rx_lock; takes tx_lock, if nobody has it.
 */
bool xshim_ready_quiet_bell(struct xshim_conn *c, struct xshim_chan *ch, int fd);
/*
 * xshim_wait() said -EINTR, and nothing has been moved: would the kernel begin the call anew? It would for a handler with
 * SA_RESTART, and never under a time limit. If it is not known which handler ran (sigact.h): yes only if all that are installed and not watched have it.
 */
bool xshim_restarts(uint64_t deadline_ns);
/* Busy waits (xshim/spin.h) are allowed at all: XSHIM_SPIN_US, and more than one processor. */
bool xshim_spin_allowed(void);
/* How a wait for `what` on the ring begins; to be asked once a wait. */
enum xshim_spin_how xshim_spin_due(struct xshim_chan *ch, unsigned int what);
/* After XSHIM_SPIN_TRY and what follows it: true: it has paid. */
bool xshim_spin(struct xshim_chan *ch, unsigned int what, enum xshim_spin_how how);
/* After XSHIM_SPIN_TIME: the wait is over, and began then, by xshim_clock_ns(). */
void xshim_spin_timed(struct xshim_chan *ch, unsigned int what, uint64_t began);
/* In a far wait: whoever else is to be run here may be; *now: the time. True: somebody was, and it is over. */
bool xshim_spin_lets(uint64_t *now);

static inline void xshim_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Monotonic nanoseconds, exact. */
uint64_t xshim_clock_ns(void);
/*
 * The ring has been full without progress for XSHIM_STALL_MS, or ten times that: go on over TCP. Returns milliseconds
 * until then, 0 if it was done or there is nothing to wait for, -1 if it cannot come to that.
 */
#define XSHIM_READ_MS 5		/* by then a peer that was in a read of TCP is not any more (link.h, xshim_tx_peer_reads) */
int xshim_stall(struct xshim_conn *c, struct xshim_chan *ch);

#endif
