/* SPDX-License-Identifier: MIT */
/* sock.c - the life of a socket, from connect or accept to close, and of its descriptor numbers. */
#include "channel.h"
#include "client.h"
#include "conn.h"
#include "epoll.h"
#include "exclude.h"
#include "linger.h"
#include "privfd.h"
#include "process.h"
#include "stream.h"
#include "unwind.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>

static bool is_inet(const struct sockaddr *sa, socklen_t len)
{
	return sa && len >= sizeof(sa_family_t) &&
	       (sa->sa_family == AF_INET || sa->sa_family == AF_INET6);
}

/*
 * Numbers that are known to be plain TCP sockets. Enough to go by for what is shown: a number that has become something else by a way
 * that we do not see is found out before anything is introduced (identity.h).
 */
#define NUMBERS 65536
static _Atomic uint64_t tcp_numbers[NUMBERS / 64];

static bool is_known_tcp(int fd)
{
	return fd >= 0 && fd < NUMBERS &&
	       atomic_load_explicit(&tcp_numbers[fd / 64], memory_order_relaxed) >> (fd % 64) & 1;
}

static void know_tcp(int fd, bool is_tcp)
{
	if (fd < 0 || fd >= NUMBERS || is_known_tcp(fd) == is_tcp)
		return;
	if (is_tcp)
		atomic_fetch_or_explicit(&tcp_numbers[fd / 64], 1ull << (fd % 64), memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&tcp_numbers[fd / 64], ~(1ull << (fd % 64)), memory_order_relaxed);
}

/* Numbers that are closed together. */
static void know_none(unsigned int first, unsigned int last)
{
	for (unsigned int fd = first; fd < NUMBERS && fd <= last; fd++) {
		if (fd % 64 == 0 && !atomic_load_explicit(&tcp_numbers[fd / 64], memory_order_relaxed))
			fd += 63;
		else
			know_tcp((int)fd, false);
	}
}

/* fd's protocol; number: what is known of it, and to be known: its own, or that of its listener. */
static int protocol_of(int fd, int number)
{
	int proto = 0;
	socklen_t len = sizeof(proto);

	if (is_known_tcp(number))
		return IPPROTO_TCP;
	if (libc.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &len) < 0)
		return 0;
	know_tcp(number, proto == IPPROTO_TCP);
	return proto;
}

static void track(int fd, int number, enum xshim_role role, uint32_t flags, const struct sockaddr *peer, socklen_t len)
{
	int proto = protocol_of(fd, number);

	if (proto == IPPROTO_TCP || proto == IPPROTO_MPTCP)
		xshim_conn_track(fd, role, proto, flags, peer, len);
}

XSHIM_EXPORT int socket(int domain, int type, int protocol)
{
	int fd = xshim_privfd_note(XSHIM_NUMBER(libc.socket(domain, type, protocol)));
	bool inet = domain == AF_INET || domain == AF_INET6;

	/* closed by a way that we do not see, the number names something new now */
	if (fd >= 0) {
		xshim_stdio_forget(fd);
		know_tcp(fd, inet && (type & 0xf) == SOCK_STREAM && (!protocol || protocol == IPPROTO_TCP));
		if (xshim_fd_peek(fd))
			xshim_fd_clear(fd);
	}
	return fd;
}

void xshim_sock_connected(int fd, ssize_t rc, const struct sockaddr *sa, socklen_t len)
{
	int saved = errno;

	/* in this order: the kernel has looked at the address */
	if (!xshim_active || (rc < 0 && saved != EINPROGRESS && saved != EINTR) || !is_inet(sa, len))
		return;
	track(fd, fd, XSHIM_ROLE_CONNECT, rc < 0 && saved == EINPROGRESS ? XSHIM_SLOT_NONBLOCK : 0, sa, len);
	if (xshim_stdio_has(fd))
		xshim_exclude_fd(fd, XSHIM_R_STDIO);
	errno = saved;
}

XSHIM_EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	XSHIM_DEFERRED(was);
	struct xshim_conn *c;
	struct xshim_hold h;
	int rc, saved;

	if (!xshim_active)
		return libc.connect(fd, sa, len);
	c = xshim_conn_get(fd);
	if (xshim_hold_begin(&h, c, was)) {
		/* again on the same socket: the kernel says what that means; AF_UNSPEC ends the old stream */
		if (xshim_conn_chan(c) && len >= sizeof(sa_family_t) && xshim_user_can_read(sa, sizeof(sa_family_t)) &&
		    sa->sa_family == AF_UNSPEC)
			xshim_stream_closing(c, fd);
		rc = libc.connect(fd, sa, len);
		saved = errno;
		if (!rc && sa->sa_family == AF_UNSPEC)
			xshim_fd_clear(fd);
		xshim_hold_end(&h);
		errno = saved;
		return rc;
	}
	rc = libc.connect(fd, sa, len);
	xshim_sock_connected(fd, rc, sa, len);
	return rc;
}
XSHIM_ALIAS(int, __connect, connect, (int, const struct sockaddr *, socklen_t))

