/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <xshim/ring.h>
#include "shm_half.h"

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

static const struct xshim_backend *be = &xshim_backend_shm;
static struct xshim_local local;
static int fds_before;

static void setup(void)
{
	fds_before = unit_open_fds();
	ck_assert_int_eq(be->create(&local, NULL, ORDER, NONCE), 0);
}

static void teardown(void)
{
	be->destroy(&local);
	be->destroy(&local);		/* twice does no harm */
	ck_assert_int_eq(unit_open_fds(), fds_before);
}

static void close_all(const int fds[3])
{
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

START_TEST(it_is_found_by_name)
{
	ck_assert_ptr_eq(xshim_backend_find("shm"), be);
	ck_assert_ptr_eq(xshim_backend_of(XSHIM_BACKEND_SHM), be);
	ck_assert_ptr_null(xshim_backend_of(2));
	ck_assert_ptr_null(xshim_backend_find("shmem"));
	ck_assert_ptr_null(xshim_backend_find(""));
}
END_TEST

START_TEST(orders_out_of_range_are_refused)
{
	static const unsigned int bad[] = { 0, 11, 25, 32, 64, 0xffffffff };
	struct xshim_local l;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(be->create(&l, NULL, bad[i], 1), -EINVAL);
		be->destroy(&l);	/* after a failure too */
	}
	ck_assert_int_eq(be->create(&l, NULL, XSHIM_RING_ORDER_MIN, 1), 0);
	be->destroy(&l);
}
END_TEST

