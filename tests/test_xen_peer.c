/* SPDX-License-Identifier: MIT */
/*
 * test_xen_peer.c - two ends of the connection between guests' daemons against each other, over a carrier in memory; and one end against
 * a peer that breaks the rules.
 */
#include "peer_sides.h"

START_TEST(both_ends_come_up_and_say_so_once)
{
	ck_assert(a.p.state == XSHIMD_PEER_UP && b.p.state == XSHIMD_PEER_UP);
	ck_assert_int_eq(a.ups, 1);
	ck_assert_int_eq(b.ups, 1);
}
END_TEST

START_TEST(another_instance_than_the_host_names_is_not_let_in)
{
	xshimd_peer_detach(&a.p, NULL);
	xshimd_peer_detach(&b.p, NULL);
	connect_as(12, 11);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_ptr_nonnull(strstr(b.why, "instance"));
	ck_assert_int_eq(b.ups, 1);
}
END_TEST

START_TEST(who_says_nothing_is_given_up)
{
	uint64_t next;

	xshimd_peer_detach(&a.p, NULL);
	xshimd_peer_detach(&b.p, NULL);
	memset(&ab, 0, sizeof(ab));
	memset(&ba, 0, sizeof(ba));
	ck_assert_int_eq(xshimd_peer_attach(&b.p, &carrier, &b, 22, 11, now), 0);
	next = xshimd_peer_sweep(&b.p, now);
	ck_assert_uint_eq(next, now + XSHIMD_PEER_PATIENCE_MS);
	xshimd_peer_sweep(&b.p, next);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
}
END_TEST

START_TEST(endpoints_are_published_and_withdrawn)
{
	struct xshim_endpoint ep = at(2, 80);

	ck_assert_int_eq(xshimd_peer_endpoint(&b.p, &ep, true), 0);
	ck_assert_int_eq(xshimd_peer_endpoint(&b.p, &ep, true), 0);	/* twice is once */
	run();
	ck_assert_int_eq(a.added, 1);
	xshimd_peer_endpoint(&b.p, &ep, false);
	run();
	ck_assert_int_eq(a.removed, 1);
}
END_TEST

START_TEST(an_endpoint_at_somebody_elses_address_is_not_published)
{
	struct xshim_endpoint ep = at(3, 80);

	xshimd_peer_endpoint(&b.p, &ep, true);
	run();
	ck_assert_int_eq(a.added, 0);
	ck_assert_int_eq(a.p.state, XSHIMD_PEER_UP);
}
END_TEST

START_TEST(an_endpoint_is_published_once_the_hosts_list_allows_it)
{
	struct xshim_endpoint ep = at(2, 80);

	a.deny = true;
	xshimd_peer_endpoint(&b.p, &ep, true);
	run();
	ck_assert_int_eq(a.added, 0);
	a.deny = false;
	xshimd_peer_recheck(&a.p);
	ck_assert_int_eq(a.added, 1);
	a.deny = true;
	xshimd_peer_recheck(&a.p);
	ck_assert_int_eq(a.removed, 1);
}
END_TEST

START_TEST(an_offer_is_claimed_and_both_learn_of_each_other)
{
	struct xshim_tuple t = tuple(4000);
	struct xshimd_peer_offer o;

	hear_time();
	ck_assert_int_eq(xshimd_peer_offer(&a.p, 7, &t, &offered), 0);
	run();
	ck_assert_int_eq(b.offers, 1);
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD - 1, &claimed, &o), 0);
	ck_assert_uint_eq(o.number, 7);
	ck_assert(!memcmp(&o.half, &offered, sizeof(offered)));
	ck_assert_int_eq(b.withdrawn, 1);
	run();
	ck_assert_int_eq(a.answers, 1);
	ck_assert_uint_eq(a.number, 7);
	ck_assert(!memcmp(&a.half, &claimed, sizeof(claimed)));
	/* It is settled: nobody gets it twice. */
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD - 1, &claimed, &o), -ENOENT);
}
END_TEST

