/* SPDX-License-Identifier: MIT */
/* shm_half.h - half of a channel by the shm backend, as its peer gets it: what test_backend_shm.c and test_backend_bell.c have in common. */
#ifndef XSHIM_TESTS_SHM_HALF_H
#define XSHIM_TESTS_SHM_HALF_H
#include <xshim/backend.h>
#include "unit.h"

#define ORDER 16
#define NONCE 0x123456789abcdefull

/* The peer's copies of what it is given, as SCM_RIGHTS makes them: the same open files. */
static inline void half_give(const struct xshim_local *l, int fds[3])
{
	int out = l->fds[XSHIM_LOCAL_BELL_OUT];

	fds[0] = dup(l->fds[XSHIM_LOCAL_MEMORY]);
	fds[1] = dup(out >= 0 ? out : l->fds[XSHIM_LOCAL_BELL]);
	fds[2] = dup(l->fds[XSHIM_LOCAL_LIFE_OUT]);
	ck_assert(fds[0] >= 0 && fds[1] >= 0 && fds[2] >= 0);
}

#endif
