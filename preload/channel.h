/* SPDX-License-Identifier: MIT */
/*
 * channel.h - attach a channel to a connection, move its protocol on, take it away again.
 *
 * Threads: attach needs the connection to itself (XSHIM_REF_EXCL) and does nothing otherwise; detach is by
 * whoever finds detach_due. pump takes both locks of the slot.
 * Errors: 0 or -errno.
 */
#ifndef XSHIM_CHANNEL_H
#define XSHIM_CHANNEL_H
#include "conn.h"

/* An honest peer makes two switches at most ahead of what we cross; one that makes more is not followed for ever. */
#define XSHIM_CROSSINGS 8
/* For a return to TCP a peer that is not asleep in a call has so long. */
#define XSHIM_LEAVE_MS 1000

/* Our half, descriptors moved to private numbers; NULL and *why when it cannot be had. guest: to whom, over xen; NULL: over shm. */
struct xshim_chan *xshim_chan_new(const struct xshim_party *guest, enum xshim_reason *why);
/* The peer's half over shm: the three descriptors of a MATCHED, of which those that are taken are -1 then. 0 or the backend's error. */
int xshim_chan_take_half(struct xshim_chan *ch, const struct xshim_ticket *ticket, int *fds);
/* The reason that an error of the backend stands for. */
enum xshim_reason xshim_chan_why(const struct xshim_chan *ch, int rc);
/* In the log, that there is no ring over xen for this: once for each reason, as it is the same for the next connection. */
void xshim_chan_say_once(enum xshim_reason why);
/* Both locks of the slot, in their order. False: this thread, which is in a handler, has one of them already; none is held then. */
static inline bool xshim_chan_lock(struct xshim_slot *s)
{
	if (xshim_lock_take(&s->rx_lock, xshim_tid()) < 0)
		return false;
	if (xshim_lock_take(&s->tx_lock, xshim_tid()) == 0)
		return true;
	xshim_lock_drop(&s->rx_lock);
	return false;
}

static inline void xshim_chan_unlock(struct xshim_slot *s)
{
	xshim_lock_drop(&s->tx_lock);
	xshim_lock_drop(&s->rx_lock);
}

/*
 * rx_lock has been taken, and what it guards is to be believed: if the holder before was killed, between a read of TCP and its
 * counting, count what the kernel has given away, and say that the read has ended (region.h, `reading`); finish what it was at.
 */
void xshim_chan_rx_mend_slow(struct xshim_conn *c, struct xshim_chan *ch, int fd);
static inline void xshim_chan_rx_mend(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	if (__builtin_expect(atomic_load_explicit(&c->slot->rx_taking, memory_order_relaxed) |
			     atomic_load_explicit(&c->slot->rx_lock.orphaned, memory_order_relaxed), 0))
		xshim_chan_rx_mend_slow(c, ch, fd);
}

/* The same of tx_lock. */
void xshim_chan_tx_mend_slow(struct xshim_conn *c, struct xshim_chan *ch, int fd);
static inline void xshim_chan_tx_mend(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	if (__builtin_expect(atomic_load_explicit(&c->slot->tx_lock.orphaned, memory_order_relaxed) != 0, 0))
		xshim_chan_tx_mend_slow(c, ch, fd);
}

/* Drop one that was never attached. NULL is fine. */
void xshim_chan_drop(struct xshim_chan *ch);

/*
 * c->pending is complete: put it in place if no call is inside but the caller's `own` references. True
 * if a channel is attached now.
 */
bool xshim_chan_attach(struct xshim_conn *c, uint32_t own);
/* The link has left, or the channel is to be given up before anything was switched. */
void xshim_chan_detach(struct xshim_conn *c);
/* Free what detach left, if nobody is inside but `own`. */
void xshim_chan_reap(struct xshim_conn *c, uint32_t own);

static inline void xshim_chan_count_full(struct xshim_chan *ch)
{
	atomic_fetch_add_explicit(&ch->slot->fulls, 1, memory_order_relaxed);
}

/* Ring the peer; notices that it is gone, if its bell tells. */
void xshim_chan_ring(struct xshim_conn *c, struct xshim_chan *ch);
/*
 * One that ticks does not, and who only sends hears of a peer that was killed by nothing else: its ring is rung for once, and then fills. So
 * the send after a ring asks for its life, unless it has read since, or somebody of ours has gone to sleep, or come out of an epoll set:
 * they hear its end. What a peer lies about its reading costs its own stream.
 */
void xshim_chan_ask_life(struct xshim_chan *ch);
static inline void xshim_chan_watches_life(struct xshim_chan *ch)
{
	atomic_store_explicit(&ch->unheard, 0, memory_order_relaxed);
}
/*
 * The lock of a direction is dropped; bell: the peer is to be rung. Who is killed after it has published something and before it rings
 * is found by who takes its lock over, if it has the lock still. So where others share the connection the bell is rung with the lock
 * held; else only after it, because who is woken may want the lock. errno is kept.
 */
void xshim_chan_drop_ringing(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_lock *lock);
static inline void xshim_chan_drop_lock(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_lock *lock, bool bell)
{
	if (bell)
		xshim_chan_drop_ringing(c, ch, lock);
	else
		xshim_lock_drop(lock);
}

