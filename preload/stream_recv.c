/* SPDX-License-Identifier: MIT */
/*
 * stream_recv.c - receiving on a connection with a channel (stream.h).
 *
 * rx_once does what can be done now under the direction's lock; the loop around it adds MSG_WAITALL, blocking,
 * timeouts. A thread never sleeps inside the kernel's own recv here: it polls the socket and the bell (ready.c), so a switch
 * made by anybody wakes it.
 */
#include "stream.h"
#include "ask.h"
#include "channel.h"
#include "depart.h"
#include "epoll.h"
#include "fast.h"
#include "more.h"
#include "peek.h"
#include "raw.h"
#include "ready.h"
#include "rxopts.h"
#include "sigact.h"
#include "urgent.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <xshim/ring.h>

#define TCP_HAS_DATA ((ssize_t)-4097)
#define ANEW ((ssize_t)-4099)

ssize_t xshim_stream_keep(struct xshim_conn *c, struct xshim_chan *ch, ssize_t rc)
{
	if (rc >= 0 || rc == -EAGAIN || rc == -EINTR || rc == -EPIPE || rc == -EFAULT || rc <= XSHIM_PLAIN)
		return rc;
	if (!xshim_chan_owed(c, false))
		atomic_store_explicit(&ch->tcp_err, (int)-rc, memory_order_relaxed);
	return XSHIM_NEXT;
}

/* ---- receiving ---- */

static ssize_t tcp_recv(struct xshim_conn *c, int fd, struct xshim_iov *it, uint64_t limit, int flags)
{
	struct iovec v[XSHIM_STREAM_SLICES];
	struct msghdr m = { .msg_iov = v };
	uint8_t byte;
	ssize_t n;

	if (limit > SSIZE_MAX)
		limit = SSIZE_MAX;
	if (!xshim_iov_left(it)) {
		/* nothing is wanted: 0 as soon as there is data, which is not the end of the stream */
		n = raw_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		/* urgent data is data, too, and no byte of it is to be seen like that */
		if (n < 0 && errno == EAGAIN && raw_recv(fd, &byte, 0, MSG_PEEK | MSG_DONTWAIT) == 0)
			return TCP_HAS_DATA;
		return n < 0 ? -errno : n ? TCP_HAS_DATA : 0;
	}
	if (!it->index && !it->offset && it->count <= IOV_MAX && xshim_iov_left(it) <= limit) {
		m.msg_iov = (struct iovec *)(uintptr_t)it->v;
		m.msg_iovlen = it->count;
	} else {
		m.msg_iovlen = xshim_iov_slice(it, (size_t)limit, v, XSHIM_STREAM_SLICES);
	}
	if (flags & MSG_PEEK) {
		n = raw_recvmsg(fd, &m, (flags & (MSG_PEEK | MSG_TRUNC)) | MSG_DONTWAIT);
		return n < 0 ? -errno : n;
	}
	/* say so /then/ take /then/ count: who is killed on the way leaves the word (arena.h) */
	atomic_store_explicit(&c->slot->rx_taking, 1, memory_order_relaxed);
	n = raw_recvmsg(fd, &m, (flags & MSG_TRUNC) | MSG_DONTWAIT);
	if (n > 0)
		xshim_rx_took_tcp(&c->slot->link, (uint64_t)n);
	atomic_store_explicit(&c->slot->rx_taking, 0, memory_order_release);
	if (n < 0)
		return -errno;
	xshim_iov_skip(it, (size_t)n);
	xshim_count(&c->slot->n.tcp_rx, (uint64_t)n);
	return n;
}

/* The socket has something to say about the end of the stream. */
static bool end_is_near(struct xshim_conn *c, struct xshim_chan *ch)
{
	return atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) || xshim_chan_owed(c, false) ||
	       xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD);
}

