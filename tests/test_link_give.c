/* SPDX-License-Identifier: MIT */
/*
 * test_link_give.c - what lies unread on the ring is given back (link.h): who has each byte then. I read and give, it has sent.
 */
#include <xshim/link.h>
#include "unit.h"

#define ORDER XSHIM_RING_ORDER_MIN
#define I_SENT 100	/* by TCP, before */
#define IT_SENT 200

static struct xshim_region_hdr own, its;
static struct xshim_link l, p;
static enum xshim_rx_step step;
static uint64_t limit;

static int next(struct xshim_link *a, struct xshim_region_hdr *a_own, const struct xshim_region_hdr *a_peer)
{
	bool crossed;
	int rc;

	do
		rc = xshim_rx_next(a, a_own, a_peer, &step, &limit, &crossed);
	while (!rc && crossed);
	return rc;
}

static int i_look(void) { return next(&l, &own, &its); }
static int it_looks(void) { return next(&p, &its, &own); }
static void it_puts(uint64_t n) { (void)xshim_tx_commit(&p, &its, &own, n); }
static int i_give(void) { return xshim_link_give(&l, &own, &its); }
static int i_think_better(void) { return xshim_link_ungive(&l, &own, &its, false); }
static int it_hears(void) { return xshim_link_is_given(&p, &its, &own); }

/* It is on its ring, from IT_SENT on, with 50 bytes there, and I have read 20 of them, or have not come to the first. */
static void begin(bool crossed)
{
	memset(&own, 0, sizeof(own));
	memset(&its, 0, sizeof(its));
	xshim_region_format(&own, ORDER, 1);
	xshim_region_format(&its, ORDER, 2);
	xshim_link_init(&l, ORDER, 1, ORDER, 2);
	xshim_link_init(&p, ORDER, 2, ORDER, 1);
	xshim_rx_set_pos(&l, IT_SENT - 10);
	xshim_rx_set_pos(&p, I_SENT);
	own.attached = its.attached = 1;
	xshim_tx_up(&l, &own, I_SENT);
	ck_assert_int_eq(it_looks(), 0);
	xshim_tx_up(&p, &its, IT_SENT);
	it_puts(50);
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_TCP && limit == 10);
	if (!crossed)
		return;
	(void)xshim_rx_took_tcp(&l, 10);
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_RING && limit == 50);
	(void)xshim_rx_took_ring(&l, &own, &its, 20);
}

static void it_sends_again(uint64_t from, uint64_t to)
{
	ck_assert(p.taken && p.tx.pos == from && p.tx.end == to);
	ck_assert_uint_eq(p.tx.state, from < to ? XSHIM_TX_RESEND : XSHIM_TX_OUT);
	if (from < to)
		xshim_tx_resent(&p, to - from);
	ck_assert_uint_eq(p.tx.state, XSHIM_TX_OUT);
}

static void both_are_out(void)
{
	ck_assert(xshim_link_is_taken(&l, &own, &its) && xshim_link_is_out(&l));
	ck_assert_uint_eq(own.leave, XSHIM_REGION_LEFT);
	/* my stream went down, too */
	ck_assert_int_eq(it_looks(), 0);
	ck_assert_int_eq(xshim_link_is_left(&p, &own), 0);
	ck_assert(xshim_link_is_out(&p));
}

START_TEST(given_bytes_are_sent_again)
{
	begin(true);
	ck_assert_int_eq(i_give(), 1);
	/* from now on I read nothing, by either path, and put nothing on my ring */
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_RING && limit == 0);
	ck_assert(l.tx.state == XSHIM_TX_TCP && !xshim_tx_may_switch(&l, &its));
	xshim_link_leave_ask(&l, &own);
	ck_assert(!l.want_leave && own.leave == XSHIM_REGION_GIVES);
	it_puts(5);			/* it has not seen it yet */
	ck_assert(!xshim_link_is_taken(&l, &own, &its));
	ck_assert_int_eq(it_hears(), 0);
	it_sends_again(IT_SENT + 20, IT_SENT + 55);
	both_are_out();
}
END_TEST

