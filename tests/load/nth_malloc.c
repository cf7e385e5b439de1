/* SPDX-License-Identifier: MIT */
/*
 * nth_malloc.c - an allocator that fails when it is told to, for a program that is started with it as LD_PRELOAD.
 *
 * NTH_MALLOC names a file of three numbers of 64 bits: how many allocations there were (counted here), which of them is the first
 * that fails, and how many fail from there on (both written by the test, also while the program runs).
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t each);
void *__libc_realloc(void *p, size_t n);

static struct shared {
	_Atomic uint64_t count, first, fails;
} *shared;

__attribute__((constructor)) static void start(void)
{
	const char *name = getenv("NTH_MALLOC");
	int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
	void *at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		_exit(99);
	close(fd);
	shared = at;
}

static int is_to_fail(void)
{
	uint64_t now, first;

	if (!shared)
		return 0;
	now = atomic_fetch_add(&shared->count, 1) + 1;
	first = atomic_load(&shared->first);
	if (!first || now < first || now - first >= atomic_load(&shared->fails))
		return 0;
	errno = ENOMEM;
	return 1;
}

#pragma GCC visibility push(default)
void *malloc(size_t n) { return is_to_fail() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t each) { return is_to_fail() ? NULL : __libc_calloc(n, each); }
void *realloc(void *p, size_t n) { return is_to_fail() ? NULL : __libc_realloc(p, n); }
