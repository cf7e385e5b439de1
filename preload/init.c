/* SPDX-License-Identifier: MIT */
/*
 * init.c - start-up, in stages: (1) the C library's calls, on the first call of any or here; (2) options and log;
 * (3) fork handlers and what came over exec; then xshim_active. Before that, and always in a privileged program (AT_SECURE)
 * or with XSHIM_DISABLE, every call passes through.
 */
#include "conn.h"
#include "identity.h"
#include "options.h"
#include "privfd.h"
#include "process.h"

#include <stdlib.h>
#include <sys/auxv.h>

_Atomic bool xshim_active;

__attribute__((constructor)) static void start(void)
{
	xshim_libc_init();
	if (getauxval(AT_SECURE))
		return;
	xshim_options_read();
	if (xshim_opt.disable)
		return;
	xshim_backend_place = xshim_privfd_move;
	xshim_pid_init();
	xshim_process_init();
	xshim_process_ends();
	xshim_process_inherit();
	xshim_active = true;
}
