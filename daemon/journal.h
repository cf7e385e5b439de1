/* SPDX-License-Identifier: MIT */
/*
 * journal.h - log lines that a client can cause, held down to one in ten seconds for each cause.
 *
 * A cause is a static text together with a user: nobody can fill the log, and nobody's flood hides what
 * another user does. The next line for a cause says how many were left out.
 */
#ifndef XSHIMD_JOURNAL_H
#define XSHIMD_JOURNAL_H
#include <stdarg.h>
#include <stdint.h>
#include <sys/types.h>
#include <xshim/log.h>

#define XSHIMD_JOURNAL_CAUSES 512
#define XSHIMD_JOURNAL_MS 10000

struct xshimd_cause {
	const char *cause;	/* static; compared by text */
	uid_t uid;
	uint32_t left_out;
	uint64_t said_ms;
};

struct xshimd_journal {
	struct xshim_log log;
	struct xshimd_cause causes[XSHIMD_JOURNAL_CAUSES];
};

/* True if a line for this cause is due; *left_out is the number of lines withheld since the last one. */
int xshimd_journal_due(struct xshimd_journal *j, const char *cause, uid_t uid, uint64_t now_ms,
		       uint32_t *left_out);

/*
 * A descriptor for log lines that never blocks, made from standard error: a log reader that has stopped must not
 * stop the daemon. Also makes sure that 0, 1 and 2 are open, so that no socket gets these numbers.
 */
int xshimd_journal_open(struct xshimd_journal *j);

#endif
