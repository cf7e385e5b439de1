/* SPDX-License-Identifier: MIT */
/*
 * shmem.h - sealed memfds: how all memory that processes share here is made and checked.
 *
 * Threads: any. Signals: not from handlers. Errors: 0, a descriptor or -errno.
 */
#ifndef XSHIM_SRC_SHMEM_H
#define XSHIM_SRC_SHMEM_H
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* For memory that several write: its size stays. */
#define SHMEM_SEALS_FAMILY (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
/* For memory that only who maps it now will ever write. */
#define SHMEM_SEALS_OWNER (SHMEM_SEALS_FAMILY | F_SEAL_FUTURE_WRITE)

/*
 * A close-on-exec memfd of that size, not sealed yet. allocate: all its pages now, so that a lack of
 * memory, also in a memory cgroup, is -ENOMEM or -ENOSPC here and no signal later. -EFBIG where RLIMIT_FSIZE forbids the size.
 */
int shmem_create(const char *name, size_t bytes, bool allocate);
/* Map it shared; *out. */
int shmem_map(void **out, int fd, size_t bytes, bool writable);
int shmem_seal(int fd, int seals);
/*
 * Somebody's descriptor is a memfd of exactly this size, in ordinary pages, with at least these seals;
 * -EPROTO if not. *st (may be NULL) is filled in on success.
 */
int shmem_check(int fd, size_t bytes, int seals, struct stat *st);

#endif
