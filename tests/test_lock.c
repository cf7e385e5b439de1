/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <xshim/lock.h>
#include "unit.h"

/* Shared with the children that a test forks. */
struct shared {
	struct xshim_lock lock;
	_Atomic int ready, go, done;
	uint64_t counter;		/* guarded by lock */
	uint64_t twin;			/* guarded by lock; equals counter whenever it is free */
};
static struct shared *sh;
static pid_t child[8];
static int children;

static uint32_t tid(void)
{
	return (uint32_t)syscall(SYS_gettid);
}

static void setup(void)
{
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(sh, MAP_FAILED);
	children = 0;
}

static void teardown(void)
{
	for (int i = 0; i < children; i++)
		if (child[i] > 0) {
			kill(child[i], SIGKILL);
			waitpid(child[i], NULL, 0);
		}
	munmap(sh, sizeof(*sh));
}

static pid_t start_child(void (*run)(void))
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		run();
		_exit(0);
	}
	child[children++] = pid;
	return pid;
}

/* Wait for the end of a child that is killed in teardown otherwise; its exit status. */
static int finish(int i)
{
	int status = -1;

	unit_wait_for(waitpid(child[i], &status, WNOHANG) == child[i]);
	child[i] = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* In one of the two ways. */
static void drop(int i)
{
	if (i % 2)
		xshim_lock_drop(&sh->lock);
	else if (!xshim_lock_let(&sh->lock))
		xshim_lock_hand_on(&sh->lock);
}

static void count(int rounds)
{
	uint32_t me = tid();

	for (int i = 0; i < rounds; i++) {
		if (xshim_lock_take(&sh->lock, me) != 0)
			abort();
		if (sh->counter != sh->twin)
			abort();
		sh->counter++;
		if (i % 64 == 0)
			sched_yield();	/* so that others find it taken */
		sh->twin++;
		drop(i);
	}
}

#define ROUNDS 20000
#define PARTIES 4

static void *count_in_thread(void *unused)
{
	(void)unused;
	count(ROUNDS);
	return NULL;
}

START_TEST(threads_exclude_each_other)
{
	pthread_t t[PARTIES];

	for (int i = 0; i < PARTIES; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, count_in_thread, NULL), 0);
	for (int i = 0; i < PARTIES; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(sh->counter, (uint64_t)ROUNDS * PARTIES);
	ck_assert_uint_eq(atomic_load(&sh->lock.word), 0);
}
END_TEST

static void count_in_child(void)
{
	count(ROUNDS);
}

START_TEST(processes_exclude_each_other)
{
	for (int i = 0; i < PARTIES; i++)
		start_child(count_in_child);
	for (int i = 0; i < PARTIES; i++)
		ck_assert_int_eq(finish(i), 0);
	ck_assert_uint_eq(sh->counter, (uint64_t)ROUNDS * PARTIES);
	ck_assert_uint_eq(atomic_load(&sh->lock.word), 0);
}
END_TEST

START_TEST(taking_it_twice_is_refused)
{
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), -EDEADLK);
	atomic_fetch_or(&sh->lock.word, XSHIM_LOCK_WAITERS);
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), -EDEADLK);
	ck_assert(!xshim_lock_try(&sh->lock, tid()));
	xshim_lock_drop(&sh->lock);
	ck_assert(xshim_lock_try(&sh->lock, tid()));
	xshim_lock_drop(&sh->lock);
	ck_assert_uint_eq(atomic_load(&sh->lock.word), 0);
}
END_TEST

