/* SPDX-License-Identifier: MIT */
#include "stuck_file.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "unit.h"

#define REQUEST_ROOM (1 << 18)
#define MOST_S 30

static void answer(int dev, const struct fuse_in_header *in, int error, const void *body, size_t len)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof(out) + len), .error = error, .unique = in->unique };
	struct iovec v[] = { { &out, sizeof(out) }, { (void *)(uintptr_t)body, len } };

	if (writev(dev, v, len ? 2 : 1) < 0)
		_exit(1);
}

static void answer_one(int dev, const struct fuse_in_header *in)
{
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 4096 };
	struct fuse_attr_out attr = { .attr_valid = 3600, .attr = { .ino = 1, .mode = S_IFREG | 0600, .nlink = 1, .blksize = 4096 } };
	struct fuse_open_out opened = { .fh = 1 };

	switch (in->opcode) {
	case FUSE_INIT:
		answer(dev, in, 0, &init, sizeof(init));
		break;
	case FUSE_GETATTR:
		answer(dev, in, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		answer(dev, in, 0, &opened, sizeof(opened));
		break;
	case FUSE_FLUSH:
		answer(dev, in, 0, NULL, 0);
		break;
	case FUSE_FORGET:
		break;
	default:
		answer(dev, in, -ENOSYS, NULL, 0);
	}
}

/* Its root is the file. Until the pipe's other end is closed. */
static _Noreturn void serve(int dev, int until, const _Atomic int *stuck)
{
	static _Alignas(8) char request[REQUEST_ROOM];
	struct pollfd p[] = { { .fd = dev, .events = POLLIN }, { .fd = until } };

	for (;;) {
		ssize_t n;

		if (poll(p, 2, -1) < 0 || p[1].revents)
			_exit(0);
		n = read(dev, request, sizeof(request));
		if (n < 0 && errno != EINTR && errno != ENOENT)
			_exit(0);
		if (n >= (ssize_t)sizeof(struct fuse_in_header) && !*stuck)
			answer_one(dev, (struct fuse_in_header *)(void *)request);
	}
}

static int mount_at(const char *path, int *dev)
{
	char options[100];

	*dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (*dev < 0)
		return -errno;
	snprintf(options, sizeof(options), "fd=%d,rootmode=100000,user_id=0,group_id=0,allow_other", *dev);
	if (mount("xshim-stuck", path, "fuse", MS_NOSUID | MS_NODEV, options) == 0)
		return 0;
	close(*dev);
	return -errno;
}

static int own_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	return 0;
}

const char *stuck_file_why_not(void)
{
	static char why[100];
	char path[] = "/tmp/xshimd-stuck-XXXXXX";
	int fd = mkstemp(path), dev, status = 1;
	pid_t pid = fork();

	if (pid == 0) {
		int rc = own_mounts();

		if (rc == 0)
			rc = mount_at(path, &dev);
		_exit(-rc);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	close(fd);
	unlink(path);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return NULL;
	snprintf(why, sizeof(why), "a FUSE file system cannot be mounted: %s",
		 WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "killed");
	return why;
}

void stuck_file_open(struct stuck_file *f, const char *dir)
{
	pid_t parent = getpid();
	char path[200];
	int dev, fd, until[2];

	ck_assert_int_eq(pipe2(until, O_CLOEXEC), 0);
	f->stuck = mmap(NULL, sizeof(*f->stuck), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(f->stuck, MAP_FAILED);
	ck_assert_int_eq(own_mounts(), 0);
	snprintf(path, sizeof(path), "%s/stuck-%d", dir, (int)parent);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(mount_at(path, &dev), 0);
	f->server = fork();
	ck_assert_int_ge(f->server, 0);
	if (f->server == 0) {
		close(until[1]);
		/* A test that fails waits in its end, in the close of the file, before it closes the pipe. */
		alarm(MOST_S);
		serve(dev, until[0], f->stuck);
	}
	close(dev);
	close(until[0]);
	f->until = until[1];
	f->fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(f->fd, 0);
	ck_assert_int_eq(umount2(path, MNT_DETACH), 0);
	unlink(path);
}

void stuck_file_stop(struct stuck_file *f)
{
	*f->stuck = 1;
}

void stuck_file_end(struct stuck_file *f)
{
	close(f->until);
	ck_assert_int_eq(waitpid(f->server, NULL, 0), f->server);
	f->server = 0;
	munmap((void *)f->stuck, sizeof(*f->stuck));
}