START_TEST(a_claim_without_an_offer_or_for_another_connection_finds_nothing)
{
	struct xshim_tuple t = tuple(4000), other = tuple(4001);
	struct xshimd_peer_offer o;

	hear_time();
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD - 1, &claimed, &o), -ENOENT);
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	run();
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &other, HEARD - 1, &claimed, &o), -ENOENT);
	ck_assert_int_eq(a.answers, 0);
}
END_TEST

START_TEST(two_offers_for_one_connection_are_both_declined)
{
	struct xshim_tuple t = tuple(4000);
	struct xshimd_peer_offer o;

	hear_time();
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	xshimd_peer_offer(&a.p, 8, &t, &offered);
	run();
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD - 1, &claimed, &o), -EEXIST);
	run();
	ck_assert_int_eq(a.declined, 2);
	ck_assert_uint_eq(a.reason, XSHIM_R_AMBIGUOUS);
	ck_assert_int_eq(a.answers, 0);
}
END_TEST

START_TEST(an_offer_that_was_withdrawn_is_not_claimed)
{
	struct xshim_tuple t = tuple(4000);
	struct xshimd_peer_offer o;

	hear_time();
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	xshimd_peer_withdraw(&a.p, 7);
	xshimd_peer_offer(&a.p, 8, &t, &offered);
	run();
	ck_assert_int_eq(xshimd_peer_claim(&b.p, &t, HEARD - 1, &claimed, &o), 0);
	ck_assert_uint_eq(o.number, 8);
}
END_TEST

START_TEST(an_offer_for_addresses_of_others_is_declined)
{
	struct xshim_tuple stranger = { .local = at(2, 80), .remote = at(3, 4000) };
	struct xshim_tuple elsewhere = { .local = at(4, 80), .remote = at(1, 4000) };

	xshimd_peer_offer(&a.p, 7, &stranger, &offered);
	xshimd_peer_offer(&a.p, 8, &elsewhere, &offered);
	run();
	ck_assert_int_eq(b.offers, 0);
	ck_assert_int_eq(a.declined, 2);
	ck_assert_uint_eq(a.reason, XSHIM_R_NOT_CORESIDENT);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_UP);
}
END_TEST

START_TEST(an_offer_that_nobody_claims_is_declined_in_time)
{
	struct xshim_tuple t = tuple(4000);

	xshimd_peer_offer(&a.p, 7, &t, &offered);
	run();
	ck_assert_uint_eq(xshimd_peer_sweep(&b.p, now), now + 60000);
	now += 60000;
	xshimd_peer_sweep(&b.p, now);
	run();
	ck_assert_int_eq(b.withdrawn, 1);
	ck_assert_int_eq(a.declined, 1);
	ck_assert_uint_eq(a.reason, XSHIM_R_PEER_SILENT);
}
END_TEST

START_TEST(no_room_in_the_map_declines_the_offer)
{
	struct xshim_tuple t = tuple(4000);

	b.fail_publish = -ENOSPC;
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	run();
	ck_assert_int_eq(a.declined, 1);
	ck_assert_uint_eq(a.reason, XSHIM_R_QUOTA);
	ck_assert_uint_eq(b.p.offers_n, 0);
}
END_TEST

START_TEST(gone_names_whose_offer_it_was)
{
	xshimd_peer_gone(&a.p, 7, true);
	run();
	ck_assert(b.gones == 1 && b.number == 7 && !b.ours);
	xshimd_peer_gone(&a.p, 8, false);
	run();
	ck_assert(b.gones == 2 && b.number == 8 && b.ours);
}
END_TEST

START_TEST(many_messages_pass_a_small_ring_in_order)
{
	for (uint16_t i = 0; i < 1000; i++) {
		struct xshim_endpoint ep = at(2, (uint16_t)(1000 + i));

		ck_assert_int_eq(xshimd_peer_endpoint(&b.p, &ep, true), 0);
	}
	run();
	ck_assert_int_eq(a.added, 1000);
	ck_assert_int_eq(a.p.state, XSHIMD_PEER_UP);
}
END_TEST

