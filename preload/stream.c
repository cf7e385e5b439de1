/* SPDX-License-Identifier: MIT */
/*
 * stream.c - the data path of a connection with a channel (stream.h).
 *
 * rx_once and tx_once do what can be done now under one direction's lock; the loops around them add
 * MSG_WAITALL, blocking, timeouts. A thread never sleeps inside the kernel's own recv or send here: it polls the socket and the
 * bell (ready.c), so a switch made by anybody wakes it.
 */
#include "stream.h"
#include "channel.h"
#include "depart.h"
#include "epoll.h"
#include "options.h"
#include "ready.h"
#include "urgent.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <xshim/ring.h>

#define SLICES 64
#define TCP_HAS_DATA ((ssize_t)-4097)
#define AT_MARK ((ssize_t)-4098)

/*
 * A call that has moved bytes reports these; the error that ended it is for the next call, as in TCP.
 */
static ssize_t result(struct xshim_conn *c, size_t total, ssize_t rc)
{
	struct xshim_chan *ch = xshim_conn_chan(c);

	if (!total)
		return rc;
	if (rc < 0 && rc != -EAGAIN && rc != -EINTR && rc != -EPIPE && rc != -EFAULT && ch)
		atomic_store_explicit(&ch->tcp_err, (int)-rc, memory_order_relaxed);
	return (ssize_t)total;
}

/* ---- receiving ---- */

static ssize_t tcp_recv(struct xshim_conn *c, int fd, struct xshim_iov *it, uint64_t limit, int flags)
{
	struct iovec v[SLICES];
	struct msghdr m = { .msg_iov = v };
	uint8_t byte;
	ssize_t n;

	if (limit > SSIZE_MAX)
		limit = SSIZE_MAX;
	if (!xshim_iov_left(it)) {
		/* nothing is wanted: 0 as soon as there is data, which is not the end of the stream */
		n = libc.recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		return n < 0 ? -errno : n ? TCP_HAS_DATA : 0;
	}
	if (!it->index && !it->offset && it->count <= IOV_MAX && xshim_iov_left(it) <= limit) {
		m.msg_iov = (struct iovec *)(uintptr_t)it->v;
		m.msg_iovlen = it->count;
	} else {
		m.msg_iovlen = xshim_iov_slice(it, (size_t)limit, v, SLICES);
	}
	n = libc.recvmsg(fd, &m, (flags & (MSG_PEEK | MSG_TRUNC)) | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if (!(flags & MSG_PEEK)) {
		xshim_iov_skip(it, (size_t)n);
		xshim_count(&c->slot->n.tcp_rx, (uint64_t)n);
	}
	return n;
}

/* The socket has something to say about the end of the stream. */
static bool end_is_near(struct xshim_conn *c, struct xshim_chan *ch)
{
	return atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) || xshim_chan_owed(c, false) ||
	       xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD);
}

/* A peek that reached a boundary: what follows is on the ring. */
static ssize_t peek_beyond(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_iov it, uint64_t n, int flags)
{
	struct xshim_link *l = &c->slot->link;
	uint64_t at = l->rx.pos + n;
	uint64_t head = atomic_load_explicit(&ch->remote.region->head, memory_order_seq_cst);
	size_t more;

	xshim_iov_skip(&it, n);
	more = xshim_iov_left(&it);
	if (head < at || head - at > (1ull << l->order_peer))
		return (ssize_t)n;
	if (more > head - at)
		more = head - at;
	if (!(flags & MSG_TRUNC))
		more = xshim_ring_copy_out(xshim_region_cdata(ch->remote.region), l->order_peer, at, &it, more);
	return (ssize_t)(xshim_chan_is_cut(ch) ? n : n + more);
}