START_TEST(all_pages_are_there_at_once)
{
	struct stat st;

	ck_assert_int_eq(fstat(local.fds[XSHIM_LOCAL_MEMORY], &st), 0);
	ck_assert_uint_eq((size_t)st.st_size, xshim_region_bytes(ORDER));
	ck_assert_uint_ge((size_t)st.st_blocks * 512, xshim_region_bytes(ORDER));
	ck_assert_int_eq(fcntl(local.fds[XSHIM_LOCAL_MEMORY], F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++) {
		bool none = i == XSHIM_LOCAL_BELL_OUT || i == XSHIM_LOCAL_EVENT || i == XSHIM_LOCAL_BELL_IN;

		ck_assert_msg(none ? local.fds[i] == -1 : fcntl(local.fds[i], F_GETFD) == FD_CLOEXEC, "descriptor %d", i);
	}
}
END_TEST

START_TEST(the_peer_reads_what_the_owner_writes)
{
	struct iovec in = { (char[]){ "hello" }, 5 }, out = { (char[8]){ "" }, 5 };
	struct xshim_remote r;
	struct xshim_iov it;
	int fds[3], was[3];

	half_give(&local, fds);
	memcpy(was, fds, sizeof(was));
	ck_assert_int_eq(be->attach(&r, &local, &(struct xshim_ticket){ .order = ORDER, .nonce = NONCE }, fds), 0);
	ck_assert(r.order == ORDER && r.nonce == NONCE && r.bell == was[1] && r.life == was[2]);
	ck_assert_int_lt(fcntl(was[0], F_GETFD), 0);	/* closed */
	ck_assert(fds[0] == -1 && fds[1] == -1 && fds[2] == -1);
	xshim_iov_init(&it, &in, 1);
	xshim_ring_copy_in(xshim_region_data(local.region), ORDER, 3, &it, 5);
	atomic_store(&local.region->head, 8);
	ck_assert(atomic_load(&r.region->head) == 8);
	xshim_iov_init(&it, &out, 1);
	xshim_ring_copy_out(xshim_region_cdata(r.region), ORDER, 3, &it, 5);
	ck_assert_str_eq(out.iov_base, "hello");
	be->detach(&r);
	be->detach(&r);
}
END_TEST

/* Each end has given away half of a pair: they agree on one, and what is not used is the caller's. */
START_TEST(the_pair_of_the_greater_nonce_is_used)
{
	struct xshim_local other;
	struct xshim_remote r;
	int fds[3], own = local.fds[XSHIM_LOCAL_LIFE];
	bool ours_is_greater = _i;
	uint64_t nonce = ours_is_greater ? NONCE - 1 : NONCE + 1;

	ck_assert_int_eq(be->create(&other, NULL, ORDER, nonce), 0);
	fds[0] = dup(other.fds[XSHIM_LOCAL_MEMORY]);
	fds[1] = dup(other.fds[XSHIM_LOCAL_BELL]);
	fds[2] = dup(other.fds[XSHIM_LOCAL_LIFE_OUT]);
	ck_assert_int_eq(be->attach(&r, &local, &(struct xshim_ticket){ .order = ORDER, .nonce = nonce }, fds), 0);
	ck_assert_int_eq(r.life == own, ours_is_greater);
	ck_assert_int_eq(local.fds[XSHIM_LOCAL_LIFE], ours_is_greater ? -1 : own);
	ck_assert_int_eq(fds[2] >= 0, ours_is_greater);
	if (ours_is_greater)
		close(fds[2]);
	be->detach(&r);
	be->destroy(&other);
}
END_TEST

/* ---- somebody who gives bad memory ---- */

struct memory {
	const char *what;
	unsigned int order;	/* in its header */
	uint64_t nonce;
	uint32_t magic;
	uint16_t version;
	off_t extra;		/* more (or fewer) bytes than the order says */
	int seals;
	bool sparse;
	int rc;
};
#define GOOD .order = ORDER, .nonce = NONCE, .magic = XSHIM_REGION_MAGIC, .version = XSHIM_REGION_VERSION, .seals = ALL_SEALS
#define BAD .rc = -EPROTO

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
#ifdef __clang__
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#endif
static const struct memory memories[] = {
	{ "a good one", GOOD },
	{ "no SHRINK seal", GOOD, BAD, .seals = ALL_SEALS & ~F_SEAL_SHRINK },
	{ "no GROW seal", GOOD, BAD, .seals = ALL_SEALS & ~F_SEAL_GROW },
	{ "no FUTURE_WRITE seal", GOOD, BAD, .seals = ALL_SEALS & ~F_SEAL_FUTURE_WRITE },
	{ "no SEAL seal", GOOD, BAD, .seals = ALL_SEALS & ~F_SEAL_SEAL },
	{ "no seal at all", GOOD, BAD, .seals = 0 },
	{ "a page too long", GOOD, BAD, .extra = 4096 },
	{ "a byte too long", GOOD, BAD, .extra = 1 },
	{ "a page too short", GOOD, BAD, .extra = -4096 },
	{ "a byte too short", GOOD, BAD, .extra = -1 },
	{ "twice the ring", GOOD, BAD, .extra = 1 << ORDER },
	{ "empty", GOOD, BAD, .extra = -(off_t)(XSHIM_REGION_HDR + (1 << ORDER)) },
	{ "another magic", GOOD, BAD, .magic = 0 },
	{ "another version", GOOD, BAD, .version = XSHIM_REGION_VERSION + 1 },
	{ "a greater order in the header", GOOD, BAD, .order = ORDER + 1 },
	{ "a smaller order in the header", GOOD, BAD, .order = ORDER - 1 },
	{ "order 0 in the header", GOOD, BAD, .order = 0 },
	{ "order 65535 in the header", GOOD, BAD, .order = 65535 },
	{ "another nonce", GOOD, BAD, .nonce = NONCE + 1 },
	{ "pages that are not there", GOOD, BAD, .sparse = true },
};
#pragma GCC diagnostic pop

static int make_memory(const struct memory *m)
{
	size_t bytes = (size_t)((off_t)xshim_region_bytes(ORDER) + m->extra);
	int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct xshim_region_hdr hdr;

	memset(&hdr, 0, sizeof(hdr));
	hdr.magic = m->magic;
	hdr.version = m->version;
	hdr.order = (uint16_t)m->order;
	hdr.nonce = m->nonce;
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	if (!m->sparse && bytes)
		ck_assert_int_eq(fallocate(fd, 0, 0, (off_t)bytes), 0);
	if (bytes)
		ck_assert_int_eq(pwrite(fd, &hdr, sizeof(hdr), 0), sizeof(hdr));
	if (m->seals)
		ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, m->seals), 0);
	return fd;
}

/* Refused: the descriptors still are the caller's, and nothing stays mapped or open. */
static void expect_refusal(int fds[3], unsigned int order, uint64_t nonce, int rc, const char *what)
{
	struct xshim_remote r = { .bell = -1, .life = -1 };
	int got, was[3] = { fds[0], fds[1], fds[2] }, before = unit_open_fds();

	errno = 44;
	got = be->attach(&r, &local, &(struct xshim_ticket){ .order = order, .nonce = nonce }, fds);
	ck_assert_msg(got == rc, "%s: %d", what, got);
	ck_assert_int_eq(errno, 44);
	ck_assert_int_eq(unit_open_fds(), before);
	ck_assert_mem_eq(fds, was, sizeof(was));
	ck_assert_ptr_null(r.region);
}

START_TEST(memory_is_checked)
{
	const struct memory *m = &memories[_i];
	struct xshim_remote r;
	int fds[3];

	half_give(&local, fds);
	close(fds[0]);
	fds[0] = make_memory(m);
	if (m->rc == 0) {
		ck_assert_int_eq(be->attach(&r, &local, &(struct xshim_ticket){ .order = ORDER, .nonce = NONCE }, fds), 0);
		be->detach(&r);
		return;
	}
	expect_refusal(fds, ORDER, NONCE, m->rc, m->what);
	close_all(fds);
}
END_TEST

