/* SPDX-License-Identifier: MIT */
/* What the xen backend says where there is no Xen; between guests it is tests/xen/prog/xenring.c that looks. */
#include <stdio.h>
#include <sys/mman.h>
#include <xshim/backend.h>
#include "unit.h"

static const struct xshim_backend *be;

static void setup(void)
{
	be = xshim_backend_find("xen");
	ck_assert_ptr_nonnull(be);
}

static int mappings(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	int n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		n++;
	fclose(f);
	return n;
}

START_TEST(it_is_found_by_name_and_number)
{
	ck_assert_ptr_eq(xshim_backend_of(XSHIM_BACKEND_XEN), be);
	ck_assert_str_eq(be->name, "xen");
	ck_assert_ptr_nonnull(be->forked);
	ck_assert_ptr_nonnull(be->forsake);
}
END_TEST

START_TEST(without_devices_create_fails_and_leaves_nothing)
{
	struct xshim_party guest = { .domid = 3 };
	struct xshim_local l;
	int fds = unit_open_fds(), maps, rc;

	if (access("/dev/xen/evtchn", F_OK) == 0)
		return;
	maps = mappings();
	for (int offers = 0; offers < 2; offers++) {
		guest.offers = offers;
		rc = be->create(&l, &guest, 14, 1);
		ck_assert_int_eq(rc, -ENOENT);
		ck_assert_ptr_null(l.region);
		for (int i = 0; i < XSHIM_LOCAL_FDS; i++)
			ck_assert_int_eq(l.fds[i], -1);
		be->destroy(&l);
	}
	ck_assert_int_eq(unit_open_fds(), fds);
	ck_assert_int_eq(mappings(), maps);
}
END_TEST

START_TEST(what_cannot_be_is_refused_before_anything_is_opened)
{
	static const struct {
		uint32_t domid;
		unsigned int order;
	} bad[] = {
		{ 3, 0 }, { 3, 11 }, { 3, 22 }, { 3, 64 }, { 3, 0xffffffff },
		{ 0x7ff0, 14 }, { 0x7ff4, 14 }, { 0x10003, 14 }, { 0xffffffff, 14 },
	};
	struct xshim_local l;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct xshim_party guest = { .domid = bad[i].domid };

		ck_assert_int_eq(be->create(&l, &guest, bad[i].order, 1), -EINVAL);
		be->destroy(&l);
	}
	ck_assert_int_eq(be->create(&l, NULL, 14, 1), -EINVAL);
}
END_TEST

START_TEST(wrong_tickets_are_refused_before_anything_is_opened)
{
	static const struct {
		struct xshim_ticket t;
		uint32_t port;	/* of our half */
	} bad[] = {
		{ { .order = 14, .domid = 4, .gref = 8, .port = 1 }, 0 },	/* another domain */
		{ { .order = 11, .domid = 3, .gref = 8, .port = 1 }, 0 },
		{ { .order = 22, .domid = 3, .gref = 8, .port = 1 }, 0 },
		{ { .order = 14, .domid = 3, .gref = 0, .port = 1 }, 0 },
		{ { .order = 14, .domid = 3, .gref = 8, .port = 0 }, 0 },	/* nobody has an event channel */
		{ { .order = 14, .domid = 3, .gref = 8, .port = 1 }, 5 },	/* both have one */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct xshim_local l = { .domid = 3, .port = bad[i].port, .fds = { -1, -1, -1, -1, -1 } };
		struct xshim_remote r = { .bell = -1 };

		ck_assert_int_eq(be->attach(&r, &l, &bad[i].t, NULL), -EPROTO);
		ck_assert_ptr_null(r.region);
		be->detach(&r);
	}
}
END_TEST

/* The word that says so, in a region of our own. */
START_TEST(whole_is_alive_or_cleared_by_the_kernel)
{
	static struct xshim_region_hdr r;

	ck_assert(!xshim_region_is_whole(&r));		/* let go of: zeros */
	xshim_region_format(&r, 14, 1);
	ck_assert(xshim_region_is_whole(&r));
	*(uint8_t *)&r.alive = 0;			/* as the kernel does it */
	ck_assert_uint_eq(atomic_load(&r.alive), XSHIM_REGION_GONE);
	ck_assert(xshim_region_is_whole(&r));
	memset(&r, 0xff, sizeof(r));			/* cut by a save */
	ck_assert(!xshim_region_is_whole(&r));
}
END_TEST

/* Letting go leaves readable zeros at the same place, and detach frees the whole piece of address space. */
START_TEST(forsaken_memory_reads_as_zeros)
{
	const size_t piece = 2 << 20;
	struct xshim_remote r = { .bell = -1, .order = 14 };
	struct xshim_local l = { .fds = { -1, -1, -1, -1, -1 } };
	struct xshim_region_hdr *at;
	unsigned char vec;
	uint8_t *p;

	p = mmap(NULL, 2 * piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	at = (struct xshim_region_hdr *)(p + (-(uintptr_t)p & (piece - 1)));
	xshim_region_format(at, 14, 1);
	memset(xshim_region_data(at), 7, 1 << 14);
	r.region = at;
	ck_assert(xshim_region_is_whole(r.region));
	be->forsake(&r);
	be->forsake(&r);
	ck_assert_ptr_eq(r.region, at);
	ck_assert(!xshim_region_is_whole(r.region));
	for (size_t i = 0; i < xshim_region_bytes(14); i++)
		ck_assert_uint_eq(((const uint8_t *)at)[i], 0);
	ck_assert_int_eq(be->ring(&l, &r), -EPIPE);
	be->detach(&r);
	ck_assert_ptr_null(r.region);
	ck_assert(mincore(at, 4096, &vec) < 0 && errno == ENOMEM);
	ck_assert(mincore((uint8_t *)at + piece - 4096, 4096, &vec) < 0 && errno == ENOMEM);
	be->forsake(&r);
	munmap(p, 2 * piece);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("backend_xen");
	TCase *t = tcase_create("without Xen");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, it_is_found_by_name_and_number);
	tcase_add_test(t, without_devices_create_fails_and_leaves_nothing);
	tcase_add_test(t, what_cannot_be_is_refused_before_anything_is_opened);
	tcase_add_test(t, wrong_tickets_are_refused_before_anything_is_opened);
	tcase_add_test(t, whole_is_alive_or_cleared_by_the_kernel);
	tcase_add_test(t, forsaken_memory_reads_as_zeros);
	suite_add_tcase(s, t);
	return s;
}

UNIT_MAIN(suite)
