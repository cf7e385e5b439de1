/* SPDX-License-Identifier: MIT */
/*
 * unit.h - what the Check suites share: running a suite, deadlines, children, lists of descriptors.
 *
 * Included once per test program. A suite's main() is UNIT_MAIN(suite).
 */
#ifndef XSHIM_TESTS_UNIT_H
#define XSHIM_TESTS_UNIT_H
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNIT_MAIN(suite)						\
	int main(void)							\
	{								\
		SRunner *runner = srunner_create(suite());		\
		int failed;						\
									\
		srunner_run_all(runner, CK_ENV);			\
		failed = srunner_ntests_failed(runner);			\
		srunner_free(runner);					\
		return failed ? EXIT_FAILURE : EXIT_SUCCESS;		\
	}

static inline uint64_t unit_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void unit_nap(void)
{
	const struct timespec t = { .tv_nsec = 1000000 };

	nanosleep(&t, NULL);
}

/* Poll a condition for at most 20 s. */
#define unit_wait_for(condition)						\
	do {									\
		uint64_t unit_limit = unit_now_ms() + 20000;			\
		while (!(condition)) {						\
			ck_assert_msg(unit_now_ms() < unit_limit, "never came: %s", #condition); \
			unit_nap();						\
		}								\
	} while (0)

/* Open descriptors of this process, not counting the one used to count. */
static inline int unit_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3;		/* ".", "..", the directory */
}

/* Seeded numbers, the same in each run. */
static inline uint64_t unit_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

#endif