/* A peek that took all that is on the ring, where it goes on by TCP: what is there follows. */
static ssize_t peek_behind(struct xshim_chan *ch, int fd, struct xshim_iov it, ssize_t n, int flags)
{
	struct iovec v[SLICES];
	struct msghdr m = { .msg_iov = v };
	ssize_t more;

	xshim_iov_skip(&it, (size_t)n);
	m.msg_iovlen = xshim_urgent_is_next(fd) ? 0 : xshim_iov_slice(&it, SSIZE_MAX, v, SLICES);
	more = m.msg_iovlen ? libc.recvmsg(fd, &m, MSG_PEEK | (flags & MSG_TRUNC) | MSG_DONTWAIT) : 0;
	if (more < 0 && errno != EAGAIN && errno != EFAULT)	/* the look has taken it from the socket */
		atomic_store_explicit(&ch->tcp_err, errno, memory_order_relaxed);
	return more > 0 ? n + more : n;
}

/* Nothing on the ring: what does TCP say? 1: look again; 0: end; -EAGAIN; or -errno. rx_lock held. */
static ssize_t ring_empty(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };
	uint32_t got, state, seq, fin;
	struct xshim_slot *s = c->slot;
	struct xshim_link *l = &s->link;
	int err = xshim_chan_owed(c, true), queued = 0;
	uint8_t byte;
	ssize_t n;

	if (err)
		return -err;
	if (atomic_load_explicit(&ch->fin_seen, memory_order_relaxed)) {
		/* the kernel has the last word: 0, or the error that ended it */
		n = libc.recv(fd, &byte, 1, MSG_DONTWAIT);
		if (n < 0) {
			n = -errno;
			xshim_chan_told_error(c, fd);
			return n;
		}
		return n > 0 ? xshim_chan_break(c, fd, XSHIM_R_BYPASS) : 0;
	}
	if (libc.poll(&p, 1, 0) <= 0 || !p.revents)
		return -EAGAIN;
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) && !(p.revents & POLLERR) &&
	    !xshim_tcp_peer_closed(fd) && (libc.ioctl(fd, FIONREAD, &queued) < 0 || !queued))
		return 0;
	if (xshim_lock_take(&s->tx_lock, xshim_tid()) < 0)
		return -EAGAIN;
	got = l->rx.frame_got;
	state = l->rx.state;
	fin = atomic_load_explicit(&ch->fin_seen, memory_order_relaxed);
	seq = atomic_load_explicit(&ch->remote.region->sw_seq, memory_order_seq_cst);
	n = xshim_chan_pump_locked(c, ch, fd, (unsigned short)p.revents);
	/* something came of it; else it was part of a frame, and the rest is on its way */
	if (n == 0)
		n = got != l->rx.frame_got || state != l->rx.state || seq != l->rx.seq ||
				    fin != atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) ?
			    1 :
			    -EAGAIN;
	xshim_lock_drop(&s->tx_lock);
	return n;
}

/* An error is next on TCP. The program's next call is to get it, so it stays where it is. */
static bool error_is_next(int fd)
{
	struct pollfd p = { .fd = fd };
	int queued = 0;

	return libc.poll(&p, 1, 0) > 0 && (p.revents & POLLERR) && libc.ioctl(fd, FIONREAD, &queued) == 0 && !queued;
}

/*
 * What can be had now. begun: something was had before, so that a mark or an error ends it (AT_MARK). ask_tcp: also find out
 * about the end of the stream when the ring is empty. *more: and it is worth asking again; *fault: the rest is at a bad address.
 */
