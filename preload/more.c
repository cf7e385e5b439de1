/* SPDX-License-Identifier: MIT */
/* more.c - sleep until more comes than is there already (more.h). */
#include "more.h"
#include "ask.h"
#include "client.h"
#include "privfd.h"
#include "ready.h"
#include "sigact.h"
#include "unwind.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

enum { SOCKET, BELL, PEER };

static void enter(struct xshim_more *m, int fd, uint32_t events, uint32_t who)
{
	struct epoll_event ev = { .events = events | EPOLLET, .data.u32 = who };

	if (fd >= 0)
		(void)libc.epoll_ctl(m->ep, EPOLL_CTL_ADD, fd, &ev);
}

/* Empty the bell if it was heard, store the wish anew. */
static void arm(struct xshim_more *m, struct xshim_conn *c, int fd)
{
	struct xshim_ready r;

	(void)xshim_ready_look(c, m->ch, fd, POLLIN | XSHIM_LOOK_RECV, &r);
}

int xshim_more_begin(struct xshim_more *m, struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	int ep = libc.epoll_create1(EPOLL_CLOEXEC);

	ep = ep < 0 ? ep : xshim_privfd_move(ep);
	if (ep < 0)
		return -ENOMEM;
	*m = (struct xshim_more){ .ch = ch, .ep = ep };
	enter(m, fd, EPOLLIN | EPOLLRDHUP | EPOLLPRI, SOCKET);
	enter(m, xshim_ready_bell_fd(ch), EPOLLIN, BELL);
	enter(m, xshim_ready_peer_fd(ch), 0, PEER);	/* POLLHUP only */
	xshim_wait_enter(ch, POLLIN);
	arm(m, c, fd);
	return 0;
}

/* Of a sleep that never ends (unwind.h). */
static void drop(void *m) { xshim_more_end(m); }

int xshim_more_wait(struct xshim_more *m, struct xshim_conn *c, int fd, uint64_t deadline_ns)
{
	uint64_t now = deadline_ns == UINT64_MAX ? 0 : xshim_clock_ns();
	struct _pthread_cleanup_buffer list;
	struct epoll_event ev[3];
	int n, ms = -1, err;

	if (deadline_ns != UINT64_MAX)
		ms = deadline_ns <= now ? 0 : (int)((deadline_ns - now) / 1000000) + 1;
	xshim_count(&c->slot->n.sleeps, 1);
	if (!xshim_sigact_sleep_again())
		return -EINTR;
	_pthread_cleanup_push(&list, drop, m);
	n = libc.epoll_pwait(m->ep, ev, 3, ms, NULL);
	err = errno;
	_pthread_cleanup_pop(&list, 0);
	if (n < 0)
		return -err;
	if (n == 0)
		return -EAGAIN;
	fd = xshim_conn_fd(c, fd);
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 == BELL)
			xshim_chan_heard(c, m->ch);
		else if (ev[i].data.u32 == PEER)
			xshim_ready_peer_hup(c, m->ch, fd);
		else
			(void)xshim_chan_pump(c, m->ch, fd, (unsigned short)ev[i].events);
	}
	xshim_client_mail();
	arm(m, c, fd);
	return 0;
}

void xshim_more_end(struct xshim_more *m)
{
	xshim_wait_leave(m->ch, POLLIN);
	xshim_privfd_close(m->ep);
}

bool xshim_more_is_over(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	return atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) ||
	       atomic_load_explicit(&ch->gone, memory_order_relaxed) || xshim_chan_owed(c, false) ||
	       xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) ||
	       (xshim_ask_poll(fd, POLLRDHUP) & (POLLRDHUP | POLLHUP | POLLERR));
}
