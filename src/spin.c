/* SPDX-License-Identifier: MIT */
/*
 * spin.c - what busy waits have brought, and what is tried next (spin.h).
 */
#include <xshim/spin.h>

static uint32_t get(const _Atomic uint32_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void set(_Atomic uint32_t *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

enum xshim_spin_how xshim_spin_ask(struct xshim_spin *s)
{
	uint32_t skip;

	if (get(&s->far))
		return XSHIM_SPIN_LONG;
	if (get(&s->good))
		return XSHIM_SPIN_NEAR;
	if (get(&s->timed))
		return XSHIM_SPIN_TIME;
	skip = get(&s->skip) + 1;
	set(&s->skip, skip);
	return (skip + XSHIM_SPIN_RARELY - XSHIM_SPIN_FIRST) & (xshim_spin_rarity(s) - 1) ? XSHIM_SPIN_NOT : XSHIM_SPIN_TRY;
}

static void far_done(struct xshim_spin *s, bool paid, bool lost)
{
	uint32_t far = get(&s->far);

	if (!paid) {
		set(&s->far, lost ? 0 : far / 2);	/* the try that led to it has been counted as in vain */
	} else if (far && far < XSHIM_SPIN_FAR) {	/* 0: ended by another thread meanwhile */
		set(&s->far, far + 1);
	} else if (far) {
		set(&s->missed, 0);
	}
}

void xshim_spin_done(struct xshim_spin *s, enum xshim_spin_how how, bool paid, bool lost)
{
	uint32_t good = get(&s->good), missed = get(&s->missed);

	if (how == XSHIM_SPIN_LONG) {
		far_done(s, paid, lost);
		return;
	}
	if (!paid) {
		set(&s->good, good / 2);
		if (how == XSHIM_SPIN_TRY) {
			if (missed < XSHIM_SPIN_MISSED)
				set(&s->missed, missed + 1);
			set(&s->timed, XSHIM_SPIN_TIMED);
			set(&s->fit, 0);
		}
		return;
	}
	if (good < XSHIM_SPIN_GOOD)
		set(&s->good, good + 1);
	if (!good)
		set(&s->missed, 0);
}

void xshim_spin_slept(struct xshim_spin *s, uint64_t ns, uint64_t near_ns)
{
	uint32_t left = get(&s->timed), fit = ns > near_ns && ns <= xshim_spin_far_ns(near_ns) ? get(&s->fit) + 1 : 0;

	if (fit >= XSHIM_SPIN_FIT)
		set(&s->far, 1);
	set(&s->fit, fit);
	/* what is shorter asleep than a near wait, and was not found in one, is not to be found awake */
	set(&s->timed, (ns && ns <= near_ns) || !left || get(&s->far) ? 0 : left - 1);
}
