/* SPDX-License-Identifier: MIT */
/*
 * poll.c - poll and its relatives over plain descriptors and connections with a channel.
 *
 * Without such a connection in the set the kernel's call is made as it is; the connections in it are
 * held meanwhile, so that no channel is attached behind a sleeping poll, or the sleep is one that an attach ends
 * (kick.h). With one, a second set is built: the
 * program's descriptors, sockets of such connections with the events that matter, and their bells.
 */
#include "poll.h"
#include "client.h"
#include "epoll.h"
#include "fault.h"
#include "kick.h"
#include "nest.h"
#include "process.h"
#include "raw.h"
#include "ready.h"
#include "sigact.h"
#include "unwind.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>

#define ON_STACK 64

struct watched {
	struct xshim_conn *conn;	/* held; NULL: plain */
	struct xshim_chan *ch;		/* NULL: no channel */
	unsigned int what;		/* entered for */
	int bell;			/* index in the second set, or -1 */
	struct xshim_ready ready;
};

struct work {
	struct watched *w;
	struct pollfd *p;		/* n of the program, then bell and life of each ring; then room for n more */
	nfds_t n;			/* of w; 0: it says nothing yet */
	void *map;			/* the memory of both; NULL: the stack */
	size_t bytes;
	uint32_t was;			/* XSHIM_DEFERRED */
};

static void let_go(struct watched *w, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++)
		if (w[i].conn) {
			xshim_conn_put(w[i].conn);
			w[i].conn = NULL;
		}
}

static unsigned int directions(short events)
{
	return ((events & (POLLIN | POLLRDNORM)) ? POLLIN : 0) |
	       ((events & (POLLOUT | POLLWRNORM)) ? POLLOUT : 0);
}

static short shown(unsigned int mask, short events)
{
	if (mask & POLLIN)
		mask |= POLLRDNORM;
	if (mask & POLLOUT)
		mask |= POLLWRNORM;
	return (short)(mask & ((unsigned short)events | POLLERR | POLLHUP | POLLNVAL));
}

static void leave_all(struct watched *w, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++)
		if (w[i].ch && w[i].what) {
			xshim_wait_leave(w[i].ch, w[i].what);
			w[i].what = 0;
		}
}

static bool heard(const struct work *k, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++)
		if (k->w[i].bell >= 0 && k->p[k->w[i].bell].revents)
			return true;
	return false;
}

/* Of a poll that never returns (unwind.h). */
static void drop_set(void *ep) { (void)raw_close(*(const int *)ep); }

/*
 * The kernel takes no more entries than RLIMIT_NOFILE allows descriptors. The program's n fit, with ours there are too many:
 * ours go behind one epoll descriptor. As ppoll.
 */
static int poll_behind(struct pollfd *p, nfds_t n, nfds_t total, const struct timespec *left, const sigset_t *mask)
{
	struct _pthread_cleanup_buffer list;
	struct pollfd first = p[n];
	struct epoll_event ev[ON_STACK];
	int ep = libc.epoll_create1(EPOLL_CLOEXEC), rc, err, k = 0;

	if (ep < 0) {
		errno = ENOMEM;
		return -1;
	}
	for (nfds_t i = n; i < total; i++) {
		ev[0] = (struct epoll_event){ .events = (uint32_t)p[i].events, .data.u32 = (uint32_t)p[i].fd };
		/* EEXIST: a connection that the program has entered twice */
		(void)libc.epoll_ctl(ep, EPOLL_CTL_ADD, p[i].fd, &ev[0]);
		p[i].revents = 0;
	}
	p[n] = (struct pollfd){ .fd = ep, .events = POLLIN };
	_pthread_cleanup_push(&list, drop_set, &ep);
	rc = libc.ppoll(p, n + 1, left, mask);
	err = errno;
	_pthread_cleanup_pop(&list, 0);
	if (rc > 0 && p[n].revents)
		k = raw_epoll_wait(ep, ev, ON_STACK);
	p[n] = first;
	for (int j = 0; j < k; j++)
		for (nfds_t i = n; i < total; i++)
			if (p[i].fd == (int)ev[j].data.u32)
				p[i].revents = (short)ev[j].events;
	raw_close(ep);
	errno = err;
	return rc;
}

