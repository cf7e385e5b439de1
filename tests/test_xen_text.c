/* SPDX-License-Identifier: MIT */
/*
 * test_xen_text.c - values from xenstore, most of them hostile: taken whole or not at all. And what the host makes of the claims of all.
 */
#include "unit.h"

#include <stdio.h>
#include <xshim/proto.h>

#include "../daemon/xen_list.h"
#include "../daemon/xen_text.h"

#define I "00000000000000ab"
#define L "fedcba9876543210"

static const char *why;

/* ---- numbers and digits ---- */

static const struct {
	const char *text;
	uint64_t max;
	long long n;	/* -1: refused */
} numbers[] = {
	{ "0", 9, 0 }, { "9", 9, 9 }, { "10", 9, -1 }, { "32751", 32751, 32751 }, { "32752", 32751, -1 },
	{ "", 9, -1 }, { "-1", 9, -1 }, { "+1", 9, -1 }, { " 1", 9, -1 }, { "1 ", 9, -1 }, { "01", 9, -1 }, { "00", 9, -1 },
	{ "0x1", 99, -1 }, { "1e1", 99, -1 }, { "1.0", 99, -1 }, { "99999999999999999999", UINT64_MAX, -1 },
	{ "18446744073709551616", UINT64_MAX, -1 }, { "4294967296", UINT32_MAX, -1 }, { "4294967295", UINT32_MAX, 4294967295 },
	{ "\xd9\xa1", 99, -1 }, { "1\n", 99, -1 },
};

START_TEST(a_number_is_plain_decimal_and_in_range)
{
	uint64_t n = 77;
	int rc = xshimd_xen_number(numbers[_i].text, strlen(numbers[_i].text), numbers[_i].max, &n, &why);

	if (numbers[_i].n < 0) {
		ck_assert_msg(rc == -EINVAL, "\"%s\" was taken", numbers[_i].text);
		ck_assert_uint_eq(n, 77);
		ck_assert_ptr_nonnull(why);
	} else {
		ck_assert_int_eq(rc, 0);
		ck_assert_uint_eq(n, (uint64_t)numbers[_i].n);
	}
}
END_TEST

START_TEST(a_number_with_a_nul_in_it_is_refused)
{
	uint64_t n;

	ck_assert_int_eq(xshimd_xen_number("1\0" "2", 3, 999, &n, &why), -EINVAL);
	ck_assert_int_eq(xshimd_xen_number("1\0", 2, 999, &n, &why), -EINVAL);
}
END_TEST

START_TEST(an_instance_is_16_lower_case_digits_and_not_zero)
{
	static const char *const bad[] = { "", "0", "00000000000000000", "000000000000000a ", "000000000000000A", "0x0000000000000a",
		"000000000000000g", "-000000000000001", "0000000000000000" };
	uint64_t v = 0;

	ck_assert_int_eq(xshimd_xen_hex(I, 16, &v, &why), 0);
	ck_assert_uint_eq(v, 0xab);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(xshimd_xen_hex(bad[i], strlen(bad[i]), &v, &why) == -EINVAL, "\"%s\" was taken", bad[i]);
}
END_TEST

/* ---- addresses ---- */

