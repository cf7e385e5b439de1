/* SPDX-License-Identifier: MIT */
/*
 * options.c - the configuration file: key = value lines, each checked on its own, every mistake named.
 *
 * inih splits the lines. What it would let pass (NUL bytes, over-long lines that it cuts in two, a second
 * value for a key) is found here, since a limit that silently is not what was written is worse than a
 * daemon that does not start.
 */
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "role.h"

#define LINE_MAX_BYTES 180	/* below the 200 at which inih cuts */

enum kind { NUMBER, POWER, SOCKET, LEVEL, CROSS, ROLE, TRUST };

struct key {
	const char *name;
	enum kind kind;
	size_t offset;
	uint32_t def, min, max;
	const char *expected;
};

#define OFF(field) offsetof(struct xshimd_options, field)
#define NUM(field, def, min, max, expected) { #field, NUMBER, OFF(field), def, min, max, expected }

static const struct key keys[] = {
	{ "socket", SOCKET, OFF(socket), 0, 0, 0, "an absolute path of at most 107 bytes" },
	{ "log", LEVEL, OFF(log_level), XSHIM_LOG_INFO, 0, 0, "one of error warn info debug" },
	{ "role", ROLE, OFF(role), XSHIMD_ROLE_AUTO, 0, 0, "one of local guest host auto" },
	{ "cross_netns", CROSS, OFF(cross_netns), XSHIMD_CROSS_OWNED, 0, 0, "one of off owned any" },
	NUM(max_connections, 4096, 1, 4096, "a number from 1 to 4096"),
	NUM(max_offers, 4096, 1, 16384, "a number from 1 to 16384"),
	NUM(max_endpoints, 1024, 1, 1048576, "a number from 1 to 1048576"),
	NUM(max_arenas, 4096, 1, 16384, "a number from 1 to 16384"),
	NUM(max_rings, 16384, 0, 16777216, "a number from 0 to 16777216"),
	{ "max_ring_size", POWER, OFF(max_ring_size), 16777216, 4096, 16777216,
	  "a power of two from 4096 to 16777216" },
	NUM(hello_timeout, 5, 1, 3600, "seconds from 1 to 3600"),
	NUM(offer_timeout, 60, 1, 86400, "seconds from 1 to 86400"),
	NUM(probe_timeout, 2, 1, 60, "seconds from 1 to 60"),
	NUM(probe_cache, 30, 0, 86400, "seconds from 0 to 86400"),
	NUM(probe_retry, 5, 0, 86400, "seconds from 0 to 86400"),
	{ "xen_trust", TRUST, OFF(xen_trust), XSHIMD_TRUST_CLAIM, 0, 0, "claim or vif" },
	NUM(xen_gntalloc_limit, 16384, 0, 1048576, "a number of pages from 0 to 1048576"),
	NUM(xen_drain_timeout, 10, 1, 300, "seconds from 1 to 300"),
	NUM(xen_drain_hold, 600, 1, 86400, "seconds from 1 to 86400"),
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

struct parse {
	const char *path;
	const struct xshim_log *log;
	struct xshimd_options *o;
	unsigned int fixed;
	const char *text;
	size_t len, at;
	unsigned int line;
	unsigned int errors;
	unsigned int last_error;	/* line of the last one: one mistake a line is told */
	unsigned int seen[KEYS];	/* line where the key stood first */
};

static uint32_t *number_at(struct xshimd_options *o, const struct key *k)
{
	return (uint32_t *)((char *)o + k->offset);
}

void xshimd_options_default(struct xshimd_options *o)
{
	memset(o, 0, sizeof(*o));
	strcpy(o->socket, "/run/xshim/xshimd.sock");
	for (size_t i = 0; i < KEYS; i++)
		if (keys[i].kind != SOCKET)
			*number_at(o, &keys[i]) = keys[i].def;
}

/* Strict: digits and nothing else, no sign, no unit, no leading zero that could mean octal. */
static bool parse_number(const char *s, uint64_t *out)
{
	uint64_t n = 0;

	if (!*s || (s[0] == '0' && s[1]) || strlen(s) > 18)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		n = n * 10 + (uint64_t)(*s - '0');
	}
	*out = n;
	return true;
}

static bool take_value(struct parse *p, const struct key *k, const char *value)
{
	uint32_t role;
	uint64_t n;
	int level;

	switch (k->kind) {
	case NUMBER:
	case POWER:
		if (!parse_number(value, &n) || n < k->min || n > k->max ||
		    (k->kind == POWER && (n & (n - 1))))
			return false;
		*number_at(p->o, k) = (uint32_t)n;
		return true;
	case SOCKET:
		if (value[0] != '/' || strlen(value) >= sizeof(p->o->socket))
			return false;
		if (!(p->fixed & XSHIMD_FIXED_SOCKET))
			strcpy(p->o->socket, value);
		return true;
	case LEVEL:
		level = xshim_log_level_from_name(value, strlen(value));
		if (!level)
			return false;
		if (!(p->fixed & XSHIMD_FIXED_LOG))
			p->o->log_level = (uint32_t)level;
		return true;
	case CROSS:
		if (!strcmp(value, "off"))
			p->o->cross_netns = XSHIMD_CROSS_OFF;
		else if (!strcmp(value, "owned"))
			p->o->cross_netns = XSHIMD_CROSS_OWNED;
		else if (!strcmp(value, "any"))
			p->o->cross_netns = XSHIMD_CROSS_ANY;
		else
			return false;
		return true;
	case ROLE:
		if (xshimd_role_parse(value, &role) < 0)
			return false;
		if (!(p->fixed & XSHIMD_FIXED_ROLE))
			p->o->role = role;
		return true;
	case TRUST:
		p->o->xen_trust = strcmp(value, "vif") ? XSHIMD_TRUST_CLAIM : XSHIMD_TRUST_VIF;
		return !strcmp(value, "vif") || !strcmp(value, "claim");
	}
	return false;
}

