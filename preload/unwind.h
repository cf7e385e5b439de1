/* SPDX-License-Identifier: MIT */
/*
 * unwind.h - a call that sleeps and never returns: its thread is cancelled, or a handler jumps out of it. What it holds is let go then,
 * or a connection would outlive its last close, with an end that the peer never hears of.
 *
 * The C library's own list of what is to be done, which both its cancellation and its longjmp go through. The call that has begun one
 * ends it, on all its ways out, the last one first.
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

/*
 * A lock that is not taken over when its holder ends (client.c, eset.c) is held with cancellation off; calls of the kernel's that only ask
 * are cancellation points, too. Nests. errno is kept.
 */
void xshim_cancel_off(void);
void xshim_cancel_on(void);
/* For a sleep without such a lock, in a call that has turned it off: as the program has it. What it returns is for xshim_cancel_back(). */
int xshim_cancel_let(void);
void xshim_cancel_back(int n);

/* A connection that a call has a reference of; NULL: none, or no more. */
struct xshim_hold {
	struct xshim_conn *c;
	struct _pthread_cleanup_buffer list;
};

void xshim_hold_drop(void *hold);

/* Takes over the reference; false: there is none, and nothing is begun. */
static inline bool xshim_hold_begin(struct xshim_hold *h, struct xshim_conn *c)
{
	h->c = c;
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
