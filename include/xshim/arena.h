/* SPDX-License-Identifier: MIT */
/*
 * arena.h - the shared memory in which a process keeps the state of its connections (normative).
 *
 * An arena is a memfd sealed SHRINK|GROW|SEAL that a process makes for itself. It is mapped shared, so a forked child goes on
 * with the same cursors and locks; the descriptor lets a shim in an exec'd image find it again; and xshimd,
 * who gets the descriptor in HELLO, maps it READ-ONLY and shows it: counting costs the program no system
 * call, and the counters survive kill -9. It is never given to a peer.
 *
 *   0              4096                                    4096 + XSHIM_ARENA_SLOTS * 1024
 *   +--------------+------------+------------+-----//------+
 *   | arena header | slot 0     | slot 1     |             |
 *   +--------------+------------+------------+-----//------+
 *
 * Who writes: the processes that share it (a family by fork: one trust domain, but xshimd and a process
 * that dropped privileges both treat what they read as untrusted: every index is masked or bounded, every
 * string is cut at its field's end). xshimd only reads; a torn counter is a wrong figure for one second.
 *
 * A slot in use has state XSHIM_SLOT_USED. Life: FREE -> (CAS) BUSY, filled in -> USED -> BUSY, its counters
 * added to the header's `done` totals -> FREE. `gen` is incremented at each allocation.
 */
#ifndef XSHIM_ARENA_H
#define XSHIM_ARENA_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <xshim/endpoint.h>
#include <xshim/link.h>
#include <xshim/lock.h>
#include <xshim/reason.h>

#define XSHIM_ARENA_MAGIC 0x58534841u	/* "XSHA" */
#define XSHIM_ARENA_VERSION 5
#define XSHIM_ARENA_HDR 4096
#define XSHIM_ARENA_SLOTS 4096		/* connections with a slot per arena; pages are touched on use */
#define XSHIM_ARENA_SHARERS 6
#define XSHIM_SLOT_JOINTS 2
#define XSHIM_REASON_SLOTS 64		/* counters per reason; numbers beyond count as the last */

enum xshim_slot_state {
	XSHIM_SLOT_FREE = 0,
	XSHIM_SLOT_BUSY,
	XSHIM_SLOT_USED,
};

enum xshim_role {
	XSHIM_ROLE_UNKNOWN = 0,
	XSHIM_ROLE_CONNECT,
	XSHIM_ROLE_ACCEPT,
};

enum xshim_transport {
	XSHIM_TRANSPORT_TCP = 0,
	XSHIM_TRANSPORT_SWITCHING,	/* a channel is attached, not yet both directions on the ring, or leaving */
	XSHIM_TRANSPORT_RING,
};

/* Bytes of payload, as the application counts them. Each end counts for itself. */
struct xshim_counters {
	_Atomic uint64_t ring_tx, ring_rx, tcp_tx, tcp_rx;
	_Atomic uint64_t attaches;	/* times a channel was attached */
	_Atomic uint64_t leaves;	/* times the connection returned to TCP */
	_Atomic uint64_t switches;	/* direction changes made or crossed, ups and downs and leaves */
	_Atomic uint64_t bells_rung, bells_got;
	_Atomic uint64_t sleeps;	/* times a call slept waiting on a channel */
};

/*
 * Each counts in units: 1 for a call, and for an epoll entry that only this process tells of, or whose others are to be told as well;
 * XSHIM_WAITS_JOINT for an entry of which one process of several is told (struct xshim_joint).
 */
struct xshim_waits {
	_Atomic uint32_t rx, tx;
};
#define XSHIM_WAITS_JOINT 0x10000u

