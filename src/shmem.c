/* SPDX-License-Identifier: MIT */
/*
 * shmem.c - make, seal and check memfds.
 */
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include "headroom.h"
#include "shmem.h"
#include "sys.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

#define ALLOCATE_TRIES 100

/* Without this a program that runs under `ulimit -f` would get SIGXFSZ for our file. */
static int size_allowed(size_t bytes)
{
	struct rlimit64 lim;
	long rc;

	rc = sys_call(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &lim, 0, 0);
	if (rc < 0)
		return (int)rc;
	return lim.rlim_cur >= bytes ? 0 : -EFBIG;
}

/* Not executable where the kernel knows of that (6.3); some set-ups allow no other kind. */
static int new_memfd(const char *name)
{
	int fd = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	return fd == -EINVAL ? sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

static int allocate_all(int fd, size_t bytes)
{
	/* A signal interrupts it and undoes what was done, so a timer can spoil several tries. */
	for (int i = 0; i < ALLOCATE_TRIES; i++) {
		if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
	return -EINTR;
}

int shmem_create(const char *name, size_t bytes, bool allocate)
{
	int saved = errno;
	int fd, rc;

	rc = size_allowed(bytes);
	if (rc < 0)
		return rc;
	if (allocate && headroom_bytes("/proc/self/cgroup", "/sys/fs/cgroup", bytes + HEADROOM_LEFT) < bytes + HEADROOM_LEFT)
		return -ENOMEM;
	fd = new_memfd(name);
	if (fd < 0) {
		rc = fd;
		goto restore_errno;
	}
	rc = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
	if (rc == 0 && allocate)
		rc = allocate_all(fd, bytes);
	if (rc < 0)
		sys_close(fd);
	else
		rc = fd;
restore_errno:
	errno = saved;
	return rc;
}

int shmem_map(void **out, int fd, size_t bytes, bool writable)
{
	int saved = errno;
	int rc = 0;
	void *at;

	at = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		rc = -errno;
	else
		*out = at;
	errno = saved;
	return rc;
}

int shmem_seal(int fd, int seals)
{
	int rc = sys_fcntl(fd, F_ADD_SEALS, seals);

	return rc < 0 ? rc : 0;
}

int shmem_check(int fd, size_t bytes, int seals, struct stat *st)
{
	struct statfs fs;
	struct stat local;
	int saved = errno;
	int rc = -EPROTO;
	int has;

	/* First: the kernel answers that for any file by itself, but fstat of one that is no memory asks its file system, which may not answer. */
	has = sys_fcntl(fd, F_GET_SEALS, 0);
	if (has < 0 || (has & seals) != seals)
		goto restore_errno;
	if (fstat(fd, &local) < 0 || !S_ISREG(local.st_mode) || (uint64_t)local.st_size != bytes)
		goto restore_errno;
	/* hugetlbfs has seals too, but its pages come from a pool that can run dry under a reader. */
	if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		goto restore_errno;
	if (st)
		*st = local;
	rc = 0;
restore_errno:
	errno = saved;
	return rc;
}
