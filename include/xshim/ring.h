/* SPDX-License-Identifier: MIT */
/*
 * ring.h - copying bytes between an application's iovec and a ring.
 *
 * The ring is the data part of a region (region.h); positions are absolute stream offsets, the
 * caller has checked them (link.h). Nothing here looks at a shared word.
 *
 * Threads: the caller holds the direction's lock. Signals: safe. Errors: a bad address of the
 * application ends a copy (ucopy.h).
 */
#ifndef XSHIM_RING_H
#define XSHIM_RING_H
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* A place inside an iovec array. */
struct xshim_iov {
	const struct iovec *v;
	size_t count;
	size_t index, offset;	/* where we are */
};

void xshim_iov_init(struct xshim_iov *it, const struct iovec *v, size_t count);
/* Bytes from here to the end; saturates at SSIZE_MAX. */
size_t xshim_iov_left(const struct xshim_iov *it);
void xshim_iov_skip(struct xshim_iov *it, size_t n);
/* Describe the next at most `max` bytes with at most `cap` entries; returns entries used. */
size_t xshim_iov_slice(const struct xshim_iov *it, size_t max, struct iovec *out, size_t cap);

/*
 * Copy n bytes into the ring at stream offset pos, or out of it, advancing it. n <= ring size, n <=
 * iov left. Fewer than n: the application's memory ends there. The kernel's TCP takes or gives
 * nothing of a fragment that it cannot copy whole, so what is copied then is a multiple of the size
 * that its fragments have (measured: 32 KiB less a header, both ways). Out of it with it == NULL:
 * discard.
 */
#define XSHIM_RING_GRAIN 32768
size_t xshim_ring_copy_in(uint8_t *data, unsigned int order, uint64_t pos, struct xshim_iov *it, size_t n);
size_t xshim_ring_copy_out(const uint8_t *data, unsigned int order, uint64_t pos, struct xshim_iov *it, size_t n);
/*
 * What is copied between two publications of much: the other end works on the one while this end is at the next. As many bytes as a
 * copy that ends at a bad address is cut to.
 */
#define XSHIM_RING_PART XSHIM_RING_GRAIN
/* The one or two stretches of memory for [pos, pos + n): fills v[0..1], returns how many. */
int xshim_ring_stretch(const uint8_t *data, unsigned int order, uint64_t pos, size_t n, struct iovec v[2]);

#endif
