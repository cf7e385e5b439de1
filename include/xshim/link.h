/* SPDX-License-Identifier: MIT */
/*
 * link.h - one end's state of a connection: which path each direction is on, and the way there and back.
 *
 * Pure code: no system call, no allocation, no time. The caller does the input and output that it is
 * told to, and reports what happened. So it can be simulated and model-checked (tests/models/).
 *
 *            up: switch k odd, at sw_at                    leave: both LEAVE frames exchanged
 *   TX  TCP ---------------------------> RING --> HELD -----------> RESEND --> OUT
 *        ^                                |      (own LEAVE is       [upto, head) of the own ring goes
 *        +--------------------------------+       being sent)        over TCP first
 *            down: switch k even
 *
 *   RX  TCP <--> RING --> FRAME --> RAW --> OUT
 *       reads up to sw_at,  the peer's   TCP from upto on; until the offset reaches the peer's head the
 *       then crosses        LEAVE comes  rest could still be had from the peer's region if it dies
 *
 * Rules
 * - up needs the peer attached, and ack == seq. It is made at a time when the peer is reading, because
 *   until the peer crosses, only the ring's size can be buffered.
 * - down needs ack == seq: the peer has crossed our up; or that the peer has been seen not to be in a read of TCP since the up
 *   was made, so that its next one finds the up first (region.h, "Switches"). It is for a full ring that nobody empties: the
 *   kernel's socket buffers then take what they take without us. So a peer that is busy elsewhere holds nobody up.
 * - leave: who wants to leave sets `leave` in its region and rings. An end that sees the peer's `leave`
 *   (or wants to leave itself and sees that the peer does too) sends LEAVE once its own outgoing stream is on the ring with ack == seq, and it
 *   has itself crossed onto the peer's ring with no boundary ahead. The other answers with its own. From
 *   the moment an end has begun to send LEAVE it neither reads nor writes the rings any more, and it makes no down for good.
 * - half-close cancels a leave, because after FIN no LEAVE can follow. Nobody begins with its own fin set or the peer's fin
 *   seen. An end that has set fin and then reads a LEAVE it has not begun to answer throws the frame away and stays on the ring; the
 *   one who sent it reads EOF where it expected the answer and goes back (xshim_link_leave_undo). An end that has begun
 *   LEAVE defers its half-close until it is OUT.
 * - From beginning LEAVE to the peer's answer an end can move nothing on this connection, not even read what lies unread on the peer's
 *   ring: that comes again by TCP, and until then neither poll nor a receive finds it. The peer
 *   answers in its next call, or at once if it sleeps in one; what it did not consume of our ring is sent again in the next call of ours. So who asks waits for it, and takes the question back when it gives
 *   up (region.h, "Asking"): nobody begins LEAVE for one that is busy elsewhere. Who leaves because its memory is to go,
 *   whatever becomes of the connection, does not take it back.
 * - an end may leave alone (region.h): without LEAVE, when the peer is busy elsewhere and it cannot wait, as before an exec. It must have
 *   consumed all that the peer has put on its ring, because the peer may die before it sends that again.
 * - who is to hand the connection to another program, and has not consumed all, gives the rest back (region.h), which is the best
 *   that can be had then: nothing is lost but by a peer that dies before its next call. It may take it back before, to read it itself.
 *   Not from a peer whose TCP is ahead of that, because it has half-closed or come down: what lies on the ring cannot come first then.
 * - before the first switch of either end there is a shorter way: `attached` is taken back (xshim_link_withdraw). Who
 *   attaches later, or has not switched yet, sees it, and does so, too. It matters where the peer sleeps over plain TCP and
 *   waits for the very program that wants to leave.
 * - A LEAVE that comes without having been asked for is answered all the same if the end is in a state to do
 *   so; else the connection is reset (-EPROTO).
 *
 * Offsets: RX/TX pos are absolute stream offsets. On the TCP path, pos is the number of octets that the kernel
 * counts for the socket in that direction (plus, after a leave, the difference that the caller keeps: base).
 *
 * Threads: the caller holds the lock of the direction (arena.h) for xshim_tx_* and xshim_rx_*; for
 *          xshim_link_leave_* it holds both, rx before tx. xshim_link_is_out() needs either: the words it reads are atomic.
 * Fork:    lives in memory shared with the child, plain data, no pointers. One of the processes that share it may be killed with a lock
 *          held: each function stores first what it decides by, so that who takes the lock over can finish it (xshim_*_mend()).
 * Errors:  0 or a count or -errno; -EPROTO: the peer broke the protocol, reset the connection.
 */
