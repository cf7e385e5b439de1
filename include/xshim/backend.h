/* SPDX-License-Identifier: MIT */
/*
 * backend.h - the vtable of a transport: memory that one end writes and the other reads, and a doorbell.
 *
 * A backend makes its own region, attaches the peer's read-only, and rings. Everything above (ring,
 * link, readiness) is the same for all. "shm": memfd and a unix socket pair. Later "xen": grants and an
 * event channel.
 *
 * Descriptors that a backend makes are ordinary low numbers; the caller moves them where it wants them
 * (xshim_local.fds, xshim_remote.fds are updated in place) and owns them from then on.
 *
 * Threads: create, attach and destroy by one at a time per object; ring, hush by any.
 * Fork: mappings and descriptors are the child's too. Signals: ring and hush are async-signal-safe.
 * Errors: 0 or -errno.
 */
#ifndef XSHIM_BACKEND_H
#define XSHIM_BACKEND_H
#include <stdint.h>
#include <xshim/region.h>

enum xshim_local_fd {
	XSHIM_LOCAL_BELL = 0,	/* pollable; readable when the peer has rung (or is gone) */
	XSHIM_LOCAL_MEMORY,	/* what is given to the peer: memfd; -1 once given */
	XSHIM_LOCAL_BELL_OUT,	/* the half that is given to the peer; kept too, to wake our own other waiters */
	XSHIM_LOCAL_FDS
};

struct xshim_local {			/* our half of a channel */
	struct xshim_region_hdr *region; /* writable mapping */
	unsigned int order;
	uint64_t nonce;
	int fds[XSHIM_LOCAL_FDS];
};

struct xshim_remote {			/* the peer's half */
	const struct xshim_region_hdr *region; /* read-only mapping */
	unsigned int order;
	uint64_t nonce;
	int bell;			/* what we ring */
};

struct xshim_backend {
	const char *name;
	/* Make and format a region of 1 << order ring bytes, all pages allocated now, and a doorbell. */
	int (*create)(struct xshim_local *l, unsigned int order, uint64_t nonce);
	void (*destroy)(struct xshim_local *l);
	/*
	 * Map what the peer gave: fds[0] memory, fds[1] bell. Checks kind, seals, size, header and that order
	 * and nonce are the ones announced. On success the memory fd has been closed and the bell is in r; on failure
	 * both are the caller's still.
	 */
	int (*attach)(struct xshim_remote *r, const int fds[2], unsigned int order, uint64_t nonce);
	void (*detach)(struct xshim_remote *r);
	/* Ring the peer. 0 (also when it has been rung already), -EPIPE when the peer's half is gone. */
	int (*ring)(const struct xshim_remote *r);
	/* Empty our own doorbell, a bounded amount. 0, or -EPIPE when nobody can ring it any more. */
	int (*hush)(const struct xshim_local *l);
	/* Make our own doorbell readable, as if the peer had rung. */
	int (*ring_self)(const struct xshim_local *l);
};

/* NULL when there is none of that name. */
const struct xshim_backend *xshim_backend_find(const char *name);
extern const struct xshim_backend xshim_backend_shm;

#endif
