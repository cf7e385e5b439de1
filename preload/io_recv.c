/* SPDX-License-Identifier: MIT */
/*
 * io_recv.c - the read family. Each wrapper looks up, passes through, or hands on to stream_recv.c.
 *
 * On a connection without a channel the very same call goes to the kernel, so that programs under a
 * seccomp filter, cancellation and restarts see nothing new.
 */
#include "channel.h"
#include "conn.h"
#include "fast.h"
#include "identity.h"
#include "io.h"
#include "kick.h"
#include "nap.h"
#include "process.h"
#include "stream.h"
#include "unwind.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

static ssize_t sleep_outside(struct xshim_conn **c, int fd, const struct iovec *v, size_t n, int flags, bool *begun);

/* Only these mean something else than the stream; flags that the kernel ignores are ignored. */
#define RX_RING_FLAGS (~(MSG_OOB | MSG_ERRQUEUE))
/* The kernel's own mark of a 32-bit call: refused where there is a header, ignored elsewhere. */
#define CMSG_COMPAT ((int)0x80000000)

/*
 * RECEIVE: the body of a receiving wrapper. plain: the kernel's call; n iovecs at v.
 */
#define RECEIVE(fd, v, n, flags, plain) RECEIVE_AND(fd, v, n, flags, false, plain, (void)0)
/*
 * bad: the arguments are for the kernel to refuse; looked at only where there is, or may soon be, a ring. done: what is to follow a
 * receive of the ring's that gave rc_.
 */
#define RECEIVE_AND(fd, v, n, flags, bad, plain, done)                                                  \
	do {                                                                                       \
		XSHIM_DEFERRED(was_);                                                              \
		struct xshim_hold h_;                                                              \
		bool begun_ = false;                                                               \
                                                                                                   \
		if (!xshim_hold_begin(&h_, xshim_conn_get(fd), was_))                              \
			return plain;                                                              \
		RECEIVE_HELD(fd, v, n, flags, bad, plain, done,                                    \
			     xshim_conn_on_ring(h_.c, fd) && !((flags) & ~RX_RING_FLAGS) && !(bad), \
			     xshim_stream_recv(h_.c, fd, v, n, flags, &begun_));                   \
	} while (0)
/* The rest of it. if_ring, by_ring: whether and how the ring is asked first. */
#define RECEIVE_HELD(fd, v, n, flags, bad, plain, done, if_ring, by_ring)                               \
	do {                                                                                       \
		ssize_t rc_;                                                                       \
                                                                                                   \
		if (if_ring) {                                                                     \
			rc_ = by_ring;                                                             \
			if (rc_ != XSHIM_PLAIN) {                                                  \
				done;                                                              \
				xshim_hold_end(&h_);                                               \
				return xshim_ret(rc_);                                             \
			}                                                                          \
		}                                                                                  \
		if (xshim_kick_able(h_.c) && !(bad)) {                                             \
			rc_ = sleep_outside(&h_.c, fd, v, n, flags, &begun_);                      \
			if (rc_ != XSHIM_PLAIN) {                                                  \
				done;                                                              \
				xshim_hold_end(&h_);                                               \
				return xshim_ret(rc_);                                             \
			}                                                                          \
		}                                                                                  \
		rc_ = plain;                                                                       \
		if (!((flags) & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))                              \
			xshim_conn_plain_rx(h_.c, rc_);                                            \
		xshim_hold_end(&h_);                                                               \
		return rc_;                                                                        \
	} while (0)

/* The body of an xshim_none_recv (fast.h). */
#define RECEIVE_NONE(fd, buf, n, flags, conn, plain)                                                    \
	do {                                                                                       \
		XSHIM_DEFERRED(was_);                                                              \
		struct iovec v_ = { buf, n };                                                      \
		struct xshim_hold h_;                                                              \
		bool begun_;                                                                       \
		ssize_t got_;                                                                      \
                                                                                                   \
		(void)xshim_hold_begin(&h_, conn, was_);                                           \
		got_ = xshim_nap(conn, fd, buf, n, &begun_);                                       \
		if (got_ != -EAGAIN) {                                                             \
			xshim_hold_end(&h_);                                                       \
			return xshim_ret(got_);                                                    \
		}                                                                                  \
		/* who has slept may have no right to the number any more, and by_ring knows */       \
		RECEIVE_HELD(fd, &v_, 1, flags, false, plain, (void)0,                             \
			     begun_ || xshim_conn_on_ring(conn, fd),                               \
			     begun_ ? xshim_stream_recv_on(conn, fd, buf, n, flags) :              \
				      xshim_stream_recv(conn, fd, &v_, 1, flags, &begun_));        \
	} while (0)

