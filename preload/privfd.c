/* SPDX-License-Identifier: MIT */
/* privfd.c - private descriptors at the top of the range (privfd.h). */
#include "privfd.h"
#include "libc.h"
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

_Atomic uint64_t xshim_privfd_bits[XSHIM_PRIVFD_MAX / 64];
static _Atomic int taken;

static void mark(int fd)
{
	atomic_fetch_or_explicit(&xshim_privfd_bits[fd / 64], 1ull << (fd % 64), memory_order_relaxed);
	atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
}

static int top(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur > XSHIM_PRIVFD_MAX)
		return XSHIM_PRIVFD_MAX;
	return (int)rl.rlim_cur;
}

bool xshim_privfd_plenty(void)
{
	return atomic_load_explicit(&taken, memory_order_relaxed) < top() / 8;
}

int xshim_privfd_dup(int fd)
{
	int limit = top(), want, got = -EMFILE;

	if (atomic_load_explicit(&taken, memory_order_relaxed) < limit / 2) {
		for (want = limit - 1; want > limit / 2; want--) {
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
			mark(got);
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
	if (fd >= 0 && fd < XSHIM_PRIVFD_MAX && !xshim_privfd_is(fd))
		mark(fd);
}

void xshim_privfd_close(int fd)
{
	if (fd < 0)
		return;
	if (fd < XSHIM_PRIVFD_MAX && xshim_privfd_is(fd)) {
		raw_close(fd);
		atomic_fetch_and_explicit(&xshim_privfd_bits[fd / 64], ~(1ull << (fd % 64)),
					  memory_order_relaxed);
		atomic_fetch_sub_explicit(&taken, 1, memory_order_relaxed);
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
