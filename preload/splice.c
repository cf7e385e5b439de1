/* SPDX-License-Identifier: MIT */
/*
 * splice.c - splice(2) between a pipe and a connection.
 *
 * The kernel moves pages between a pipe and its own socket. On a ring the bytes are copied, in pieces that a pipe takes
 * without waiting, or as far as there is room. Returning to TCP for it would take a call of the other end, too, and until then what
 * was readable would not be.
 */
#include "conn.h"
#include "ready.h"
#include "rxopts.h"
#include "sigact.h"
#include "stream.h"
#include "unwind.h"
#include "urgent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define PIECE 4096	/* a pipe that polls writable has room for a page */
#define KNOWN_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)

static bool is_pipe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

/* 0, or -errno; may_wait: until the pipe is ready. */
static int pipe_ready(int fd, short events, bool may_wait)
{
	struct pollfd p = { .fd = fd, .events = events };
	int rc = libc.poll(&p, 1, may_wait ? -1 : 0);

	return rc < 0 ? -errno : rc == 0 ? -EAGAIN : 0;
}

/* Room in a pipe, whose own O_NONBLOCK counts here, as in the kernel. */
static int pipe_has_room(int fd, bool may_wait)
{
	int rc = pipe_ready(fd, POLLOUT, false);

	if (rc != -EAGAIN || !may_wait || (libc.fcntl(fd, F_GETFL) & O_NONBLOCK))
		return rc;
	return pipe_ready(fd, POLLOUT, true);
}

/* done: what the call has moved already. First a look, so that nothing is lost when the pipe does not take it. */
static ssize_t piece_to_pipe(struct xshim_conn *c, int in, int out, size_t n, size_t done)
{
	char buf[PIECE];
	struct iovec v = { buf, n < PIECE ? n : PIECE };
	/* with SO_RCVLOWAT a receive sleeps although something is there; the kernel's splice takes that, and only sleeps by it for nothing */
	bool begun = false, looks = done || xshim_rxopts_lowat(c);
	int at_mark = 0;
	struct xshim_chan *ch;
	ssize_t got, put;

	if (done && xshim_chan_owed(c, false))
		return 0;		/* it is the next call's */
	/* the kernel's goes up to a mark of urgent data, and stops there until a receive has gone beyond it */
	if (xshim_urgent_at_mark(c, in, &at_mark) == 0 && at_mark)
		return done || !xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK) ? 0 : -EAGAIN;
	got = xshim_stream_recv(c, in, &v, 1, MSG_PEEK | (looks ? MSG_DONTWAIT : 0), &begun);
	if (got == -EAGAIN && looks && !done)
		got = xshim_stream_recv(c, in, &v, 1, MSG_PEEK, &begun);
	ch = xshim_conn_chan(c);
	if (got < 0 && done && ch)
		(void)xshim_stream_keep(c, ch, got);
	if (got <= 0)
		return got;
	/* nor is that taken when a handler ends the sleep, unless the call is begun anew */
	if (!done && got < (ssize_t)xshim_rxopts_lowat(c) && xshim_sigact_woken() >= 0 &&
	    !xshim_restarts(xshim_stream_deadline(c, in, SO_RCVTIMEO)))
		return -EINTR;
	put = libc.write(out, buf, (size_t)got);
	if (put < 0)
		return -errno;
	v.iov_len = (size_t)put;
	in = xshim_conn_fd(c, in);	/* its number may have been closed in a sleep */
	if (xshim_stream_recv(c, in, &v, 1, MSG_DONTWAIT, &begun) == XSHIM_PLAIN)
		xshim_conn_plain_rx(c, libc.recv(in, buf, (size_t)put, MSG_DONTWAIT));
	return put;
}

static ssize_t to_pipe(struct xshim_conn *c, int in, int out, size_t n, unsigned int flags)
{
	size_t done = 0;
	ssize_t rc = 0;

	while (done < n) {
		/* one that is full ends a call that has moved something */
		rc = pipe_has_room(out, !done && !(flags & SPLICE_F_NONBLOCK));
		if (rc < 0)
			break;
		rc = piece_to_pipe(c, in, out, n - done, done);
		if (rc <= 0)
			break;
		done += (size_t)rc;
		in = xshim_conn_fd(c, in);
	}
	return done ? (ssize_t)done : rc;
}

/* What the ring has no room for stays in the pipe, from which a call that ends by a signal, or does not wait, takes nothing. */
static ssize_t from_pipe(struct xshim_conn *c, int in, int out, size_t n, unsigned int flags)
{
	struct xshim_chan *ch;
	size_t done = 0;
	ssize_t rc = 0;

	while (done < n) {
		rc = pipe_ready(in, POLLIN, !done && !(flags & SPLICE_F_NONBLOCK));
		if (rc < 0 || (done && xshim_chan_owed(c, false)))
			break;
		rc = xshim_stream_sendfile(c, out, in, NULL, n - done, flags | SPLICE_F_NONBLOCK);
		ch = xshim_conn_chan(c);
		if (rc < 0 && rc != XSHIM_PLAIN && done && ch)
			(void)xshim_stream_keep(c, ch, rc);
		/* somebody else has taken it: it is waited for again, by a call that has nothing yet and may */
		if (rc == XSHIM_EMPTY) {
			rc = -EAGAIN;
			if (!done && !(flags & SPLICE_F_NONBLOCK))
				continue;
		}
		if (rc <= 0)
			break;
		done += (size_t)rc;
		out = xshim_conn_fd(c, out);	/* the number may have been closed in a sleep */
	}
	return done ? (ssize_t)done : rc;
}

XSHIM_EXPORT ssize_t splice(int in, off64_t *in_off, int out, off64_t *out_off, size_t n, unsigned int flags)
{
	XSHIM_DEFERRED(was);
	struct xshim_conn *from, *to;
	struct xshim_hold in_hold, out_hold;
	ssize_t rc = XSHIM_PLAIN;
	int saved = errno;

	xshim_cancel_point();
	from = xshim_conn_get(in);
	to = xshim_conn_get(out);
	(void)xshim_hold_begin(&in_hold, from, was);
	(void)xshim_hold_begin(&out_hold, to, was);
	/* Of what is wrong the kernel knows, and it has moved nothing then. */
	if (!in_off && !out_off && n && n <= SSIZE_MAX && !(flags & ~(unsigned int)KNOWN_FLAGS)) {
		if (from && xshim_conn_on_ring(from, in) && is_pipe(out))
			rc = to_pipe(from, in, out, n, flags);
		else if (to && xshim_conn_on_ring(to, out) && is_pipe(in))
			rc = from_pipe(to, in, out, n, flags);
	}
	errno = saved;
	if (rc == XSHIM_PLAIN) {
		rc = libc.splice(in, in_off, out, out_off, n, flags);
		if (from)
			xshim_conn_plain_rx(from, rc);
		if (to)
			xshim_conn_plain_tx(to, rc);
	} else {
		rc = xshim_ret(rc);
	}
	if (to)
		xshim_hold_end(&out_hold);
	if (from)
		xshim_hold_end(&in_hold);
	return rc;
}
