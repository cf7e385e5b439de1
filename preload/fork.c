/* SPDX-License-Identifier: MIT */
/*
 * fork.c - fork and its like.
 *
 * Cursors and locks of attached connections live in memory shared with the child, so both go on; what
 * is not attached yet is not attached while both hold it. The marks are made by pthread_atfork handlers, which also
 * run for forks inside the C library (daemon, forkpty). _Fork, clone and the bare system calls run no
 * handlers; ours are called around them.
 */
#include "client.h"
#include "conn.h"
#include "epoll.h"
#include "exclude.h"
#include "kick.h"
#include "privfd.h"
#include "process.h"
#include "sigact.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/single_threaded.h>
#include <termios.h>

static pid_t forker;
/* Since a wrapper began: slots are marked for a child that has not run. */
static __thread bool marked __attribute__((tls_model("initial-exec")));
/* Likewise: there is a filter (sandbox.c). */
static __thread bool in_sandbox __attribute__((tls_model("initial-exec")));

void xshim_fork_prepare(void)
{
	in_sandbox = !xshim_active;
	if (!in_sandbox) {
		marked = true;
		forker = getpid();
		xshim_client_fork_prepare();
	}
	xshim_epoll_fork_prepare();
	if (!in_sandbox)
		xshim_conn_fork_prepare();
}

static void parent(void)
{
	xshim_epoll_fork_done();
	if (!in_sandbox)
		xshim_client_fork_parent();
}

static void child(void)
{
	if (in_sandbox) {
		xshim_sandbox_fork_child();
		xshim_fdtab_fork_child();
		xshim_epoll_fork_done();
		return;
	}
	marked = false;
	xshim_sigact_fork_child();
	xshim_fdtab_fork_child();
	xshim_conn_fork_child(forker);
	xshim_kick_fork_child();
	xshim_epoll_fork_child();
	xshim_epoll_fork_done();
	xshim_client_fork_child();
	xshim_conn_fork_lost();
}

void xshim_process_init(void)
{
	pthread_atfork(xshim_fork_prepare, parent, child);
}

/* A fork has failed, maybe before it began. */
static void failed(void)
{
	int saved = errno;

	if (marked)
		xshim_conn_fork_undo();
	marked = false;
	errno = saved;
}

void xshim_forked(pid_t pid)
{
	if (pid == 0) {
		child();
		return;
	}
	parent();
	if (pid < 0)
		failed();
}

XSHIM_EXPORT pid_t fork(void)
{
	pid_t pid;

	marked = false;
	pid = libc.fork();
	if (pid < 0)
		failed();
	return pid;
}
XSHIM_ALIAS(pid_t, __fork, fork, (void))

/* Served as fork: a child that runs on the parent's memory would change the parent's tables. */
XSHIM_EXPORT pid_t vfork(void)
{
	return fork();
}
XSHIM_ALIAS(pid_t, __vfork, vfork, (void))

XSHIM_EXPORT pid_t _Fork(void)
{
	pid_t pid;

	if (!xshim_active)
		return libc._Fork();
	xshim_fork_prepare();
	pid = libc._Fork();
	xshim_forked(pid);
	return pid;
}

/* ---- clone ---- */

int xshim_clone_flags(unsigned long *flags)
{
	if (*flags & CLONE_THREAD)
		return 0;
	if (*flags & CLONE_VM) {
		if (*flags & CLONE_VFORK) {
			/* as vfork */
			*flags &= ~(unsigned long)(CLONE_VM | CLONE_SIGHAND);
		} else if (*flags & CLONE_FILES) {
			return 0;	/* a thread but for its name: tables and descriptors are one */
		} else {
			/* descriptors of its own, the memory of both: one table cannot say it */
			xshim_exclude_all(XSHIM_R_SHARED);
			return 0;
		}
	}
	/* what one of the two does to the common descriptors the other's table does not know */
	if (*flags & CLONE_FILES)
		xshim_exclude_all(XSHIM_R_SHARED);
	return 1;
}

struct start {
	int (*fn)(void *);
	void *arg;
};

static int begin(void *p)
{
	struct start s = *(struct start *)p;	/* the parent's, of which we have a copy */

	xshim_forked(0);
	return s.fn(s.arg);
}

XSHIM_EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	unsigned long wanted = (unsigned int)flags;
	struct start s = { fn, arg };
	pid_t *ptid, *ctid;
	void *tls;
	va_list ap;
	int pid;

	va_start(ap, arg);
	ptid = va_arg(ap, pid_t *);
	tls = va_arg(ap, void *);
	ctid = va_arg(ap, pid_t *);
	va_end(ap);
	if (!xshim_active || !fn || !stack || !xshim_clone_flags(&wanted))
		return libc.clone(fn, stack, flags, arg, ptid, tls, ctid);
	xshim_fork_prepare();
	pid = libc.clone(begin, stack, (int)wanted, &s, ptid, tls, ctid);
	xshim_forked(pid);
	return pid;
}
XSHIM_ALIAS(int, __clone, clone, (int (*)(void *), void *, int, void *, ...))

XSHIM_EXPORT int unshare(int flags)
{
	/* from now on a number means one thing to this thread and another to the others */
	if ((flags & CLONE_FILES) && !__libc_single_threaded)
		xshim_exclude_all(XSHIM_R_SHARED);
	return libc.unshare(flags);
}

/* ---- calls that put something else on 0, 1 and 2 inside the C library; a connection there has no ring ---- */

static void standard_is_new(void)
{
	for (int fd = 0; fd < 3; fd++)
		xshim_fd_clear(fd);
}

XSHIM_EXPORT int daemon(int nochdir, int noclose)
{
	int rc;

	marked = false;
	rc = libc.daemon(nochdir, noclose);
	if (rc < 0)
		failed();
	else if (!noclose)
		standard_is_new();
	return rc;
}

XSHIM_EXPORT int login_tty(int fd)
{
	int rc = libc.login_tty(fd);

	if (!rc) {
		standard_is_new();
		xshim_fd_clear(fd);
	}
	return rc;
}

XSHIM_EXPORT int forkpty(int *leader, char *name, const struct termios *termp, const struct winsize *winp)
{
	int pid;

	marked = false;
	/* a fork does not want for numbers: nothing has been forked then */
	pid = XSHIM_ONCE_MORE(libc.forkpty(leader, name, termp, winp), -1, xshim_room_lacking());
	if (pid >= 0)
		(void)xshim_privfd_note(*leader);
	if (pid == 0)
		standard_is_new();
	else if (pid < 0)
		failed();
	return pid;
}
