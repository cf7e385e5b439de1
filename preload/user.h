/* SPDX-License-Identifier: MIT */
/*
 * user.h - what a call's arguments point to, looked at as the kernel does: it may be no memory.
 *
 * An address that fails here is for the kernel's own call to refuse, which it does before it does
 * anything else.
 *
 * Threads: any. Signals: safe.
 */
#ifndef XSHIM_USER_H
#define XSHIM_USER_H
#include "fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <xshim/ucopy.h>

#define XSHIM_USER_MAX ((size_t)0x7ffff000)	/* what one call moves at most */

/* Addresses as numbers: a pointer to const would tell the compiler that something is read. */
bool xshim_user_is_far(uintptr_t at, size_t n);
bool xshim_user_can_read_at(uintptr_t at, size_t n);

/* [p, p + n) cannot be the program's, whatever is mapped: EFAULT comes even where nothing is to be moved. */
static inline bool xshim_user_is_outside(const void *p, size_t n)
{
	uintptr_t end = (uintptr_t)p + n;

	/* below the end of the smallest address space there is nothing to ask */
	return (end < n || end > 0x7ffffffff000u) && xshim_user_is_far((uintptr_t)p, n);
}

/* Just above our own frame lies what our caller has on its stack: memory, without asking. */
static inline bool xshim_user_is_on_stack(const void *p, size_t n)
{
	return n <= 1024 && (uintptr_t)p - (uintptr_t)__builtin_frame_address(0) < 2048 - n;
}

/* Each of n parts may be the program's; the array itself can be read. */
static inline bool xshim_user_parts_fit(const struct iovec *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (xshim_user_is_outside(v[i].iov_base, v[i].iov_len < XSHIM_USER_MAX ? v[i].iov_len :
										       XSHIM_USER_MAX))
			return false;
	return true;
}

/* It can be read now. Before faults are caught (fault.h), that is before the first ring, it takes a system call for each page. */
static inline bool xshim_user_can_read(const void *p, size_t n)
{
	return xshim_user_is_on_stack(p, n) || xshim_user_can_read_at((uintptr_t)p, n);
}

#define XSHIM_KERNEL_MASK ((size_t)8)	/* bytes of a set of signals: 64 of them */

/* A set of signals that the kernel refuses. Before the first ring it sees each itself. */
static inline bool xshim_user_is_no_mask(const void *mask)
{
	return mask && xshim_fault_is_caught() && !xshim_user_can_read(mask, XSHIM_KERNEL_MASK);
}

/* The first byte of it can be written, and is as it was; faults are caught already. */
bool xshim_user_can_write(void *p);
/* All of it can be written, words of a set of descriptors; faults are not caught yet. What was there is lost. */
bool xshim_user_can_overwrite(void *p, size_t n);

/* 0 or -EFAULT; faults are caught already */
static inline int xshim_user_get(void *to, const void *from, size_t n)
{
	return xshim_ucopy(to, from, n);
}

static inline int xshim_user_put(void *to, const void *from, size_t n)
{
	return xshim_ucopy(to, from, n);
}

/* The same of whole words, also while faults are not caught. */
int xshim_user_store(void *to, const void *from, size_t n);

#endif