/*
 * An entry of an epoll set that a fork has given to several processes. To the kernel it is one, and so it is here: what the program asks
 * for with it, whether one-shot has fired, and what its edges have told last (preload/joint.h).
 *
 *   set     the set's name in the family, 0: free. fd: the number it was added by. tag: what the kernel calls it (preload/eset.h)
 *   word    changes by epoll_ctl << 2 | XSHIM_JOINT_*
 *   want    what is asked for, by the lowest bit of the count: the other half is written /then/ the word
 *   turn    counts what was told, and what was made untold: who finds another than before its look looks again
 *   hints   how often the kernel has said something of the socket; told_hints: when it was told of last
 *   mask .. what was told, as in the shim's own words; mask is 0 while they are written, so that who is killed there leaves news
 *   used    a process that has it from its parent has looked at it
 *   gone    how often the kernel's entries were taken out for good
 *
 * All are written under joint_lock, but hints, used and gone, which only grow; a holder that is killed leaves each word good, so that nothing
 * is to be mended. They are read under it, and word, turn, hints, used and gone also without, to see whether there is anything new.
 */
struct xshim_joint {
	uint64_t set;
	int32_t fd;
	_Atomic uint32_t word;
	struct {
		uint64_t data;
		uint32_t events, pad;
	} want[2];
	_Atomic uint32_t turn, hints, used;
	uint32_t told_hints;
	_Atomic uint32_t mask;
	uint32_t kmask, fulls;
	_Atomic uint32_t gone;
	uint64_t head, arrived;
	uint32_t tag, pad;
};
#define XSHIM_JOINT_IN 1u		/* it is in the set */
#define XSHIM_JOINT_FIRED 2u		/* one-shot, and has told */

struct xshim_slot {
	_Atomic uint32_t state;		/* enum xshim_slot_state */
	_Atomic uint32_t gen;
	/* identity, const while USED (addresses: written once, before `named` is set, release/acquire) */
	_Atomic uint32_t named;
	uint32_t role;			/* enum xshim_role */
	uint64_t cookie;		/* SO_COOKIE */
	uint64_t netns;			/* SO_NETNS_COOKIE */
	struct xshim_tuple tuple;
	char comm[16];
	/* what is shown */
	_Atomic uint32_t transport;	/* enum xshim_transport */
	_Atomic uint32_t reason;	/* enum xshim_reason: why not on a ring; RING when it is */
	_Atomic uint32_t pid;		/* of the process that used it last, in its own pid namespace */
	_Atomic uint32_t flags;		/* XSHIM_SLOT_* */
	struct xshim_counters n;
	/*
	 * Processes that hold the connection: each writes its own pid in and takes it out (atomic); 0 is empty.
	 * fork adds the child before it runs; pending > 0 while a fork is under way; more sharers than fit, or ones whose end
	 * cannot be seen, set XSHIM_SLOT_CROWDED for good. A ring is only attached by a sole holder.
	 */
	_Atomic uint32_t sharers[XSHIM_ARENA_SHARERS];
	_Atomic uint32_t fork_pending;
	uint32_t pad0;
	/* locks; order: rx before tx. Never held while blocking. */
	struct xshim_lock rx_lock;	/* guards link.rx, base_rx, n.ring_rx */
	struct xshim_lock tx_lock;	/* guards link.tx, base_tx, n.ring_tx */
	struct xshim_link link;
	int64_t base_rx, base_tx;	/* stream offset minus the kernel's count of octets, minus n.ring_rx and n.ring_tx (xshim_base_rx()) */
	/*
	 * Calls and epoll entries that count on the channel's bell, which all holders have in common: of each of `sharers`, and last
	 * of those who found no place there. Each process counts its own, before it looks at the ring and until it no longer sleeps; who
	 * has emptied the bell reads them all (seq_cst, both), and rings again if what it found is waited for elsewhere. A
	 * holder that dies leaves its counts: they are not believed of a pid that has gone, and set to 0 when the place is taken
	 * again. In the last place they cannot be told from the living's, and then cost wake-ups for nothing until the next channel.
	 */
	struct xshim_waits waits[XSHIM_ARENA_SHARERS + 1];
	/*
	 * While a channel is attached (preload/rxopts.h). Each is one word, so whoever is killed leaves the old value or the new one.
	 *
	 *   lowat         the program's SO_RCVLOWAT, 0: one byte. Written at attach (nobody else is inside) and under rx_lock by its
	 *                 setsockopt and by the first holder to detach; read without it by receives, which want so much, and with it
	 *                 by who sets a mark. A setsockopt that was killed half-way has not been made, as far as this word goes.
	 *   lowat_socket  what the socket has as its mark, 0: not known, because a change is under way or its maker was killed in it;
	 *                 the next one to set a mark sets it whatever it is. Written and read under rx_lock only, but at attach.
	 *   peek_at       the program's SO_PEEK_OFF plus one, 0: off. Written as lowat, and by compare-and-swap without the lock by
	 *                 receives that have moved it: one that is killed before has not moved it. Read by any.
	 */
	_Alignas(8) _Atomic uint32_t lowat;	/* these two next to each other: looked at at once (preload/fast.h) */
	_Atomic uint32_t peek_at;
	_Atomic uint32_t lowat_socket;
	/*
	 * 1: the holder of rx_lock takes bytes from TCP and has not counted them yet. Who has the lock and finds it 1 has taken it over
	 * from one that was killed there: the kernel has to be asked how far the stream is (xshim_chan_rx_mend()).
	 */
	_Atomic uint32_t rx_taking;
	/*
	 * How often somebody of ours has looked and seen that nothing more can be sent, as the kernel notes it of a socket: room is news to
	 * edge-triggered entries only after that, or after a send that found none (xshim_epoll_full()). Any holder adds.
	 */
	_Atomic uint32_t fulls;
	/*
	 * The most that the program has been told by TCP_INFO (preload/info.h), by any of the processes: each raises it by compare-and-swap
	 * before it tells, and nobody lowers it. One that is killed between has told nothing, and the next tells no more than is so soon.
	 */
	struct {
		_Atomic uint64_t acked, received, sent;
	} info;
	struct xshim_lock joint_lock;	/* a leaf: taken with any other lock held, and none in it */
	struct xshim_joint joint[XSHIM_SLOT_JOINTS];
};

