/* SPDX-License-Identifier: MIT */
/*
 * room.c - the program needs the numbers that our descriptors have: connections leave their rings (privfd.h).
 *
 * Those leave that can do it alone (link.h), at once: of which nothing lies unread, and whose peer is not in the middle of something. The
 * others are left alone; the next number that is wanted looks at them again. A connection in which another thread sleeps keeps its
 * descriptors until that has left. It does not come back before there is room.
 */
#include "channel.h"
#include "client.h"
#include "conn.h"
#include "privfd.h"
#include "process.h"
#include "raw.h"
#include "unwind.h"

#include <errno.h>
#include <sys/eventfd.h>

#define AT_ONCE 64		/* connections that one call of the program's waits for */

static _Atomic int looked;	/* where the last look ended, so that all have their turn */

static void leave(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	/* what is shared is not ours alone to give up, and is no fewer descriptors for the others */
	if (ch->be->forsake || atomic_load_explicit(&ch->forked, memory_order_relaxed) || !xshim_chan_lock(c->slot))
		return;
	if (xshim_conn_chan(c) == ch) {
		xshim_chan_rx_mend(c, ch, fd);
		xshim_chan_tx_mend(c, ch, fd);
		xshim_chan_leave_alone(c, ch, XSHIM_R_FD_LIMIT);
	}
	xshim_chan_unlock(c->slot);
}

/* It is being introduced. */
static bool call_off(struct xshim_conn *c)
{
	bool some = false;

	if (!xshim_client_try())
		return false;
	if (c->pending && !xshim_conn_chan(c)) {
		xshim_client_call_off(c, XSHIM_R_FD_LIMIT);
		some = !c->pending;
	}
	xshim_client_drop();
	return some;
}

/* fd names a connection with a ring, or about to have one, or that has had one: true: it has none any more. */
static bool give_up(int fd)
{
	struct xshim_obj *o = xshim_fd_try(fd);
	struct xshim_conn *c = (struct xshim_conn *)o;
	struct xshim_chan *ch;
	bool some = false;

	if (o && o->kind == XSHIM_OBJ_CONN) {
		ch = xshim_conn_chan(c);
		if (ch)
			leave(c, ch, fd);
		if (atomic_load_explicit(&c->detach_due, memory_order_acquire))
			xshim_chan_detach(c);
		some = ch ? !xshim_conn_chan(c) : call_off(c);
		if (atomic_load_explicit(&c->dead, memory_order_relaxed))
			xshim_chan_reap(c, 1);
	}
	if (o)
		xshim_obj_put(o);
	return some;
}

/* True: some are free. */
static bool make(void)
{
	XSHIM_DEFERRED(was);
	int fd = atomic_load_explicit(&looked, memory_order_relaxed), before, excess, gone = 0;
	int highest = atomic_load_explicit(&xshim_privfd_given, memory_order_relaxed);
	int saved = errno;

	before = excess = xshim_privfd_excess();
	for (int i = 0; i < highest && excess > 0 && gone < AT_ONCE; i++, fd++) {
		if (fd >= highest)
			fd = 0;
		if (!xshim_fd_is_named(fd) || !give_up(fd))
			continue;
		gone++;
		excess = xshim_privfd_excess();
	}
	atomic_store_explicit(&looked, fd, memory_order_relaxed);
	errno = saved;
	return excess < before;
}

void xshim_room_made(void)
{
	if (xshim_active)
		(void)make();
}

bool xshim_room_wanted(void)
{
	return xshim_active && xshim_privfd_none() && make();
}

/*
 * Two are enough for any call: where they are to be had, it was not that, or it is not so any more. Then the call stays as failed as it is: to
 * make it again could do something twice.
 */
bool xshim_room_lacking(void)
{
	int fds[2];
	bool none;

	if (!xshim_active)
		return false;
	none = libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0;
	if (!none) {
		raw_close(fds[0]);
		raw_close(fds[1]);
	}
	none = none && errno == EMFILE;
	errno = EMFILE;
	return none && xshim_room_wanted();
}

void xshim_room_for_one(void)
{
	int saved = errno, fd = xshim_active ? libc.eventfd(0, EFD_CLOEXEC) : -1;

	if (fd >= 0)
		raw_close(fd);
	else if (errno == EMFILE)
		(void)xshim_room_wanted();
	errno = saved;
}
