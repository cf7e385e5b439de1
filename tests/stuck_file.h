/* SPDX-License-Identifier: MIT */
/*
 * stuck_file.h - a file whose file system never answers: what a user can mount, and pass to others.
 *
 * The file system is a process of its own, which speaks the kernel's protocol over /dev/fuse. It ends with the process that opened the
 * file, at the latest, and with it the kernel ends every call that waits for it.
 */
#ifndef XSHIM_TESTS_STUCK_FILE_H
#define XSHIM_TESTS_STUCK_FILE_H
#include <sys/types.h>

struct stuck_file {
	int fd;
	pid_t server;
	int until;
	_Atomic int *stuck;
};

/* Why it cannot be had here, NULL: it can. */
const char *stuck_file_why_not(void);
/* dir: for the mount, which is gone again when it returns. */
void stuck_file_open(struct stuck_file *f, const char *dir);
/* From here on nothing that is asked of it is answered: fstat, close. */
void stuck_file_stop(struct stuck_file *f);
/* Ends the file system; the descriptor is the caller's. */
void stuck_file_end(struct stuck_file *f);

#endif