#ifndef XSHIM_LINK_H
#define XSHIM_LINK_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <xshim/frame.h>
#include <xshim/region.h>

enum xshim_tx_state {
	XSHIM_TX_TCP = 0,
	XSHIM_TX_RING,
	XSHIM_TX_HELD,		/* LEAVE begun; the peer's has not come: nothing may be sent */
	XSHIM_TX_RESEND,	/* the own ring's [pos, end) goes over TCP before anything else */
	XSHIM_TX_OUT,		/* this direction has left */
};

enum xshim_rx_state {
	XSHIM_RX_TCP = 0,
	XSHIM_RX_RING,
	XSHIM_RX_FRAME,		/* LEAVE begun by us; the peer's is next on TCP */
	XSHIM_RX_RAW,		/* TCP carries the stream again; below `end` the peer's ring still has it too */
	XSHIM_RX_OUT,
	XSHIM_RX_GIVEN,		/* we gave what is unread back; before: RING if seq is odd, else TCP with the up ahead */
};

#define XSHIM_ASKS_WAITS 1u	/* who asks waits for it, and then takes it back */
#define XSHIM_ASKS_STANDS 2u	/* nobody waits: it is for the peer's next call (leave.c) */

struct xshim_link_tx {
	_Atomic uint32_t state;	/* enum xshim_tx_state */
	uint32_t seq;		/* switches made */
	uint64_t pos;		/* RING: next offset to write; RESEND: next to send again */
	uint64_t base;		/* which offset lies at the beginning of the ring (region.h, "Beginning anew") */
	uint64_t soft;		/* the last place in the ring up to which is written without a thought of beginning anew */
	uint64_t start;		/* where the present ring segment began */
	uint64_t tail;		/* the peer's consumption, last checked value */
	uint64_t end;		/* RESEND: where it ends; HELD: our head in LEAVE */
	uint64_t room;		/* of the ring that may be used (region.h, "Room"), as of the last look */
	_Atomic uint32_t frame_sent; /* octets of our LEAVE already on TCP */
	_Atomic uint32_t frame_len; /* 0, or XSHIM_FRAME_BYTES once LEAVE has been encoded */
	uint8_t frame[XSHIM_FRAME_BYTES];
};

struct xshim_link_rx {
	_Atomic uint32_t state;	/* enum xshim_rx_state */
	uint32_t seq;		/* switches of the peer crossed */
	uint64_t pos;		/* next offset to consume */
	uint64_t head;		/* the peer's head, last checked value */
	uint64_t base;		/* the peer's base, likewise, of all from pos on that is below head */
	uint64_t end;		/* RAW: the peer's head in its LEAVE; GIVEN: pos when it was given, if seq is odd */
	uint32_t frame_got;	/* octets of the peer's LEAVE already read */
	uint32_t pad0;
	uint8_t frame[XSHIM_FRAME_BYTES];
};

