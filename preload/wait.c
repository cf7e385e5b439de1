/* SPDX-License-Identifier: MIT */
/* wait.c - spinning, then sleeping, until a connection with a channel may have become ready (ready.h). */
#include "ready.h"
#include "client.h"
#include "doze.h"
#include "options.h"
#include "sigact.h"
#include "unwind.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

bool xshim_spin_allowed(void)
{
	static _Atomic int processors;
	int n = atomic_load_explicit(&processors, memory_order_relaxed);

	if (!n) {
		n = (int)sysconf(_SC_NPROCESSORS_ONLN);
		atomic_store_explicit(&processors, n, memory_order_relaxed);
	}
	return xshim_opt.spin_us && n > 1;
}

/*
 * Busy-wait a bounded time while that has paid lately: spin_good goes up by one with each success and
 * halves with each failure; at 0 only one wait in 64 tries again, and after tries in vain one in 128 to 1024: two ends that share a
 * processor never find anything.
 */
bool xshim_spin_due(struct xshim_chan *ch, unsigned int what)
{
	uint32_t skip, missed;

	if (!xshim_spin_allowed() ||
	    atomic_load_explicit(what & POLLIN ? &ch->rx_empty_at : &ch->tx_full_at, memory_order_relaxed) == XSHIM_WANT_NOTHING)
		return false;
	if (atomic_load_explicit(&ch->spin_good, memory_order_relaxed))
		return true;
	missed = atomic_load_explicit(&ch->spin_missed, memory_order_relaxed);
	skip = atomic_load_explicit(&ch->spin_skip, memory_order_relaxed) + 1;
	atomic_store_explicit(&ch->spin_skip, skip, memory_order_relaxed);
	if (skip % xshim_spin_rarity(missed))
		return false;
	if (missed < XSHIM_SPIN_MISSED)
		atomic_store_explicit(&ch->spin_missed, missed + 1, memory_order_relaxed);
	return true;
}

bool xshim_spin(struct xshim_chan *ch, unsigned int what)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	uint32_t good = atomic_load_explicit(&ch->spin_good, memory_order_relaxed);
	uint64_t pos = atomic_load_explicit(&ch->rx_empty_at, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&ch->tx_full_at, memory_order_relaxed), end;

	end = xshim_clock_ns() + xshim_opt.spin_us * 1000;
	do {
		for (int i = 0; i < 32; i++) {
			if ((what & POLLIN) &&
			    atomic_load_explicit(&peer->head, memory_order_acquire) > pos)
				goto paid;
			if ((what & POLLOUT) &&
			    atomic_load_explicit(&peer->tail, memory_order_acquire) > tail)
				goto paid;
			xshim_relax();
		}
	} while (xshim_clock_ns() < end);
	atomic_store_explicit(&ch->spin_good, good / 2, memory_order_relaxed);
	return false;
paid:
	if (good < 8)
		atomic_store_explicit(&ch->spin_good, good + 1, memory_order_relaxed);
	if (!good)
		atomic_store_explicit(&ch->spin_missed, 0, memory_order_relaxed);
	return true;
}

bool xshim_restarts(uint64_t deadline_ns)
{
	struct sigaction sa;

	int woken = xshim_sigact_woken();

	if (deadline_ns != UINT64_MAX)
		return false;
	if (woken >= 0)
		return woken;
	for (int sig = 1; sig < NSIG; sig++) {
		/* faults do not come to a thread that sleeps */
		if (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP)
			continue;
		if (libc.sigaction(sig, NULL, &sa) < 0)
			continue;	/* the C library's own */
		/* it has not run; what ends epoll_wait() without any is that the process was stopped and continued, or traced */
		if (xshim_sigact_is_watched(&sa))
			continue;
		if (sa.sa_handler != SIG_DFL && sa.sa_handler != SIG_IGN && !(sa.sa_flags & SA_RESTART))
			return false;
	}
	return true;
}

struct sleeper {
	struct xshim_chan *ch;
	unsigned int what;
	bool doze;
};

/* Also of a sleep that never ends (unwind.h). */
static void wake_up(void *arg)
{
	struct sleeper *s = arg;

	if (s->doze)
		xshim_doze_end(s->ch);
	xshim_wait_leave(s->ch, s->what);
}

void xshim_wait_woken(struct xshim_conn *c, struct xshim_chan *ch, int fd, const struct pollfd p[3], bool in_from_tcp)
{
	if (p[1].revents) {
		xshim_chan_heard(c, ch);
		xshim_client_mail();
	}
	if (p[2].revents)
		xshim_ready_peer_hup(c, ch, fd);
	if (p[0].revents && !(in_from_tcp && (p[0].revents & ~POLLOUT) == POLLIN))
		(void)xshim_chan_pump(c, ch, fd, (unsigned short)p[0].revents);
}

