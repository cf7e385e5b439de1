/* SPDX-License-Identifier: MIT */
/* exclude.c - connections that are to stay on TCP (exclude.h). */
#include "exclude.h"
#include "channel.h"
#include "process.h"

#include <errno.h>

static void leave(struct xshim_conn *c, int fd, enum xshim_reason why)
{
	int saved = errno;

	xshim_chan_leave_soon(c, fd, why);
	errno = saved;
}

void xshim_exclude_conn(struct xshim_conn *c, int fd, enum xshim_reason why)
{
	leave(c, fd, why);
	xshim_conn_never(c, why);
}

void xshim_exclude_fd(int fd, enum xshim_reason why)
{
	struct xshim_conn *c = xshim_conn_get(fd);

	if (!c)
		return;
	xshim_exclude_conn(c, fd, why);
	xshim_conn_put(c);
}

void xshim_exclude_for_now(int fd, enum xshim_reason why)
{
	struct xshim_conn *c = xshim_conn_get(fd);

	if (!c)
		return;
	leave(c, fd, why);
	xshim_conn_put(c);
}

void xshim_exclude_all(enum xshim_reason why)
{
	if (!xshim_active)
		return;
	/* first, so that nothing is introduced behind our back */
	atomic_store_explicit(&xshim_tcp_only, why, memory_order_seq_cst);
	for (int chunk = 0; chunk < XSHIM_FDTAB_CHUNKS; chunk++) {
		if (!atomic_load_explicit(&xshim_fdtab[chunk], memory_order_acquire))
			continue;
		for (int i = 0; i < XSHIM_FDTAB_CHUNK; i++)
			if (xshim_fd_peek(chunk * XSHIM_FDTAB_CHUNK + i))
				xshim_exclude_fd(chunk * XSHIM_FDTAB_CHUNK + i, why);
	}
}
