/* SPDX-License-Identifier: MIT */
/*
 * arena.c - slots: make, find, give out, take back; and who holds a connection.
 *
 * Finding a free slot. `hint` holds a count of frees (high half) and an index below which no slot is
 * free (low half). A free lowers the index and counts; an allocation raises it, but only if no free
 * came between its look and its store. So low slots are used first, a full arena is known without a
 * scan, and a process that dies in between costs a slot at worst until a lower one is freed.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <xshim/arena.h>
#include "shmem.h"
#include "sys.h"

#define HINT_INDEX(h) ((h) & 0xffffu)
#define HINT(frees, index) ((uint32_t)(frees) << 16 | (index))
#define HINT_FREES(h) ((h) >> 16)
_Static_assert(XSHIM_ARENA_SLOTS < 0xffff, "an index, and one more for full, fit the hint");

static void format(struct xshim_arena_hdr *hdr)
{
	struct timespec now = { 0, 0 };

	clock_gettime(CLOCK_REALTIME, &now);
	hdr->version = XSHIM_ARENA_VERSION;
	hdr->slot_bytes = XSHIM_SLOT_BYTES;
	hdr->slots = XSHIM_ARENA_SLOTS;
	hdr->start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	prctl(PR_GET_NAME, hdr->comm);
	hdr->comm[sizeof(hdr->comm) - 1] = '\0';
	atomic_store_explicit(&hdr->pid, (uint32_t)getpid(), memory_order_relaxed);
	hdr->magic = XSHIM_ARENA_MAGIC;
}

int xshim_arena_create(struct xshim_arena *a, int *fd)
{
	struct stat st;
	void *at;
	int rc, mem;

	/* Not allocated as a whole: 4 MiB for each process would be too much, and most use a few slots. */
	mem = shmem_create("xshim-arena", XSHIM_ARENA_BYTES, false);
	if (mem < 0)
		return mem;
	rc = shmem_map(&at, mem, XSHIM_ARENA_BYTES, true);
	if (rc < 0)
		goto close_mem;
	format(at);
	rc = shmem_seal(mem, SHMEM_SEALS_FAMILY);
	if (rc < 0)
		goto unmap;
	rc = shmem_check(mem, XSHIM_ARENA_BYTES, SHMEM_SEALS_FAMILY, &st);
	if (rc < 0)
		goto unmap;
	a->hdr = at;
	a->ino = st.st_ino;
	*fd = mem;
	return 0;
unmap:
	munmap(at, XSHIM_ARENA_BYTES);
close_mem:
	sys_close(mem);
	return rc;
}

int xshim_arena_map(struct xshim_arena *a, int fd, bool writable)
{
	const volatile struct xshim_arena_hdr *hdr;
	struct stat st;
	void *at;
	int rc;

	rc = shmem_check(fd, XSHIM_ARENA_BYTES, SHMEM_SEALS_FAMILY, &st);
	if (rc < 0)
		return rc;
	rc = shmem_map(&at, fd, XSHIM_ARENA_BYTES, writable);
	if (rc < 0)
		return rc == -EPERM || rc == -EACCES ? -EPROTO : rc;
	hdr = at;
	if (hdr->magic != XSHIM_ARENA_MAGIC || hdr->version != XSHIM_ARENA_VERSION ||
	    hdr->slot_bytes != XSHIM_SLOT_BYTES || hdr->slots != XSHIM_ARENA_SLOTS) {
		munmap(at, XSHIM_ARENA_BYTES);
		return -EPROTO;
	}
	a->hdr = at;
	a->ino = st.st_ino;
	return 0;
}

void xshim_arena_unmap(struct xshim_arena *a)
{
	if (a->hdr)
		munmap(a->hdr, XSHIM_ARENA_BYTES);
	a->hdr = NULL;
	a->ino = 0;
}

struct xshim_slot *xshim_slot_at(const struct xshim_arena *a, uint32_t index)
{
	if (index >= XSHIM_ARENA_SLOTS)
		return NULL;
	return (struct xshim_slot *)((uint8_t *)a->hdr + XSHIM_ARENA_HDR + (size_t)index * XSHIM_SLOT_BYTES);
}

uint32_t xshim_slot_index(const struct xshim_arena *a, const struct xshim_slot *s)
{
	size_t at = (size_t)((const uint8_t *)s - (const uint8_t *)a->hdr) - XSHIM_ARENA_HDR;

	return (uint32_t)(at / XSHIM_SLOT_BYTES);
}

