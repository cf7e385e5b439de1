/* SPDX-License-Identifier: MIT */
/* user.c - what a call's arguments point to (user.h). */
#include "user.h"
#include "libc.h"
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE ((uintptr_t)4096)	/* no system has smaller ones */

bool xshim_user_is_far(uintptr_t at, size_t n)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = at + n;
	int saved = errno;
	unsigned char none;
	bool far;

	if (end < n || (intptr_t)end < 0)
		return true;
	/* of no bytes at all mincore() says only whether they are within the address space */
	end = (end + page - 1) & ~(page - 1);
	far = mincore((void *)end, 0, &none) < 0 && errno == ENOMEM;
	errno = saved;
	return far;
}

/*
 * While faults are not caught the kernel tells: it fetches a set of signals before it sees that nothing it knows is to be done with it.
 * Every program makes this call, so no filter minds it.
 */
static bool kernel_reads(uintptr_t at, uintptr_t end)
{
	int saved = errno;
	bool good = at >= PAGE;

	for (; good && at < end && xshim_active; at = (at | (PAGE - 1)) + 1)
		good = libc.syscall(SYS_rt_sigprocmask, -1, at & ~(XSHIM_KERNEL_MASK - 1), NULL, XSHIM_KERNEL_MASK) == 0 || errno != EFAULT;
	errno = saved;
	return good;
}

bool xshim_user_can_overwrite(void *p, size_t n)
{
	uintptr_t at = (uintptr_t)p, end = at + n;
	int saved = errno;
	bool good = at >= PAGE;

	/* it stores the present set */
	for (; good && at + XSHIM_KERNEL_MASK <= end && xshim_active; at = (at | (PAGE - 1)) + 1)
		good = libc.syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, at, XSHIM_KERNEL_MASK) == 0;
	errno = saved;
	return good;
}

int xshim_user_store(void *to, const void *from, size_t n)
{
	if (!xshim_fault_is_caught() && !xshim_user_can_overwrite(to, n))
		return -EFAULT;
	return xshim_user_put(to, from, n);
}

bool xshim_user_can_read_at(uintptr_t at, size_t n)
{
	uintptr_t end = at + n;
	char byte;

	if (!n)
		return true;
	if (xshim_user_is_outside((const void *)at, n))
		return false;
	if (!xshim_fault_is_caught())
		return kernel_reads(at, end);
	for (; at < end; at = (at | (PAGE - 1)) + 1)
		if (xshim_ucopy(&byte, (const void *)at, 1) < 0)
			return false;
	return true;
}

bool xshim_user_can_write(void *p)
{
	char byte;

	if (!xshim_user_can_read(p, 1))
		return false;
	return !xshim_fault_is_caught() || (xshim_ucopy(&byte, p, 1) == 0 && xshim_ucopy(p, &byte, 1) == 0);
}