static const struct {
	const char *text;
	int n;		/* -1: refused */
} lists[] = {
	{ "", 0 },
	{ "10.77.0.11", 1 },
	{ "10.77.0.11 fd00::11", 2 },
	{ "1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6 1.0.0.7 1.0.0.8 1.0.0.9 1.0.0.10 1.0.0.11 1.0.0.12 1.0.0.13 1.0.0.14 "
	  "1.0.0.15 1.0.0.16", 16 },
	{ "1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6 1.0.0.7 1.0.0.8 1.0.0.9 1.0.0.10 1.0.0.11 1.0.0.12 1.0.0.13 1.0.0.14 "
	  "1.0.0.15 1.0.0.16 1.0.0.17", -1 },
	{ "10.0.0.1 10.0.0.1", -1 }, { "10.0.0.1 ::ffff:10.0.0.1", -1 },
	{ " 10.0.0.1", -1 }, { "10.0.0.1 ", -1 }, { "10.0.0.1  10.0.0.2", -1 }, { "10.0.0.1,10.0.0.2", -1 }, { "10.0.0.1\n", -1 },
	{ "10.0.0.1/24", -1 }, { "10.0.0.256", -1 }, { "10.0.0", -1 }, { "010.0.0.1", -1 }, { "0x0a.0.0.1", -1 }, { "localhost", -1 },
	{ "10.0.0.1;xenstore-rm /", -1 }, { "../../0", -1 }, { "%s%n", -1 }, { "fe80::1%eth0", -1 },
	{ "127.0.0.1", -1 }, { "0.0.0.0", -1 }, { "224.0.0.1", -1 }, { "255.255.255.255", -1 }, { "169.254.1.1", -1 },
	{ "::1", -1 }, { "::", -1 }, { "ff02::1", -1 }, { "fe80::1", -1 }, { "::ffff:127.0.0.1", -1 },
	{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", -1 },
};

START_TEST(addresses_are_taken_all_or_none)
{
	struct xshimd_xen_addrs a;
	int rc = xshimd_xen_addrs_parse(lists[_i].text, strlen(lists[_i].text), ' ', false, &a, &why);

	if (lists[_i].n < 0) {
		ck_assert_msg(rc == -EINVAL, "\"%s\" was taken", lists[_i].text);
	} else {
		char text[XSHIMD_XEN_VALUE_MAX + 1];

		ck_assert_int_eq(rc, 0);
		ck_assert_int_eq((int)a.n, lists[_i].n);
		ck_assert_int_ge(xshimd_xen_addrs_format(text, sizeof(text), ' ', &a), 0);
		ck_assert_str_eq(text, lists[_i].text);
	}
}
END_TEST

START_TEST(a_prefix_length_is_passed_over_where_it_is_allowed)
{
	static const char good[] = "10.0.0.1/24 fd00::1/64 10.0.0.2";
	static const char *const bad[] = { "10.0.0.1/", "10.0.0.1/129", "10.0.0.1/-1", "10.0.0.1/24/24", "/24" };
	struct xshimd_xen_addrs a;

	ck_assert_int_eq(xshimd_xen_addrs_parse(good, strlen(good), ' ', true, &a, &why), 0);
	ck_assert_int_eq((int)a.n, 3);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(xshimd_xen_addrs_parse(bad[i], strlen(bad[i]), ' ', true, &a, &why) == -EINVAL, "\"%s\" was taken", bad[i]);
}
END_TEST

START_TEST(a_long_value_and_one_with_a_nul_are_refused)
{
	static char big[2 * XSHIMD_XEN_VALUE_MAX];
	struct xshimd_xen_addrs a;
	struct xshimd_xen_guest g;

	memset(big, '1', sizeof(big));
	ck_assert_int_eq(xshimd_xen_addrs_parse(big, XSHIMD_XEN_VALUE_MAX + 1, ' ', false, &a, &why), -EINVAL);
	ck_assert_str_eq(why, "longer than 1024 bytes");
	ck_assert_int_eq(xshimd_xen_guest_parse(big, XSHIMD_XEN_VALUE_MAX + 1, false, &g, &why), -EINVAL);
	ck_assert_int_eq(xshimd_xen_addrs_parse("10.0.0.1\0 10.0.0.2", 18, ' ', false, &a, &why), -EINVAL);
	ck_assert_str_eq(why, "a NUL byte");
}
END_TEST

/* ---- entries of the host's list ---- */

static const struct {
	const char *text;
	bool self, good;
} entries[] = {
	{ "3 " I " " L " vif 10.0.0.3,fd00::3", false, true },
	{ "3 " I " " L " claim -", false, true },
	{ "3 " I " " L " 10.0.0.3", true, true },
	{ "3 " I " " L " -", true, true },
	{ "", false, false }, { "3", false, false }, { "3 " I, false, false }, { "3 " I " " L, false, false },
	{ "3 " I " " L " vif", false, false }, { "3 " I " " L " vif ", false, false },
	{ "-3 " I " " L " vif 10.0.0.3", false, false }, { "32752 " I " " L " vif 10.0.0.3", false, false },
	{ "4294967299 " I " " L " vif 10.0.0.3", false, false },
	{ "3 0 " L " vif 10.0.0.3", false, false }, { "3 " I " 0000000000000000 vif 10.0.0.3", false, false },
	{ "3 " I " " L " trust 10.0.0.3", false, false }, { "3 " I " " L " VIF 10.0.0.3", false, false },
	{ "3 " I " " L " vifclaim 10.0.0.3", false, false }, { "3 " I " " L " vif 10.0.0.3 10.0.0.4", false, false },
	{ "3 " I " " L " vif 10.0.0.3, ", false, false }, { "3 " I " " L " vif 10.0.0.3,", false, false },
	{ "3 " I " " L " vif 10.0.0.3,10.0.0.3", false, false }, { "3  " I " " L " vif 10.0.0.3", false, false },
	{ " 3 " I " " L " vif 10.0.0.3", false, false }, { "3 " I " " L " vif 127.0.0.1", false, false },
	{ "3 " I " " L " vif 10.0.0.3", true, false }, { "3 " I " " L " 10.0.0.3", false, false },
};

START_TEST(an_entry_is_taken_whole_or_not_at_all)
{
	char text[XSHIMD_XEN_VALUE_MAX + 1];
	struct xshimd_xen_guest g = { .domid = 99 };
	int rc = xshimd_xen_guest_parse(entries[_i].text, strlen(entries[_i].text), entries[_i].self, &g, &why);

	if (!entries[_i].good) {
		ck_assert_msg(rc == -EINVAL, "\"%s\" was taken", entries[_i].text);
		ck_assert_uint_eq(g.domid, 99);
		return;
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_uint_eq(g.domid, 3);
	ck_assert_uint_eq(g.instance, 0xab);
	ck_assert_int_gt(xshimd_xen_guest_format(text, sizeof(text), entries[_i].self, &g), 0);
	ck_assert_str_eq(text, entries[_i].text);
}
END_TEST

START_TEST(the_longest_entry_fits_into_a_value)
{
	struct xshimd_xen_guest g = { .domid = XSHIMD_XEN_DOMID_MAX, .instance = UINT64_MAX, .life = UINT64_MAX }, back;
	char text[XSHIMD_XEN_VALUE_MAX + 1];
	int n;

	g.addrs.n = XSHIMD_XEN_ADDRS;
	for (uint32_t i = 0; i < g.addrs.n; i++) {
		memset(g.addrs.a[i].addr, 0x2a, 16);
		g.addrs.a[i].addr[15] = (uint8_t)(0x80 + i);
	}
	n = xshimd_xen_guest_format(text, sizeof(text), false, &g);
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(xshimd_xen_guest_parse(text, (size_t)n, false, &back, &why), 0);
	ck_assert(xshimd_xen_addrs_equal(&g.addrs, &back.addrs));
	ck_assert_int_eq(xshimd_xen_guest_format(text, 64, false, &g), -ENOSPC);
}
END_TEST

START_TEST(random_bytes_are_never_taken_for_an_entry)
{
	uint64_t seed = 1;

	for (int round = 0; round < 20000; round++) {
		char text[80];
		size_t len = unit_random(&seed) % sizeof(text);
		struct xshimd_xen_guest g;
		struct xshimd_xen_drain d;

		for (size_t i = 0; i < len; i++)
			text[i] = (char)unit_random(&seed);
		ck_assert_int_eq(xshimd_xen_guest_parse(text, len, unit_random(&seed) & 1, &g, &why), -EINVAL);
		if (len)
			ck_assert_int_eq(xshimd_xen_drain_parse(text, len, &d, &why), -EINVAL);
	}
}
END_TEST

/* ---- drain ---- */

START_TEST(drain_requests_and_answers)
{
	static const char *const bad[] = { "request", "request 1", "request 1 2 3", "request -1 all", "request 1 ALL", "request 1 32752",
		"request 4294967296 all", "Request 1 all", "drain 1 all", " ", "request 1 all ", "request  1 all", "request 1 " };
	static const char *const bad_answers[] = { "", "done", "done 1", "done 1 2 3", "done -1 0", "done 1 4294967296", "ready 1 0",
		"done 1 ", "done  0" };
	struct xshimd_xen_drain d;
	uint32_t number, left;

	ck_assert_int_eq(xshimd_xen_drain_parse("", 0, &d, &why), 0);
	ck_assert(!d.asked);
	ck_assert_int_eq(xshimd_xen_drain_parse("request 7 all", 13, &d, &why), 0);
	ck_assert(d.asked && d.number == 7 && d.domid == XSHIM_DOMID_ALL);
	ck_assert_int_eq(xshimd_xen_drain_parse("request 4294967295 12", 21, &d, &why), 0);
	ck_assert(d.asked && d.number == UINT32_MAX && d.domid == 12);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(xshimd_xen_drain_parse(bad[i], strlen(bad[i]), &d, &why) == -EINVAL, "\"%s\" was taken", bad[i]);
		ck_assert(!d.asked);
	}
	ck_assert_int_eq(xshimd_xen_answer_parse("done 7 0", 8, &number, &left, &why), 0);
	ck_assert(number == 7 && left == 0);
	for (size_t i = 0; i < sizeof(bad_answers) / sizeof(bad_answers[0]); i++)
		ck_assert_msg(xshimd_xen_answer_parse(bad_answers[i], strlen(bad_answers[i]), &number, &left, &why) == -EINVAL,
			      "\"%s\" was taken", bad_answers[i]);
}
END_TEST

/* ---- who has which address ---- */

static struct xshimd_xen_list now, before;
static struct xshimd_xen_addrs own;
static char refused[512];

static struct xshimd_xen_addrs addrs(const char *text)
{
	struct xshimd_xen_addrs a;

	ck_assert_int_eq(xshimd_xen_addrs_parse(text, strlen(text), ' ', false, &a, &why), 0);
	return a;
}

static void on_refused(void *arg, const struct xshimd_xen_domain *d, const struct xshim_endpoint *ep, const char *what)
{
	size_t at = strlen(refused);

	(void)arg;
	(void)ep;
	snprintf(refused + at, sizeof(refused) - at, "%u: %s; ", d->domid, what);
}

/* vif NULL: the configuration names no address */
static void domain(uint32_t domid, const char *claims, const char *vif)
{
	struct xshimd_xen_domain *d = &now.d[now.n++];

	memset(d, 0, sizeof(*d));
	d->domid = domid;
	d->life = domid + 1000;
	d->takes_part = claims != NULL;
	d->instance = domid;
	if (claims)
		d->claimed = addrs(claims);
	d->has_vif = vif != NULL;
	if (vif)
		d->vif = addrs(vif);
}

static void decide(bool vif_only)
{
	refused[0] = '\0';
	xshimd_xen_list_decide(&now, &before, &own, 1, vif_only, on_refused, NULL);
}

static void check_taken(uint32_t domid, const char *text)
{
	const struct xshimd_xen_domain *d = xshimd_xen_list_find(&now, domid);
	char got[XSHIMD_XEN_VALUE_MAX + 1];

	ck_assert_ptr_nonnull(d);
	xshimd_xen_addrs_format(got, sizeof(got), ' ', &d->taken);
	ck_assert_str_eq(got, text);
}

static void next_time(void)
{
	before = now;
	now.n = 0;
}

static void fresh(void)
{
	memset(&now, 0, sizeof(now));
	memset(&before, 0, sizeof(before));
	own = addrs("10.0.0.254");
}

START_TEST(a_configuration_gives_its_addresses_and_no_others)
{
	domain(1, "10.0.0.1 10.0.0.9", "10.0.0.1 10.0.0.2");
	decide(false);
	check_taken(1, "10.0.0.1");
	ck_assert_str_eq(refused, "1: its configuration does not list it; ");
}
END_TEST

START_TEST(an_empty_configuration_that_was_not_readable_gives_nothing)
{
	domain(1, "10.0.0.1", "");
	decide(false);
	check_taken(1, "");
}
END_TEST

START_TEST(a_claim_is_taken_when_nobody_else_has_the_address)
{
	domain(1, "10.0.0.1 fd00::1", NULL);
	domain(2, "10.0.0.2", "10.0.0.2");
	decide(false);
	check_taken(1, "10.0.0.1 fd00::1");
	check_taken(2, "10.0.0.2");
	ck_assert_str_eq(refused, "");
}
END_TEST

START_TEST(a_claim_on_what_a_configuration_gives_another_is_refused)
{
	domain(1, "10.0.0.2", NULL);
	domain(2, NULL, "10.0.0.2");		/* does not even take part */
	decide(false);
	check_taken(1, "");
	ck_assert_str_eq(refused, "1: another guest's configuration has it; ");
}
END_TEST

START_TEST(a_claim_on_the_hosts_own_address_is_refused)
{
	domain(1, "10.0.0.254", NULL);
	domain(2, "10.0.0.254", "10.0.0.254");
	decide(false);
	check_taken(1, "");
	check_taken(2, "");
}
END_TEST

START_TEST(of_two_that_claim_an_address_the_one_that_had_it_keeps_it)
{
	domain(5, "10.0.0.5", NULL);
	decide(false);
	check_taken(5, "10.0.0.5");
	next_time();
	domain(2, "10.0.0.5 10.0.0.2", NULL);
	domain(5, "10.0.0.5", NULL);
	decide(false);
	check_taken(2, "10.0.0.2");
	check_taken(5, "10.0.0.5");
	ck_assert_str_eq(refused, "2: another guest has it; ");
}
END_TEST

START_TEST(of_two_that_claim_an_address_at_once_the_lower_number_gets_it)
{
	domain(2, "10.0.0.5", NULL);
	domain(5, "10.0.0.5", NULL);
	decide(false);
	check_taken(2, "10.0.0.5");
	check_taken(5, "");
}
END_TEST

START_TEST(a_domain_of_a_number_used_before_inherits_nothing)
{
	domain(5, "10.0.0.5", NULL);
	decide(false);
	next_time();
	domain(2, "10.0.0.5", NULL);
	domain(5, "10.0.0.5", NULL);
	now.d[1].life++;
	decide(false);
	check_taken(2, "10.0.0.5");
	check_taken(5, "");
}
END_TEST

START_TEST(two_configurations_with_one_address_give_it_to_nobody)
{
	domain(1, "10.0.0.1", "10.0.0.1");
	domain(2, "10.0.0.1", "10.0.0.1");
	decide(false);
	check_taken(1, "");
	check_taken(2, "");
}
END_TEST

START_TEST(with_vif_only_a_claim_is_worth_nothing)
{
	domain(1, "10.0.0.1", NULL);
	domain(2, "10.0.0.2", "10.0.0.2");
	decide(true);
	check_taken(1, "");
	check_taken(2, "10.0.0.2");
	ck_assert_str_eq(refused, "1: its configuration lists none; ");
}
END_TEST

START_TEST(who_does_not_take_part_has_no_address)
{
	domain(1, NULL, "10.0.0.1");
	decide(false);
	check_taken(1, "");
	ck_assert_str_eq(refused, "");
}
END_TEST

START_TEST(a_half_of_a_connection_is_taken_whole_or_not_at_all)
{
	static const char *const bad[] = {
		"", " ", "1", "1 2", "0 2 00000000000000aa", "1 0 00000000000000aa", "-1 2 00000000000000aa",
		"1 131072 00000000000000aa", "2147483648 2 00000000000000aa", "1 2 aa", "1 2 0000000000000000",
		"1 2 00000000000000AA", "1 2 00000000000000aa ", "1  2 00000000000000aa", "1 2 00000000000000aa 00000000000000bb",
		"01 2 00000000000000aa", "1 00000000000000aa 00000000000000bb",
	};
	struct xshimd_xen_half in = { .gref = 0x7fffffff, .port = 131071, .nonce = UINT64_MAX }, out;
	char text[XSHIMD_XEN_HALF_TEXT];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(xshimd_xen_half_parse(bad[i], strlen(bad[i]), true, &out, &why) == -EINVAL, "\"%s\" was taken", bad[i]);
	ck_assert_int_eq(xshimd_xen_half_parse("1 2 00000000000000aa\0", 21, true, &out, &why), -EINVAL);
	ck_assert_int_eq(xshimd_xen_half_parse("1 2 00000000000000aa", 20, false, &out, &why), -EINVAL);
	xshimd_xen_half_format(text, true, &in);
	ck_assert_int_eq(xshimd_xen_half_parse(text, strlen(text), true, &out, &why), 0);
	ck_assert_mem_eq(&in, &out, sizeof(in));
	in.port = 0;
	in.to = 1;
	xshimd_xen_half_format(text, false, &in);
	ck_assert_int_eq(xshimd_xen_half_parse(text, strlen(text), false, &out, &why), 0);
	ck_assert_mem_eq(&in, &out, sizeof(in));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("xen_text");
	TCase *t = tcase_create("values");

	tcase_add_loop_test(t, a_number_is_plain_decimal_and_in_range, 0, sizeof(numbers) / sizeof(numbers[0]));
	tcase_add_test(t, a_number_with_a_nul_in_it_is_refused);
	tcase_add_test(t, an_instance_is_16_lower_case_digits_and_not_zero);
	tcase_add_loop_test(t, addresses_are_taken_all_or_none, 0, sizeof(lists) / sizeof(lists[0]));
	tcase_add_test(t, a_prefix_length_is_passed_over_where_it_is_allowed);
	tcase_add_test(t, a_long_value_and_one_with_a_nul_are_refused);
	tcase_add_loop_test(t, an_entry_is_taken_whole_or_not_at_all, 0, sizeof(entries) / sizeof(entries[0]));
	tcase_add_test(t, the_longest_entry_fits_into_a_value);
	tcase_add_test(t, random_bytes_are_never_taken_for_an_entry);
	tcase_add_test(t, drain_requests_and_answers);
	tcase_add_test(t, a_half_of_a_connection_is_taken_whole_or_not_at_all);
	suite_add_tcase(s, t);
	t = tcase_create("addresses");
	tcase_add_checked_fixture(t, fresh, NULL);
	tcase_add_test(t, a_configuration_gives_its_addresses_and_no_others);
	tcase_add_test(t, an_empty_configuration_that_was_not_readable_gives_nothing);
	tcase_add_test(t, a_claim_is_taken_when_nobody_else_has_the_address);
	tcase_add_test(t, a_claim_on_what_a_configuration_gives_another_is_refused);
	tcase_add_test(t, a_claim_on_the_hosts_own_address_is_refused);
	tcase_add_test(t, of_two_that_claim_an_address_the_one_that_had_it_keeps_it);
	tcase_add_test(t, of_two_that_claim_an_address_at_once_the_lower_number_gets_it);
	tcase_add_test(t, a_domain_of_a_number_used_before_inherits_nothing);
	tcase_add_test(t, two_configurations_with_one_address_give_it_to_nobody);
	tcase_add_test(t, with_vif_only_a_claim_is_worth_nothing);
	tcase_add_test(t, who_does_not_take_part_has_no_address);
	suite_add_tcase(s, t);
	return s;
}

UNIT_MAIN(suite)
