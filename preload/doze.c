/* SPDX-License-Identifier: MIT */
/* doze.c - a quicker sleep in a blocking call (doze.h). */
#include "doze.h"
#include "options.h"
#include "privfd.h"
#include "ready.h"

#include <errno.h>
#include <sys/epoll.h>

enum { SOCKET, BELL, PEER };	/* places in p */

/* Tells our own descriptor's events from those of one that the program has put in its place behind our back. */
static uint64_t datum(const struct xshim_chan *ch, uint32_t which)
{
	return (uint64_t)(uintptr_t)ch << 2 | which;
}

static bool watch(struct xshim_chan *ch, int op, int fd, uint32_t events, uint32_t which)
{
	struct epoll_event ev = { .events = events | EPOLLET, .data.u64 = datum(ch, which) };

	return libc.epoll_ctl(ch->doze_ep, op, fd, &ev) == 0;
}

void xshim_doze_close(struct xshim_chan *ch)
{
	xshim_privfd_close(ch->doze_ep);
	ch->doze_ep = -1;
	ch->dozing = false;		/* in a forked child it is no thread of ours */
	ch->doze_after = XSHIM_DOZE_NEVER;
}

/* xen: what BELL has inside, one epoll less in the way; and no life hangs up. */
static bool watch_bells(struct xshim_chan *ch)
{
	const int *own = ch->local.fds;

	if (own[XSHIM_LOCAL_EVENT] >= 0)
		return watch(ch, EPOLL_CTL_ADD, own[XSHIM_LOCAL_EVENT], EPOLLIN, BELL) &&
		       watch(ch, EPOLL_CTL_ADD, own[XSHIM_LOCAL_BELL_IN], EPOLLIN, BELL);
	return watch(ch, EPOLL_CTL_ADD, own[XSHIM_LOCAL_BELL], EPOLLIN, BELL) &&
	       watch(ch, EPOLL_CTL_ADD, ch->remote.life, 0, PEER);	/* POLLHUP only */
}

static bool make(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	int ep = libc.epoll_create1(EPOLL_CLOEXEC);

	ep = ep < 0 ? ep : xshim_privfd_move(ep);
	if (ep < 0) {
		ch->doze_after = XSHIM_DOZE_NEVER;
		return false;
	}
	ch->doze_ep = ep;
	ch->doze_fd = fd;
	ch->doze_stale = false;
	/* the number is asked about after it was used: another thread may have closed it */
	if (watch(ch, EPOLL_CTL_ADD, fd, EPOLLIN, SOCKET) && xshim_fd_peek(fd) == &c->obj && watch_bells(ch))
		return true;
	xshim_doze_close(ch);
	return false;
}

/* ch->dozer is ours. */
static bool is_good(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	if (ch->doze_ep < 0) {
		if (ch->doze_after == XSHIM_DOZE_NEVER || ch->doze_after++ < xshim_opt.doze_after || !xshim_privfd_plenty())
			return false;
		return make(c, ch, fd);
	}
	if (!ch->doze_stale)
		return true;
	/* The kernel knows the socket by this number only; if it means something else now, there is no asking anew. */
	if (xshim_fd_peek(ch->doze_fd) == &c->obj && watch(ch, EPOLL_CTL_MOD, ch->doze_fd, EPOLLIN, SOCKET)) {
		ch->doze_stale = false;
		return true;
	}
	xshim_doze_close(ch);
	return false;
}

bool xshim_doze_begin(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int what, uint64_t deadline_ns)
{
	if (what != POLLIN || deadline_ns != UINT64_MAX ||
	    atomic_load_explicit(&ch->forked, memory_order_relaxed) ||
	    atomic_load_explicit(&ch->gone, memory_order_relaxed) ||
	    atomic_load_explicit(&ch->bell_dead, memory_order_relaxed) ||
	    atomic_load_explicit(&xshim_tcp_only, memory_order_relaxed) ||
	    atomic_exchange_explicit(&ch->dozer, 1, memory_order_acquire))
		return false;
	if (is_good(c, ch, fd))
		return true;
	xshim_doze_end(ch);
	return false;
}

int xshim_doze(struct xshim_chan *ch, struct pollfd p[3])
{
	struct epoll_event ev[3];
	bool ours;
	int n;

	ch->dozing = true;
	n = libc.epoll_wait(ch->doze_ep, ev, 3, -1);
	ch->dozing = false;
	ours = n >= 0 || errno == EINTR;
	for (int i = 0; i < 3; i++)
		p[i].revents = 0;
	for (int i = 0; i < n && ours; i++) {
		uint32_t which = ev[i].data.u64 & 3;

		ours = which <= PEER && ev[i].data.u64 == datum(ch, which);
		if (ours)
			p[which].revents = (short)ev[i].events;
	}
	if (p[SOCKET].revents)
		ch->doze_stale = true;
	if (!ours) {	/* the program has closed it behind our back: the number may be its own now */
		ch->doze_ep = -1;
		ch->doze_after = XSHIM_DOZE_NEVER;
		return 0;
	}
	return n;
}

void xshim_doze_end(struct xshim_chan *ch)
{
	if (ch->dozing) {
		/* An edge is told once. A new descriptor begins with what is so. */
		xshim_privfd_close(ch->doze_ep);
		ch->doze_ep = -1;
		ch->dozing = false;
	}
	atomic_store_explicit(&ch->dozer, 0, memory_order_release);
}