static ssize_t rx_once(struct xshim_conn *c, struct xshim_chan *ch, int fd, struct xshim_iov *it,
		       int flags, bool begun, bool ask_tcp, bool *more, bool *fault)
{
	struct xshim_region_hdr *own = ch->local.region;
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_slot *s = c->slot;
	struct xshim_link *l = &s->link;
	enum xshim_rx_step step, last_step = XSHIM_RX_STEP_RING;
	struct xshim_iov begin = *it;
	uint64_t limit, last_limit = 0;
	ssize_t n, last_n = 0;
	bool crossed, ring = false;
	int crossings = 0;

	*more = *fault = false;
	if (xshim_lock_take(&s->rx_lock, xshim_tid()) < 0)
		return -EAGAIN;
	for (;;) {
		n = xshim_rx_next(l, own, peer, &step, &limit, &crossed);
		if (n < 0)
			goto broken;
		if (crossed) {
			xshim_count(&s->n.switches, 1);
			xshim_chan_ring(c, ch);
			xshim_chan_note(c, ch);
			n = -EAGAIN;
			if (++crossings > XSHIM_CROSSINGS)
				goto out;
			continue;
		}
		switch (step) {
		case XSHIM_RX_STEP_RING:
			if (limit) {
				n = (ssize_t)xshim_iov_left(it);
				if ((uint64_t)n > limit)
					n = (ssize_t)limit;
				*more = atomic_load_explicit(&peer->sw_seq, memory_order_relaxed) != l->rx.seq;
				if (!(flags & MSG_TRUNC)) {
					size_t whole = (size_t)n;

					n = (ssize_t)xshim_ring_copy_out(xshim_region_cdata(peer), l->order_peer,
									 l->rx.pos, it, whole);
					*fault = (size_t)n < whole;
				} else {
					xshim_iov_skip(it, (size_t)n);
				}
				if (xshim_chan_is_cut(ch))
					goto broken;	/* what was copied may have been zeros, or ones */
				if (*fault && !n) {
					n = -EFAULT;
					goto out;
				}
				if (flags & MSG_PEEK) {
					if (*more && (uint64_t)n == limit)
						n = peek_behind(ch, fd, begin, n, flags);
				} else {
					ring = xshim_rx_took_ring(l, own, peer, (uint64_t)n);
					s->base_rx += n;
					xshim_count(&s->n.ring_rx, (uint64_t)n);
				}
				goto out;
			}
			if (!ask_tcp && !end_is_near(c, ch)) {
				n = -EAGAIN;
				goto out;
			}
			n = ring_empty(c, ch, fd);
			if (n <= 0)
				goto out;
			continue;
		case XSHIM_RX_STEP_FRAME:
			n = ring_empty(c, ch, fd);
			if (n <= 0)
				goto out;
			continue;
		default:
			break;
		}
		/* TCP. Consult, read, and if nothing came consult once more: it may have been switched. */
		if (step == last_step && limit == last_limit) {
			n = last_n;
			if (n == 0 && l->rx.state == XSHIM_RX_RAW) {
				/* it died while sending again: the rest is in its ring */
				l->rx.state = XSHIM_RX_RING;
				atomic_store_explicit(&ch->fin_seen, 1, memory_order_relaxed);
				continue;
			}
			goto out;
		}
		if (begun && (error_is_next(fd) || xshim_urgent_is_next(fd))) {
			n = AT_MARK;
			goto out;
		}
		n = tcp_recv(c, fd, it, limit, flags);
		if (n == TCP_HAS_DATA) {
			n = 0;
			goto out;
		}
		if (n == 0)
			n = -xshim_chan_owed(c, true);
		if (n > 0) {
			*more = (uint64_t)n == limit || it->count > SLICES ||
				atomic_load_explicit(&peer->sw_seq, memory_order_relaxed) != l->rx.seq;
			atomic_fetch_add_explicit(&own->consult, 1, memory_order_relaxed);
			if (flags & MSG_PEEK) {
				if ((uint64_t)n == limit && l->rx.state == XSHIM_RX_TCP)
					n = peek_beyond(c, ch, *it, (uint64_t)n, flags);
			} else {
				xshim_rx_took_tcp(l, (uint64_t)n);
			}
			goto out;
		}
		if (n < 0 && n != -EAGAIN && n != -EFAULT && l->rx.state == XSHIM_RX_RAW) {
			atomic_store_explicit(&ch->tcp_err, (int)-n, memory_order_relaxed);
			n = 0;
		}
		if (n < 0 && n != -EAGAIN) {
			xshim_chan_told_error(c, fd);
			goto out;
		}
		last_step = step;
		last_limit = limit;
		last_n = n;
	}
broken:
	n = xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
	xshim_conn_set_flag(c, XSHIM_SLOT_RESET, false);
out:
	if (n == -EAGAIN)
		atomic_store_explicit(&ch->rx_empty_at,
				      l->rx.state == XSHIM_RX_RING ? l->rx.head : XSHIM_WANT_NOTHING,
				      memory_order_relaxed);
	if (xshim_link_is_out(l))
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
	xshim_lock_drop(&s->rx_lock);
	if (ring)
		xshim_chan_ring(c, ch);
	if (crossings)
		xshim_epoll_crossed(c);
	return n;
}