START_TEST(what_was_announced_must_be_there)
{
	int fds[3];

	half_give(&local, fds);
	expect_refusal(fds, ORDER + 1, NONCE, -EPROTO, "order");
	expect_refusal(fds, ORDER - 1, NONCE, -EPROTO, "order");
	expect_refusal(fds, 0, NONCE, -EPROTO, "order 0");
	expect_refusal(fds, 0xffffffff, NONCE, -EPROTO, "order 2^32-1");
	expect_refusal(fds, ORDER, NONCE ^ 1, -EPROTO, "nonce");
	close_all(fds);
}
END_TEST

START_TEST(other_descriptors_are_no_memory)
{
	int fds[3], p[2], keep[5], n = 0;
	char path[] = "/tmp/xshim-test-XXXXXX";

	half_give(&local, fds);
	close(fds[0]);
	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	keep[n++] = p[0];
	keep[n++] = p[1];
	keep[n++] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	keep[n++] = mkstemp(path);
	unlink(path);
	ck_assert_int_eq(ftruncate(keep[3], (off_t)xshim_region_bytes(ORDER)), 0);
	keep[n++] = dup(fds[1]);
	for (int i = 0; i < n; i++) {
		fds[0] = keep[i];
		expect_refusal(fds, ORDER, NONCE, -EPROTO, "not a memfd");
		close(keep[i]);
	}
	fds[0] = -1;
	expect_refusal(fds, ORDER, NONCE, -EPROTO, "no descriptor");
	close_all(fds);
}
END_TEST

START_TEST(huge_pages_are_refused)
{
	int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	const unsigned int order = 21;
	int fds[3];

	if (fd < 0)
		return;		/* no hugetlbfs in this kernel */
	half_give(&local, fds);
	close(fds[0]);
	fds[0] = fd;
	/* No size of one fits a region exactly; seals alone must not be enough either. */
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
	expect_refusal(fds, order, NONCE, -EPROTO, "hugetlb");
	close_all(fds);
}
END_TEST

static int connected_to_a_service(int type)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int l = socket(AF_UNIX, type | SOCK_CLOEXEC, 0), c = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(un);

	ck_assert_int_eq(bind(l, (struct sockaddr *)&un, sizeof(sa_family_t)), 0);	/* an abstract name */
	ck_assert_int_eq(listen(l, 1), 0);
	ck_assert_int_eq(getsockname(l, (struct sockaddr *)&un, &len), 0);
	ck_assert_int_eq(connect(c, (struct sockaddr *)&un, len), 0);
	close(l);
	return c;
}

/* 1: in place of the bell, 2: of the life, which must be half of a pair. */
START_TEST(other_descriptors_are_no_bell)
{
	int fds[3], other[9], spare[4], n = 0, which = _i;

	half_give(&local, fds);
	close(fds[which]);
	ck_assert_int_eq(pipe2(spare, O_CLOEXEC), 0);
	other[n++] = spare[1];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, spare + 2), 0);
	other[n++] = spare[2];
	other[n++] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);	/* not connected */
	other[n++] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	other[n++] = connected_to_a_service(SOCK_STREAM);
	other[n++] = eventfd(0, EFD_CLOEXEC);
	other[n++] = dup(fds[0]);
	if (which == 2)
		other[n++] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	for (int i = 0; i < n; i++) {
		fds[which] = other[i];
		expect_refusal(fds, ORDER, NONCE, -EPROTO, "not a bell");
		close(other[i]);
	}
	fds[which] = -1;
	expect_refusal(fds, ORDER, NONCE, -EPROTO, "no descriptor");
	close_all(fds);
	close(spare[0]);
	close(spare[3]);
}
END_TEST

/* ---- a peer who tries to write what it may only read ---- */