static bool claim(struct xshim_slot *s)
{
	uint32_t state = XSHIM_SLOT_FREE;

	/* acquire: what its last user wrote there /then/ our own stores. Pairs with xshim_slot_free(). */
	return atomic_compare_exchange_strong_explicit(&s->state, &state, XSHIM_SLOT_BUSY, memory_order_acquire,
						       memory_order_relaxed);
}

static void raise_high_water(struct xshim_arena_hdr *hdr, uint32_t to)
{
	uint32_t now = atomic_load_explicit(&hdr->high_water, memory_order_relaxed);

	while (now < to && !atomic_compare_exchange_weak_explicit(&hdr->high_water, &now, to, memory_order_relaxed,
								  memory_order_relaxed))
		;
}

struct xshim_slot *xshim_slot_alloc(struct xshim_arena *a)
{
	uint32_t seen = atomic_load_explicit(&a->hdr->hint, memory_order_acquire);
	const size_t rest = offsetof(struct xshim_slot, named);
	uint32_t i = HINT_INDEX(seen);
	struct xshim_slot *s = NULL;
	uint32_t next;

	while (i < XSHIM_ARENA_SLOTS) {
		s = xshim_slot_at(a, i);
		if (claim(s))
			break;
		i++;
	}
	next = i < XSHIM_ARENA_SLOTS ? i + 1 : XSHIM_ARENA_SLOTS;
	/* Fails if a slot was freed meanwhile: its index then is the better hint. */
	atomic_compare_exchange_strong_explicit(&a->hdr->hint, &seen, HINT(HINT_FREES(seen), next),
						memory_order_relaxed, memory_order_relaxed);
	if (i >= XSHIM_ARENA_SLOTS) {
		atomic_fetch_add_explicit(&a->hdr->slotless, 1, memory_order_relaxed);
		return NULL;
	}
	memset((uint8_t *)s + rest, 0, sizeof(*s) - rest);
	/* nobody else writes it while the slot is ours */
	atomic_store_explicit(&s->gen, atomic_load_explicit(&s->gen, memory_order_relaxed) + 1, memory_order_relaxed);
	raise_high_water(a->hdr, i + 1);
	return s;
}

void xshim_slot_publish(struct xshim_slot *s)
{
	/* What was filled in /then/ USED. Pairs with the acquire load of state in whoever shows slots. */
	atomic_store_explicit(&s->state, XSHIM_SLOT_USED, memory_order_release);
}

static void add_total(_Atomic uint64_t *total, const _Atomic uint64_t *n)
{
	uint64_t more = atomic_load_explicit(n, memory_order_relaxed);

	if (more)	/* most are 0 where a connection was short, and each addition is a locked one */
		atomic_fetch_add_explicit(total, more, memory_order_relaxed);
}

static void add_totals(struct xshim_arena_hdr *hdr, const struct xshim_slot *s)
{
	uint32_t reason = atomic_load_explicit(&s->reason, memory_order_relaxed);

	add_total(&hdr->done.ring_tx, &s->n.ring_tx);
	add_total(&hdr->done.ring_rx, &s->n.ring_rx);
	add_total(&hdr->done.tcp_tx, &s->n.tcp_tx);
	add_total(&hdr->done.tcp_rx, &s->n.tcp_rx);
	add_total(&hdr->done.attaches, &s->n.attaches);
	add_total(&hdr->done.leaves, &s->n.leaves);
	add_total(&hdr->done.switches, &s->n.switches);
	add_total(&hdr->done.bells_rung, &s->n.bells_rung);
	add_total(&hdr->done.bells_got, &s->n.bells_got);
	add_total(&hdr->done.sleeps, &s->n.sleeps);
	atomic_fetch_add_explicit(&hdr->done_conns, 1, memory_order_relaxed);
	if (atomic_load_explicit(&s->n.attaches, memory_order_relaxed))
		atomic_fetch_add_explicit(&hdr->done_ring_conns, 1, memory_order_relaxed);
	if (reason >= XSHIM_REASON_SLOTS)
		reason = XSHIM_REASON_SLOTS - 1;
	atomic_fetch_add_explicit(&hdr->done_reasons[reason], 1, memory_order_relaxed);
}

void xshim_slot_free(struct xshim_arena *a, struct xshim_slot *s)
{
	_Atomic uint32_t *hint = &a->hdr->hint;
	uint32_t index = xshim_slot_index(a, s);
	uint32_t seen, lowest;

	atomic_store_explicit(&s->state, XSHIM_SLOT_BUSY, memory_order_relaxed);
	add_totals(a->hdr, s);
	/* Our last look at it /then/ FREE. Pairs with claim(). */
	atomic_store_explicit(&s->state, XSHIM_SLOT_FREE, memory_order_release);
	seen = atomic_load_explicit(hint, memory_order_relaxed);
	do
		lowest = index < HINT_INDEX(seen) ? index : HINT_INDEX(seen);
	while (!atomic_compare_exchange_weak_explicit(hint, &seen, HINT(HINT_FREES(seen) + 1, lowest),
						      memory_order_release, memory_order_relaxed));
}

