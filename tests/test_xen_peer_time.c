/* SPDX-License-Identifier: MIT */
/*
 * test_xen_peer_time.c - of two guests, whose clocks cannot be compared: which offer is older than what is claimed (xen_peer.h).
 */
#include "peer_sides.h"

/* Its connection may be over, and the one that is claimed somebody else's, between the same ports. */
START_TEST(an_offer_that_is_older_than_what_is_claimed_is_not_taken)
{
	struct xshim_tuple t = tuple(4000), other = tuple(4001);
	struct xshimd_peer_offer o;

	hear_time();
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	xshimd_peer_offer(&a.p, 8, &other, &offered);
	run();
	b_ns += 1000;
	/* accepted in the moment in which A was told the time, or later */
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD + _i, &claimed, &o), -ENOENT);
	run();
	ck_assert(a.answers == 0 && a.declined == 0 && a.older == 1);
	ck_assert_uint_eq(a.number, 7);
	ck_assert_uint_eq(a.p.heard_ns, HEARD + 1000);
	/* made anew, of a socket that is looked at now */
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	run();
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD + _i, &claimed, &o), 0);
	ck_assert_uint_eq(o.number, 7);
	/* the one for other ports waits still */
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &other, HEARD - 1, &claimed, &o), 0);
	ck_assert_uint_eq(o.number, 8);
}
END_TEST

START_TEST(an_offer_older_than_the_claim_makes_a_younger_one_no_less_certain)
{
	struct xshim_tuple t = tuple(4000);
	struct xshimd_peer_offer o;

	hear_time();
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	b_ns += 1000;
	hear_time();
	xshimd_peer_offer(&a.p, 8, &t, &offered);
	run();
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD, &claimed, &o), 0);
	ck_assert_uint_eq(o.number, 8);
	run();
	ck_assert(a.older == 1 && a.answers == 1 && a.reason == 0);
}
END_TEST

START_TEST(an_offer_without_a_time_is_never_claimed)
{
	struct xshim_tuple t = tuple(4000);
	struct xshimd_peer_offer o;

	xshimd_peer_offer(&a.p, 7, &t, &offered);
	run();
	ck_assert_int_eq(b.offers, 1);
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, 0, &claimed, &o), -ENOENT);
	run();
	ck_assert_int_eq(a.older, 1);
}
END_TEST

/* The answer to a PING that is under way may have been sent before the second one asked. */
START_TEST(who_asks_meanwhile_is_told_by_the_next_answer)
{
	uint32_t first, second, third;

	ck_assert_int_eq(xshimd_peer_ask(&a.p, now, &first), 0);
	ck_assert_int_eq(xshimd_peer_ask(&a.p, now, &second), 0);
	ck_assert_int_eq(xshimd_peer_ask(&a.p, now, &third), 0);
	ck_assert_uint_eq(ab.n, 1);
	ck_assert_uint_ne(first, second);
	ck_assert_uint_eq(second, third);
	xshimd_peer_event(&b.p, now);
	b_ns += 1000;
	xshimd_peer_event(&a.p, now);
	ck_assert(a.heard == 1 && a.ask == first && a.p.heard_ns == HEARD);
	run();
	ck_assert(a.heard == 2 && a.ask == second && a.p.heard_ns == HEARD + 1000);
	ck_assert_uint_eq(a.p.deadline_ms, UINT64_MAX);
}
END_TEST

START_TEST(who_is_asked_and_says_nothing_is_given_up)
{
	uint32_t ask;

	hear_time();
	ck_assert_int_eq(xshimd_peer_ask(&a.p, now, &ask), 0);
	ck_assert_uint_eq(xshimd_peer_sweep(&a.p, now), now + XSHIMD_PEER_PATIENCE_MS);
	now += XSHIMD_PEER_PATIENCE_MS;
	xshimd_peer_sweep(&a.p, now);
	ck_assert_int_eq(a.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_int_eq(a.heard, 1);
	ck_assert_int_eq(xshimd_peer_ask(&a.p, now, &ask), -ENOTCONN);
	/* what was heard of one life is nothing in the next */
	xshimd_peer_detach(&b.p, NULL);
	connect_as(11, 11);
	ck_assert_uint_eq(a.p.heard_ns, 0);
}
END_TEST

START_TEST(a_time_that_was_not_asked_for_is_not_taken)
{
	struct xshimd_peer_msg m;

	forge(&m, XSHIMD_PEER_PONG, b.p.ping);
	m.u.time_ns = 77;
	into_b(&m);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_UP);
	ck_assert_int_eq(b.heard, 0);
	ck_assert_uint_eq(b.p.heard_ns, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("xen_peer_time");
	TCase *t = tcase_create("two ends");

	tcase_add_checked_fixture(t, fresh, done);
	tcase_add_loop_test(t, an_offer_that_is_older_than_what_is_claimed_is_not_taken, 0, 2);
	tcase_add_test(t, an_offer_older_than_the_claim_makes_a_younger_one_no_less_certain);
	tcase_add_test(t, an_offer_without_a_time_is_never_claimed);
	tcase_add_test(t, who_asks_meanwhile_is_told_by_the_next_answer);
	tcase_add_test(t, who_is_asked_and_says_nothing_is_given_up);
	tcase_add_test(t, a_time_that_was_not_asked_for_is_not_taken);
	suite_add_tcase(s, t);
	return s;
}

UNIT_MAIN(suite)
