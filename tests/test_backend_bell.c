/* SPDX-License-Identifier: MIT */
/* test_backend_bell.c - the doorbell of backend_shm.c, of both kinds: a timerfd, and a socket pair where that cannot be rung. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include "shm_half.h"

static const struct xshim_backend *be = &xshim_backend_shm;
static struct xshim_local local;
static struct xshim_remote remote;
static int fds_before;

static void setup(void)
{
	fds_before = unit_open_fds();
	ck_assert_int_eq(be->create(&local, NULL, ORDER, NONCE), 0);
}

static void attach_own(void)
{
	int fds[3];

	half_give(&local, fds);
	ck_assert_int_eq(be->attach(&remote, &local, &(struct xshim_ticket){ .order = ORDER, .nonce = NONCE }, fds), 0);
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void attach_remote(void)
{
	setup();
	ck_assert_int_eq(local.fds[XSHIM_LOCAL_BELL_OUT], -1);
	attach_own();
}

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

/* As a kernel without CONFIG_CHECKPOINT_RESTORE: the first of its descriptors has told, and the bell is a socket pair. */
static void attach_remote_without_ticks(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)TFD_IOC_SET_TICKS, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
	setup();
	ck_assert_int_ge(local.fds[XSHIM_LOCAL_BELL_OUT], 0);
	attach_own();
}

static void detach_remote(void)
{
	be->detach(&remote);
	be->destroy(&local);
	ck_assert_int_eq(unit_open_fds(), fds_before);
}

START_TEST(ringing_makes_it_readable_until_hushed)
{
	ck_assert(!is_readable(local.fds[XSHIM_LOCAL_BELL]));
	ck_assert_int_eq(be->hush(&local, &remote), 0);
	ck_assert_int_eq(be->ring(&local, &remote), 0);
	ck_assert(is_readable(local.fds[XSHIM_LOCAL_BELL]));
	ck_assert_int_eq(be->ring(&local, &remote), 0);
	ck_assert_int_eq(be->hush(&local, &remote), 0);
	ck_assert(!is_readable(local.fds[XSHIM_LOCAL_BELL]));
	ck_assert_int_eq(be->ring_self(&local), 0);
	ck_assert(is_readable(local.fds[XSHIM_LOCAL_BELL]));
	ck_assert_int_eq(be->hush(&local, &remote), 0);
	ck_assert(!is_readable(local.fds[XSHIM_LOCAL_BELL]));
}
END_TEST

/* The peer has the very same open file: with O_NONBLOCK off and a full socket nobody may hang. */
START_TEST(a_full_blocking_bell_does_not_block)
{
	int fl = fcntl(remote.bell, F_GETFL);
	char block[4096] = "";
	int rounds = 0;

	while (send(remote.bell, block, sizeof(block), MSG_DONTWAIT) > 0)
		ck_assert_int_lt(rounds++, 100000);
	ck_assert_int_eq(fcntl(remote.bell, F_SETFL, fl & ~O_NONBLOCK), 0);
	ck_assert_int_eq(fcntl(local.fds[XSHIM_LOCAL_BELL], F_SETFL, 0), 0);
	alarm(10);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(be->ring(&local, &remote), 0);
		ck_assert_int_eq(be->ring_self(&local), 0);
	}
	/* One hush takes a bounded amount, some of them all. */
	ck_assert_int_eq(be->hush(&local, &remote), 0);
	ck_assert(is_readable(local.fds[XSHIM_LOCAL_BELL]));
	for (rounds = 0; is_readable(local.fds[XSHIM_LOCAL_BELL]); rounds++) {
		ck_assert_int_lt(rounds, 10000);
		ck_assert_int_eq(be->hush(&local, &remote), 0);
	}
	alarm(0);
}
END_TEST

/* What be->holds promises: who waits for edges and empties nothing misses none, of the peer's or of its own. */
START_TEST(each_ring_is_an_edge)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	uint32_t holds = be->holds(&local), rung = atomic_load(&remote.region->rung), rings = holds < 4096 ? 2 * holds : 8192;
	int ep = epoll_create1(0);

	ck_assert_uint_ge(holds, 16);
	ck_assert_int_eq(epoll_ctl(ep, EPOLL_CTL_ADD, local.fds[XSHIM_LOCAL_BELL], &ev), 0);
	ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 0);
	for (uint32_t i = 0; i < rings; i++) {
		ck_assert_int_eq(i % 2 ? be->ring(&local, &remote) : be->ring_self(&local), 0);
		ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 1);
		ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 0);
	}
	ck_assert_uint_eq(atomic_load(&remote.region->rung) - rung, rings / 2);
	close(ep);
}
END_TEST