START_TEST(when_the_carrier_closes_all_of_the_peer_is_withdrawn)
{
	struct xshim_endpoint ep = at(1, 80);
	struct xshim_tuple t = tuple(4000);

	xshimd_peer_endpoint(&a.p, &ep, true);
	xshimd_peer_offer(&a.p, 7, &t, &offered);
	run();
	ck_assert(b.added == 1 && b.offers == 1);
	ab.closed = ba.closed = true;
	xshimd_peer_event(&b.p, now);
	ck_assert_int_eq(b.downs, 1);
	ck_assert(b.removed == 1 && b.withdrawn == 1);
	ck_assert_int_eq(xshimd_peer_offer(&b.p, 1, &t, &offered), -ENOTCONN);
}
END_TEST

START_TEST(a_peer_that_does_not_read_is_dropped_when_the_queue_is_full)
{
	struct xshim_endpoint ep = at(2, 80);
	int n = 0, rc;

	while ((rc = xshimd_peer_endpoint(&b.p, &ep, n & 1)) == 0 && n < 10000)
		n++;
	ck_assert_int_eq(rc, -ENOBUFS);
	ck_assert_int_ge(n, XSHIMD_PEER_QUEUE);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_int_eq(b.downs, 1);
}
END_TEST

START_TEST(a_peer_whose_process_is_gone_is_found_out_by_a_ping)
{
	/* An event with nothing behind it, and from then on nobody answers. */
	xshimd_peer_event(&b.p, now);
	ck_assert_uint_eq(xshimd_peer_sweep(&b.p, now), now + XSHIMD_PEER_PATIENCE_MS);
	ab.n = 0;
	now += XSHIMD_PEER_PATIENCE_MS;
	xshimd_peer_sweep(&b.p, now);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_str_eq(b.why, "it does not answer");
}
END_TEST

START_TEST(a_peer_that_answers_the_ping_stays)
{
	xshimd_peer_event(&b.p, now);
	run();
	ck_assert_uint_eq(xshimd_peer_sweep(&b.p, now + XSHIMD_PEER_PATIENCE_MS), UINT64_MAX);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_UP);
}
END_TEST

START_TEST(an_event_storm_ends_the_connection)
{
	for (int i = 0; i <= XSHIMD_PEER_STORM; i++)
		if (!xshimd_peer_event(&b.p, now))
			break;
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_str_eq(b.why, "an event storm");
}
END_TEST

/* ---- a peer that breaks the rules ---- */

static const struct breach {
	const char *why;
	enum xshimd_peer_type type;
	size_t offset, size;
	uint64_t value;
} breaches[] = {
	{ "a message that is none", XSHIMD_PEER_PING, offsetof(struct xshimd_peer_msg, magic), 4, 1 },
	{ "a message that is none", XSHIMD_PEER_PING, offsetof(struct xshimd_peer_msg, reserved), 4, 1 },
	{ "another version of the protocol between guests", XSHIMD_PEER_PING, offsetof(struct xshimd_peer_msg, version), 2, 9 },
	{ "another version of the protocol between guests", XSHIMD_PEER_PING, offsetof(struct xshimd_peer_msg, version), 2, XSHIMD_PEER_VERSION - 1 },
	{ "a message of unknown type", XSHIMD_PEER_PING, offsetof(struct xshimd_peer_msg, type), 2, 0 },
	{ "a message of unknown type", XSHIMD_PEER_PING, offsetof(struct xshimd_peer_msg, type), 2, 65535 },
	{ "HELLO twice", XSHIMD_PEER_HELLO, offsetof(struct xshimd_peer_msg, u.instance), 8, 11 },
	{ "an endpoint that is none", XSHIMD_PEER_ENDPOINT_ADD, offsetof(struct xshimd_peer_msg, u.endpoint.port), 2, 0 },
	{ "an endpoint that is none", XSHIMD_PEER_ENDPOINT_ADD, offsetof(struct xshimd_peer_msg, u.endpoint.pad), 2, 1 },
	{ "an offer without order, grant or port", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.half.order), 4, 11 },
	{ "an offer without order, grant or port", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.half.order), 4, 22 },
	{ "an offer without order, grant or port", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.half.order), 4, UINT32_MAX },
	{ "an offer without order, grant or port", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.half.gref), 4, 0 },
	{ "an offer without order, grant or port", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.half.port), 4, 0 },
	{ "an offer without order, grant or port", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.half.reserved), 4, 1 },
	{ "an offer without addresses", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.tuple.local.pad), 2, 1 },
	{ "an offer with a time that has not come", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.heard_ns), 8, HEARD + 1 },
	{ "an offer with a time that has not come", XSHIMD_PEER_OFFER, offsetof(struct xshimd_peer_msg, u.channel.heard_ns), 8, UINT64_MAX },
	{ "a claim without order or grant", XSHIMD_PEER_CLAIMED, offsetof(struct xshimd_peer_msg, u.channel.half.gref), 4, 0 },
};

