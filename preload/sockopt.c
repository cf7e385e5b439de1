/* SPDX-License-Identifier: MIT */
/*
 * sockopt.c - fcntl, ioctl, setsockopt. The real socket keeps all options; here is only what changes
 * how we act: O_NONBLOCK, what is queued, that there is a time limit, SO_RCVLOWAT and SO_PEEK_OFF (rxopts.h), how large buffers
 * are (bufs.h), TCP_INFO (info.h), and what a ring cannot be combined with.
 * (O_ASYNC set before the connection is tracked is found when it is to be introduced.)
 */
#include "bufs.h"
#include "channel.h"
#include "conn.h"
#include "exclude.h"
#include "info.h"
#include "privfd.h"
#include "process.h"
#include "rxopts.h"
#include "stream.h"
#include "urgent.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#ifndef SO_RCVTIMEO_NEW		/* the kernel's names; the numbers are common to the architectures that we build for */
#define SO_RCVTIMEO_OLD 20
#define SO_SNDTIMEO_OLD 21
#define SO_RCVTIMEO_NEW 66
#define SO_SNDTIMEO_NEW 67
#endif
#ifndef TCP_ZEROCOPY_RECEIVE
#define TCP_ZEROCOPY_RECEIVE 35
#endif

static int do_fcntl(int fd, int cmd, long arg)
{
	struct xshim_conn *c;
	int rc;

	if (xshim_privfd_is(fd)) {
		errno = EBADF;
		return -1;
	}
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		return xshim_sock_dup(fd, cmd, (int)arg);
	/* no signal would come of what goes by ring */
	if (cmd == F_SETFL && (arg & O_ASYNC))
		xshim_exclude_fd(fd, XSHIM_R_SIGIO);
	rc = libc.fcntl(fd, cmd, arg);
	if (cmd != F_SETFL || rc < 0)
		return rc;
	c = xshim_conn_get(fd);
	if (c) {
		atomic_store_explicit(&c->mode_due, 0, memory_order_relaxed);
		xshim_conn_set_flag(c, XSHIM_SLOT_NONBLOCK, arg & O_NONBLOCK);
		xshim_conn_put(c);
	}
	return rc;
}

XSHIM_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return do_fcntl(fd, cmd, arg);
}
XSHIM_ALIAS(int, fcntl64, fcntl, (int, int, ...))
XSHIM_ALIAS(int, __fcntl, fcntl, (int, int, ...))

XSHIM_EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct xshim_conn *c;
	va_list ap;
	void *arg;
	int rc, n, value;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == FIOASYNC)
		xshim_exclude_fd(fd, XSHIM_R_SIGIO);
	if (request != FIONBIO && request != FIONREAD && request != TIOCOUTQ && request != SIOCATMARK)
		return libc.ioctl(fd, request, arg);
	c = xshim_conn_get(fd);
	if (!c)
		return libc.ioctl(fd, request, arg);
	if (request == FIONBIO) {
		rc = libc.ioctl(fd, request, arg);
		if (!rc) {
			atomic_store_explicit(&c->mode_due, 0, memory_order_relaxed);
			xshim_conn_set_flag(c, XSHIM_SLOT_NONBLOCK, *(int *)arg != 0);
		}
	} else if (!xshim_conn_chan(c) || !arg) {
		rc = libc.ioctl(fd, request, arg);
	} else {
		n = request == SIOCATMARK ? xshim_urgent_at_mark(c, fd, &value) :
		    request == FIONREAD	  ? xshim_stream_inq(c, fd, &value) :
					    xshim_stream_outq(c, fd, &value);
		if (!n && xshim_user_put(arg, &value, sizeof(value)) < 0)
			n = -EFAULT;
		rc = (int)xshim_ret(n);
	}
	xshim_conn_put(c);
	return rc;
}

/* The C library's asks the kernel alone, which has the mark and not what is unread on the ring before it. */
XSHIM_EXPORT int sockatmark(int fd)
{
	int yes;

	return ioctl(fd, SIOCATMARK, &yes) < 0 ? -1 : yes;
}