/*
 * Sleep outside the kernel's receive (kick.h), and take the connection again: 1, the kernel's call is to be made; 0, look again; both
 * with a reference in *c. Else -errno, and NULL there; and in the sleep. -EBADF: fd was closed meanwhile; what may have its number now is
 * nobody's to read.
 */
static int sleep_and_return(struct xshim_conn **c, int fd)
{
	struct xshim_conn *was = *c;
	uint32_t life = was->obj.life;
	int saved = errno, woken;

	*c = NULL;
	woken = xshim_kick_wait(was, fd);
	errno = saved;
	if (woken < 0)
		return woken;
	*c = xshim_conn_get(fd);
	if (*c == was && was->obj.life == life)
		return woken;
	if (*c)
		xshim_conn_put(*c);
	*c = NULL;
	return -EBADF;
}

/*
 * Before a receive that the kernel would sleep in: XSHIM_PLAIN when the kernel's call is to be made, with a reference in *c.
 * Else the result, and a reference or NULL.
 */
static ssize_t sleep_outside(struct xshim_conn **c, int fd, const struct iovec *v, size_t n, int flags, bool *begun)
{
	ssize_t rc;
	int woken;

	if ((flags & (MSG_DONTWAIT | ~RX_RING_FLAGS)) || (!*begun && xshim_identity_nonblock(*c, fd)))
		return XSHIM_PLAIN;
	*begun = true;
	do {
		woken = sleep_and_return(c, fd);
		if (woken < 0)
			return woken;
		if (xshim_conn_on_ring(*c, fd) || xshim_stream_must_block(*c, false)) {
			rc = xshim_stream_recv(*c, fd, v, n, flags, begun);
			if (rc != XSHIM_PLAIN)
				return rc;
		}
	} while (!woken);
	return XSHIM_PLAIN;
}

/* The thread may have been cancelled, or may be at any time, or the flags are not for the short way. */
XSHIM_ASIDE ssize_t careful_recv(int fd, void *buf, size_t n, int flags, xshim_long_recv *longer, xshim_none_recv *none)
{
	xshim_cancel_point();
	if (xshim_async || (flags & ~XSHIM_FAST_FLAGS))
		return longer(fd, buf, n, flags);
	return xshim_fast_recv(fd, buf, n, flags, longer, none);
}

__attribute__((noinline)) static ssize_t long_read(int fd, void *buf, size_t n, int flags)
{
	struct iovec v = { buf, n };

	(void)flags;
	/* of nothing it never waits, unlike recv(); and it has no limit to what counts as the buffer */
	if (!n || xshim_user_is_outside(buf, n))
		return libc.read(fd, buf, n);
	RECEIVE(fd, &v, 1, 0, libc.read(fd, buf, n));
}

XSHIM_ASIDE ssize_t none_read(int fd, void *buf, size_t n, int flags, struct xshim_conn *c)
{
	(void)flags;
	RECEIVE_NONE(fd, buf, n, 0, c, libc.read(fd, buf, n));
}

XSHIM_EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	if (!xshim_fd_is_named(fd))
		return libc.read(fd, buf, n);
	if (XSHIM_FAST_IS(xshim_may_end, 0))
		return xshim_fast_recv(fd, buf, n, 0, long_read, none_read);
	return careful_recv(fd, buf, n, 0, long_read, none_read);
}
XSHIM_ALIAS(ssize_t, __read, read, (int, void *, size_t))

bool xshim_io_plain_vector(const struct iovec *v, int n)
{
	bool nothing = true;

	if (n <= 0 || n > IOV_MAX || !xshim_user_can_read(v, (size_t)n * sizeof(*v)))
		return true;
	for (int i = 0; i < n; i++) {
		if (v[i].iov_len > SSIZE_MAX)
			return true;
		nothing = nothing && !v[i].iov_len;
	}
	return nothing;
}

XSHIM_EXPORT ssize_t readv(int fd, const struct iovec *v, int n)
{
	xshim_cancel_point();
	RECEIVE_AND(fd, v, (size_t)n, 0, xshim_io_plain_vector(v, n), libc.readv(fd, v, n), (void)0);
}

