/* SPDX-License-Identifier: MIT */
/*
 * sys.h - system calls that go to the kernel and nowhere else.
 *
 * This code also lives inside libxshim.so, which defines close(), send(), fcntl() and their like itself
 * and hides its own descriptors in them. A call by name would come back to the shim, so what the shim
 * takes over is called directly. As a gain these are no cancellation points and return -errno without
 * touching errno. Calls that nobody takes over (mmap, fstat, ftruncate) are called by name as usual.
 *
 * Threads: any. Signals: all safe. Errors: a result or -errno.
 */
#ifndef XSHIM_SRC_SYS_H
#define XSHIM_SRC_SYS_H
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) && !defined(__ILP32__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__) && !defined(__ILP32__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
}
#else
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long ret = syscall(nr, a, b, c, d, e, f);

	if (ret < 0)
		ret = -errno;
	errno = saved;
	return ret;
}
#endif

#define sys_call(nr, a, b, c, d, e, f) \
	sys_call6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline int sys_close(int fd)
{
	return (int)sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline int sys_fcntl(int fd, int cmd, long arg)
{
	return (int)sys_call(SYS_fcntl, fd, cmd, arg, 0, 0, 0);
}

static inline int sys_open(const char *path, int flags)
{
	return (int)sys_call(SYS_openat, AT_FDCWD, path, flags, 0, 0, 0);
}

static inline int sys_memfd_create(const char *name, unsigned int flags)
{
	return (int)sys_call(SYS_memfd_create, name, flags, 0, 0, 0, 0);
}

static inline int sys_ioctl(int fd, unsigned long request, void *arg)
{
	return (int)sys_call(SYS_ioctl, fd, request, arg, 0, 0, 0);
}

static inline ssize_t sys_read(int fd, void *buf, size_t len)
{
	return sys_call(SYS_read, fd, buf, len, 0, 0, 0);
}

static inline ssize_t sys_write(int fd, const void *buf, size_t len)
{
	return sys_call(SYS_write, fd, buf, len, 0, 0, 0);
}

static inline ssize_t sys_send(int fd, const void *buf, size_t len, int flags)
{
	return sys_call(SYS_sendto, fd, buf, len, flags, 0, 0);
}

static inline ssize_t sys_recv(int fd, void *buf, size_t len, int flags)
{
	return sys_call(SYS_recvfrom, fd, buf, len, flags, 0, 0);
}

static inline ssize_t sys_sendmsg(int fd, const struct msghdr *mh, int flags)
{
	return sys_call(SYS_sendmsg, fd, mh, flags, 0, 0, 0);
}

static inline ssize_t sys_recvmsg(int fd, struct msghdr *mh, int flags)
{
	return sys_call(SYS_recvmsg, fd, mh, flags, 0, 0, 0);
}

static inline int sys_socketpair(int domain, int type, int fds[2])
{
	return (int)sys_call(SYS_socketpair, domain, type, 0, fds, 0, 0);
}

static inline int sys_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	return (int)sys_call(SYS_getsockopt, fd, level, name, val, len, 0);
}

static inline int sys_getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	return (int)sys_call(SYS_getsockname, fd, sa, len, 0, 0, 0);
}

static inline int sys_getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
	return (int)sys_call(SYS_getpeername, fd, sa, len, 0, 0, 0);
}

/* True if no thread has this number. One that was killed and not yet waited for still has it. */
static inline bool sys_is_gone(pid_t tid)
{
	return sys_call(SYS_tkill, tid, 0, 0, 0, 0, 0) == -ESRCH;
}

/*
 * True also if the thread was killed and its parent has not waited for it: then it has no memory any more,
 * which a read of its memory tells without opening a descriptor. A living one answers with the byte, with
 * EFAULT or EPERM; whatever leaves doubt counts as alive. For rare use: a security module may note it.
 */
static inline bool sys_is_dead(pid_t tid)
{
	char byte;
	struct iovec here = { &byte, 1 };
	struct iovec there = { &byte, 1 };

	return sys_is_gone(tid) || sys_call(SYS_process_vm_readv, tid, &here, 1, &there, 1, 0) == -ESRCH;
}

#endif
