/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <xshim/endpoint.h>
#include "unit.h"

static struct xshim_endpoint from_text(const char *addr, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct xshim_endpoint ep;
	int rc;

	if (inet_pton(AF_INET, addr, &in.sin_addr) == 1) {
		rc = xshim_endpoint_from_sockaddr(&ep, (struct sockaddr *)&in, sizeof(in));
	} else {
		ck_assert_int_eq(inet_pton(AF_INET6, addr, &in6.sin6_addr), 1);
		rc = xshim_endpoint_from_sockaddr(&ep, (struct sockaddr *)&in6, sizeof(in6));
	}
	ck_assert_int_eq(rc, 0);
	return ep;
}

START_TEST(v4_and_v4_mapped_are_the_same_endpoint)
{
	struct xshim_endpoint a = from_text("10.0.0.1", 80);
	struct xshim_endpoint b = from_text("::ffff:10.0.0.1", 80);

	ck_assert(xshim_endpoint_equal(&a, &b));
	ck_assert_mem_eq(&a, &b, sizeof(a));
	ck_assert(xshim_endpoint_hash(&a) == xshim_endpoint_hash(&b));
	ck_assert(xshim_endpoint_is_v4(&b));
}
END_TEST

START_TEST(zone_and_flow_label_are_left_out)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(7) };
	struct xshim_endpoint a, b;

	ck_assert_int_eq(inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr), 1);
	in6.sin6_scope_id = 3;
	in6.sin6_flowinfo = 99;
	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&a, (struct sockaddr *)&in6, sizeof(in6)), 0);
	in6.sin6_scope_id = 8;
	in6.sin6_flowinfo = 0;
	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&b, (struct sockaddr *)&in6, sizeof(in6)), 0);
	ck_assert(xshim_endpoint_equal(&a, &b));
}
END_TEST

START_TEST(other_families_and_short_lengths_are_refused)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct xshim_endpoint ep;

	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&ep, (struct sockaddr *)&un, sizeof(un)), -EAFNOSUPPORT);
	for (socklen_t len = 0; len < sizeof(in); len++)
		ck_assert_int_eq(xshim_endpoint_from_sockaddr(&ep, (struct sockaddr *)&in, len), -EINVAL);
	for (socklen_t len = 0; len < 24; len++)
		ck_assert_int_eq(xshim_endpoint_from_sockaddr(&ep, (struct sockaddr *)&in6, len), -EINVAL);
	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&ep, (struct sockaddr *)&in6, 24), 0);
}
END_TEST

