/* SPDX-License-Identifier: MIT */
/* io_send.c - the write family, as io_recv.c; sendfile. */
#include "ask.h"
#include "channel.h"
#include "conn.h"
#include "exclude.h"
#include "fast.h"
#include "fault.h"
#include "identity.h"
#include "io.h"
#include "process.h"
#include "raw.h"
#include "stream.h"
#include "unwind.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

/* MSG_ZEROCOPY without SO_ZEROCOPY is ignored, and with it there is no ring. MSG_FASTOPEN: the kernel refuses it here. */
#define TX_RING_FLAGS (~MSG_FASTOPEN)
/* With a header: the kernel refuses its own mark of a 32-bit call. */
#define HEADER_FLAGS (TX_RING_FLAGS & 0x7fffffff)
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x100
#endif

/* bad: the arguments are for the kernel to refuse; looked at only where there is a ring. */
#define SEND(fd, v, n, flags, bad, plain)                                                               \
	do {                                                                                       \
		XSHIM_DEFERRED(was_);                                                              \
		struct xshim_hold h_;                                                              \
		ssize_t rc_;                                                                       \
                                                                                                   \
		if (!xshim_hold_begin(&h_, xshim_conn_get(fd), was_))                              \
			return plain;                                                              \
		if ((flags) & MSG_OOB) /* urgent.h; where there is no ring yet, none comes */      \
			xshim_conn_never(h_.c, XSHIM_R_OOB);                                       \
		if (xshim_conn_on_ring(h_.c, fd) && !((flags) & ~TX_RING_FLAGS) && !(bad)) {       \
			rc_ = xshim_stream_send(h_.c, fd, v, n, flags, false);                     \
			if (rc_ != XSHIM_PLAIN) {                                                  \
				xshim_hold_end(&h_);                                               \
				return xshim_ret(rc_);                                             \
			}                                                                          \
		}                                                                                  \
		rc_ = plain;                                                                       \
		xshim_conn_plain_tx(h_.c, rc_);                                                    \
		xshim_hold_end(&h_);                                                               \
		return rc_;                                                                        \
	} while (0)

/*
 * One call with very much in it would be inside the kernel for all of its bytes, and nothing can be attached
 * meanwhile. In pieces it is the same to the program: a blocking send takes all or stops where a signal or an error came, which the
 * next call is told of. A time limit is for the whole: with one it ends soon, and is made as it is.
 */
#define PIECE ((size_t)262144)

/* Before another piece: an error that the connection has ended with is for the next call. */
static bool is_over(int fd)
{
	return xshim_ask_poll(fd, 0) & POLLHUP;
}

/*
 * A piece behind the first: not to sleep in the kernel's call that has moved nothing yet, which would be begun anew after a handler
 * with SA_RESTART. 0: the call ends with what it has.
 */
static size_t next_piece(int fd, const char *buf, size_t n, int flags)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int saved = errno;
	ssize_t rc;

	for (;;) {
		if (is_over(fd))
			return 0;
		rc = libc.send(fd, buf, n, flags | MSG_NOSIGNAL | MSG_DONTWAIT);
		if (rc < 0 && errno == EAGAIN && libc.poll(&p, 1, -1) > 0)
			continue;
		errno = saved;
		return rc < 0 ? 0 : (size_t)rc;
	}
}

static bool in_pieces(int fd, size_t n, int flags, struct xshim_conn **c)
{
	if (n <= PIECE || (flags & (MSG_DONTWAIT | MSG_OOB | ~TX_RING_FLAGS)))
		return false;
	*c = xshim_conn_get(fd);
	if (!*c)
		return false;
	/* on the ring it is no call of the kernel's */
	if ((*c)->slot && !xshim_conn_chan(*c) && !xshim_conn_flag(*c, XSHIM_SLOT_CROWDED) && !xshim_identity_nonblock(*c, fd) &&
	    !xshim_ask_limit(fd, SO_SNDTIMEO))
		return true;
	xshim_conn_put(*c);
	return false;
}

/* The socket does not block any more, the call does (stream.h); a time limit is the kernel's. Sleeps until it is to be tried again. */
static bool goes_on(struct xshim_conn *c, int fd)
{
	return xshim_stream_must_block(c, false) && !xshim_conn_flag(c, XSHIM_SLOT_TIMEO) &&
	       xshim_stream_sleep_plain(fd, POLLOUT, UINT64_MAX) == 0;
}

