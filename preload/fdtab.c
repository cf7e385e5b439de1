/* SPDX-License-Identifier: MIT */
/* fdtab.c - descriptor table and object pools (fdtab.h). */
#include "fdtab.h"
#include "conn.h"
#include "epoll.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>

xshim_fdtab_entry xshim_fdtab_first[XSHIM_FDTAB_CHUNK];
_Atomic(xshim_fdtab_entry *) xshim_fdtab[XSHIM_FDTAB_CHUNKS] = { xshim_fdtab_first };

/* ---- pools: chunks of 256 objects, mapped when needed, never unmapped ---- */

#define POOL_CHUNK 256
#define POOL_CHUNKS 256
#define TRIES 100		/* one that keeps calls out does it for some instructions */

struct pool {
	size_t size;				/* of an object */
	_Atomic(char *) chunk[POOL_CHUNKS];
	_Atomic uint32_t count;			/* objects ever used: indices below it */
	_Atomic uint32_t hint;
};

static struct pool pools[] = {
	[XSHIM_OBJ_CONN] = { .size = sizeof(struct xshim_conn) },
	[XSHIM_OBJ_EPOLL] = { .size = sizeof(struct xshim_eset) },
	[XSHIM_OBJ_CHAN] = { .size = sizeof(struct xshim_chan) },
	[XSHIM_OBJ_REG] = { .size = sizeof(struct xshim_reg) },
	[XSHIM_OBJ_NEST] = { .size = sizeof(struct xshim_nest) },
};

static char *map_once(_Atomic(char *) *where, size_t bytes)
{
	char *p = atomic_load_explicit(where, memory_order_acquire), *mine;

	if (p)
		return p;
	mine = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mine == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong_explicit(where, &p, mine, memory_order_acq_rel,
						    memory_order_acquire))
		return mine;
	munmap(mine, bytes);
	return p;
}

static struct xshim_obj *pool_at(struct pool *pool, uint32_t i)
{
	char *chunk = atomic_load_explicit(&pool->chunk[i / POOL_CHUNK], memory_order_acquire);

	return chunk ? (struct xshim_obj *)(chunk + (i % POOL_CHUNK) * pool->size) : NULL;
}

/*
 * FREE -> MAKING -> USED -> DYING -> FREE. A look-up that saw an earlier life adds and takes back its
 * reference at any time; only in USED does bringing the count to 0 mean anything, and the count is
 * raised in MAKING.
 */
enum { FREE = 0, MAKING, USED, DYING };

static bool claim(struct xshim_obj *o)
{
	uint32_t unused = FREE;

	return atomic_load_explicit(&o->used, memory_order_relaxed) == FREE &&
	       atomic_compare_exchange_strong_explicit(&o->used, &unused, MAKING,
						       memory_order_acquire, memory_order_relaxed);
}

struct xshim_obj *xshim_obj_new(enum xshim_obj_kind kind)
{
	struct pool *pool = &pools[kind];
	uint32_t count = atomic_load_explicit(&pool->count, memory_order_acquire);
	uint32_t i = atomic_load_explicit(&pool->hint, memory_order_relaxed);
	struct xshim_obj *o = NULL;

	for (uint32_t tried = 0; tried < count; tried++, i++) {
		i %= count;
		o = pool_at(pool, i);
		if (o && claim(o))
			goto found;
	}
	do {
		i = atomic_fetch_add_explicit(&pool->count, 1, memory_order_acq_rel);
		if (i >= POOL_CHUNK * POOL_CHUNKS) {
			atomic_fetch_sub_explicit(&pool->count, 1, memory_order_acq_rel);
			return NULL;
		}
		if (!map_once(&pool->chunk[i / POOL_CHUNK], POOL_CHUNK * pool->size))
			return NULL;
		o = pool_at(pool, i);
	} while (!claim(o));
found:
	atomic_store_explicit(&pool->hint, i + 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	atomic_store_explicit(&o->fds, 0, memory_order_relaxed);
	o->kind = kind;
	o->index = i;
	o->life++;
	atomic_store_explicit(&o->ch, NULL, memory_order_relaxed);
	memset((char *)o + sizeof(*o), 0, pool->size - sizeof(*o));
	atomic_store_explicit(&o->used, USED, memory_order_release);
	return o;
}

void xshim_obj_recycle(struct xshim_obj *o)
{
	uint32_t used = USED;

	/* Not so if a stale look-up brought the count back to 0 of an object that is free already. */
	if (!atomic_compare_exchange_strong_explicit(&o->used, &used, DYING, memory_order_acquire,
						     memory_order_relaxed))
		return;
	switch (o->kind) {
	case XSHIM_OBJ_CONN:
		xshim_conn_release(o);
		break;
	case XSHIM_OBJ_EPOLL:
		xshim_epoll_release(o);
		break;
	case XSHIM_OBJ_REG:
	case XSHIM_OBJ_NEST:
		break;
	default:
		xshim_chan_release(o);
		break;
	}
	atomic_store_explicit(&o->used, FREE, memory_order_release);
}

struct xshim_obj *xshim_obj_at(enum xshim_obj_kind kind, uint32_t index)
{
	struct xshim_obj *o = pool_at(&pools[kind], index);