/* A bell that is a socket and full, and heard: our own ring is an edge all the same. */
START_TEST(our_own_ring_of_a_full_bell_is_an_edge)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0), rounds = 0;
	static const char much[32768];

	ck_assert_int_eq(epoll_ctl(ep, EPOLL_CTL_ADD, local.fds[XSHIM_LOCAL_BELL], &ev), 0);
	while (send(remote.bell, "", 1, MSG_DONTWAIT) > 0)
		ck_assert_int_lt(rounds++, 100000);
	ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 1);
	ck_assert_int_eq(be->ring_self(&local), 0);
	ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 1);
	/* also if it is full of more than rings */
	ck_assert_int_eq(be->hush(&local, &remote), 0);
	while (send(remote.bell, much, sizeof(much), MSG_DONTWAIT) > 0)
		ck_assert_int_lt(rounds++, 200000);
	while (send(remote.bell, "", 1, MSG_DONTWAIT) > 0)
		ck_assert_int_lt(rounds++, 200000);
	ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 1);
	ck_assert_int_eq(be->ring_self(&local), 0);
	ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 1);
	close(ep);
}
END_TEST

/* The peer has the very same open file, and a word in all that can be done to a timerfd: nobody hangs, and the next ring is heard. */
START_TEST(a_timer_that_the_peer_plays_with_does_not_block)
{
	static const struct itimerspec storm = { { 0, 1 }, { 0, 1 } }, never;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0);
	uint64_t most = UINT64_MAX;

	ck_assert_int_eq(epoll_ctl(ep, EPOLL_CTL_ADD, local.fds[XSHIM_LOCAL_BELL], &ev), 0);
	alarm(10);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(fcntl(remote.bell, F_SETFL, i % 2 ? O_NONBLOCK : 0), 0);
		ck_assert_int_eq(timerfd_settime(remote.bell, 0, i % 3 ? &storm : &never, NULL), 0);
		if (i % 5 == 0)
			ck_assert_int_eq(ioctl(remote.bell, TFD_IOC_SET_TICKS, &most), 0);
		ck_assert_int_eq(be->ring(&local, &remote), 0);
		ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 1);
		ck_assert_int_eq(be->ring_self(&local), 0);
		ck_assert_int_eq(epoll_wait(ep, &ev, 1, 0), 1);
		ck_assert_int_eq(be->hush(&local, &remote), 0);
		ck_assert(!is_readable(local.fds[XSHIM_LOCAL_BELL]));
	}
	alarm(0);
	close(ep);
}
END_TEST

/* What a process gives whose kernel, or filter, has no other bell is rung all the same. */
START_TEST(a_socket_is_a_bell_here_too)
{
	struct xshim_remote r;
	int fds[3], pair[2];

	half_give(&local, fds);
	close(fds[1]);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	fds[1] = pair[1];
	ck_assert_int_eq(be->attach(&r, &local, &(struct xshim_ticket){ .order = ORDER, .nonce = NONCE }, fds), 0);
	ck_assert(!is_readable(pair[0]));
	ck_assert_int_eq(be->ring(&local, &r), 0);
	ck_assert(is_readable(pair[0]));
	close(pair[0]);
	ck_assert_int_eq(be->ring(&local, &r), -EPIPE);
	be->detach(&r);
}
END_TEST

/* The number means something else by now, say: it is told, and nothing is taken for a ring. */
START_TEST(a_timer_that_cannot_be_rung_any_more_is_told)
{
	int bell = remote.bell, other = open("/dev/null", O_RDWR | O_CLOEXEC);

	ck_assert_int_ge(other, 0);
	remote.bell = other;
	ck_assert_int_eq(be->ring(&local, &remote), -ENOTTY);
	close(other);
	ck_assert_int_eq(be->ring(&local, &remote), -EBADF);
	remote.bell = bell;
	ck_assert_int_eq(be->ring(&local, &remote), 0);
}
END_TEST

/* And who cannot ring the other kind says so, and does not wait for what he cannot wake. */
START_TEST(a_timer_that_cannot_be_rung_is_refused)
{
	struct xshim_remote r;
	int fds[3];

	half_give(&local, fds);
	close(fds[1]);
	fds[1] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	ck_assert_int_eq(be->attach(&r, &local, &(struct xshim_ticket){ .order = ORDER, .nonce = NONCE }, fds), -ENOSYS);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}
END_TEST

START_TEST(the_life_hangs_up)
{
	struct pollfd p = { .fd = remote.life };

	ck_assert_int_eq(poll(&p, 1, 0), 0);
	close(local.fds[XSHIM_LOCAL_LIFE_OUT]);
	local.fds[XSHIM_LOCAL_LIFE_OUT] = -1;
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	close(local.fds[XSHIM_LOCAL_LIFE]);
	local.fds[XSHIM_LOCAL_LIFE] = -1;
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert(p.revents & POLLHUP);
}
END_TEST

