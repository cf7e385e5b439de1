/* SPDX-License-Identifier: MIT */
/*
 * stream_ends.c - what is queued in a stream with a channel, half-close, close, and a call that is left without it (stream.h).
 */
#include "stream.h"
#include "ask.h"
#include "channel.h"
#include "epoll.h"
#include "ready.h"
#include "sigact.h"
#include "urgent.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>

/* The peer goes on by the other path behind what is on this one. */
static bool peer_switched(const struct xshim_link *l, const struct xshim_chan *ch)
{
	return atomic_load_explicit(&ch->remote.region->sw_seq, memory_order_acquire) != l->rx.seq;
}

/* Bytes that are on the ring behind the next `limit` ones of TCP. */
static uint64_t beyond(const struct xshim_link *l, const struct xshim_chan *ch, uint64_t limit)
{
	uint64_t head = atomic_load_explicit(&ch->remote.region->head, memory_order_acquire), at;

	if (limit == UINT64_MAX || l->rx.state != XSHIM_RX_TCP)
		return 0;
	at = l->rx.pos + limit;
	return head > at && head - at <= 1ull << l->order_peer ? head - at : 0;
}

int xshim_stream_inq(struct xshim_conn *c, int fd, int *bytes)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_slot *s = c->slot;
	enum xshim_rx_step step;
	uint64_t limit = 0, sum = 0;
	bool crossed;
	int tcp = 0, crossings = 0, rc;

	if (!ch || xshim_lock_take(&s->rx_lock, xshim_tid()) < 0)
		return libc.ioctl(fd, FIONREAD, bytes) < 0 ? -errno : 0;
	xshim_chan_rx_mend(c, ch, fd);
	if (s->link.rx.state == XSHIM_RX_GIVEN)
		xshim_chan_ungive(c, ch, fd);
	do {
		rc = xshim_rx_next(&s->link, ch->local.region, ch->remote.region, &step, &limit, &crossed);
		if (!rc && crossed)
			xshim_chan_ring(c, ch);
	} while (!rc && crossed && ++crossings < XSHIM_CROSSINGS);
	if (!rc && step != XSHIM_RX_STEP_FRAME &&
	    (step != XSHIM_RX_STEP_RING || peer_switched(&s->link, ch)))
		rc = libc.ioctl(fd, FIONREAD, &tcp) < 0 ? -errno : 0;
	if (!rc && step == XSHIM_RX_STEP_RING)
		sum = limit;
	else if (!rc && step == XSHIM_RX_STEP_TCP && (uint64_t)tcp >= limit)
		sum = beyond(&s->link, ch, limit);	/* not while some of what precedes it is under way */
	xshim_lock_drop(&s->rx_lock);
	if (crossings)
		xshim_epoll_crossed(c);
	*bytes = tcp + (int)sum;
	return rc < 0 ? rc : 0;
}

int xshim_stream_inq_hint(struct xshim_conn *c, int fd)
{
	int saved = errno, n = 0;

	if (xshim_stream_inq(c, fd, &n) < 0)
		n = 0;
	/* a FIN counts as one: who is told 0 may wait for an edge, and that of the end has been */
	if (xshim_ask_poll(fd, POLLRDHUP) & POLLRDHUP)
		n++;
	errno = saved;
	return n;
}

uint64_t xshim_stream_unacked(struct xshim_slot *s, struct xshim_chan *ch)
{
	uint64_t unread = xshim_tx_unread(&s->link, ch->remote.region), acked = xshim_stream_takes(s, ch);

	return unread > acked ? unread - acked : 0;
}

int xshim_stream_outq(struct xshim_conn *c, int fd, int *bytes)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_slot *s = c->slot;
	int tcp = 0;

	if (libc.ioctl(fd, TIOCOUTQ, &tcp) < 0)
		return -errno;
	if (ch && xshim_lock_take(&s->tx_lock, xshim_tid()) == 0) {
		if (s->link.tx.state == XSHIM_TX_RESEND)
			tcp += (int)(s->link.tx.end - s->link.tx.pos);
		else
			tcp += (int)xshim_stream_unacked(s, ch);
		xshim_lock_drop(&s->tx_lock);
	}
	*bytes = tcp;
	return 0;
}