	return o && atomic_load_explicit(&o->used, memory_order_acquire) == USED ? o : NULL;
}

uint32_t xshim_obj_count(enum xshim_obj_kind kind)
{
	return atomic_load_explicit(&pools[kind].count, memory_order_acquire);
}

/* ---- the table ---- */

struct xshim_obj *xshim_fd_get_slow(int fd, xshim_fdtab_entry *e)
{
	struct xshim_obj *o;
	uint32_t refs;

	(void)fd;
	for (;;) {
		o = atomic_load_explicit(e, memory_order_acquire);
		if (!o)
			return NULL;
		refs = atomic_fetch_add_explicit(&o->refs, 1, memory_order_acquire);
		if (atomic_load_explicit(e, memory_order_acquire) != o) {
			xshim_obj_put(o);
			continue;
		}
		if (!(refs & XSHIM_REF_EXCL))
			return o;
		xshim_obj_put(o);
		sched_yield();
	}
}

struct xshim_obj *xshim_fd_try(int fd)
{
	xshim_fdtab_entry *e = xshim_fd_place(fd);
	struct xshim_obj *o;
	uint32_t refs;

	for (int i = 0; i < TRIES; i++) {
		o = e ? atomic_load_explicit(e, memory_order_acquire) : NULL;
		if (!o)
			return NULL;
		refs = atomic_fetch_add_explicit(&o->refs, 1, memory_order_acquire);
		if (atomic_load_explicit(e, memory_order_acquire) == o && !(refs & XSHIM_REF_EXCL))
			return o;
		xshim_obj_put(o);
		sched_yield();
	}
	return NULL;
}

static xshim_fdtab_entry *entry(int fd, bool make)
{
	size_t bytes = XSHIM_FDTAB_CHUNK * sizeof(xshim_fdtab_entry);
	_Atomic(char *) *slot;

	if ((unsigned int)fd >= XSHIM_FDTAB_CHUNK * XSHIM_FDTAB_CHUNKS)
		return NULL;
	slot = (_Atomic(char *) *)&xshim_fdtab[fd / XSHIM_FDTAB_CHUNK];
	if (!atomic_load_explicit(slot, memory_order_acquire) && (!make || !map_once(slot, bytes)))
		return NULL;
	return (xshim_fdtab_entry *)atomic_load_explicit(slot, memory_order_acquire) +
	       fd % XSHIM_FDTAB_CHUNK;
}

void xshim_fd_set(int fd, struct xshim_obj *o)
{
	xshim_fdtab_entry *e = entry(fd, o != NULL);
	struct xshim_obj *old;

	if (!e)
		return;
	if (o) {
		atomic_fetch_add_explicit(&o->fds, 1, memory_order_relaxed);
		xshim_obj_hold(o);
	}
	old = atomic_exchange_explicit(e, o, memory_order_acq_rel);
	if (!old)
		return;
	/* Each descriptor holds one reference. The last one's end /then/ a look for entries of sets; pairs with xshim_joint_adopt(). */
	if (atomic_fetch_sub_explicit(&old->fds, 1, memory_order_seq_cst) == 1) {
		if (old->kind == XSHIM_OBJ_CONN)
			xshim_conn_closed(old, fd);
	} else if (old->kind == XSHIM_OBJ_EPOLL) {
		xshim_epoll_renumber(old, fd);
	}
	xshim_obj_put(old);
}

struct xshim_obj *xshim_fd_peek(int fd)
{
	xshim_fdtab_entry *e = entry(fd, false);

	return e ? atomic_load_explicit(e, memory_order_acquire) : NULL;
}

int xshim_fd_find(const struct xshim_obj *o)
{
	for (int c = 0; c < XSHIM_FDTAB_CHUNKS; c++) {
		xshim_fdtab_entry *chunk =
			atomic_load_explicit(&xshim_fdtab[c], memory_order_acquire);

		for (int i = 0; chunk && i < XSHIM_FDTAB_CHUNK; i++)
			if (atomic_load_explicit(&chunk[i], memory_order_relaxed) == o)
				return c * XSHIM_FDTAB_CHUNK + i;
	}
	return -1;
}

void xshim_fdtab_fork_child(void)
{
	for (int kind = XSHIM_OBJ_CONN; kind <= XSHIM_OBJ_EPOLL; kind++)
		for (uint32_t i = 0; i < xshim_obj_count(kind); i++) {
			struct xshim_obj *o = xshim_obj_at(kind, i);

			if (o)
				atomic_store_explicit(&o->refs,
						      atomic_load_explicit(&o->fds, memory_order_relaxed),
						      memory_order_relaxed);
		}
}
