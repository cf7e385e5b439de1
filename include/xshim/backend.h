/* SPDX-License-Identifier: MIT */
/*
 * backend.h - the vtable of a transport: memory that one end writes and the other reads, and a doorbell.
 *
 * A backend makes its own region, attaches the peer's read-only, and rings. Everything above (ring,
 * link, readiness) is the same for all.
 *
 *   shm   two processes on one kernel: a sealed memfd, a bell and half a socket pair; they are handed over as descriptors.
 *   xen   two guests on one Xen host: granted pages and an event channel; a ticket's numbers are handed over.
 *
 * Descriptors that a backend makes are ordinary low numbers; the caller moves them where it wants them
 * (xshim_local.fds, xshim_remote's are updated in place) and owns them from then on.
 *
 * Threads: create, attach and destroy by one at a time per object; ring, hush by any.
 * Fork: descriptors are the child's too, and so are mappings, but for what forked() makes again. Signals: ring and
 *       hush are async-signal-safe.
 * Errors: 0 or -errno.
 */
#ifndef XSHIM_BACKEND_H
#define XSHIM_BACKEND_H
#include <stdbool.h>
#include <stdint.h>
#include <xshim/region.h>

enum xshim_backend_kind {	/* as in messages; never used again for something else */
	XSHIM_BACKEND_SHM = 0,
	XSHIM_BACKEND_XEN = 1,
};

enum xshim_local_fd {
	XSHIM_LOCAL_BELL = 0,	/* pollable; readable when the peer has rung, or we have. shm: given to the peer if there is no BELL_OUT */
	XSHIM_LOCAL_MEMORY,	/* shm: memfd, given to the peer, -1 once given. xen: gntalloc, -1 once attached */
	XSHIM_LOCAL_BELL_OUT,	/* rings our own bell. shm: given to the peer; -1: BELL does, too. xen: given to xshimd */
	XSHIM_LOCAL_EVENT,	/* xen: the event channel; else -1 */
	XSHIM_LOCAL_BELL_IN,	/* xen: the other half of BELL_OUT, inside BELL with EVENT; else -1 */
	XSHIM_LOCAL_LIFE,	/* shm: half of a pair, until attached (xshim_remote.life); else -1 */
	XSHIM_LOCAL_LIFE_OUT,	/* shm: the other half, given to the peer, -1 once given; else -1 */
	XSHIM_LOCAL_FDS
};

struct xshim_party {			/* who is to get our half; shm: NULL will do */
	uint32_t domid;
	bool offers;			/* we offer: the event channel is ours to open */
	bool seldom;			/* messages are few: one event channel will do (region.h, "Ports") */
};

struct xshim_ticket {			/* what the peer has to know of our half, or we of its */
	uint64_t nonce;
	uint32_t order;
	uint32_t domid;			/* xen: of the half's owner */
	uint32_t gref;			/* xen: of the region's first page */
	uint32_t port;			/* xen: an event channel that waits for the peer; 0: the peer's is used */
};

struct xshim_local {			/* our half of a channel */
	struct xshim_region_hdr *region; /* writable mapping */
	unsigned int order;
	uint64_t nonce;
	int fds[XSHIM_LOCAL_FDS];
	bool ticks;			/* shm: what kind of bell it is (backend_shm.c) */
	uint32_t domid, gref, port;	/* xen: the peer's domain; our first page; our event channel, 0: none yet */
	uint32_t ports, more_ports[XSHIM_REGION_PORTS - 1]; /* xen: how many there are with it; the others */
	_Atomic bool shared;		/* set by the caller: another process has the half, too, and may be killed while it hushes */
};

struct xshim_remote {			/* the peer's half */
	const struct xshim_region_hdr *region; /* read-only mapping */
	unsigned int order;
	uint64_t nonce;
	int bell;			/* shm: what we ring. xen: -1 */
	int life;			/* shm: hangs up when the peer is gone. xen: -1 */
	bool ticks;			/* shm: what kind of bell it is */
	uint32_t domid, gref;		/* xen */
};

struct xshim_backend {
	const char *name;
	enum xshim_backend_kind kind;
	/*
	 * Make and format a region of 1 << order ring bytes, all pages allocated now, and a doorbell. xen: -EACCES and -ENOENT:
	 * the devices are not ours to open or not there; -ENOSPC: no grants, pages or event channels left.
	 */
	int (*create)(struct xshim_local *l, const struct xshim_party *with, unsigned int order, uint64_t nonce);
	void (*destroy)(struct xshim_local *l);
	/* Before the descriptors are closed: unmap our region, and ring for it. NULL: that they are closed tells the peer. */
	void (*bye)(struct xshim_local *l);
	/*
	 * Map what the peer gave; shm: fds[0] memory, fds[1] bell, fds[2] half a pair; xen: fds NULL. Checks kind, seals, size, header
	 * and that order and nonce are the ones announced. On success the memory fd has been closed and what r has taken
	 * is -1 in fds; the rest, on failure all, is the caller's still. -EPROTO: it is not what a peer may give. -ENOSYS: shm: its bell ticks, and ours may not, by a filter. -EPIPE: what the ticket names is not there,
	 * or not any more (xen: a peer that goes takes its grants back).
	 */
	int (*attach)(struct xshim_remote *r, struct xshim_local *l, const struct xshim_ticket *t, int *fds);
	void (*detach)(struct xshim_remote *r);
	/* Ring the peer. 0 (also when it has been rung already); -EPIPE: its half is gone, where ringing tells (not of a bell that ticks); others: it cannot be rung. */
	int (*ring)(const struct xshim_local *l, const struct xshim_remote *r);
	/* Empty our own doorbell, a bounded amount. 0, or -EPIPE when nobody can ring it any more. */
	int (*hush)(const struct xshim_local *l, const struct xshim_remote *r);
	/* Make our own doorbell readable, as if the peer had rung. */
	int (*ring_self)(const struct xshim_local *l);
	/*
	 * How many rings of the peer's the bell holds, at least, since it was emptied: up to there each is an edge to who waits for edges, and it
	 * need not be emptied for the next one to be heard; the peer counts them (region.h, rung). NULL: it is to be emptied each time.
	 */
	uint32_t (*holds)(const struct xshim_local *l);
	/* In a forked child: map again what fork does not copy. NULL: nothing is. An error: the half is unusable here. */
	int (*forked)(struct xshim_local *l, struct xshim_remote *r);
	/*
	 * The peer's memory is gone or not to be trusted (its guest was destroyed, saved or moved): let go of it without
	 * touching it; readers find an empty page of zeros. NULL: cannot happen.
	 */
	void (*forsake)(struct xshim_remote *r);
};

/* NULL when there is none of that name, or of that kind, in this build. */
const struct xshim_backend *xshim_backend_find(const char *name);
const struct xshim_backend *xshim_backend_of(uint32_t kind);
extern const struct xshim_backend xshim_backend_shm;
extern const struct xshim_backend xshim_backend_xen;	/* only where it was built in: find it by name or kind */

/*
 * What a backend keeps open for the whole process (xen: gntdev) goes through this first: it gives the descriptor another
 * number and closes it, or returns -errno with it closed. NULL: it stays where it is.
 */
extern int (*xshim_backend_place)(int fd);

#endif