static ssize_t send_pieces(struct xshim_conn *c, int fd, const char *buf, size_t n, int flags, bool is_write)
{
	struct iovec v;
	size_t done = 0, piece;
	int saved = errno;
	ssize_t rc = 0;

	while (done < n) {
		if (xshim_conn_on_ring(c, fd)) {
			v = (struct iovec){ (void *)(uintptr_t)(buf + done), n - done };
			rc = xshim_stream_send(c, fd, &v, 1, done ? flags | MSG_NOSIGNAL : flags, true);
			if (rc != XSHIM_PLAIN) {
				if (rc < 0 && done && xshim_conn_chan(c))
					(void)xshim_stream_keep(c, xshim_conn_chan(c), rc);
				rc = rc < 0 && done ? (ssize_t)done : rc < 0 ? rc : rc + (ssize_t)done;
				return xshim_ret(rc);
			}
		}
		piece = n - done > PIECE ? PIECE : n - done;
		if (done)
			rc = (ssize_t)next_piece(fd, buf + done, piece, flags);
		else
			rc = is_write ? libc.write(fd, buf, piece) : libc.send(fd, buf, piece, flags);
		if (rc < 0 && !(errno == EAGAIN && goes_on(c, fd)))
			return done ? (ssize_t)done : rc;
		errno = saved;
		xshim_conn_plain_tx(c, rc);
		if (rc >= 0 && (done ? !rc : (size_t)rc < piece && !goes_on(c, fd)))
			return (ssize_t)done + rc;
		done += rc < 0 ? 0 : (size_t)rc;
		fd = xshim_conn_fd(c, fd);
	}
	return (ssize_t)done;
}

/* The thread may have been cancelled, or may be at any time, or the flags are not for the short way. */
XSHIM_ASIDE ssize_t careful_send(int fd, const void *buf, size_t n, int flags, xshim_long_send *longer)
{
	xshim_cancel_point();
	if (xshim_async || (flags & ~XSHIM_FAST_FLAGS))
		return longer(fd, buf, n, flags);
	return xshim_fast_send(fd, buf, n, flags, longer);
}

__attribute__((noinline)) static ssize_t long_write(int fd, const void *buf, size_t n, int flags)
{
	XSHIM_DEFERRED(was);
	struct iovec v = { (void *)(uintptr_t)buf, n };
	struct xshim_conn *c;

	(void)flags;

	if (xshim_user_is_outside(buf, n))
		return libc.write(fd, buf, n);
	if (in_pieces(fd, n, 0, &c)) {
		struct xshim_hold h;
		ssize_t rc;

		xshim_hold_begin(&h, c, was);
		rc = send_pieces(c, fd, buf, n, 0, true);
		xshim_hold_end(&h);
		return rc;
	}
	SEND(fd, &v, 1, 0, false, libc.write(fd, buf, n));
}

XSHIM_EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	if (!xshim_fd_is_named(fd))
		return libc.write(fd, buf, n);
	if (XSHIM_FAST_IS(xshim_may_end, 0))
		return xshim_fast_send(fd, buf, n, 0, long_write);
	return careful_send(fd, buf, n, 0, long_write);
}
XSHIM_ALIAS(ssize_t, __write, write, (int, const void *, size_t))

XSHIM_EXPORT ssize_t writev(int fd, const struct iovec *v, int n)
{
	xshim_cancel_point();
	SEND(fd, v, (size_t)n, 0, xshim_io_plain_vector(v, n), libc.writev(fd, v, n));
}

XSHIM_EXPORT ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t offset, int flags)
{
	int msg = (flags & RWF_NOWAIT ? MSG_DONTWAIT : 0) | (flags & RWF_NOSIGNAL ? MSG_NOSIGNAL : 0);

	if (offset != -1 || (flags & ~XSHIM_RWF_KNOWN && xshim_fd_peek(fd) && !xshim_io_plain_vector(v, n) &&
			     xshim_io_ask_rwf(flags, true) < 0))
		return libc.pwritev2(fd, v, n, offset, flags);
	xshim_cancel_point();
	SEND(fd, v, (size_t)n, msg, xshim_io_plain_vector(v, n), libc.pwritev2(fd, v, n, offset, flags));
}

XSHIM_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t offset, int flags)
{
	return pwritev2(fd, v, n, offset, flags);
}

__attribute__((noinline)) static ssize_t long_send(int fd, const void *buf, size_t n, int flags)
{
	XSHIM_DEFERRED(was);
	struct iovec v = { (void *)(uintptr_t)buf, n };
	struct xshim_conn *c;

	if (xshim_user_parts_fit(&v, 1) && in_pieces(fd, n, flags, &c)) {
		struct xshim_hold h;
		ssize_t rc;

		xshim_hold_begin(&h, c, was);
		rc = send_pieces(c, fd, buf, n, flags, false);
		xshim_hold_end(&h);
		return rc;
	}
	SEND(fd, &v, 1, flags, false, libc.send(fd, buf, n, flags));
}

