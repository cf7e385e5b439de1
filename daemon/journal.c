/* SPDX-License-Identifier: MIT */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int xshimd_journal_due(struct xshimd_journal *j, const char *cause, uid_t uid, uint64_t now_ms,
		       uint32_t *left_out)
{
	struct xshimd_cause *slot = &j->causes[0];

	*left_out = 0;
	for (size_t i = 0; i < XSHIMD_JOURNAL_CAUSES; i++) {
		struct xshimd_cause *c = &j->causes[i];

		if (!c->cause || c->said_ms < slot->said_ms)
			slot = c;
		if (!c->cause)
			break;
		if (c->uid == uid && !strcmp(c->cause, cause)) {
			if (now_ms - c->said_ms < XSHIMD_JOURNAL_MS) {
				c->left_out++;
				return 0;
			}
			*left_out = c->left_out;
			slot = c;
			break;
		}
	}
	/* The table full of causes that are all recent: the oldest makes room, a line too many is no harm. */
	slot->cause = cause;
	slot->uid = uid;
	slot->left_out = 0;
	slot->said_ms = now_ms;
	return 1;
}

int xshimd_journal_open(struct xshimd_journal *j)
{
	struct stat st;
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (fd <= 2 && fcntl(fd, F_SETFD, 0) < 0)
			return -errno;
	} while (fd <= 2);
	close(fd);
	/*
	 * A description of our own, as O_NONBLOCK on the shared one would change it for the shell and for
	 * whoever else holds the terminal or the pipe. A socket cannot be opened anew; the one to the journal
	 * is the service's alone.
	 */
	fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		fd = 2;
		if (fstat(2, &st) == 0 && S_ISSOCK(st.st_mode))
			fcntl(2, F_SETFL, fcntl(2, F_GETFL) | O_NONBLOCK);
	}
	j->log.fd = fd;
	return 0;
}
