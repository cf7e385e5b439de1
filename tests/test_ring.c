/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <xshim/ring.h>
#include "unit.h"

#define ORDER 12
#define SIZE ((size_t)1 << ORDER)

static uint8_t ring[SIZE];

/* What the byte at a stream offset must be. */
static uint8_t keyed(uint64_t at)
{
	return (uint8_t)((at * 0x9e3779b97f4a7c15u) >> 56);
}

START_TEST(iov_left_counts_and_saturates)
{
	char a[10];
	struct iovec v[3] = { { a, 3 }, { a, 0 }, { a, 7 } };
	struct iovec huge[3] = { { a, SSIZE_MAX }, { a, SIZE_MAX }, { a, 5 } };
	struct xshim_iov it;

	xshim_iov_init(&it, v, 3);
	ck_assert_uint_eq(xshim_iov_left(&it), 10);
	xshim_iov_skip(&it, 4);
	ck_assert_uint_eq(xshim_iov_left(&it), 6);
	xshim_iov_skip(&it, 6);
	ck_assert_uint_eq(xshim_iov_left(&it), 0);
	xshim_iov_skip(&it, 6);
	ck_assert_uint_eq(xshim_iov_left(&it), 0);
	xshim_iov_init(&it, huge, 3);
	ck_assert_uint_eq(xshim_iov_left(&it), SSIZE_MAX);
	xshim_iov_init(&it, NULL, 0);
	ck_assert_uint_eq(xshim_iov_left(&it), 0);
	xshim_iov_skip(&it, 1);
}
END_TEST

START_TEST(iov_slice_describes_the_next_bytes)
{
	char a[16];
	struct iovec v[4] = { { a, 0 }, { a, 4 }, { a + 4, 0 }, { a + 4, 12 } }, out[4];
	struct xshim_iov it;

	xshim_iov_init(&it, v, 4);
	ck_assert_uint_eq(xshim_iov_slice(&it, 100, out, 4), 2);
	ck_assert(out[0].iov_base == a && out[0].iov_len == 4);
	ck_assert(out[1].iov_base == a + 4 && out[1].iov_len == 12);
	ck_assert_uint_eq(xshim_iov_slice(&it, 100, out, 1), 1);
	ck_assert_uint_eq(xshim_iov_slice(&it, 0, out, 4), 0);
	ck_assert_uint_eq(xshim_iov_slice(&it, 3, out, 4), 1);
	ck_assert_uint_eq(out[0].iov_len, 3);
	xshim_iov_skip(&it, 2);
	ck_assert_uint_eq(xshim_iov_slice(&it, 5, out, 4), 2);
	ck_assert(out[0].iov_base == a + 2 && out[0].iov_len == 2);
	ck_assert(out[1].iov_base == a + 4 && out[1].iov_len == 3);
	/* Looking does not move it. */
	ck_assert_uint_eq(xshim_iov_left(&it), 14);
}
END_TEST

static const uint64_t start[] = { 0, 15, SIZE - 1, SIZE, 0x7fffffff, 0xffffffff, 0xfffffffff000, UINT64_MAX - 2 * SIZE };
static const size_t length[] = { 0, 1, 2, 63, SIZE - 1, SIZE };

START_TEST(stretch_covers_exactly_the_bytes)
{
	for (size_t l = 0; l < sizeof(length) / sizeof(length[0]); l++) {
		size_t n = length[l], covered = 0;
		struct iovec v[2];
		int parts = xshim_ring_stretch(ring, ORDER, start[_i], n, v);

		for (int p = 0; p < parts; p++) {
			ck_assert_uint_gt(v[p].iov_len, 0);
			for (size_t k = 0; k < v[p].iov_len; k++)
				ck_assert_ptr_eq((uint8_t *)v[p].iov_base + k, ring + ((start[_i] + covered++) & (SIZE - 1)));
		}
		ck_assert_uint_eq(covered, n);
	}
}
END_TEST

/* Through the ring in pieces, with iovecs of odd shapes on both sides. */
START_TEST(bytes_survive_the_way_through)
{
	for (size_t l = 0; l < sizeof(length) / sizeof(length[0]); l++) {
		size_t n = length[l], a = n / 3, b = n / 2;
		static uint8_t in[SIZE + 1], out[SIZE + 1];
		struct iovec vi[4] = { { in, a }, { in + a, 0 }, { in + a, n - a }, { NULL, 0 } };
		struct iovec vo[3] = { { NULL, 0 }, { out, b }, { out + b, n - b } };
		struct xshim_iov it;

		for (size_t k = 0; k < n; k++)
			in[k] = keyed(start[_i] + k);
		memset(out, 0, sizeof(out));
		out[n] = 0x5a;
		memset(ring, 0xee, sizeof(ring));
		xshim_iov_init(&it, vi, 4);
		xshim_ring_copy_in(ring, ORDER, start[_i], &it, n);
		ck_assert_uint_eq(xshim_iov_left(&it), 0);
		for (size_t k = 0; k < n; k++)
			ck_assert_uint_eq(ring[(start[_i] + k) & (SIZE - 1)], keyed(start[_i] + k));
		if (n < SIZE)
			ck_assert_uint_eq(ring[(start[_i] + n) & (SIZE - 1)], 0xee);
		xshim_iov_init(&it, vo, 3);
		xshim_ring_copy_out(ring, ORDER, start[_i], &it, n);
		ck_assert_uint_eq(xshim_iov_left(&it), 0);
		ck_assert_mem_eq(in, out, n);
		ck_assert_uint_eq(out[n], 0x5a);
	}
}
END_TEST