START_TEST(descriptors_sent_to_the_bell_are_dropped)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { (char[]){ "x" }, 1 };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int before = unit_open_fds(), fd = local.fds[XSHIM_LOCAL_MEMORY];

	memset(&control, 0, sizeof(control));
	c = CMSG_FIRSTHDR(&mh);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(sendmsg(remote.bell, &mh, 0), 1);
	/* The kernel hands such bytes out one at a time. */
	for (int i = 0; i < 8 && is_readable(local.fds[XSHIM_LOCAL_BELL]); i++)
		ck_assert_int_eq(be->hush(&local, &remote), 0);
	ck_assert(!is_readable(local.fds[XSHIM_LOCAL_BELL]));
	ck_assert_int_eq(unit_open_fds(), before);
}
END_TEST

START_TEST(the_peer_cannot_eat_what_rings_us)
{
	char c;

	ck_assert_int_eq(be->ring(&local, &remote), 0);
	ck_assert_int_lt(recv(remote.bell, &c, 1, MSG_DONTWAIT), 0);
	ck_assert(is_readable(local.fds[XSHIM_LOCAL_BELL]));
}
END_TEST

START_TEST(a_peer_that_is_gone_is_epipe_and_no_signal)
{
	errno = 31;
	close(local.fds[XSHIM_LOCAL_BELL]);
	local.fds[XSHIM_LOCAL_BELL] = -1;
	ck_assert_int_eq(be->ring(&local, &remote), -EPIPE);
	ck_assert_int_eq(be->ring(&local, &remote), -EPIPE);
	ck_assert_int_eq(be->ring_self(&local), -EPIPE);
	ck_assert_int_eq(errno, 31);
}
END_TEST

START_TEST(nobody_left_to_ring_is_epipe)
{
	be->ring(&local, &remote);
	be->detach(&remote);
	ck_assert_int_eq(be->hush(&local, &remote), 0);
	close(local.fds[XSHIM_LOCAL_BELL_OUT]);
	local.fds[XSHIM_LOCAL_BELL_OUT] = -1;
	ck_assert_int_eq(be->hush(&local, &remote), -EPIPE);
	ck_assert_int_eq(be->hush(&local, &remote), -EPIPE);
}
END_TEST

/* Shutting its half down is the one way to make our end readable for ever: it must be told. */
START_TEST(a_half_that_was_shut_down_is_epipe)
{
	ck_assert_int_eq(shutdown(remote.bell, SHUT_WR), 0);
	ck_assert_int_eq(be->hush(&local, &remote), -EPIPE);
	ck_assert_int_eq(be->ring_self(&local), -EPIPE);
}
END_TEST
static Suite *suite(void)
{
	Suite *s = suite_create("backend_bell");
	TCase *tb = tcase_create("timer"), *tp = tcase_create("socket");

	tcase_add_checked_fixture(tb, attach_remote, detach_remote);
	tcase_add_test(tb, ringing_makes_it_readable_until_hushed);
	tcase_add_test(tb, each_ring_is_an_edge);
	tcase_add_test(tb, a_timer_that_the_peer_plays_with_does_not_block);
	tcase_add_test(tb, a_socket_is_a_bell_here_too);
	tcase_add_test(tb, a_timer_that_cannot_be_rung_any_more_is_told);
	tcase_add_test(tb, the_life_hangs_up);
	suite_add_tcase(s, tb);
	tcase_add_checked_fixture(tp, attach_remote_without_ticks, detach_remote);
	tcase_add_test(tp, ringing_makes_it_readable_until_hushed);
	tcase_add_test(tp, each_ring_is_an_edge);
	tcase_add_test(tp, our_own_ring_of_a_full_bell_is_an_edge);
	tcase_add_test(tp, a_full_blocking_bell_does_not_block);
	tcase_add_test(tp, a_timer_that_cannot_be_rung_is_refused);
	tcase_add_test(tp, descriptors_sent_to_the_bell_are_dropped);
	tcase_add_test(tp, the_peer_cannot_eat_what_rings_us);
	tcase_add_test(tp, a_peer_that_is_gone_is_epipe_and_no_signal);
	tcase_add_test(tp, nobody_left_to_ring_is_epipe);
	tcase_add_test(tp, a_half_that_was_shut_down_is_epipe);
	tcase_add_test(tp, the_life_hangs_up);
	suite_add_tcase(s, tp);
	return s;
}

UNIT_MAIN(suite)
