/* SPDX-License-Identifier: MIT */
/*
 * stream_send.c - sending on a connection with a channel (stream.h). tx_once does what can be done now under the direction's lock; the
 * loops around it add blocking and timeouts, as in stream_recv.c.
 */
#include "stream.h"
#include "ask.h"
#include "channel.h"
#include "epoll.h"
#include "options.h"
#include "raw.h"
#include "ready.h"
#include "sigact.h"
#include "urgent.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <xshim/ring.h>

static ssize_t tcp_send(struct xshim_conn *c, int fd, struct xshim_iov *it, int flags)
{
	struct iovec v[XSHIM_STREAM_SLICES];
	struct msghdr m = { .msg_iov = v };
	ssize_t n;

	m.msg_iovlen = xshim_iov_slice(it, SSIZE_MAX, v, XSHIM_STREAM_SLICES);
	n = raw_sendmsg(fd, &m, (flags & (MSG_NOSIGNAL | MSG_MORE | MSG_OOB)) | MSG_DONTWAIT);
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
		if (!xshim_tx_down(l, ch->local.region, ch->remote.region))
			return;
		xshim_count(&c->slot->n.switches, 1);
		xshim_chan_ring(c, ch);
	}
}

/* tx_lock held, state RING. */
static void sent(struct xshim_conn *c, struct xshim_chan *ch, size_t n)
{
	ch->sent += n;
	xshim_count(&c->slot->n.ring_tx, n);
}

/* count bytes, for which there is room; fewer at a bad address. In the middle the bell is rung at once. */
static size_t put_parts(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_iov *it, size_t count, bool *bell)
{
	struct xshim_region_hdr *own = ch->local.region;
	struct xshim_link *l = &c->slot->link;
	size_t done = 0, part, n;

	do {
		part = count - done < XSHIM_RING_PART ? count - done : XSHIM_RING_PART;
		n = xshim_ring_copy_in(xshim_region_data(own), l->order_own, xshim_tx_place(l), it, part);
		if (!n)
			break;
		done += n;
		*bell = xshim_tx_commit(l, own, ch->remote.region, n);
		sent(c, ch, n);
		if (*bell && done < count) {
			xshim_chan_ring(c, ch);
			*bell = false;
		}
	} while (n == part && done < count);
	return done;
}

/* Of sendfile, and of a splice: pipe is then not 0, but the flags of that. */
struct source {
	int fd;
	off64_t *offset;
	unsigned int pipe;
};

/* Into two stretches of the ring. A pipe is not waited for with the lock held: somebody else may have emptied it just now. */
static ssize_t read_source(const struct source *from, struct iovec v[2], int stretches)
{
	ssize_t n = 0;

	if (from->pipe)
		n = raw_vmsplice(from->fd, v, (size_t)stretches, SPLICE_F_NONBLOCK);
	if (!from->pipe || (n < 0 && (errno == ENOSYS || errno == EPERM)))	/* not everywhere to be had */
		n = from->offset ? raw_preadv(from->fd, v, stretches, *from->offset) : raw_readv(from->fd, v, stretches);
	if (n < 0)
		return from->pipe && errno == EAGAIN ? XSHIM_EMPTY : -errno;
	if (from->offset)
		*from->offset += n;
	return n;
}

/*
 * Fill the ring: from the iovec, or, where `it` is NULL, from a source. tx_lock held, state RING.
 * *bell: the peer wants to be rung. Bytes, -EAGAIN, or -errno.
 */
static ssize_t ring_put(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_iov *it, const struct source *from, size_t count,
			bool *bell)
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
	if (xshim_tx_place(l) + count - 1 > l->tx.soft)
		xshim_tx_anew(l, own, count);
	if (it) {
		n = (ssize_t)put_parts(c, ch, it, count, bell);
		if (!n)
			return -EFAULT;
	} else {
		stretches = xshim_ring_stretch(xshim_region_data(own), l->order_own, xshim_tx_place(l), count, v);
		n = read_source(from, v, stretches);
		if (n <= 0)
			return n;
		*bell = xshim_tx_commit(l, own, ch->remote.region, (uint64_t)n);
		sent(c, ch, (size_t)n);
	}
	if (xshim_opt.force_leave | xshim_opt.force_spill)
		force_switch(c, ch);
	return n;
}

/*
 * XSHIM_PLAIN: this direction is on TCP, which urgent data needs; tx_lock is then still held. -EDEADLK: this is a handler on top of a call
 * that has it, and goes on only after us. begun: the call has sent something, so that an
 * error that ends it is the next one's (XSHIM_NEXT).
 */
