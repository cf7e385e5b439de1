/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <xshim/arena.h>
#include "unit.h"

static struct xshim_arena arena;
static int arena_fd, fds_before;

static void setup(void)
{
	fds_before = unit_open_fds();
	ck_assert_int_eq(xshim_arena_create(&arena, &arena_fd), 0);
}

static void teardown(void)
{
	xshim_arena_unmap(&arena);
	ck_assert_ptr_null(arena.hdr);
	xshim_arena_unmap(&arena);
	close(arena_fd);
	ck_assert_int_eq(unit_open_fds(), fds_before);
}

START_TEST(a_fresh_arena_says_whose_it_is)
{
	struct stat st;

	ck_assert_uint_eq(atomic_load(&arena.hdr->pid), (uint32_t)getpid());
	ck_assert_uint_gt(strlen(arena.hdr->comm), 0);
	ck_assert(arena.hdr->start_ns > 1500000000ull * 1000000000);
	ck_assert_uint_eq(atomic_load(&arena.hdr->high_water), 0);
	ck_assert_int_eq(fstat(arena_fd, &st), 0);
	ck_assert_uint_eq(arena.ino, st.st_ino);
	ck_assert_uint_eq((size_t)st.st_size, XSHIM_ARENA_BYTES);
	ck_assert_int_eq(fcntl(arena_fd, F_GETFD), FD_CLOEXEC);
	/* Pages come with use. */
	ck_assert_int_le(st.st_blocks * 512, 65536);
}
END_TEST

START_TEST(its_size_cannot_change)
{
	ck_assert_int_lt(ftruncate(arena_fd, 4096), 0);
	ck_assert_int_lt(ftruncate(arena_fd, (off_t)XSHIM_ARENA_BYTES * 2), 0);
	ck_assert_int_lt(fcntl(arena_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
}
END_TEST

START_TEST(another_mapping_shows_the_same_slots)
{
	struct xshim_slot *s = xshim_slot_alloc(&arena), *seen;
	struct xshim_arena other;

	ck_assert_int_eq(xshim_arena_map(&other, arena_fd, _i), 0);
	ck_assert(other.ino == arena.ino && other.hdr != arena.hdr);
	seen = xshim_slot_at(&other, xshim_slot_index(&arena, s));
	ck_assert_uint_eq(atomic_load(&seen->state), XSHIM_SLOT_BUSY);
	s->cookie = 4711;
	xshim_slot_publish(s);
	ck_assert_uint_eq(atomic_load(&seen->state), XSHIM_SLOT_USED);
	ck_assert(seen->cookie == 4711);
	if (_i)
		seen->cookie++;
	ck_assert(s->cookie == 4711u + (uint64_t)_i);
	xshim_arena_unmap(&other);
}
END_TEST

START_TEST(a_read_only_mapping_cannot_be_written)
{
	struct xshim_arena other;
	int status;
	pid_t pid;

	ck_assert_int_eq(xshim_arena_map(&other, arena_fd, false), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);	/* also where a sanitizer has its own */
		atomic_store(&other.hdr->hint, 1);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	xshim_arena_unmap(&other);
}
END_TEST

#define FAMILY (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
static const struct {
	off_t bytes_off;
	uint32_t magic;
	uint16_t version, slot_bytes;
	uint32_t slots;
	int seals;
	bool writable;
	int rc;
} forgery[] = {
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY, true, 0 },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY | F_SEAL_FUTURE_WRITE, false, 0 },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY | F_SEAL_FUTURE_WRITE, true, -EPROTO },
	{ 4096, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY, false, -EPROTO },
	{ -4096, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY, false, -EPROTO },
	{ 0, 0x5853484du, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY, false, -EPROTO },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION + 1, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY, false, -EPROTO },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES * 2, XSHIM_ARENA_SLOTS, FAMILY, false, -EPROTO },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS * 2, FAMILY, false, -EPROTO },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY & ~F_SEAL_SHRINK, false, -EPROTO },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY & ~F_SEAL_GROW, false, -EPROTO },
	{ 0, XSHIM_ARENA_MAGIC, XSHIM_ARENA_VERSION, XSHIM_SLOT_BYTES, XSHIM_ARENA_SLOTS, FAMILY & ~F_SEAL_SEAL, false, -EPROTO },
};

