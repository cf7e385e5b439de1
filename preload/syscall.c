/* SPDX-License-Identifier: MIT */
/*
 * syscall.c - syscall(2): programs and run-times (libuv, language run-times, sandboxes) that call the kernel by number. What
 * the shim takes over by name is taken over by number too, where it concerns a connection or our tables; the rest passes.
 *
 * Where the kernel's own call differs from the C library's: it is no cancellation point, masks are 8 bytes with
 * their size, and ppoll and pselect6 write back what was not slept.
 */
#include "exclude.h"
#include "poll.h"
#include "privfd.h"
#include "process.h"
#include "ready.h"
#include "sigact.h"
#include "user.h"

#include <limits.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define PASS LONG_MIN	/* no result of any call: make the kernel's */

static bool is_conn(long fd)
{
	struct xshim_obj *o = xshim_fd_peek((int)fd);

	return o && o->kind == XSHIM_OBJ_CONN;
}

static void *ptr(long a)
{
	return (void *)(uintptr_t)a;
}

/* ---- data, options, states: only on a connection of ours ---- */

static long on_conn(long nr, const long *a)
{
	int fd = (int)a[0];

	switch (nr) {
	case SYS_read:
		return read(fd, ptr(a[1]), (size_t)a[2]);
	case SYS_readv:
		return readv(fd, ptr(a[1]), (int)a[2]);
	case SYS_preadv2:
		return preadv2(fd, ptr(a[1]), (int)a[2], a[3], (int)a[5]);
	case SYS_recvfrom:
		return recvfrom(fd, ptr(a[1]), (size_t)a[2], (int)a[3], ptr(a[4]), ptr(a[5]));
	case SYS_recvmsg:
		return recvmsg(fd, ptr(a[1]), (int)a[2]);
	case SYS_recvmmsg:
		return recvmmsg(fd, ptr(a[1]), (unsigned int)a[2], (int)a[3], ptr(a[4]));
	case SYS_write:
		return write(fd, ptr(a[1]), (size_t)a[2]);
	case SYS_writev:
		return writev(fd, ptr(a[1]), (int)a[2]);
	case SYS_pwritev2:
		return pwritev2(fd, ptr(a[1]), (int)a[2], a[3], (int)a[5]);
	case SYS_sendto:
		return sendto(fd, ptr(a[1]), (size_t)a[2], (int)a[3], ptr(a[4]), (socklen_t)a[5]);
	case SYS_sendfile:
		return sendfile(fd, (int)a[1], ptr(a[2]), (size_t)a[3]);
	case SYS_shutdown:
		return shutdown(fd, (int)a[1]);
	case SYS_getsockopt:
		return getsockopt(fd, (int)a[1], (int)a[2], ptr(a[3]), ptr(a[4]));
	case SYS_setsockopt:
		return setsockopt(fd, (int)a[1], (int)a[2], ptr(a[3]), (socklen_t)a[4]);
	case SYS_ioctl:
		return ioctl(fd, (unsigned long)a[1], ptr(a[2]));
	default:
		return PASS;
	}
}

/* ---- what changes the tables, whatever the descriptor is ---- */

static long on_table(long nr, const long *a)
{
	switch (nr) {
	case SYS_socket:
		return socket((int)a[0], (int)a[1], (int)a[2]);
	case SYS_connect:
		return connect((int)a[0], ptr(a[1]), (socklen_t)a[2]);
	case SYS_listen:
		return listen((int)a[0], (int)a[1]);
	case SYS_accept:
		return accept((int)a[0], ptr(a[1]), ptr(a[2]));
	case SYS_accept4:
		return accept4((int)a[0], ptr(a[1]), ptr(a[2]), (int)a[3]);
	case SYS_sendto:	/* it may begin a connection */
		return a[3] & MSG_FASTOPEN ? sendto((int)a[0], ptr(a[1]), (size_t)a[2], (int)a[3], ptr(a[4]), (socklen_t)a[5]) : PASS;
	case SYS_sendmsg:	/* it may pass a connection on */
		return sendmsg((int)a[0], ptr(a[1]), (int)a[2]);
	case SYS_sendmmsg:
		return sendmmsg((int)a[0], ptr(a[1]), (unsigned int)a[2], (int)a[3]);
	case SYS_splice:
		return is_conn(a[0]) || is_conn(a[2]) ?
			       splice((int)a[0], ptr(a[1]), (int)a[2], ptr(a[3]), (size_t)a[4],
				      (unsigned int)a[5]) :
			       PASS;
	case SYS_fcntl:
		return fcntl((int)a[0], (int)a[1], a[2]);
	case SYS_close:
		return close((int)a[0]);
	case SYS_close_range:
		return close_range((unsigned int)a[0], (unsigned int)a[1], (int)a[2]);
	case SYS_dup:
		return dup((int)a[0]);
#ifdef SYS_dup2
	case SYS_dup2:
		return dup2((int)a[0], (int)a[1]);
#endif
	case SYS_dup3:
		return dup3((int)a[0], (int)a[1], (int)a[2]);
	default:
		return PASS;
	}
}