START_TEST(a_breach_of_the_rules_ends_the_connection)
{
	const struct breach *br = &breaches[_i];
	struct xshimd_peer_msg m;

	forge(&m, br->type, 1);
	if (br->type == XSHIMD_PEER_ENDPOINT_ADD) {
		m.u.endpoint = at(1, 80);
	} else if (br->type == XSHIMD_PEER_OFFER || br->type == XSHIMD_PEER_CLAIMED) {
		m.u.channel.tuple = tuple(4000);
		m.u.channel.half = offered;
	}
	memcpy((char *)&m + br->offset, &br->value, br->size);
	into_b(&m);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_str_eq(b.why, br->why);
}
END_TEST

START_TEST(nothing_is_taken_before_hello)
{
	struct xshimd_peer_msg m;

	xshimd_peer_detach(&a.p, NULL);
	xshimd_peer_detach(&b.p, NULL);
	memset(&ab, 0, sizeof(ab));
	memset(&ba, 0, sizeof(ba));
	ck_assert_int_eq(xshimd_peer_attach(&b.p, &carrier, &b, 22, 11, now), 0);
	forge(&m, XSHIMD_PEER_ENDPOINT_ADD, 0);
	m.u.endpoint = at(1, 80);
	into_b(&m);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_int_eq(b.added, 0);
}
END_TEST

START_TEST(too_many_endpoints_end_the_connection_and_leave_nothing)
{
	struct xshimd_peer_msg m;

	for (uint32_t i = 0; i <= XSHIMD_PEER_ENDPOINTS && b.p.state == XSHIMD_PEER_UP; i++) {
		forge(&m, XSHIMD_PEER_ENDPOINT_ADD, 0);
		m.u.endpoint = at(1, (uint16_t)(1 + i));
		into_b(&m);
	}
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_str_eq(b.why, "more than 1024 endpoints");
	ck_assert_int_eq(b.added, XSHIMD_PEER_ENDPOINTS);
	ck_assert_int_eq(b.removed, XSHIMD_PEER_ENDPOINTS);
}
END_TEST

START_TEST(too_many_offers_and_a_number_used_twice_end_the_connection)
{
	struct xshimd_peer_msg m;
	uint32_t numbers = _i ? 2 : XSHIMD_PEER_OFFERS + 1;

	for (uint32_t i = 0; i < numbers && b.p.state == XSHIMD_PEER_UP; i++) {
		forge(&m, XSHIMD_PEER_OFFER, _i ? 5 : i);
		m.u.channel.tuple = tuple((uint16_t)(1 + i));
		m.u.channel.half = offered;
		into_b(&m);
	}
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_CLOSED);
	ck_assert_str_eq(b.why, _i ? "one offer number twice" : "more than 256 offers");
	ck_assert_int_eq(b.offers, b.withdrawn);
}
END_TEST

START_TEST(answers_to_offers_that_were_never_made_reach_the_owner_as_such)
{
	struct xshimd_peer_msg m;

	forge(&m, XSHIMD_PEER_DECLINED, 99);
	m.u.reason = 4000000000u;
	into_b(&m);
	ck_assert_int_eq(b.declined, 1);
	ck_assert_uint_eq(b.reason, XSHIM_R_PEER_SILENT);
	forge(&m, XSHIMD_PEER_WITHDRAW, 99);
	into_b(&m);
	ck_assert_int_eq(b.p.state, XSHIMD_PEER_UP);
}
END_TEST

