/* SPDX-License-Identifier: MIT */
#include <xshim/spin.h>
#include "unit.h"

#define NEAR 20000u
#define WAITS 100000

static struct xshim_spin s;
static struct {
	uint64_t busy_ns, tries, longs;
	unsigned int in_vain, in_vain_most;	/* long ones in a row */
} spent;

static void setup(void)
{
	s = (struct xshim_spin){ 0 };
	memset(&spent, 0, sizeof(spent));
}

/* A wait for what comes after `busy` when looked for, after `asleep` (and a wake-up) when slept for. */
static enum xshim_spin_how wait_for(uint64_t busy, uint64_t asleep)
{
	enum xshim_spin_how how = xshim_spin_ask(&s);
	uint64_t limit = how == XSHIM_SPIN_LONG ? xshim_spin_far_ns(NEAR) : NEAR;

	if (how == XSHIM_SPIN_TIME)
		xshim_spin_slept(&s, asleep, NEAR);
	if (how <= XSHIM_SPIN_TIME)
		return how;
	xshim_spin_done(&s, how, busy < limit, false);
	spent.busy_ns += busy < limit ? busy : limit;
	spent.tries += how == XSHIM_SPIN_TRY;
	spent.longs += how == XSHIM_SPIN_LONG;
	if (how == XSHIM_SPIN_LONG && busy >= limit) {
		if (++spent.in_vain > spent.in_vain_most)
			spent.in_vain_most = spent.in_vain;
	} else {
		spent.in_vain = 0;
	}
	return how;
}

/* How many waits until the first long one. */
static int learn(uint64_t busy, uint64_t asleep)
{
	for (int i = 0; i < WAITS; i++)
		if (wait_for(busy, asleep) == XSHIM_SPIN_LONG)
			return i;
	return WAITS;
}

START_TEST(waits_that_end_within_a_far_one_are_learned)
{
	ck_assert_int_eq(learn(50000, 80000), XSHIM_SPIN_FIRST + XSHIM_SPIN_FIT);
	for (int i = 0; i < WAITS; i++)
		ck_assert_int_eq(wait_for(50000, 80000), XSHIM_SPIN_LONG);
}
END_TEST

static const struct {
	const char *what;
	uint64_t busy, asleep;
} never[] = {
	{ "a server that is asked each millisecond", 900000, 930000 },
	{ "a slow answer", 5000000, 5000000 },
	{ "a little longer than a far one", 101000, 101000 },
	{ "two ends that share a processor", UINT64_MAX, 2000 },
	{ "one that is told nothing of how long it took", UINT64_MAX, 0 },
};

START_TEST(other_waits_never_begin_with_a_long_one)
{
	for (int i = 0; i < WAITS; i++)
		(void)wait_for(never[_i].busy, never[_i].asleep);
	ck_assert_msg(spent.longs == 0, "%s: %llu", never[_i].what, (unsigned long long)spent.longs);
	/* 16, 128, 256, 512 and then each 1024th; and those behind that are timed */
	ck_assert_uint_ge(spent.tries, 90);
	ck_assert_uint_le(spent.tries, 110);
	ck_assert_uint_eq(spent.busy_ns, spent.tries * NEAR);
}
END_TEST

/* They share a processor, where nobody finds anything, but the answer takes long enough to be worth a try. */
START_TEST(long_ones_that_find_nothing_end_and_are_rare)
{
	for (int i = 0; i < WAITS; i++)
		(void)wait_for(UINT64_MAX, 50000);
	ck_assert_uint_eq(spent.in_vain_most, 1);
	ck_assert_uint_ge(spent.longs, 50);
	ck_assert_uint_le(spent.longs, 110);
	/* of the time the waits took */
	ck_assert_uint_lt(spent.busy_ns, WAITS * 50000ull / 200);
}
END_TEST

START_TEST(what_was_learned_ends_after_two_in_vain)
{
	(void)learn(50000, 80000);
	for (int i = 0; i < 100; i++)
		(void)wait_for(50000, 80000);
	spent.longs = 0;
	for (int i = 0; i < WAITS; i++)
		(void)wait_for(5000000, 5000000);
	ck_assert_uint_eq(spent.longs, 2);
}
END_TEST

