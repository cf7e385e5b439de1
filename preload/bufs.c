/* SPDX-License-Identifier: MIT */
/* bufs.c - SO_SNDBUF and SO_RCVBUF on a ring (bufs.h). */
#include "bufs.h"

#include <errno.h>
#include <sys/socket.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#define SNDBUF_IS_SET 1
#define RCVBUF_IS_SET 2

static int ask(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value = 0;

	return libc.getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? 0 : value;
}

/* As the kernel has it, which is twice what was asked for: as payload that is less than a stream of TCP takes with it. */
static uint32_t size_of(int fd, int name)
{
	int size = ask(fd, name);

	return size > 0 ? (uint32_t)size : 1;
}

void xshim_bufs_take(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	int set = ask(fd, SO_BUF_LOCK);

	xshim_link_buffers(&c->slot->link, ch->local.region, set & SNDBUF_IS_SET ? size_of(fd, SO_SNDBUF) : 0,
			   set & RCVBUF_IS_SET ? size_of(fd, SO_RCVBUF) : 0);
}

void xshim_bufs_set(struct xshim_conn *c, int fd, int name)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	int saved = errno;

	if (!ch || (name != SO_SNDBUF && name != SO_RCVBUF && name != SO_SNDBUFFORCE && name != SO_RCVBUFFORCE &&
		    name != SO_BUF_LOCK))
		return;
	if (xshim_chan_lock(c->slot)) {
		xshim_bufs_take(c, ch, fd);
		xshim_chan_unlock(c->slot);
		/* who sleeps for room, or for more bytes than come, looks again */
		xshim_chan_ring(c, ch);
		xshim_chan_wake_own(ch);
	}
	errno = saved;
}
