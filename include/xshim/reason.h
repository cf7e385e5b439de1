/* SPDX-License-Identifier: MIT */
/*
 * reason.h - reason codes by number, name and text; the table is reasons.def.
 *
 * Threads: any. Signals: all safe. Nothing here allocates or fails.
 */
#ifndef XSHIM_REASON_H
#define XSHIM_REASON_H
#include <stdint.h>

enum xshim_reason {
#define XSHIM_REASON(num, sym, name, text) XSHIM_R_##sym = (num),
#include <xshim/reasons.def>
#undef XSHIM_REASON
	XSHIM_R_COUNT
};

/* Stable name, for example "not-coresident"; "unknown" for a number that is not in the table. */
const char *xshim_reason_name(uint32_t reason);
/* One line for people. */
const char *xshim_reason_text(uint32_t reason);
/* Number of a name, or -1. */
int xshim_reason_from_name(const char *name);

#endif