/* Nothing on the ring: what does TCP say? 1: look again; 0: end; -EAGAIN; or -errno. rx_lock held. */
static ssize_t ring_empty(struct xshim_conn *c, struct xshim_chan *ch, int fd, bool begun)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };
	uint32_t got, state, seq, fin;
	struct xshim_slot *s = c->slot;
	struct xshim_link *l = &s->link;
	int err = xshim_chan_owed(c, !begun);
	uint8_t byte;
	ssize_t n;

	xshim_rxopts_any(c, fd);
	if (err)
		return -err;
	if (atomic_load_explicit(&ch->fin_seen, memory_order_relaxed)) {
		/* the kernel has the last word: 0, or the error that ended it */
		n = raw_recv(fd, &byte, 1, MSG_DONTWAIT);
		if (n < 0) {
			n = -errno;
			xshim_chan_told_error(c, fd);
			return n;
		}
		return n > 0 ? xshim_chan_break(c, fd, XSHIM_R_BYPASS) : 0;
	}
	if (raw_poll(&p, 1, 0) <= 0 || !p.revents)
		return -EAGAIN;
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) && !(p.revents & POLLERR) &&
	    !xshim_tcp_peer_closed(fd) && xshim_ask_queued(fd) <= 0)
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

/*
 * 0 where TCP carries the stream: the end, unless the peer was killed with something of ours unread on its ring; then it is a reset, as
 * it would be with that in a socket. 0 or -errno. rx_lock held.
 */
static ssize_t end_by_tcp(struct xshim_conn *c, struct xshim_chan *ch, int fd, bool begun)
{
	struct xshim_slot *s = c->slot;

	/* after our own shutdown(SHUT_RD) the kernel says 0 without a FIN, too */
	if (s->link.rx.state == XSHIM_RX_TCP && !xshim_chan_is_cut(ch) &&
	    (!xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) || xshim_tcp_peer_closed(fd)) &&
	    xshim_lock_take(&s->tx_lock, xshim_tid()) == 0) {
		if (s->link.tx.seq)
			xshim_chan_peer_gone_locked(c, ch, fd);
		xshim_lock_drop(&s->tx_lock);
	}
	return -xshim_chan_owed(c, !begun);
}

/*
 * n bytes that are in the ring; fewer at a bad address: *fault, -EFAULT if none. *bell: the peer wants to be rung; in the middle it
 * is, at once. -EPROTO: what was copied may have been zeros, or ones. rx_lock held.
 */
static ssize_t take_parts(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_iov *it, size_t n, bool *fault, bool *bell)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_slot *s = c->slot;
	struct xshim_link *l = &s->link;
	size_t done = 0, part, got;

	do {
		part = n - done < XSHIM_RING_PART ? n - done : XSHIM_RING_PART;
		got = xshim_ring_copy_out(xshim_region_cdata(peer), l->order_peer, xshim_rx_place(l), it, part);
		*fault = got < part;
		if (xshim_chan_is_cut(ch))
			return -EPROTO;
		if (!got)
			break;
		done += got;
		*bell = xshim_rx_took_ring(l, ch->local.region, peer, got);
		xshim_count(&s->n.ring_rx, got);
		if (*bell && done < n) {
			xshim_chan_ring(c, ch);
			*bell = false;
		}
	} while (!*fault && done < n);
	return done ? (ssize_t)done : *fault ? -EFAULT : 0;
}