#define LONGEST 1000000000	/* seconds: nobody sees its end, and that can still be reckoned with in ns */

static uint64_t ns_of(const struct timespec *ts)
{
	return (uint64_t)(ts->tv_sec < LONGEST ? ts->tv_sec : LONGEST) * 1000000000ull + (uint64_t)ts->tv_nsec;
}

struct timespec xshim_unslept(const struct timespec *whole, uint64_t began)
{
	uint64_t spent = xshim_clock_ns() - began;
	struct timespec left = { .tv_sec = whole->tv_sec - (time_t)(spent / 1000000000),
				 .tv_nsec = whole->tv_nsec - (long)(spent % 1000000000) };

	if (left.tv_nsec < 0) {
		left.tv_nsec += 1000000000;
		left.tv_sec--;
	}
	return left.tv_sec < 0 ? (struct timespec){ 0 } : left;
}

/*
 * One round: look at the rings (arming), ask the kernel, put together. Counts what is ready; -errno.
 * *again: something moved that is to be looked at before the next sleep.
 */
static int one_round(struct pollfd *fds, nfds_t n, struct work *k, const struct timespec *left,
		     const sigset_t *mask, bool *again)
{
	static const struct timespec zero;
	struct timespec capped;
	nfds_t total = n;
	bool some = false, moved = false;
	int rc, count = 0, stall, least = -1;

	for (nfds_t i = 0; i < n; i++) {
		struct watched *w = &k->w[i];

		k->p[i] = fds[i];
		k->p[i].revents = 0;
		w->bell = -1;
		if (!w->ch)
			continue;
		/* who wants neither must hear the bell all the same, or it would ring on */
		w->what = directions(fds[i].events);
		if (!w->what)
			w->what = POLLIN;
		xshim_wait_enter(w->ch, w->what);
		if (xshim_ready_look(w->conn, w->ch, fds[i].fd, w->what, &w->ready) < 0)
			moved = true;
		if (atomic_load_explicit(&w->conn->detach_due, memory_order_acquire))
			moved = true;
		if (shown(w->ready.mask, fds[i].events))
			some = true;
		k->p[i].events = (short)((fds[i].events & (POLLPRI | POLLRDHUP)) |
					 (w->ready.tcp_events & ~(POLLIN | POLLOUT)));
		/* the socket's own readiness only if it is asked for, or is the protocol's */
		if ((w->ready.tcp_events & POLLIN) && (!w->ready.in_from_tcp || (directions(fds[i].events) & POLLIN)))
			k->p[i].events |= POLLIN;
		if ((w->ready.tcp_events & POLLOUT) && (!w->ready.out_from_tcp || (w->what & POLLOUT)))
			k->p[i].events |= POLLOUT;
		w->bell = (int)total;
		k->p[total++] = (struct pollfd){ .fd = w->ready.theirs_ms ? -1 : xshim_ready_bell_fd(w->ch), .events = POLLIN };
		if (w->ready.theirs_ms && (least < 0 || w->ready.theirs_ms < least))
			least = w->ready.theirs_ms;
		k->p[total++] = (struct pollfd){ .fd = xshim_ready_peer_fd(w->ch) };
		xshim_chan_watches_life(w->ch);
		if ((w->what & POLLOUT) && !(w->ready.mask & POLLOUT)) {
			stall = xshim_stall(w->conn, w->ch);
			if (stall == 0)
				moved = true;
			else if (stall > 0 && (least < 0 || stall < least))
				least = stall;
		}
		xshim_count(&w->conn->slot->n.sleeps, 1);
	}
	if (some || moved) {
		left = &zero;
	} else if (least >= 0 && (!left || ns_of(left) > (uint64_t)least * 1000000)) {
		capped = (struct timespec){ .tv_sec = least / 1000, .tv_nsec = least % 1000 * 1000000l };
		left = &capped;
		moved = true;
	}
	if (left != &zero && !xshim_sigact_sleep_again()) {
		leave_all(k->w, n);
		*again = false;
		return -EINTR;
	}
	if (some)
		mask = NULL;	/* a signal that the mask lets in comes after what is ready */
	rc = libc.ppoll(k->p, total, left, mask);
	if (rc < 0 && errno == EINVAL && total > n)
		rc = poll_behind(k->p, n, total, left, mask);
	if (rc < 0)
		rc = some && errno == EINTR ? 0 : -errno;
	if (rc > 0 && xshim_client_has_mail() && heard(k, n))
		xshim_client_mail();
	for (nfds_t i = 0; i < n && rc >= 0; i++) {
		struct watched *w = &k->w[i];

		fds[i].revents = k->p[i].revents;
		if (w->ch && xshim_fd_peek(fds[i].fd) != &w->conn->obj) {
			/* closed meanwhile: the kernel looks at what has the number now */
			if (raw_poll(&fds[i], 1, 0) < 0)
				fds[i].revents = POLLNVAL;
		} else if (w->ch) {
			unsigned int kmask = (unsigned short)k->p[i].revents;

			if (w->bell >= 0 && k->p[w->bell].revents) {
				xshim_chan_heard(w->conn, w->ch);
				if (xshim_ready_look(w->conn, w->ch, fds[i].fd, 0, &w->ready) < 0)
					moved = true;
			}
			if (w->bell >= 0 && k->p[w->bell + 1].revents) {
				xshim_ready_peer_hup(w->conn, w->ch, fds[i].fd);
				if (xshim_ready_look(w->conn, w->ch, fds[i].fd, 0, &w->ready) < 0)
					moved = true;
			}
			kmask = xshim_ready_result(w->conn, w->ch, fds[i].fd, &w->ready, kmask);
			xshim_ready_count_full(w->ch, &w->ready, w->what, kmask);
			fds[i].revents = shown(kmask, fds[i].events);
		}
		if (fds[i].revents)
			count++;
	}
	leave_all(k->w, n);
	*again = moved || rc > 0;
	return rc < 0 ? rc : count;
}