/* SO_RCVTIMEO or SO_SNDTIMEO as a deadline; asked for only when we are about to sleep, and if any was ever set. */
static uint64_t socket_deadline(const struct xshim_conn *c, int fd, int option)
{
	struct timeval tv;
	socklen_t len = sizeof(tv);

	if (!xshim_conn_flag(c, XSHIM_SLOT_TIMEO))
		return UINT64_MAX;
	if (libc.getsockopt(fd, SOL_SOCKET, option, &tv, &len) < 0 || (!tv.tv_sec && !tv.tv_usec))
		return UINT64_MAX;
	return xshim_clock_ns() + (uint64_t)tv.tv_sec * 1000000000ull + (uint64_t)tv.tv_usec * 1000;
}

/* The channel went in the middle of a receive that is to have more: the kernel goes on with it. */
static ssize_t recv_rest(struct xshim_conn *c, int fd, struct xshim_iov *it, int flags, size_t total)
{
	struct iovec v[SLICES];
	struct msghdr m = { .msg_iov = v };
	ssize_t n;

	while (xshim_iov_left(it)) {
		m.msg_iovlen = xshim_iov_slice(it, SSIZE_MAX, v, SLICES);
		n = libc.recvmsg(fd, &m, flags);
		if (n <= 0)
			break;
		xshim_conn_plain_rx(c, n);
		xshim_iov_skip(it, (size_t)n);
		total += (size_t)n;
		if (!(flags & MSG_WAITALL))
			break;
	}
	return (ssize_t)total;
}

static ssize_t stream_recv(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags)
{
	bool nonblock = (flags & MSG_DONTWAIT) || xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK);
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint64_t deadline = 0;
	bool more, fault;
	struct xshim_iov it;
	size_t want, total = 0;
	ssize_t rc, peeked = 0;

	if (!xshim_user_parts_fit(v, n))
		return XSHIM_PLAIN;
	xshim_iov_init(&it, v, n);
	want = xshim_iov_left(&it);
	if (!(flags & MSG_WAITALL)) {
		size_t low = c->lowat ? c->lowat : 1;

		want = want < low ? want : low;
	}
	for (;;) {
		if (!ch)
			return total ? recv_rest(c, fd, &it, flags, total) : XSHIM_PLAIN;
		/* with enough in hand it is only a look */
		rc = rx_once(c, ch, fd, &it, flags, total, nonblock && !total, &more, &fault);
		if (rc > 0 && (flags & MSG_PEEK)) {
			xshim_iov_init(&it, v, n);
			if ((size_t)rc >= want || nonblock || fault || xshim_urgent_is_there(fd))
				return rc;
			peeked = rc;
			/* MSG_PEEK | MSG_WAITALL, or below SO_RCVLOWAT: look again when more has come */
		} else if (rc > 0) {
			/* a boundary is nothing that the program should see */
			total += (size_t)rc;
			if (total >= want && !(more && xshim_iov_left(&it)))
				return (ssize_t)total;
			continue;
		} else if (rc == AT_MARK) {
			return (ssize_t)total;
		} else if (rc == -EFAULT && peeked) {
			return peeked;
		} else if (rc != -EAGAIN) {
			return result(c, total, rc);
		}
		if (nonblock || (total && total >= want))
			return total ? (ssize_t)total : -EAGAIN;
		if (!deadline)
			deadline = socket_deadline(c, fd, SO_RCVTIMEO);
		rc = xshim_wait(c, ch, fd, POLLIN, deadline);
		if (rc == -EINTR && !total && xshim_restarts(deadline))
			rc = 0;
		if (rc == -EAGAIN || rc == -EINTR)
			return total ? (ssize_t)total : rc;
		if (atomic_load_explicit(&c->detach_due, memory_order_acquire))
			xshim_chan_detach(c);
		ch = xshim_conn_chan(c);
	}
}

