/* SPDX-License-Identifier: MIT */
/*
 * F34: what memory cgroups leave, read from trees as both versions of them and containers have it. That such a limit kills nobody is
 * seen in tests/preload_memory.sh, with a real one.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "../src/headroom.h"
#include "unit.h"

#define MIB ((uint64_t)1 << 20)
#define NEED (2 * MIB)

static char base[] = "/tmp/xshim-headroom-XXXXXX";
static char dir[60];		/* of one test, below base */

/* In the parent, so that it goes whatever becomes of a test. */
static void make_base(void)
{
	ck_assert_ptr_nonnull(mkdtemp(base));
}

static void remove_base(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf %s", base);
	ck_assert_int_eq(system(command), 0);
}

static void make_dir(void)
{
	snprintf(dir, sizeof(dir), "%s/%d", base, (int)getpid());
	ck_assert_int_eq(mkdir(dir, 0755), 0);
}

/* name: with its directories, below dir */
static void put(const char *name, const char *text)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	for (char *p = path + strlen(dir) + 1; *p; p++) {
		if (*p == '/') {
			*p = '\0';
			mkdir(path, 0755);
			*p = '/';
		}
	}
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

struct tree {
	const char *list;		/* of cgroups */
	const char *files[12];		/* name, text, name, text */
	uint64_t left;
};

static const struct tree trees[] = {
	/* no limit anywhere; no cgroups at all; lines that are none */
	{ "0::/a/b\n", { "m/a/b/memory.max", "max\n", "m/a/memory.max", "max\n" }, UINT64_MAX },
	{ "", { "m/memory.max", "1\n" }, UINT64_MAX },
	{ "nonsense\n0:\n0::relative\n::\n", { "m/memory.max", "1\n", "m/memory.current", "1\n" }, UINT64_MAX },
	/* its own limit, one above it, the tighter of two; nothing left, less than nothing */
	{ "0::/a/b\n", { "m/a/b/memory.max", "8388608\n", "m/a/b/memory.current", "3145728\n" }, 5 * MIB },
	{ "0::/a/b\n", { "m/a/b/memory.max", "max\n", "m/a/memory.max", "8388608\n", "m/a/memory.current", "8388607\n" }, 1 },
	{ "0::/a/b\n", { "m/a/b/memory.max", "4194304\n", "m/a/b/memory.current", "3145728\n",
			 "m/a/memory.max", "8388608\n", "m/a/memory.current", "6291456\n" }, MIB },
	{ "0::/a\n", { "m/a/memory.max", "8388608\n", "m/a/memory.current", "8388608\n" }, 0 },
	{ "0::/a\n", { "m/a/memory.max", "8388608\n", "m/a/memory.current", "9388608\n" }, 0 },
	{ "0::/a\n", { "m/a/memory.max", "0\n", "m/a/memory.current", "4096\n" }, 0 },
	/* files are taken back, whatever else has such a name; not asked for where enough is left */
	{ "0::/a\n", { "m/a/memory.max", "8388608\n", "m/a/memory.current", "7340032\n",
		       "m/a/memory.stat", "anon 1\nfile 9999999\ninactive_anon 7\ninactive_file 2097152\nactive_file 1048576\n" }, 4 * MIB },
	{ "0::/a\n", { "m/a/memory.max", "8388608\n", "m/a/memory.current", "3145728\n",
		       "m/a/memory.stat", "inactive_file 2097152\n" }, 5 * MIB },
	/* in a container its own cgroup is the root that it sees; or the mount shows less than the list names */
	{ "0::/\n", { "m/memory.max", "8388608\n", "m/memory.current", "7340032\n" }, MIB },
	{ "4:memory:/docker/0123\n", { "m/memory/memory.limit_in_bytes", "8388608\n", "m/memory/memory.usage_in_bytes", "7340032\n" }, MIB },
	/* the first version: which hierarchy it is; no limit is a large number; its names for files */
	{ "9:name=systemd:/x\n5:cpu,memory,pids:/a\n3:memoryless:/z\n0::/\n",
	  { "m/memory/a/memory.limit_in_bytes", "8388608\n", "m/memory/a/memory.usage_in_bytes", "7340032\n",
	    "m/memory/z/memory.limit_in_bytes", "1\n", "m/memory/x/memory.limit_in_bytes", "1\n" }, MIB },
	{ "5:memory:/a\n", { "m/memory/a/memory.limit_in_bytes", "8388608\n", "m/memory/a/memory.usage_in_bytes", "8388608\n",
			     "m/memory/a/memory.stat", "active_file 5\ntotal_inactive_file 1048576\ntotal_active_file 1048576\n" }, 2 * MIB },
};

START_TEST(the_tightest_cgroup_counts)
{
	const struct tree *t = &trees[_i];
	char list[100], mount[100];

	put("list", t->list);
	put("m/x", "");
	for (int i = 0; t->files[i]; i += 2)
		put(t->files[i], t->files[i + 1]);
	snprintf(list, sizeof(list), "%s/list", dir);
	snprintf(mount, sizeof(mount), "%s/m", dir);
	ck_assert_uint_eq(headroom_bytes(list, mount, NEED), t->left);
}
END_TEST

START_TEST(without_a_limit_it_is_a_large_number)
{
	put("l", "5:memory:/a\n");
	put("m/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
	put("m/memory/a/memory.usage_in_bytes", "8388608\n");
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_uint_gt(headroom_bytes("l", "m", NEED), UINT64_MAX / 4);
}
END_TEST

START_TEST(what_cannot_be_read_is_no_limit_and_leaves_nothing_open)
{
	char text[3000];
	int before = unit_open_fds();

	ck_assert_uint_eq(headroom_bytes("/nonexistent", "/sys/fs/cgroup", NEED), UINT64_MAX);
	ck_assert_int_eq(chdir(dir), 0);
	/* a path that does not fit, among others that do */
	memset(text, 'x', sizeof(text));
	memcpy(text, "0::/", 4);
	strcpy(text + sizeof(text) - 20, "\n5:memory:/a\n");
	put("l", text);
	put("m/memory/a/memory.limit_in_bytes", "8388608\n");
	put("m/memory/a/memory.usage_in_bytes", "8388607\n");
	errno = 77;
	ck_assert_uint_eq(headroom_bytes("l", "m", NEED), 1);
	ck_assert_uint_eq(headroom_bytes("l", text, NEED), UINT64_MAX);
	ck_assert_int_eq(errno, 77);
	ck_assert_int_eq(unit_open_fds(), before);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("headroom");
	TCase *t = tcase_create("cgroups");

	tcase_add_unchecked_fixture(t, make_base, remove_base);
	tcase_add_checked_fixture(t, make_dir, NULL);
	tcase_add_loop_test(t, the_tightest_cgroup_counts, 0, sizeof(trees) / sizeof(trees[0]));
	tcase_add_test(t, without_a_limit_it_is_a_large_number);
	tcase_add_test(t, what_cannot_be_read_is_no_limit_and_leaves_nothing_open);
	suite_add_tcase(s, t);
	return s;
}

UNIT_MAIN(suite)