/* Our own bell was seen readable, or heard. Who arms next empties it, or knows that it may be let (ready.c). */
static inline void xshim_chan_heard(struct xshim_conn *c, struct xshim_chan *ch)
{
	xshim_count(&c->slot->n.bells_got, 1);
	atomic_store_explicit(&ch->bell_maybe, XSHIM_BELL_HEARD, memory_order_release);
}

/* As if the peer had rung: whoever of ours sleeps on the channel looks again. */
static inline void xshim_chan_ring_self(struct xshim_chan *ch)
{
	atomic_store_explicit(&ch->self_rung, 1, memory_order_relaxed);
	(void)ch->be->ring_self(&ch->local);
}

/*
 * Do what the protocol asks of us now, without blocking: announce our switch, begin, send and take
 * LEAVE, send again what has to be. kmask: what poll says of the TCP socket (POLLIN, POLLOUT, ...).
 * Marks detach_due when the link is out. Negative: the connection is broken (-ECONNRESET).
 */
int xshim_chan_pump(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int kmask);
/* The same for one who holds the locks. */
int xshim_chan_pump_locked(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int kmask);
/*
 * The peer has decided, if it was about to (XSHIM_REGION_STOP), whether it leaves alone. That is waited for, but for each decision once,
 * because it may be stopped there, or lie. False: it has not; nothing is to be put on the ring, and no FIN sent, before it has.
 */
bool xshim_chan_decided(struct xshim_conn *c, struct xshim_chan *ch);
/*
 * Something was put on the ring, and the peer is leaving alone (link.h): what it has left there is sent by TCP, and waited
 * for if the socket does not take it at once. No locks held.
 */
void xshim_chan_left_alone(struct xshim_conn *c, struct xshim_chan *ch, int fd);
/* The state changed by a call of ours: wake the others of ours who sleep on the channel. */
void xshim_chan_wake_own(struct xshim_chan *ch);
/* The peer asks to leave, or there is something else that pump would do; a cheap look. */
bool xshim_chan_pump_due(struct xshim_conn *c, struct xshim_chan *ch);

/* Break the connection: the peer broke the protocol, or is gone with its memory. Returns -ECONNRESET. */
int xshim_chan_break(struct xshim_conn *c, int fd, enum xshim_reason why);
/* TCP gave EOF or an error: the peer sends no frame any more; what its ring holds is still to be read. */
void xshim_chan_peer_gone_locked(struct xshim_conn *c, struct xshim_chan *ch, int fd);
/* The errno that the program is to get once, as the socket's own pending error; 0: none. take: it gets it now. */
int xshim_chan_owed(struct xshim_conn *c, bool take);

/* If the link is out the channel is to go. Not while an error is owed, of which only the channel knows. One of the locks. */
void xshim_chan_if_out(struct xshim_conn *c);

/* The program has had the socket's pending error: if it ended the connection, none is owed for that. */
void xshim_chan_told_error(struct xshim_conn *c, int fd);

/*
 * Return to TCP and wait until it is done, at most wait_ms; without a peer that is busy elsewhere (link.h, "alone"), if nothing unread is on
 * its ring. 0; -EAGAIN when it could not be had in time: it is not asked for any more then, and all goes on as before (but for
 * SIGIO, where the answer calls the program; and where another program is to read on, what is unread is given back to the peer).
 */
int xshim_chan_leave_wait(struct xshim_conn *c, int fd, enum xshim_reason why, int wait_ms);
/* The same, and if it cannot be had now, it is asked for again in later calls. */
void xshim_chan_leave_soon(struct xshim_conn *c, int fd, enum xshim_reason why);
/* One of these: XSHIM_SLOT_LEAVE is set. Waits for little, and seldom. */
void xshim_chan_leave_again(struct xshim_conn *c, int fd);

/* What was given back is to be read by us after all, if the peer has not taken it (link.h). rx_lock; takes tx_lock. */
void xshim_chan_ungive(struct xshim_conn *c, struct xshim_chan *ch, int fd);

/* One step of it, without waiting. Both locks. True if a boundary was crossed (xshim_epoll_crossed). */
bool xshim_chan_leave_step(struct xshim_conn *c, struct xshim_chan *ch, int fd, enum xshim_reason why);

/* Without the peer, if that can be done now (link.h): detach_due is set then. Both locks. */
void xshim_chan_leave_alone(struct xshim_conn *c, struct xshim_chan *ch, enum xshim_reason why);

/* After a switch or a crossing: what is shown. */
void xshim_chan_note(struct xshim_conn *c, struct xshim_chan *ch);

/* Our switch to the ring is made if it is worth it now: the peer reads; hurry: also if it has not been seen to. tx_lock held. */
bool xshim_chan_up_locked(struct xshim_conn *c, struct xshim_chan *ch, int fd, bool hurry);

/*
 * tcpinfo.c: octets the program has written to / read from the socket, as the kernel counts. 0 or -errno. connected: by connect(), not
 * accepted. tx_lock held: nobody writes meanwhile.
 */
int xshim_tcp_written(int fd, bool connected, uint64_t *n);
/* -ENOTCONN once the connection is closed both ways or reset: nobody can tell then. */
int xshim_tcp_consumed(int fd, uint64_t *n);
/* Octets that have come, read or not, and the FIN; UINT64_MAX: it cannot be asked. No lock. */
uint64_t xshim_tcp_arrived(int fd);
/* FIN or RST has come. */
bool xshim_tcp_peer_closed(int fd);
/* Reset, or closed both ways: the kernel carries nothing any more. */
bool xshim_tcp_is_over(int fd);

#endif