int xshim_stream_shutdown(struct xshim_conn *c, int fd, int how)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_slot *s = c->slot;
	bool wr = how == SHUT_WR || how == SHUT_RDWR, later = false, made = false;
	int rc = 0;

	if (how != SHUT_RD && !wr)
		return libc.shutdown(fd, how) < 0 ? -errno : 0;
	/* before the kernel's, whose end of the stream is not to be taken for the peer's */
	if (how == SHUT_RD || how == SHUT_RDWR)
		xshim_conn_set_flag(c, XSHIM_SLOT_SHUT_RD, true);
	if (ch && wr && xshim_tx_is_alone(ch->remote.region)) {
		if (atomic_load_explicit(&s->link.late, memory_order_relaxed))
			(void)xshim_chan_decided(c, ch);
		(void)xshim_chan_pump(c, ch, fd, POLLOUT);
	}
	if (ch && wr && xshim_lock_take(&s->tx_lock, xshim_tid()) == 0) {
		xshim_chan_tx_mend(c, ch, fd);
		if (xshim_tx_fin_waits(&s->link, ch->remote.region)) {
			xshim_conn_set_flag(c, XSHIM_SLOT_SHUT_DUE, true);
			later = true;
		} else if (s->link.tx.state != XSHIM_TX_OUT || !s->link.left) {
			/* also of a stream that only went to TCP because the peer reads no more: it still asks what our FIN means */
			bool anew = !s->link.fin;

			later = !xshim_link_try_fin(&s->link, ch->local.region, ch->remote.region);
			if (later)
				xshim_conn_set_flag(c, XSHIM_SLOT_SHUT_DUE, true);
			else if (anew)
				xshim_chan_ring(c, ch);
		}
		xshim_conn_set_flag(c, XSHIM_SLOT_SHUT_WR, true);
		/* under the lock: a send that finds the flag leaves its answer to the kernel */
		made = !later;
		if (made)
			rc = libc.shutdown(fd, how) < 0 ? -errno : 0;
		xshim_lock_drop(&s->tx_lock);
	}
	if (later)
		how = how == SHUT_RDWR ? SHUT_RD : -1;
	if (!made && how >= 0)
		rc = libc.shutdown(fd, how) < 0 ? -errno : 0;
	if (rc < 0)
		return rc;
	if (later) {
		(void)xshim_chan_decided(c, ch);	/* it may have begun just now, and the program may make no other call */
		(void)xshim_chan_pump(c, ch, fd, POLLOUT);
	}
	/* from here on the kernel answers what comes by TCP with RST */
	if (ch && !later && xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) && xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR))
		xshim_link_deaf(ch->local.region, XSHIM_REGION_SHUT);
	/* Somebody of ours who sleeps on the connection sees the change. */
	if (ch)
		xshim_chan_ring_self(ch);
	return 0;
}

/* Something of the peer's that the program has not read is on the ring, or comes before that. rx_lock. */
static bool is_unread(struct xshim_conn *c, struct xshim_chan *ch)
{
	struct xshim_link *l = &c->slot->link;
	enum xshim_rx_step step;
	uint64_t limit = 0;
	bool crossed;
	int crossings = 0;

	do {
		if (xshim_rx_next(l, ch->local.region, ch->remote.region, &step, &limit, &crossed) < 0)
			return false;
	} while (crossed && ++crossings < XSHIM_CROSSINGS);
	return (step == XSHIM_RX_STEP_RING && limit) ||
	       (step == XSHIM_RX_STEP_TCP && l->rx.state == XSHIM_RX_TCP && limit != UINT64_MAX && limit);
}

void xshim_stream_closing(struct xshim_conn *c, int fd)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	struct xshim_slot *s = c->slot;

	if (!ch || !xshim_slot_is_sole(s, getpid()))
		return;
	/* what it may leave on the ring is sent again before FIN, or not at all */
	if (xshim_tx_is_alone(ch->remote.region))
		xshim_chan_left_alone(c, ch, fd);
	/* a sender that sees this asks the kernel whether FIN or RST has come */
	xshim_link_deaf(ch->local.region, XSHIM_REGION_CLOSED);
	/* deaf /then/ leave; pairs with xshim_link_give(). */
	if (xshim_tx_is_alone(ch->remote.region) == XSHIM_REGION_GIVES)
		xshim_chan_left_alone(c, ch, fd);
	if (xshim_lock_take(&s->rx_lock, xshim_tid()) < 0)
		return;
	xshim_chan_rx_mend(c, ch, fd);
	/* TCP answers close with unread data by RST; the kernel does not know of ours. */
	if (is_unread(c, ch))
		(void)libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	xshim_lock_drop(&s->rx_lock);
}