#define XSHIM_SLOT_NONBLOCK	(1u << 0)	/* O_NONBLOCK is set on the description */
#define XSHIM_SLOT_SHUT_RD	(1u << 1)
#define XSHIM_SLOT_SHUT_WR	(1u << 2)
#define XSHIM_SLOT_CROWDED	(1u << 3)	/* holders unknown: never attach */
#define XSHIM_SLOT_RESET	(1u << 4)	/* we owe the application one ECONNRESET */
#define XSHIM_SLOT_SHUT_DUE	(1u << 5)	/* shutdown(SHUT_WR) waits for the leave that is under way */
#define XSHIM_SLOT_STAY		(1u << 6)	/* once off its ring it stays on TCP */
#define XSHIM_SLOT_TIMEO	(1u << 7)	/* since the first channel: SO_RCVTIMEO or SO_SNDTIMEO may be set */
#define XSHIM_SLOT_URGENT	(1u << 8)	/* urgent data was sent while a channel was attached: what we send stays on TCP */
#define XSHIM_SLOT_INQ		(1u << 9)	/* TCP_INQ is set */
#define XSHIM_SLOT_FORCED	(1u << 10)	/* an option for tests counts what is sent by ring */
#define XSHIM_SLOT_LEAVE	(1u << 11)	/* a return to TCP could not be had in time: asked for again now and then */
/*
 * The error that has ended the socket has been told: none is owed for the end. Set by the holder that was told, of any process, once the kernel
 * says that the connection is over, and never taken back (a socket that is connected anew has another slot); read under both locks by who
 * finds the end. One that is killed before it sets it has told its program nothing.
 */
#define XSHIM_SLOT_TOLD		(1u << 12)

#define XSHIM_SLOT_BYTES 1024
_Static_assert(sizeof(struct xshim_slot) <= XSHIM_SLOT_BYTES, "arena ABI");