XSHIM_EXPORT int listen(int fd, int backlog)
{
	int rc = libc.listen(fd, backlog);

	/* meet xshimd now, so that the first connection finds the map */
	if (!rc && xshim_active && xshim_client_try()) {
		xshim_client_service();
		xshim_client_drop();
	}
	return rc;
}

/* peer: NULL if it is not known. */
static int accepted(int listener, int fd, int flags, const struct sockaddr *peer, socklen_t len)
{
	int saved = errno;

	if (fd < 0)
		return fd;
	xshim_stdio_forget(fd);
	know_tcp(fd, false);
	xshim_fd_clear(fd);
	(void)xshim_privfd_note(fd);
	if (xshim_active)
		track(fd, listener, XSHIM_ROLE_ACCEPT, flags & SOCK_NONBLOCK ? XSHIM_SLOT_NONBLOCK : 0, peer, len);
	errno = saved;
	return fd;
}

/*
 * The kernel says who it is in the same call. Where the program asks for it, too, its answer may have been cut short: then it is
 * asked for once more, unless the program's length could be read beforehand.
 */
#define ACCEPT(fd, sa, len, flags, call)                                                           \
	do {                                                                                       \
		XSHIM_DEFERRED(was_);                                                              \
		struct sockaddr_storage own_;                                                      \
		socklen_t room_ = sizeof(own_);                                                    \
		int fresh_;                                                                        \
                                                                                                   \
		if (!(sa) && is_known_tcp(fd)) {                                                   \
			fresh_ = XSHIM_NUMBER(call(fd, (struct sockaddr *)&own_, &room_));         \
			return accepted(fd, fresh_, flags, (struct sockaddr *)&own_, room_);       \
		}                                                                                  \
		room_ = (sa) && xshim_user_is_on_stack(len, sizeof(*(len))) ? *(len) : 0;          \
		fresh_ = XSHIM_NUMBER(call(fd, sa, len));                                          \
		if (fresh_ < 0 || !room_ || *(len) > room_)                                        \
			return accepted(fd, fresh_, flags, NULL, 0);                               \
		return accepted(fd, fresh_, flags, sa, *(len));                                    \
	} while (0)

XSHIM_EXPORT int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	ACCEPT(fd, sa, len, 0, libc.accept);
}

XSHIM_EXPORT int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
#define CALL(fd_, sa_, len_) libc.accept4(fd_, sa_, len_, flags)
	ACCEPT(fd, sa, len, flags, CALL);
#undef CALL
}

XSHIM_EXPORT int shutdown(int fd, int how)
{
	struct xshim_conn *c = xshim_conn_get(fd);
	int rc;

	if (!c)
		return libc.shutdown(fd, how);
	if (xshim_conn_chan(c)) {
		rc = (int)xshim_ret(xshim_stream_shutdown(c, fd, how));
	} else {
		rc = libc.shutdown(fd, how);
		if (!rc && (how == SHUT_RD || how == SHUT_RDWR))
			xshim_conn_set_flag(c, XSHIM_SLOT_SHUT_RD, true);
		if (!rc && (how == SHUT_WR || how == SHUT_RDWR))
			xshim_conn_set_flag(c, XSHIM_SLOT_SHUT_WR, true);
	}
	xshim_conn_put(c);
	return rc;
}

/*
 * Before the kernel forgets fd, so that a number that comes back at once finds a clean table. The connection is
 * returned, held: it is to be put after the kernel has closed the socket, because the peer must see
 * FIN or RST before the end of the channel, which it would take for a death.
 */
struct xshim_conn *xshim_sock_forget(int fd)
{
	struct xshim_conn *c;
	int saved = errno;

	xshim_stdio_forget(fd);
	know_tcp(fd, false);
	if (!xshim_fd_peek(fd))
		return NULL;
	c = xshim_conn_get(fd);
	if (!c)
		xshim_epoll_keep(fd);
	if (c && atomic_load_explicit(&c->obj.fds, memory_order_relaxed) == 1) {
		if (!xshim_conn_chan(c))
			xshim_conn_end(c, fd);
		else if (!xshim_conn_keep_socket(c, fd)) {
			xshim_stream_closing(c, fd);
			xshim_linger_begin(c, fd);
		}
	}
	xshim_fd_clear(fd);
	errno = saved;	/* an entry of a set may be there no more, and a close that succeeds does not say so */
	return c;
}

void xshim_sock_forgotten(struct xshim_conn *c)
{
	int saved = errno;

	if (c && atomic_load_explicit(&c->linger_until, memory_order_relaxed))
		xshim_linger(c);
	else if (c)
		xshim_conn_put(c);
	errno = saved;
}

XSHIM_EXPORT int close(int fd)
{
	XSHIM_DEFERRED(was);
	struct xshim_conn *c;
	int rc;

	if (xshim_privfd_is(fd)) {
		errno = EBADF;
		return -1;
	}
	xshim_cancel_point();	/* before anything of it is forgotten */
	c = xshim_sock_forget(fd);
	rc = libc.close(fd);
	xshim_sock_forgotten(c);
	return rc;
}
XSHIM_ALIAS(int, __close, close, (int))