START_TEST(a_copy_of_less_leaves_the_iov_where_it_stopped)
{
	uint8_t in[10] = "012345678", out[10] = "";
	struct iovec vi[2] = { { in, 4 }, { in + 4, 6 } }, vo = { out, 10 };
	struct xshim_iov it, ot;

	xshim_iov_init(&it, vi, 2);
	xshim_iov_init(&ot, &vo, 1);
	for (uint64_t at = SIZE - 5; at < SIZE + 5; at += 2) {
		xshim_ring_copy_in(ring, ORDER, at, &it, 2);
		ck_assert_uint_eq(xshim_iov_left(&it), SIZE + 3 - at);
		xshim_ring_copy_out(ring, ORDER, at, &ot, 2);
		ck_assert_uint_eq(xshim_iov_left(&ot), SIZE + 3 - at);
	}
	ck_assert_mem_eq(in, out, 10);
}
END_TEST

START_TEST(discard_touches_nothing)
{
	xshim_ring_copy_out(ring, ORDER, 100, NULL, SIZE);
}
END_TEST

/* Two threads with positions as region.h has them: release after the bytes, acquire before. */
static _Atomic uint64_t head, tail;
#define TOTAL (64u * SIZE + 12345)

static void *produce(void *unused)
{
	uint64_t pos = 0, seed = 3;
	uint8_t buf[700];

	(void)unused;
	while (pos < TOTAL) {
		size_t space = SIZE - (size_t)(pos - atomic_load_explicit(&tail, memory_order_acquire));
		size_t n = 1 + unit_random(&seed) % sizeof(buf);
		struct iovec v = { buf, n };
		struct xshim_iov it;

		n = n < TOTAL - pos ? n : (size_t)(TOTAL - pos);
		if (space < n) {
			sched_yield();
			continue;
		}
		for (size_t k = 0; k < n; k++)
			buf[k] = keyed(pos + k);
		xshim_iov_init(&it, &v, 1);
		xshim_ring_copy_in(ring, ORDER, pos, &it, n);
		pos += n;
		atomic_store_explicit(&head, pos, memory_order_release);
	}
	return NULL;
}

START_TEST(two_threads_pass_a_stream)
{
	uint64_t pos = 0, seed = 4;
	pthread_t t;

	ck_assert_int_eq(pthread_create(&t, NULL, produce, NULL), 0);
	while (pos < TOTAL) {
		size_t there = (size_t)(atomic_load_explicit(&head, memory_order_acquire) - pos);
		size_t n = 1 + unit_random(&seed) % 900;
		uint8_t buf[900];
		struct iovec v = { buf, sizeof(buf) };
		struct xshim_iov it;

		n = n < there ? n : there;
		if (n == 0) {
			sched_yield();
			continue;
		}
		xshim_iov_init(&it, &v, 1);
		xshim_ring_copy_out(ring, ORDER, pos, &it, n);
		for (size_t k = 0; k < n; k++)
			ck_assert_msg(buf[k] == keyed(pos + k), "offset %llu", (unsigned long long)(pos + k));
		pos += n;
		atomic_store_explicit(&tail, pos, memory_order_release);
	}
	pthread_join(t, NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("ring");
	TCase *tc = tcase_create("iov"), *tr = tcase_create("ring");
	const int starts = (int)(sizeof(start) / sizeof(start[0]));

	tcase_add_test(tc, iov_left_counts_and_saturates);
	tcase_add_test(tc, iov_slice_describes_the_next_bytes);
	suite_add_tcase(s, tc);
	tcase_set_timeout(tr, 60);
	tcase_add_loop_test(tr, stretch_covers_exactly_the_bytes, 0, starts);
	tcase_add_loop_test(tr, bytes_survive_the_way_through, 0, starts);
	tcase_add_test(tr, a_copy_of_less_leaves_the_iov_where_it_stopped);
	tcase_add_test(tr, discard_touches_nothing);
	tcase_add_test(tr, two_threads_pass_a_stream);
	suite_add_tcase(s, tr);
	return s;
}

UNIT_MAIN(suite)