static struct timespec left_of(uint64_t deadline)
{
	uint64_t now = xshim_clock_ns(), left = deadline > now ? deadline - now : 0;

	return (struct timespec){ .tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000) };
}

/*
 * No channel yet, but one is likely: sleep so that it can be attached meanwhile (kick.h). The references are dropped. *again: one
 * was; look anew.
 */
static int poll_outside(struct pollfd *fds, nfds_t n, struct work *k, const struct timespec *timeout,
			const sigset_t *mask, bool *again)
{
	int rc;

	memcpy(k->p, fds, n * sizeof(*fds));
	let_go(k->w, n);
	memset(k->w, 0, n * sizeof(*k->w));
	rc = xshim_kick_poll(k->p, n, timeout, mask, again);
	if (rc < 0)
		return -errno;
	for (nfds_t i = 0; i < n; i++)
		fds[i].revents = k->p[i].revents;
	return rc;
}

static int poll_rings(struct pollfd *fds, nfds_t n, struct work *k, const struct timespec *timeout,
		      const sigset_t *mask)
{
	uint64_t deadline = 0;
	struct timespec left;
	bool again;
	int rc;

	xshim_sigact_begin();
	if (timeout)
		deadline = xshim_clock_ns() + ns_of(timeout);
	for (;;) {
		if (timeout)
			left = left_of(deadline);
		rc = one_round(fds, n, k, timeout ? &left : NULL, mask, &again);
		for (nfds_t i = 0; i < n; i++) {
			struct watched *w = &k->w[i];

			if (!w->conn || !w->ch)
				continue;
			if (atomic_load_explicit(&w->conn->detach_due, memory_order_acquire))
				xshim_chan_detach(w->conn);
			w->ch = xshim_conn_chan(w->conn);
		}
		/* Not before: the program may do something else for long now. */
		if (rc)
			return rc;
		if (timeout && !left.tv_sec && !left.tv_nsec)
			return 0;
		if (!again && timeout && xshim_clock_ns() >= deadline)
			return 0;
	}
}

