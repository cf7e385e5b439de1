/* SPDX-License-Identifier: MIT */
#include <xshim/region.h>
#include "unit.h"

static struct xshim_region_hdr *r;

static void setup(void)
{
	r = aligned_alloc(4096, xshim_region_bytes(XSHIM_RING_ORDER_MIN));
	ck_assert_ptr_nonnull(r);
	memset(r, 0, xshim_region_bytes(XSHIM_RING_ORDER_MIN));
}

static void teardown(void)
{
	free(r);
}

START_TEST(a_fresh_region_passes_and_wants_nothing)
{
	unsigned int order = 0;
	uint64_t nonce = 0;

	xshim_region_format(r, 12, 0x1122334455667788);
	ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(12), &order, &nonce), 0);
	ck_assert_uint_eq(order, 12);
	ck_assert(nonce == 0x1122334455667788);
	ck_assert(atomic_load(&r->want_data) == XSHIM_WANT_NOTHING);
	ck_assert(atomic_load(&r->want_space) == XSHIM_WANT_NOTHING);
	ck_assert(atomic_load(&r->head) == 0 && atomic_load(&r->tail) == 0);
	ck_assert(atomic_load(&r->sw_seq) == 0 && atomic_load(&r->ack) == 0 && atomic_load(&r->sw_at[0]) == 0);
	ck_assert(atomic_load(&r->attached) == 0 && atomic_load(&r->leave) == 0 && atomic_load(&r->fin) == 0);
}
END_TEST

START_TEST(every_size_is_told_exactly)
{
	unsigned int order;
	uint64_t nonce;

	for (unsigned int o = XSHIM_RING_ORDER_MIN; o <= XSHIM_RING_ORDER_MAX; o++) {
		xshim_region_format(r, o, o);
		ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(o), &order, &nonce), 0);
		ck_assert_uint_eq(order, o);
		ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(o) - 1, &order, &nonce), -EPROTO);
		ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(o) + 4096, &order, &nonce), -EPROTO);
		ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(o + 1), &order, &nonce), -EPROTO);
	}
}
END_TEST

static const unsigned int bad_order[] = { 0, 1, 11, 25, 31, 32, 63, 64, 255, 65535 };

START_TEST(orders_out_of_range_are_refused)
{
	unsigned int order = 99;
	uint64_t nonce;

	xshim_region_format(r, 12, 1);
	r->order = (uint16_t)bad_order[_i];
	ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(12), &order, &nonce), -EPROTO);
	ck_assert_uint_eq(order, 99);
}
END_TEST

START_TEST(wrong_magic_and_version_are_refused)
{
	unsigned int order;
	uint64_t nonce;

	xshim_region_format(r, 12, 1);
	r->magic ^= 1;
	ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(12), &order, &nonce), -EPROTO);
	xshim_region_format(r, 12, 1);
	r->version++;
	ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(12), &order, &nonce), -EPROTO);
	memset(r, 0, sizeof(*r));
	ck_assert_int_eq(xshim_region_check(r, xshim_region_bytes(12), &order, &nonce), -EPROTO);
}
END_TEST

START_TEST(less_than_a_header_is_not_looked_at)
{
	unsigned int order;
	uint64_t nonce;

	ck_assert_int_eq(xshim_region_check(NULL, 0, &order, &nonce), -EPROTO);
	ck_assert_int_eq(xshim_region_check(NULL, XSHIM_REGION_HDR - 1, &order, &nonce), -EPROTO);
}
END_TEST

START_TEST(room_is_what_the_sizes_say_within_a_page_and_the_ring)
{
	static const struct { unsigned int order; uint32_t sndbuf, rcvbuf; uint64_t room; } t[] = {
		{ 18, 0, 0, 262144 },			/* nobody has set one */
		{ 18, 8192, 8192, 16384 },
		{ 18, 8192, 0, 8192 + XSHIM_ROOM_UNSET },
		{ 18, 0, 8192, 8192 + XSHIM_ROOM_UNSET },
		{ 18, 1, 1, XSHIM_ROOM_LEAST },
		{ 18, UINT32_MAX, UINT32_MAX, 262144 },
		{ 18, UINT32_MAX, 1, 262144 },
		{ 12, 0, 0, 4096 },
		{ 12, 8192, 8192, 4096 },
		{ 12, 1, 1, 4096 },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		ck_assert_uint_eq(xshim_region_room(t[i].order, t[i].sndbuf, t[i].rcvbuf), t[i].room);
}
END_TEST

START_TEST(data_starts_a_page_after_the_header)
{
	ck_assert_ptr_eq(xshim_region_data(r), (uint8_t *)r + 4096);
	ck_assert_ptr_eq(xshim_region_cdata(r), (const uint8_t *)r + 4096);
	ck_assert_uint_eq(xshim_region_bytes(18), 4096 + 262144);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("region");
	TCase *tc = tcase_create("region");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_fresh_region_passes_and_wants_nothing);
	tcase_add_test(tc, every_size_is_told_exactly);
	tcase_add_loop_test(tc, orders_out_of_range_are_refused, 0, (int)(sizeof(bad_order) / sizeof(bad_order[0])));
	tcase_add_test(tc, wrong_magic_and_version_are_refused);
	tcase_add_test(tc, less_than_a_header_is_not_looked_at);
	tcase_add_test(tc, room_is_what_the_sizes_say_within_a_page_and_the_ring);
	tcase_add_test(tc, data_starts_a_page_after_the_header);
	suite_add_tcase(s, tc);
	return s;
}

UNIT_MAIN(suite)
