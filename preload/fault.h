/* SPDX-License-Identifier: MIT */
/*
 * fault.h - faults that are ours: SIGSEGV and SIGBUS in an access to memory that was given to us.
 *
 * - The program's memory (ucopy.h): a bad address is EFAULT over kernel TCP, so it is here. The
 *   copy is left, and says so.
 * - The other guest's memory (xen): a PV guest that was saved with foreign pages mapped, without a
 *   warning, finds nothing in their place. That memory is let go of (backend.h: forsake); the load
 *   is made again and reads zeros, which nobody takes for bytes (depart.h). The connection is
 *   reset, the program lives.
 *
 * Any other fault is the program's, as it has set it up (sigact.h); it pays two comparisons for
 * ours.
 *
 * The handlers are put in place before the first channel is made, or earlier. Not handled: a thread that has
 * the signal blocked. The kernel kills a process for a fault in such a thread whatever handler
 * there is, and nothing but a system call per copy could tell. The bad address is then the end of
 * the program, as in a function of the C library.
 */
#ifndef XSHIM_FAULT_H
#define XSHIM_FAULT_H
#include <stdatomic.h>
#include <stdbool.h>

void xshim_fault_ready(void);

/* Faults of xshim_ucopy() end in -EFAULT from now on. */
extern _Atomic bool xshim_fault_caught;
static inline bool xshim_fault_is_caught(void)
{
	return atomic_load_explicit(&xshim_fault_caught, memory_order_acquire);
}

#endif