/*
 * What can be had now. begun: something was had before, so that a mark or an error ends it (XSHIM_NEXT). ask_tcp: also find out
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
	enum xshim_tcp_next next;
	bool crossed, ring = false;
	int crossings = 0;

	*more = *fault = false;
	if (xshim_lock_take(&s->rx_lock, xshim_tid()) < 0)
		return -EDEADLK;	/* a handler on top of a call that has it, and goes on only after us */
	xshim_chan_rx_mend(c, ch, fd);
	if (__builtin_expect(l->rx.state == XSHIM_RX_GIVEN, 0))
		xshim_chan_ungive(c, ch, fd);
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
				if (!(flags & (MSG_PEEK | MSG_TRUNC))) {
					n = take_parts(c, ch, it, (size_t)n, fault, &ring);
					if (n == -EPROTO)
						goto broken;
					goto out;
				}
				if (!(flags & MSG_TRUNC)) {
					size_t whole = (size_t)n;

					n = (ssize_t)xshim_ring_copy_out(xshim_region_cdata(peer), l->order_peer,
									 xshim_rx_place(l), it, whole);
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
					if ((uint64_t)n == limit && xshim_rx_ends_at(l, peer, limit))
						n = xshim_peek_behind(ch, fd, begin, n, flags);
				} else {	/* thrown away */
					ring = xshim_rx_took_ring(l, own, peer, (uint64_t)n);
					xshim_count(&s->n.ring_rx, (uint64_t)n);
				}
				goto out;
			}
			if (!ask_tcp && !end_is_near(c, ch)) {
				n = -EAGAIN;
				goto out;
			}
			n = ring_empty(c, ch, fd, begun);
			if (n <= 0)
				goto out;
			continue;
		case XSHIM_RX_STEP_FRAME:
			n = ring_empty(c, ch, fd, begun);
			if (n <= 0)
				goto out;
			continue;
		default:
			break;
		}
		/* TCP. Consult, read, and if nothing came consult once more: it may have been switched. */
		if (step == last_step && limit == last_limit) {
			n = last_n;
			if (n == -EAGAIN && xshim_chan_owed(c, false))
				n = begun ? XSHIM_NEXT : -xshim_chan_owed(c, true);
			if (n == 0 && l->rx.state == XSHIM_RX_RAW) {
				/* it died while sending again: the rest is in its ring */
				l->rx.state = XSHIM_RX_RING;
				atomic_store_explicit(&ch->fin_seen, 1, memory_order_relaxed);
				continue;
			}
			goto out;
		}
		next = begun ? xshim_stream_tcp_next(fd) : XSHIM_TCP_DATA;
		if (next == XSHIM_TCP_ERROR || (begun && xshim_urgent_is_next(fd))) {
			n = XSHIM_NEXT;
			goto out;
		}
		if (next == XSHIM_TCP_NOTHING) {
			n = -EAGAIN;
		} else if (limit != UINT64_MAX) {
			n = tcp_recv(c, fd, it, limit, flags);
		} else {
			bool seen = xshim_rx_read_begin(l, own, peer);

			if (seen)
				n = tcp_recv(c, fd, it, limit, flags);
			xshim_rx_read_end(own);
			if (!seen)
				continue;
		}
		if (n == TCP_HAS_DATA) {
			n = 0;
			goto out;
		}
		if (n == 0)
			n = end_by_tcp(c, ch, fd, begun);
		if (n > 0) {
			*more = (uint64_t)n == limit || it->count > XSHIM_STREAM_SLICES ||
				atomic_load_explicit(&peer->sw_seq, memory_order_relaxed) != l->rx.seq;
			atomic_fetch_add_explicit(&own->consult, 1, memory_order_relaxed);
			if ((flags & MSG_PEEK) && (uint64_t)n == limit && l->rx.state == XSHIM_RX_TCP)
				n = xshim_peek_beyond(c, ch, fd, *it, (uint64_t)n, flags);
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
	xshim_conn_set_flag(c, XSHIM_SLOT_RESET, begun);
out:
	if (begun)
		n = xshim_stream_keep(c, ch, n);
	if (n == -EAGAIN)
		atomic_store_explicit(&ch->rx_empty_at,
				      l->rx.state == XSHIM_RX_RING ? l->rx.head : XSHIM_WANT_NOTHING,
				      memory_order_relaxed);
	xshim_chan_if_out(c);
	xshim_chan_drop_lock(c, ch, &s->rx_lock, ring);
	if (crossings)
		xshim_epoll_crossed(c);
	return n;
}

uint64_t xshim_stream_deadline(const struct xshim_conn *c, int fd, int option)
{
	int64_t ns = xshim_conn_flag(c, XSHIM_SLOT_TIMEO) ? xshim_ask_limit(fd, option) : 0;

	return ns > 0 ? xshim_clock_ns() + (uint64_t)ns : UINT64_MAX;
}

/* Below SO_RCVLOWAT the kernel wakes nobody, also if less would do. */
static bool is_at_mark(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_ready r;

	return !xshim_rxopts_lowat(c) || xshim_ready_look(c, ch, fd, 0, &r) < 0 ||
	       (xshim_ready_result(c, ch, fd, &r, xshim_ask_poll(fd, (short)r.tcp_events)) & POLLIN);
}

/*
 * A blocking peek that is to have `want` bytes, of which `front` are for nobody, and has had fewer: what there is when it
 * ends, or an error. ANEW: the channel goes.
 */