/* What is left of waiters is taken away by who drops it, unless it is another's by then. */
START_TEST(dropped_in_two_halves)
{
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	ck_assert(xshim_lock_let(&sh->lock));
	ck_assert_uint_eq(atomic_load(&sh->lock.word), 0);
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	atomic_fetch_or(&sh->lock.word, XSHIM_LOCK_WAITERS);
	ck_assert(!xshim_lock_let(&sh->lock));
	ck_assert(!xshim_lock_try(&sh->lock, tid()));
	xshim_lock_hand_on(&sh->lock);
	ck_assert_uint_eq(atomic_load(&sh->lock.word), 0);
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	atomic_fetch_or(&sh->lock.word, XSHIM_LOCK_WAITERS);
	ck_assert(!xshim_lock_let(&sh->lock));
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	xshim_lock_hand_on(&sh->lock);
	ck_assert_uint_eq(atomic_load(&sh->lock.word), tid() | XSHIM_LOCK_WAITERS);
	xshim_lock_drop(&sh->lock);
	ck_assert_uint_eq(atomic_load(&sh->lock.word), 0);
}
END_TEST

static volatile int in_handler;

static void on_signal(int sig)
{
	(void)sig;
	in_handler = xshim_lock_take(&sh->lock, tid());
}

START_TEST(a_handler_that_interrupts_the_holder_does_not_hang)
{
	signal(SIGUSR1, on_signal);
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	raise(SIGUSR1);
	ck_assert_int_eq(in_handler, -EDEADLK);
	xshim_lock_drop(&sh->lock);
}
END_TEST

static void take_and_wait(void)
{
	if (xshim_lock_take(&sh->lock, tid()) != 0)
		abort();
	sh->counter = 41;
	atomic_store(&sh->ready, 1);
	while (!atomic_load(&sh->go))
		unit_nap();
	atomic_store(&sh->done, 1);
	xshim_lock_drop(&sh->lock);
}

START_TEST(a_killed_holder_loses_it)
{
	start_child(take_and_wait);
	unit_wait_for(atomic_load(&sh->ready));
	kill(child[0], SIGKILL);
	ck_assert_int_eq(finish(0), -SIGKILL);
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	ck_assert_uint_eq(atomic_load(&sh->lock.orphaned), 1);
	ck_assert_uint_eq(sh->counter, 41);
	xshim_lock_drop(&sh->lock);
	ck_assert_uint_eq(atomic_load(&sh->lock.word), 0);
}
END_TEST

/* A parent that waits for the lock cannot wait for its child at the same time. */
START_TEST(a_killed_holder_nobody_has_waited_for_loses_it)
{
	siginfo_t info;

	start_child(take_and_wait);
	unit_wait_for(atomic_load(&sh->ready));
	kill(child[0], SIGKILL);
	ck_assert_int_eq(waitid(P_PID, (id_t)child[0], &info, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(kill(child[0], 0), 0);		/* its number still is there */
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	xshim_lock_drop(&sh->lock);
}
END_TEST

static void *take_and_wait_in_thread(void *unused)
{
	(void)unused;
	take_and_wait();
	return NULL;
}

static void hold_in_a_thread(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, take_and_wait_in_thread, NULL) != 0)
		abort();
	pthread_join(t, NULL);
}