START_TEST(one_in_vain_among_many_is_forgiven)
{
	(void)learn(50000, 80000);
	for (int i = 0; i < WAITS; i++)
		ck_assert_int_eq(i % 10 ? wait_for(50000, 80000) : wait_for(400000, 400000), XSHIM_SPIN_LONG);
}
END_TEST

START_TEST(those_that_fit_must_be_in_a_row)
{
	int timed = 0;

	for (int i = 0; i < WAITS; i++) {
		bool fits = timed % XSHIM_SPIN_FIT != XSHIM_SPIN_FIT - 1;

		timed = wait_for(50000, fits ? 80000 : 150000) == XSHIM_SPIN_TIME ? timed + 1 : 0;
	}
	ck_assert_uint_eq(spent.longs, 0);
}
END_TEST

START_TEST(one_that_took_longer_does_not_end_the_timing)
{
	int timed = 0;

	for (int i = 0; i < 200; i++)
		if (wait_for(50000, timed == 1 ? 150000 : 80000) == XSHIM_SPIN_TIME)
			timed++;
	ck_assert_int_eq(timed, 2 + XSHIM_SPIN_FIT);
	ck_assert_uint_gt(spent.longs, 0);
}
END_TEST

START_TEST(where_the_processor_was_lost_they_end_at_once_and_get_rare)
{
	int waits = 0;

	for (int i = 0; i < 6; i++) {
		(void)learn(50000, 80000);
		ck_assert_int_eq(xshim_spin_ask(&s), XSHIM_SPIN_LONG);
		xshim_spin_done(&s, XSHIM_SPIN_LONG, false, true);
		ck_assert_int_ne(xshim_spin_ask(&s), XSHIM_SPIN_LONG);
		waits = learn(50000, 80000);
		xshim_spin_done(&s, XSHIM_SPIN_LONG, false, true);
	}
	ck_assert_int_ge(waits, (int)(XSHIM_SPIN_RARELY << XSHIM_SPIN_MISSED) / 2);
}
END_TEST

START_TEST(near_ones_go_on_while_they_pay)
{
	for (int i = 0; i < WAITS; i++)
		(void)wait_for(1000, 30000);
	ck_assert_uint_eq(spent.tries, 1);
	ck_assert_uint_eq(spent.longs, 0);
	ck_assert_uint_eq(spent.busy_ns, (WAITS - XSHIM_SPIN_FIRST + 1) * 1000ull);
	/* 8, 4, 2, 1 */
	spent.busy_ns = 0;
	for (int i = 0; i < 60; i++)
		(void)wait_for(5000000, 5000000);
	ck_assert_uint_eq(spent.busy_ns, 4 * NEAR);
}
END_TEST

START_TEST(a_far_one_is_a_millisecond_at_most)
{
	ck_assert_uint_eq(xshim_spin_far_ns(1000), 5000);
	ck_assert_uint_eq(xshim_spin_far_ns(20000), 100000);
	ck_assert_uint_eq(xshim_spin_far_ns(300000), 1000000);
	ck_assert_uint_eq(xshim_spin_far_ns(1000000), 1000000);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("spin");
	TCase *tc = tcase_create("spin");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, waits_that_end_within_a_far_one_are_learned);
	tcase_add_loop_test(tc, other_waits_never_begin_with_a_long_one, 0, sizeof(never) / sizeof(never[0]));
	tcase_add_test(tc, long_ones_that_find_nothing_end_and_are_rare);
	tcase_add_test(tc, what_was_learned_ends_after_two_in_vain);
	tcase_add_test(tc, one_in_vain_among_many_is_forgiven);
	tcase_add_test(tc, those_that_fit_must_be_in_a_row);
	tcase_add_test(tc, one_that_took_longer_does_not_end_the_timing);
	tcase_add_test(tc, where_the_processor_was_lost_they_end_at_once_and_get_rare);
	tcase_add_test(tc, near_ones_go_on_while_they_pay);
	tcase_add_test(tc, a_far_one_is_a_millisecond_at_most);
	suite_add_tcase(suite, tc);
	return suite;
}

UNIT_MAIN(suite)