#define COMPLAIN(p, fmt, ...)									\
	do {											\
		if ((p)->last_error != (p)->line || !(p)->line)					\
			xshim_log((p)->log, XSHIM_LOG_ERROR, "%s:%u: " fmt, (p)->path,		\
				  (p)->line, __VA_ARGS__);					\
		(p)->last_error = (p)->line;							\
		(p)->errors++;									\
	} while (0)

static int on_value(void *arg, const char *section, const char *name, const char *value)
{
	struct parse *p = arg;

	if (*section && strcmp(section, "xshimd")) {
		COMPLAIN(p, "[%s]: unknown section; the only one is [xshimd]", section);
		return 1;
	}
	for (size_t i = 0; i < KEYS; i++) {
		if (strcmp(keys[i].name, name))
			continue;
		if (p->seen[i]) {
			COMPLAIN(p, "%s=%s: given before, in line %u", name, value, p->seen[i]);
			return 1;
		}
		p->seen[i] = p->line;
		if (!take_value(p, &keys[i], value))
			COMPLAIN(p, "%s=%s: %s", name, value, keys[i].expected);
		return 1;
	}
	COMPLAIN(p, "%s=%s: unknown key", name, value);
	return 1;
}

/* Hands inih one line at a time and keeps count, as its handler is not told where it is. */
static char *next_line(char *buf, int size, void *arg)
{
	struct parse *p = arg;
	const char *nl;
	size_t n;

	while (p->at < p->len) {
		nl = memchr(p->text + p->at, '\n', p->len - p->at);
		n = nl ? (size_t)(nl - p->text) + 1 - p->at : p->len - p->at;
		p->line++;
		if (memchr(p->text + p->at, '\0', n)) {
			COMPLAIN(p, "a NUL byte: %s", "this is not a text file");
		} else if (n > LINE_MAX_BYTES || n >= (size_t)size) {
			COMPLAIN(p, "line of %zu bytes: at most %d", n, LINE_MAX_BYTES);
		} else {
			memcpy(buf, p->text + p->at, n);
			buf[n] = '\0';
			p->at += n;
			return buf;
		}
		p->at += n;
	}
	return NULL;
}

/* The whole file into *text, or a line in the log. -ENOENT is left to the caller. */
static int load(const char *path, const struct xshim_log *log, char **text, size_t *len)
{
	const char *why = NULL;
	struct stat st;
	ssize_t n;
	int fd, rc;

	/* O_NONBLOCK: a FIFO put in its place must not hang the start. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	*text = NULL;
	rc = -EINVAL;
	if (fstat(fd, &st) < 0)
		why = strerror(errno);
	else if (!S_ISREG(st.st_mode))
		why = "not a regular file";
	else if (st.st_mode & S_IWOTH)
		why = "everybody may write it (mode o+w)";
	else if (st.st_size > XSHIMD_CONFIG_MAX)
		why = "longer than 65536 bytes";
	if (why)
		goto out;
	*text = malloc(XSHIMD_CONFIG_MAX + 1);
	if (!*text) {
		why = strerror(ENOMEM);
		goto out;
	}
	for (*len = 0; *len <= XSHIMD_CONFIG_MAX; *len += (size_t)n) {
		n = read(fd, *text + *len, XSHIMD_CONFIG_MAX + 1 - *len);
		if (n < 0) {
			why = strerror(errno);
			goto out;
		}
		if (n == 0)
			break;
	}
	if (*len > XSHIMD_CONFIG_MAX)
		why = "longer than 65536 bytes";
	else
		rc = 0;
out:
	if (rc < 0) {
		xshim_log(log, XSHIM_LOG_ERROR, "%s: %s", path, why);
		free(*text);
	}
	close(fd);
	return rc;
}

int xshimd_options_read(struct xshimd_options *o, const char *path, bool must_exist, unsigned int fixed,
			const struct xshim_log *log)
{
	struct xshimd_options copy = *o;
	struct parse p = { .path = path, .log = log, .o = &copy, .fixed = fixed };
	char *text = NULL;
	int rc;

	rc = load(path, log, &text, &p.len);
	if (rc == -EINVAL)
		return rc;
	if (rc < 0) {
		if (rc == -ENOENT && !must_exist)
			return 0;
		xshim_log(log, XSHIM_LOG_ERROR, "%s: %s", path, strerror(-rc));
		return -EINVAL;
	}
	p.text = text;
	rc = ini_parse_stream(next_line, &p, on_value, &p);
	if (rc > 0) {
		/* inih counts the lines it was given; ours differ when some were refused: name the text's own */
		p.line = (unsigned int)rc;
		if (!p.errors)
			COMPLAIN(&p, "%s", "not of the form key = value");
	}
	free(text);
	if (rc < 0) {
		xshim_log(log, XSHIM_LOG_ERROR, "%s: %s", path, strerror(ENOMEM));
		return -EINVAL;
	}
	if (p.errors)
		return -EINVAL;
	*o = copy;
	return 0;
}