int xshim_io_ask_rwf(int flags, bool writes)
{
	static _Atomic uint64_t last[2];	/* what was asked last, in the upper half, and 1: it is known; 2: it is refused */
	uint64_t what = (uint64_t)(uint32_t)flags << 32 | 1, was = atomic_load_explicit(&last[writes], memory_order_relaxed);
	char byte = 0;
	struct iovec v = { &byte, 1 };
	int pair[2], saved = errno, rc = 0;

	if ((was & ~2ull) == what)
		return was & 2 ? -EOPNOTSUPP : 0;
	if (!(flags & ~XSHIM_RWF_KNOWN) || !xshim_active)
		return 0;
	if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		/* no number is free: a file of ours is asked, with nowhere to read to or write from, so that nothing is moved */
		v.iov_base = NULL;
		rc = writes ? libc.pwritev2(xshim_own_arena_fd, &v, 1, 0, flags) < 0 : libc.preadv2(xshim_own_arena_fd, &v, 1, 0, flags) < 0;
		rc = rc && errno == EOPNOTSUPP ? -errno : 0;
		errno = saved;
		return rc;
	}
	if (writes)
		rc = libc.pwritev2(pair[0], &v, 1, -1, flags) < 0 ? -errno : 0;
	else if (libc.write(pair[1], &byte, 1) == 1)
		rc = libc.preadv2(pair[0], &v, 1, -1, flags) < 0 ? -errno : 0;
	libc.close(pair[0]);
	libc.close(pair[1]);
	atomic_store_explicit(&last[writes], rc < 0 ? what | 2 : what, memory_order_relaxed);
	errno = saved;
	return rc;
}

XSHIM_EXPORT ssize_t preadv2(int fd, const struct iovec *v, int n, off_t offset, int flags)
{
	int msg = flags & RWF_NOWAIT ? MSG_DONTWAIT : 0;

	/* the arguments that are looked at first the kernel refuses first, and of what it does not know nothing comes */
	if (offset != -1 || (flags & ~XSHIM_RWF_KNOWN && xshim_fd_peek(fd) && !xshim_io_plain_vector(v, n) &&
			     xshim_io_ask_rwf(flags, false) < 0))
		return libc.preadv2(fd, v, n, offset, flags);
	xshim_cancel_point();
	RECEIVE_AND(fd, v, (size_t)n, msg, xshim_io_plain_vector(v, n), libc.preadv2(fd, v, n, offset, flags), (void)0);
}

XSHIM_EXPORT ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t offset, int flags)
{
	return preadv2(fd, v, n, offset, flags);
}

__attribute__((noinline)) static ssize_t long_recv(int fd, void *buf, size_t n, int flags)
{
	struct iovec v = { buf, n };

	RECEIVE(fd, &v, 1, flags, libc.recv(fd, buf, n, flags));
}

XSHIM_ASIDE ssize_t none_recv(int fd, void *buf, size_t n, int flags, struct xshim_conn *c)
{
	if (flags & MSG_DONTWAIT)
		return xshim_fast_none_there(fd, buf, n, flags, long_recv, c);
	RECEIVE_NONE(fd, buf, n, flags, c, libc.recv(fd, buf, n, flags));
}

XSHIM_EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	if (XSHIM_LIKELY(!(flags & ~XSHIM_FAST_FLAGS)) && XSHIM_FAST_IS(xshim_may_end, 0))
		return xshim_fast_recv(fd, buf, n, flags, long_recv, none_recv);
	return careful_recv(fd, buf, n, flags, long_recv, none_recv);
}

/* A stream socket leaves the address alone, but says so in *len; the data is gone also when that fails. */
static ssize_t without_address(socklen_t *len, ssize_t rc)
{
	const socklen_t none = 0;
	int room;

	if (xshim_user_get(&room, len, sizeof(room)) < 0)
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	return xshim_user_put(len, &none, sizeof(none)) < 0 ? -EFAULT : rc;
}

XSHIM_EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from,
			      socklen_t *len)
{
	struct iovec v = { buf, n };

	if (!from)
		return recv(fd, buf, n, flags);
	xshim_cancel_point();
	RECEIVE_AND(fd, &v, 1, flags, false, libc.recvfrom(fd, buf, n, flags, from, len),
		    if (rc_ >= 0) rc_ = without_address(len, rc_));
}

bool xshim_io_plain_message(const struct msghdr *m)
{
	if (!xshim_user_can_read(m, sizeof(*m)) || m->msg_iovlen > IOV_MAX ||
	    !xshim_user_can_read(m->msg_iov, m->msg_iovlen * sizeof(*m->msg_iov)) ||
	    (m->msg_name && (int)m->msg_namelen < 0))
		return true;
	for (size_t i = 0; i < m->msg_iovlen; i++)
		if (m->msg_iov[i].iov_len > SSIZE_MAX)
			return true;
	return false;
}

