/* SPDX-License-Identifier: MIT */
#include "headroom.h"
#include "sys.h"

#include <string.h>

#define PATH 1024

struct reader {
	int fd;
	size_t at, have;
	char buf[512];
};

/* How the two versions of cgroups call things. */
struct version {
	const char *under;		/* the mount */
	const char *limit, *used;
	const char *files[2];		/* of memory.stat: what can be taken back */
};
static const struct version v1 = { "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
				   { "total_inactive_file ", "total_active_file " } };
static const struct version v2 = { "", "memory.max", "memory.current", { "inactive_file ", "active_file " } };

static int next_char(struct reader *r)
{
	ssize_t n;

	if (r->at == r->have) {
		n = sys_read(r->fd, r->buf, sizeof(r->buf));
		if (n <= 0)
			return -1;
		r->at = 0;
		r->have = (size_t)n;
	}
	return (unsigned char)r->buf[r->at++];
}

/* Without its end; false: no more, or cut off. One that does not fit is cut, and read to its end. */
static bool next_line(struct reader *r, char *line, size_t room, bool *cut)
{
	size_t n = 0;
	int c;

	*cut = false;
	while ((c = next_char(r)) >= 0 && c != '\n') {
		if (n + 1 < room)
			line[n++] = (char)c;
		else
			*cut = true;
	}
	line[n] = '\0';
	return c == '\n';
}

static uint64_t number(const char *s)
{
	uint64_t n = 0;

	if (*s < '0' || *s > '9')
		return UINT64_MAX;	/* "max" */
	while (*s >= '0' && *s <= '9' && n < UINT64_MAX / 20)
		n = n * 10 + (uint64_t)(*s++ - '0');
	return n;
}

/* path is a directory that ends at `end`, with room for a name behind it. */
static bool open_in(struct reader *r, char *path, size_t end, const char *name)
{
	if (end + 1 + strlen(name) >= PATH)
		return false;
	path[end] = '/';
	strcpy(path + end + 1, name);
	r->at = r->have = 0;
	r->fd = sys_open(path, O_RDONLY | O_CLOEXEC);
	path[end] = '\0';
	return r->fd >= 0;
}

static uint64_t read_number(char *path, size_t end, const char *name)
{
	uint64_t n = UINT64_MAX;
	struct reader r;
	char line[40];
	bool cut;

	if (!open_in(&r, path, end, name))
		return n;
	if (next_line(&r, line, sizeof(line), &cut))
		n = number(line);
	sys_close(r.fd);
	return n;
}

static uint64_t reclaimable(const struct version *v, char *path, size_t end)
{
	uint64_t sum = 0;
	struct reader r;
	char line[80];
	bool cut;

	if (!open_in(&r, path, end, "memory.stat"))
		return 0;
	while (next_line(&r, line, sizeof(line), &cut)) {
		for (int i = 0; i < 2; i++) {
			size_t n = strlen(v->files[i]);

			if (!cut && !strncmp(line, v->files[i], n) && number(line + n) < UINT64_MAX)
				sum += number(line + n);
		}
	}
	sys_close(r.fd);
	return sum;
}

/* What this one leaves, whatever those above it do. */
static uint64_t left_in(const struct version *v, char *path, size_t end, uint64_t need)
{
	uint64_t limit = read_number(path, end, v->limit), used, left;

	if (limit == UINT64_MAX)
		return limit;
	used = read_number(path, end, v->used);
	left = used < limit ? limit - used : 0;
	return left < need ? left + reclaimable(v, path, end) : left;
}

/* The least of a cgroup and those above it. Those that the mount does not show, as in a container, are passed over. */
static uint64_t left_up(const struct version *v, const char *mount, const char *cgroup, uint64_t need)
{
	size_t base = strlen(mount) + strlen(v->under), end = base + strlen(cgroup);
	uint64_t least = UINT64_MAX, left;
	char path[PATH];

	if (end >= sizeof(path))
		return least;
	strcpy(path, mount);
	strcat(path, v->under);
	strcat(path, cgroup);
	for (;;) {
		while (end > base && path[end - 1] == '/')
			end--;
		left = left_in(v, path, end, need);
		if (left < least)
			least = left;
		if (end == base)
			return least;
		while (end > base && path[end - 1] != '/')
			end--;
	}
}

/* In "cpu,memory", say. */
static bool has_memory(const char *controllers, size_t len)
{
	static const char word[] = "memory";
	size_t n = sizeof(word) - 1;

	for (size_t at = 0; at + n <= len; at++) {
		if (!memcmp(controllers + at, word, n) && (!at || controllers[at - 1] == ',') &&
		    (at + n == len || controllers[at + n] == ','))
			return true;
	}
	return false;
}

/* A line is "number:controllers:path"; the second version of cgroups has number 0 and no controllers. */
static uint64_t left_by(const char *line, const char *mount, uint64_t need)
{
	const char *controllers = strchr(line, ':');
	const char *cgroup = controllers ? strchr(++controllers, ':') : NULL;

	if (!cgroup || cgroup[1] != '/')
		return UINT64_MAX;
	if (cgroup == controllers)
		return line[0] == '0' ? left_up(&v2, mount, cgroup + 1, need) : UINT64_MAX;
	return has_memory(controllers, (size_t)(cgroup - controllers)) ? left_up(&v1, mount, cgroup + 1, need) : UINT64_MAX;
}

uint64_t headroom_bytes(const char *list, const char *mount, uint64_t need)
{
	uint64_t least = UINT64_MAX, left;
	struct reader r = { .fd = sys_open(list, O_RDONLY | O_CLOEXEC) };
	char line[PATH];
	bool cut;

	if (r.fd < 0)
		return least;
	while (next_line(&r, line, sizeof(line), &cut)) {
		left = cut ? UINT64_MAX : left_by(line, mount, need);
		if (left < least)
			least = left;
	}
	sys_close(r.fd);
	return least;
}