static ssize_t tx_ring(struct xshim_conn *c, struct xshim_chan *ch, int fd, struct xshim_iov *it,
		       const struct source *from, size_t count, int flags, bool begun)
{
	struct xshim_slot *s = c->slot;
	struct xshim_link *l = &s->link;
	bool bell = false, pumped = false, alone = false, shut = false, urgent = flags & MSG_OOB;
	uint32_t asks = 0;
	ssize_t n;

	if (xshim_lock_take(&s->tx_lock, xshim_tid()) < 0)
		return -EDEADLK;
	xshim_chan_tx_mend(c, ch, fd);
	for (;;) {
		n = -xshim_chan_owed(c, !begun);
		if (n)
			goto out;
		shut = xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR);
		switch (atomic_load_explicit(&l->tx.state, memory_order_relaxed)) {
		case XSHIM_TX_TCP:
			if (xshim_chan_up_locked(c, ch, fd, false))
				continue;
			return XSHIM_PLAIN;
		case XSHIM_TX_RING:
			if (atomic_load_explicit(&ch->unheard, memory_order_relaxed))
				xshim_chan_ask_life(ch);
			asks = atomic_load_explicit(&ch->remote.region->leave, memory_order_relaxed);
			if (!pumped && (atomic_load_explicit(&ch->gone, memory_order_relaxed) ||
					atomic_load_explicit(&ch->remote.region->deaf, memory_order_relaxed) ||
					(asks && (!l->want_leave || asks != XSHIM_REGION_ASKS))))
				break;
			if (shut && !xshim_conn_flag(c, XSHIM_SLOT_SHUT_DUE))
				return XSHIM_PLAIN;	/* the kernel knows what to say */
			if ((urgent || shut) && !pumped)
				break;
			if (shut)
				goto refused;
			/* what is put there before the peer has decided may be left there */
			if (urgent || asks == XSHIM_REGION_STOP) {
				n = -EAGAIN;
				goto out;
			}
			n = ring_put(c, ch, it, from, count, &bell);
			if (n == -EPROTO)
				n = xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
			alone = n > 0 && xshim_tx_is_alone(ch->remote.region);
			if (__builtin_expect(alone, 0))
				atomic_store_explicit(&l->late, 1, memory_order_relaxed);
			goto out;
		case XSHIM_TX_OUT:
			return XSHIM_PLAIN;
		default:
			if (shut && !xshim_conn_flag(c, XSHIM_SLOT_SHUT_DUE))
				return XSHIM_PLAIN;
			if (!pumped)
				break;
			if (shut)
				goto refused;
			n = -EAGAIN;
			goto out;
		}
		/* Something is going on with the other direction, too: that lock comes first. */
		xshim_lock_drop(&s->tx_lock);
		pumped = true;
		if (asks == XSHIM_REGION_STOP)
			(void)xshim_chan_decided(c, ch);
		n = xshim_chan_pump(c, ch, fd, POLLIN | POLLOUT);
		if (n < 0)
			return begun ? xshim_stream_keep(c, ch, n) : n;
		if (urgent)
			xshim_urgent_down(c, ch);
		if (xshim_lock_take(&s->tx_lock, xshim_tid()) < 0)
			return -EDEADLK;
	}
refused:
	/* it is half-closed, and the kernel has not been told yet */
	if (xshim_ask_poll(fd, 0) & POLLERR)
		return XSHIM_PLAIN;
	n = -EPIPE;
out:
	if (begun)
		n = xshim_stream_keep(c, ch, n);
	if (n == -EAGAIN)
		atomic_store_explicit(&ch->tx_full_at,
				      l->tx.state == XSHIM_TX_RING && asks != XSHIM_REGION_STOP ? l->tx.tail : XSHIM_WANT_NOTHING,
				      memory_order_relaxed);
	if (n > 0 && atomic_load_explicit(&ch->stall_ns, memory_order_relaxed))
		atomic_store_explicit(&ch->stall_ns, 0, memory_order_relaxed);
	xshim_chan_drop_lock(c, ch, &s->tx_lock, bell);
	if (__builtin_expect(alone, 0))
		xshim_chan_left_alone(c, ch, fd);
	if (__builtin_expect(n == -EPIPE, 0) && shut && !begun && !(flags & MSG_NOSIGNAL))
		(void)raise(SIGPIPE);	/* no lock is held: a handler may send */
	return n;
}

