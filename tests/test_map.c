/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <xshim/map.h>
#include "unit.h"

#define SMALL 128
static _Atomic uint64_t set[SMALL];

static void clear_set(void)
{
	for (int i = 0; i < SMALL; i++)
		atomic_store(&set[i], 0);
}

/* A fingerprint whose first place is `home`; `n` tells several apart. */
static uint64_t at_home(size_t home, uint64_t n)
{
	return (n + 1) * SMALL + home;
}

static int used(void)
{
	int n = 0;

	for (int i = 0; i < SMALL; i++)
		n += atomic_load(&set[i]) != 0;
	return n;
}

START_TEST(added_is_found_deleted_is_not)
{
	uint64_t h = at_home(5, 1);

	ck_assert(!xshim_map_set_has(set, SMALL, h));
	ck_assert_int_eq(xshim_map_set_add(set, SMALL, h), 0);
	ck_assert(xshim_map_set_has(set, SMALL, h));
	ck_assert(!xshim_map_set_has(set, SMALL, at_home(5, 2)));
	ck_assert_int_eq(xshim_map_set_add(set, SMALL, h), 0);
	ck_assert_int_eq(used(), 1);
	xshim_map_set_del(set, SMALL, h);
	ck_assert(!xshim_map_set_has(set, SMALL, h));
	xshim_map_set_del(set, SMALL, h);
	ck_assert_int_eq(used(), 0);
}
END_TEST

START_TEST(marks_are_no_fingerprints)
{
	for (uint64_t h = 0; h <= 1; h++) {
		ck_assert_int_eq(xshim_map_set_add(set, SMALL, h), -EINVAL);
		ck_assert(!xshim_map_set_has(set, SMALL, h));
		xshim_map_set_del(set, SMALL, h);
	}
	ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(0, 0)), 0);
	xshim_map_set_del(set, SMALL, 0);
	ck_assert(xshim_map_set_has(set, SMALL, at_home(0, 0)));
	ck_assert_int_eq(used(), 1);
}
END_TEST

/* Also across the end of the table. */
START_TEST(a_chain_holds_when_its_middle_goes)
{
	const size_t home = _i ? SMALL - 3 : 10;

	for (uint64_t n = 0; n < 8; n++)
		ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(home, n)), 0);
	for (uint64_t gone = 0; gone < 8; gone += 2)
		xshim_map_set_del(set, SMALL, at_home(home, gone));
	for (uint64_t n = 0; n < 8; n++)
		ck_assert_int_eq(xshim_map_set_has(set, SMALL, at_home(home, n)), n % 2);
	/* A stone is used again, and what stands behind it is not put in twice. */
	ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(home, 7)), 0);
	ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(home, 99)), 0);
	ck_assert_int_eq(used(), 8);
	for (uint64_t n = 1; n < 8; n += 2)
		xshim_map_set_del(set, SMALL, at_home(home, n));
	xshim_map_set_del(set, SMALL, at_home(home, 99));
	ck_assert_int_eq(used(), 0);
}
END_TEST

START_TEST(the_probe_limit_is_an_error_and_not_a_loop)
{
	for (uint64_t n = 0; n < XSHIM_MAP_PROBES; n++)
		ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(3, n)), 0);
	ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(3, 500)), -ENOSPC);
	ck_assert(!xshim_map_set_has(set, SMALL, at_home(3, 500)));
	ck_assert(xshim_map_set_has(set, SMALL, at_home(3, XSHIM_MAP_PROBES - 1)));
	ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(3 + XSHIM_MAP_PROBES, 1)), 0);
	for (size_t home = 0; home < SMALL; home++)
		xshim_map_set_add(set, SMALL, at_home(home, 1000 + home));
	/* Full of others: look-ups and deletions end all the same. */
	ck_assert(!xshim_map_set_has(set, SMALL, at_home(9, 77777)));
	xshim_map_set_del(set, SMALL, at_home(9, 77777));
}
END_TEST

START_TEST(it_agrees_with_a_plain_list_after_many_changes)
{
	static bool in[256];
	uint64_t seed = 11;
	int count = 0;

	for (int n = 0; n < 200000; n++) {
		size_t k = unit_random(&seed) % 256;
		uint64_t h = (k + 1) * 0x9e3779b97f4a7c15u;

		if (unit_random(&seed) % 2 && count < 40) {
			ck_assert_int_eq(xshim_map_set_add(set, SMALL, h), 0);
			count += !in[k];
			in[k] = true;
		} else {
			xshim_map_set_del(set, SMALL, h);
			count -= in[k];
			in[k] = false;
		}
		k = unit_random(&seed) % 256;
		ck_assert_int_eq(xshim_map_set_has(set, SMALL, (k + 1) * 0x9e3779b97f4a7c15u), in[k]);
	}
	for (size_t k = 0; k < 256; k++)
		xshim_map_set_del(set, SMALL, (k + 1) * 0x9e3779b97f4a7c15u);
	for (int i = 0; i < SMALL; i++)
		ck_assert(atomic_load(&set[i]) <= 1);
}
END_TEST