/* A received message without address and control data. */
static ssize_t without_extras(struct msghdr *m, int flags, ssize_t rc)
{
	const socklen_t no_name = 0;
	const size_t no_control = 0;
	const int told = flags & MSG_CMSG_CLOEXEC;

	if ((m->msg_name && xshim_user_put(&m->msg_namelen, &no_name, sizeof(no_name)) < 0) ||
	    xshim_user_put(&m->msg_flags, &told, sizeof(told)) < 0 ||
	    xshim_user_put(&m->msg_controllen, &no_control, sizeof(no_control)) < 0)
		return -EFAULT;
	return rc;
}

/* After that, what TCP_INQ asks for, in a control buffer of `room` bytes; as the kernel's put_cmsg(). */
static ssize_t with_inq(struct xshim_conn *c, int fd, struct msghdr *m, size_t room, ssize_t rc)
{
	char buf[CMSG_SPACE(sizeof(int))] = { 0 };
	struct cmsghdr head = { CMSG_LEN(sizeof(int)), IPPROTO_TCP, TCP_CM_INQ };
	int n = xshim_stream_inq_hint(c, fd), told = m->msg_flags;

	if (room < head.cmsg_len)
		told |= MSG_CTRUNC;
	if (!m->msg_control || room < sizeof(head)) {
		told |= MSG_CTRUNC;
		room = 0;
	}
	if (head.cmsg_len > room)
		head.cmsg_len = room;
	if (room > sizeof(buf))
		room = sizeof(buf);
	memcpy(buf, &head, sizeof(head));
	memcpy(CMSG_DATA((struct cmsghdr *)(void *)buf), &n, sizeof(n));
	if (room && xshim_user_put(m->msg_control, buf, room) < 0)
		return rc;
	if (xshim_user_put(&m->msg_flags, &told, sizeof(told)) < 0 ||
	    xshim_user_put(&m->msg_controllen, &room, sizeof(room)) < 0)
		return -EFAULT;
	return rc;
}

static ssize_t message_by_ring(struct xshim_conn *c, int fd, struct msghdr *m, int flags, bool *begun)
{
	size_t room = m->msg_controllen;
	ssize_t rc = xshim_stream_recv(c, fd, m->msg_iov, m->msg_iovlen, flags, begun);

	if (rc >= 0)
		rc = without_extras(m, flags, rc);
	if (rc >= 0 && xshim_conn_flag(c, XSHIM_SLOT_INQ))
		rc = with_inq(c, fd, m, room, rc);
	return rc;
}

XSHIM_EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	XSHIM_DEFERRED(was);
	struct xshim_hold h;
	bool begun = false;
	int waited = 0;
	ssize_t rc;

	xshim_cancel_point();
	if (!xshim_hold_begin(&h, xshim_conn_get(fd), was))
		return libc.recvmsg(fd, m, flags);
	for (;;) {
		bool ring = (xshim_conn_on_ring(h.c, fd) || xshim_stream_must_block(h.c, !begun)) &&
			    !(flags & (~RX_RING_FLAGS | CMSG_COMPAT));

		if (ring && xshim_io_plain_message(m))
			break;
		if (ring) {
			rc = message_by_ring(h.c, fd, m, flags, &begun);
			if (rc != XSHIM_PLAIN) {
				xshim_hold_end(&h);
				return xshim_ret(rc);
			}
		}
		if (waited || !xshim_kick_able(h.c) || (flags & (MSG_DONTWAIT | ~RX_RING_FLAGS | CMSG_COMPAT)) ||
		    (!begun && xshim_identity_nonblock(h.c, fd)) || xshim_io_plain_message(m))
			break;
		begun = true;
		waited = sleep_and_return(&h.c, fd);
		if (waited < 0) {
			xshim_hold_end(&h);
			return xshim_ret(waited);
		}
	}
	rc = libc.recvmsg(fd, m, flags);
	if (!(flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))
		xshim_conn_plain_rx(h.c, rc);
	xshim_hold_end(&h);
	return rc;
}

XSHIM_EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
	if (n > room)
		return libc.__read_chk(fd, buf, n, room);	/* it aborts with the usual words */
	return read(fd, buf, n);
}

XSHIM_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
	if (n > room)
		return libc.__recv_chk(fd, buf, n, room, flags);
	return recv(fd, buf, n, flags);
}

XSHIM_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags,
				    struct sockaddr *from, socklen_t *len)
{
	if (n > room)
		return libc.__recvfrom_chk(fd, buf, n, room, flags, from, len);
	return recvfrom(fd, buf, n, flags, from, len);
}