XSHIM_EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	if (XSHIM_LIKELY(!(flags & ~XSHIM_FAST_FLAGS)) && XSHIM_FAST_IS(xshim_may_end, 0))
		return xshim_fast_send(fd, buf, n, flags, long_send);
	return careful_send(fd, buf, n, flags, long_send);
}
XSHIM_ALIAS(ssize_t, __send, send, (int, const void *, size_t, int))

/* It was no connection of ours, and the kernel connects it with what it is given: TCP Fast Open. */
static ssize_t opened(int fd, ssize_t rc, const struct sockaddr *to, socklen_t len)
{
	struct xshim_conn *c;

	xshim_sock_connected(fd, rc, to, len);
	c = rc > 0 ? xshim_conn_get(fd) : NULL;
	if (c) {
		xshim_conn_plain_tx(c, rc);
		xshim_conn_put(c);
	}
	return rc;
}

ssize_t xshim_io_opened(int fd, ssize_t rc, const struct msghdr *m)
{
	/* only where the kernel has looked at the header */
	if (rc >= 0 || errno == EINPROGRESS || errno == EINTR)
		return opened(fd, rc, m->msg_name, m->msg_namelen);
	return rc;
}

XSHIM_EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to,
			    socklen_t len)
{
	struct iovec v = { (void *)(uintptr_t)buf, n };

	if (!to)
		return send(fd, buf, n, flags);
	xshim_cancel_point();
	if ((flags & MSG_FASTOPEN) && !xshim_fd_peek(fd))
		return opened(fd, libc.sendto(fd, buf, n, flags, to, len), to, len);
	SEND(fd, &v, 1, flags, len > sizeof(struct sockaddr_storage) || !xshim_user_can_read(to, len),
	     libc.sendto(fd, buf, n, flags, to, len));
}

void xshim_io_passing(const struct msghdr *m)
{
	struct cmsghdr *cm;

	if (!xshim_active || !xshim_user_can_read(m, sizeof(*m)) || m->msg_controllen < sizeof(*cm) ||
	    !xshim_user_can_read(m->msg_control, m->msg_controllen))
		return;
	for (cm = CMSG_FIRSTHDR(m); cm; cm = CMSG_NXTHDR((struct msghdr *)(uintptr_t)m, cm)) {
		size_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS ||
		    cm->cmsg_len < CMSG_LEN(0))
			continue;
		for (size_t i = 0; i < n; i++) {
			struct xshim_conn *c;
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
			c = xshim_conn_get(fd);
			if (!c)
				continue;
			xshim_exclude_conn(c, fd, XSHIM_R_FD_PASSED);
			xshim_conn_put(c);
		}
	}
}

/*
 * Before the first ring it is enough to know afterwards, from what the kernel has taken: then nothing of the program's is looked at that
 * the kernel would refuse.
 */
static ssize_t send_elsewhere(int fd, const struct msghdr *m, int flags)
{
	bool first = xshim_fault_is_caught();
	ssize_t rc;

	if (first)
		xshim_io_passing(m);
	rc = libc.sendmsg(fd, m, flags);
	if (!first && rc >= 0 && m->msg_controllen)
		xshim_io_passing(m);
	return flags & MSG_FASTOPEN ? xshim_io_opened(fd, rc, m) : rc;
}

static bool extras_are_bad(const struct msghdr *m)
{
	socklen_t most = sizeof(struct sockaddr_storage);

	if (m->msg_controllen && !xshim_user_can_read(m->msg_control, m->msg_controllen))
		return true;
	return m->msg_name && !xshim_user_can_read(m->msg_name, m->msg_namelen < most ? m->msg_namelen : most);
}

/*
 * Control messages that the kernel refuses, it refuses before anything is sent, and without a byte to send it does no more. It is not asked
 * on a socket with an error, which it would take.
 */
