/* SPDX-License-Identifier: MIT */
/*
 * stdio.c - descriptors that the C library reads, writes or closes by itself, where nobody sees it: a connection
 * that is given to a stream, or to dprintf, returns to TCP first. A stream that is closed takes its descriptor along.
 */
#include "exclude.h"
#include "privfd.h"
#include "process.h"

#include <errno.h>
#include <execinfo.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Sockets with a stream that are not connected yet; above the range nobody is that late. */
#define NUMBERS 65536
static _Atomic uint64_t early[NUMBERS / 64];

bool xshim_stdio_has(int fd)
{
	return fd >= 0 && fd < NUMBERS &&
	       atomic_load_explicit(&early[fd / 64], memory_order_relaxed) >> (fd % 64) & 1;
}

void xshim_stdio_forget(int fd)
{
	if (xshim_stdio_has(fd))
		atomic_fetch_and_explicit(&early[fd / 64], ~(1ull << (fd % 64)), memory_order_relaxed);
}

void xshim_stdio_forget_all(unsigned int first, unsigned int last)
{
	for (unsigned int fd = first; fd < NUMBERS && fd <= last; fd++) {
		if (fd % 64 == 0 && !atomic_load_explicit(&early[fd / 64], memory_order_relaxed))
			fd += 63;
		else
			xshim_stdio_forget((int)fd);
	}
}

static void given(int fd)
{
	struct stat st;
	int saved = errno;

	if (xshim_fd_peek(fd))
		xshim_exclude_fd(fd, XSHIM_R_STDIO);
	else if (xshim_active && fd >= 0 && fd < NUMBERS && !fstat(fd, &st) && S_ISSOCK(st.st_mode))
		atomic_fetch_or_explicit(&early[fd / 64], 1ull << (fd % 64), memory_order_relaxed);
	errno = saved;
}

XSHIM_EXPORT FILE *fdopen(int fd, const char *mode)
{
	given(fd);
	return libc.fdopen(fd, mode);
}
XSHIM_ALIAS(FILE *, _IO_fdopen, fdopen, (int, const char *))

/* The descriptor of a stream that is about to be closed; -1: it has none. */
static int number(FILE *f)
{
	int saved = errno, fd = f ? fileno_unlocked(f) : -1;

	errno = saved;
	return fd;
}

/*
 * Before the C library closes it. What is in its buffer precedes the end of the connection, which is made now if xshimd has the socket, too
 * (xshim_conn_end()); else it is written as the stream is closed.
 */
static struct xshim_conn *forget(FILE *f)
{
	int saved = errno, fd = number(f);
	struct xshim_conn *c = fd < 0 ? NULL : xshim_conn_get(fd);

	/* what cannot be written now is the C library's affair when it closes it, and the end waits for xshimd */
	if (c && atomic_load_explicit(&c->lent, memory_order_relaxed) && fflush(f) < 0)
		atomic_store_explicit(&c->lent, false, memory_order_relaxed);
	if (c)
		xshim_conn_put(c);
	errno = saved;
	return xshim_sock_forget(fd);
}

XSHIM_EXPORT int fclose(FILE *f)
{
	struct xshim_conn *c = forget(f);
	int rc = libc.fclose(f);

	xshim_sock_forgotten(c);
	return rc;
}
XSHIM_ALIAS(int, _IO_fclose, fclose, (FILE *))

/* For a moment a stream has two numbers, and where the second is missing it is lost. So room is made before, as far as is known to be needed. */
static void have_one_more(void)
{
	if (xshim_privfd_few())
		xshim_room_for_one();
}

/* The old descriptor is closed whether or not the file can be opened. */
XSHIM_EXPORT FILE *freopen(const char *path, const char *mode, FILE *f)
{
	struct xshim_conn *c;

	have_one_more();
	c = forget(f);
	f = libc.freopen(path, mode, f);
	xshim_sock_forgotten(c);
	return f;
}

XSHIM_EXPORT FILE *freopen64(const char *path, const char *mode, FILE *f)
{
	struct xshim_conn *c;

	have_one_more();
	c = forget(f);
	f = libc.freopen64(path, mode, f);
	xshim_sock_forgotten(c);
	return f;
}

/* The other end did not answer in time and fd is on its ring still: then we write. True: done. */
__attribute__((format(printf, 2, 0))) static bool still_on_ring(int fd, const char *format, va_list ap, int *rc)
{
	struct xshim_conn *c = xshim_conn_get(fd);
	bool ring = c && xshim_conn_chan(c);
	char *text;
	ssize_t n;

	if (c)
		xshim_conn_put(c);
	if (!ring)
		return false;
	*rc = vasprintf(&text, format, ap);
	if (*rc < 0)
		return true;
	for (int done = 0; done < *rc; done += (int)n) {
		n = write(fd, text + done, (size_t)(*rc - done));
		if (n <= 0) {
			*rc = -1;
			break;
		}
	}
	free(text);
	return true;
}

XSHIM_EXPORT int vdprintf(int fd, const char *format, va_list ap)
{
	int rc;

	xshim_exclude_fd(fd, XSHIM_R_STDIO);
	return still_on_ring(fd, format, ap, &rc) ? rc : libc.vdprintf(fd, format, ap);
}

XSHIM_EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list ap;
	int rc;

	va_start(ap, format);
	rc = vdprintf(fd, format, ap);
	va_end(ap);
	return rc;
}

__attribute__((format(printf, 3, 0)))
XSHIM_EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	int rc;

	xshim_exclude_fd(fd, XSHIM_R_STDIO);
	return still_on_ring(fd, format, ap, &rc) ? rc : libc.__vdprintf_chk(fd, flag, format, ap);
}

__attribute__((format(printf, 3, 4)))
XSHIM_EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list ap;
	int rc;

	va_start(ap, format);
	rc = __vdprintf_chk(fd, flag, format, ap);
	va_end(ap);
	return rc;
}

XSHIM_EXPORT void backtrace_symbols_fd(void *const *frames, int n, int fd)
{
	xshim_exclude_fd(fd, XSHIM_R_STDIO);
	libc.backtrace_symbols_fd(frames, n, fd);
}
XSHIM_ALIAS(void, __backtrace_symbols_fd, backtrace_symbols_fd, (void *const *, int, int))