/* ---- readiness ---- */

/* False: the kernel is to say what is wrong with it. */
static bool mask_from(sigset_t *set, long mask, long size)
{
	if (mask && (size != (long)XSHIM_KERNEL_MASK || !xshim_user_can_read(ptr(mask), XSHIM_KERNEL_MASK)))
		return false;
	sigemptyset(set);
	if (mask)
		memcpy(set, ptr(mask), XSHIM_KERNEL_MASK);
	return true;
}

/* Likewise. */
static bool time_from(struct timespec *ts, long time)
{
	if (time && !xshim_user_can_read(ptr(time), sizeof(*ts)))
		return false;
	if (time)
		memcpy(ts, ptr(time), sizeof(*ts));
	return !time || xshim_is_time(ts);
}

/* Where that cannot be stored, the kernel does without. */
static void write_back(long time, const struct timespec *ts, uint64_t began)
{
	struct timespec left;

	if (!time)
		return;
	left = xshim_unslept(ts, began);
	(void)xshim_user_store(ptr(time), &left, sizeof(left));
}

static long timed_poll(const long *a)
{
	uint64_t began = xshim_clock_ns();
	nfds_t n = (unsigned int)a[1];
	struct timespec ts;
	sigset_t set;
	long rc;

	if (!xshim_poll_is_ours((uintptr_t)a[0], n) || !time_from(&ts, a[2]) || !mask_from(&set, a[3], a[4]))
		return PASS;
	rc = ppoll(ptr(a[0]), n, a[2] ? &ts : NULL, a[3] ? &set : NULL);
	write_back(a[2], &ts, began);
	return rc;
}

static long timed_select(const long *a)
{
	uint64_t began = xshim_clock_ns();
	const long *packed = ptr(a[5]);		/* { mask, size } */
	struct timespec ts;
	sigset_t set;
	long rc;

	if (!time_from(&ts, a[4]) || (packed && (!xshim_user_can_read(packed, 2 * sizeof(long)) ||
						 !mask_from(&set, packed[0], packed[1]))))
		return PASS;
	rc = pselect((int)a[0], ptr(a[1]), ptr(a[2]), ptr(a[3]), a[4] ? &ts : NULL, packed && packed[0] ? &set : NULL);
	write_back(a[4], &ts, began);
	return rc;
}

#ifdef SYS_select
static long old_select(const long *a)
{
	struct timeval *time = ptr(a[4]), tv;
	long rc;

	if (time && !xshim_user_can_read(time, sizeof(tv)))
		return PASS;
	if (time)
		tv = *time;
	rc = select((int)a[0], ptr(a[1]), ptr(a[2]), ptr(a[3]), time ? &tv : NULL);
	if (time)
		(void)xshim_user_store(time, &tv, sizeof(tv));
	return rc;
}
#endif

static long on_ready(long nr, const long *a)
{
	sigset_t set;

	switch (nr) {
#ifdef SYS_poll
	case SYS_poll:
		return poll(ptr(a[0]), (nfds_t)a[1], (int)a[2]);
#endif
	case SYS_ppoll:
		return timed_poll(a);
#ifdef SYS_select
	case SYS_select:
		return old_select(a);
#endif
	case SYS_pselect6:
		return timed_select(a);
#ifdef SYS_epoll_create
	case SYS_epoll_create:
		return epoll_create((int)a[0]);
#endif
	case SYS_epoll_create1:
		return epoll_create1((int)a[0]);
	case SYS_epoll_ctl:
		return epoll_ctl((int)a[0], (int)a[1], (int)a[2], ptr(a[3]));
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
		return epoll_wait((int)a[0], ptr(a[1]), (int)a[2], (int)a[3]);
#endif
	case SYS_epoll_pwait:
		if (!xshim_fd_peek((int)a[0]) || !mask_from(&set, a[4], a[5]))
			return PASS;
		return epoll_pwait((int)a[0], ptr(a[1]), (int)a[2], (int)a[3], a[4] ? &set : NULL);
	case SYS_epoll_pwait2:
		if (!xshim_fd_peek((int)a[0]) || !mask_from(&set, a[4], a[5]))
			return PASS;
		return epoll_pwait2((int)a[0], ptr(a[1]), (int)a[2], ptr(a[3]), a[4] ? &set : NULL);
	default:
		return PASS;
	}
}

/* ---- processes ---- */

