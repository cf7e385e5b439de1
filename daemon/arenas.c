/* SPDX-License-Identifier: MIT */
/*
 * arenas.c - see arenas.h.
 *
 * Reading a hole of a memfd through a mapping allocates the page, at the reader's cost. A hostile client could
 * announce 4,096 slots in an arena that has none, so the walk asks the descriptor which parts exist
 * (SEEK_DATA), and reads those.
 */
#include "arenas.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xshimd.h"

static uint64_t load64(const _Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static uint32_t load32(const _Atomic uint32_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void load_counters(uint64_t n[XSHIMD_COUNTERS], const struct xshim_counters *c)
{
	n[XSHIMD_RING_TX] = load64(&c->ring_tx);
	n[XSHIMD_RING_RX] = load64(&c->ring_rx);
	n[XSHIMD_TCP_TX] = load64(&c->tcp_tx);
	n[XSHIMD_TCP_RX] = load64(&c->tcp_rx);
	n[XSHIMD_ATTACHES] = load64(&c->attaches);
	n[XSHIMD_LEAVES] = load64(&c->leaves);
	n[XSHIMD_SWITCHES] = load64(&c->switches);
	n[XSHIMD_BELLS_RUNG] = load64(&c->bells_rung);
	n[XSHIMD_BELLS_GOT] = load64(&c->bells_got);
	n[XSHIMD_SLEEPS] = load64(&c->sleeps);
}

/* Copy a slot out if it is in use. What it says about itself is only shown, so a torn copy does no harm. */
static bool load_slot(const struct xshim_slot *s, struct xshimd_row *row)
{
	if (atomic_load_explicit(&s->state, memory_order_acquire) != XSHIM_SLOT_USED)
		return false;
	memset(row, 0, sizeof(*row));
	row->named = atomic_load_explicit(&s->named, memory_order_acquire) != 0;
	if (row->named)
		row->tuple = s->tuple;
	row->cookie = s->cookie;
	row->netns = s->netns;
	row->role = s->role;
	memcpy(row->comm, s->comm, sizeof(s->comm));
	row->comm[sizeof(row->comm) - 1] = '\0';
	row->transport = load32(&s->transport);
	row->reason = load32(&s->reason);
	row->pid = load32(&s->pid);
	load_counters(row->n, &s->n);
	return true;
}

void xshimd_arena_each(const struct xshimd_arena *a, void (*fn)(const struct xshimd_row *row, void *arg),
		       void *arg)
{
	uint32_t top = load32(&a->map.hdr->high_water);
	off_t at = XSHIM_ARENA_HDR, data, hole;
	struct xshimd_row row;

	if (top > XSHIM_ARENA_SLOTS)
		top = XSHIM_ARENA_SLOTS;
	while (at < (off_t)(XSHIM_ARENA_HDR + (size_t)top * XSHIM_SLOT_BYTES)) {
		uint32_t first, end;

		data = lseek(a->fd, at, SEEK_DATA);
		if (data < 0)
			return;
		hole = lseek(a->fd, data, SEEK_HOLE);
		if (hole <= data)
			return;
		first = (uint32_t)((data - XSHIM_ARENA_HDR) / XSHIM_SLOT_BYTES);
		end = (uint32_t)((hole - XSHIM_ARENA_HDR) / XSHIM_SLOT_BYTES);
		if (end > top)
			end = top;
		for (uint32_t i = first; i < end; i++)
			if (load_slot(xshim_slot_at(&a->map, i), &row))
				fn(&row, arg);
		at = hole;
	}
}

static uint32_t reason_slot(uint32_t reason)
{
	return reason < XSHIM_REASON_SLOTS ? reason : XSHIM_REASON_SLOTS - 1;
}

static void count_row(const struct xshimd_row *row, void *arg)
{
	struct xshimd_figures *f = arg;

	f->open++;
	if (row->transport == XSHIM_TRANSPORT_RING)
		f->on_ring++;
	f->open_by[reason_slot(row->reason)]++;
	for (int i = 0; i < XSHIMD_COUNTERS; i++)
		f->n[i] += row->n[i];
}

static void count_done(const struct xshim_arena_hdr *h, struct xshimd_figures *f)
{
	uint64_t n[XSHIMD_COUNTERS];

	f->ended += load64(&h->done_conns);
	f->ended_on_ring += load64(&h->done_ring_conns);
	for (int i = 0; i < XSHIM_REASON_SLOTS; i++)
		f->ended_by[i] += load64(&h->done_reasons[i]);
	load_counters(n, &h->done);
	for (int i = 0; i < XSHIMD_COUNTERS; i++)
		f->n[i] += n[i];
}

void xshimd_arena_count(const struct xshimd_arena *a, struct xshimd_figures *f)
{
	count_done(a->map.hdr, f);
	xshimd_arena_each(a, count_row, f);
}

/* A connection still in its slot when nobody is left to hold it has ended. */
static void end_row(const struct xshimd_row *row, void *arg)
{
	struct xshimd_figures *f = arg;

	f->ended++;
	if (row->n[XSHIMD_ATTACHES])
		f->ended_on_ring++;
	f->ended_by[reason_slot(row->reason)]++;
	for (int i = 0; i < XSHIMD_COUNTERS; i++)
		f->n[i] += row->n[i];
}

static void add_figures(struct xshimd_figures *to, const struct xshimd_figures *f, bool subtract)
{
	uint64_t *t = (uint64_t *)to;
	const uint64_t *s = (const uint64_t *)f;

	_Static_assert(sizeof(*to) % sizeof(uint64_t) == 0, "figures are words and nothing else");
	for (size_t i = 0; i < sizeof(*to) / sizeof(*t); i++)
		t[i] = subtract ? t[i] - s[i] : t[i] + s[i];
}

static void forget(struct xshimd_arenas *all, struct xshimd_arena *a)
{
	HASH_DEL(all->gone, a);
	all->gones--;
	free(a);
}

/* It was here before: its final figures were not final. */
static void take_back(struct xshimd_arenas *all, const struct xshimd_arena *a)
{
	struct xshimd_arena *old;

	HASH_FIND(hh, all->gone, &a->key, sizeof(a->key), old);
	if (!old)
		return;
	if (old->start_ns == a->start_ns && old->pid == a->pid)
		add_figures(&all->past, &old->last, true);
	forget(all, old);
}

static int open_arena(struct xshimd *d, struct xshimd_conn *c, int fd, const struct xshimd_arena_key *key,
		      struct xshimd_arena **out, uint32_t *limit)
{
	struct xshimd_arena *a;
	int rc;

	rc = xshimd_quota_take(&d->quota, &d->opt, c->cred.uid, XSHIMD_ARENAS, limit);
	if (rc < 0)
		return rc;
	a = calloc(1, sizeof(*a));
	rc = -ENOMEM;
	if (!a)
		goto give;
	rc = xshim_arena_map(&a->map, fd, false);
	if (rc < 0)
		goto free_arena;
	a->key = *key;
	a->fd = fd;
	a->payer = c->cred.uid;
	a->start_ns = a->map.hdr->start_ns;
	a->pid = load32(&a->map.hdr->pid);
	HASH_ADD(hh, d->arenas.live, key, sizeof(a->key), a);
	rc = -ENOMEM;
	if (!XSHIMD_ADDED(hh, a))
		goto unmap;
	take_back(&d->arenas, a);
	d->arenas.lives++;
	*out = a;
	return 0;
unmap:
	xshim_arena_unmap(&a->map);
free_arena:
	free(a);
give:
	xshimd_quota_give(&d->quota, c->cred.uid, XSHIMD_ARENAS);
	return rc;
}

int xshimd_arena_join(struct xshimd *d, struct xshimd_conn *c, int fd, uint32_t *limit)
{
	struct xshimd_arena_key key;
	struct xshimd_arena *a;
	struct stat st;
	int rc;

	*limit = 0;
	/* Memory, before fstat, which would ask any file system (verify.h). */
	if (fcntl(fd, F_GET_SEALS) < 0 || fstat(fd, &st) < 0)
		return -EPROTO;
	memset(&key, 0, sizeof(key));
	key.dev = st.st_dev;
	key.ino = st.st_ino;
	HASH_FIND(hh, d->arenas.live, &key, sizeof(key), a);
	if (a) {
		for (unsigned int i = 0; i < c->arenas_n; i++)
			if (c->arenas[i] == a)
				goto known;
	} else {
		rc = open_arena(d, c, fd, &key, &a, limit);
		if (rc < 0)
			return rc;
		fd = -1;
	}
	a->refs++;
	a->uid = c->cred.uid;
	c->arenas[c->arenas_n++] = a;
known:
	if (fd >= 0)
		close(fd);
	return 0;
}

void xshimd_arena_leave(struct xshimd *d, struct xshimd_arena *a)
{
	struct xshimd_arenas *all = &d->arenas;

	if (--a->refs)
		return;
	HASH_DEL(all->live, a);
	all->lives--;
	xshimd_quota_give(&d->quota, a->payer, XSHIMD_ARENAS);
	count_done(a->map.hdr, &a->last);
	xshimd_arena_each(a, end_row, &a->last);
	add_figures(&all->past, &a->last, false);
	xshim_arena_unmap(&a->map);
	close(a->fd);
	a->fd = -1;
	/* uthash keeps the order of insertion: the first is the oldest. */
	if (all->gones >= XSHIMD_ARENAS_GONE)
		forget(all, all->gone);
	HASH_ADD(hh, all->gone, key, sizeof(a->key), a);
	if (!XSHIMD_ADDED(hh, a)) {
		free(a);		/* if it comes back, its figures count twice */
		return;
	}
	all->gones++;
}

void xshimd_arenas_close(struct xshimd *d)
{
	while (d->arenas.gone)
		forget(&d->arenas, d->arenas.gone);
}

static void count_ring(const struct xshimd_row *row, void *arg)
{
	uint32_t *n = arg;

	if (row->transport != XSHIM_TRANSPORT_TCP)
		++*n;
}

uint32_t xshimd_arenas_rings(struct xshimd *d, uid_t uid)
{
	struct xshimd_user *u = xshimd_quota_user(&d->quota, uid);
	struct xshimd_arena *a, *tmp;
	uint64_t now = uv_now(&d->loop);

	if (u && u->rings_ms && now - u->rings_ms < 1000)
		return u->rings;
	if (!u)
		return 0;
	u->rings = 0;
	u->rings_ms = now ? now : 1;
	HASH_ITER(hh, d->arenas.live, a, tmp)
		if (a->uid == uid)
			xshimd_arena_each(a, count_ring, &u->rings);
	return u->rings;
}