static const struct {
	const char *addr, *text;
	uint16_t port;
} formats[] = {
	{ "0.0.0.0", "0.0.0.0:0", 0 },
	{ "10.0.0.1", "10.0.0.1:80", 80 },
	{ "255.255.255.255", "255.255.255.255:65535", 65535 },
	{ "::ffff:192.168.1.10", "192.168.1.10:443", 443 },
	{ "::", "[::]:1", 1 },
	{ "::1", "[::1]:22", 22 },
	{ "fd00::", "[fd00::]:9", 9 },
	{ "fd00::1", "[fd00::1]:80", 80 },
	{ "2001:db8:0:1:1:1:1:1", "[2001:db8:0:1:1:1:1:1]:5", 5 },
	{ "2001:0:0:1:0:0:0:1", "[2001:0:0:1::1]:5", 5 },
	{ "2001:db8:0:0:1:0:0:1", "[2001:db8::1:0:0:1]:5", 5 },
	{ "1:2:3:4:5:6:0:0", "[1:2:3:4:5:6::]:5", 5 },
	{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", 65535 },
};

START_TEST(formats_as_people_write_it)
{
	struct xshim_endpoint ep = from_text(formats[_i].addr, formats[_i].port);
	char buf[XSHIM_ENDPOINT_STRLEN];

	ck_assert_str_eq(xshim_endpoint_format(&ep, buf), formats[_i].text);
}
END_TEST

START_TEST(random_v6_is_formatted_as_inet_ntop_does)
{
	uint64_t seed = 7;

	for (int n = 0; n < 20000; n++) {
		struct xshim_endpoint ep = { .port = (uint16_t)n };
		char buf[XSHIM_ENDPOINT_STRLEN], want[80], addr[INET6_ADDRSTRLEN];

		for (int g = 0; g < 8; g++) {
			uint64_t r = unit_random(&seed);
			unsigned int v = r & 1 ? 0 : (unsigned int)(r >> 8 & 0xffff) >> (r >> 4 & 15);

			ep.addr[2 * g] = (uint8_t)(v >> 8);
			ep.addr[2 * g + 1] = (uint8_t)v;
		}
		ep.addr[0] = 0x20;	/* no v4 in disguise, which inet_ntop() writes in its own way */
		inet_ntop(AF_INET6, ep.addr, addr, sizeof(addr));
		snprintf(want, sizeof(want), "[%s]:%u", addr, (unsigned int)ep.port);
		ck_assert_str_eq(xshim_endpoint_format(&ep, buf), want);
	}
}
END_TEST

START_TEST(sockaddr_there_and_back)
{
	struct sockaddr_storage ss;
	struct xshim_endpoint v4 = from_text("10.1.2.3", 4242), v6 = from_text("fd00::7", 1), back;

	ck_assert_uint_eq(xshim_endpoint_to_sockaddr(&v4, AF_INET, &ss), sizeof(struct sockaddr_in));
	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&back, (struct sockaddr *)&ss, sizeof(struct sockaddr_in)), 0);
	ck_assert(xshim_endpoint_equal(&v4, &back));
	ck_assert_uint_eq(xshim_endpoint_to_sockaddr(&v4, AF_INET6, &ss), sizeof(struct sockaddr_in6));
	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&back, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6)), 0);
	ck_assert(xshim_endpoint_equal(&v4, &back));
	ck_assert_uint_eq(xshim_endpoint_to_sockaddr(&v6, AF_INET, &ss), 0);
	ck_assert_uint_eq(xshim_endpoint_to_sockaddr(&v6, AF_UNIX, &ss), 0);
	ck_assert_uint_eq(xshim_endpoint_to_sockaddr(&v6, AF_INET6, &ss), sizeof(struct sockaddr_in6));
	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&back, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6)), 0);
	ck_assert(xshim_endpoint_equal(&v6, &back));
}
END_TEST

START_TEST(loopback_is_127_and_1)
{
	static const char *const yes[] = { "127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1" };
	static const char *const no[] = { "126.0.0.1", "128.0.0.1", "::", "::2", "fd00::1", "10.0.0.127", "7f00::1" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		struct xshim_endpoint ep = from_text(yes[i], 1);

		ck_assert_msg(xshim_endpoint_is_loopback(&ep), "%s", yes[i]);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		struct xshim_endpoint ep = from_text(no[i], 1);

		ck_assert_msg(!xshim_endpoint_is_loopback(&ep), "%s", no[i]);
	}
}
END_TEST

START_TEST(each_field_changes_equality_and_hash)
{
	struct xshim_tuple t = { from_text("10.0.0.1", 80), from_text("10.0.0.2", 81) };
	uint64_t base = xshim_tuple_hash(&t);

	for (size_t i = 0; i < 16; i++) {
		struct xshim_tuple u = t, v = t;

		u.local.addr[i] ^= 1;
		v.remote.addr[i] ^= 0x80;
		ck_assert(!xshim_tuple_equal(&t, &u) && !xshim_tuple_equal(&t, &v));
		ck_assert(xshim_tuple_hash(&u) != base && xshim_tuple_hash(&v) != base);
		ck_assert(xshim_endpoint_hash(&u.local) != xshim_endpoint_hash(&t.local));
	}
	for (unsigned int bit = 1; bit < 0x10000; bit <<= 1) {
		struct xshim_tuple u = t, v = t;

		u.local.port ^= (uint16_t)bit;
		v.remote.port ^= (uint16_t)bit;
		ck_assert(!xshim_tuple_equal(&t, &u) && !xshim_tuple_equal(&t, &v));
		ck_assert(xshim_tuple_hash(&u) != base && xshim_tuple_hash(&v) != base);
	}
}
END_TEST