START_TEST(a_killed_thread_that_held_it_loses_it)
{
	siginfo_t info;

	start_child(hold_in_a_thread);
	unit_wait_for(atomic_load(&sh->ready));
	kill(child[0], SIGKILL);
	ck_assert_int_eq(waitid(P_PID, (id_t)child[0], &info, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	xshim_lock_drop(&sh->lock);
}
END_TEST

static void take_late(void)
{
	if (xshim_lock_take(&sh->lock, tid()) != 0)
		_exit(2);
	_exit(atomic_load(&sh->done) ? 0 : 1);		/* 1: got it while the other held it */
}

/* Longer than several of the waiter's sleeps, and stopped: alive all the same. */
START_TEST(a_slow_holder_is_not_robbed)
{
	uint64_t until;
	int status;

	start_child(take_and_wait);
	unit_wait_for(atomic_load(&sh->ready));
	kill(child[0], SIGSTOP);
	ck_assert_int_eq(waitpid(child[0], &status, WUNTRACED), child[0]);
	start_child(take_late);
	unit_wait_for(atomic_load(&sh->lock.word) & XSHIM_LOCK_WAITERS);
	for (until = unit_now_ms() + 600; unit_now_ms() < until; unit_nap())
		ck_assert_uint_eq(atomic_load(&sh->lock.word) & ~XSHIM_LOCK_WAITERS, (uint32_t)child[0]);
	atomic_store(&sh->go, 1);
	kill(child[0], SIGCONT);
	ck_assert_int_eq(finish(0), 0);
	ck_assert_int_eq(finish(1), 0);
}
END_TEST

/* Who slept cannot know whether others still do, and must wake one of them when it is done. */
START_TEST(who_slept_takes_it_as_having_waiters)
{
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
	start_child(take_and_wait);
	unit_wait_for(atomic_load(&sh->lock.word) & XSHIM_LOCK_WAITERS);
	xshim_lock_drop(&sh->lock);
	unit_wait_for(atomic_load(&sh->ready));
	ck_assert_uint_eq(atomic_load(&sh->lock.word), (uint32_t)child[0] | XSHIM_LOCK_WAITERS);
	atomic_store(&sh->go, 1);
	ck_assert_int_eq(finish(0), 0);
}
END_TEST

/* The wake-up meant for a waiter who is killed must not be the last one. */
START_TEST(killed_waiters_take_nothing_with_them)
{
	for (int round = 0; round < 20; round++) {
		ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
		children = 0;
		start_child(count_in_child);
		start_child(count_in_child);
		start_child(count_in_child);
		unit_wait_for(atomic_load(&sh->lock.word) & XSHIM_LOCK_WAITERS);
		sh->counter = sh->twin = 0;
		kill(child[round % 3], SIGKILL);
		xshim_lock_drop(&sh->lock);
		for (int i = 0; i < 3; i++) {
			if (i == round % 3)
				ck_assert_int_eq(finish(i), -SIGKILL);
			else
				ck_assert_int_eq(finish(i), 0);
		}
	}
	ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
}
END_TEST

static void count_for_ever(void)
{
	uint32_t me = tid();

	for (int i = 0;; i = !i) {
		if (xshim_lock_take(&sh->lock, me) != 0)
			abort();
		sh->counter++;
		drop(i);
	}
}

/* At any instruction: some die as holders, some as waiters, some in between. */
START_TEST(it_survives_processes_killed_at_random)
{
	for (int round = 0; round < 40; round++) {
		uint64_t before;

		children = 0;
		start_child(count_for_ever);
		start_child(count_for_ever);
		before = sh->counter;
		unit_wait_for(*(volatile uint64_t *)&sh->counter > before + 100);
		kill(child[0], SIGKILL);
		kill(child[1], SIGKILL);
		ck_assert_int_eq(finish(0), -SIGKILL);
		ck_assert_int_eq(finish(1), -SIGKILL);
		ck_assert_int_eq(xshim_lock_take(&sh->lock, tid()), 0);
		xshim_lock_drop(&sh->lock);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lock");
	TCase *tc = tcase_create("exclusion"), *td = tcase_create("death");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, threads_exclude_each_other);
	tcase_add_test(tc, processes_exclude_each_other);
	tcase_add_test(tc, taking_it_twice_is_refused);
	tcase_add_test(tc, dropped_in_two_halves);
	tcase_add_test(tc, a_handler_that_interrupts_the_holder_does_not_hang);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(td, setup, teardown);
	tcase_set_timeout(td, 120);
	tcase_add_test(td, a_killed_holder_loses_it);
	tcase_add_test(td, a_killed_holder_nobody_has_waited_for_loses_it);
	tcase_add_test(td, a_killed_thread_that_held_it_loses_it);
	tcase_add_test(td, a_slow_holder_is_not_robbed);
	tcase_add_test(td, who_slept_takes_it_as_having_waiters);
	tcase_add_test(td, killed_waiters_take_nothing_with_them);
	tcase_add_test(td, it_survives_processes_killed_at_random);
	suite_add_tcase(s, td);
	return s;
}

UNIT_MAIN(suite)