struct xshim_link {
	struct xshim_link_tx tx;
	struct xshim_link_rx rx;
	uint32_t order_own, order_peer;	/* ring sizes, checked at attach */
	uint64_t nonce_own, nonce_peer;
	_Atomic uint32_t want_leave;	/* we ask, `leave` is published; 0, or XSHIM_ASKS_* */
	_Atomic uint32_t left;		/* the peer's LEAVE has been taken in, or we have left alone */
	_Atomic uint32_t error;		/* sticky errno once the protocol was broken */
	_Atomic uint32_t fin;	/* our own stream is half-closed */
	_Atomic uint32_t withdrawn;	/* we have taken `attached` back; no switch of ours will come */
	_Atomic uint32_t taken;	/* from tx.tail on we have taken back what the peer gave; written under tx_lock */
	_Atomic uint32_t sndbuf, rcvbuf; /* what is published of our own; read without a lock, too */
	_Atomic uint32_t late;	/* the peer may leave alone without what was put on the ring last; written under tx_lock, 0: by who holds both */
};

/* Fresh state for a channel; order_* and nonce_* as checked by the caller. */
void xshim_link_init(struct xshim_link *l, unsigned int order_own, uint64_t nonce_own,
		     unsigned int order_peer, uint64_t nonce_peer);

/* ---- sending ---- */

/* Our next switch is allowed: up, the peer is attached and has crossed the last one; down, as above, nobody is leaving. */
bool xshim_tx_may_switch(const struct xshim_link *l, const struct xshim_region_hdr *peer);
/*
 * RING, both locks: a down is allowed also while somebody asks to leave, if the peer's stream is on TCP to us: until we cross to its
 * ring it can not begin LEAVE, and when it sees that we have, it sees this switch; or if the peer has half-closed: then it does not
 * begin, nor do we, whoever asks.
 */
