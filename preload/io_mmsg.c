/* SPDX-License-Identifier: MIT */
/*
 * io_mmsg.c - recvmmsg and sendmmsg on a ring: message by message, by the calls for one. Behind the first a call has something to tell,
 * so what would keep that waiting, or be lost with it, is the next call's.
 */
#include "ask.h"
#include "channel.h"
#include "conn.h"
#include "fault.h"
#include "io.h"
#include "process.h"
#include "ready.h"
#include "sigact.h"
#include "stream.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>

static bool may_sleep(int fd, int flags)
{
	return !(flags & MSG_DONTWAIT) && !(libc.fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* ---- receiving ---- */

/* The next call on the socket says it. */
static void owe(int fd, int err)
{
	struct xshim_conn *c = xshim_conn_get(fd);
	struct xshim_chan *ch = c ? xshim_conn_chan(c) : NULL;

	if (ch)
		atomic_store_explicit(&ch->tcp_err, err, memory_order_relaxed);
	if (c)
		xshim_conn_put(c);
}

static bool is_time(const struct timespec *t)
{
	return xshim_user_can_read(t, sizeof(*t)) && t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1000000000;
}

/*
 * Not the first message: the call has something to tell, so a handler ends it whatever its flags say, where a receive that has nothing
 * yet would go on. As recvmsg().
 */
static ssize_t next_received(int fd, struct msghdr *m, int flags)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	socklen_t len = sizeof(int);
	int n, ms, low = 1;
	int64_t ns;
	ssize_t rc;

	/* what these wait for poll() cannot tell */
	if ((flags & MSG_WAITALL) || !may_sleep(fd, flags) ||
	    getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, &len) < 0 || low > 1)
		return recvmsg(fd, m, flags);
	ns = xshim_ask_limit(fd, SO_RCVTIMEO);
	ms = ns <= 0 ? -1 : ns / 1000000 >= INT_MAX ? INT_MAX : (int)((ns + 999999) / 1000000);
	do {
		n = poll(&p, 1, ms);
		if (n < 0)
			return -1;
		rc = recvmsg(fd, m, flags | MSG_DONTWAIT);
	} while (rc < 0 && errno == EAGAIN && n);
	return rc;
}

/* A message has come: what is left of the time, as the kernel tells it. False: nothing. */
static bool is_time_left(struct timespec *left, uint64_t deadline)
{
	uint64_t now = xshim_clock_ns(), ns = deadline > now ? deadline - now : 0;

	*left = (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
	return ns;
}

XSHIM_EXPORT int recvmmsg(int fd, struct mmsghdr *v, unsigned int n, int flags,
			  struct timespec *timeout)
{
	struct xshim_conn *c = xshim_conn_get(fd);
	unsigned int done = 0;
	int saved = errno, err = 0;
	struct timespec left;
	uint64_t deadline = 0;
	socklen_t len;
	ssize_t rc;

	if (!c)
		return libc.recvmmsg(fd, v, n, flags, timeout);
	if (!xshim_conn_on_ring(c, fd) || (timeout && !is_time(timeout))) {
		int k = libc.recvmmsg(fd, v, n, flags, timeout);

		for (int i = 0; i < k && !(flags & MSG_PEEK); i++)
			xshim_conn_plain_rx(c, v[i].msg_len);
		xshim_conn_put(c);
		return k;
	}
	xshim_conn_put(c);
	if (timeout)
		deadline = xshim_clock_ns() + (timeout->tv_sec > 1000000000 ? 1000000000u : (uint64_t)timeout->tv_sec) * 1000000000u +
			   (uint64_t)timeout->tv_nsec;
	/* an error of the socket comes first here, before data */
	len = sizeof(err);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err)
		return (int)xshim_ret(-err);
	while (done < n) {
		unsigned int len_of;

		rc = done ? next_received(fd, &v[done].msg_hdr, flags & ~MSG_WAITFORONE) :
			    recvmsg(fd, &v[done].msg_hdr, flags & ~MSG_WAITFORONE);
		len_of = (unsigned int)rc;
		if (rc >= 0 && xshim_user_put(&v[done].msg_len, &len_of, sizeof(len_of)) < 0)
			rc = xshim_ret(-EFAULT);
		if (rc < 0 && !done)
			return -1;
		if (rc < 0) {
			if (errno != EAGAIN && errno != EINTR)
				owe(fd, errno);
			break;
		}
		done++;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (timeout && !is_time_left(&left, deadline))
			break;
	}
	if (done && timeout && xshim_user_put(timeout, &left, sizeof(left)) < 0)
		return (int)xshim_ret(-EFAULT);
	errno = saved;
	return (int)done;
}

