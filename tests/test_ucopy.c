/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <xshim/ring.h>
#include <xshim/ucopy.h>
#include "unit.h"

#define AREA ((size_t)1 << 20)
#define ORDER 18

/* AREA bytes of memory each, then 64 KiB that are none. */
static uint8_t *a, *b;
static uint8_t ring[(size_t)1 << ORDER];

static void resume(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
#if defined(__x86_64__)
	greg_t *pc = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	uintptr_t to;

	if (!xshim_ucopy_resume((uintptr_t)*pc, &to))
		_exit(9);
	*pc = (greg_t)to;
#else
	(void)context;
	_exit(9);
#endif
}

static uint8_t *area(void)
{
	uint8_t *p = mmap(NULL, AREA + 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(mprotect(p + AREA, 65536, PROT_NONE), 0);
	return p;
}

static void set_up(void)
{
	struct sigaction sa = { .sa_sigaction = resume, .sa_flags = SA_SIGINFO };

	ck_assert_int_eq(sigaction(SIGSEGV, &sa, NULL), 0);
	ck_assert_int_eq(sigaction(SIGBUS, &sa, NULL), 0);
	a = area();
	b = area();
	for (size_t i = 0; i < AREA; i++)
		a[i] = (uint8_t)((i + 1) * 2654435761u >> 13);
}

static size_t next(size_t n)
{
	return n < 300 ? n + 1 : n < 10000 ? n + 61 : n * 2 + 17;
}

/* The routine for few, too, where it is that. */
static int copy_both(void *to, const void *from, size_t n)
{
	int rc = xshim_ucopy(to, from, n);

	if (n <= XSHIM_UCOPY_FEW) {
		if (!rc)
			memset(to, 0xa5, n);
		ck_assert_int_eq(!xshim_ucopy_few(to, from, n), !rc);
	}
	return rc;
}

/* Up to the very end of the memory at both sides, and not a byte more. */
START_TEST(all_sizes_and_alignments_arrive)
{
	for (size_t n = 0; n < AREA - 100; n = next(n)) {
		for (size_t gap = 0; gap < 70; gap += n < 300 ? 1 : 23) {
			uint8_t *from = a + AREA - n, *to = b + AREA - n - gap;

			memset(to - 1, 0x5a, n + gap + 1);
			ck_assert_int_eq(copy_both(to, from, n), 0);
			ck_assert_msg(!memcmp(to, from, n), "%zu bytes, %zu from the end", n, gap);
			ck_assert_uint_eq(to[-1], 0x5a);
			for (size_t i = 0; i < gap; i++)
				ck_assert_uint_eq(to[n + i], 0x5a);
		}
	}
}
END_TEST

START_TEST(a_bad_address_is_efault)
{
	void *bad[] = { (void *)64, a + AREA, a + AREA + 4096, (void *)0x0000900000000000, (void *)0xffff900000000000 };

	if (!XSHIM_UCOPY_RESUMES)
		return;
	for (size_t n = 1; n < AREA; n = next(n)) {
		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			ck_assert_int_eq(copy_both(bad[i], a, n), -EFAULT);
			ck_assert_int_eq(copy_both(b, bad[i], n), -EFAULT);
		}
		/* the last 1 to n bytes are bad */
		for (size_t over = 1; over <= n && over < 65536; over = next(over * 3)) {
			ck_assert_int_eq(copy_both(b + AREA - n + over, a, n), -EFAULT);
			ck_assert_int_eq(copy_both(b, a + AREA - n + over, n), -EFAULT);
		}
	}
	ck_assert_int_eq(xshim_ucopy((void *)64, a, 0), 0);
}
END_TEST

START_TEST(other_code_is_not_resumed)
{
	uintptr_t to;

	ck_assert(!xshim_ucopy_resume(0, &to));
	ck_assert(!xshim_ucopy_resume(UINTPTR_MAX, &to));
	ck_assert(!xshim_ucopy_resume((uintptr_t)memcpy, &to));
	ck_assert(!xshim_ucopy_resume((uintptr_t)set_up, &to));
}
END_TEST

static const struct {
	size_t good, bad, done;
} ends[] = {
	{ 0, 1, 0 }, { 1, 1, 0 }, { 5000, 10, 0 }, { XSHIM_RING_GRAIN - 1, 100, 0 }, { XSHIM_RING_GRAIN, 1, XSHIM_RING_GRAIN },
	{ XSHIM_RING_GRAIN + 1, 1, XSHIM_RING_GRAIN }, { 3 * XSHIM_RING_GRAIN + 5, 20000, 3 * XSHIM_RING_GRAIN },
};

/* Whole grains go, and the place in the iovec is behind them; also where the ring begins anew on the way. */
START_TEST(a_copy_ends_before_a_bad_address)
{
	size_t good = ends[_i].good, n = good + ends[_i].bad, head = good / 3;

	if (!XSHIM_UCOPY_RESUMES)
		return;
	for (uint64_t pos = 0; pos < 4; pos++) {
		uint64_t at = pos * ((1 << ORDER) - 70);
		struct iovec in[3] = { { a + 1, head }, { NULL, 0 }, { a + AREA - (good - head), n - head } };
		struct iovec out[2] = { { b + 1, head }, { b + AREA - (good - head), n - head } };
		struct xshim_iov it;

		xshim_iov_init(&it, in, 3);
		ck_assert_uint_eq(xshim_ring_copy_in(ring, ORDER, at, &it, n), ends[_i].done);
		ck_assert_uint_eq(xshim_iov_left(&it), n - ends[_i].done);
		for (size_t i = 0; i < ends[_i].done; i++)
			ck_assert_uint_eq(ring[(at + i) & ((1 << ORDER) - 1)],
					  i < head ? a[1 + i] : a[AREA - good + i]);
		xshim_iov_init(&it, out, 2);
		ck_assert_uint_eq(xshim_ring_copy_out(ring, ORDER, at, &it, n), ends[_i].done);
		ck_assert_uint_eq(xshim_iov_left(&it), n - ends[_i].done);
		for (size_t i = 0; i < ends[_i].done; i++)
			ck_assert_uint_eq(i < head ? b[1 + i] : b[AREA - good + i],
					  i < head ? a[1 + i] : a[AREA - good + i]);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("ucopy");
	TCase *tc = tcase_create("copy"), *tr = tcase_create("ring");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, all_sizes_and_alignments_arrive);
	tcase_add_test(tc, a_bad_address_is_efault);
	tcase_add_test(tc, other_code_is_not_resumed);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tr, set_up, NULL);
	tcase_add_loop_test(tr, a_copy_ends_before_a_bad_address, 0, (int)(sizeof(ends) / sizeof(ends[0])));
	suite_add_tcase(s, tr);
	return s;
}

UNIT_MAIN(suite)