START_TEST(only_a_whole_sealed_arena_is_mapped)
{
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct xshim_arena_hdr hdr = {
		.magic = forgery[_i].magic,
		.version = forgery[_i].version,
		.slot_bytes = forgery[_i].slot_bytes,
		.slots = forgery[_i].slots,
	};
	struct xshim_arena other = { NULL, 0 };

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)XSHIM_ARENA_BYTES + forgery[_i].bytes_off), 0);
	ck_assert_int_eq(pwrite(fd, &hdr, sizeof(hdr), 0), sizeof(hdr));
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, forgery[_i].seals), 0);
	ck_assert_int_eq(xshim_arena_map(&other, fd, forgery[_i].writable), forgery[_i].rc);
	xshim_arena_unmap(&other);
	close(fd);
}
END_TEST

START_TEST(a_file_size_limit_is_an_error_and_no_signal)
{
	struct rlimit lim = { 1000000, 1000000 };
	struct xshim_arena other;
	int fd;

	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &lim), 0);
	ck_assert_int_eq(xshim_arena_create(&other, &fd), -EFBIG);
}
END_TEST

/* ---- slots ---- */

START_TEST(slots_come_lowest_first_and_zeroed)
{
	struct xshim_slot *a = xshim_slot_alloc(&arena), *b = xshim_slot_alloc(&arena), *c = xshim_slot_alloc(&arena);
	static const struct xshim_slot zero;
	const size_t rest = offsetof(struct xshim_slot, named);

	ck_assert_uint_eq(xshim_slot_index(&arena, a), 0);
	ck_assert_uint_eq(xshim_slot_index(&arena, b), 1);
	ck_assert_uint_eq(xshim_slot_index(&arena, c), 2);
	ck_assert_uint_eq(atomic_load(&arena.hdr->high_water), 3);
	ck_assert_ptr_eq(xshim_slot_at(&arena, 2), c);
	memset((uint8_t *)b + rest, 0xff, sizeof(*b) - rest);
	memset(&b->n, 0, sizeof(b->n));
	memset(&a->n, 0, sizeof(a->n));
	xshim_slot_free(&arena, b);
	xshim_slot_free(&arena, a);
	ck_assert_ptr_eq(xshim_slot_alloc(&arena), a);
	ck_assert_ptr_eq(xshim_slot_alloc(&arena), b);
	ck_assert_uint_eq(atomic_load(&b->gen), 2);
	ck_assert_uint_eq(atomic_load(&b->state), XSHIM_SLOT_BUSY);
	ck_assert_mem_eq((uint8_t *)b + rest, (const uint8_t *)&zero + rest, sizeof(zero) - rest);
	ck_assert_uint_eq(atomic_load(&arena.hdr->high_water), 3);
}
END_TEST

START_TEST(indices_beyond_the_end_are_null)
{
	ck_assert_ptr_nonnull(xshim_slot_at(&arena, XSHIM_ARENA_SLOTS - 1));
	ck_assert_ptr_null(xshim_slot_at(&arena, XSHIM_ARENA_SLOTS));
	ck_assert_ptr_null(xshim_slot_at(&arena, UINT32_MAX));
	for (uint32_t i = 0; i < XSHIM_ARENA_SLOTS; i += 511)
		ck_assert_uint_eq(xshim_slot_index(&arena, xshim_slot_at(&arena, i)), i);
}
END_TEST

START_TEST(a_full_arena_says_so_and_recovers)
{
	struct xshim_slot *s;

	for (uint32_t i = 0; i < XSHIM_ARENA_SLOTS; i++) {
		s = xshim_slot_alloc(&arena);
		ck_assert_ptr_nonnull(s);
		ck_assert_uint_eq(xshim_slot_index(&arena, s), i);
	}
	ck_assert_ptr_null(xshim_slot_alloc(&arena));
	ck_assert_ptr_null(xshim_slot_alloc(&arena));
	ck_assert(atomic_load(&arena.hdr->slotless) == 2);
	ck_assert_uint_eq(atomic_load(&arena.hdr->high_water), XSHIM_ARENA_SLOTS);
	xshim_slot_free(&arena, xshim_slot_at(&arena, 4000));
	xshim_slot_free(&arena, xshim_slot_at(&arena, 17));
	ck_assert_uint_eq(xshim_slot_index(&arena, xshim_slot_alloc(&arena)), 17);
	ck_assert_uint_eq(xshim_slot_index(&arena, xshim_slot_alloc(&arena)), 4000);
	ck_assert_ptr_null(xshim_slot_alloc(&arena));
}
END_TEST

