/* SPDX-License-Identifier: MIT */
/*
 * privfd.h - the descriptors that the shim opens for itself.
 *
 * They live at the top of the descriptor range (below the soft limit, at most 65536, so that the kernel's
 * table stays small), taken downwards, so that the program gets the lowest free numbers as ever. A bitmap knows which are
 * ours; close, close_range, closefrom, dup2 and fcntl leave those alone (EBADF, as if nothing were
 * there).
 *
 * How many. The program gets lowest numbers, so the highest it was given tells how many it has needed at once, as far as they were given by
 * calls of ours: what makes a socket (sock.c), an epoll set, and files, pipes, streams and the like (opens.c). What comes otherwise, as with a
 * message (SCM_RIGHTS) or for a moment inside the C library, shows in the next of these. With that and ours an eighth of what
 * RLIMIT_NOFILE allows stays free, and ours are at most three quarters of it; beyond that a connection stays on TCP. When half of the eighth
 * is used up, or one of these calls finds no number, connections leave their rings until there is an eighth again (room.c). So the program gets
 * as many numbers as without us, but for a few; not so one that between two of these calls gets half of the eighth otherwise.
 *
 * Threads: any, lock-free. Fork: inherited, both copies are right. Exec: all are close-on-exec.
 */
#ifndef XSHIM_PRIVFD_H
#define XSHIM_PRIVFD_H
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define XSHIM_PRIVFD_MAX 65536

extern _Atomic uint64_t xshim_privfd_bits[XSHIM_PRIVFD_MAX / 64];

static inline bool xshim_privfd_is(int fd)
{
	if (fd < 0 || fd >= XSHIM_PRIVFD_MAX)
		return false;
	return atomic_load_explicit(&xshim_privfd_bits[fd / 64], memory_order_relaxed) >>
		       (fd % 64) & 1;
}

/* A private number for what fd names, which stays open: at no time is it at one that the program could get. -EMFILE as below. */
int xshim_privfd_dup(int fd);
/* Move fd to a private number and close it; -EMFILE when there is no room (fd is closed then too). */
int xshim_privfd_move(int fd);
/* Few are taken: one that is only useful may be, too. */
bool xshim_privfd_plenty(void);
/* So many more may be taken. */
bool xshim_privfd_room(int more);

extern _Atomic int xshim_privfd_given, xshim_privfd_near;
/* room.c: the program comes near to ours: some go / none was free for it: true: some have gone, the call is to be made once more. */
void xshim_room_made(void);
bool xshim_room_wanted(void);
/* Likewise, for a call that may have failed for another reason, too: false if it is not for want of a number. */
bool xshim_room_lacking(void);
/* See to it that one number is free, if that can be. errno is kept. */
void xshim_room_for_one(void);

/* The program was given fd, the lowest that was free, or -1: as it is. errno is kept. */
static inline int xshim_privfd_note(int fd)
{
	if (fd >= atomic_load_explicit(&xshim_privfd_given, memory_order_relaxed)) {
		atomic_store_explicit(&xshim_privfd_given, fd + 1, memory_order_relaxed);
		if (fd >= atomic_load_explicit(&xshim_privfd_near, memory_order_relaxed))
			xshim_room_made();
	}
	return fd;
}
/* opens.c: the same of a stream's; NULL: there is none. */
FILE *xshim_opens_noted(FILE *f);

/* It has come near to ours, and no room has been made since. */
static inline bool xshim_privfd_few(void)
{
	return atomic_load_explicit(&xshim_privfd_given, memory_order_relaxed) >
	       atomic_load_explicit(&xshim_privfd_near, memory_order_relaxed);
}

/*
 * A call that makes a descriptor; once more, if it failed because there is no number, and ours have gone. After success errno is as before it.
 */
#define XSHIM_ONCE_MORE(call, failed, wanted)                                                      \
	__extension__({                                                                            \
		int before_ = errno;                                                               \
		__auto_type made_ = call;                                                          \
                                                                                                   \
		if (made_ == (failed) && errno == EMFILE && (wanted)) {                           \
			made_ = call;                                                              \
			if (made_ != (failed))                                                     \
				errno = before_;                                                   \
		}                                                                                  \
		made_;                                                                             \
	})
#define XSHIM_NUMBER(call) XSHIM_ONCE_MORE(call, -1, xshim_room_wanted())

/* The program has used up what there was: false: not because of ours, there are none. */
bool xshim_privfd_none(void);
/* So many of ours are too many. */
int xshim_privfd_excess(void);
/* As it is: keep the number, but it is ours from now on (found after exec). */
void xshim_privfd_adopt(int fd);
void xshim_privfd_close(int fd);	/* -1 is fine */
/* Highest private descriptor below `below`, or -1. */
int xshim_privfd_prev(int below);

#endif
