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
#include <sched.h>
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

enum xshim_spin_how xshim_spin_due(struct xshim_chan *ch, unsigned int what)
{
	if (!xshim_spin_allowed() ||
	    atomic_load_explicit(what & POLLIN ? &ch->rx_empty_at : &ch->tx_full_at, memory_order_relaxed) == XSHIM_WANT_NOTHING)
		return XSHIM_SPIN_NOT;
	return xshim_spin_ask(&ch->spin);
}

/* Has what is waited for come, by ring? pos, tail: the peer's, when there was nothing. */
static inline bool has_come(const struct xshim_region_hdr *peer, unsigned int what, uint64_t pos, uint64_t tail)
{
	return ((what & POLLIN) && atomic_load_explicit(&peer->head, memory_order_acquire) > pos) ||
	       ((what & POLLOUT) && atomic_load_explicit(&peer->tail, memory_order_acquire) > tail);
}

/* Until `end` at the latest. *now: the time then, if that was in vain. */
static bool spin_until(const struct xshim_chan *ch, unsigned int what, uint64_t end, uint64_t *now)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	uint64_t pos = atomic_load_explicit(&ch->rx_empty_at, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&ch->tx_full_at, memory_order_relaxed);

	do {
		for (int i = 0; i < 32; i++) {
			if (has_come(peer, what, pos, tail))
				return true;
			xshim_relax();
		}
		*now = xshim_clock_ns();
	} while (*now < end);
	return false;
}

void xshim_spin_timed(struct xshim_chan *ch, unsigned int what, uint64_t began)
{
	bool came = has_come(ch->remote.region, what, atomic_load_explicit(&ch->rx_empty_at, memory_order_relaxed),
			     atomic_load_explicit(&ch->tx_full_at, memory_order_relaxed));

	xshim_spin_slept(&ch->spin, came ? xshim_clock_ns() - began : 0, xshim_opt.spin_us * 1000);
}

bool xshim_spin_lets(uint64_t *now)
{
	uint64_t was = *now;

	sched_yield();
	*now = xshim_clock_ns();
	return *now - was > xshim_opt.spin_us * 1000;
}

bool xshim_spin(struct xshim_chan *ch, unsigned int what, enum xshim_spin_how how)
{
	uint64_t near_ns = xshim_opt.spin_us * 1000, now = xshim_clock_ns(), end = now + near_ns;
	uint64_t last = how == XSHIM_SPIN_LONG ? now + xshim_spin_far_ns(near_ns) : end;
	bool paid = spin_until(ch, what, end, &now), lost = false;

	while (!paid && !lost && now < last) {
		lost = xshim_spin_lets(&now);
		end = now + near_ns;
		paid = !lost && spin_until(ch, what, end < last ? end : last, &now);
	}
	xshim_spin_done(&ch->spin, how, paid, lost);
	return paid;
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
		if (xshim_sigact_is_fault(sig))
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
	if (r.theirs_ms && !me.doze) {
		p[1].fd = -1;
		stall = stall < 0 || stall > r.theirs_ms ? r.theirs_ms : stall;
	}
	/* no events: only POLLHUP, when the peer's process has gone or dropped the channel */
	p[2] = (struct pollfd){ .fd = xshim_ready_peer_fd(ch) };
	/* Only what concerns us: the socket's own POLLIN would not sleep while it holds data for later. */
	if (!(what & POLLIN) && r.in_from_tcp)
		p[0].events &= ~POLLIN;
	if (!(what & POLLOUT) && r.out_from_tcp)
		p[0].events &= ~POLLOUT;
	xshim_chan_watches_life(ch);
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
		*called = r.theirs_ms;	/* to look whether the bell is ours again, not because anything has come */
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
	enum xshim_spin_how how = what & XSHIM_WAIT_MARK ? XSHIM_SPIN_NOT : xshim_spin_due(ch, what);
	uint64_t began = 0;
	int rc;

	if (how > XSHIM_SPIN_TIME && xshim_spin(ch, what, how))
		return 0;
	if (how == XSHIM_SPIN_TIME)
		began = xshim_clock_ns();
	rc = xshim_wait_unspun(c, ch, fd, what, deadline_ns);
	if (began)
		xshim_spin_timed(ch, what, began);
	return rc;
}
