/* SPDX-License-Identifier: MIT */
/*
 * xen_limits.c - gntalloc gives all programs of a guest together 1,024 pages, 15 connections with rings of 256 KiB. The pages
 * cannot be swapped, so it may not be raised without regard to the memory that is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "xen_guest.h"
#include "xshimd.h"

#define LIMIT "/sys/module/xen_gntalloc/parameters/limit"
#define PAGE 4096ull

static int read_limit(unsigned int *now)
{
	FILE *f = fopen(LIMIT, "re");
	int n;

	if (!f)
		return -errno;
	n = fscanf(f, "%u", now);
	fclose(f);
	return n == 1 ? 0 : -EPROTO;
}

static int write_limit(unsigned int pages)
{
	int fd = open(LIMIT, O_WRONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = dprintf(fd, "%u\n", pages) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

void xshimd_raise_gntalloc(const struct xshimd *d)
{
	const struct xshim_log *log = &d->journal.log;
	unsigned int want = d->opt.xen_gntalloc_limit, now = 0;
	unsigned long long eighth;
	struct sysinfo si;
	int rc;

	rc = read_limit(&now);
	if (rc < 0) {
		xshim_log(log, XSHIM_LOG_WARN, "%s: %s: without the module xen-gntalloc no program of this guest gets a ring "
			  "to another guest", LIMIT, strerror(-rc));
		return;
	}
	if (sysinfo(&si) == 0) {
		eighth = (unsigned long long)si.totalram * si.mem_unit / 8 / PAGE;
		if (want > eighth)
			want = (unsigned int)eighth;
	}
	if (!d->opt.xen_gntalloc_limit || want <= now) {
		xshim_log(log, XSHIM_LOG_INFO, "gntalloc limit=%u pages: left as it is", now);
		return;
	}
	rc = write_limit(want);
	if (rc < 0)
		xshim_log(log, XSHIM_LOG_WARN, "gntalloc limit=%u pages: cannot be raised to %u: %s", now, want, strerror(-rc));
	else
		xshim_log(log, XSHIM_LOG_INFO, "gntalloc limit=%u pages: raised to %u", now, want);
}