int xshim_stream_sleep_plain(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = events };
	struct timespec ts, *limit = NULL;
	uint64_t left = UINT64_MAX, now;
	int n;

	if (deadline_ns != UINT64_MAX) {
		now = xshim_clock_ns();
		if (now >= deadline_ns)
			return -EAGAIN;
		left = deadline_ns - now;
		ts = (struct timespec){ .tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000) };
		limit = &ts;
	}
	xshim_sigact_sleep();
	n = libc.ppoll(&p, 1, limit, NULL);
	return n > 0 ? 0 : n == 0 ? -EAGAIN : -errno;
}

enum xshim_tcp_next xshim_stream_tcp_next(int fd)
{
	unsigned int end = xshim_ask_poll(fd, POLLRDHUP);

	/* poll /then/ count: what came before an error, or before the end, comes first. Where nothing is known the kernel's call tells */
	if ((end & POLLNVAL) || xshim_ask_queued(fd))
		return XSHIM_TCP_DATA;
	return end & POLLERR ? XSHIM_TCP_ERROR : end ? XSHIM_TCP_END : XSHIM_TCP_NOTHING;
}

ssize_t xshim_stream_recv_rest(struct xshim_conn *c, int fd, struct xshim_iov *it, int flags, bool nonblock, size_t total, size_t want,
			       uint64_t deadline)
{
	struct iovec v[XSHIM_STREAM_SLICES];
	struct msghdr m = { .msg_iov = v };
	bool marked = false, whole, low = total && !nonblock && xshim_ask_lowat(fd) > 1;
	/* under a mark nothing is taken sooner than the kernel would wake for it (XSHIM_WAIT_MARK) */
	bool sleeps = low && !xshim_ask_poll(fd, POLLIN);
	enum xshim_tcp_next next;
	size_t asked;
	ssize_t n = 0;
	int rc;

	while (xshim_iov_left(it) && !(total && xshim_urgent_is_next(fd))) {
		asked = xshim_iov_left(it);
		whole = !total && !xshim_stream_must_block(c, nonblock);
		m.msg_iovlen = xshim_iov_slice(it, SSIZE_MAX, v, XSHIM_STREAM_SLICES);
		next = total ? xshim_stream_tcp_next(fd) : XSHIM_TCP_DATA;
		if (next == XSHIM_TCP_ERROR)
			break;
		if (sleeps)
			next = XSHIM_TCP_NOTHING;
		if (next != XSHIM_TCP_NOTHING)
			n = libc.recvmsg(fd, &m, whole ? flags : flags | MSG_DONTWAIT);
		if (!total && n < 0 && (whole || errno != EAGAIN))
			return -errno;
		if ((next == XSHIM_TCP_NOTHING || (n < 0 && errno == EAGAIN)) && !nonblock) {
			if (!deadline)
				deadline = xshim_stream_deadline(c, fd, SO_RCVTIMEO);
			rc = xshim_stream_sleep_plain(fd, !total || marked ? POLLIN : POLLIN | POLLPRI, deadline);
			sleeps = false;
			if (rc < 0 && low) {
				/* what is there below the mark is the program's now */
				nonblock = true;
				continue;
			}
			if (rc < 0 && total)
				break;
			if (rc < 0 && !(rc == -EINTR && xshim_restarts(deadline)))
				return rc;
			fd = xshim_conn_fd(c, fd);
			marked = total && xshim_urgent_is_there(fd);
			continue;
		}
		if (next == XSHIM_TCP_NOTHING || n <= 0)
			break;
		if (flags & MSG_PEEK)
			return n;
		marked = false;
		xshim_conn_plain_rx(c, n);
		xshim_iov_skip(it, (size_t)n);
		total += (size_t)n;
		if (total >= want)
			break;
		/* the kernel has slept for all it was asked for, and was interrupted */
		if (whole && (!(flags & MSG_WAITALL) || (!nonblock && m.msg_iovlen < XSHIM_STREAM_SLICES && (size_t)n < asked)))
			break;
	}
	return (ssize_t)total;
}