static _Atomic int stop;

static void *churn(void *unused)
{
	(void)unused;
	for (uint64_t n = 1; !atomic_load(&stop); n++) {
		xshim_map_set_add(set, SMALL, at_home(7, n % 16 + 100));
		xshim_map_set_del(set, SMALL, at_home(7, (n + 9) % 16 + 100));
	}
	return NULL;
}

START_TEST(a_reader_always_finds_what_stays)
{
	pthread_t t;

	for (uint64_t n = 0; n < 8; n++)
		xshim_map_set_add(set, SMALL, at_home(7, 100 + n));
	for (uint64_t n = 0; n < 4; n++)
		ck_assert_int_eq(xshim_map_set_add(set, SMALL, at_home(7, n)), 0);
	atomic_store(&stop, 0);
	ck_assert_int_eq(pthread_create(&t, NULL, churn, NULL), 0);
	for (int i = 0; i < 300000; i++) {
		ck_assert(xshim_map_set_has(set, SMALL, at_home(7, (uint64_t)i % 4)));
		ck_assert(!xshim_map_set_has(set, SMALL, at_home(7, 50)));
	}
	atomic_store(&stop, 1);
	pthread_join(t, NULL);
}
END_TEST

/* ---- the mapping ---- */

static struct xshim_map *map;
static int map_fd, fds_before;

static void create_map(void)
{
	fds_before = unit_open_fds();
	ck_assert_int_eq(xshim_map_create(&map, &map_fd, 0xabcdef), 0);
}

static void remove_map(void)
{
	xshim_map_close(map);
	close(map_fd);
	ck_assert_int_eq(unit_open_fds(), fds_before);
}

START_TEST(a_reader_sees_what_the_writer_does)
{
	const struct xshim_map *m;

	ck_assert_int_eq(xshim_map_open(&m, map_fd), 0);
	ck_assert(m->instance == 0xabcdef);
	ck_assert(!xshim_map_has_endpoint(m, 4711));
	ck_assert_int_eq(xshim_map_set_add(map->endpoints, XSHIM_MAP_ENDPOINTS, 4711), 0);
	ck_assert_int_eq(xshim_map_set_add(map->offers, XSHIM_MAP_OFFERS, 815), 0);
	ck_assert(xshim_map_has_endpoint(m, 4711));
	ck_assert(!xshim_map_has_offer(m, 4711));
	ck_assert(xshim_map_has_offer(m, 815));
	xshim_map_close(m);
	xshim_map_close(NULL);
}
END_TEST

