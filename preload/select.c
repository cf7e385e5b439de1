/* SPDX-License-Identifier: MIT */
/*
 * select.c - select and pselect. With no connection that has a channel in the sets the kernel's call is made; else the sets
 * become a poll, with the kernel's own table of which poll bits make a descriptor readable, writable, exceptional.
 */
#include "conn.h"
#include "poll.h"
#include "process.h"
#include "ready.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define IN_SET (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define OUT_SET (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define EX_SET POLLPRI
#define ON_STACK 128

static bool has(const fd_set *set, int fd)
{
	/* sets may be larger than FD_SETSIZE; glibc's FD_ISSET would be checked */
	return set && (((const unsigned long *)set)[fd / (8 * sizeof(long))] >>
		       (fd % (8 * sizeof(long))) & 1);
}

static void put(fd_set *set, int fd, bool on)
{
	unsigned long bit = 1ul << (fd % (8 * sizeof(long)));
	unsigned long *word = set ? &((unsigned long *)set)[fd / (8 * sizeof(long))] : NULL;

	if (word)
		*word = on ? *word | bit : *word & ~bit;
}

static bool any_conn(int nfds, const fd_set *r, const fd_set *w, const fd_set *e)
{
	for (int fd = 0; fd < nfds; fd++)
		if ((has(r, fd) || has(w, fd) || has(e, fd)) && xshim_fd_peek(fd))
			return true;
	return false;
}

/* *left: what remains of the timeout afterwards, if not NULL. -errno. */
static int select_by_poll(int nfds, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
			  const sigset_t *mask)
{
	struct pollfd few[ON_STACK], *p = few;
	size_t bytes = 0;
	nfds_t n = 0;
	int rc, bits = 0;

	if (nfds > ON_STACK) {
		bytes = (size_t)nfds * sizeof(*p);
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return -ENOMEM;
	}
	for (int fd = 0; fd < nfds; fd++) {
		short events = (short)((has(r, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
				       (has(w, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
				       (has(e, fd) ? POLLPRI : 0));

		if (events)
			p[n++] = (struct pollfd){ .fd = fd, .events = events };
	}
	rc = xshim_poll(p, n, timeout, mask);
	for (nfds_t i = 0; i < n && rc >= 0; i++)
		if (p[i].revents & POLLNVAL)
			rc = -EBADF;
	for (nfds_t i = 0; i < n && rc >= 0; i++) {
		int fd = p[i].fd;
		bool in = has(r, fd) && (p[i].revents & IN_SET);
		bool out = has(w, fd) && (p[i].revents & OUT_SET);
		bool ex = has(e, fd) && (p[i].revents & EX_SET);

		put(r, fd, in);
		put(w, fd, out);
		put(e, fd, ex);
		bits += in + out + ex;
	}
	if (bytes)
		munmap(p, bytes);
	return rc < 0 ? rc : bits;
}

XSHIM_EXPORT int pselect(int nfds, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
			 const sigset_t *mask)
{
	int saved;

	if (nfds <= 0 || nfds > XSHIM_FDTAB_CHUNK * XSHIM_FDTAB_CHUNKS || !xshim_active ||
	    !any_conn(nfds, r, w, e) ||
	    (timeout && (timeout->tv_sec < 0 || timeout->tv_sec > 1000000000 || timeout->tv_nsec < 0 ||
			 timeout->tv_nsec > 999999999)))
		return libc.pselect(nfds, r, w, e, timeout, mask);
	saved = errno;
	return (int)xshim_ret_kept(select_by_poll(nfds, r, w, e, timeout, mask), saved);
}

XSHIM_EXPORT int select(int nfds, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
	struct timespec ts = { 0 };
	uint64_t start, spent, whole;
	int rc, saved;

	if (nfds <= 0 || nfds > XSHIM_FDTAB_CHUNK * XSHIM_FDTAB_CHUNKS || !xshim_active ||
	    !any_conn(nfds, r, w, e) ||
	    (timeout && (timeout->tv_sec < 0 || timeout->tv_sec > 1000000000 || timeout->tv_usec < 0)))
		return libc.select(nfds, r, w, e, timeout);
	saved = errno;
	if (!timeout)
		return (int)xshim_ret_kept(select_by_poll(nfds, r, w, e, NULL, NULL), saved);
	ts.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
	ts.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	start = xshim_clock_ns();
	rc = select_by_poll(nfds, r, w, e, &ts, NULL);
	/* Linux writes back what was not slept */
	spent = xshim_clock_ns() - start;
	whole = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
	whole = whole > spent ? whole - spent : 0;
	timeout->tv_sec = (time_t)(whole / 1000000000);
	timeout->tv_usec = (suseconds_t)(whole % 1000000000 / 1000);
	return (int)xshim_ret_kept(rc, saved);
}
XSHIM_ALIAS(int, __select, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))
