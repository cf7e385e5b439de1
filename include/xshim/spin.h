/* SPDX-License-Identifier: MIT */
/*
 * spin.h - whether a wait begins with a busy one, and how long that may be: what was learned of a connection, or of an epoll set.
 *
 * Near   XSHIM_SPIN_US. While such waits pay: `good` goes up by one with each that has found something, and halves with each in vain. At 0
 *        one wait in 64 tries again, the first of all after 16, and after tries in vain one in 128 to 1024.
 * Far    five times as long, a millisecond at most. For who asks something now and then of an end that sleeps until it is asked: the
 *        answer takes one wake-up of a sleeping processor, longer than a near wait, and two if who has asked sleeps, too. None is made before
 *        it has been seen that waits end within it: a try in vain makes the next waits be timed, asleep, at most XSHIM_SPIN_TIMED of them, and
 *        only when XSHIM_SPIN_FIT in a row have taken longer than a near one and no longer than a far one is the next one busy so long. That
 *        goes on while it pays: `far` goes up by one with each that has found something, to XSHIM_SPIN_FAR at most, and halves with each in vain.
 *
 * So who waits longer than a far wait, a server that nobody asks or a client of a slow one, makes none, or ends after two in vain; and two ends
 * that share a processor, where each goes on as soon as the other sleeps, make none, as their sleeps are shorter than a near one. Where the
 * timed ones fit and the busy ones find nothing all the same, one far wait is spent in vain in some 64 waits at first, and in 1,024 soon.
 *
 * Where the processor was taken from us in a far wait, more is to be run than there are processors: `far` is 0 then, as after tries in vain.
 *
 * Pure code: no clock, no system call. Threads: any; several who wait on one connection may lose a count of each other's, which makes one busy
 * wait more or less.
 */
#ifndef XSHIM_SPIN_H
#define XSHIM_SPIN_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define XSHIM_SPIN_GOOD 8u		/* as far as `good` goes up */
#define XSHIM_SPIN_FAR 3u
#define XSHIM_SPIN_TIMED 8u		/* waits at most that are timed after a try in vain, */
#define XSHIM_SPIN_FIT 3u		/* of which so many in a row are to fit */
#define XSHIM_SPIN_FIRST 16u		/* this wait tries, */
#define XSHIM_SPIN_RARELY 64u		/* and then one in so many, */
#define XSHIM_SPIN_MISSED 4u		/* or in so many doubled up to so often */
#define XSHIM_SPIN_TIMES 5u		/* so many near waits are a far one, */
#define XSHIM_SPIN_FAR_NS 1000000u	/* if that is not more */

struct xshim_spin {
	_Atomic uint32_t good;		/* 0..XSHIM_SPIN_GOOD: how well near waits have paid lately */
	_Atomic uint32_t far;		/* 0..XSHIM_SPIN_FAR: the same of far ones */
	_Atomic uint32_t skip;		/* waits that were asked about while neither pays */
	_Atomic uint32_t missed;	/* 0..XSHIM_SPIN_MISSED: tries in a row that found nothing */
	_Atomic uint32_t timed;		/* waits that are still to be timed */
	_Atomic uint32_t fit;		/* so many of them in a row took what a far one may */
};

enum xshim_spin_how {
	XSHIM_SPIN_NOT,
	XSHIM_SPIN_TIME,	/* not, but xshim_spin_slept() is to be told how long the wait took */
	XSHIM_SPIN_TRY,		/* near, and xshim_spin_done() is to be told what came of it; so with the rest. Was not paying: a probe */
	XSHIM_SPIN_NEAR,
	XSHIM_SPIN_LONG,
};

static inline uint32_t xshim_spin_rarity(const struct xshim_spin *s)
{
	return XSHIM_SPIN_RARELY << atomic_load_explicit(&s->missed, memory_order_relaxed);
}

/* near_ns: XSHIM_SPIN_US. */
static inline uint64_t xshim_spin_far_ns(uint64_t near_ns)
{
	uint64_t far_ns = XSHIM_SPIN_TIMES * near_ns;

	return far_ns <= XSHIM_SPIN_FAR_NS ? far_ns : near_ns < XSHIM_SPIN_FAR_NS ? XSHIM_SPIN_FAR_NS : near_ns;
}

/* To be asked once a wait. */
enum xshim_spin_how xshim_spin_ask(struct xshim_spin *s);
/* A busy wait is over. paid: it has found something; lost: the processor was taken from us meanwhile. */
void xshim_spin_done(struct xshim_spin *s, enum xshim_spin_how how, bool paid, bool lost);
/* XSHIM_SPIN_TIME: so long it took until what was waited for came; 0: something else has ended it. */
void xshim_spin_slept(struct xshim_spin *s, uint64_t ns, uint64_t near_ns);

#endif
