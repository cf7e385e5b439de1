/* SPDX-License-Identifier: MIT */
/*
 * uring.c - io_uring by liburing.
 *
 * What the kernel reads and writes for an io_uring goes past us, and so does the system call that makes one: liburing has the
 * instruction itself (by number: syscall.c). So its functions that make one are taken over, and no connection of the process has a
 * ring of ours from then on.
 *
 * We are not linked with it. It may be there from the start, or come later with a part of the program that alone sees it; so it is looked
 * for in each call, of which there are few. Not seen: liburing that is linked into the program, or asked for its functions by
 * dlsym().
 *
 * Threads: any. Signals: no, as liburing's own.
 */
#include "exclude.h"
#include "process.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <string.h>

struct io_uring;
struct io_uring_params;

struct search {
	int skip;		/* of those that fit */
	char path[PATH_MAX];	/* of the next one */
};

/* Some have a part of their own in the name, as when it is packed with what uses it. */
static int is_liburing(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *slash = strrchr(info->dlpi_name, '/'), *name = slash ? slash + 1 : info->dlpi_name;
	struct search *s = arg;

	(void)size;
	if (strncmp(name, "liburing", strlen("liburing")) || strlen(info->dlpi_name) >= sizeof(s->path) || s->skip--)
		return 0;
	strcpy(s->path, info->dlpi_name);
	return 1;
}

/* The function that would have been called without us, or NULL. */
static void *next(const char *name)
{
	void *fn = dlsym(RTLD_NEXT, name), *library;
	struct search s;

	/* what was loaded for some and not for all is not among the next ones */
	for (int i = 0; !fn; i++) {
		s.skip = i;
		if (!dl_iterate_phdr(is_liburing, &s))
			break;
		library = libc.dlopen(s.path, RTLD_LAZY | RTLD_NOLOAD);
		if (!library)
			continue;
		fn = dlsym(library, name);
		(void)dlclose(library);		/* it is our caller's, too */
	}
	return fn;
}

#define MAKES_RING(name, parameters, arguments)                                                    \
	XSHIM_EXPORT int name parameters;                                                          \
	XSHIM_EXPORT int name parameters                                                           \
	{                                                                                          \
		int (*real) parameters = (int (*) parameters)next(#name);                          \
                                                                                                   \
		if (!real)                                                                         \
			return -ENOSYS;                                                            \
		xshim_exclude_all(XSHIM_R_URING);                                                  \
		return real arguments;                                                             \
	}

MAKES_RING(io_uring_queue_init, (unsigned int n, struct io_uring *ring, unsigned int flags), (n, ring, flags))
MAKES_RING(io_uring_queue_init_params, (unsigned int n, struct io_uring *ring, struct io_uring_params *p), (n, ring, p))
MAKES_RING(io_uring_queue_init_mem, (unsigned int n, struct io_uring *ring, struct io_uring_params *p, void *buf, size_t len),
	   (n, ring, p, buf, len))
MAKES_RING(io_uring_setup, (unsigned int n, struct io_uring_params *p), (n, p))
