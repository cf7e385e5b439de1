/* SPDX-License-Identifier: MIT */
/* kick.c - sleeping on connections that may still get a channel (kick.h). */
#include "kick.h"
#include "ask.h"
#include "privfd.h"
#include "raw.h"
#include "ready.h"
#include "sigact.h"
#include "unwind.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

/* who: NULL nobody; ANY any connection; else that one. */
#define ANY ((struct xshim_conn *)1)

struct place {
	_Atomic uint32_t taken;
	_Atomic(struct xshim_conn *) who;
	int fd;			/* 0: not made yet; guarded by `taken` but for the kicker, who sees it through `who` */
};

static struct place places[XSHIM_KICK_PLACES];
static _Atomic uint32_t used;	/* places at or above it were never taken */

static struct place *take(struct xshim_conn *who)
{
	for (uint32_t i = 0; i < XSHIM_KICK_PLACES; i++) {
		struct place *p = &places[i];
		uint32_t high = i + 1, seen = 0;

		if (atomic_load_explicit(&p->taken, memory_order_relaxed) ||
		    !atomic_compare_exchange_strong_explicit(&p->taken, &seen, 1, memory_order_acquire,
							     memory_order_relaxed))
			continue;
		if (!p->fd)
			p->fd = xshim_privfd_move((int)libc.syscall(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC));
		if (p->fd < 0) {
			p->fd = 0;
			atomic_store_explicit(&p->taken, 0, memory_order_release);
			return NULL;
		}
		seen = atomic_load_explicit(&used, memory_order_relaxed);
		while (seen < high && !atomic_compare_exchange_weak(&used, &seen, high))
			;
		atomic_store_explicit(&p->who, who, memory_order_seq_cst);
		return p;
	}
	return NULL;
}

static void give_back(struct place *p)
{
	uint64_t count;

	atomic_store_explicit(&p->who, NULL, memory_order_relaxed);
	while (raw_read(p->fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	atomic_store_explicit(&p->taken, 0, memory_order_release);
}

/* A sleep that never ends (unwind.h). */
static void drop(void *place) { give_back(place); }

void xshim_kick(struct xshim_conn *c)
{
	uint32_t n = atomic_load_explicit(&used, memory_order_relaxed);
	uint64_t one = 1;

	atomic_thread_fence(memory_order_seq_cst);
	n = atomic_load_explicit(&used, memory_order_relaxed);
	for (uint32_t i = 0; i < n; i++) {
		struct xshim_conn *who = atomic_load_explicit(&places[i].who, memory_order_seq_cst);

		if (who == c || who == ANY)
			(void)raw_write(places[i].fd, &one, sizeof(one));
	}
}

/*
 * Under a time limit the kernel's own call is best at keeping it. Below SO_RCVLOWAT that call has a part in hand, which urgent data, a
 * signal or the end makes it return, and poll says nothing.
 */
static bool kernel_sleeps_better(int fd)
{
	int low;

	if (xshim_ask_limit(fd, SO_RCVTIMEO))
		return true;
	low = xshim_ask_lowat(fd);
	return low < 0 || low > 1;
}

int xshim_kick_wait(struct xshim_conn *c, int fd)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN } };
	struct _pthread_cleanup_buffer list;
	struct place *place;
	int rc = 1;

	place = kernel_sleeps_better(fd) ? NULL : take(c);
	if (!place) {
		xshim_conn_put(c);
		return 1;
	}
	if (atomic_load_explicit(&c->obj.ch, memory_order_seq_cst))
		rc = 0;
	xshim_conn_put(c);
	if (rc) {
		_pthread_cleanup_push(&list, drop, place);
		p[1] = (struct pollfd){ .fd = place->fd, .events = POLLIN };
		do {
			xshim_sigact_sleep();
			rc = libc.poll(p, 2, -1);
			if (rc < 0)
				rc = -errno;
		} while (rc == -EINTR && xshim_restarts(UINT64_MAX));
		_pthread_cleanup_pop(&list, 0);
		if (rc > 0)
			rc = p[1].revents ? 0 : 1;
		else if (rc != -EINTR)
			rc = 1;		/* the kernel's own call has the word */
	}
	give_back(place);
	return rc;
}

int xshim_kick_poll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask, bool *kicked)
{
	struct place *place = take(ANY);
	struct _pthread_cleanup_buffer list;
	int rc, err;

	*kicked = false;
	if (!place)
		return libc.ppoll(p, n, timeout, mask);
	/* What was attached before the place was taken is found now. */
	for (nfds_t i = 0; i < n && !*kicked; i++) {
		struct xshim_conn *c = p[i].fd < 0 ? NULL : xshim_conn_get(p[i].fd);

		if (!c)
			continue;
		*kicked = atomic_load_explicit(&c->obj.ch, memory_order_seq_cst) != NULL;
		xshim_conn_put(c);
	}
	if (*kicked) {
		give_back(place);
		return 0;
	}
	p[n] = (struct pollfd){ .fd = place->fd, .events = POLLIN };
	_pthread_cleanup_push(&list, drop, place);
	rc = libc.ppoll(p, n + 1, timeout, mask);
	err = errno;
	_pthread_cleanup_pop(&list, 0);
	if (rc > 0 && p[n].revents) {
		rc--;
		*kicked = rc == 0;
	}
	give_back(place);
	errno = err;
	return rc;
}

void xshim_kick_fork_child(void)
{
	uint32_t n = atomic_load_explicit(&used, memory_order_relaxed);

	/* The eventfds are common with the parent, and no thread sleeps here. */
	for (uint32_t i = 0; i < n; i++) {
		xshim_privfd_close(places[i].fd);
		places[i].fd = 0;
		atomic_store_explicit(&places[i].who, NULL, memory_order_relaxed);
		atomic_store_explicit(&places[i].taken, 0, memory_order_relaxed);
	}
	atomic_store_explicit(&used, 0, memory_order_relaxed);
}
