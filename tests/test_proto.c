/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <sys/socket.h>
#include <xshim/backend.h>
#include <xshim/proto.h>
#include "unit.h"

static int sock[2], fds_before;

static void setup(void)
{
	fds_before = unit_open_fds();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock), 0);
}

static void teardown(void)
{
	close(sock[0]);
	close(sock[1]);
	ck_assert_int_eq(unit_open_fds(), fds_before);
}

static int check(const union xshim_msg *m, size_t len, unsigned int nfds)
{
	unsigned long long value = 0;
	const char *why = NULL;
	int rc = xshim_msg_check(m, len, nfds, &why, &value);

	if (rc < 0)
		ck_assert_msg(why && *why, "an error without a reason");
	return rc;
}

static const struct {
	enum xshim_msg_type type;
	const char *name;
	size_t size;
	unsigned int fds_min, fds_max;
} types[] = {
	{ XSHIM_MSG_HELLO, "HELLO", 72, 0, 4 },
	{ XSHIM_MSG_WELCOME, "WELCOME", 64, 1, 1 },
	{ XSHIM_MSG_REFUSED, "REFUSED", 24, 0, 0 },
	{ XSHIM_MSG_PING, "PING", 16, 0, 0 },
	{ XSHIM_MSG_PONG, "PONG", 16, 0, 0 },
	{ XSHIM_MSG_ENDPOINT, "ENDPOINT", 16, 1, 1 },
	{ XSHIM_MSG_OFFER, "OFFER", 56, 4, 5 },
	{ XSHIM_MSG_CLAIM, "CLAIM", 56, 4, 5 },
	{ XSHIM_MSG_WITHDRAW, "WITHDRAW", 16, 0, 0 },
	{ XSHIM_MSG_MATCHED, "MATCHED", 48, 3, 3 },
	{ XSHIM_MSG_DECLINED, "DECLINED", 24, 0, 0 },
	{ XSHIM_MSG_PROBE_WANTED, "PROBE_WANTED", 16, 0, 0 },
	{ XSHIM_MSG_PROBE, "PROBE", 16, 1, 1 },
	{ XSHIM_MSG_REPORT_ASK, "REPORT_ASK", 24, 0, 0 },
	{ XSHIM_MSG_REPORT, "REPORT", 16, 1, 1 },
	{ XSHIM_MSG_LEAVE, "LEAVE", 24, 0, 0 },
	{ XSHIM_MSG_FORSAKE, "FORSAKE", 24, 0, 0 },
	{ XSHIM_MSG_LEFT, "LEFT", 16, 0, 0 },
	{ XSHIM_MSG_DRAIN_ASK, "DRAIN_ASK", 24, 0, 0 },
	{ XSHIM_MSG_DRAINED, "DRAINED", 24, 0, 0 },
};
#define TYPES ((int)(sizeof(types) / sizeof(types[0])))

START_TEST(a_fresh_message_passes_its_own_check)
{
	union xshim_msg m;
	size_t len;

	memset(&m, 0xff, sizeof(m));
	len = xshim_msg_init(&m, types[_i].type, 77);
	ck_assert_uint_eq(len, types[_i].size);
	ck_assert_uint_eq(xshim_msg_size(types[_i].type), len);
	ck_assert_str_eq(xshim_msg_name(types[_i].type), types[_i].name);
	ck_assert_uint_eq(m.h.id, 77);
	for (size_t i = sizeof(m.h); i < sizeof(m); i++)
		ck_assert_uint_eq(m.raw[i], 0);
	for (unsigned int n = 0; n <= XSHIM_PROTO_MAX_FDS; n++)
		ck_assert_int_eq(check(&m, len, n),
				 n >= types[_i].fds_min && n <= types[_i].fds_max ? 0 : -EPROTO);
}
END_TEST

START_TEST(every_other_length_is_refused)
{
	union xshim_msg m;
	size_t len = xshim_msg_init(&m, types[_i].type, 0);

	for (size_t l = 0; l <= XSHIM_PROTO_MAX; l++) {
		if (l == len)
			continue;
		ck_assert_int_eq(check(&m, l, types[_i].fds_min), -EPROTO);
		/* Also when the header tells the same lie. */
		m.h.length = (uint32_t)l;
		ck_assert_int_eq(check(&m, l, types[_i].fds_min), -EPROTO);
		m.h.length = (uint32_t)len;
	}
	m.h.length = 0xffffffff;
	ck_assert_int_eq(check(&m, len, types[_i].fds_min), -EPROTO);
}
END_TEST