void xshim_slot_begin(struct xshim_slot *s, pid_t pid)
{
	atomic_store_explicit(&s->sharers[0], (uint32_t)pid, memory_order_relaxed);
}

bool xshim_slot_sharer_add(struct xshim_slot *s, pid_t pid)
{
	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++)
		if (atomic_load(&s->sharers[i]) == (uint32_t)pid)
			return true;
	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++) {
		uint32_t empty = 0;

		if (atomic_compare_exchange_strong(&s->sharers[i], &empty, (uint32_t)pid)) {
			/* what its last user left; who looks before this wakes somebody for nothing */
			atomic_store(&s->waits[i].rx, 0);
			atomic_store(&s->waits[i].tx, 0);
			return true;
		}
	}
	atomic_fetch_or(&s->flags, XSHIM_SLOT_CROWDED);
	return false;
}

struct xshim_waits *xshim_slot_waits_begin(struct xshim_slot *s, pid_t pid)
{
	for (int i = 0; i <= XSHIM_ARENA_SHARERS; i++) {
		atomic_store(&s->waits[i].rx, 0);
		atomic_store(&s->waits[i].tx, 0);
	}
	return xshim_slot_waits(s, pid);
}

struct xshim_waits *xshim_slot_waits(struct xshim_slot *s, pid_t pid)
{
	int i = 0;

	while (i < XSHIM_ARENA_SHARERS && atomic_load(&s->sharers[i]) != (uint32_t)pid)
		i++;
	return &s->waits[i];
}

bool xshim_slot_others_wait(struct xshim_slot *s, const struct xshim_waits *own, bool rx, bool tx, bool not_joint)
{
	uint32_t counts = not_joint ? XSHIM_WAITS_JOINT - 1 : UINT32_MAX;

	for (int i = 0; i <= XSHIM_ARENA_SHARERS; i++) {
		uint32_t pid = i < XSHIM_ARENA_SHARERS ? atomic_load(&s->sharers[i]) : 0;

		if (&s->waits[i] == own || (!pid && i < XSHIM_ARENA_SHARERS))
			continue;
		if (!(rx && (atomic_load(&s->waits[i].rx) & counts)) && !(tx && (atomic_load(&s->waits[i].tx) & counts)))
			continue;
		if (!pid || !sys_is_gone((pid_t)pid))
			return true;
	}
	return false;
}

/* 0: nobody but self, or nobody, is in it. For each connection that ends, and without a branch. */
static uint32_t strangers(struct xshim_slot *s, pid_t self)
{
#define STRANGER(i) (atomic_load(&s->sharers[i]) == (uint32_t)self ? 0 : atomic_load(&s->sharers[i]))
	_Static_assert(XSHIM_ARENA_SHARERS == 6, "all of them");
	return STRANGER(0) | STRANGER(1) | STRANGER(2) | STRANGER(3) | STRANGER(4) | STRANGER(5);
#undef STRANGER
}

/* Holders other than self that live; the dead are taken out. */
static int others(struct xshim_slot *s, pid_t self)
{
	int n = 0;

	if (!strangers(s, self))
		return 0;
	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++) {
		uint32_t pid = atomic_load(&s->sharers[i]);

		if (pid == 0 || pid == (uint32_t)self)
			continue;
		if (sys_is_gone((pid_t)pid))
			atomic_compare_exchange_strong(&s->sharers[i], &pid, 0);
		else
			n++;
	}
	return n;
}

/* Somebody may hold it of whom the slot does not know. */
static bool has_unknown_holders(struct xshim_slot *s)
{
	return atomic_load(&s->fork_pending) || atomic_load(&s->flags) & XSHIM_SLOT_CROWDED;
}

bool xshim_slot_sharer_remove(struct xshim_slot *s, pid_t pid)
{
	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++) {
		uint32_t mine = (uint32_t)pid;

		/* it is in it once */
		if (atomic_load(&s->sharers[i]) == mine && atomic_compare_exchange_strong(&s->sharers[i], &mine, 0))
			break;
	}
	return !has_unknown_holders(s) && others(s, pid) == 0;
}

bool xshim_slot_is_sole(struct xshim_slot *s, pid_t self)
{
	bool present = false;

	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++)
		present |= atomic_load(&s->sharers[i]) == (uint32_t)self;
	return present && !has_unknown_holders(s) && others(s, self) == 0;
}
