/* SPDX-License-Identifier: MIT */
/*
 * region.h - what one end shares with the other: its outgoing ring and its own positions (normative).
 *
 * A channel is two regions. Each end creates one, maps it writable, and gives the peer read-only access
 * (a memfd sealed F_SEAL_SHRINK|GROW|FUTURE_WRITE|SEAL, or read-only grants). So every word has one
 * writer, the owner, and nobody can bend another's positions. All of this end's state that steers it
 * is private (struct xshim_link); the words here are publish-only, the owner never reads them back.
 * What the peer reads is loaded once into a local, checked, and only the local is used.
 *
 *   0        64         128        192        256                   4096
 *   +--------+----------+----------+----------+---------------------+-----------//---+
 *   | const  | producer | consumer | wishes   | slow: attached, ... | ring data      |
 *   +--------+----------+----------+----------+---------------------+-----------//---+
 *
 * Offsets are absolute 64-bit stream offsets of the direction they speak of: the number of application
 * bytes the direction has carried since the connection was made, by whatever path; the same number on
 * both ends. Byte n of the stream, when it goes by ring, is at data[(n - base) & (size - 1)].
 *
 *   field         written by owner            read by peer        meaning
 *   magic..nonce  before it is shared         once, at attach
 *   head          seq_cst, after the bytes    seq_cst             ring bytes below head are there
 *   sw_at, sw_seq sw_at /then/ sw_seq         sw_seq /then/ sw_at see "Switches"
 *   base          release, before the head    after the head      see "Beginning anew"
 *   fin           release, before shutdown    acquire             1: the owner half-closed its stream at head
 *   rung          seq_cst, before the bell    seq_cst             shm: how many times the owner has rung the peer, or is
 *                                                                  about to; added to, by each process that shares the end.
 *                                                                  Counted and not rung, because it was stopped or killed between:
 *                                                                  the peer empties its bell once too soon, which costs it a call
 *   sndbuf        relaxed, before attached    relaxed             the size that the owner's program has set by SO_SNDBUF, 0: none;
 *                 and when it is set, then a                       see "Room"
 *                 ring of the bell
 *   tail          seq_cst                     seq_cst             the owner has consumed the peer's stream below tail
 *   ack           release                     acquire             last switch of the peer that the owner has crossed
 *   rcvbuf        as sndbuf                   relaxed             the same of SO_RCVBUF
 *   want_data     seq_cst                     seq_cst             see "Sleeping"
 *   want_space    seq_cst                     seq_cst             see "Sleeping"
 *   port_at       seq_cst                     seq_cst             xen: by which of the event channels the owner is to be rung; see "Ports"
 *   attached      seq_cst                     seq_cst             1: the owner consults this channel before and
 *                                                                  after each read of the TCP socket; 2: it does not any
 *                                                                  more, and has never switched (link.h, "withdraw")
 *   leave         seq_cst                     seq_cst             XSHIM_REGION_ASKS: the owner asks to return to TCP, and
 *                                                                  will, while it does, make no switch that the peer could
 *                                                                  take for none (link.h, xshim_tx_may_come_down()); see
 *                                                                  "Asking". _STOP, _LEFT: see "Leaving alone"; _GIVES: see
 *                                                                  "Giving back"
 *   answering     seq_cst                     seq_cst             1: the owner is about to send LEAVE, or has, or is about to
 *                                                                  come down, or to half-close; see "Asking"; or to take
 *                                                                  back what the peer gives, or has; see "Giving back"
 *   deaf          seq_cst                     any                 XSHIM_REGION_SHUT: the owner has shut its socket both ways,
 *                                                                  so that its kernel answers bytes on TCP by RST;
 *                                                                  XSHIM_REGION_CLOSED: it is closing it. Who is about to
 *                                                                  send by ring asks the kernel whether FIN or RST is there,
 *                                                                  and believes only that: a lie costs a look at each
 *                                                                  send, and who dies before it is set resets as it closes
 *   consult       relaxed                     relaxed             count of reads from TCP since attached; a hint
 *   reading       1 seq_cst, 0 release        seq_cst             not 0: the owner is in a read of TCP that it began when it
 *                                                                  saw no switch ahead. Looked at only until the peer's up is
 *                                                                  acked. A lie of 0 costs the liar the order of what it reads
 *                                                                  itself; 1 for ever: see "If the other end lies". Of several
 *                                                                  processes that share the end one may be killed there: another sets
 *                                                                  it to 0 when it takes the lock over, or by its next read that no
 *                                                                  boundary limits; one that is limited ends in an ack
 *   ports         seq_cst                     seq_cst             see "Ports"
 *   alive         before it is shared; xen:   relaxed             XSHIM_REGION_ALIVE; anything else: the owner is gone. xen: the kernel
 *                 the kernel clears a byte                         does it when the owner's last process ends, and a mapping that a
 *                 when the owner is gone                           save or migration has cut reads 0xff
 *
 * Switches. sw_seq counts the owner's switches of its outgoing stream: 0 before the first, odd while it
 * goes by ring, even while by TCP. Switch number k takes effect at stream offset sw_at[k & 1]: bytes below it
 * go by the old path, from it by the new one. The peer acks k when it has consumed everything below it.
 *   up    k odd: made only when the peer's ack is k - 1. So at most two boundaries are ahead of the reader, an up
 *         and the down after it, and neither place is written again before it has been crossed.
 *   down  k even: made when the peer's ack is k - 1, or when the peer has been seen not `reading` since the up was
 *         stored. What follows goes on TCP, and a read of TCP that overtook the announcement of the up would take it for
 *         what precedes the ring's bytes: the reader stores `reading` /then/ looks at sw_seq /then/ reads; the
 *         writer stores sw_seq /then/ looks at `reading`. A read that is limited by a boundary needs no such care.
 *
 * Asking. Who has begun LEAVE can move nothing until the other answers. So who has asked and does not wait for it any more takes
 * `leave` back, unless LEAVE is on its way: it stores leave /then/ looks at the other's `answering`, and if that is 1, asks on, because
 * the answer comes at once. The other stores answering /then/ looks at leave /then/ at sw_seq, and takes answering back if it does
 * not begin.
 *
 * Leaving alone. Who must leave while the peer is busy elsewhere does so by itself: it stores leave = _STOP /then/ looks at answering
 * /then/ at sw_seq and head. If the peer answers, comes down, has come down ahead of what was consumed, or has put more on its ring, it
 * takes _STOP back. Else it comes down itself, if it is on the ring, and then stores _LEFT, for good: it reads TCP only, from its tail
 * on. The peer neither begins LEAVE nor comes down when it finds _STOP or _LEFT after it has stored answering; and who finds _LEFT after
 * it has stored head sends on TCP what lies in its ring from that tail on, before anything else and before its call ends. It is out
 * when it has crossed the down. Who finds _STOP waits for the decision and puts nothing more on its ring before it is made. If it finds
 * it after it has stored head, and those bytes are not consumed yet, it stores no fin either before that: they may have to be sent before
 * FIN. What was on the ring before _STOP stands against leaving, so FIN may follow it at once. The owner rings in both cases.
 *
 * Giving back. Who must leave alone with something of the peer's unread, because another program reads the connection from now on,
 * comes down, stores leave = _GIVES, and consumes no more. It looks at answering /then/ at sw_seq, fin and deaf: once answering was 0, and
 * the peer had neither come down nor closed, it does neither before it has taken this back, and TCP carries nothing that follows what
 * is unread. The peer, in its next call, stores answering /then/ finds _GIVES still there: it comes down at the owner's tail (or where
 * the ring's stretch began, if that was not crossed), for good, and sends on TCP what lies from there. It leaves answering at 1.
 * Until then the owner may think better of it: it stores leave = 0 /then/ looks at answering, and if that is 1, gives on,
 * because the peer takes. So each byte is the one's or the other's. The down tells the owner that it was taken; then it stores _LEFT.
 *
 * Beginning anew. What carries little at a time and is read soon would go round through all of its ring, and have all of its memory: a page
 * fault for each page, the first time, and the processors' caches and tables of pages for nothing. So when the owner finds its ring empty, its
 * position the same as the peer's tail, it may store base = that position: what follows lies at the beginning of the ring again. It
 * stores base /then/ the bytes /then/ head; the peer loads head /then/ base. A base that it finds is the one of all that it has not
 * consumed, since none of that lies before base: the owner moves base only when there is none. It never goes back. The
 * peer takes it over if it lies between the last one and what it has consumed; else it is a lie, -EPROTO. A lie within that, or of a tail that
 * is not so, garbles the liar's own stream.
 *
 * Sleeping. A doorbell is rung by who publishes, if the other asked. want_data = n: "ring when your head
 * passes n", that is when old_head <= n < new_head; want_space = n: "ring when your tail passes n".
 * XSHIM_WANT_NOTHING: do not ring. The sleeper stores its wish /then/ re-reads the position /then/
 * sleeps; the waker publishes /then/ reads the wish. All four are seq_cst: with less, both may miss the
 * other. Switches, fin, leave, its being taken back, and attached always ring. Who hears each ring as an edge need not empty its bell
 * each time, and knows by `rung` that it is not full yet (one that ticks never is: backend_shm.c). A liar is not heard at last, and waits for what it
 * has not asked for.
 *
 * Ports (xen). An event channel that has spoken is mute until its port is written back, a system call. So an end has several, and one
 * call writes all of them back when they are used up. Number 0 is the ticket's; `more_ports` are further ones of who offers, up to the first 0;
 * `ports` is how many an end has in all: who offers has them when the memory is shared, who claims has bound as many of them as it could
 * when it stores that. Asked for is one that both have, number 0 if the peer's word is 0. The sleeper empties its bell /then/ stores port_at,
 * one that is not mute /then/ its wishes /then/ looks; the waker publishes /then/ reads the wish /then/ reads port_at /then/ rings. Who
 * rings one that is not asked for any more has published before the sleeper's look. Such a ring may come after all ports were written back, and
 * make one mute whose turn is yet to come: the sleeper finds it among those that have spoken, and writes it back by itself
 * (tests/models/port_turn.pml). A number that cannot be: number 0 is rung. What an end lies about these, it is not woken for.
 *
 * Room. A program that sets small buffers is not to be flooded, nor its writes to pile up: of a direction's ring as much is used as the
 * two sizes allow together (xshim_region_room()). The sender reads the receiver's size when it has no room left that it knows of, so a
 * smaller one holds from then on, as TCP does not take back a window; the receiver reads the sender's to know how much it can wait for
 * (SO_RCVLOWAT). Either end may say what it likes: room is never less than a page, nor more than the ring. A lie about rcvbuf costs the
 * liar the speed of what it reads itself. One about sndbuf, too small: the other is told of less than it wanted to wait for; too large: it
 * waits for what does not come, as for an end that sends nothing.
 *
 * If the other end lies: a position that goes back or runs beyond what was sent, a switch number that
 * skips, an sw_at below what was consumed: -EPROTO, the connection is reset with reason "corrupt". `reading` cannot be
 * checked, and is believed. 0 while it reads: bytes that follow the ring's may be taken for ones that precede them, in the
 * liar's own incoming stream and nowhere else. 1 for ever, lied or left by one that was killed: our direction cannot come
 * down before the up is acked. What is beyond the ring's size waits, and so does urgent data, as for an end that reads nothing
 * and has no room; who waits for that looks again each XSHIM_READ_MS (preload/ready.h), because nothing rings. Leave, FIN,
 * RST and the end of the other's process do not look at it.
 * `fin` is believed, too. 1 of one that begins LEAVE all the same: it finds us come down, -EPROTO, or waits for an answer in vain.
 * `leave` and `answering` are believed, too. _LEFT though it reads its ring on, or _STOP taken back too late: what is sent twice, or not
 * at all, is the liar's own incoming stream. _STOP for ever, lied or left by one that was stopped or killed there: our direction does not
 * come down, and takes no more, as for an end that reads nothing and has no room; who waits for that
 * looks again each XSHIM_READ_MS. Only the first call waits for the decision, for DECIDES_NS (preload/pump.c). What was put there in the
 * instant between its looks and the decision, and a FIN behind that, then wait for a call of ours after it, a sleep on the
 * connection included, or for the close: nobody else can send them, and before it has decided nobody knows by which path.
 * _GIVES for ever, or with a tail that is not so: as _LEFT. answering = 1 for ever: a question cannot be taken back, and nobody leaves
 * alone, or gives: who asks waits a second more, and stays; what was given comes by TCP, or not, and a FIN or RST ends the wait.
 *
 * If it dies or stops: its region stays readable, its words just do not change; FIN and RST of the TCP
 * connection tell the difference. If it restarts: it has no claim on this region; a new channel is made.
 */
