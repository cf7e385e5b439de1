/* SPDX-License-Identifier: MIT */
/*
 * map.c - the co-residency map: two open-addressed sets of fingerprints.
 *
 * Nothing is ever moved, so a reader who walks a chain while it changes misses at most what comes or
 * goes just then. A deleted entry is a stone that keeps the chain together; stones at the end of a chain
 * are cleared away, so that look-ups stay short however long xshimd runs.
 */
#include <sys/mman.h>
#include <xshim/map.h>
#include "shmem.h"
#include "sys.h"

#define EMPTY 0
#define DELETED 1

int xshim_map_open(const struct xshim_map **out, int fd)
{
	const volatile struct xshim_map *m;
	void *at;
	int rc;

	rc = shmem_check(fd, sizeof(struct xshim_map), SHMEM_SEALS_OWNER, NULL);
	if (rc < 0)
		return rc;
	rc = shmem_map(&at, fd, sizeof(struct xshim_map), false);
	if (rc < 0)
		return rc;
	m = at;
	if (m->magic != XSHIM_MAP_MAGIC || m->version != XSHIM_MAP_VERSION) {
		munmap(at, sizeof(struct xshim_map));
		return -EPROTO;
	}
	*out = at;
	return 0;
}

void xshim_map_close(const struct xshim_map *m)
{
	if (m)
		munmap((void *)(uintptr_t)m, sizeof(*m));
}

int xshim_map_create(struct xshim_map **out, int *fd, uint64_t instance)
{
	struct xshim_map *m;
	void *at;
	int rc, mem;

	mem = shmem_create("xshim-map", sizeof(*m), true);
	if (mem < 0)
		return mem;
	rc = shmem_map(&at, mem, sizeof(*m), true);
	if (rc < 0)
		goto close_mem;
	m = at;
	m->version = XSHIM_MAP_VERSION;
	m->instance = instance;
	m->magic = XSHIM_MAP_MAGIC;
	rc = shmem_seal(mem, SHMEM_SEALS_OWNER);
	if (rc < 0)
		goto unmap;
	*out = m;
	*fd = mem;
	return 0;
unmap:
	munmap(at, sizeof(*m));
close_mem:
	sys_close(mem);
	return rc;
}

bool xshim_map_has_endpoint(const struct xshim_map *m, uint64_t hash)
{
	return xshim_map_set_has(m->endpoints, XSHIM_MAP_ENDPOINTS, hash);
}

bool xshim_map_has_offer(const struct xshim_map *m, uint64_t hash)
{
	return xshim_map_set_has(m->offers, XSHIM_MAP_OFFERS, hash);
}

static size_t step(size_t size, uint64_t hash, size_t n)
{
	return (size_t)(hash + n) & (size - 1);
}

/* Acquire: pairs with the release stores of add and del; an offer is known to xshimd /then/ seen here. */
static uint64_t look(const _Atomic uint64_t *set, size_t at)
{
	return atomic_load_explicit(&set[at], memory_order_acquire);
}

/* Number of the probe at which it stands, or XSHIM_MAP_PROBES. */
static size_t find(const _Atomic uint64_t *set, size_t size, uint64_t hash)
{
	for (size_t n = 0; n < XSHIM_MAP_PROBES; n++) {
		uint64_t v = look(set, step(size, hash, n));

		if (v == hash)
			return n;
		if (v == EMPTY)
			break;
	}
	return XSHIM_MAP_PROBES;
}

bool xshim_map_set_has(const _Atomic uint64_t *set, size_t size, uint64_t hash)
{
	return hash > DELETED && find(set, size, hash) < XSHIM_MAP_PROBES;
}

int xshim_map_set_add(_Atomic uint64_t *set, size_t size, uint64_t hash)
{
	if (hash <= DELETED)
		return -EINVAL;
	if (find(set, size, hash) < XSHIM_MAP_PROBES)
		return 0;
	for (size_t n = 0; n < XSHIM_MAP_PROBES; n++) {
		size_t at = step(size, hash, n);

		if (look(set, at) <= DELETED) {
			atomic_store_explicit(&set[at], hash, memory_order_release);
			return 0;
		}
	}
	return -ENOSPC;
}

void xshim_map_set_del(_Atomic uint64_t *set, size_t size, uint64_t hash)
{
	size_t n, at;

	if (hash <= DELETED)
		return;
	n = find(set, size, hash);
	if (n == XSHIM_MAP_PROBES)
		return;
	at = step(size, hash, n);
	atomic_store_explicit(&set[at], DELETED, memory_order_release);
	/* Stones before an empty place hold no chain together. */
	while (look(set, at) == DELETED && look(set, step(size, at, 1)) == EMPTY) {
		atomic_store_explicit(&set[at], EMPTY, memory_order_release);
		at = step(size, at, size - 1);
	}
}

/* ---- guests: the same, with a value each ---- */

static uint64_t guest_hash(const struct xshim_endpoint *ep)
{
	struct xshim_endpoint address = *ep;

	address.port = 0;
	return xshim_endpoint_hash(&address);
}

/* Where it stands, or XSHIM_MAP_GUESTS. */
static size_t guest_find(const struct xshim_map *m, uint64_t hash)
{
	for (size_t n = 0; n < XSHIM_MAP_PROBES; n++) {
		size_t at = step(XSHIM_MAP_GUESTS, hash, n);
		uint64_t v = atomic_load_explicit(&m->guests[at].hash, memory_order_acquire);

		if (v == hash)
			return at;
		if (v == EMPTY)
			break;
	}
	return XSHIM_MAP_GUESTS;
}

bool xshim_map_guest_of(const struct xshim_map *m, const struct xshim_endpoint *ep, uint32_t *domid)
{
	uint64_t hash = guest_hash(ep);
	size_t at = guest_find(m, hash);

	if (at == XSHIM_MAP_GUESTS)
		return false;
	*domid = atomic_load_explicit(&m->guests[at].domid, memory_order_acquire);
	/* The place may have become another address's meanwhile; then the domain is not this one's. */
	return atomic_load_explicit(&m->guests[at].hash, memory_order_acquire) == hash;
}

int xshim_map_guest_add(struct xshim_map *m, const struct xshim_endpoint *ep, uint32_t domid)
{
	uint64_t hash = guest_hash(ep);

	xshim_map_guest_del(m, ep);
	for (size_t n = 0; n < XSHIM_MAP_PROBES; n++) {
		struct xshim_map_guest *g = &m->guests[step(XSHIM_MAP_GUESTS, hash, n)];

		if (atomic_load_explicit(&g->hash, memory_order_relaxed) > DELETED)
			continue;
		atomic_store_explicit(&g->domid, domid, memory_order_release);
		atomic_store_explicit(&g->hash, hash, memory_order_release);
		return 0;
	}
	return -ENOSPC;
}

void xshim_map_guest_del(struct xshim_map *m, const struct xshim_endpoint *ep)
{
	size_t at = guest_find(m, guest_hash(ep));

	/* Guests are few and come and go seldom: their stones stay. */
	if (at < XSHIM_MAP_GUESTS)
		atomic_store_explicit(&m->guests[at].hash, DELETED, memory_order_release);
}