bool xshim_tx_may_come_down(const struct xshim_link *l, const struct xshim_region_hdr *peer);
/* Neither is, only because the peer is in a read of TCP, which takes a moment, and nothing rings when it has ended. */
bool xshim_tx_peer_reads(const struct xshim_link *l, const struct xshim_region_hdr *peer);
/* TCP -> RING at offset `at`, all octets below which are in the kernel. The caller rings the doorbell. */
void xshim_tx_up(struct xshim_link *l, struct xshim_region_hdr *own, uint64_t at);
/* RING -> TCP at the present position. The caller rings, then may write to the socket. False: the peer leaves alone. */
bool xshim_tx_down(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* The program has set the sizes of its buffers, 0: it has not. Before `attached`, or the caller rings. Both locks, or nobody inside. */
void xshim_link_buffers(struct xshim_link *l, struct xshim_region_hdr *own, uint32_t sndbuf, uint32_t rcvbuf);
/* How much the peer puts on its ring at most. */
uint64_t xshim_rx_room(const struct xshim_link *l, const struct xshim_region_hdr *peer);
/* RING: bytes that can be written now, 0 to what there is room for; -EPROTO. */
int64_t xshim_tx_space(struct xshim_link *l, const struct xshim_region_hdr *peer);
/* RING: of these, what is known without a look at the peer's words; there may be more. */
static inline uint64_t xshim_tx_known_space(const struct xshim_link *l)
{
	uint64_t used = l->tx.pos - l->tx.tail;

	return used < l->tx.room ? l->tx.room - used : 0;
}
/* The place in the ring of what is next to be written, or sent again. */
static inline size_t xshim_tx_place(const struct xshim_link *l)
{
	return (size_t)(l->tx.pos - l->tx.base) & (((size_t)1 << l->order_own) - 1);
}
/* Octets, a power of two: the ring is asked whether it is empty once for so many. A page, so that a dialogue keeps to two. */
#define XSHIM_TX_LAP 4096u
/*
 * RING, after xshim_tx_space(), before n bytes are copied to xshim_tx_place(): if the ring is empty they lie at its beginning. soft is moved on to
 * behind them, so that it is worth coming here only for what would go beyond it.
 */
void xshim_tx_anew(struct xshim_link *l, struct xshim_region_hdr *own, uint64_t n);
/* RING: n bytes from pos have been copied into the ring: publish. Returns true if the peer wants the bell. */
static inline bool xshim_tx_commit(struct xshim_link *l, struct xshim_region_hdr *own,
				   const struct xshim_region_hdr *peer, uint64_t n)
{
	uint64_t old = l->tx.pos, want;

	l->tx.pos = old + n;
	/* Publish /then/ read the wish, old <= want < old + n; pairs with xshim_rx_want() and the re-read after it. */
	atomic_store_explicit(&own->head, l->tx.pos, memory_order_seq_cst);
	want = atomic_load_explicit(&peer->want_data, memory_order_seq_cst);
	return want - old < n;
}
/*
 * After xshim_tx_commit(): the peer leaves alone, and may have done so without these bytes. XSHIM_REGION_LEFT: it has, so they are to be
 * sent on TCP before the call ends; XSHIM_REGION_STOP: it is about to decide; 0: it does not.
 */
static inline uint32_t xshim_tx_is_alone(const struct xshim_region_hdr *peer)
{
	uint32_t leave = atomic_load_explicit(&peer->leave, memory_order_seq_cst);

	return leave > XSHIM_REGION_ASKS ? leave : 0;
}
/*
 * Before fin, tx_lock: something of ours goes by TCP first, or may have to. On the ring that is what the peer may not have seen when it
 * looked whether it leaves alone (late): what was there before that it reads, or it does not leave.
 */
bool xshim_tx_fin_waits(const struct xshim_link *l, const struct xshim_region_hdr *peer);
/* RING, before a sleep for space: store the wish. Re-read xshim_tx_space() afterwards, then sleep. */
void xshim_tx_want(struct xshim_link *l, struct xshim_region_hdr *own, uint64_t free_wanted);
/*
 * Bytes on the ring that the peer has not consumed, also of a stretch that has ended and has not been crossed yet. A tail that cannot be
 * so counts as all of them, and is found by xshim_tx_space(). Any lock that keeps tx as it is.
 */
uint64_t xshim_tx_unread(const struct xshim_link *l, const struct xshim_region_hdr *peer);
/* Before a sleep until no more than `left` of them are: store the wish. Re-read xshim_tx_unread() afterwards, then sleep. */
void xshim_tx_want_unread(const struct xshim_link *l, struct xshim_region_hdr *own, uint64_t left);
/* The lock was taken over from one who was killed: what it had decided, and not announced, is announced. The caller rings. */
void xshim_tx_mend(struct xshim_link *l, struct xshim_region_hdr *own);
/* `taken` is set: go on to RESEND from tx.tail. For who has set it, and who finishes it. */
void xshim_tx_take(struct xshim_link *l, struct xshim_region_hdr *own);
/* RESEND: n octets of the own ring from pos went out. */
void xshim_tx_resent(struct xshim_link *l, uint64_t n);

/* ---- receiving ---- */

enum xshim_rx_step {
	XSHIM_RX_STEP_TCP,	/* read at most *limit octets from TCP (UINT64_MAX: any) */
	XSHIM_RX_STEP_RING,	/* *limit bytes are in the ring at pos (0: none now) */
	XSHIM_RX_STEP_FRAME,	/* read at most *limit octets from TCP into frame + frame_got */
};

/*
 * Look at the peer's words, cross a boundary that has been reached (publishing ack), and say what is to
 * be read next. *crossed is set when a switch was crossed: *limit is 0 then, the caller rings the doorbell, stores its
 * wish anew if it has one, and asks again, a bounded number of times.
 * -EPROTO as above.
 */
int xshim_rx_next(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer,
		  enum xshim_rx_step *step, uint64_t *limit, bool *crossed);
/* The place in the peer's ring of what is next to be read, once xshim_rx_next() or xshim_rx_look() has said that it is there. */
static inline size_t xshim_rx_place(const struct xshim_link *l)
{
	return (size_t)(l->rx.pos - l->rx.base) & (((size_t)1 << l->order_peer) - 1);
}
/* After a load of the peer's head, or of a boundary: its base is the one that belongs to it. False: it cannot be true. */
static inline bool xshim_rx_take_base(struct xshim_link *l, const struct xshim_region_hdr *peer)
{
	uint64_t base = atomic_load_explicit(&peer->base, memory_order_relaxed);

	if (__builtin_expect(base != l->rx.base, 0)) {
		if (base < l->rx.base || base > l->rx.pos)
			return false;
		l->rx.base = base;
	}
	return true;
}
/* RING: the peer's head as it is now, and how many bytes lie below it. size: of the peer's ring. False: it cannot be true. */
static inline bool xshim_rx_take_head(struct xshim_link *l, const struct xshim_region_hdr *peer, uint64_t size, uint64_t *there)
{
	uint64_t head = atomic_load_explicit(&peer->head, memory_order_seq_cst);

	if (head < l->rx.head || head - l->rx.pos > size || !xshim_rx_take_base(l, peer))
		return false;
	l->rx.head = head;
	*there = head - l->rx.pos;
	return true;
}
/*
 * RING: how many bytes lie in the ring. False: none, or a boundary is ahead, or the peer broke the protocol; xshim_rx_next() knows. What lies
 * below rx.head may be taken without a look at the peer's words: no boundary that is not crossed lies before it.
 */
static inline bool xshim_rx_look(struct xshim_link *l, const struct xshim_region_hdr *peer, uint64_t size, uint64_t *there)
{
	/* Boundary /then/ head, as in xshim_rx_next(). */
	return atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) == l->rx.seq && xshim_rx_take_head(l, peer, size, there) && *there;
}
/*
 * After init, before the peer may switch: the kernel's count of octets consumed from the socket so far, plus base.
 * From here on xshim_rx_took_*() count, because once both ends have sent FIN the kernel's count cannot be
 * told from one that has the FIN in it.
 */