#ifndef XSHIM_REGION_H
#define XSHIM_REGION_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XSHIM_REGION_MAGIC 0x58534852u	/* "XSHR" */
#define XSHIM_REGION_VERSION 6
#define XSHIM_REGION_HDR 4096		/* the ring starts here */
#define XSHIM_RING_ORDER_MIN 12		/* 4 KiB */
#define XSHIM_RING_ORDER_MAX 24		/* 16 MiB */
#define XSHIM_REGION_GREFS ((XSHIM_REGION_HDR - 320) / 4) /* so a xen ring is of 2 MiB at most */
#define XSHIM_REGION_ALIVE 0x5a17a11fu
#define XSHIM_REGION_GONE 0x5a17a100u	/* alive once the kernel has cleared its first byte: what the ring holds is still true */
#define XSHIM_REGION_ASKS 1u
#define XSHIM_REGION_LEFT 2u
#define XSHIM_REGION_STOP 3u
#define XSHIM_REGION_GIVES 4u
#define XSHIM_REGION_SHUT 1u
#define XSHIM_REGION_CLOSED 2u
#define XSHIM_WANT_NOTHING UINT64_MAX
#define XSHIM_REGION_PORTS 8u

struct xshim_region_hdr {
	/* constant once shared */
	uint32_t magic;
	uint16_t version;
	uint16_t order;			/* ring size is 1 << order */
	uint64_t nonce;			/* names the channel in LEAVE frames; from the creator */
	uint8_t pad0[48];
	/* producer: 64 */
	_Atomic uint64_t head;
	_Atomic uint64_t sw_at[2];	/* of the last switch to TCP, and to the ring */
	_Atomic uint32_t sw_seq;
	_Atomic uint32_t fin;
	_Atomic uint32_t rung;
	_Atomic uint32_t sndbuf;
	_Atomic uint64_t base;
	uint8_t pad1[16];
	/* consumer: 128 */
	_Atomic uint64_t tail;
	_Atomic uint32_t ack;
	_Atomic uint32_t rcvbuf;
	uint8_t pad2[48];
	/* wishes: 192 */
	_Atomic uint64_t want_data;
	_Atomic uint64_t want_space;
	_Atomic uint32_t port_at;
	uint8_t pad3[44];
	/* slow: 256 */
	_Atomic uint32_t attached;
	_Atomic uint32_t leave;
	_Atomic uint32_t consult;
	_Atomic uint32_t alive;
	_Atomic uint32_t deaf;
	_Atomic uint32_t reading;
	_Atomic uint32_t answering;
	_Atomic uint32_t ports;
	uint32_t more_ports[XSHIM_REGION_PORTS - 1]; /* constant once shared */
	uint8_t pad4[4];
	/* 320: constant once shared, up to the ring; xen only: the grants of the ring's pages */
	uint32_t grefs[XSHIM_REGION_GREFS];
};
_Static_assert(offsetof(struct xshim_region_hdr, head) == 64, "region ABI");
_Static_assert(offsetof(struct xshim_region_hdr, tail) == 128, "region ABI");
_Static_assert(offsetof(struct xshim_region_hdr, want_data) == 192, "region ABI");
_Static_assert(offsetof(struct xshim_region_hdr, port_at) == 208, "region ABI");
_Static_assert(offsetof(struct xshim_region_hdr, attached) == 256, "region ABI");
_Static_assert(offsetof(struct xshim_region_hdr, ports) == 284, "region ABI");
_Static_assert(offsetof(struct xshim_region_hdr, grefs) == 320, "region ABI");
_Static_assert(sizeof(struct xshim_region_hdr) == XSHIM_REGION_HDR, "region ABI");