START_TEST(the_peer_cannot_write_the_region)
{
	size_t bytes = xshim_region_bytes(ORDER);
	struct xshim_region_hdr before;
	struct stat st;
	char path[64];
	int fds[3], again;
	void *at;

	memcpy(&before, local.region, sizeof(before));
	half_give(&local, fds);
	ck_assert_ptr_eq(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0), MAP_FAILED);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_ptr_eq(mmap(NULL, bytes, PROT_WRITE, MAP_SHARED, fds[0], 0), MAP_FAILED);
	at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fds[0], 0);
	ck_assert_ptr_ne(at, MAP_FAILED);
	ck_assert_int_lt(mprotect(at, bytes, PROT_READ | PROT_WRITE), 0);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_lt(madvise(at, bytes, MADV_REMOVE), 0);
	munmap(at, bytes);
	ck_assert_int_lt(pwrite(fds[0], "x", 1, 0), 0);
	ck_assert_int_lt(pwrite(fds[0], "x", 1, (off_t)bytes), 0);
	ck_assert_int_lt(fallocate(fds[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	ck_assert_int_lt(fallocate(fds[0], 0, 0, (off_t)bytes * 2), 0);
	ck_assert_int_lt(ftruncate(fds[0], 0), 0);
	ck_assert_int_lt(ftruncate(fds[0], (off_t)bytes * 2), 0);
	ck_assert_int_lt(fcntl(fds[0], F_ADD_SEALS, F_SEAL_WRITE), 0);
	/* Once more through a fresh open file. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0) {
		ck_assert_ptr_eq(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
		ck_assert_int_lt(pwrite(again, "x", 1, 0), 0);
		ck_assert_int_lt(ftruncate(again, 0), 0);
		close(again);
	}
	ck_assert_int_lt(open(path, O_RDWR | O_TRUNC | O_CLOEXEC), 0);
	ck_assert_int_eq(fstat(fds[0], &st), 0);
	ck_assert_uint_eq((size_t)st.st_size, bytes);
	ck_assert_mem_eq(&before, local.region, sizeof(before));
	close_all(fds);
	/* The owner still can. */
	atomic_store(&local.region->head, 1);
	xshim_region_data(local.region)[(1 << ORDER) - 1] = 1;
}
END_TEST

/* A reader's mapping is not bent by the other's private, copy-on-write one. */
START_TEST(a_private_mapping_changes_nothing)
{
	size_t bytes = xshim_region_bytes(ORDER);
	struct xshim_region_hdr *at;
	int fds[3];

	half_give(&local, fds);
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds[0], 0);
	if (at != MAP_FAILED) {
		atomic_store(&at->head, 99);
		ck_assert(atomic_load(&local.region->head) == 0);
		munmap(at, bytes);
	}
	close_all(fds);
}
END_TEST

/* ---- limits ---- */

START_TEST(a_file_size_limit_is_an_error_and_no_signal)
{
	struct rlimit lim = { 20000, 20000 };
	struct xshim_local l;
	int before = unit_open_fds();

	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &lim), 0);
	ck_assert_int_eq(be->create(&l, NULL, ORDER, 1), -EFBIG);
	ck_assert_int_eq(be->create(&l, NULL, XSHIM_RING_ORDER_MIN, 1), 0);
	be->destroy(&l);
	ck_assert_int_eq(unit_open_fds(), before);
}
END_TEST

/* With room for 0 to 3 more descriptors: an error each time, and all of them back. */
START_TEST(a_lack_of_descriptors_is_an_error)
{
	struct rlimit lim;
	struct xshim_local l;
	int before, top = dup(0);

	ck_assert_int_ge(top, 0);
	close(top);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = (rlim_t)(top + _i);
	before = unit_open_fds();
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
	ck_assert_int_eq(be->create(&l, NULL, ORDER, 1), -EMFILE);
	lim.rlim_cur = lim.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
	ck_assert_ptr_null(l.region);
	ck_assert_int_eq(unit_open_fds(), before);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("backend_shm");
	TCase *tc = tcase_create("create and attach"), *th = tcase_create("hostile peer"), *tl = tcase_create("limits");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, it_is_found_by_name);
	tcase_add_test(tc, orders_out_of_range_are_refused);
	tcase_add_test(tc, all_pages_are_there_at_once);
	tcase_add_test(tc, the_peer_reads_what_the_owner_writes);
	tcase_add_loop_test(tc, the_pair_of_the_greater_nonce_is_used, 0, 2);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(th, setup, teardown);
	tcase_add_loop_test(th, memory_is_checked, 0, (int)(sizeof(memories) / sizeof(memories[0])));
	tcase_add_test(th, what_was_announced_must_be_there);
	tcase_add_test(th, other_descriptors_are_no_memory);
	tcase_add_test(th, huge_pages_are_refused);
	tcase_add_loop_test(th, other_descriptors_are_no_bell, 1, 3);
	tcase_add_test(th, the_peer_cannot_write_the_region);
	tcase_add_test(th, a_private_mapping_changes_nothing);
	suite_add_tcase(s, th);
	tcase_add_test(tl, a_file_size_limit_is_an_error_and_no_signal);
	tcase_add_loop_test(tl, a_lack_of_descriptors_is_an_error, 0, 4);
	suite_add_tcase(s, tl);
	return s;
}

UNIT_MAIN(suite)
