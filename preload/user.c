/* SPDX-License-Identifier: MIT */
/* user.c - what a call's arguments point to (user.h). */
#include "user.h"
#include "fault.h"

#include <errno.h>
#include <sys/mman.h>
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

bool xshim_user_can_read_at(uintptr_t at, size_t n)
{
	uintptr_t end = at + n;
	char byte;

	if (!n)
		return true;
	if (xshim_user_is_outside((const void *)at, n))
		return false;
	if (!xshim_fault_is_caught())
		return at >= PAGE;
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
