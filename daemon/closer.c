/* SPDX-License-Identifier: MIT */
#include "closer.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bounded.h"
#include "verify.h"
#include "xshimd.h"

#define STACK_BYTES (64u << 10)

enum { FREE, LATE, BUSY, DONE };	/* LATE: no thread could be had */

struct xshimd_closing {
	_Atomic uint32_t state;		/* DONE: written by the thread, its last word here; the others by the loop */
	struct xshimd *d;		/* const, as is what follows while it is BUSY */
	uid_t uid;
	unsigned int n;
	int fds[XSHIM_PROTO_MAX_FDS];
};

/* Guards `ended`: no thread speaks to the loop once it has been taken apart. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool ended;

static void *run(void *arg)
{
	struct xshimd_closing *c = arg;
	struct xshimd *d = c->d;

	for (unsigned int i = 0; i < c->n; i++)
		close(c->fds[i]);
	/* Our last look at it /then/ DONE; pairs with on_done(). */
	atomic_store_explicit(&c->state, DONE, memory_order_release);
	pthread_mutex_lock(&lock);
	if (!ended)
		uv_async_send(&d->closer.done);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void start(struct xshimd_closing *c)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int rc;

	atomic_store_explicit(&c->state, BUSY, memory_order_relaxed);
	/* Signals are the loop's: an alarm must interrupt its call, and not ours. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_attr_init(&attr);
	if (rc == 0) {
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attr, STACK_BYTES);
		rc = pthread_create(&thread, &attr, run, c);
		pthread_attr_destroy(&attr);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		atomic_store_explicit(&c->state, LATE, memory_order_relaxed);
}

static void start_late(struct xshimd_closer *all)
{
	for (unsigned int i = 0; i < XSHIMD_CLOSINGS; i++)
		if (atomic_load_explicit(&all->all[i].state, memory_order_relaxed) == LATE)
			start(&all->all[i]);
}

static void on_done(uv_async_t *done)
{
	struct xshimd *d = done->data;

	for (unsigned int i = 0; i < XSHIMD_CLOSINGS; i++) {
		struct xshimd_closing *c = &d->closer.all[i];

		if (atomic_load_explicit(&c->state, memory_order_acquire) != DONE)
			continue;
		xshimd_quota_give(&d->quota, c->uid, XSHIMD_CLOSED);
		atomic_store_explicit(&c->state, FREE, memory_order_relaxed);
	}
	start_late(&d->closer);
}

int xshimd_closer_open(struct xshimd *d)
{
	struct xshimd_closer *all = &d->closer;
	int rc;

	all->all = calloc(XSHIMD_CLOSINGS, sizeof(*all->all));
	if (!all->all)
		return -ENOMEM;
	rc = uv_async_init(&d->loop, &all->done, on_done);
	if (rc < 0) {
		free(all->all);
		all->all = NULL;
		return rc;
	}
	all->done.data = d;
	uv_unref((uv_handle_t *)&all->done);	/* what is being closed keeps no loop going */
	return 0;
}

void xshimd_closer_close(struct xshimd *d)
{
	bool busy = false;

	pthread_mutex_lock(&lock);
	ended = true;
	pthread_mutex_unlock(&lock);
	uv_close((uv_handle_t *)&d->closer.done, NULL);
	for (unsigned int i = 0; i < XSHIMD_CLOSINGS; i++)
		busy |= atomic_load_explicit(&d->closer.all[i].state, memory_order_acquire) == BUSY;
	if (!busy)
		free(d->closer.all);
	d->closer.all = NULL;
}

bool xshimd_closer_is_full(struct xshimd *d, uid_t uid, uint32_t *limit)
{
	return d->quota.total[XSHIMD_CLOSED] && xshimd_quota_is_met(&d->quota, &d->opt, uid, XSHIMD_CLOSED, limit);
}

static struct xshimd_closing *find_free(struct xshimd_closer *all)
{
	for (unsigned int i = 0; i < XSHIMD_CLOSINGS; i++)
		if (atomic_load_explicit(&all->all[i].state, memory_order_relaxed) == FREE)
			return &all->all[i];
	return NULL;
}

void xshimd_closer_take(struct xshimd *d, uid_t uid, const int *fds, unsigned int n)
{
	struct xshimd_closing *c = NULL;
	uint32_t limit;

	start_late(&d->closer);
	for (unsigned int i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue;
		if (xshimd_verify_closes_at_once(fds[i])) {
			xshimd_bounded_close(fds[i]);
			continue;
		}
		if (!c) {
			/* He has a connection, so he is known to the quota, and there was room before this message. */
			if (xshimd_quota_take(&d->quota, &d->opt, uid, XSHIMD_CLOSED, &limit) == 0)
				c = find_free(&d->closer);
			assert(c);
			c->d = d;
			c->uid = uid;
			c->n = 0;
		}
		c->fds[c->n++] = fds[i];
	}
	if (c)
		start(c);
}