START_TEST(freeing_adds_to_the_totals)
{
	struct xshim_slot *s = xshim_slot_alloc(&arena), *t = xshim_slot_alloc(&arena), *u = xshim_slot_alloc(&arena);
	struct xshim_counters *done = &arena.hdr->done;

	xshim_count(&s->n.ring_tx, 10);
	xshim_count(&s->n.ring_tx, 1);
	xshim_count(&s->n.ring_rx, 20);
	xshim_count(&s->n.tcp_tx, 30);
	xshim_count(&s->n.tcp_rx, 40);
	xshim_count(&s->n.attaches, 2);
	xshim_count(&s->n.leaves, 3);
	xshim_count(&s->n.switches, 4);
	xshim_count(&s->n.bells_rung, 5);
	xshim_count(&s->n.bells_got, 6);
	xshim_count(&s->n.sleeps, 7);
	atomic_store(&s->reason, XSHIM_R_RING);
	xshim_count(&t->n.tcp_tx, 1000);
	atomic_store(&t->reason, XSHIM_R_NOT_CORESIDENT);
	atomic_store(&u->reason, 0xfffffff0);
	xshim_slot_free(&arena, s);
	xshim_slot_free(&arena, t);
	xshim_slot_free(&arena, u);
	ck_assert(atomic_load(&done->ring_tx) == 11 && atomic_load(&done->ring_rx) == 20);
	ck_assert(atomic_load(&done->tcp_tx) == 1030 && atomic_load(&done->tcp_rx) == 40);
	ck_assert(atomic_load(&done->attaches) == 2 && atomic_load(&done->leaves) == 3);
	ck_assert(atomic_load(&done->switches) == 4 && atomic_load(&done->bells_rung) == 5);
	ck_assert(atomic_load(&done->bells_got) == 6 && atomic_load(&done->sleeps) == 7);
	ck_assert(atomic_load(&arena.hdr->done_conns) == 3);
	ck_assert(atomic_load(&arena.hdr->done_ring_conns) == 1);
	ck_assert(atomic_load(&arena.hdr->done_reasons[XSHIM_R_RING]) == 1);
	ck_assert(atomic_load(&arena.hdr->done_reasons[XSHIM_R_NOT_CORESIDENT]) == 1);
	ck_assert(atomic_load(&arena.hdr->done_reasons[XSHIM_REASON_SLOTS - 1]) == 1);
}
END_TEST

#define WORKERS 4
#define HELD 2
#define TURNS 60000

/* Takes and returns slots; a slot that two have at a time shows in its cookie. */
static bool churn(uint64_t name)
{
	struct xshim_slot *mine[HELD] = { NULL };

	for (uint64_t n = 0; n < TURNS; n++) {
		struct xshim_slot **at = &mine[n % HELD];

		if (*at) {
			if ((*at)->cookie != (name << 32 | (n - HELD)))
				return false;
			xshim_count(&(*at)->n.ring_tx, 1);
			xshim_slot_free(&arena, *at);
		}
		*at = xshim_slot_alloc(&arena);
		if (!*at || (*at)->cookie != 0)
			return false;
		(*at)->cookie = name << 32 | n;
		xshim_slot_publish(*at);
	}
	for (int i = 0; i < HELD; i++)
		xshim_slot_free(&arena, mine[i]);
	return true;
}

static void *churn_in_thread(void *name)
{
	return churn((uint64_t)(uintptr_t)name) ? name : NULL;
}

