/* SPDX-License-Identifier: MIT */
/* client_lock.c - the client lock, and work that comes while somebody has it (client.h). */
#include "client.h"
#include "unwind.h"

#include <sched.h>

#define MAIL_TRIES 100			/* after a bell; it is held for short steps */

static _Atomic uint32_t lock_word;
static _Atomic uint32_t asked;		/* there is work; who gives the lock back looks again */

bool xshim_client_try(void)
{
	uint32_t unlocked = 0;
	bool yes;

	xshim_deferred_begin();
	yes = atomic_compare_exchange_strong_explicit(&lock_word, &unlocked, xshim_tid(),
						      memory_order_seq_cst, memory_order_seq_cst);
	if (!yes)
		xshim_deferred_end();
	return yes;
}

static void unlock(void)
{
	atomic_store_explicit(&lock_word, 0, memory_order_seq_cst);
	xshim_deferred_end();
}

bool xshim_client_insist(void)
{
	while (!xshim_client_try()) {
		if (atomic_load_explicit(&lock_word, memory_order_relaxed) == xshim_tid())
			return false;
		sched_yield();
	}
	return true;
}

/*
 * Give the lock back /then/ read asked. Pairs with xshim_client_mail(): asked /then/ try for the lock. So one of the two takes the
 * mail in.
 */
void xshim_client_drop(void)
{
	for (;;) {
		unlock();
		if (!atomic_load_explicit(&asked, memory_order_seq_cst) || !xshim_client_try())
			return;
		xshim_client_service();
	}
}

bool xshim_client_was_asked(void)
{
	if (!atomic_load_explicit(&asked, memory_order_relaxed))
		return false;
	atomic_store_explicit(&asked, 0, memory_order_seq_cst);
	return true;
}

void xshim_client_mail(void)
{
	if (!xshim_client_has_mail())
		return;
	atomic_store_explicit(&asked, 1, memory_order_seq_cst);
	for (int i = 0; i < MAIL_TRIES; i++) {
		if (xshim_client_try()) {
			xshim_client_service();
			xshim_client_drop();
			return;
		}
		sched_yield();
	}
}

void xshim_client_say_left(void)
{
	/* Who does not get the lock leaves it to the holder. Only this is done here: the caller may hold other locks. */
	atomic_store_explicit(&asked, 1, memory_order_seq_cst);
	if (xshim_client_try()) {
		xshim_client_send_left();
		unlock();
	}
}