static inline size_t xshim_region_bytes(unsigned int order)
{
	return XSHIM_REGION_HDR + ((size_t)1 << order);
}

/* What a size that was not set counts as: of a connection whose reader does not read, the kernel's buffers take about that. */
#define XSHIM_ROOM_UNSET 65536u
#define XSHIM_ROOM_LEAST 4096u

/* How much of a direction's ring is used; sizes as in the sender's sndbuf and the receiver's rcvbuf. */
static inline uint64_t xshim_region_room(unsigned int order, uint32_t sndbuf, uint32_t rcvbuf)
{
	uint64_t room = (uint64_t)(sndbuf ? sndbuf : XSHIM_ROOM_UNSET) + (rcvbuf ? rcvbuf : XSHIM_ROOM_UNSET);
	uint64_t size = 1ull << order;

	if ((!sndbuf && !rcvbuf) || room > size)
		return size;
	return room < XSHIM_ROOM_LEAST ? XSHIM_ROOM_LEAST : room;
}

static inline uint8_t *xshim_region_data(struct xshim_region_hdr *r)
{
	return (uint8_t *)r + XSHIM_REGION_HDR;
}

static inline const uint8_t *xshim_region_cdata(const struct xshim_region_hdr *r)
{
	return (const uint8_t *)r + XSHIM_REGION_HDR;
}

/*
 * Peer: the mapping shows the owner's memory, the owner living or not. False: a save or a migration has cut it, or it was let go
 * of (be->forsake). Asked after a copy it speaks for all that was copied, because a mapping goes as a whole.
 */
static inline bool xshim_region_is_whole(const struct xshim_region_hdr *r)
{
	uint32_t alive;

	/* What was copied /then/ the word: no load before this one may come after it. */
	atomic_signal_fence(memory_order_seq_cst);
#if !defined(__x86_64__)
	atomic_thread_fence(memory_order_acquire);
#endif
	alive = atomic_load_explicit(&r->alive, memory_order_relaxed);
	return alive == XSHIM_REGION_ALIVE || alive == XSHIM_REGION_GONE;
}

/* Owner: write the constant part and the initial words into zeroed memory, before it is shared. */
void xshim_region_format(struct xshim_region_hdr *r, unsigned int order, uint64_t nonce);
/* Peer: check the constant part of a mapping of `bytes` bytes, and copy out order and nonce. 0 or -EPROTO. */
int xshim_region_check(const struct xshim_region_hdr *r, size_t bytes, unsigned int *order, uint64_t *nonce);

#endif