static void check_after_churn(void)
{
	ck_assert(atomic_load(&arena.hdr->done_conns) == (uint64_t)WORKERS * TURNS);
	ck_assert(atomic_load(&arena.hdr->done.ring_tx) == (uint64_t)WORKERS * (TURNS - HELD));
	ck_assert_uint_le(atomic_load(&arena.hdr->high_water), WORKERS * HELD * 8);	/* low ones first */
	ck_assert(atomic_load(&arena.hdr->slotless) == 0);
	/* All are free again, and found. */
	for (uint32_t i = 0; i < WORKERS * HELD; i++)
		ck_assert_uint_eq(xshim_slot_index(&arena, xshim_slot_alloc(&arena)), i);
}

START_TEST(threads_never_get_the_same_slot)
{
	pthread_t t[WORKERS];
	void *ok;

	for (uintptr_t i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, churn_in_thread, (void *)(i + 1)), 0);
	for (int i = 0; i < WORKERS; i++) {
		pthread_join(t[i], &ok);
		ck_assert_ptr_nonnull(ok);
	}
	check_after_churn();
}
END_TEST

START_TEST(processes_never_get_the_same_slot)
{
	pid_t pid[WORKERS];
	int status;

	for (uint64_t i = 0; i < WORKERS; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(churn(i + 1) ? 0 : 1);
	}
	for (int i = 0; i < WORKERS; i++) {
		ck_assert_int_eq(waitpid(pid[i], &status, 0), pid[i]);
		ck_assert_int_eq(status, 0);
	}
	check_after_churn();
}
END_TEST

/* ---- sharers ---- */

/* The number of a process that is gone. */
static pid_t dead_pid(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	return pid;
}

static pid_t living[XSHIM_ARENA_SHARERS];
static int livings;

static pid_t living_pid(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		alarm(60);
		for (;;)
			pause();
	}
	living[livings++] = pid;
	return pid;
}

static void end_living(void)
{
	while (livings > 0) {
		kill(living[--livings], SIGKILL);
		waitpid(living[livings], NULL, 0);
	}
}

START_TEST(who_holds_it_alone_is_sole)
{
	struct xshim_slot *s = xshim_slot_alloc(&arena);
	pid_t other = living_pid();

	ck_assert(!xshim_slot_is_sole(s, getpid()));		/* not entered at all */
	ck_assert(xshim_slot_sharer_add(s, getpid()));
	ck_assert(xshim_slot_is_sole(s, getpid()));
	ck_assert(xshim_slot_sharer_add(s, getpid()));		/* twice is once */
	atomic_fetch_add(&s->fork_pending, 1);
	ck_assert(!xshim_slot_is_sole(s, getpid()));
	ck_assert(xshim_slot_sharer_add(s, other));
	atomic_fetch_sub(&s->fork_pending, 1);
	ck_assert(!xshim_slot_is_sole(s, getpid()));
	ck_assert(!xshim_slot_is_sole(s, other));
	ck_assert(!xshim_slot_sharer_remove(s, other));
	ck_assert(xshim_slot_is_sole(s, getpid()));
	ck_assert(xshim_slot_sharer_remove(s, getpid()));
	end_living();
}
END_TEST

START_TEST(waits_of_living_others_count)
{
	struct xshim_slot *s = xshim_slot_alloc(&arena);
	struct xshim_waits *mine, *its;
	pid_t other = living_pid();

	ck_assert(xshim_slot_sharer_add(s, getpid()) && xshim_slot_sharer_add(s, other));
	mine = xshim_slot_waits(s, getpid());
	its = xshim_slot_waits(s, other);
	ck_assert(mine != its);
	atomic_store(&mine->rx, 1);
	ck_assert(!xshim_slot_others_wait(s, mine, true, true, false));
	ck_assert(xshim_slot_others_wait(s, its, true, true, false));
	atomic_store(&its->tx, 1);
	ck_assert(!xshim_slot_others_wait(s, mine, true, false, false));
	ck_assert(xshim_slot_others_wait(s, mine, false, true, false));
	/* entries of which one process is told count, but not to each other */
	atomic_store(&its->rx, XSHIM_WAITS_JOINT);
	ck_assert(xshim_slot_others_wait(s, mine, true, false, false));
	ck_assert(!xshim_slot_others_wait(s, mine, true, false, true));
	ck_assert(xshim_slot_others_wait(s, mine, true, true, true));
	end_living();
	ck_assert(!xshim_slot_others_wait(s, mine, true, true, false));
	/* one for whom there is no place */
	its = xshim_slot_waits(s, dead_pid());
	atomic_store(&its->rx, 1);
	ck_assert(xshim_slot_others_wait(s, mine, true, true, false));
	/* who comes into the place of a dead one begins anew */
	(void)xshim_slot_sharer_remove(s, other);
	ck_assert(xshim_slot_sharer_add(s, other = living_pid()));
	ck_assert_int_eq((int)atomic_load(&xshim_slot_waits(s, other)->tx), 0);
	end_living();
}
END_TEST