START_TEST(random_messages_break_nothing_but_the_connection)
{
	uint64_t seed = 7;

	for (int round = 0; round < 20000; round++) {
		struct xshimd_peer_msg m;
		uint64_t *w = (uint64_t *)&m;

		if (b.p.state == XSHIMD_PEER_CLOSED) {
			xshimd_peer_detach(&a.p, NULL);
			connect_as(11, 11);
			ck_assert_int_eq(b.p.state, XSHIMD_PEER_UP);
		}
		forge(&m, (enum xshimd_peer_type)(2 + unit_random(&seed) % 10), (uint32_t)unit_random(&seed) % 8);
		for (size_t i = 2; i < sizeof(m) / 8; i++)
			w[i] = unit_random(&seed) & unit_random(&seed) & unit_random(&seed);
		if (unit_random(&seed) % 4) {
			m.u.channel.tuple = tuple((uint16_t)(unit_random(&seed) % 4));
			m.u.channel.half = offered;
			m.u.channel.heard_ns %= 2 * HEARD;
		}
		into_b(&m);
	}
	ck_assert_int_gt(b.downs, 10);
	ck_assert_int_gt(b.offers, 10);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("xen_peer");
	TCase *t = tcase_create("two ends");

	tcase_add_checked_fixture(t, fresh, done);
	tcase_add_test(t, both_ends_come_up_and_say_so_once);
	tcase_add_test(t, another_instance_than_the_host_names_is_not_let_in);
	tcase_add_test(t, who_says_nothing_is_given_up);
	tcase_add_test(t, endpoints_are_published_and_withdrawn);
	tcase_add_test(t, an_endpoint_at_somebody_elses_address_is_not_published);
	tcase_add_test(t, an_endpoint_is_published_once_the_hosts_list_allows_it);
	tcase_add_test(t, an_offer_is_claimed_and_both_learn_of_each_other);
	tcase_add_test(t, a_claim_without_an_offer_or_for_another_connection_finds_nothing);
	tcase_add_test(t, two_offers_for_one_connection_are_both_declined);
	tcase_add_test(t, an_offer_that_was_withdrawn_is_not_claimed);
	tcase_add_test(t, an_offer_for_addresses_of_others_is_declined);
	tcase_add_test(t, an_offer_that_nobody_claims_is_declined_in_time);
	tcase_add_test(t, no_room_in_the_map_declines_the_offer);
	tcase_add_test(t, gone_names_whose_offer_it_was);
	tcase_add_test(t, many_messages_pass_a_small_ring_in_order);
	tcase_add_test(t, when_the_carrier_closes_all_of_the_peer_is_withdrawn);
	tcase_add_test(t, a_peer_that_does_not_read_is_dropped_when_the_queue_is_full);
	tcase_add_test(t, a_peer_whose_process_is_gone_is_found_out_by_a_ping);
	tcase_add_test(t, a_peer_that_answers_the_ping_stays);
	tcase_add_test(t, an_event_storm_ends_the_connection);
	suite_add_tcase(s, t);
	t = tcase_create("hostile peer");
	tcase_add_checked_fixture(t, fresh, done);
	tcase_add_loop_test(t, a_breach_of_the_rules_ends_the_connection, 0, sizeof(breaches) / sizeof(breaches[0]));
	tcase_add_test(t, nothing_is_taken_before_hello);
	tcase_add_test(t, too_many_endpoints_end_the_connection_and_leave_nothing);
	tcase_add_loop_test(t, too_many_offers_and_a_number_used_twice_end_the_connection, 0, 2);
	tcase_add_test(t, answers_to_offers_that_were_never_made_reach_the_owner_as_such);
	tcase_add_test(t, random_messages_break_nothing_but_the_connection);
	suite_add_tcase(s, t);
	return s;
}

UNIT_MAIN(suite)