START_TEST(what_precedes_the_given_is_read_by_tcp)
{
	begin(false);
	ck_assert_int_eq(i_give(), 1);
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_TCP && limit == 10);
	(void)xshim_rx_took_tcp(&l, 10);
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_RING && limit == 0);
	ck_assert_int_eq(it_hears(), 0);
	it_sends_again(IT_SENT, IT_SENT + 50);
	both_are_out();
}
END_TEST

START_TEST(who_thinks_better_of_it_reads_the_ring)
{
	begin(_i);
	ck_assert_int_eq(i_give(), 1);
	ck_assert_int_eq(i_think_better(), 1);
	ck_assert_int_eq(own.leave, 0);
	ck_assert_int_eq(i_look(), 0);
	if (_i)
		ck_assert(step == XSHIM_RX_STEP_RING && limit == 30);
	else
		ck_assert(step == XSHIM_RX_STEP_TCP && limit == 10);
	/* it comes too late, and goes on by ring */
	ck_assert_int_eq(it_hears(), 0);
	ck_assert(!p.taken && p.tx.state == XSHIM_TX_RING && !its.answering);
	ck_assert_int_eq(i_give(), 1);	/* another time */
}
END_TEST

START_TEST(what_was_taken_is_not_taken_back)
{
	begin(_i);
	ck_assert_int_eq(i_give(), 1);
	ck_assert_int_eq(it_hears(), 0);
	ck_assert_int_eq(i_think_better(), 0);
	ck_assert(xshim_link_is_out(&l));
	it_sends_again(_i ? IT_SENT + 20 : IT_SENT, IT_SENT + 50);
}
END_TEST

/* It has stored answering, and is about to look at leave. */
START_TEST(neither_has_it_before_the_other_is_out_of_the_way)
{
	begin(true);
	its.answering = 1;
	ck_assert_int_eq(i_give(), 0);
	its.answering = 0;
	ck_assert_int_eq(i_give(), 1);
	its.answering = 1;
	ck_assert_int_eq(i_think_better(), -EAGAIN);
	ck_assert(l.rx.state == XSHIM_RX_GIVEN && own.leave == XSHIM_REGION_GIVES);
	ck_assert_int_eq(i_give(), -EAGAIN);
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_RING && limit == 0);
	/* it was killed there: its FIN says so */
	ck_assert_int_eq(xshim_link_ungive(&l, &own, &its, true), 1);
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_RING && limit == 30);
}
END_TEST

/* It has looked at leave before, and comes down: what it sends by TCP follows what is unread, so that is not to be given. */
START_TEST(a_down_on_its_way_is_seen)
{
	begin(true);
	its.answering = 1;
	own.ack = p.tx.seq;
	l.rx.end = l.rx.pos;
	l.rx.state = XSHIM_RX_GIVEN;	/* between its look and the check of give */
	own.leave = 0;
	ck_assert(xshim_tx_down(&p, &its, &own));
	own.leave = XSHIM_REGION_GIVES;
	ck_assert(!xshim_link_is_taken(&l, &own, &its));
	ck_assert_int_eq(i_give(), 0);
	ck_assert_int_eq(own.leave, 0);
	ck_assert_int_eq(it_hears(), 0);
	ck_assert(!p.taken);
	ck_assert_int_eq(i_look(), 0);
	ck_assert(step == XSHIM_RX_STEP_RING && limit == 30);
}
END_TEST

/* The same with nothing on the ring: where it is on TCP is where it would be if it had taken. */
START_TEST(a_down_with_nothing_before_it_is_as_good_as_taken)
{
	begin(_i);
	if (_i) {
		(void)xshim_rx_took_ring(&l, &own, &its, 30);
	} else {
		xshim_link_init(&p, ORDER, 2, ORDER, 1);
		xshim_rx_set_pos(&p, I_SENT);
		its.sw_seq = its.ack = 0;
		ck_assert_int_eq(it_looks(), 0);
		xshim_tx_up(&p, &its, IT_SENT);
	}
	ck_assert_int_eq(i_give(), 1);
	own.leave = 0;
	its.reading = own.reading = 0;
	ck_assert(xshim_tx_down(&p, &its, &own));
	own.leave = XSHIM_REGION_GIVES;
	ck_assert_int_eq(it_hears(), 0);
	ck_assert(!p.taken);
	both_are_out();
}
END_TEST