/* The kernel has said of epoll sets among fds what may not be true any more. Counts what is. */
static int sets_recounted(struct pollfd *fds, nfds_t n)
{
	int count = 0;

	for (nfds_t i = 0; i < n; i++)
		if (fds[i].revents && xshim_nest_is_ready(fds[i].fd, fds[i].events, &fds[i].revents))
			count++;
	return count;
}

/* With room for n in k. */
static int poll_in(struct pollfd *fds, nfds_t n, struct work *k, const struct timespec *timeout, const sigset_t *mask)
{
	bool rings, able, again, sets;
	struct timespec left;
	uint64_t deadline = 0;
	int rc;

	if (xshim_client_has_mail() && xshim_client_try()) {
		xshim_client_service();
		xshim_client_drop();
	}
	if (timeout)
		deadline = xshim_clock_ns() + ns_of(timeout);
look:
	again = rings = able = sets = false;
	memset(k->w, 0, n * sizeof(*k->w));
	k->n = n;
	for (nfds_t i = 0; i < n; i++) {
		k->w[i].conn = fds[i].fd < 0 ? NULL : xshim_conn_get(fds[i].fd);
		if (!k->w[i].conn) {
			struct xshim_obj *o = fds[i].fd < 0 ? NULL : xshim_fd_get(fds[i].fd);

			if (o) {
				sets = true;
				xshim_epoll_shown((struct xshim_eset *)o);
				xshim_obj_put(o);
			}
			continue;
		}
		if (atomic_load_explicit(&k->w[i].conn->detach_due, memory_order_acquire))
			xshim_chan_detach(k->w[i].conn);
		k->w[i].ch = xshim_conn_chan(k->w[i].conn);
		rings = rings || k->w[i].ch;
		able = able || xshim_kick_able(k->w[i].conn);
	}
	if (timeout)
		left = left_of(deadline);
	if (rings) {
		rc = poll_rings(fds, n, k, timeout ? &left : NULL, mask);
	} else if (able) {
		rc = poll_outside(fds, n, k, timeout ? &left : NULL, mask, &again);
		if (again)
			goto look;
	} else {
		rc = libc.ppoll(fds, n, timeout ? &left : NULL, mask);
		if (rc < 0)
			rc = -errno;
	}
	let_go(k->w, n);
	if (rc > 0 && sets) {
		rc = sets_recounted(fds, n);
		if (!rc && (!timeout || xshim_clock_ns() < deadline))
			goto look;
	}
	return rc;
}

/* On a copy: of an array that can be read and not be written the kernel says EFAULT when it has done all. */
static int poll_copy(struct pollfd *fds, nfds_t n, struct work *k, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd *p = k->p + 3 * n;
	int rc = xshim_user_get(p, fds, n * sizeof(*p));

	if (!rc)
		rc = poll_in(p, n, k, timeout, mask);
	for (nfds_t i = 0; rc >= 0 && i < n; i++)
		if (xshim_user_put(&fds[i].revents, &p[i].revents, sizeof(p[i].revents)) < 0)
			rc = -EFAULT;
	return rc;
}

/* A poll that never returns (unwind.h). */
static void drop(void *work)
{
	struct work *k = work;

	leave_all(k->w, k->n);
	let_go(k->w, k->n);
	if (k->map)
		munmap(k->map, k->bytes);
	xshim_put_back(k->was);
}

