/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdio.h>
#include <xshim/arena.h>
#include <xshim/reason.h>
#include "unit.h"

static const struct {
	uint32_t number;
	const char *name;
} rows[] = {
#define XSHIM_REASON(num, sym, name, text) { num, name },
#include <xshim/reasons.def>
#undef XSHIM_REASON
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* Numbers are stable: rows go at the end and none is left out. */
START_TEST(rows_are_numbered_without_gaps)
{
	ck_assert_uint_eq(ROWS, XSHIM_R_COUNT);
	for (size_t i = 0; i < ROWS; i++)
		ck_assert_uint_eq(rows[i].number, i);
}
END_TEST

/* A released number must not change its meaning: a few that others rely on. */
START_TEST(known_numbers_keep_their_names)
{
	ck_assert_str_eq(xshim_reason_name(0), "ring");
	ck_assert_str_eq(xshim_reason_name(4), "not-coresident");
	ck_assert_str_eq(xshim_reason_name(10), "quota");
	ck_assert_str_eq(xshim_reason_name(26), "corrupt");
	ck_assert_str_eq(xshim_reason_name(35), "role");
}
END_TEST

START_TEST(names_are_unique_and_found_again)
{
	for (size_t i = 0; i < ROWS; i++) {
		ck_assert_int_eq(xshim_reason_from_name(rows[i].name), (int)i);
		ck_assert_str_eq(xshim_reason_name((uint32_t)i), rows[i].name);
		ck_assert_uint_gt(strlen(xshim_reason_text((uint32_t)i)), 5);
		for (const char *p = rows[i].name; *p; p++)
			ck_assert_msg(islower((unsigned char)*p) || *p == '-', "%s", rows[i].name);
	}
}
END_TEST

START_TEST(unknown_ones_are_named_so)
{
	ck_assert_str_eq(xshim_reason_name(XSHIM_R_COUNT), "unknown");
	ck_assert_str_eq(xshim_reason_name(UINT32_MAX), "unknown");
	ck_assert_uint_gt(strlen(xshim_reason_text(UINT32_MAX)), 5);
	ck_assert_int_eq(xshim_reason_from_name("unknown"), -1);
	ck_assert_int_eq(xshim_reason_from_name(""), -1);
	ck_assert_int_eq(xshim_reason_from_name("Ring"), -1);
}
END_TEST

START_TEST(the_counters_have_room_for_all)
{
	ck_assert_uint_lt(XSHIM_R_COUNT, XSHIM_REASON_SLOTS);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("reason");
	TCase *tc = tcase_create("reason");

	tcase_add_test(tc, rows_are_numbered_without_gaps);
	tcase_add_test(tc, known_numbers_keep_their_names);
	tcase_add_test(tc, names_are_unique_and_found_again);
	tcase_add_test(tc, unknown_ones_are_named_so);
	tcase_add_test(tc, the_counters_have_room_for_all);
	suite_add_tcase(s, tc);
	return s;
}

UNIT_MAIN(suite)