ssize_t xshim_stream_recv(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags)
{
	int saved = errno;
	ssize_t rc = stream_recv(c, fd, v, n, flags);

	errno = saved;
	return rc;
}

/* ---- sending ---- */

static ssize_t tcp_send(struct xshim_conn *c, int fd, struct xshim_iov *it, int flags)
{
	struct iovec v[SLICES];
	struct msghdr m = { .msg_iov = v };
	ssize_t n;

	m.msg_iovlen = xshim_iov_slice(it, SSIZE_MAX, v, SLICES);
	n = libc.sendmsg(fd, &m, (flags & (MSG_NOSIGNAL | MSG_MORE | MSG_OOB)) | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	xshim_iov_skip(it, (size_t)n);
	xshim_count(&c->slot->n.tcp_tx, (uint64_t)n);
	return n;
}

/* After bytes went into the ring: what the test options ask for. tx_lock held. */
static void force_switch(struct xshim_conn *c, struct xshim_chan *ch)
{
	struct xshim_link *l = &c->slot->link;

	if (xshim_opt.force_leave && ch->sent >= xshim_opt.force_leave && !l->want_leave &&
	    atomic_load_explicit(&c->slot->transport, memory_order_relaxed) == XSHIM_TRANSPORT_RING) {
		xshim_link_leave_ask(l, ch->local.region);
		xshim_conn_reason(c, XSHIM_R_FORCED);
		xshim_chan_ring(c, ch);
	} else if (xshim_opt.force_spill && ch->sent >= xshim_opt.force_spill &&
		   xshim_tx_may_switch(l, ch->remote.region)) {
		ch->sent = 0;
		xshim_tx_down(l, ch->local.region);
		xshim_count(&c->slot->n.switches, 1);
		xshim_chan_ring(c, ch);
	}
}

/*
 * Fill the ring: from the iovec, or, where `it` is NULL, from in_fd (sendfile). tx_lock held, state RING.
 * *bell: the peer wants to be rung. Bytes, -EAGAIN, or -errno.
 */
static ssize_t ring_put(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_iov *it, int in_fd,
			off64_t *offset, size_t count, bool *bell)
{
	struct xshim_region_hdr *own = ch->local.region;
	struct xshim_link *l = &c->slot->link;
	int64_t space = xshim_tx_space(l, ch->remote.region);
	struct iovec v[2];
	ssize_t n;
	int stretches;

	if (space < 0)
		return space;
	if (it && !count)
		return 0;	/* needs no room */
	if (!space)
		return -EAGAIN;
	if (count > (uint64_t)space)
		count = (size_t)space;
	if (it) {
		n = (ssize_t)xshim_ring_copy_in(xshim_region_data(own), l->order_own, l->tx.pos, it, count);
		if (!n)
			return -EFAULT;
	} else {
		stretches = xshim_ring_stretch(xshim_region_data(own), l->order_own, l->tx.pos, count, v);
		n = offset ? preadv64(in_fd, v, stretches, *offset) : libc.readv(in_fd, v, stretches);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (offset)
			*offset += n;
	}
	*bell = xshim_tx_commit(l, own, ch->remote.region, (uint64_t)n);
	c->slot->base_tx += n;
	ch->sent += (uint64_t)n;
	xshim_count(&c->slot->n.ring_tx, (uint64_t)n);
	if (xshim_opt.force_leave | xshim_opt.force_spill)
		force_switch(c, ch);
	return n;
}

/* XSHIM_PLAIN: this direction is on TCP, which urgent data needs; tx_lock is then still held. */
static ssize_t tx_ring(struct xshim_conn *c, struct xshim_chan *ch, int fd, struct xshim_iov *it,
		       int in_fd, off64_t *offset, size_t count, bool urgent)
{
	struct xshim_slot *s = c->slot;
	struct xshim_link *l = &s->link;
	bool bell = false, pumped = false;
	ssize_t n;

	if (xshim_lock_take(&s->tx_lock, xshim_tid()) < 0)
		return -EAGAIN;
	for (;;) {
		n = -xshim_chan_owed(c, true);
		if (n)
			goto out;
		switch (atomic_load_explicit(&l->tx.state, memory_order_relaxed)) {
		case XSHIM_TX_TCP:
			if (xshim_chan_up_locked(c, ch, fd))
				continue;
			return XSHIM_PLAIN;
		case XSHIM_TX_RING:
			if (!pumped && (atomic_load_explicit(&ch->gone, memory_order_relaxed) ||
					atomic_load_explicit(&ch->remote.region->deaf, memory_order_relaxed) ||
					(!l->want_leave &&
					 atomic_load_explicit(&ch->remote.region->leave,
							      memory_order_relaxed))))
				break;
			if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR))
				return XSHIM_PLAIN;	/* the kernel knows what to say */
			if (urgent && !pumped)
				break;
			if (urgent) {
				n = -EAGAIN;
				goto out;
			}
			n = ring_put(c, ch, it, in_fd, offset, count, &bell);
			if (n == -EPROTO)
				n = xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
			goto out;
		case XSHIM_TX_OUT:
			return XSHIM_PLAIN;
		default:
			if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR))
				return XSHIM_PLAIN;
			if (!pumped)
				break;
			n = -EAGAIN;
			goto out;
		}
		/* Something is going on with the other direction, too: that lock comes first. */
		xshim_lock_drop(&s->tx_lock);
		pumped = true;
		n = xshim_chan_pump(c, ch, fd, POLLIN | POLLOUT);
		if (n < 0)
			return n;
		if (urgent)
			xshim_urgent_down(c, ch);
		if (xshim_lock_take(&s->tx_lock, xshim_tid()) < 0)
			return -EAGAIN;
	}
