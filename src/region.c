/* SPDX-License-Identifier: MIT */
/*
 * region.c - the constant part of a region: written once by the owner, checked once by the peer.
 */
#include <errno.h>
#include <xshim/region.h>

void xshim_region_format(struct xshim_region_hdr *r, unsigned int order, uint64_t nonce)
{
	/* Nobody else has the memory yet: what hands it over orders these stores. */
	r->version = XSHIM_REGION_VERSION;
	r->order = (uint16_t)order;
	r->nonce = nonce;
	atomic_store_explicit(&r->want_data, XSHIM_WANT_NOTHING, memory_order_relaxed);
	atomic_store_explicit(&r->want_space, XSHIM_WANT_NOTHING, memory_order_relaxed);
	atomic_store_explicit(&r->alive, XSHIM_REGION_ALIVE, memory_order_relaxed);
	r->magic = XSHIM_REGION_MAGIC;
}

int xshim_region_check(const struct xshim_region_hdr *r, size_t bytes, unsigned int *order, uint64_t *nonce)
{
	/* "Constant" is the owner's word: volatile, so that what is checked is what is returned. */
	const volatile struct xshim_region_hdr *shared = r;
	unsigned int its_order;

	if (bytes < XSHIM_REGION_HDR)
		return -EPROTO;
	if (shared->magic != XSHIM_REGION_MAGIC || shared->version != XSHIM_REGION_VERSION)
		return -EPROTO;
	its_order = shared->order;
	if (its_order < XSHIM_RING_ORDER_MIN || its_order > XSHIM_RING_ORDER_MAX)
		return -EPROTO;
	if (xshim_region_bytes(its_order) != bytes)
		return -EPROTO;
	*order = its_order;
	*nonce = shared->nonce;
	return 0;
}
