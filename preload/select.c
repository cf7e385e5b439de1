/* SPDX-License-Identifier: MIT */
/*
 * select.c - select and pselect. With no connection that has a channel in the sets the kernel's call is made; else the sets
 * become a poll, with the kernel's own table of which poll bits make a descriptor readable, writable, exceptional.
 */
#include "conn.h"
#include "fault.h"
#include "poll.h"
#include "process.h"
#include "ready.h"
#include "unwind.h"
#include "user.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>

/* POLLNVAL: closed since the call began */
#define IN_SET (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR | POLLNVAL)
#define OUT_SET (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR | POLLNVAL)
#define EX_SET (POLLPRI | POLLNVAL)
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

/* As the kernel reads and writes them: whole words. */
static size_t bytes_of(int nfds)
{
	return ((size_t)nfds + 8 * sizeof(long) - 1) / (8 * sizeof(long)) * sizeof(long);
}

static bool is_readable(const fd_set *set, int nfds)
{
	return !set || xshim_user_can_read(set, bytes_of(nfds));
}

/*
 * The kernel's call is to be made: for arguments that are wrong, for sets with nothing of ours, and as long as nothing here was ever
 * on a ring and no other thread can bring that about meanwhile.
 */
static bool plain_only(int nfds, const fd_set *r, const fd_set *w, const fd_set *e)
{
	return nfds <= 0 || nfds > XSHIM_FDTAB_CHUNK * XSHIM_FDTAB_CHUNKS || !xshim_active ||
	       (!xshim_fault_is_caught() && (__libc_single_threaded || !xshim_fd_any())) || !is_readable(r, nfds) || !is_readable(w, nfds) ||
	       !is_readable(e, nfds) || !any_conn(nfds, r, w, e);
}

/* A set of the program's gets what is ready. False: it can be read and not be written. */
static bool store(fd_set *set, int nfds, const struct pollfd *p, nfds_t n, short bits)
{
	long word[16];		/* of so many at a time */
	size_t bytes = set ? bytes_of(nfds) : 0, done, part;
	nfds_t i = 0;

	for (done = 0; done < bytes; done += part) {
		int first = (int)done * 8, end;

		part = bytes - done < sizeof(word) ? bytes - done : sizeof(word);
		end = first + (int)part * 8;
		memcpy(word, (const char *)set + done, part);
		for (; i < n && p[i].fd < end; i++)
			if (has((const fd_set *)(const void *)word, p[i].fd - first))
				put((fd_set *)(void *)word, p[i].fd - first, p[i].revents & bits);
		if (xshim_user_store((char *)set + done, word, part) < 0)
			return false;
	}
	return true;
}

static int count(const fd_set *set, const struct pollfd *p, nfds_t n)
{
	int bits = 0;

	for (nfds_t i = 0; set && i < n; i++)
		bits += has(set, p[i].fd);
	return bits;
}

struct room {
	void *at;
	size_t bytes;
};

/* Of a select that never returns (unwind.h). */
static void drop(void *arg)
{
	struct room *r = arg;

	munmap(r->at, r->bytes);
}

static int select_by_poll(int nfds, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
			  const sigset_t *mask)
{
	struct pollfd few[ON_STACK], *p = few;
	bool few_ours[ON_STACK], *ours = few_ours;	/* open when the call began: of others the poll tells */
	struct _pthread_cleanup_buffer list;
	struct room room = { NULL, 0 };
	nfds_t n = 0;
	int rc;

	if (nfds > ON_STACK) {
		room.bytes = (size_t)nfds * (sizeof(*p) + sizeof(*ours));
		room.at = p = mmap(NULL, room.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return -ENOMEM;
		ours = (bool *)(p + nfds);
		_pthread_cleanup_push(&list, drop, &room);
	}
	for (int fd = 0; fd < nfds; fd++) {
		short events = (short)((has(r, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
				       (has(w, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
				       (has(e, fd) ? POLLPRI : 0));

		if (!events)
			continue;
		ours[n] = xshim_fd_peek(fd);
		p[n++] = (struct pollfd){ .fd = fd, .events = events };
	}
	rc = xshim_poll(p, n, timeout, mask);
	for (nfds_t i = 0; i < n && rc >= 0; i++)
		if ((p[i].revents & POLLNVAL) && !ours[i])
			rc = -EBADF;
	if (rc >= 0)
		rc = store(r, nfds, p, n, IN_SET) && store(w, nfds, p, n, OUT_SET) && store(e, nfds, p, n, EX_SET) ?
			     count(r, p, n) + count(w, p, n) + count(e, p, n) :
			     -EFAULT;
	if (room.bytes)
		_pthread_cleanup_pop(&list, 1);
	return rc;
}

XSHIM_EXPORT int pselect(int nfds, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
			 const sigset_t *mask)
{
	int saved;

	if (plain_only(nfds, r, w, e) || (timeout && !xshim_is_time(timeout)) || xshim_user_is_no_mask(mask))
		return libc.pselect(nfds, r, w, e, timeout, mask);
	saved = errno;
	return (int)xshim_ret_kept(select_by_poll(nfds, r, w, e, timeout, mask), saved);
}

XSHIM_EXPORT int select(int nfds, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
	struct timespec ts = { 0 };
	uint64_t start;
	int rc, saved;

	if (plain_only(nfds, r, w, e) || (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)))
		return libc.select(nfds, r, w, e, timeout);
	saved = errno;
	if (!timeout)
		return (int)xshim_ret_kept(select_by_poll(nfds, r, w, e, NULL, NULL), saved);
	if (__builtin_add_overflow(timeout->tv_sec, timeout->tv_usec / 1000000, &ts.tv_sec))
		ts.tv_sec = LONG_MAX;
	ts.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	start = xshim_clock_ns();
	rc = select_by_poll(nfds, r, w, e, &ts, NULL);
	/* Linux writes back what was not slept */
	ts = xshim_unslept(&ts, start);
	timeout->tv_sec = ts.tv_sec;
	timeout->tv_usec = ts.tv_nsec / 1000;
	return (int)xshim_ret_kept(rc, saved);
}
XSHIM_ALIAS(int, __select, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))