START_TEST(nobody_else_can_write_it)
{
	char path[64];
	void *at;
	int fd;

	ck_assert_int_eq(fcntl(map_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0), MAP_FAILED);
	ck_assert_int_eq(errno, EPERM);
	at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, map_fd, 0);
	ck_assert_ptr_ne(at, MAP_FAILED);
	ck_assert_int_lt(mprotect(at, 4096, PROT_READ | PROT_WRITE), 0);
	munmap(at, 4096);
	ck_assert_int_lt(pwrite(map_fd, "x", 1, 0), 0);
	ck_assert_int_lt(ftruncate(map_fd, 0), 0);
	ck_assert_int_lt(fallocate(map_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	ck_assert_int_lt(fcntl(map_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", map_fd);
	fd = open(path, O_RDWR);
	if (fd >= 0) {
		ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
		ck_assert_int_lt(pwrite(fd, "x", 1, 0), 0);
		close(fd);
	}
}
END_TEST

/* A memfd like a map but for one thing. */
static int forged(size_t bytes, uint32_t magic, uint16_t version, int seals)
{
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct xshim_map head = { .magic = magic, .version = version };

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	ck_assert_int_eq(pwrite(fd, &head, 64, 0), 64);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

#define ALL (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE)
static const struct {
	size_t bytes;
	uint32_t magic;
	uint16_t version;
	int seals, rc;
} forgery[] = {
	{ sizeof(struct xshim_map), XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION, ALL, 0 },
	{ sizeof(struct xshim_map) + 4096, XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION, ALL, -EPROTO },
	{ sizeof(struct xshim_map) - 4096, XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION, ALL, -EPROTO },
	{ sizeof(struct xshim_map), XSHIM_MAP_MAGIC + 1, XSHIM_MAP_VERSION, ALL, -EPROTO },
	{ sizeof(struct xshim_map), XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION + 1, ALL, -EPROTO },
	{ sizeof(struct xshim_map), XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION, ALL & ~F_SEAL_SHRINK, -EPROTO },
	{ sizeof(struct xshim_map), XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION, ALL & ~F_SEAL_GROW, -EPROTO },
	{ sizeof(struct xshim_map), XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION, ALL & ~F_SEAL_SEAL, -EPROTO },
	{ sizeof(struct xshim_map), XSHIM_MAP_MAGIC, XSHIM_MAP_VERSION, ALL & ~F_SEAL_FUTURE_WRITE, -EPROTO },
};

START_TEST(only_a_whole_sealed_map_is_opened)
{
	int fd = forged(forgery[_i].bytes, forgery[_i].magic, forgery[_i].version, forgery[_i].seals);
	const struct xshim_map *m = NULL;

	ck_assert_int_eq(xshim_map_open(&m, fd), forgery[_i].rc);
	xshim_map_close(m);
	close(fd);
}
END_TEST

START_TEST(other_descriptors_are_no_map)
{
	const struct xshim_map *m;
	int p[2], fd = open("/dev/zero", O_RDWR);

	ck_assert_int_eq(pipe(p), 0);
	errno = 55;
	ck_assert_int_eq(xshim_map_open(&m, p[0]), -EPROTO);
	ck_assert_int_eq(xshim_map_open(&m, fd), -EPROTO);
	ck_assert_int_eq(xshim_map_open(&m, -1), -EPROTO);
	ck_assert_int_eq(errno, 55);
	close(p[0]);
	close(p[1]);
	close(fd);
}
END_TEST

static struct xshim_endpoint address(unsigned int i, uint16_t port)
{
	struct xshim_endpoint ep = { .addr = { [10] = 0xff, 0xff, 10, 0, (uint8_t)(i >> 8), (uint8_t)i }, .port = port };

	return ep;
}

/* Each address keeps its domain whatever is added and taken out around it; ports do not matter. */
START_TEST(guests_have_domains)
{
	struct xshim_endpoint ep;
	uint32_t domid;

	for (unsigned int i = 0; i < 500; i++) {
		ep = address(i, (uint16_t)i);
		ck_assert(!xshim_map_guest_of(map, &ep, &domid));
		ck_assert_int_eq(xshim_map_guest_add(map, &ep, i + 1), 0);
	}
	for (unsigned int i = 0; i < 500; i += 2) {
		ep = address(i, 0);
		xshim_map_guest_del(map, &ep);
	}
	for (unsigned int i = 0; i < 500; i++) {
		ep = address(i, 7);
		ck_assert_int_eq(xshim_map_guest_of(map, &ep, &domid), i % 2);
		if (i % 2)
			ck_assert_uint_eq(domid, i + 1);
	}
	ep = address(33, 80);
	ck_assert_int_eq(xshim_map_guest_add(map, &ep, 999), 0);	/* the domain was restored under a new number */
	ck_assert(xshim_map_guest_of(map, &ep, &domid) && domid == 999);
	xshim_map_guest_del(map, &ep);
	ck_assert(!xshim_map_guest_of(map, &ep, &domid));
	xshim_map_guest_del(map, &ep);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("map");
	TCase *ts = tcase_create("sets"), *tm = tcase_create("mapping");

	tcase_add_checked_fixture(ts, clear_set, NULL);
	tcase_set_timeout(ts, 60);
	tcase_add_test(ts, added_is_found_deleted_is_not);
	tcase_add_test(ts, marks_are_no_fingerprints);
	tcase_add_loop_test(ts, a_chain_holds_when_its_middle_goes, 0, 2);
	tcase_add_test(ts, the_probe_limit_is_an_error_and_not_a_loop);
	tcase_add_test(ts, it_agrees_with_a_plain_list_after_many_changes);
	tcase_add_test(ts, a_reader_always_finds_what_stays);
	suite_add_tcase(s, ts);
	tcase_add_checked_fixture(tm, create_map, remove_map);
	tcase_add_test(tm, a_reader_sees_what_the_writer_does);
	tcase_add_test(tm, nobody_else_can_write_it);
	tcase_add_loop_test(tm, only_a_whole_sealed_map_is_opened, 0, (int)(sizeof(forgery) / sizeof(forgery[0])));
	tcase_add_test(tm, other_descriptors_are_no_map);
	tcase_add_test(tm, guests_have_domains);
	suite_add_tcase(s, tm);
	return s;
}

UNIT_MAIN(suite)