/* All the memory that it takes, at once. how: poll_in, or poll_copy for an array of the program's. */
static int poll_by(int (*how)(struct pollfd *, nfds_t, struct work *, const struct timespec *, const sigset_t *),
		   struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	XSHIM_DEFERRED(was);
	struct watched few[ON_STACK];
	struct pollfd few_p[4 * ON_STACK];
	struct work k = { .w = few, .p = few_p, .was = was };
	struct _pthread_cleanup_buffer list;
	int rc;

	if (n > ON_STACK) {
		k.bytes = n * (sizeof(struct watched) + 4 * sizeof(struct pollfd));
		k.map = mmap(NULL, k.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (k.map == MAP_FAILED)
			return -ENOMEM;
		k.w = k.map;
		k.p = (struct pollfd *)(k.w + n);
	}
	_pthread_cleanup_push(&list, drop, &k);
	rc = how(fds, n, &k, timeout, mask);
	_pthread_cleanup_pop(&list, 0);
	if (k.map)
		munmap(k.map, k.bytes);
	return rc;
}

/* An address as a number: the compiler takes poll's argument for one that is only written. */
static bool has_ours(uintptr_t at, nfds_t n)
{
	const struct pollfd *fds = (const struct pollfd *)at;

	for (nfds_t i = 0; i < n; i++)
		if (xshim_fd_peek(fds[i].fd))
			return true;
	return false;
}

/*
 * Whether the array is to be copied. Where faults are not caught yet, and no ring may come while the call lasts, the kernel is to store
 * in the program's own; where one may, it is time to catch them.
 */
static bool is_copied(uintptr_t at, nfds_t n)
{
	const struct pollfd *fds = (const struct pollfd *)at;
	bool able = false;

	for (nfds_t i = 0; !xshim_fault_is_caught() && !able && i < n; i++) {
		struct xshim_conn *c = fds[i].fd < 0 ? NULL : xshim_conn_get(fds[i].fd);

		if (!c)
			continue;
		able = xshim_kick_able(c);
		xshim_conn_put(c);
	}
	if (able)
		xshim_fault_ready();
	return xshim_fault_is_caught();
}

/* With something of ours in it. */
static int poll_ours(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	return poll_by(is_copied((uintptr_t)fds, n) ? poll_copy : poll_in, fds, n, timeout, mask);
}

int xshim_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	int rc;

	if (has_ours((uintptr_t)fds, n))
		return poll_by(poll_in, fds, n, timeout, mask);
	rc = libc.ppoll(fds, n, timeout, mask);
	return rc < 0 ? -errno : rc;
}

/*
 * The kernel answers for bad arguments, and for all as long as nothing here was ever on a ring and no other thread can bring that
 * about meanwhile.
 */
static bool plain_only(uintptr_t fds, nfds_t n)
{
	if (!xshim_active || (!xshim_fault_is_caught() && (__libc_single_threaded || !xshim_fd_any())))
		return true;
	return n > INT_MAX / 2 / sizeof(struct pollfd) || !xshim_user_can_read_at(fds, n * sizeof(struct pollfd));
}

bool xshim_poll_is_ours(uintptr_t fds, nfds_t n)
{
	return !plain_only(fds, n) && has_ours(fds, n);
}

XSHIM_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec ts = { .tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000l };
	int saved;

	if (!xshim_poll_is_ours((uintptr_t)fds, n))
		return libc.poll(fds, n, timeout);
	saved = errno;
	return (int)xshim_ret_kept(poll_ours(fds, n, timeout < 0 ? NULL : &ts, NULL), saved);
}
XSHIM_ALIAS(int, __poll, poll, (struct pollfd *, nfds_t, int))

XSHIM_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask)
{
	int saved;

	if (!xshim_poll_is_ours((uintptr_t)fds, n) || (timeout && !xshim_is_time(timeout)) || xshim_user_is_no_mask(mask))
		return libc.ppoll(fds, n, timeout, mask);
	saved = errno;
	return (int)xshim_ret_kept(poll_ours(fds, n, timeout, mask), saved);
}

XSHIM_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room)
{
	if (room / sizeof(*fds) < n)
		return libc.__poll_chk(fds, n, timeout, room);	/* it aborts with the usual words */
	return poll(fds, n, timeout);
}

XSHIM_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			     const sigset_t *mask, size_t room)
{
	if (room / sizeof(*fds) < n)
		return libc.__ppoll_chk(fds, n, timeout, mask, room);
	return ppoll(fds, n, timeout, mask);
}