static ssize_t tx_once(struct xshim_conn *c, struct xshim_chan *ch, int fd, struct xshim_iov *it,
		       int flags, bool begun)
{
	ssize_t n = tx_ring(c, ch, fd, it, NULL, xshim_iov_left(it), flags, begun);

	if (n != XSHIM_PLAIN)
		return n;
	/* what the peer takes from the ring is no reason to try again, and not to sleep */
	atomic_store_explicit(&ch->tx_full_at, XSHIM_WANT_NOTHING, memory_order_relaxed);
	n = tcp_send(c, fd, it, begun ? flags | MSG_NOSIGNAL : flags);
	if (n < 0 && n != -EAGAIN)
		xshim_chan_told_error(c, fd);
	if (begun)
		n = xshim_stream_keep(c, ch, n);
	xshim_chan_if_out(c);
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
		*deadline = xshim_stream_deadline(c, fd, SO_SNDTIMEO);
	rc = xshim_wait(c, ch, fd, POLLOUT, *deadline);
	return rc == -EINTR && !total && xshim_restarts(*deadline) ? 0 : rc;
}

/*
 * The channel went in the middle of a send that has sent `total`, or whose number was closed, or which has to block where the
 * socket does not any more: the rest goes the kernel's way. After a part of it has gone, without a sleep in it (stream.h).
 */
static ssize_t send_rest(struct xshim_conn *c, int fd, struct xshim_iov *it, int flags, bool nonblock, size_t total,
			 uint64_t deadline)
{
	struct iovec v[XSHIM_STREAM_SLICES];
	struct msghdr m = { .msg_iov = v };
	size_t asked;
	bool whole;
	ssize_t n;
	int rc;

	for (;;) {
		whole = !total && !xshim_stream_must_block(c, nonblock);
		m.msg_iovlen = xshim_iov_slice(it, SSIZE_MAX, v, XSHIM_STREAM_SLICES);
		asked = 0;
		for (size_t i = 0; i < m.msg_iovlen; i++)
			asked += v[i].iov_len;
		if (total && (xshim_ask_poll(fd, 0) & POLLERR))
			return (ssize_t)total;	/* it is the next call's */
		n = libc.sendmsg(fd, &m, (whole ? flags : flags | MSG_DONTWAIT) | (total ? MSG_NOSIGNAL : 0));
		if (n < 0 && (whole || (!total && errno != EAGAIN)))
			return -errno;
		if (n < 0) {
			if (errno != EAGAIN || nonblock)
				return (ssize_t)total;
			if (!deadline)
				deadline = xshim_stream_deadline(c, fd, SO_SNDTIMEO);
			rc = xshim_stream_sleep_plain(fd, POLLOUT, deadline);
			if (rc < 0 && total)
				return (ssize_t)total;
			if (rc < 0 && !(rc == -EINTR && xshim_restarts(deadline)))
				return rc;
			fd = xshim_conn_fd(c, fd);
			continue;
		}
		xshim_conn_plain_tx(c, n);
		/* the kernel has slept for all that it was given, and was interrupted */
		if (whole && !nonblock && (size_t)n < asked)
			return n;
		total += (size_t)n;
		xshim_iov_skip(it, (size_t)n);
		if (!xshim_iov_left(it))
			return (ssize_t)total;
	}
}

static ssize_t stream_send(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags, bool begun)
{
	bool nonblock = (flags & MSG_DONTWAIT) || (!begun && xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK));
	struct xshim_chan *ch = xshim_conn_chan(c);
	const int called = fd;
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
		rc = tx_once(c, ch, fd, &it, flags, total);
		if (rc >= 0) {
			total += (size_t)rc;
			if (!xshim_iov_left(&it))
				return (ssize_t)total;
			continue;
		}
		if (rc != -EAGAIN)
			return total ? (ssize_t)total : rc;
		rc = urgent_until && c->slot->link.tx.state == XSHIM_TX_RING ?
			     xshim_urgent_wait(c, ch, fd, nonblock ? urgent_until : UINT64_MAX) :
			     no_room(c, ch, fd, nonblock, total, &deadline);
		if (rc < 0)
			return total ? (ssize_t)total : rc;
		fd = xshim_conn_fd(c, fd);
		ch = xshim_stream_still_there(c);
	}
	if (!total && fd == called && !xshim_stream_must_block(c, nonblock))
		return XSHIM_PLAIN;
	return send_rest(c, fd, &it, flags, nonblock, total, deadline);
}

ssize_t xshim_stream_send(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags, bool begun)
{
	int saved = errno;
	ssize_t rc;

	xshim_sigact_begin();
	if (__builtin_expect(xshim_conn_flag(c, XSHIM_SLOT_LEAVE), 0))
		xshim_chan_leave_again(c, fd);
	rc = stream_send(c, fd, v, n, flags, begun);

	errno = saved;
	return xshim_stream_told(rc);
}

/* Where the direction is on TCP. */
static ssize_t kernel_sendfile(int fd, const struct source *from, size_t count)
{
	ssize_t n = from->pipe ? raw_splice(from->fd, fd, count, from->pipe) : libc.sendfile64(fd, from->fd, from->offset, count);

	return n < 0 ? -errno : n;
}