void xshim_rx_set_pos(struct xshim_link *l, uint64_t pos);
/* RING: what lies behind the next `limit` bytes, as xshim_rx_next() has given it, goes by TCP. */
bool xshim_rx_ends_at(const struct xshim_link *l, const struct xshim_region_hdr *peer, uint64_t limit);
/*
 * Around a read of TCP, a peek, too, that xshim_rx_next() has set no limit to (UINT64_MAX): false: a switch has been announced
 * since, ask again. xshim_rx_read_end() in both cases.
 */
bool xshim_rx_read_begin(const struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
void xshim_rx_read_end(struct xshim_region_hdr *own);
/* n bytes were taken from TCP (STEP_TCP). */
int xshim_rx_took_tcp(struct xshim_link *l, uint64_t n);
/* n bytes were taken from the ring: publish. Returns true if the peer wants the bell. */
static inline bool xshim_rx_took_ring(struct xshim_link *l, struct xshim_region_hdr *own,
				      const struct xshim_region_hdr *peer, uint64_t n)
{
	uint64_t old = l->rx.pos, want;

	l->rx.pos = old + n;
	/* Publish /then/ read the wish, old <= want < old + n; pairs with xshim_tx_want(). */
	atomic_store_explicit(&own->tail, l->rx.pos, memory_order_seq_cst);
	want = atomic_load_explicit(&peer->want_space, memory_order_seq_cst);
	return want - old < n;
}
/* As xshim_tx_mend(). */
void xshim_rx_mend(struct xshim_link *l, struct xshim_region_hdr *own);
/* Before a sleep for data: store the wish. Ask xshim_rx_next() again afterwards, then sleep. */
void xshim_rx_want(struct xshim_link *l, struct xshim_region_hdr *own, bool want);

/* ---- leaving (both locks held) ---- */

/* Ask to leave: publishes `leave`. The caller rings. Idempotent. Not while GIVEN. */
void xshim_link_leave_ask(struct xshim_link *l, struct xshim_region_hdr *own);
/*
 * True if LEAVE is to be sent now (asked by the peer, and our state allows it). Then call
 * xshim_link_leave_begin(), and if that is true, write tx.frame[frame_sent..frame_len) to TCP, adding to frame_sent.
 */
bool xshim_link_leave_due(const struct xshim_link *l, const struct xshim_region_hdr *peer);
/* It is begun, unless the peer takes its question back just now: false. */
bool xshim_link_leave_begin(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* Take the question back. False: it is being answered, or was not asked alone; go on as before. The caller rings in both cases. */
bool xshim_link_leave_unask(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/*
 * frame_got octets of the peer's LEAVE are in rx.frame, frame_got == XSHIM_FRAME_BYTES: take it in. If
 * ours has not been begun it is begun (send it, as above). 0 or -EPROTO.
 */
int xshim_link_leave_got(struct xshim_link *l);
/* The stream is about to be half-closed: publish fin. The caller rings, then calls shutdown(2). */
void xshim_link_fin(struct xshim_link *l, struct xshim_region_hdr *own);
/* The same where the peer may give: false: it does, which is to be taken first. tx_lock. */
bool xshim_link_try_fin(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* The program reads no more: XSHIM_REGION_SHUT, after the shutdown, or XSHIM_REGION_CLOSED, before the close. */
void xshim_link_deaf(struct xshim_region_hdr *own, uint32_t how);
/* Leave alone. True: the link is out. False: it cannot be done, or not now. The caller rings in both cases. */
bool xshim_link_leave_alone(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* Its two halves: STOP, and whether something stands against it, which takes STOP back; then, if nothing does, LEFT. */
bool xshim_link_stop(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
void xshim_link_stopped(struct xshim_link *l, struct xshim_region_hdr *own);
/* The peer has left alone (leave is XSHIM_REGION_LEFT): do as that asks. To be repeated until the link is out. 0 or -EPROTO. */
int xshim_link_is_left(struct xshim_link *l, const struct xshim_region_hdr *peer);
/*
 * Give what is unread back: another program is to read it. 1: from here on TCP alone has all that is to come; 0: it cannot be done, or not
 * now; -EAGAIN: the peer is in the middle of something, ask again. The caller rings in all cases.
 */
int xshim_link_give(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/*
 * GIVEN, and we would read it ourselves after all, rx.pos is to be counted anew if rx.state is TCP then: 1; 0: the peer has taken
 * it, and the link is out; -EAGAIN: it may be about to, and what it decides comes by TCP. dead: it takes nothing any more, FIN or RST is
 * there. The caller rings.
 */
int xshim_link_ungive(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer, bool dead);
/* GIVEN: the peer has taken it; the link is out. */
bool xshim_link_is_taken(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* The peer gives (leave is XSHIM_REGION_GIVES): take it. To be repeated until the link is out. The caller rings. 0 or -EPROTO. */
int xshim_link_is_given(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* Words about leaving that one who was killed has left behind are set to what is so. True: there was one; the caller rings. */
bool xshim_link_mend(struct xshim_link *l, struct xshim_region_hdr *own);
/* EOF came where the peer's LEAVE was expected: go on as if ours had not been begun. */
void xshim_link_leave_undo(struct xshim_link *l);
/*
 * To leave before anything was switched: take `attached` back. True: the peer has not switched and will not, the channel
 * can be thrown away. False: it may be about to; the caller rings, and asks again when it has been rung, until this
 * is true or the peer's switch is there, after which leave is asked for as ever.
 */
bool xshim_link_withdraw(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* The peer has done so, and we have not switched: agree. True: the channel can be thrown away; the caller rings. */
bool xshim_link_is_withdrawn(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer);
/* Both directions have left: the channel can be thrown away. */
bool xshim_link_is_out(const struct xshim_link *l);

#endif
