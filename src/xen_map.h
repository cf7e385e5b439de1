/* SPDX-License-Identifier: MIT */
/*
 * xen_map.h - the peer's half of a channel over xen: pages of another guest's, mapped to be read.
 *
 * Units. order: a region is of one header page and 1 << order bytes of ring. domid, gref: Xen's numbers of the guest, and of its
 * grant for the header page; the grants of the other pages stand in the header. A page is of 4096 bytes, as grants are.
 *
 * Ownership. xshim_remote.region is made by xen_map_peer() and let go of by xen_map_drop(); the caller fills in order, nonce, domid
 * and gref first and leaves all of it alone in between. The mapping alone holds the grants, so dropping it gives them back. One
 * descriptor of gntdev is kept for the process; it goes through xshim_backend_place().
 *
 * Address space. A PV guest that is saved while it has foreign pages mapped loses the whole page of its page table in which they
 * stand (measured: neighbours read as zeros after the restore). So they lie alone in pieces of 2 MiB.
 *
 * Forsake. Zeros take the place of the peer's pages in one step; who reads at that moment sees pages or zeros, but waits and does
 * not fault in between. `alive` is the last to be read (xshim_region_is_whole), so zeros are not taken for bytes.
 *
 * Threads: all but xen_map_at() and the inline functions by one at a time in the process.
 * Fork:    in a PV guest the child has no mapping of the peer's pages, and xen_map_forked() makes it again at the same address; in
 *          others it is there already.
 * Signals: not from handlers, but for forsake and the inline functions.
 * Errors:  0 or -errno; errno itself is left alone. -EPIPE: the pages are not there for us, or not any more. -ENOSPC: they are, but this
 *          guest may map no more. -EPROTO: they are not what a peer may give. -EACCES, -ENOENT: gntdev is not ours to open, or not there.
 */
#ifndef XSHIM_SRC_XEN_MAP_H
#define XSHIM_SRC_XEN_MAP_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xshim/region.h>

struct xshim_remote;

#define XEN_MAP_PAGE 4096u
#define XEN_MAP_ORDER_MAX 21		/* 2 MiB: what the table of grants has room for */
#define XEN_MAP_PAGES_MAX (1 + (1u << XEN_MAP_ORDER_MAX) / XEN_MAP_PAGE)
_Static_assert((1u << XEN_MAP_ORDER_MAX) / XEN_MAP_PAGE <= XSHIM_REGION_GREFS, "the grants of the largest ring fit the header");
_Static_assert(XSHIM_REGION_HDR == XEN_MAP_PAGE, "the header is one page");

static inline unsigned int xen_map_pages(unsigned int order)
{
	return 1 + (1u << order) / XEN_MAP_PAGE;
}

static inline bool xen_map_is_order(unsigned int order)
{
	return order >= XSHIM_RING_ORDER_MIN && order <= XEN_MAP_ORDER_MAX;
}

static inline bool xen_map_is_alive(const struct xshim_region_hdr *r)
{
	return atomic_load_explicit(&r->alive, memory_order_acquire) == XSHIM_REGION_ALIVE;
}

/* mmap with -errno into *out; MAP_FAILED is never returned. */
int xen_map_at(void **out, void *at, size_t bytes, int prot, int flags, int fd, uint64_t offset);

/* Map the region that r describes, and check what its header says. r->region is set on success only. */
int xen_map_peer(struct xshim_remote *r);
void xen_map_drop(struct xshim_remote *r);	/* what is not mapped is fine */
/* Let go of the peer's memory without touching it; zeros lie there until the drop. */
void xen_map_forsake(struct xshim_remote *r);
/*
 * In a forked child: map it again where it was. If that cannot be had, because the grants are gone or something else has come to
 * lie there, an error, with zeros for a region, or, without memory for these, none.
 */
int xen_map_forked(struct xshim_remote *r);

#endif
