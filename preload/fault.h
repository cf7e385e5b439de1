/* SPDX-License-Identifier: MIT */
/*
 * fault.h - SIGBUS from the other guest's memory.
 *
 * A PV guest that was saved with foreign pages mapped, without a warning, finds nothing in their place: the next load raises SIGBUS.
 * The handler lets go of that memory (backend.h: forsake), so the load goes on and reads zeros, which nobody takes for bytes
 * (depart.h): the connection is reset, the program lives. Any other SIGBUS is the program's, by whatever it had set up.
 *
 * The handler is put in place with the first channel over xen. A program that sets its own for SIGBUS afterwards
 * has the last word, and would then die of such a save.
 */
#ifndef XSHIM_FAULT_H
#define XSHIM_FAULT_H

void xshim_fault_ready(void);

#endif
