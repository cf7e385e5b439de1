/* SPDX-License-Identifier: MIT */
/*
 * aio.c - POSIX asynchronous input and output. The C library's own threads read and write the descriptor, by
 * calls that nobody sees, so a connection that a request names returns to TCP first.
 */
#include "exclude.h"

#include <aio.h>

static void named_by(const struct aiocb *cb)
{
	if (cb)
		xshim_exclude_fd(cb->aio_fildes, XSHIM_R_AIO);
}

XSHIM_EXPORT int aio_read(struct aiocb *cb)
{
	named_by(cb);
	return libc.aio_read(cb);
}

XSHIM_EXPORT int aio_read64(struct aiocb64 *cb)
{
	return aio_read((struct aiocb *)cb);
}

XSHIM_EXPORT int aio_write(struct aiocb *cb)
{
	named_by(cb);
	return libc.aio_write(cb);
}

XSHIM_EXPORT int aio_write64(struct aiocb64 *cb)
{
	return aio_write((struct aiocb *)cb);
}

XSHIM_EXPORT int lio_listio(int mode, struct aiocb *const *list, int n, struct sigevent *event)
{
	_Static_assert(sizeof(struct aiocb) == sizeof(struct aiocb64), "a 64-bit system");
	for (int i = 0; i < n; i++)
		if (list[i] && list[i]->aio_lio_opcode != LIO_NOP)
			named_by(list[i]);
	return libc.lio_listio(mode, list, n, event);
}

XSHIM_EXPORT int lio_listio64(int mode, struct aiocb64 *const *list, int n, struct sigevent *event)
{
	return lio_listio(mode, (struct aiocb *const *)list, n, event);
}