static long pass_on(long nr, const long *a)
{
	return libc.syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The child goes on in a copy of this very stack. */
static long forking(long nr, const long *a)
{
	long rc;

	xshim_fork_prepare();
	rc = pass_on(nr, a);
	xshim_forked((pid_t)rc);
	return rc;
}

static long cloning(long nr, const long *a)
{
	struct clone_args args;
	unsigned long flags;
	long b[6];

	memcpy(b, a, sizeof(b));
	if (nr == SYS_clone) {
		/* with a stack of its own the child does not come back here */
		flags = (unsigned long)a[0];
		if (a[1] || !xshim_clone_flags(&flags))
			return PASS;
		b[0] = (long)flags;
		return forking(nr, b);
	}
	if (!a[0] || a[1] < CLONE_ARGS_SIZE_VER0 || a[1] > (long)sizeof(args))
		return PASS;
	memcpy(&args, ptr(a[0]), (size_t)a[1]);
	flags = args.flags;
	if (args.stack || !xshim_clone_flags(&flags))
		return PASS;
	args.flags = flags;
	b[0] = (long)(uintptr_t)&args;
	return forking(nr, b);
}

static long on_process(long nr, const long *a)
{
	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		return forking(nr, a);
#endif
#ifdef SYS_vfork
	case SYS_vfork:
		return forking(SYS_fork, a);
#endif
	case SYS_clone:
	case SYS_clone3:
		return cloning(nr, a);
	case SYS_unshare:
		return unshare((int)a[0]);
	case SYS_execve:
		return execve(ptr(a[0]), ptr(a[1]), ptr(a[2]));
	case SYS_execveat:
		return execveat((int)a[0], ptr(a[1]), ptr(a[2]), ptr(a[3]), (int)a[4]);
	case SYS_exit_group:
		_exit((int)a[0]);
	case SYS_rt_sigaction:
		return xshim_sigact_is_known((int)a[0]) && a[3] == (long)XSHIM_KERNEL_MASK ?
			       xshim_sigact_raw((int)a[0], ptr(a[1]), ptr(a[2])) :
			       PASS;
	case SYS_prctl:
		return prctl((int)a[0], a[1], a[2], a[3], a[4]);
	case SYS_seccomp:
		/* with no filter it only asks what there is */
		if (a[0] == SECCOMP_SET_MODE_STRICT || (a[0] == SECCOMP_SET_MODE_FILTER && a[2]))
			xshim_sandbox_enter();
		return PASS;
	case SYS_io_uring_setup:
		/* what it will read and write goes past us */
		xshim_exclude_all(XSHIM_R_URING);
		return PASS;
	default:
		return PASS;
	}
}

/* ---- what makes a descriptor (opens.c) ---- */

/* How many; 0: it is none of these, or the C library's function is called for it. */
static int makes(long nr)
{
	switch (nr) {
#ifdef SYS_open			/* where it is, the older forms of the others are */
	case SYS_open:
	case SYS_creat:
	case SYS_eventfd:
	case SYS_signalfd:
	case SYS_inotify_init:
#endif
	case SYS_openat:
#ifdef SYS_openat2
	case SYS_openat2:
#endif
	case SYS_open_by_handle_at:
	case SYS_mq_open:
	case SYS_eventfd2:
	case SYS_signalfd4:
	case SYS_timerfd_create:
	case SYS_inotify_init1:
	case SYS_fanotify_init:
	case SYS_memfd_create:
#ifdef SYS_pidfd_open
	case SYS_pidfd_open:
#endif
	case SYS_perf_event_open:
	case SYS_userfaultfd:
		return 1;
#ifdef SYS_pipe
	case SYS_pipe:
#endif
	case SYS_pipe2:
	case SYS_socketpair:
		return 2;
	default:
		return 0;
	}
}

static long opening(long nr, const long *a)
{
	long rc = XSHIM_ONCE_MORE(pass_on(nr, a), -1, xshim_room_lacking());

	/* two are where the call has put them, and the next call finds the next ones */
	if (makes(nr) == 1)
		(void)xshim_privfd_note((int)rc);
	return rc;
}

XSHIM_EXPORT long syscall(long nr, ...)
{
	int state;
	va_list ap;
	long a[6], rc;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (!xshim_active)
		return pass_on(nr, a);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	rc = is_conn(a[0]) ? on_conn(nr, a) : PASS;
	if (rc == PASS)
		rc = on_table(nr, a);
	if (rc == PASS)
		rc = on_ready(nr, a);
	if (rc == PASS)
		rc = on_process(nr, a);
	pthread_setcancelstate(state, NULL);
	if (rc != PASS)
		return rc;
	return makes(nr) ? opening(nr, a) : pass_on(nr, a);
}