out:
	if (n == -EAGAIN)
		atomic_store_explicit(&ch->tx_full_at,
				      l->tx.state == XSHIM_TX_RING ? l->tx.tail : XSHIM_WANT_NOTHING,
				      memory_order_relaxed);
	if (n > 0 && atomic_load_explicit(&ch->stall_ns, memory_order_relaxed))
		atomic_store_explicit(&ch->stall_ns, 0, memory_order_relaxed);
	xshim_lock_drop(&s->tx_lock);
	if (bell)
		xshim_chan_ring(c, ch);
	return n;
}

static ssize_t tx_once(struct xshim_conn *c, struct xshim_chan *ch, int fd, struct xshim_iov *it,
		       int flags)
{
	ssize_t n = tx_ring(c, ch, fd, it, -1, NULL, xshim_iov_left(it), flags & MSG_OOB);

	if (n != XSHIM_PLAIN)
		return n;
	n = tcp_send(c, fd, it, flags);
	if (n < 0 && n != -EAGAIN)
		xshim_chan_told_error(c, fd);
	if (xshim_link_is_out(&c->slot->link))
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
	xshim_lock_drop(&c->slot->tx_lock);
	return n;
}

/*
 * Nothing could be sent, total: in this turn of a call that has sent so much. 0: try again; -EAGAIN: give up. On a full ring
 * a caller that does not block learns about a stall here, one that blocks in xshim_wait().
 */
static ssize_t no_room(struct xshim_conn *c, struct xshim_chan *ch, int fd, bool nonblock, size_t total,
		       uint64_t *deadline)
{
	int rc;

	if (nonblock) {
		if (xshim_stall(c, ch) == 0)
			return 0;
		xshim_epoll_full(c);
		return -EAGAIN;
	}
	if (!*deadline)
		*deadline = socket_deadline(c, fd, SO_SNDTIMEO);
	rc = xshim_wait(c, ch, fd, POLLOUT, *deadline);
	return rc == -EINTR && !total && xshim_restarts(*deadline) ? 0 : rc;
}

static struct xshim_chan *still_there(struct xshim_conn *c)
{
	if (atomic_load_explicit(&c->detach_due, memory_order_acquire))
		xshim_chan_detach(c);
	return xshim_conn_chan(c);
}