START_TEST(the_dead_do_not_hold)
{
	struct xshim_slot *s = xshim_slot_alloc(&arena);

	ck_assert(xshim_slot_sharer_add(s, dead_pid()));
	ck_assert(xshim_slot_sharer_add(s, getpid()));
	ck_assert(xshim_slot_sharer_add(s, dead_pid()));
	ck_assert(xshim_slot_is_sole(s, getpid()));
	for (int i = 0, n = 0; i < XSHIM_ARENA_SHARERS; i++) {
		n += atomic_load(&s->sharers[i]) != 0;
		ck_assert_int_le(n, 1);
	}
	ck_assert(xshim_slot_sharer_add(s, dead_pid()));
	ck_assert(xshim_slot_sharer_remove(s, getpid()));
}
END_TEST

START_TEST(one_too_many_is_crowded_for_good)
{
	struct xshim_slot *s = xshim_slot_alloc(&arena);

	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++)
		ck_assert(xshim_slot_sharer_add(s, living_pid()));
	ck_assert(!(atomic_load(&s->flags) & XSHIM_SLOT_CROWDED));
	ck_assert(!xshim_slot_sharer_add(s, getpid()));
	ck_assert(atomic_load(&s->flags) & XSHIM_SLOT_CROWDED);
	end_living();
	ck_assert(xshim_slot_sharer_add(s, living[0]));
	/* One whom the slot does not know may still have it: neither sole nor the last. */
	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++)
		ck_assert(!xshim_slot_is_sole(s, living[i]));
	for (int i = 0; i < XSHIM_ARENA_SHARERS; i++)
		ck_assert(!xshim_slot_sharer_remove(s, living[i]));
	ck_assert(xshim_slot_sharer_add(s, getpid()));
	ck_assert(!xshim_slot_is_sole(s, getpid()));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("arena");
	TCase *tm = tcase_create("mapping"), *ts = tcase_create("slots"), *th = tcase_create("sharers");

	tcase_add_checked_fixture(tm, setup, teardown);
	tcase_add_test(tm, a_fresh_arena_says_whose_it_is);
	tcase_add_test(tm, its_size_cannot_change);
	tcase_add_loop_test(tm, another_mapping_shows_the_same_slots, 0, 2);
	tcase_add_test(tm, a_read_only_mapping_cannot_be_written);
	tcase_add_loop_test(tm, only_a_whole_sealed_arena_is_mapped, 0, (int)(sizeof(forgery) / sizeof(forgery[0])));
	tcase_add_test(tm, a_file_size_limit_is_an_error_and_no_signal);
	suite_add_tcase(s, tm);
	tcase_add_checked_fixture(ts, setup, teardown);
	tcase_set_timeout(ts, 60);
	tcase_add_test(ts, slots_come_lowest_first_and_zeroed);
	tcase_add_test(ts, indices_beyond_the_end_are_null);
	tcase_add_test(ts, a_full_arena_says_so_and_recovers);
	tcase_add_test(ts, freeing_adds_to_the_totals);
	tcase_add_test(ts, threads_never_get_the_same_slot);
	tcase_add_test(ts, processes_never_get_the_same_slot);
	suite_add_tcase(s, ts);
	tcase_add_checked_fixture(th, setup, teardown);
	tcase_add_test(th, who_holds_it_alone_is_sole);
	tcase_add_test(th, waits_of_living_others_count);
	tcase_add_test(th, the_dead_do_not_hold);
	tcase_add_test(th, one_too_many_is_crowded_for_good);
	suite_add_tcase(s, th);
	return s;
}

UNIT_MAIN(suite)
