/* SPDX-License-Identifier: MIT */
/* privfd.c - private descriptors at the top of the range (privfd.h). */
#include "privfd.h"
#include "libc.h"
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

#define OWN 4		/* the process has so many for itself: to xshimd, the counters, the log, */
#define FEW 8		/* and so many at times */

_Atomic uint64_t xshim_privfd_bits[XSHIM_PRIVFD_MAX / 64];
static _Atomic int taken;
_Atomic int xshim_privfd_given;			/* one more than the highest number that the program was given; threads may lose an update */
_Atomic int xshim_privfd_near = INT_MAX;	/* from that number on it comes near to ours */

/* As far as we may go, and as far as the program may. */
static int top(int *all)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur > INT_MAX)
		*all = INT_MAX;
	else
		*all = (int)rl.rlim_cur;
	return *all < XSHIM_PRIVFD_MAX ? *all : XSHIM_PRIVFD_MAX;
}

/* What is to stay free. */
static int spare(int all)
{
	int least = all / 4 < 64 ? all / 4 : 64;

	return all / 8 > least ? all / 8 : least;
}

static int count(int more)
{
	return atomic_fetch_add_explicit(&taken, more, memory_order_relaxed) + more;
}

static void mark(int fd, int all)
{
	atomic_fetch_or_explicit(&xshim_privfd_bits[fd / 64], 1ull << (fd % 64), memory_order_relaxed);
	atomic_store_explicit(&xshim_privfd_near, all - spare(all) / 2 - count(1), memory_order_relaxed);
}

bool xshim_privfd_plenty(void)
{
	int all;

	return atomic_load_explicit(&taken, memory_order_relaxed) < top(&all) / 8;
}

/* How many rings may take. */
static int share(int limit, int all)
{
	int most = all - spare(all) - atomic_load_explicit(&xshim_privfd_given, memory_order_relaxed);

	return most < limit - limit / 4 ? most : limit - limit / 4;
}

/* And all that is ours: the process has a few whatever else is open, or it could not come back to rings. */
static int share_of_all(int limit, int all)
{
	int least = limit / 4 < FEW ? limit / 4 : FEW, most = share(limit, all);

	return most > least ? most : least;
}

bool xshim_privfd_room(int more)
{
	int all, limit = top(&all);

	return atomic_load_explicit(&taken, memory_order_relaxed) + more <= share(limit, all);
}

int xshim_privfd_excess(void)
{
	int all, limit = top(&all), n = atomic_load_explicit(&taken, memory_order_relaxed);

	atomic_store_explicit(&xshim_privfd_near, all - spare(all) / 2 - n, memory_order_relaxed);
	return n - (share(limit, all) > OWN ? share(limit, all) : OWN);
}

/* Of ours, those below the limit, which may have been set lower since: the others take nothing from the program. */
static int within(int all)
{
	int n = 0;

	for (int fd = xshim_privfd_prev(all); fd >= 0; fd = xshim_privfd_prev(fd))
		n++;
	return n;
}

bool xshim_privfd_none(void)
{
	int all, n;

	(void)top(&all);
	n = within(all);
	if (!n)
		return false;
	if (all - n > atomic_load_explicit(&xshim_privfd_given, memory_order_relaxed))
		atomic_store_explicit(&xshim_privfd_given, all - n, memory_order_relaxed);
	return true;
}

int xshim_privfd_dup(int fd)
{
	int all, limit = top(&all), want, got = -EMFILE;

	if (atomic_load_explicit(&taken, memory_order_relaxed) < share_of_all(limit, all)) {
		for (want = limit - 1; want > limit / 4; want--) {
			if (!~atomic_load_explicit(&xshim_privfd_bits[want / 64], memory_order_relaxed))
				want &= ~63;	/* all of them are taken: the loop steps below them */
			if (xshim_privfd_is(want))
				continue;
			got = libc.fcntl(fd, F_DUPFD_CLOEXEC, want);
			if (got < 0) {
				got = -errno;
				if (got == -EINVAL || got == -EMFILE)
					continue;	/* everything from here up is the program's */
				break;
			}
			if (got >= XSHIM_PRIVFD_MAX) {
				raw_close(got);
				got = -EMFILE;
				continue;
			}
			mark(got, all);
			break;
		}
	}
	return got;
}

int xshim_privfd_move(int fd)
{
	int got = xshim_privfd_dup(fd);

	raw_close(fd);
	return got;
}

void xshim_privfd_adopt(int fd)
{
	int all;

	(void)top(&all);
	if (fd >= 0 && fd < XSHIM_PRIVFD_MAX && !xshim_privfd_is(fd))
		mark(fd, all);
}

void xshim_privfd_close(int fd)
{
	if (fd < 0)
		return;
	if (fd < XSHIM_PRIVFD_MAX && xshim_privfd_is(fd)) {
		raw_close(fd);
		atomic_fetch_and_explicit(&xshim_privfd_bits[fd / 64], ~(1ull << (fd % 64)),
					  memory_order_relaxed);
		(void)count(-1);
	}
}

int xshim_privfd_prev(int below)
{
	if (below > XSHIM_PRIVFD_MAX)
		below = XSHIM_PRIVFD_MAX;
	for (int fd = below - 1; fd >= 0; fd--) {
		uint64_t word = atomic_load_explicit(&xshim_privfd_bits[fd / 64], memory_order_relaxed);

		if (!word)
			fd &= ~63;	/* the loop steps below this word */
		else if (word >> (fd % 64) & 1)
			return fd;
	}
	return -1;
}