static ssize_t stream_send(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags)
{
	bool nonblock = (flags & MSG_DONTWAIT) || xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK);
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint64_t deadline = 0, urgent_until = 0;
	struct xshim_iov it;
	size_t total = 0;
	ssize_t rc;

	if (!xshim_user_parts_fit(v, n))
		return XSHIM_PLAIN;
	xshim_iov_init(&it, v, n);
	if (ch && (flags & MSG_OOB)) {
		xshim_conn_set_flag(c, XSHIM_SLOT_URGENT, true);
		urgent_until = xshim_clock_ns() + XSHIM_URGENT_MS * 1000000ull;
	}
	while (ch) {
		rc = tx_once(c, ch, fd, &it, flags);
		if (rc >= 0) {
			total += (size_t)rc;
			if (!xshim_iov_left(&it))
				return (ssize_t)total;
			continue;
		}
		if (rc != -EAGAIN)
			return result(c, total, rc);
		rc = urgent_until && c->slot->link.tx.state == XSHIM_TX_RING ?
			     xshim_urgent_wait(c, ch, fd, nonblock ? urgent_until : UINT64_MAX) :
			     no_room(c, ch, fd, nonblock, total, &deadline);
		if (rc < 0)
			return total ? (ssize_t)total : rc;
		ch = still_there(c);
	}
	if (!total)
		return XSHIM_PLAIN;
	/* The channel went in the middle of a blocking send: the rest goes the kernel's way. */
	for (;;) {
		struct iovec rest[SLICES];
		struct msghdr m = { .msg_iov = rest };

		m.msg_iovlen = xshim_iov_slice(&it, SSIZE_MAX, rest, SLICES);
		rc = libc.sendmsg(fd, &m, flags);
		if (rc < 0)
			return (ssize_t)total;
		xshim_conn_plain_tx(c, rc);
		total += (size_t)rc;
		xshim_iov_skip(&it, (size_t)rc);
		if (!xshim_iov_left(&it))
			return (ssize_t)total;
	}
}

ssize_t xshim_stream_send(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags)
{
	int saved = errno;
	ssize_t rc = stream_send(c, fd, v, n, flags);

	errno = saved;
	return rc;
}

static ssize_t stream_sendfile(struct xshim_conn *c, int fd, int in_fd, off64_t *offset, size_t count)
{
	bool nonblock = xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK);
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint64_t deadline = 0;
	size_t total = 0;
	ssize_t rc;

	while (ch) {
		rc = tx_ring(c, ch, fd, NULL, in_fd, offset, count - total, false);
		if (rc == XSHIM_PLAIN) {
			/* O_NONBLOCK is the description's, so this could sleep: poll first */
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			if (!nonblock && libc.poll(&p, 1, 0) == 0) {
				rc = -EAGAIN;
			} else {
				rc = libc.sendfile64(fd, in_fd, offset,
						     nonblock ? count - total :
						     count - total > 65536 ? 65536 : count - total);
				if (rc < 0)
					rc = -errno;
				else
					xshim_count(&c->slot->n.tcp_tx, (uint64_t)rc);
			}
			xshim_lock_drop(&c->slot->tx_lock);
		}
		if (rc == 0)
			return (ssize_t)total;
		if (rc > 0) {
			total += (size_t)rc;
			if (total >= count)
				return (ssize_t)total;
			continue;
		}
		if (rc != -EAGAIN)
			return result(c, total, rc);
		rc = no_room(c, ch, fd, nonblock, total, &deadline);
		if (rc < 0)
			return total ? (ssize_t)total : rc;
		ch = still_there(c);
	}
	return total ? (ssize_t)total : XSHIM_PLAIN;
}

ssize_t xshim_stream_sendfile(struct xshim_conn *c, int fd, int in_fd, off64_t *offset, size_t count)
{
	int saved = errno;
	ssize_t rc = stream_sendfile(c, fd, in_fd, offset, count);

	errno = saved;
	return rc;
}
