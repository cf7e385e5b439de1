/* SPDX-License-Identifier: MIT */
/*
 * privfd.h - the descriptors that the shim opens for itself.
 *
 * They live at the top of the descriptor range (below the soft limit, at most 65536, so that the kernel's
 * table stays small), taken downwards, so that the program gets the lowest free numbers as ever. A bitmap knows which are
 * ours; close, close_range, closefrom, dup2 and fcntl leave those alone (EBADF, as if nothing were
 * there). At most half of the range is taken; beyond that a connection stays on TCP.
 *
 * Threads: any, lock-free. Fork: inherited, both copies are right. Exec: all are close-on-exec.
 */
#ifndef XSHIM_PRIVFD_H
#define XSHIM_PRIVFD_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define XSHIM_PRIVFD_MAX 65536

extern _Atomic uint64_t xshim_privfd_bits[XSHIM_PRIVFD_MAX / 64];

static inline bool xshim_privfd_is(int fd)
{
	if (fd < 0 || fd >= XSHIM_PRIVFD_MAX)
		return false;
	return atomic_load_explicit(&xshim_privfd_bits[fd / 64], memory_order_relaxed) >>
		       (fd % 64) & 1;
}

/* A private number for what fd names, which stays open: at no time is it at one that the program could get. -EMFILE as below. */
int xshim_privfd_dup(int fd);
/* Move fd to a private number and close it; -EMFILE when there is no room (fd is closed then too). */
int xshim_privfd_move(int fd);
/* Few are taken: one that is only useful may be, too. */
bool xshim_privfd_plenty(void);
/* As it is: keep the number, but it is ours from now on (found after exec). */
void xshim_privfd_adopt(int fd);
void xshim_privfd_close(int fd);	/* -1 is fine */
/* Highest private descriptor below `below`, or -1. */
int xshim_privfd_prev(int below);

#endif