struct xshim_arena_hdr {
	uint32_t magic;
	uint16_t version;
	uint16_t slot_bytes;
	uint32_t slots;
	_Atomic uint32_t pid;		/* who made it */
	_Atomic uint32_t high_water;	/* slots at or above it were never used */
	_Atomic uint32_t hint;		/* where to look for a free one */
	uint64_t start_ns;		/* CLOCK_REALTIME at creation */
	char comm[16];
	/* totals of connections that have ended (their slots may have been used again) */
	struct xshim_counters done;
	_Atomic uint64_t done_conns;	/* connections ended */
	_Atomic uint64_t done_ring_conns; /* of these, that had been on a ring */
	_Atomic uint64_t done_reasons[XSHIM_REASON_SLOTS]; /* by their last reason; RING: ended on the ring */
	_Atomic uint64_t slotless;	/* connections for which no slot was free */
};
_Static_assert(sizeof(struct xshim_arena_hdr) <= XSHIM_ARENA_HDR, "arena ABI");

#define XSHIM_ARENA_BYTES ((size_t)XSHIM_ARENA_HDR + (size_t)XSHIM_ARENA_SLOTS * XSHIM_SLOT_BYTES)

struct xshim_arena {			/* a mapping; plain value */
	struct xshim_arena_hdr *hdr;	/* NULL: none */
	uint64_t ino;			/* of the memfd: the arena's name */
};

/* Make one (memfd, sealed, mapped); *fd is the caller's, close-on-exec. */
int xshim_arena_create(struct xshim_arena *a, int *fd);
/* Map somebody's, writable or read-only; checks seals, size and header. -EPROTO when it is not an arena. */
int xshim_arena_map(struct xshim_arena *a, int fd, bool writable);
void xshim_arena_unmap(struct xshim_arena *a);

/* NULL when all are taken. Comes zeroed but for state BUSY and gen; set what is known, then xshim_slot_publish(). */
struct xshim_slot *xshim_slot_alloc(struct xshim_arena *a);
void xshim_slot_publish(struct xshim_slot *s);
/* Adds its counters to the totals and frees it. Only the last sharer calls it. */
void xshim_slot_free(struct xshim_arena *a, struct xshim_slot *s);
struct xshim_slot *xshim_slot_at(const struct xshim_arena *a, uint32_t index);	/* NULL beyond the end */
uint32_t xshim_slot_index(const struct xshim_arena *a, const struct xshim_slot *s);

/* pid holds a slot that nobody else has seen yet: it is not published. */
void xshim_slot_begin(struct xshim_slot *s, pid_t pid);
/* Sharers. add: false when there is no room (CROWDED is then set). remove: true if nobody is left. */
bool xshim_slot_sharer_add(struct xshim_slot *s, pid_t pid);
bool xshim_slot_sharer_remove(struct xshim_slot *s, pid_t pid);
/* Nobody waits yet, and `pid` is the only holder: begin anew, also for threads that an exec has ended. As below. */
struct xshim_waits *xshim_slot_waits_begin(struct xshim_slot *s, pid_t pid);
/* Where a holder counts its waits. */
struct xshim_waits *xshim_slot_waits(struct xshim_slot *s, pid_t pid);
/* Somebody waits to receive (rx) or to send (tx) in a living process that is not the one of `own`; not_joint: XSHIM_WAITS_JOINT do not count. */
bool xshim_slot_others_wait(struct xshim_slot *s, const struct xshim_waits *own, bool rx, bool tx, bool not_joint);
/* True if `self` is the only living holder and no fork is pending; takes the dead out. */
bool xshim_slot_is_sole(struct xshim_slot *s, pid_t self);

static inline void xshim_count(_Atomic uint64_t *c, uint64_t n)
{
	/* Counters are written under a direction's lock or lose an update now and then: shown, never relied on, but for ring_rx and ring_tx. */
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Stream offset minus the kernel's count of octets: what has gone by ring grows by itself. The lock of the direction. */
static inline int64_t xshim_base_rx(const struct xshim_slot *s)
{
	return s->base_rx + (int64_t)atomic_load_explicit(&s->n.ring_rx, memory_order_relaxed);
}

static inline int64_t xshim_base_tx(const struct xshim_slot *s)
{
	return s->base_tx + (int64_t)atomic_load_explicit(&s->n.ring_tx, memory_order_relaxed);
}

#endif
