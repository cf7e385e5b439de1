/* SPDX-License-Identifier: MIT */
/*
 * role.h - what this xshimd is for.
 *
 *   local   connects programs of this kernel
 *   guest   that, and in a Xen guest the programs of other guests of the same host
 *   host    that, and in dom0 tells the guests of each other
 *   auto    host if /proc/xen/capabilities says control_d, guest if the kernel runs under Xen and xenstore can be opened, else local
 */
#ifndef XSHIMD_ROLE_H
#define XSHIMD_ROLE_H
#include <stdint.h>

enum xshimd_role { XSHIMD_ROLE_AUTO, XSHIMD_ROLE_LOCAL, XSHIMD_ROLE_GUEST, XSHIMD_ROLE_HOST };

/* -EINVAL: no such role. */
int xshimd_role_parse(const char *name, uint32_t *role);
const char *xshimd_role_name(uint32_t role);
/* What auto is here; opens no connection to xenstore. */
uint32_t xshimd_role_detect(void);

#endif
