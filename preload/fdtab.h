/* SPDX-License-Identifier: MIT */
/*
 * fdtab.h - descriptor number -> object: a connection or an epoll set.
 *
 * An object is referenced by the descriptors that name it (`fds`) and by the calls that are inside it
 * (`refs`). Objects are never unmapped, only used again, so a look-up may add its reference first and
 * check afterwards that the number still names the object.
 *
 * refs: one per descriptor, plus one per call under way; XSHIM_REF_EXCL forbids new calls to enter for a
 * moment (channel.c: a ring is attached only while nobody is inside), and who would waits: so who has set it has all signals blocked but
 * those of faults. Who brings refs to 0 recycles.
 *
 * Threads: any, lock-free. Fork: private to each process; the child's copy counts calls of threads that it does
 * not have, xshim_fdtab_fork_child() corrects that. Signals: get and put are safe.
 */
#ifndef XSHIM_FDTAB_H
#define XSHIM_FDTAB_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XSHIM_REF_EXCL 0x80000000u
#define XSHIM_FDTAB_CHUNK 1024
#define XSHIM_FDTAB_CHUNKS 1024

enum xshim_obj_kind {
	XSHIM_OBJ_CONN = 1,
	XSHIM_OBJ_EPOLL,
	XSHIM_OBJ_CHAN,		/* no descriptor; only pool and references */
	XSHIM_OBJ_REG,		/* likewise: a connection in an epoll set */
	XSHIM_OBJ_NEST,		/* likewise: an epoll set in an epoll set */
};

struct xshim_chan;

struct xshim_obj {
	_Atomic uint32_t refs;
	_Atomic uint32_t fds;
	uint32_t kind;		/* const while in use */
	_Atomic uint32_t used;	/* pool: enum in fdtab.c */
	uint32_t index;		/* const: place in the pool */
	uint32_t life;		/* counts the lives of this place */
	_Atomic(struct xshim_chan *) ch; /* of a connection (conn.h); NULL: none, or it is no connection. The place, not its life, says which */
};

typedef _Atomic(struct xshim_obj *) xshim_fdtab_entry;
extern _Atomic(xshim_fdtab_entry *) xshim_fdtab[XSHIM_FDTAB_CHUNKS];
extern xshim_fdtab_entry xshim_fdtab_first[XSHIM_FDTAB_CHUNK];	/* xshim_fdtab[0] */

/* The place of fd in the table; NULL: there is none, so it names nothing. */
static inline xshim_fdtab_entry *xshim_fd_place(int fd)
{
	xshim_fdtab_entry *chunk;

	if (__builtin_expect((unsigned int)fd < XSHIM_FDTAB_CHUNK, 1))
		return &xshim_fdtab_first[(unsigned int)fd];
	if ((unsigned int)fd >= XSHIM_FDTAB_CHUNK * XSHIM_FDTAB_CHUNKS)
		return NULL;
	chunk = atomic_load_explicit(&xshim_fdtab[(unsigned int)fd / XSHIM_FDTAB_CHUNK], memory_order_acquire);
	return chunk ? &chunk[(unsigned int)fd % XSHIM_FDTAB_CHUNK] : NULL;
}

static inline bool xshim_fd_is_named(int fd)
{
	xshim_fdtab_entry *e = xshim_fd_place(fd);

	return e && atomic_load_explicit(e, memory_order_relaxed);
}

struct xshim_obj *xshim_fd_get_slow(int fd, xshim_fdtab_entry *e);
void xshim_obj_recycle(struct xshim_obj *o);

/* The object that fd names, with a reference, or NULL. */
static inline struct xshim_obj *xshim_fd_get(int fd)
{
	xshim_fdtab_entry *e = xshim_fd_place(fd);

	if (!e || !atomic_load_explicit(e, memory_order_relaxed))
		return NULL;
	return xshim_fd_get_slow(fd, e);
}

/*
 * The same for who must not wait for a thread that keeps calls out (XSHIM_REF_EXCL): it may be this one, below the handler of a fault, or
 * one that a forked child does not have. NULL also if that does not end soon.
 */
struct xshim_obj *xshim_fd_try(int fd);

static inline void xshim_obj_put(struct xshim_obj *o)
{
	if (atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1)
		xshim_obj_recycle(o);
}

static inline void xshim_obj_hold(struct xshim_obj *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
}

/* A fresh zeroed object of kind with refs 1 and fds 0 (not yet in the table), or NULL. */
struct xshim_obj *xshim_obj_new(enum xshim_obj_kind kind);
/*
 * Name it by fd (fds + 1); what was there is taken out. The caller has a reference to o. NULL: only take out.
 */
void xshim_fd_set(int fd, struct xshim_obj *o);
/* fd is being closed: take out what it names. Call before the real close. */
static inline void xshim_fd_clear(int fd)
{
	xshim_fd_set(fd, NULL);
}
/* The object that fd names, without a reference; only to compare. */
struct xshim_obj *xshim_fd_peek(int fd);
/* A number that names o, or -1. */
int xshim_fd_find(const struct xshim_obj *o);

/* Every object in use, by index; NULL for a free one. Stops at xshim_obj_count(). */
struct xshim_obj *xshim_obj_at(enum xshim_obj_kind kind, uint32_t index);
uint32_t xshim_obj_count(enum xshim_obj_kind kind);
/* There is, or was, one. */
static inline bool xshim_fd_any(void)
{
	return xshim_obj_count(XSHIM_OBJ_CONN) || xshim_obj_count(XSHIM_OBJ_EPOLL);
}

void xshim_fdtab_fork_child(void);

/* conn.c, eset.c: the last descriptor of an object, fd, is about to go (still referenced) / the last reference went. */
void xshim_conn_closed(struct xshim_obj *o, int fd);
void xshim_conn_release(struct xshim_obj *o);
void xshim_epoll_release(struct xshim_obj *o);
void xshim_chan_release(struct xshim_obj *o);

#endif