/* ---- sending ---- */

/*
 * Not the first message: the call has something to tell, so a handler ends it whatever its flags say, where a send that has nothing to
 * tell yet would be begun anew. handlers: what had come when the call began. As sendmsg().
 */
static ssize_t next_sent(int fd, const struct msghdr *m, int flags, int handlers)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct iovec parts[XSHIM_STREAM_SLICES];
	struct msghdr some = *m;
	struct xshim_iov it;
	size_t total = 0;
	ssize_t rc;
	int n;

	if (!may_sleep(fd, flags) || m->msg_controllen || xshim_ask_limit(fd, SO_SNDTIMEO))
		return sendmsg(fd, m, flags);
	xshim_iov_init(&it, m->msg_iov, m->msg_iovlen);
	some.msg_iov = parts;
	for (;;) {
		some.msg_iovlen = xshim_iov_slice(&it, SSIZE_MAX, parts, XSHIM_STREAM_SLICES);
		rc = sendmsg(fd, &some, flags | MSG_DONTWAIT | (total ? MSG_NOSIGNAL : 0));
		if (rc >= 0) {
			total += (size_t)rc;
			xshim_iov_skip(&it, (size_t)rc);
			if (!xshim_iov_left(&it))
				return (ssize_t)total;
			continue;
		}
		n = errno == EAGAIN && xshim_sigact_awake() == handlers ? poll(&p, 1, -1) : -1;
		if (n < 0)
			return total ? (ssize_t)total : -1;
	}
}

/* rc bytes of the message have gone. */
static bool is_whole(const struct msghdr *m, ssize_t rc)
{
	size_t sum = 0;

	for (size_t i = 0; i < m->msg_iovlen; i++)
		sum += m->msg_iov[i].iov_len;
	return (size_t)rc >= sum;
}

XSHIM_EXPORT int sendmmsg(int fd, struct mmsghdr *v, unsigned int n, int flags)
{
	struct xshim_conn *c;
	unsigned int done = 0;
	int saved = errno, sent, handlers = xshim_sigact_awake();

	if (!xshim_fd_peek(fd)) {
		bool first = xshim_fault_is_caught();

		for (unsigned int i = 0; first && i < n && i < IOV_MAX; i++)
			xshim_io_passing(&v[i].msg_hdr);
		sent = libc.sendmmsg(fd, v, n, flags);
		for (int i = 0; !first && i < sent; i++)
			if (v[i].msg_hdr.msg_controllen)
				xshim_io_passing(&v[i].msg_hdr);
		if ((flags & MSG_FASTOPEN) && sent)
			(void)xshim_io_opened(fd, sent > 0 ? (ssize_t)v[0].msg_len : sent, &v[0].msg_hdr);
		return sent;
	}
	c = xshim_conn_get(fd);
	if (c && !xshim_conn_on_ring(c, fd)) {
		sent = libc.sendmmsg(fd, v, n, flags);
		for (int i = 0; i < sent; i++) {
			xshim_conn_plain_tx(c, v[i].msg_len);
			if (v[i].msg_hdr.msg_controllen || (flags & MSG_OOB))
				xshim_conn_never(c, XSHIM_R_OOB);
		}
		xshim_conn_put(c);
		return sent;
	}
	if (c)
		xshim_conn_put(c);
	while (done < n) {
		const struct msghdr *m = &v[done].msg_hdr;
		ssize_t rc = !done || xshim_io_plain_message(m) ? sendmsg(fd, m, flags) :
								     next_sent(fd, m, flags, handlers);
		unsigned int len_of = (unsigned int)rc;

		if (rc >= 0 && xshim_user_put(&v[done].msg_len, &len_of, sizeof(len_of)) < 0)
			rc = xshim_ret(-EFAULT);
		if (rc < 0 && !done)
			return -1;
		if (rc < 0)
			break;
		/* behind a part of one there is no place for the next */
		done++;
		if (!is_whole(m, rc))
			break;
	}
	errno = saved;
	return (int)done;
}