static ssize_t peek_more(struct xshim_conn *c, struct xshim_chan *ch, int fd, const struct iovec *v, size_t n,
			 int flags, size_t want, size_t front)
{
	uint64_t deadline = xshim_stream_deadline(c, fd, SO_RCVTIMEO);
	struct xshim_more m;
	struct xshim_iov it;
	bool over, more, fault;
	ssize_t rc, slept;

	if (xshim_more_begin(&m, c, ch, fd) < 0)
		return -ENOMEM;
	for (;;) {
		over = xshim_more_is_over(c, ch, fd);
		xshim_iov_init(&it, v, n);
		rc = rx_once(c, ch, fd, &it, flags, false, over, &more, &fault);
		if (rc != -EAGAIN && (rc <= 0 || over || fault || xshim_urgent_is_there(fd) ||
				      ((size_t)rc >= want && is_at_mark(c, ch, fd))))
			break;
		slept = xshim_more_wait(&m, c, fd, deadline);
		if (slept < 0 && !(slept == -EINTR && rc <= (ssize_t)front && xshim_restarts(deadline))) {
			rc = rc > (ssize_t)front ? rc : slept;
			break;
		}
		fd = xshim_conn_fd(c, fd);
		if (atomic_load_explicit(&c->detach_due, memory_order_acquire) || xshim_conn_chan(c) != ch) {
			rc = ANEW;
			break;
		}
	}
	xshim_more_end(&m);
	return rc;
}

/* front: so many bytes are for nobody, of a peek. called: the number that the call was made with. */
static ssize_t stream_recv(struct xshim_conn *c, int fd, const int called, const struct iovec *v, size_t n, int flags, size_t front,
			   bool *begun)
{
	bool nonblock = (flags & MSG_DONTWAIT) || (!*begun && xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK));
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint64_t deadline = 0;
	bool more, fault, marked = false;
	struct xshim_iov it;
	size_t want, total = 0;
	ssize_t rc, ended = 0;
	size_t low;

	if (!xshim_user_parts_fit(v, n))
		return XSHIM_PLAIN;
	xshim_iov_init(&it, v, n);
	want = xshim_iov_left(&it) - front;
	if (!(flags & MSG_WAITALL)) {
		low = xshim_rxopts_lowat(c);
		low = low ? low : 1;
		want = want < low ? want : low;
	}
	want += front;
	for (;;) {
		if (!ch && ended) {
			rc = xshim_stream_recv_rest(c, fd, &it, flags | MSG_DONTWAIT, true, total, want, deadline);
			if (rc != -EAGAIN || !(ended == -EINTR && xshim_restarts(deadline)))
				return rc == -EAGAIN ? ended : rc;
		}
		if (!ch)
			return total || fd != called || xshim_stream_must_block(c, nonblock) ?
				       xshim_stream_recv_rest(c, fd, &it, flags, nonblock, total, want, deadline) :
				       XSHIM_PLAIN;
		/* with enough in hand it is only a look */
		rc = rx_once(c, ch, fd, &it, flags, total, nonblock && !total, &more, &fault);
		if (ended && rc > 0 && (flags & MSG_PEEK) && (size_t)rc <= front)
			rc = -EAGAIN;
		if (rc > 0 && (flags & MSG_PEEK)) {
			xshim_iov_init(&it, v, n);
			if (fault && (size_t)rc <= front)
				return -EFAULT;
			if ((size_t)rc >= want || nonblock || ended || fault || n > XSHIM_PEEK_PARTS || xshim_urgent_is_there(fd))
				return rc;
			/* MSG_PEEK | MSG_WAITALL, or below SO_RCVLOWAT */
			*begun = true;
			rc = peek_more(c, ch, fd, v, n, flags, want, front);
			if (rc != ANEW)
				return rc;
			ch = xshim_stream_still_there(c);
			continue;
		} else if (rc > 0) {
			/* a boundary is nothing that the program should see */
			total += (size_t)rc;
			marked = false;
			if (total >= want && !(more && xshim_iov_left(&it)))
				return (ssize_t)total;
			continue;
		} else if (rc == XSHIM_NEXT) {
			return (ssize_t)total;
		} else if (rc != -EAGAIN) {
			return total ? (ssize_t)total : rc;
		}
		if (ended && !total && ended == -EINTR && xshim_restarts(deadline))
			ended = 0;
		if (nonblock || ended || (total && total >= want))
			return total ? (ssize_t)total : ended ? ended : -EAGAIN;
		*begun = true;
		if (!deadline)
			deadline = xshim_stream_deadline(c, fd, SO_RCVTIMEO);
		/* urgent data may end a receive that has too little, and is no POLLIN; once told of it, not again before more has come */
		low = xshim_rxopts_lowat(c);
		rc = xshim_wait(c, ch, fd, POLLIN | ((total || low) && !marked ? POLLPRI : 0) | (low ? XSHIM_WAIT_MARK : 0), deadline);
		if (rc == -EINTR && !total && !low && xshim_restarts(deadline))
			rc = 0;
		if ((rc == -EAGAIN || rc == -EINTR) && !low)
			return total ? (ssize_t)total : rc;
		/* what is there below the mark is the program's now */
		ended = rc;
		fd = xshim_conn_fd(c, fd);
		marked = (total || low) && xshim_urgent_is_there(fd);
		ch = xshim_stream_still_there(c);
		if (ch && !total && n == 1 && !flags) {
			rc = xshim_fast_take(c, ch, v->iov_base, v->iov_len);
			if (rc > 0)
				return rc;
		}
	}
}