/* One sleep. *called: by the bell only, or for what is the protocol's on the socket, so that it takes another look whether `what` is so. */
static int sleep_once(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int what,
		      uint64_t deadline_ns, bool *called)
{
	bool mark = what & XSHIM_WAIT_MARK;
	unsigned int arm = (what & POLLIN) && !mark ? what | XSHIM_LOOK_RECV : what & ~XSHIM_WAIT_MARK;
	struct sleeper me = { .ch = ch, .what = what };
	struct _pthread_cleanup_buffer list;
	struct xshim_ready r;
	struct pollfd p[3];
	int rc = 0, stall = -1;

	*called = false;
	xshim_wait_enter(ch, what);
	_pthread_cleanup_push(&list, wake_up, &me);
	me.doze = !mark && xshim_doze_begin(c, ch, fd, what, deadline_ns);
	rc = xshim_ready_look(c, ch, fd, me.doze ? arm | XSHIM_LOOK_EDGE : arm, &r);
	if (me.doze && !rc && !(r.mask & what) && (r.tcp_events != POLLIN || r.in_from_tcp)) {
		/* to be polled, where a bell that was let be would ring on */
		xshim_doze_end(ch);
		me.doze = false;
		rc = xshim_ready_look(c, ch, fd, arm, &r);
	}
	if (rc < 0 || (r.mask & what)) {
		rc = 0;
		goto out;
	}
	if (atomic_load_explicit(&c->detach_due, memory_order_acquire) || xshim_conn_chan(c) != ch)
		goto out;
	if (what & POLLOUT) {
		stall = xshim_stall(c, ch);
		if (!stall)
			goto out;
	}
	p[0] = (struct pollfd){ .fd = fd, .events = (short)(r.tcp_events | (what & POLLPRI)) };
	p[1] = (struct pollfd){ .fd = xshim_ready_bell_fd(ch), .events = POLLIN };
	/* no events: only POLLHUP, when the peer's process has gone or dropped the channel */
	p[2] = (struct pollfd){ .fd = xshim_ready_peer_fd(ch) };
	/* Only what concerns us: the socket's own POLLIN would not sleep while it holds data for later. */
	if (!(what & POLLIN) && r.in_from_tcp)
		p[0].events &= ~POLLIN;
	if (!(what & POLLOUT) && r.out_from_tcp)
		p[0].events &= ~POLLOUT;
	xshim_count(&c->slot->n.sleeps, 1);
	if (!xshim_sigact_sleep_again()) {
		rc = -EINTR;
		goto out;
	}
	if (me.doze) {
		rc = xshim_doze(ch, p);
	} else if (deadline_ns == UINT64_MAX) {
		rc = libc.poll(p, 3, stall);
	} else {
		uint64_t now = xshim_clock_ns(), left = 0;
		struct timespec ts;

		if (deadline_ns > now)
			left = deadline_ns - now;
		if (stall >= 0 && left > (uint64_t)stall * 1000000)
			left = (uint64_t)stall * 1000000;
		ts.tv_sec = (time_t)(left / 1000000000);
		ts.tv_nsec = (long)(left % 1000000000);
		rc = libc.ppoll(p, 3, &ts, NULL);
	}
	if (rc < 0) {
		rc = -errno;
		goto out;
	}
	fd = xshim_conn_fd(c, fd);
	if (rc == 0) {
		rc = deadline_ns != UINT64_MAX && deadline_ns <= xshim_clock_ns() ? -EAGAIN : 0;
		goto out;
	}
	rc = 0;
	*called = !p[0].revents || (!r.in_from_tcp && p[0].revents == POLLIN);
	xshim_wait_woken(c, ch, fd, p, r.in_from_tcp);
out:
	_pthread_cleanup_pop(&list, 1);
	return rc;
}

int xshim_wait_unspun(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int what, uint64_t deadline_ns)
{
	bool called;
	int rc;

	for (;;) {
		rc = sleep_once(c, ch, fd, what, deadline_ns, &called);
		if (rc < 0 || !called || !(what & XSHIM_WAIT_MARK))
			return rc;
		fd = xshim_conn_fd(c, fd);
	}
}

int xshim_wait(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int what, uint64_t deadline_ns)
{
	if (!(what & XSHIM_WAIT_MARK) && xshim_spin_due(ch, what) && xshim_spin(ch, what))
		return 0;
	return xshim_wait_unspun(c, ch, fd, what, deadline_ns);
}
