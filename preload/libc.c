/* SPDX-License-Identifier: MIT */
/*
 * libc.c - find the C library's own calls.
 *
 * dlsym may allocate, and an allocator that is preloaded too may call us while it starts. Such a
 * nested call finds the pointer it needs missing; for the few calls that allocators make, the stand-ins
 * below go to the kernel directly until the real ones are known.
 */
#include "libc.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static ssize_t early_read(int fd, void *buf, size_t n)
{
	return syscall(SYS_read, fd, buf, n);
}

static ssize_t early_write(int fd, const void *buf, size_t n)
{
	return syscall(SYS_write, fd, buf, n);
}

static int early_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static int early_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

static int early_openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

static int early_open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);	/* our own callers pass one always */
	va_end(ap);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* our own syscall() is in process.c; here the raw instruction is wanted */
static long early_syscall(long nr, ...)
{
	va_list ap;
	long a[6];
	long rc;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
#if defined(__x86_64__)
	register long r10 __asm__("r10") = a[3];
	register long r8 __asm__("r8") = a[4];
	register long r9 __asm__("r9") = a[5];

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a[0];
	register long x1 __asm__("x1") = a[1];
	register long x2 __asm__("x2") = a[2];
	register long x3 __asm__("x3") = a[3];
	register long x4 __asm__("x4") = a[4];
	register long x5 __asm__("x5") = a[5];

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	rc = x0;
#else
#error "system call instruction of this architecture is not known here"
#endif
	if (rc < 0 && rc > -4096) {
		errno = (int)-rc;
		return -1;
	}
	return rc;
}

struct xshim_libc xshim_libc = {
	.read = early_read,
	.write = early_write,
	.close = early_close,
	.open = early_open,
	.open64 = early_open,
	.openat = early_openat,
	.openat64 = early_openat,
	.fcntl = early_fcntl,
	.fcntl64 = early_fcntl,
	.syscall = early_syscall,
};
_Bool xshim_libc_ready;

const char *const xshim_call_names[XSHIM_CALLS] = {
#define CALL(ret, name, args) [offsetof(struct xshim_libc, name) / sizeof(void *)] = #name,
#include "calls.def"
#undef CALL
};

void xshim_libc_init(void)
{
	static __thread _Bool inside __attribute__((tls_model("initial-exec")));

	if (inside)
		return;
	inside = 1;
	for (size_t i = 0; i < XSHIM_CALLS; i++) {
		void *p = dlsym(RTLD_NEXT, xshim_call_names[i]);

		if (p)
			*xshim_call_place(i) = p;
	}
	__atomic_store_n(&xshim_libc_ready, 1, __ATOMIC_RELEASE);
	inside = 0;
}

ssize_t xshim_ret(ssize_t rc)
{
	if (rc >= 0)
		return rc;
	errno = (int)-rc;
	return -1;
}