XSHIM_EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct xshim_conn *c;
	int err = 0, rc;

	if (level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE)
		xshim_exclude_fd(fd, XSHIM_R_SPLICE);	/* it takes data out of the socket */
	if (level == IPPROTO_TCP && name == TCP_INFO) {
		c = xshim_conn_get(fd);
		rc = xshim_info_get(c, fd, value, len);
		if (c)
			xshim_conn_put(c);
		return rc;
	}
	if (level != SOL_SOCKET || (name != SO_ERROR && name != SO_RCVLOWAT && name != SO_PEEK_OFF))
		return libc.getsockopt(fd, level, name, value, len);
	c = xshim_conn_get(fd);
	rc = libc.getsockopt(fd, level, name, value, len);
	if (name != SO_ERROR) {
		if (c && !rc && xshim_conn_chan(c))
			xshim_rxopts_get(c, name, value, len);
		if (c)
			xshim_conn_put(c);
		return rc;
	}
	/* an error that the ring gave and the socket does not know of, or one that is told only once */
	if (c && !rc && *len >= sizeof(err)) {
		if (*(int *)value)
			xshim_chan_told_error(c, fd);
		else
			err = xshim_chan_owed(c, true);
	}
	if (err)
		memcpy(value, &err, sizeof(err));
	if (c)
		xshim_conn_put(c);
	return rc;
}

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

/* Options that a ring cannot be combined with: leave first. */
static enum xshim_reason excluded(int level, int name)
{
	if (level == IPPROTO_TCP && (name == TCP_ULP || name == TCP_REPAIR))
		return XSHIM_R_ULP;
	if (level == SOL_SOCKET && name == SO_ZEROCOPY)
		return XSHIM_R_OOB;
	/* what a receive says beside the data */
	if (level == SOL_SOCKET && (name == SO_TIMESTAMP || name == SO_TIMESTAMPNS || name == SO_TIMESTAMPING))
		return XSHIM_R_OOB;
	return XSHIM_R_RING;
}

/* As long as before exec. */
#define OFF_MS 2000

/*
 * What the kernel is to do to the stream itself from now on may find nothing of ours in it: where the connection could not leave its ring,
 * because the other end makes no call, the option is not to be had, as on a kernel or for a user without it. Programs go on by themselves.
 */
static bool still_on(struct xshim_conn *c, int fd, int name)
{
	int saved = errno, rc;

	if (!xshim_conn_chan(c))
		return false;
	rc = xshim_chan_leave_wait(c, fd, XSHIM_R_ULP, OFF_MS);
	errno = rc ? name == TCP_ULP ? ENOENT : EPERM : saved;
	return rc;
}

XSHIM_EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct xshim_conn *c = xshim_conn_get(fd);
	enum xshim_reason why;
	int rc, low;

	if (!c)
		return libc.setsockopt(fd, level, name, value, len);
	why = excluded(level, name);
	if (why != XSHIM_R_RING)
		xshim_exclude_conn(c, fd, why);
	if (why == XSHIM_R_ULP && still_on(c, fd, name)) {
		xshim_conn_put(c);
		return -1;
	}
	if (level == SOL_SOCKET && (name == SO_RCVTIMEO_OLD || name == SO_RCVTIMEO_NEW ||
				    name == SO_SNDTIMEO_OLD || name == SO_SNDTIMEO_NEW))
		xshim_conn_set_flag(c, XSHIM_SLOT_TIMEO, true);
	rc = level == SOL_SOCKET && (name == SO_RCVLOWAT || name == SO_PEEK_OFF) ?
		     xshim_rxopts_set(c, fd, name, value, len) :
		     libc.setsockopt(fd, level, name, value, len);
	if (!rc && level == SOL_SOCKET)
		xshim_bufs_set(c, fd, name);
	if (!rc && level == IPPROTO_TCP && name == TCP_INQ) {
		memcpy(&low, value, sizeof(low));
		xshim_conn_set_flag(c, XSHIM_SLOT_INQ, low);
	}
	xshim_conn_put(c);
	return rc;
}
