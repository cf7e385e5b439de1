/* SPDX-License-Identifier: MIT */
#include <xshim/frame.h>
#include "unit.h"

static const uint64_t edge[] = { 0, 1, 0xff, 0x7fffffff, 0xffffffff, 0x100000000, INT64_MAX, UINT64_MAX };

START_TEST(what_goes_in_comes_out)
{
	struct xshim_frame in = { XSHIM_FRAME_LEAVE, edge[_i], edge[7 - _i], edge[(_i + 3) % 8] }, back;
	uint8_t wire[XSHIM_FRAME_BYTES];

	xshim_frame_encode(&in, wire);
	ck_assert_int_eq(xshim_frame_decode(&back, wire), 0);
	ck_assert_uint_eq(back.type, XSHIM_FRAME_LEAVE);
	ck_assert(back.nonce == in.nonce && back.upto == in.upto && back.head == in.head);
}
END_TEST

/* The layout of frame.h, octet by octet: both ends may be of different builds. */
START_TEST(fields_stand_where_the_header_says)
{
	struct xshim_frame in = { XSHIM_FRAME_LEAVE, 0x0807060504030201, 0x1817161514131211, 0x2827262524232221 };
	static const uint8_t want[32] = {
		0x56, 0x4c, 0x53, 0x58, 1, 0, 0, 0,
		1, 2, 3, 4, 5, 6, 7, 8,
		0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
		0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28,
	};
	uint8_t wire[XSHIM_FRAME_BYTES];

	xshim_frame_encode(&in, wire);
	ck_assert_mem_eq(wire, want, sizeof(want));
}
END_TEST

START_TEST(any_flipped_bit_is_noticed)
{
	struct xshim_frame in = { XSHIM_FRAME_LEAVE, 12345, 678, 91011 }, back;
	uint8_t wire[XSHIM_FRAME_BYTES];

	for (int bit = 0; bit < XSHIM_FRAME_BYTES * 8; bit++) {
		xshim_frame_encode(&in, wire);
		wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(xshim_frame_decode(&back, wire) == -EPROTO, "bit %d", bit);
	}
}
END_TEST

START_TEST(another_type_is_no_frame)
{
	struct xshim_frame in = { 2, 1, 2, 3 }, back;
	uint8_t wire[XSHIM_FRAME_BYTES];

	xshim_frame_encode(&in, wire);
	ck_assert_int_eq(xshim_frame_decode(&back, wire), -EPROTO);
}
END_TEST

START_TEST(application_data_is_no_frame)
{
	uint8_t wire[XSHIM_FRAME_BYTES];
	struct xshim_frame back;
	uint64_t seed = 1;

	memset(wire, 0, sizeof(wire));
	ck_assert_int_eq(xshim_frame_decode(&back, wire), -EPROTO);
	memset(wire, 0xff, sizeof(wire));
	ck_assert_int_eq(xshim_frame_decode(&back, wire), -EPROTO);
	for (int n = 0; n < 100000; n++) {
		for (int i = 0; i < XSHIM_FRAME_BYTES; i++)
			wire[i] = (uint8_t)unit_random(&seed);
		ck_assert_int_eq(xshim_frame_decode(&back, wire), -EPROTO);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("frame");
	TCase *tc = tcase_create("frame");

	tcase_add_loop_test(tc, what_goes_in_comes_out, 0, 8);
	tcase_add_test(tc, fields_stand_where_the_header_says);
	tcase_add_test(tc, any_flipped_bit_is_noticed);
	tcase_add_test(tc, another_type_is_no_frame);
	tcase_add_test(tc, application_data_is_no_frame);
	suite_add_tcase(s, tc);
	return s;
}

UNIT_MAIN(suite)