START_TEST(a_half_close_goes_before_it_or_waits)
{
	begin(true);
	if (_i) {
		ck_assert(xshim_link_try_fin(&p, &its, &own) && its.fin && !its.answering);
		ck_assert_int_eq(i_give(), 0);
		ck_assert_int_eq(l.rx.state, XSHIM_RX_RING);
		return;
	}
	ck_assert_int_eq(i_give(), 1);
	ck_assert(!xshim_link_try_fin(&p, &its, &own) && !its.fin && !its.answering);
	ck_assert(!xshim_tx_fin_waits(&p, &own));
	ck_assert_int_eq(it_hears(), 0);
	ck_assert(xshim_tx_fin_waits(&p, &own));
	it_sends_again(IT_SENT + 20, IT_SENT + 50);
	ck_assert(!xshim_tx_fin_waits(&p, &own) && xshim_link_try_fin(&p, &its, &own) && its.answering);
}
END_TEST

START_TEST(nothing_is_given_to_one_who_cannot_take_it)
{
	begin(true);
	switch (_i) {
	case 0:
		atomic_store(&its.deaf, XSHIM_REGION_CLOSED);
		break;
	case 1:
		ck_assert(xshim_tx_down(&p, &its, &own));
		break;
	case 2:
		its.reading = 1;	/* we may not come down either */
		l.tx.seq++;
		break;
	case 3:
		l.tx.frame_len = XSHIM_FRAME_BYTES;
		break;
	default:
		xshim_link_leave_ask(&l, &own);
	}
	ck_assert_int_eq(i_give(), 0);
	ck_assert_uint_eq(l.rx.state, XSHIM_RX_RING);
	ck_assert_uint_ne(own.leave, XSHIM_REGION_GIVES);
}
END_TEST

/* One that gives, and lies. */
START_TEST(a_tail_that_cannot_be_is_refused)
{
	begin(true);
	own.leave = XSHIM_REGION_GIVES;
	ck_assert_int_ge(xshim_tx_space(&p, &own), 0);
	own.tail = _i ? IT_SENT + 51 : IT_SENT + 19;
	ck_assert_int_eq(it_hears(), -EPROTO);
	ck_assert(p.error && !p.taken);
}
END_TEST

/* One that is given to, and lies: I wait, or have what is on the ring, and never anything else. */
START_TEST(a_switch_that_cannot_be_is_refused)
{
	static const struct { uint32_t seq; uint64_t at; } lies[] = {
		{ 2, IT_SENT + 19 }, { 2, IT_SENT + 21 }, { 3, IT_SENT + 20 }, { 5, IT_SENT + 20 }, { 0, IT_SENT + 20 }, { UINT32_MAX, 0 },
	};

	begin(true);
	ck_assert_int_eq(i_give(), 1);
	its.sw_at[0] = lies[_i].at;
	its.sw_seq = lies[_i].seq;
	ck_assert(!xshim_link_is_taken(&l, &own, &its));
	ck_assert_int_eq(i_think_better(), 1);
	ck_assert_int_eq(i_look(), -EPROTO);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("link_give");
	TCase *tc = tcase_create("honest"), *lying = tcase_create("lying");

	tcase_add_test(tc, given_bytes_are_sent_again);
	tcase_add_test(tc, what_precedes_the_given_is_read_by_tcp);
	tcase_add_loop_test(tc, who_thinks_better_of_it_reads_the_ring, 0, 2);
	tcase_add_loop_test(tc, what_was_taken_is_not_taken_back, 0, 2);
	tcase_add_test(tc, neither_has_it_before_the_other_is_out_of_the_way);
	tcase_add_test(tc, a_down_on_its_way_is_seen);
	tcase_add_loop_test(tc, a_down_with_nothing_before_it_is_as_good_as_taken, 0, 2);
	tcase_add_loop_test(tc, a_half_close_goes_before_it_or_waits, 0, 2);
	tcase_add_loop_test(tc, nothing_is_given_to_one_who_cannot_take_it, 0, 5);
	suite_add_tcase(s, tc);
	tcase_add_loop_test(lying, a_tail_that_cannot_be_is_refused, 0, 2);
	tcase_add_loop_test(lying, a_switch_that_cannot_be_is_refused, 0, 6);
	suite_add_tcase(s, lying);
	return s;
}

UNIT_MAIN(suite)