/* fn over each stretch of [first, last] without a private descriptor in it. */
static int around(unsigned int first, unsigned int last, int flags)
{
	int below = last >= XSHIM_PRIVFD_MAX ? XSHIM_PRIVFD_MAX : (int)last + 1;
	unsigned int end = last;
	int rc = 0, ours;

	for (;;) {
		ours = xshim_privfd_prev(below);
		if (ours < 0 || (unsigned int)ours < first)
			break;
		if ((unsigned int)ours < end)
			rc |= libc.close_range((unsigned int)ours + 1, end, flags);
		if (!ours)
			return rc;
		end = (unsigned int)ours - 1;
		below = ours;
	}
	if (first <= end)
		rc |= libc.close_range(first, end, flags);
	return rc;
}

/* Connections are closed one by one; the rest is the kernel's. */
static void close_conns(unsigned int first, unsigned int last)
{
	know_none(first, last);
	xshim_stdio_forget_all(first, last);
	for (unsigned int chunk = first / XSHIM_FDTAB_CHUNK;
	     chunk < XSHIM_FDTAB_CHUNKS && chunk <= last / XSHIM_FDTAB_CHUNK; chunk++) {
		if (!atomic_load_explicit(&xshim_fdtab[chunk], memory_order_acquire))
			continue;
		for (unsigned int fd = chunk * XSHIM_FDTAB_CHUNK; fd < (chunk + 1) * XSHIM_FDTAB_CHUNK; fd++)
			if (fd >= first && fd <= last && xshim_fd_peek((int)fd)) {
				if (xshim_active)
					close((int)fd);
				else		/* as the one call that is made */
					xshim_sock_forgotten(xshim_sock_forget((int)fd));
			}
	}
}

XSHIM_EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	if (first > last)
		return libc.close_range(first, last, flags);
	if (flags & CLOSE_RANGE_UNSHARE) {
		/* for this thread alone, if there are others */
		if (unshare(CLONE_FILES) < 0)
			return -1;
		if (!__libc_single_threaded)
			return libc.close_range(first, last, flags);
	}
	if (!(flags & CLOSE_RANGE_CLOEXEC))
		close_conns(first, last);
	return around(first, last, flags) ? -1 : 0;
}

XSHIM_EXPORT void closefrom(int first)
{
	unsigned int from = first < 0 ? 0 : (unsigned int)first;

	close_conns(from, UINT_MAX);
	if (around(from, UINT_MAX, 0) && errno == ENOSYS)
		libc.closefrom(first);
}

/* ---- dup ---- */

static int named_too(int fd, int fresh)
{
	struct xshim_obj *o;

	if (fresh < 0 || fresh == fd)
		return fresh;
	o = xshim_fd_get(fd);
	xshim_stdio_forget(fresh);
	know_tcp(fresh, is_known_tcp(fd));
	xshim_fd_set(fresh, o);
	if (o)
		xshim_obj_put(o);
	/* stdin, stdout, stderr are streams from the start; a server that is started with its connection there moves it */
	if (o && fresh < 3)
		xshim_exclude_for_now(fresh, XSHIM_R_STDIO);
	return fresh;
}

XSHIM_EXPORT int dup(int fd)
{
	if (xshim_privfd_is(fd)) {
		errno = EBADF;
		return -1;
	}
	return named_too(fd, xshim_privfd_note(XSHIM_NUMBER(libc.dup(fd))));
}

static int onto(int fd, int target, int flags, bool three)
{
	struct xshim_conn *c = NULL;
	struct rlimit rl;
	int rc;

	if (xshim_privfd_is(fd)) {
		errno = EBADF;
		return -1;
	}
	/* The program may not have a number of ours; it is far above what it gets by itself. */
	if (xshim_privfd_is(target)) {
		errno = getrlimit(RLIMIT_NOFILE, &rl) == 0 && (rlim_t)target >= rl.rlim_cur ? EBADF : EBUSY;
		return -1;
	}
	/* only what can succeed closes the target */
	if (fd != target && (xshim_fd_peek(target) || xshim_stdio_has(target)) &&
	    (!xshim_active || libc.fcntl(fd, F_GETFD) >= 0))
		c = xshim_sock_forget(target);
	rc = named_too(fd, three ? libc.dup3(fd, target, flags) : libc.dup2(fd, target));
	xshim_sock_forgotten(c);
	return rc;
}

XSHIM_EXPORT int dup2(int fd, int target)
{
	return onto(fd, target, 0, false);
}
XSHIM_ALIAS(int, __dup2, dup2, (int, int))

XSHIM_EXPORT int dup3(int fd, int target, int flags)
{
	return onto(fd, target, flags, true);
}

int xshim_sock_dup(int fd, int cmd, int min)
{
	return named_too(fd, XSHIM_NUMBER(libc.fcntl(fd, cmd, min)));
}
