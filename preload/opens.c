/* SPDX-License-Identifier: MIT */
/*
 * opens.c - calls that make a descriptor which is no connection's: files, pipes, counters, what a stream or a directory is read by.
 *
 * The C library makes it. We note its number, so that connections leave their rings before the program runs out of numbers (privfd.h); and where
 * there is none, the call is made once more when some have left.
 *
 * That may be, because the kernel takes the number before it does anything else: a call that found none has made no file and no name, and has
 * waited for nobody. Two are taken both or not at all, by the kernel and by openpty(). Only the template of mkstemp() and its like is used up by the
 * try, and is given back. Some have other reasons to say EMFILE (a user's inotify instances, the bytes of his message queues, a file system in a
 * program that has run out of its own), and may have made something then: those are left alone (xshim_room_lacking()).
 *
 * What the C library opens for a moment, as to look up a name or to load a library, finds the numbers that the others keep free.
 *
 * Threads, signals, cancellation: as the C library's. Nothing is held while it runs. Fork: as privfd.h.
 */
#include "libc.h"
#include "privfd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MADE(call) xshim_privfd_note(XSHIM_ONCE_MORE(call, -1, xshim_room_lacking()))

#define OPENS(name, parameters, arguments)                                                         \
	XSHIM_EXPORT int name parameters                                                           \
	{                                                                                          \
		return MADE(libc.name arguments);                                                  \
	}

/* ---- files by name ---- */

/* The mode is there only when something may be made. */
#define MODE_FOLLOWS(flags) (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE)

#define OPENS_WITH_MODE(name, parameters, ...)                                                     \
	XSHIM_EXPORT int name parameters                                                           \
	{                                                                                          \
		mode_t mode = 0;                                                                   \
		va_list ap;                                                                        \
                                                                                                   \
		va_start(ap, flags);                                                               \
		if (MODE_FOLLOWS(flags))                                                           \
			mode = va_arg(ap, mode_t);                                                 \
		va_end(ap);                                                                        \
		return MADE(libc.name(__VA_ARGS__, flags, mode));                                  \
	}

OPENS_WITH_MODE(open, (const char *path, int flags, ...), path)
OPENS_WITH_MODE(open64, (const char *path, int flags, ...), path)
OPENS_WITH_MODE(__open, (const char *path, int flags, ...), path)
OPENS_WITH_MODE(__open64, (const char *path, int flags, ...), path)
OPENS_WITH_MODE(openat, (int dir, const char *path, int flags, ...), dir, path)
OPENS_WITH_MODE(openat64, (int dir, const char *path, int flags, ...), dir, path)
OPENS(__open_2, (const char *path, int flags), (path, flags))
OPENS(__open64_2, (const char *path, int flags), (path, flags))
OPENS(__openat_2, (int dir, const char *path, int flags), (dir, path, flags))
OPENS(__openat64_2, (int dir, const char *path, int flags), (dir, path, flags))
OPENS(creat, (const char *path, mode_t mode), (path, mode))
OPENS(creat64, (const char *path, mode_t mode), (path, mode))
OPENS(open_by_handle_at, (int mount, struct file_handle *handle, int flags), (mount, handle, flags))
OPENS(shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode))
OPENS(__mq_open_2, (const char *name, int flags), (name, flags))

XSHIM_EXPORT mqd_t mq_open(const char *name, int flags, ...)
{
	struct mq_attr *attr = NULL;
	mode_t mode = 0;
	va_list ap;

	va_start(ap, flags);
	if (flags & O_CREAT) {
		mode = va_arg(ap, mode_t);
		attr = va_arg(ap, struct mq_attr *);
	}
	va_end(ap);
	return MADE(libc.mq_open(name, flags, mode, attr));
}

/* ---- files whose name is made up: the letters of the first try go again ---- */

#define LETTERS 6

/* It was looked at: the letters were there. */
static bool lacking_for(char *template, int suffix)
{
	if (!xshim_room_lacking())
		return false;
	memset(template + strlen(template) - (size_t)suffix - LETTERS, 'X', LETTERS);
	return true;
}

