/* SPDX-License-Identifier: MIT */
/*
 * lock.c - the slow path of the shared mutex: sleep, and take over from a holder who died.
 *
 * A thread that comes through here takes the lock with XSHIM_LOCK_WAITERS set, because others may
 * sleep still; the price is at most one wake call too many. The 50 ms limit of each sleep serves the
 * death of a holder, or of a waiter between its wake-up and its taking the lock, and nothing else.
 *
 * Thread ids are those of the family's pid namespace: processes of different pid namespaces must not share a lock.
 */
#include <linux/futex.h>
#include <xshim/lock.h>
#include "sys.h"

#define SPINS 100		/* about the time of a short copy */
#define SLEEP_NS 50000000	/* 50 ms */
#define ZOMBIE_NAPS 4		/* every so many, ask the dearer question */

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* -ETIMEDOUT after 50 ms; everything else means: look again. */
static int sleep_on(struct xshim_lock *l, uint32_t seen)
{
	const struct timespec limit = { .tv_nsec = SLEEP_NS };

	return (int)sys_call(SYS_futex, &l->word, FUTEX_WAIT, seen, &limit, 0, 0);
}

static bool take_from(struct xshim_lock *l, uint32_t seen, uint32_t mine)
{
	return atomic_compare_exchange_strong_explicit(&l->word, &seen, mine, memory_order_acquire,
						       memory_order_relaxed);
}

int xshim_lock_slow(struct xshim_lock *l, uint32_t tid)
{
	uint32_t word = atomic_load_explicit(&l->word, memory_order_relaxed);

	for (int i = 0; i < SPINS && word && (word & ~XSHIM_LOCK_WAITERS) != tid; i++) {
		relax();
		word = atomic_load_explicit(&l->word, memory_order_relaxed);
	}
	if (word == 0 && take_from(l, 0, tid))
		return 0;
	for (unsigned int naps = 0;;) {
		uint32_t holder;
		bool dead;

		word = atomic_load_explicit(&l->word, memory_order_relaxed);
		holder = word & ~XSHIM_LOCK_WAITERS;
		if (holder == tid)
			return -EDEADLK;
		if (holder == 0) {
			if (take_from(l, word, tid | XSHIM_LOCK_WAITERS))
				return 0;
			continue;
		}
		if (!(word & XSHIM_LOCK_WAITERS)) {
			if (!take_from(l, word, word | XSHIM_LOCK_WAITERS))
				continue;
			word |= XSHIM_LOCK_WAITERS;
		}
		if (sleep_on(l, word) != -ETIMEDOUT)
			continue;
		naps++;
		dead = naps % ZOMBIE_NAPS ? sys_is_gone((pid_t)holder) : sys_is_dead((pid_t)holder);
		if (dead && take_from(l, word, tid | XSHIM_LOCK_WAITERS)) {
			atomic_store_explicit(&l->orphaned, 1, memory_order_relaxed);
			return 0;
		}
	}
}

void xshim_lock_wake(struct xshim_lock *l)
{
	sys_call(SYS_futex, &l->word, FUTEX_WAKE, 1, 0, 0, 0);
}

void xshim_lock_hand_on(struct xshim_lock *l)
{
	/* 0, or it would be taken the slow way for good. Who is killed before this leaves it to the 50 ms of who sleeps. */
	if (take_from(l, XSHIM_LOCK_WAITERS, 0))
		xshim_lock_wake(l);
}