#define FILE_PART ((size_t)4096)	/* on the stack, of which threads may have little */
#define PIPE_PART ((size_t)1024)	/* a socket that polls writable takes it at once, also one with the smallest buffer */

/* Where the socket blocks, and tx_lock is held: no more than can be had without a sleep, which might last until somebody else has the lock. */
static ssize_t tcp_sendfile(int fd, const struct source *from, size_t count)
{
	char part[FILE_PART];
	struct iovec v = { part, count < FILE_PART ? count : FILE_PART };
	off64_t at;
	ssize_t n;

	if (from->pipe)
		return xshim_ask_poll(fd, POLLOUT) ? kernel_sendfile(fd, from, count < PIPE_PART ? count : PIPE_PART) : -EAGAIN;
	at = from->offset ? *from->offset : lseek64(from->fd, 0, SEEK_CUR);
	n = raw_preadv(from->fd, &v, 1, at);
	if (n > 0)
		n = raw_send(fd, part, (size_t)n, MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	if (from->offset)
		*from->offset += n;
	else
		(void)lseek64(from->fd, n, SEEK_CUR);
	return n;
}

/* 1: there is something in it; 0: its writers have gone; XSHIM_EMPTY. */
static ssize_t pipe_state(int fd)
{
	unsigned int now = xshim_ask_poll(fd, POLLIN);

	return now & (POLLIN | POLLNVAL | POLLERR) ? 1 : now & POLLHUP ? 0 : XSHIM_EMPTY;
}

bool xshim_stream_is_file(int fd)
{
	struct stat st;

	if (xshim_fd_peek(fd) || fstat(fd, &st) < 0)
		return false;
	return S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || (S_ISCHR(st.st_mode) && lseek(fd, 0, SEEK_CUR) >= 0);
}

static ssize_t stream_sendfile(struct xshim_conn *c, int fd, int in_fd, off64_t *offset, size_t count, unsigned int pipe)
{
	bool nonblock = xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK);
	struct xshim_chan *ch = xshim_conn_chan(c);
	const struct source from = { in_fd, offset, pipe };
	const int called = fd;
	uint64_t deadline = 0;
	size_t total = 0;
	ssize_t rc;

	while (ch) {
		/* another reader may have been there while this one slept for room */
		rc = pipe ? pipe_state(in_fd) : 1;
		if (rc <= 0)
			return total ? (ssize_t)total : rc;
		rc = tx_ring(c, ch, fd, NULL, &from, count - total, 0, total);
		if (rc == XSHIM_PLAIN) {
			atomic_store_explicit(&ch->tx_full_at, XSHIM_WANT_NOTHING, memory_order_relaxed);
			/* O_NONBLOCK is the description's */
			rc = nonblock ? kernel_sendfile(fd, &from, count - total) : tcp_sendfile(fd, &from, count - total);
			if (rc == -EAGAIN && pipe && pipe_state(in_fd) == XSHIM_EMPTY)
				rc = XSHIM_EMPTY;
			if (rc >= 0)
				xshim_count(&c->slot->n.tcp_tx, (uint64_t)rc);
			if (rc < 0 && rc != -EAGAIN && rc != XSHIM_EMPTY)
				xshim_chan_told_error(c, fd);
			if (total)
				rc = xshim_stream_keep(c, ch, rc);
			xshim_lock_drop(&c->slot->tx_lock);
		}
		if (rc < 0 && !total && offset && !xshim_stream_is_file(in_fd))
			return XSHIM_NO_FILE;
		if (rc == 0)
			return (ssize_t)total;
		if (rc > 0) {
			total += (size_t)rc;
			if (total >= count)
				return (ssize_t)total;
			continue;
		}
		if (rc != -EAGAIN)
			return total ? (ssize_t)total : rc;
		rc = no_room(c, ch, fd, nonblock, total, &deadline);
		if (rc < 0)
			return total ? (ssize_t)total : rc;
		fd = xshim_conn_fd(c, fd);
		ch = xshim_stream_still_there(c);
	}
	if (total || fd == called)
		return total ? (ssize_t)total : XSHIM_PLAIN;
	/* the number was closed meanwhile, and may be somebody else's */
	rc = kernel_sendfile(fd, &from, count);
	xshim_conn_plain_tx(c, rc);
	return rc;
}

ssize_t xshim_stream_sendfile(struct xshim_conn *c, int fd, int in_fd, off64_t *offset, size_t count, unsigned int pipe)
{
	int saved = errno;
	ssize_t rc;

	xshim_sigact_begin();
	rc = stream_sendfile(c, fd, in_fd, offset, count, pipe);

	errno = saved;
	return xshim_stream_told(rc);
}