START_TEST(the_fields_are_named)
{
	unsigned long long value;
	union xshim_msg m;
	const char *why;

	xshim_msg_init(&m, XSHIM_MSG_PING, 0);
	ck_assert_int_eq(xshim_msg_check(&m, 5, 0, &why, &value), -EPROTO);
	ck_assert_ptr_nonnull(strstr(why, "shorter"));
	ck_assert_uint_eq(value, 5);
	m.h.magic = 9;
	ck_assert_int_eq(xshim_msg_check(&m, 16, 0, &why, &value), -EPROTO);
	ck_assert_str_eq(why, "magic");
	ck_assert_uint_eq(value, 9);
	xshim_msg_init(&m, XSHIM_MSG_PING, 0);
	m.h.version = XSHIM_PROTO_VERSION + 1;
	ck_assert_int_eq(xshim_msg_check(&m, 16, 0, &why, &value), -EPROTONOSUPPORT);
	ck_assert_str_eq(why, "version");
	ck_assert_uint_eq(value, XSHIM_PROTO_VERSION + 1);
	xshim_msg_init(&m, XSHIM_MSG_PING, 0);
	m.h.type = 999;
	ck_assert_int_eq(xshim_msg_check(&m, 16, 0, &why, &value), -EPROTO);
	ck_assert_str_eq(why, "type");
	ck_assert_uint_eq(value, 999);
	xshim_msg_init(&m, XSHIM_MSG_PING, 0);
	ck_assert_int_eq(xshim_msg_check(&m, 16, 3, &why, &value), -EPROTO);
	ck_assert_str_eq(why, "number of descriptors");
	ck_assert_uint_eq(value, 3);
}
END_TEST

/* shm hands over descriptors, xen numbers. */
START_TEST(the_backend_decides_what_comes_along)
{
	static const enum xshim_msg_type asks[] = { XSHIM_MSG_OFFER, XSHIM_MSG_CLAIM };
	union xshim_msg m;

	for (size_t i = 0; i < 2; i++) {
		size_t len = xshim_msg_init(&m, asks[i], 1);

		ck_assert_int_eq(check(&m, len, 3), -EPROTO);
		ck_assert_int_eq(check(&m, len, 4), 0);
		m.channel.backend = XSHIM_BACKEND_XEN;
		ck_assert_int_eq(check(&m, len, 2), 0);
		ck_assert_int_eq(check(&m, len, 4), -EPROTO);
		m.channel.backend = 2;
		ck_assert_int_eq(check(&m, len, 4), -EPROTO);
	}
	ck_assert_int_eq(check(&m, xshim_msg_init(&m, XSHIM_MSG_MATCHED, 1), 0), -EPROTO);
	ck_assert_int_eq(check(&m, m.h.length, 3), 0);
	m.matched.backend = XSHIM_BACKEND_XEN;
	ck_assert_int_eq(check(&m, m.h.length, 0), 0);
	ck_assert_int_eq(check(&m, m.h.length, 2), -EPROTO);
}
END_TEST

/* So that xshimd can answer a client of the future, whose HELLO may be longer. */
START_TEST(another_version_is_told_from_nonsense)
{
	union xshim_msg m;

	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.h.version = XSHIM_PROTO_VERSION + 1;
	m.h.length = 100;
	ck_assert_int_eq(check(&m, 100, 2), -EPROTONOSUPPORT);
	m.h.version = 0;
	ck_assert_int_eq(check(&m, 100, 2), -EPROTONOSUPPORT);
	m.h.length = 99;
	ck_assert_int_eq(check(&m, 100, 2), -EPROTO);
}
END_TEST

START_TEST(unknown_types_are_refused)
{
	static const unsigned int bad[] = { 0, 25, 255, 256, 0x7fff, 0xffff };
	union xshim_msg m;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_uint_eq(xshim_msg_size(bad[i]), 0);
		ck_assert_str_eq(xshim_msg_name(bad[i]), "unknown");
		for (size_t len = 16; len <= XSHIM_PROTO_MAX; len++) {
			xshim_msg_init(&m, XSHIM_MSG_PING, 0);
			m.h.type = (uint16_t)bad[i];
			m.h.length = (uint32_t)len;
			ck_assert_int_eq(check(&m, len, 0), -EPROTO);
		}
	}
	ck_assert_uint_eq(xshim_msg_size(UINT32_MAX), 0);
}
END_TEST

START_TEST(reserved_fields_must_be_zero)
{
	union xshim_msg m;
	size_t len = xshim_msg_init(&m, XSHIM_MSG_WELCOME, 0);

	m.welcome.reserved = 1;
	ck_assert_int_eq(check(&m, len, 1), -EPROTO);
	len = xshim_msg_init(&m, XSHIM_MSG_OFFER, 0);
	m.channel.age_us = 0x80000000;
	ck_assert_int_eq(check(&m, len, 4), -EPROTO);
	len = xshim_msg_init(&m, XSHIM_MSG_CLAIM, 0);
	m.channel.age_us = 1;
	ck_assert_int_eq(check(&m, len, 4), 0);
	len = xshim_msg_init(&m, XSHIM_MSG_REPORT_ASK, 0);
	m.report_ask.reserved = 1;
	ck_assert_int_eq(check(&m, len, 0), -EPROTO);
}
END_TEST

