/* SPDX-License-Identifier: MIT */
/*
 * report.h - what xshimd knows, as JSON text in a sealed memfd; for `xshim ss` and `xshim stat`.
 *
 * The field names are public and described in xshim(1).
 */
#ifndef XSHIMD_REPORT_H
#define XSHIMD_REPORT_H
#include <stdint.h>
#include <sys/types.h>

struct xshimd;

#define XSHIMD_REPORT_ROWS 65536	/* connections in one report */

/* what: XSHIM_REPORT_*. uid: connections of other users are left out, unless it is root. A descriptor or -errno. */
int xshimd_report_make(struct xshimd *d, uid_t uid, uint32_t what);

#endif
