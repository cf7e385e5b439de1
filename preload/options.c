/* SPDX-License-Identifier: MIT */
/* options.c - parse the XSHIM_* environment by the table in options.def. */
#include "options.h"
#include "libc.h"
#include "privfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct xshim_options xshim_opt = {
#define XSHIM_OPTION_NUM(field, name, def, min, max, unit, help) .field = (def),
#define XSHIM_OPTION_STR(field, name, def, help) .field = (def),
#include "options.def"
#undef XSHIM_OPTION_NUM
#undef XSHIM_OPTION_STR
};

struct xshim_log xshim_logger = { .fd = -1, .level = XSHIM_LOG_ERROR, .who = "xshim", .pid = true };

static void open_log(const char *spec)
{
	const char *colon = strchr(spec, ':');
	size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
	int level = xshim_log_level_from_name(spec, len);
	struct stat st;
	int fd;

	if (!level)
		return;
	if (colon && colon[1]) {
		fd = libc.open(colon + 1, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0)
			fd = xshim_privfd_move(fd);
	} else {
		fd = 2;
	}
	/* The file is remembered by identity: if the program re-uses the number, we fall silent. */
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	xshim_logger.dev = st.st_dev;
	xshim_logger.ino = st.st_ino;
	xshim_logger.level = level;
	xshim_logger.fd = fd;
}

static void read_num(const char *name, uint64_t *field, uint64_t def, uint64_t min, uint64_t max)
{
	const char *text = getenv(name);
	char *end;
	uint64_t v;
	int saved = errno;

	if (!text)
		return;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] < '0' || text[0] > '9' || v < min || v > max)
		xlog(WARN, "%s=%s: not a number from %llu to %llu; %llu is used", name, text,
		     (unsigned long long)min, (unsigned long long)max, (unsigned long long)def);
	else
		*field = v;
	errno = saved;
}

static void read_str(const char *name, char *field, size_t size)
{
	const char *text = getenv(name);

	if (!text || !*text)
		return;
	if (strlen(text) >= size)
		xlog(WARN, "%s: longer than %zu bytes; the default is used", name, size - 1);
	else
		strcpy(field, text);
}

static void power_of_two(const char *name, uint64_t *field, uint64_t def)
{
	if (!(*field & (*field - 1)))
		return;
	xlog(WARN, "%s=%llu: not a power of two; %llu is used", name, (unsigned long long)*field,
	     (unsigned long long)def);
	*field = def;
}

void xshim_options_read(void)
{
	const char *log = getenv("XSHIM_LOG");

	if (log && *log)
		open_log(log);
#define XSHIM_OPTION_NUM(field, name, def, min, max, unit, help)                                   \
	read_num(name, &xshim_opt.field, def, min, max);
#define XSHIM_OPTION_STR(field, name, def, help)                                                   \
	read_str(name, xshim_opt.field, sizeof(xshim_opt.field));
#include "options.def"
#undef XSHIM_OPTION_NUM
#undef XSHIM_OPTION_STR
	power_of_two("XSHIM_RING_SIZE", &xshim_opt.ring_size, 262144);
	power_of_two("XSHIM_XEN_RING_SIZE", &xshim_opt.xen_ring_size, 262144);
}