START_TEST(strings_must_end)
{
	union xshim_msg m;
	size_t len = xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);

	memset(m.hello.comm, 'x', sizeof(m.hello.comm));
	ck_assert_int_eq(check(&m, len, 0), -EPROTO);
	m.hello.comm[15] = '\0';
	ck_assert_int_eq(check(&m, len, 0), 0);
	memset(m.hello.build, 'x', sizeof(m.hello.build));
	ck_assert_int_eq(check(&m, len, 0), -EPROTO);
	len = xshim_msg_init(&m, XSHIM_MSG_WELCOME, 0);
	memset(m.welcome.build, 'x', sizeof(m.welcome.build));
	ck_assert_int_eq(check(&m, len, 1), -EPROTO);
}
END_TEST

START_TEST(random_packets_never_pass_by_chance)
{
	uint64_t seed = 5;

	for (int n = 0; n < 200000; n++) {
		union xshim_msg m;
		size_t len = unit_random(&seed) % (XSHIM_PROTO_MAX + 1);

		for (size_t i = 0; i < sizeof(m); i++)
			m.raw[i] = (uint8_t)unit_random(&seed);
		ck_assert_int_lt(check(&m, len, (unsigned int)unit_random(&seed) % 5), 0);
	}
}
END_TEST

/* ---- on a socket ---- */

START_TEST(a_message_crosses_with_its_descriptors)
{
	union xshim_msg m, got;
	int give[XSHIM_PROTO_MAX_FDS], take[XSHIM_PROTO_MAX_FDS];
	unsigned int n = 99, want = (unsigned int)_i;
	size_t len = xshim_msg_init(&m, XSHIM_MSG_HELLO, 3);

	m.hello.pid = 1234;
	for (unsigned int i = 0; i < want; i++)
		ck_assert_int_ge(give[i] = open("/dev/null", O_RDONLY), 0);
	ck_assert_int_eq(xshim_msg_send(sock[0], &m, give, want), 0);
	ck_assert_int_eq(xshim_msg_recv(sock[1], &got, take, &n), (ssize_t)len);
	ck_assert_uint_eq(n, want);
	ck_assert_mem_eq(&m, &got, sizeof(m));
	for (unsigned int i = 0; i < want; i++) {
		ck_assert_int_eq(fcntl(take[i], F_GETFD), FD_CLOEXEC);
		ck_assert_int_eq(fcntl(give[i], F_GETFD), 0);	/* still the sender's */
		close(take[i]);
		close(give[i]);
	}
}
END_TEST

START_TEST(nothing_there_is_eagain_and_the_end_is_0)
{
	union xshim_msg m;
	unsigned int n;
	int fd[4];

	errno = 66;
	ck_assert_int_eq(xshim_msg_recv(sock[1], &m, fd, &n), -EAGAIN);
	close(sock[0]);
	ck_assert_int_eq(xshim_msg_recv(sock[1], &m, fd, &n), 0);
	xshim_msg_init(&m, XSHIM_MSG_PING, 0);
	ck_assert_int_eq(xshim_msg_send(sock[1], &m, NULL, 0), -EPIPE);	/* and no signal */
	ck_assert_int_eq(xshim_msg_send(-1, &m, NULL, 0), -EBADF);
	ck_assert_int_eq(errno, 66);
	sock[0] = -1;
}
END_TEST

START_TEST(a_full_queue_does_not_block)
{
	union xshim_msg m;
	int rc, sent = 0;

	xshim_msg_init(&m, XSHIM_MSG_PING, 0);
	while ((rc = xshim_msg_send(sock[0], &m, NULL, 0)) == 0)
		ck_assert_int_lt(sent++, 100000);
	ck_assert_int_eq(rc, -EAGAIN);
	ck_assert_int_gt(sent, 0);
}
END_TEST

/* Send raw bytes with n descriptors. */
static void send_raw(const void *data, size_t len, int n)
{
	struct iovec iov = { (void *)(uintptr_t)data, len };
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(16 * sizeof(int))];
	} control;
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd = sock[0];

	memset(&control, 0, sizeof(control));
	if (n) {
		struct cmsghdr *c;

		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		for (int i = 0; i < n; i++)
			memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(fd));
	}
	ck_assert_int_eq(sendmsg(sock[0], &mh, 0), (ssize_t)len);
}

