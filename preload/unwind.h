/* SPDX-License-Identifier: MIT */
/*
 * unwind.h - a call that sleeps and never returns: its thread is cancelled, or a handler jumps out of it. What it holds is let go then,
 * or a connection would outlive its last close, with an end that the peer never hears of.
 *
 * The C library's own list of what is to be done, which both its cancellation and its longjmp go through. The call that has begun one
 * ends it, on all its ways out, the last one first.
 *
 * Where a thread can end. Cancellation is acted on when a call is entered and in what it sleeps in, which goes by the C library
 * (libc.h). All else that it asks of the kernel is no cancellation point (raw.h), so locks and counts need no care. A program that
 * makes its cancellation asynchronous could be ended between any two instructions; that is put off while it is in a call of ours.
 *
 * Threads: each its own. Signals: as the calls they are in. Nothing under a lock: a jump out of that is not survived.
 */
#ifndef XSHIM_UNWIND_H
#define XSHIM_UNWIND_H
#include "conn.h"

#include <pthread.h>

/* In the headers they are part of macros that cannot span our ways out. */
void _pthread_cleanup_push(struct _pthread_cleanup_buffer *b, void (*routine)(void *), void *arg);
void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *b, int run);

/* 0: the program has this thread's cancellation deferred. Else asynchronous, and 1 more than the calls and locks of ours it is put off for. */
extern __thread uint32_t xshim_async __attribute__((tls_model("initial-exec")));

/*
 * 1: a thread of this process has been cancelled, or has had its cancellation asynchronous. Before that no call need look; never 0 again. Who
 * cancels stores it first.
 */
/* Hidden is said here, or who only declares it asks the linker's table where it is. */
extern _Atomic uint32_t xshim_may_end __attribute__((visibility("hidden")));

/*
 * Receives and sends are cancellation points, also those that need not sleep: a thread that has been cancelled ends before its call does
 * anything. Before anything is held; where the kernel is called, the C library does it.
 */
static inline void xshim_cancel_point(void)
{
	if (__builtin_expect(atomic_load_explicit(&xshim_may_end, memory_order_relaxed), 0))
		pthread_testcancel();
}

void xshim_put_off(void);
void xshim_put_on(void);
/* A jump has left what XSHIM_DEFERRED(was) began. */
void xshim_put_back(uint32_t was);

/* For as long as a lock is held that is not taken over when its holder ends (client.c, eset.c). Nests. errno is kept. */
static inline uint32_t xshim_deferred_begin(void)
{
	uint32_t was = xshim_async;

	if (__builtin_expect(was, 0))
		xshim_put_off();
	return was;
}

static inline void xshim_deferred_end(void)
{
	if (__builtin_expect(xshim_async, 0))
		xshim_put_on();
}

static inline void xshim_deferred_over(const uint32_t *began)
{
	if (__builtin_expect(*began, 0))
		xshim_put_on();
}

/* The first declaration of a block: until that is left. `was` is for xshim_put_back(). */
#define XSHIM_DEFERRED(was) __attribute__((cleanup(xshim_deferred_over), unused)) const uint32_t was = xshim_deferred_begin()

/* A connection that a call has a reference of; NULL: none, or no more. */
struct xshim_hold {
	struct xshim_conn *c;
	uint32_t was;			/* XSHIM_DEFERRED */
	struct _pthread_cleanup_buffer list;
};

void xshim_hold_drop(void *hold);

/* Takes over the reference; false: there is none, and nothing is begun. was: of XSHIM_DEFERRED, which is to stand before the reference is taken. */
static inline bool xshim_hold_begin(struct xshim_hold *h, struct xshim_conn *c, uint32_t was)
{
	h->c = c;
	h->was = was;
	if (c)
		_pthread_cleanup_push(&h->list, xshim_hold_drop, h);
	return c;
}

/* After a true one. */
static inline void xshim_hold_end(struct xshim_hold *h)
{
	_pthread_cleanup_pop(&h->list, 0);
	if (h->c)
		xshim_conn_put(h->c);
}

#endif
