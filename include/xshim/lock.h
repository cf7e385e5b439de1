/* SPDX-License-Identifier: MIT */
/*
 * lock.h - a mutex in memory shared by a family of processes, that outlives a holder who dies.
 *
 * word: the holder's thread id, 0: none, with XSHIM_LOCK_WAITERS set when somebody sleeps, or did. Only the word 0 is taken
 * without a look at the rest. Not recursive. Held for a copy and a publication, never while blocking, never over fork (I9).
 *
 * Holder killed: a waiter that slept 50 ms asks the kernel whether the thread lives (tkill 0) and takes
 * the lock over if not, and sets `orphaned`: what it guards is to be believed only after what was begun has been finished
 * (xshim_tx_mend(), xshim_rx_mend() of link.h). Who does that sets it to 0, the lock held.
 * Signals: a handler that interrupts the holder gets -EDEADLK from xshim_lock_take(), it must not wait.
 */
#ifndef XSHIM_LOCK_H
#define XSHIM_LOCK_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define XSHIM_LOCK_WAITERS 0x80000000u

struct xshim_lock {
	_Atomic uint32_t word;
	_Atomic uint32_t orphaned;	/* written and read by the holder only, relaxed: the lock orders it; one more holder killed leaves it 1 */
};

int xshim_lock_slow(struct xshim_lock *l, uint32_t tid);
void xshim_lock_wake(struct xshim_lock *l);
/* After xshim_lock_let(): wake one, unless somebody has taken it meanwhile, who will. */
void xshim_lock_hand_on(struct xshim_lock *l);

/* tid: gettid() of the caller. 0, or -EDEADLK when this thread holds it already. */
static inline int xshim_lock_take(struct xshim_lock *l, uint32_t tid)
{
	uint32_t free_word = 0;

	if (atomic_compare_exchange_strong_explicit(&l->word, &free_word, tid, memory_order_acquire,
						    memory_order_relaxed))
		return 0;
	return xshim_lock_slow(l, tid);
}

static inline bool xshim_lock_try(struct xshim_lock *l, uint32_t tid)
{
	uint32_t free_word = 0;

	return atomic_compare_exchange_strong_explicit(&l->word, &free_word, tid, memory_order_acquire,
						       memory_order_relaxed);
}

static inline void xshim_lock_drop(struct xshim_lock *l)
{
	if (atomic_exchange_explicit(&l->word, 0, memory_order_release) & XSHIM_LOCK_WAITERS)
		xshim_lock_wake(l);
}

/* The same in two halves. False: XSHIM_LOCK_WAITERS is left, and xshim_lock_hand_on() is to follow. */
static inline bool xshim_lock_let(struct xshim_lock *l)
{
	return !(atomic_fetch_and_explicit(&l->word, XSHIM_LOCK_WAITERS, memory_order_release) & XSHIM_LOCK_WAITERS);
}

#endif
