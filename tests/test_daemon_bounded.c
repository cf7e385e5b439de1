/* SPDX-License-Identifier: MIT */
/*
 * connect and accept on a socket whose other holder makes it blocking again all the time: neither ever hangs.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../daemon/bounded.h"
#include "unit.h"

#define ROUNDS_MS 2000	/* so long each: the moment that matters is a fraction of a microsecond */
#define LIMIT_MS 10000	/* the alarm is due after 10, on a machine that has time; without it a connect takes two minutes, an accept for ever */

static _Atomic int target = -1;
static _Atomic unsigned long spoilt;

static void *spoil(void *arg)
{
	const struct timeval none = { 0, 0 };
	sigset_t all;
	int off = 0;

	(void)arg;
	/* In the daemon there is one thread; here the alarm must not go to this one. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (;;) {
		int fd = target;

		if (fd >= 0) {
			ioctl(fd, FIONBIO, &off);
			setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
			spoilt++;
		}
		pthread_testcancel();
	}
	return NULL;
}

static int listener_at(struct sockaddr_in *sin)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(*sin);

	memset(sin, 0, sizeof(*sin));
	sin->sin_family = AF_INET;
	sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)sin, len), 0);
	ck_assert_int_eq(listen(fd, 0), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)sin, &len), 0);
	return fd;
}

START_TEST(connect_does_not_hang)
{
	struct sockaddr_in sin;
	uint64_t start, took, worst = 0;
	pthread_t thread;
	int rc, fd;

	ck_assert_int_eq(xshimd_bounded_init(), 0);
	listener_at(&sin);
	/* Fill its queue: from then on a SYN gets no answer. */
	for (rc = 0; rc == 0;) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		rc = xshimd_bounded_connect(fd, (struct sockaddr *)&sin, sizeof(sin));
	}
	ck_assert_int_eq(rc, -EINPROGRESS);
	ck_assert_int_eq(pthread_create(&thread, NULL, spoil, NULL), 0);
	for (uint64_t end = unit_now_ms() + ROUNDS_MS; unit_now_ms() < end;) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		target = fd;
		start = unit_now_ms();
		rc = xshimd_bounded_connect(fd, (struct sockaddr *)&sin, sizeof(sin));
		took = unit_now_ms() - start;
		target = -1;
		ck_assert_int_eq(rc, -EINPROGRESS);
		worst = took > worst ? took : worst;
		close(fd);
	}
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	ck_assert_uint_lt(worst, LIMIT_MS);
	ck_assert_uint_gt(spoilt, 1000);
}
END_TEST

START_TEST(accept_does_not_hang)
{
	struct sockaddr_in sin;
	uint64_t start, took, worst = 0, end;
	pthread_t thread;
	int fd, rc;

	ck_assert_int_eq(xshimd_bounded_init(), 0);
	fd = listener_at(&sin);
	ck_assert_int_eq(xshimd_bounded_accept(fd), -EAGAIN);
	ck_assert_int_eq(pthread_create(&thread, NULL, spoil, NULL), 0);
	target = fd;
	end = unit_now_ms() + ROUNDS_MS;
	for (int i = 0; unit_now_ms() < end; i++) {
		int c = socket(AF_INET, SOCK_STREAM, 0), stolen;

		ck_assert_int_eq(connect(c, (struct sockaddr *)&sin, sizeof(sin)), 0);
		/* Half of the time another holder has taken it away before. */
		stolen = i & 1 ? accept(fd, NULL, NULL) : -1;
		start = unit_now_ms();
		rc = xshimd_bounded_accept(fd);
		took = unit_now_ms() - start;
		worst = took > worst ? took : worst;
		ck_assert(i & 1 ? rc == -EAGAIN : rc >= 0);
		close(rc >= 0 ? rc : stolen);
		close(c);
	}
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	ck_assert_uint_lt(worst, LIMIT_MS);
	ck_assert_uint_gt(spoilt, 1000);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon_bounded");
	TCase *t = tcase_create("bounded");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, connect_does_not_hang);
	tcase_add_test(t, accept_does_not_hang);
	suite_add_tcase(s, t);
	return s;
}

UNIT_MAIN(suite)