START_TEST(mirror_swaps_the_ends)
{
	struct xshim_tuple t = { from_text("10.0.0.1", 80), from_text("fd00::2", 81) };
	struct xshim_tuple m = xshim_tuple_mirror(&t), back = xshim_tuple_mirror(&m);

	ck_assert(xshim_endpoint_equal(&m.local, &t.remote));
	ck_assert(xshim_endpoint_equal(&m.remote, &t.local));
	ck_assert(!xshim_tuple_equal(&t, &m));
	ck_assert(xshim_tuple_hash(&t) != xshim_tuple_hash(&m));
	ck_assert(xshim_tuple_equal(&t, &back));
}
END_TEST

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Neighbouring ports, as clients use them: no two fingerprints equal, low bits (the place in the map) even. */
START_TEST(hashes_of_neighbours_spread)
{
	static uint64_t h[65536];
	static unsigned int bucket[256];
	struct xshim_endpoint ep = from_text("10.0.0.1", 0);

	for (unsigned int port = 0; port < 65536; port++) {
		ep.port = (uint16_t)port;
		h[port] = xshim_endpoint_hash(&ep);
		ck_assert(h[port] > 1);
		bucket[h[port] & 255]++;
	}
	for (int i = 0; i < 256; i++)
		ck_assert_msg(bucket[i] > 160 && bucket[i] < 360, "bucket %d has %u of 256", i, bucket[i]);
	qsort(h, 65536, sizeof(h[0]), compare_u64);
	for (int i = 1; i < 65536; i++)
		ck_assert(h[i] != h[i - 1]);
}
END_TEST

/* A connected pair on the loopback of this family; -1 where the machine has no IPv6. */
static int connected_pair(int family, int pair[2])
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr *sa = family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
	socklen_t len = family == AF_INET ? sizeof(in) : sizeof(in6);
	int l = socket(family, SOCK_STREAM, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (l < 0 || bind(l, sa, len) < 0) {
		close(l);
		return -1;
	}
	ck_assert_int_eq(listen(l, 1), 0);
	ck_assert_int_eq(getsockname(l, sa, &len), 0);
	pair[0] = socket(family, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(pair[0], sa, len), 0);
	pair[1] = accept(l, NULL, NULL);
	ck_assert_int_ge(pair[1], 0);
	close(l);
	return 0;
}

START_TEST(the_two_ends_of_a_socket_mirror_each_other)
{
	static const int family[] = { AF_INET, AF_INET6 };
	struct xshim_tuple a, b, m;
	int pair[2];

	if (connected_pair(family[_i], pair) < 0)
		return;
	ck_assert_int_eq(xshim_tuple_from_socket(&a, pair[0]), 0);
	ck_assert_int_eq(xshim_tuple_from_socket(&b, pair[1]), 0);
	m = xshim_tuple_mirror(&a);
	ck_assert(xshim_tuple_equal(&m, &b));
	ck_assert(xshim_endpoint_is_loopback(&a.local));
	close(pair[0]);
	close(pair[1]);
}
END_TEST

START_TEST(tuple_of_something_else_says_why_and_keeps_errno)
{
	struct xshim_tuple t;
	int s = socket(AF_INET, SOCK_STREAM, 0);
	int p[2];

	errno = 77;
	ck_assert_int_eq(xshim_tuple_from_socket(&t, s), -ENOTCONN);
	ck_assert_int_eq(xshim_tuple_from_socket(&t, -1), -EBADF);
	ck_assert_int_eq(errno, 77);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(xshim_tuple_from_socket(&t, p[0]), -ENOTSOCK);
	close(s);
	close(p[0]);
	close(p[1]);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	ck_assert_int_eq(xshim_tuple_from_socket(&t, p[0]), -EAFNOSUPPORT);
	close(p[0]);
	close(p[1]);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("endpoint");
	TCase *tc = tcase_create("endpoint");

	tcase_add_test(tc, v4_and_v4_mapped_are_the_same_endpoint);
	tcase_add_test(tc, zone_and_flow_label_are_left_out);
	tcase_add_test(tc, other_families_and_short_lengths_are_refused);
	tcase_add_loop_test(tc, formats_as_people_write_it, 0, (int)(sizeof(formats) / sizeof(formats[0])));
	tcase_add_test(tc, random_v6_is_formatted_as_inet_ntop_does);
	tcase_add_test(tc, sockaddr_there_and_back);
	tcase_add_test(tc, loopback_is_127_and_1);
	tcase_add_test(tc, each_field_changes_equality_and_hash);
	tcase_add_test(tc, mirror_swaps_the_ends);
	tcase_add_test(tc, hashes_of_neighbours_spread);
	tcase_add_loop_test(tc, the_two_ends_of_a_socket_mirror_each_other, 0, 2);
	tcase_add_test(tc, tuple_of_something_else_says_why_and_keeps_errno);
	suite_add_tcase(s, tc);
	return s;
}

UNIT_MAIN(suite)