static const struct {
	size_t len;
	int fds;
	ssize_t rc;
} cut[] = {
	{ XSHIM_PROTO_MAX, XSHIM_PROTO_MAX_FDS, XSHIM_PROTO_MAX },	/* the most there may be */
	{ XSHIM_PROTO_MAX + 1, 0, -EMSGSIZE },
	{ XSHIM_PROTO_MAX + 1, XSHIM_PROTO_MAX_FDS, -EMSGSIZE },
	{ 4000, 2, -EMSGSIZE },
	{ 16, XSHIM_PROTO_MAX_FDS + 1, -EMSGSIZE },	/* there is room for it, as it is rounded up */
	{ 16, XSHIM_PROTO_MAX_FDS + 2, -EMSGSIZE },
	{ 16, 16, -EMSGSIZE },
	{ 0, 2, 0 },					/* an empty packet counts as the end */
	{ 0, XSHIM_PROTO_MAX_FDS + 1, -EMSGSIZE },
	{ 1, 1, 1 },
};

START_TEST(what_does_not_fit_is_refused_and_leaks_nothing)
{
	static const char big[4000];
	union xshim_msg m;
	unsigned int n = 99;
	int fd[XSHIM_PROTO_MAX_FDS], before = unit_open_fds();

	send_raw(big, cut[_i].len, cut[_i].fds);
	ck_assert_int_eq(xshim_msg_recv(sock[1], &m, fd, &n), cut[_i].rc);
	/* They are ours, whatever the result is. */
	while (n)
		close(fd[--n]);
	ck_assert_int_eq(unit_open_fds(), before);
	/* The next one is whole again. */
	send_raw(big, 16, 0);
	ck_assert_int_eq(xshim_msg_recv(sock[1], &m, fd, &n), 16);
}
END_TEST

START_TEST(other_control_data_is_passed_over)
{
	int on = 1, fd[XSHIM_PROTO_MAX_FDS];
	union xshim_msg m;
	unsigned int n;

	/* Credentials take room of the descriptors: then it is an error, never a leak. */
	ck_assert_int_eq(setsockopt(sock[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	send_raw("0123456789abcdef", 16, 0);
	ck_assert_int_eq(xshim_msg_recv(sock[1], &m, fd, &n), 16);
	ck_assert_uint_eq(n, 0);
	send_raw("0123456789abcdef", 16, XSHIM_PROTO_MAX_FDS);
	ck_assert_int_eq(xshim_msg_recv(sock[1], &m, fd, &n), -EMSGSIZE);
	while (n)
		close(fd[--n]);
}
END_TEST

START_TEST(too_many_descriptors_are_not_sent)
{
	int fd[XSHIM_PROTO_MAX_FDS + 1] = { 0 };
	union xshim_msg m;

	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	ck_assert_int_eq(xshim_msg_send(sock[0], &m, fd, XSHIM_PROTO_MAX_FDS + 1), -EINVAL);
	m.h.length = XSHIM_PROTO_MAX + 1;
	ck_assert_int_eq(xshim_msg_send(sock[0], &m, fd, 0), -EINVAL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("proto");
	TCase *tc = tcase_create("check"), *ts = tcase_create("socket");

	tcase_add_loop_test(tc, a_fresh_message_passes_its_own_check, 0, TYPES);
	tcase_add_loop_test(tc, every_other_length_is_refused, 0, TYPES);
	tcase_add_test(tc, the_fields_are_named);
	tcase_add_test(tc, the_backend_decides_what_comes_along);
	tcase_add_test(tc, the_backend_decides_what_comes_along);
	tcase_add_test(tc, another_version_is_told_from_nonsense);
	tcase_add_test(tc, unknown_types_are_refused);
	tcase_add_test(tc, reserved_fields_must_be_zero);
	tcase_add_test(tc, strings_must_end);
	tcase_add_test(tc, random_packets_never_pass_by_chance);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(ts, setup, teardown);
	tcase_add_loop_test(ts, a_message_crosses_with_its_descriptors, 0, XSHIM_PROTO_MAX_FDS + 1);
	tcase_add_test(ts, nothing_there_is_eagain_and_the_end_is_0);
	tcase_add_test(ts, a_full_queue_does_not_block);
	tcase_add_loop_test(ts, what_does_not_fit_is_refused_and_leaks_nothing, 0, (int)(sizeof(cut) / sizeof(cut[0])));
	tcase_add_test(ts, other_control_data_is_passed_over);
	tcase_add_test(ts, too_many_descriptors_are_not_sent);
	suite_add_tcase(s, ts);
	return s;
}

UNIT_MAIN(suite)