static bool refuses_control(int fd, const struct msghdr *m)
{
	struct msghdr ask = { .msg_control = m->msg_control, .msg_controllen = m->msg_controllen };
	int saved = errno;
	bool yes;

	yes = !(xshim_ask_poll(fd, 0) & (POLLERR | POLLHUP)) && raw_sendmsg(fd, &ask, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINVAL;
	errno = saved;
	return yes;
}

XSHIM_EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	XSHIM_DEFERRED(was);
	struct xshim_conn *c;
	struct xshim_hold h;
	ssize_t rc;

	xshim_cancel_point();
	c = xshim_conn_get(fd);
	if (!xshim_hold_begin(&h, c, was))
		return send_elsewhere(fd, m, flags);
	if (flags & MSG_OOB)	/* as in SEND */
		xshim_conn_never(c, XSHIM_R_OOB);
	if (xshim_conn_on_ring(c, fd) && !(flags & ~HEADER_FLAGS) && !xshim_io_plain_message(m) && !extras_are_bad(m)) {
		if (m->msg_controllen && refuses_control(fd, m)) {
			xshim_hold_end(&h);
			return xshim_ret(-EINVAL);
		}
		/* control messages (timestamps, zero-copy) have a meaning only for the kernel */
		if (m->msg_controllen)
			xshim_exclude_conn(c, fd, XSHIM_R_OOB);
		rc = xshim_conn_on_ring(c, fd) ? xshim_stream_send(c, fd, m->msg_iov, m->msg_iovlen, flags, false) : XSHIM_PLAIN;
		if (rc != XSHIM_PLAIN) {
			xshim_hold_end(&h);
			return xshim_ret(rc);
		}
	}
	rc = libc.sendmsg(fd, m, flags);
	if (rc >= 0 && m->msg_controllen)
		xshim_conn_never(c, XSHIM_R_OOB);
	xshim_conn_plain_tx(c, rc);
	xshim_hold_end(&h);
	return rc;
}

/*
 * What sendfile(2) itself takes; the ring reads it without moving the offset of others. The rest, what has no place to read at, the
 * kernel refuses with nothing moved. With an offset it is what can be read at one, so only where that fails, or has to wait, it is looked at.
 */
static bool can_sendfile(int in, off64_t *offset)
{
	if (offset)
		return xshim_user_can_read(offset, sizeof(*offset)) && *offset >= 0;
	return xshim_stream_is_file(in);
}

/* The offset is stored last, when what was read has gone: as in the kernel, also where that fails. */
static ssize_t file_by_ring(struct xshim_conn *c, int out, int in, off64_t *offset, size_t n)
{
	off64_t at = 0;
	ssize_t rc;

	if (!offset)
		return xshim_stream_sendfile(c, out, in, NULL, n, 0);
	if (xshim_user_get(&at, offset, sizeof(at)) < 0)
		return -EFAULT;
	rc = xshim_stream_sendfile(c, out, in, &at, n, 0);
	if (rc >= 0 && xshim_user_put(offset, &at, sizeof(at)) < 0)
		return -EFAULT;
	return rc;
}

/* In pieces like send_pieces(), so that a ring can be attached in the middle of a large file. */
static ssize_t sendfile_pieces(struct xshim_conn *c, int out, int in, off64_t *offset, size_t n)
{
	bool checked = false;
	size_t done = 0, piece, most = 0;
	ssize_t rc;

	do {
		if (xshim_conn_on_ring(c, out)) {
			if (!checked && !can_sendfile(in, offset))
				return libc.sendfile64(out, in, offset, n);
			checked = true;
			rc = file_by_ring(c, out, in, offset, n - done);
			if (rc == XSHIM_NO_FILE)
				return done ? (ssize_t)done : libc.sendfile64(out, in, offset, n);
			if (rc != XSHIM_PLAIN)
				return rc < 0 && done ? (ssize_t)done :
				       rc < 0	      ? xshim_ret(rc) :
							rc + (ssize_t)done;
		}
		if (done && is_over(out))
			break;
		if (!most)
			most = n > PIECE && xshim_ask_limit(out, SO_SNDTIMEO) ? n : PIECE;
		piece = n - done > most ? most : n - done;
		rc = libc.sendfile64(out, in, offset, piece);
		if (rc < 0)
			return done ? (ssize_t)done : rc;
		xshim_conn_plain_tx(c, rc);
		done += (size_t)rc;
		out = xshim_conn_fd(c, out);
	} while (done < n && (size_t)rc == piece);
	return (ssize_t)done;
}

XSHIM_EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t n)
{
	XSHIM_DEFERRED(was);
	struct xshim_conn *c = xshim_conn_get(out);
	struct xshim_hold h;
	ssize_t rc;

	if (!xshim_hold_begin(&h, c, was))
		return libc.sendfile64(out, in, offset, n);
	if (n > SSIZE_MAX)	/* refused, but not in pieces */
		rc = libc.sendfile64(out, in, offset, n);
	else
		rc = sendfile_pieces(c, out, in, offset, n);
	xshim_hold_end(&h);
	return rc;
}

XSHIM_EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
	_Static_assert(sizeof(off_t) == sizeof(off64_t), "a 64-bit system");
	return sendfile64(out, in, offset, n);
}
