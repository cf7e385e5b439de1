/* SPDX-License-Identifier: MIT */
/*
 * sandbox.c - a seccomp filter: from then on a call of a kind that the program has not made itself may be its end.
 *
 * So before it is installed all connections return to TCP, what their rings have left behind is given back, our signal handlers
 * go, and from then on everything passes through (xshim_active): not even close() may ask for the process's number. The
 * connections stay in the table, so that they are shown, and their end is seen.
 *
 * A connection whose other end does not answer in time cannot return; the shim stays at work then, and a strict filter may
 * end the program. A filter that comes otherwise than by the C library's prctl() and syscall() is not seen.
 */
#include "channel.h"
#include "client.h"
#include "conn.h"
#include "exclude.h"
#include "fault.h"
#include "identity.h"
#include "options.h"
#include "process.h"
#include "sigact.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>

static _Atomic pid_t inside;	/* the process that has a filter; -1: a child of it */

pid_t xshim_sandbox_pid(void)
{
	pid_t pid = atomic_load_explicit(&inside, memory_order_relaxed);

	return pid < 0 ? 0 : pid ? pid : xshim_pid();
}

void xshim_sandbox_fork_child(void)
{
	atomic_store_explicit(&inside, -1, memory_order_relaxed);
}

/*
 * It returns to TCP, and what is left of a ring, or of an introduction, goes. False: it is still on a ring. What other processes have,
 * too, is theirs to bring onto one: the process that a server puts into a sandbox for the beginning of a connection may be a child.
 */
static bool clear(struct xshim_conn *c, int fd)
{
	if (xshim_conn_chan(c))
		(void)xshim_chan_leave_wait(c, fd, XSHIM_R_SECCOMP, XSHIM_LEAVE_MS);
	if (c->slot && xshim_slot_is_sole(c->slot, getpid()))
		xshim_conn_never(c, XSHIM_R_SECCOMP);
	if (c->pending && xshim_client_insist()) {
		xshim_client_call_off(c, XSHIM_R_SECCOMP);
		xshim_client_drop();
	}
	if (atomic_load_explicit(&c->detach_due, memory_order_acquire))
		xshim_chan_detach(c);
	if (xshim_conn_chan(c))
		return false;
	xshim_chan_reap(c, 1);
	atomic_store_explicit(&c->lent, false, memory_order_relaxed);	/* xshimd has looked at it long ago */
	return true;
}

static bool clear_all(void)
{
	bool all = true;

	for (int chunk = 0; chunk < XSHIM_FDTAB_CHUNKS; chunk++) {
		if (!atomic_load_explicit(&xshim_fdtab[chunk], memory_order_acquire))
			continue;
		for (int fd = chunk * XSHIM_FDTAB_CHUNK; fd < (chunk + 1) * XSHIM_FDTAB_CHUNK; fd++) {
			struct xshim_conn *c = xshim_fd_peek(fd) ? xshim_conn_get(fd) : NULL;

			if (!c)
				continue;
			all = clear(c, fd) && all;
			xshim_conn_put(c);
		}
	}
	return all;
}

void xshim_sandbox_enter(void)
{
	int saved = errno;

	if (!xshim_active)
		return;
	/* first, so that nothing is introduced behind our back */
	atomic_store_explicit(&xshim_tcp_only, XSHIM_R_SECCOMP, memory_order_seq_cst);
	if (clear_all()) {
		atomic_store_explicit(&inside, getpid(), memory_order_relaxed);
		(void)xshim_tid();
		atomic_store_explicit(&xshim_fault_caught, false, memory_order_release);
		xshim_sigact_end();
		xshim_active = false;
	} else {
		xlog(WARN, "a connection could not return to TCP before a seccomp filter; if it forbids what a ring needs, this "
			   "program ends");
	}
	errno = saved;
}

XSHIM_EXPORT int prctl(int option, ...)
{
	unsigned long a[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	/* with no filter it only asks whether there are filters */
	if (option == PR_SET_SECCOMP && (a[0] != SECCOMP_MODE_FILTER || a[1]))
		xshim_sandbox_enter();
	if (option == PR_SET_NAME)
		xshim_identity_renamed();
	return libc.prctl(option, a[0], a[1], a[2], a[3]);
}