#define OPENS_TEMPORARY(name, parameters, arguments, suffix)                                       \
	XSHIM_EXPORT int name parameters                                                           \
	{                                                                                          \
		return xshim_privfd_note(XSHIM_ONCE_MORE(libc.name arguments, -1, lacking_for(template, suffix))); \
	}

OPENS_TEMPORARY(mkstemp, (char *template), (template), 0)
OPENS_TEMPORARY(mkstemp64, (char *template), (template), 0)
OPENS_TEMPORARY(mkstemps, (char *template, int suffix), (template, suffix), suffix)
OPENS_TEMPORARY(mkstemps64, (char *template, int suffix), (template, suffix), suffix)
OPENS_TEMPORARY(mkostemp, (char *template, int flags), (template, flags), 0)
OPENS_TEMPORARY(mkostemp64, (char *template, int flags), (template, flags), 0)
OPENS_TEMPORARY(mkostemps, (char *template, int suffix, int flags), (template, suffix, flags), suffix)
OPENS_TEMPORARY(mkostemps64, (char *template, int suffix, int flags), (template, suffix, flags), suffix)

/* ---- what has no name ---- */

OPENS(eventfd, (unsigned int count, int flags), (count, flags))
OPENS(signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags))
OPENS(timerfd_create, (clockid_t clock, int flags), (clock, flags))
OPENS(inotify_init, (void), ())
OPENS(inotify_init1, (int flags), (flags))
OPENS(fanotify_init, (unsigned int flags, unsigned int event_flags), (flags, event_flags))
OPENS(memfd_create, (const char *name, unsigned int flags), (name, flags))
OPENS(posix_openpt, (int flags), (flags))
OPENS(getpt, (void), ())

/* A program that asks for it by its name finds ours, also where the C library has none (before 2.36). */
XSHIM_EXPORT int pidfd_open(pid_t pid, unsigned int flags)
{
	return MADE(libc.pidfd_open ? libc.pidfd_open(pid, flags) : (int)libc.syscall(SYS_pidfd_open, pid, flags));
}

/* ---- two at once ---- */

static int noted_pair(int rc, const int *a, const int *b)
{
	if (!rc) {
		(void)xshim_privfd_note(*a);
		(void)xshim_privfd_note(*b);
	}
	return rc;
}

#define OPENS_PAIR(name, parameters, arguments, a, b)                                              \
	XSHIM_EXPORT int name parameters                                                           \
	{                                                                                          \
		return noted_pair(XSHIM_ONCE_MORE(libc.name arguments, -1, xshim_room_lacking()), a, b); \
	}

OPENS_PAIR(pipe, (int fds[2]), (fds), fds, fds + 1)
OPENS_PAIR(__pipe, (int fds[2]), (fds), fds, fds + 1)
OPENS_PAIR(pipe2, (int fds[2], int flags), (fds, flags), fds, fds + 1)
OPENS_PAIR(socketpair, (int domain, int type, int protocol, int fds[2]), (domain, type, protocol, fds), fds, fds + 1)
OPENS_PAIR(openpty, (int *leader, int *other, char *name, const struct termios *termp, const struct winsize *winp),
	   (leader, other, name, termp, winp), leader, other)

/* ---- streams and directories ---- */

FILE *xshim_opens_noted(FILE *f)
{
	if (f)
		(void)xshim_privfd_note(fileno_unlocked(f));
	return f;
}

#define OPENS_STREAM(name, parameters, arguments)                                                  \
	XSHIM_EXPORT FILE *name parameters                                                         \
	{                                                                                          \
		return xshim_opens_noted(XSHIM_ONCE_MORE(libc.name arguments, NULL, xshim_room_lacking()));    \
	}

OPENS_STREAM(fopen, (const char *path, const char *mode), (path, mode))
OPENS_STREAM(_IO_fopen, (const char *path, const char *mode), (path, mode))
OPENS_STREAM(fopen64, (const char *path, const char *mode), (path, mode))
OPENS_STREAM(tmpfile, (void), ())
OPENS_STREAM(tmpfile64, (void), ())

XSHIM_EXPORT DIR *opendir(const char *path)
{
	DIR *d = XSHIM_ONCE_MORE(libc.opendir(path), NULL, xshim_room_lacking());

	if (d)
		(void)xshim_privfd_note(dirfd(d));
	return d;
}
