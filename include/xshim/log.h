/* SPDX-License-Identifier: MIT */
/*
 * log.h - one line to a descriptor, by write(2) alone.
 *
 * Threads: any after xshim_log_open(). Signals: xshim_log() is async-signal-safe for %s %d %u %x %llu
 * %zu %% %c only (its formatter is its own). It never allocates, and keeps errno.
 * Fork: the child goes on writing to the same file.
 */
#ifndef XSHIM_LOG_H
#define XSHIM_LOG_H
#include <stdbool.h>

enum xshim_log_level {
	XSHIM_LOG_ERROR = 1,
	XSHIM_LOG_WARN,
	XSHIM_LOG_INFO,
	XSHIM_LOG_DEBUG,
};

struct xshim_log {
	int fd;				/* -1: silent */
	enum xshim_log_level level;	/* this and more urgent ones are written */
	const char *who;		/* start of each line */
	bool pid;			/* and then [PID], where several processes write to one file */
	unsigned long long dev, ino;	/* the file we opened; checked before each write, 0: no check */
};

/* "error", "warn", "info", "debug" -> level; 0 if it is none of them. */
int xshim_log_level_from_name(const char *name, unsigned long len);

__attribute__((format(printf, 3, 4)))
void xshim_log(const struct xshim_log *log, enum xshim_log_level level, const char *fmt, ...);

#endif