/* A peek under SO_PEEK_OFF, behind what is next to be read. Threads have small stacks: only few parts are put together there. */
static ssize_t peek_at(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags, size_t at, bool *begun)
{
	struct iovec few[XSHIM_RXOPTS_PARTS + XSHIM_PEEK_PARTS], *with = few;
	size_t bytes = (XSHIM_RXOPTS_PARTS + n) * sizeof(*v), front;
	struct xshim_chan *ch = xshim_conn_chan(c);
	ssize_t rc;

	if (n > XSHIM_PEEK_PARTS) {
		with = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (with == MAP_FAILED)
			return -ENOMEM;
	}
	front = xshim_rxopts_front(with, at);
	memcpy(with + front, v, n * sizeof(*v));
	rc = stream_recv(c, fd, fd, with, front + n, flags, at, begun);
	if (with != few)
		munmap(with, bytes);
	if (rc > (ssize_t)at)
		return rc - (ssize_t)at;
	return rc < 0 ? rc : ch && xshim_more_is_over(c, ch, fd) ? 0 : -EAGAIN;
}

/* A receive under SO_PEEK_OFF; a peek was called with fd. */
static ssize_t recv_with_offset(struct xshim_conn *c, int fd, int called, const struct iovec *v, size_t n, int flags, bool *begun)
{
	size_t at = flags & MSG_PEEK ? xshim_rxopts_peek_at(c) : 0;
	ssize_t rc;

	if (!at || n > IOV_MAX || !xshim_user_parts_fit(v, n))
		rc = stream_recv(c, fd, called, v, n, flags, 0, begun);
	else
		rc = peek_at(c, fd, v, n, flags, at, begun);
	if (rc > 0)
		xshim_rxopts_moved(c, (size_t)rc, flags & MSG_PEEK);
	return rc;
}

static ssize_t recv_called(struct xshim_conn *c, int fd, int called, const struct iovec *v, size_t n, int flags, bool *begun)
{
	if (__builtin_expect(atomic_load_explicit(&c->slot->peek_at, memory_order_relaxed) != 0, 0))
		return recv_with_offset(c, fd, called, v, n, flags, begun);
	return stream_recv(c, fd, called, v, n, flags, 0, begun);
}

ssize_t xshim_stream_recv(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags, bool *begun)
{
	int saved = errno;
	ssize_t rc;

	xshim_sigact_begin();
	if (__builtin_expect(xshim_conn_flag(c, XSHIM_SLOT_LEAVE), 0))
		xshim_chan_leave_again(c, fd);
	rc = recv_called(c, fd, fd, v, n, flags, begun);
	errno = saved;
	return xshim_stream_told(rc);
}

ssize_t xshim_stream_recv_on(struct xshim_conn *c, int fd, void *buf, size_t n, int flags)
{
	struct iovec v = { buf, n };
	int saved = errno;
	bool begun = true;
	ssize_t rc;

	(void)xshim_stream_still_there(c);
	rc = recv_called(c, xshim_conn_fd(c, fd), fd, &v, 1, flags, &begun);
	errno = saved;
	return xshim_stream_told(rc);
}
