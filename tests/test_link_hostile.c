/* SPDX-License-Identifier: MIT */
/*
 * test_link_hostile.c - one honest end against a peer who writes what it likes into its region and its LEAVE.
 *
 * Whatever the peer says, link.c answers -EPROTO or with something that keeps to this end's memory: never
 * more to read than the peer's ring holds, never more room than the own ring has, nothing to send
 * again that is no longer in the own ring. After -EPROTO nothing is believed any more. XSHIM_SIM_SEEDS as
 * in test_link_sim.c.
 */
#include <stdio.h>
#include <xshim/link.h>
#include "unit.h"

#define ORDER_OWN XSHIM_RING_ORDER_MIN
#define ORDER_PEER (XSHIM_RING_ORDER_MIN + 1)
#define OWN_RING ((uint64_t)1 << ORDER_OWN)
#define PEER_RING ((uint64_t)1 << ORDER_PEER)
#define OPERATIONS 400

static struct xshim_region_hdr own, peer;
static struct xshim_link l;
static uint64_t rnd, seed_now;
static uint64_t operations, resets, ring_reads, leaves_taken, gives, taken, takes;

/* ck_assert() writes a line for each call that holds; here millions do. */
#define must(cond)									\
	do {										\
		if (!(cond))								\
			ck_abort_msg("seed %llu: %s", (unsigned long long)seed_now, #cond); \
	} while (0)

static uint64_t below(uint64_t n)
{
	return unit_random(&rnd) % n;
}

static uint64_t odd_value(uint64_t now, unsigned int bits)
{
	uint64_t top = (uint64_t)1 << (bits - 1);

	switch (below(9)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return top - 1;
	case 3:
		return top;
	case 4:
		return top | (top - 1);
	case 5:
		return now + 1;
	case 6:
		return now - 1;
	case 7:
		return now + below(2 * PEER_RING);
	default:
		return unit_random(&rnd);
	}
}

/* What a peer that goes on honestly could write; without these, one lie ends each run at once. */
static void honest_word(void)
{
	switch (below(7)) {
	case 6:
		if (l.rx.state == XSHIM_RX_RING && peer.sw_seq == l.rx.seq && peer.head == l.rx.pos)
			peer.base = l.rx.pos;
		break;
	case 0:
		if (l.rx.state == XSHIM_RX_RING && peer.sw_seq == l.rx.seq)
			peer.head = l.rx.head + below(PEER_RING - (l.rx.head - l.rx.pos) + 1);
		break;
	case 1:
		if (peer.sw_seq == l.rx.seq) {
			uint64_t at = l.rx.state == XSHIM_RX_RING ? l.rx.head : l.rx.pos;

			peer.sw_at[(l.rx.seq + 1) & 1] = at;
			peer.head = at;
			peer.sw_seq = l.rx.seq + 1;
			if (l.rx.state == XSHIM_RX_TCP && below(2)) {
				peer.head = at + below(PEER_RING + 1);
				peer.sw_at[l.rx.seq & 1] = peer.head;
				peer.sw_seq = l.rx.seq + 2;
			}
		}
		break;
	case 2:
		peer.attached = 1;
		peer.ack = l.tx.seq;
		break;
	case 3:
		if (l.tx.state == XSHIM_TX_RING)
			peer.tail = l.tx.tail + below(l.tx.pos - l.tx.tail + 1);
		break;
	case 4:
		peer.leave = below(8) ? below(4) > 0 : below(5);
		peer.answering = below(4) == 0;
		break;
	default:
		peer.want_data = l.tx.pos;
		peer.want_space = l.rx.pos;
	}
}

static void hostile_word(void)
{
	_Atomic uint64_t *at;

	switch (below(16)) {
	case 15:
		peer.base = odd_value(peer.base, 64);
		break;
	case 0:
		peer.head = odd_value(peer.head, 64);
		break;
	case 1:
		at = &peer.sw_at[below(2)];
		*at = odd_value(*at, 64);
		break;
	case 2:
		peer.sw_seq = (uint32_t)odd_value(peer.sw_seq, 32);
		break;
	case 3:
		peer.tail = odd_value(peer.tail, 64);
		break;
	case 4:
		peer.ack = (uint32_t)odd_value(peer.ack, 32);
		break;
	case 5:
		peer.want_data = odd_value(peer.want_data, 64);
		break;
	case 6:
		peer.want_space = odd_value(peer.want_space, 64);
		break;
	case 7:
		peer.attached = (uint32_t)odd_value(peer.attached, 32);
		break;
	case 8:
		peer.leave = (uint32_t)odd_value(peer.leave, 32);
		break;
	case 9:
		peer.fin = (uint32_t)odd_value(peer.fin, 32);
		break;
	case 10:
		peer.reading = (uint32_t)odd_value(peer.reading, 32);
		break;
	case 11:
		peer.answering = (uint32_t)odd_value(peer.answering, 32);
		break;
	case 12:
		peer.rcvbuf = (uint32_t)odd_value(peer.rcvbuf, 32);
		break;
	case 13:
		peer.sndbuf = (uint32_t)odd_value(peer.sndbuf, 32);
		break;
	default:
		peer.consult = (uint32_t)odd_value(peer.consult, 32);
	}
}

static void check_invariants(void)
{
	must(l.tx.state <= XSHIM_TX_OUT && l.rx.state <= XSHIM_RX_GIVEN);
	must(l.tx.room >= (OWN_RING < XSHIM_ROOM_LEAST ? OWN_RING : XSHIM_ROOM_LEAST) && l.tx.room <= OWN_RING);
	must(l.tx.soft < OWN_RING && xshim_rx_place(&l) < PEER_RING);
	must(xshim_rx_room(&l, &peer) > 0 && xshim_rx_room(&l, &peer) <= PEER_RING);
	must(l.rx.frame_got <= XSHIM_FRAME_BYTES && l.tx.frame_sent <= l.tx.frame_len);
	if (l.tx.state == XSHIM_TX_RING || l.tx.state == XSHIM_TX_HELD)
		must(l.tx.pos - l.tx.tail <= OWN_RING);
	if (l.tx.state == XSHIM_TX_RESEND)
		must(l.tx.pos < l.tx.end && l.tx.end - l.tx.pos <= OWN_RING);
	if (l.rx.state == XSHIM_RX_RING)
		must(l.rx.head - l.rx.pos <= PEER_RING);
	if (l.rx.state == XSHIM_RX_RAW)
		must(l.rx.end > l.rx.pos && l.rx.end - l.rx.pos <= PEER_RING);
}

static void receive(void)
{
	enum xshim_rx_step step = XSHIM_RX_STEP_TCP;
	uint64_t limit = 0, n;
	bool crossed;
	int rc = xshim_rx_next(&l, &own, &peer, &step, &limit, &crossed);

	must(rc == 0 || rc == -EPROTO);
	if (rc) {
		must(l.error);
		return;
	}
	must(!l.error);
	if (crossed) {
		must(limit == 0);
		return;
	}
	switch (step) {
	case XSHIM_RX_STEP_RING:
		must(limit <= PEER_RING);
		if (below(3) == 0)
			hostile_word();		/* between the look and the copy */
		n = below(limit + 1);
		ring_reads += n > 0;
		if (n)
			xshim_rx_took_ring(&l, &own, &peer, n);
		break;
	case XSHIM_RX_STEP_TCP:
		n = below(100);
		must(xshim_rx_took_tcp(&l, n < limit ? n : limit) == 0);
		break;
	case XSHIM_RX_STEP_FRAME:
		must(limit <= XSHIM_FRAME_BYTES);
		break;
	}
	xshim_rx_want(&l, &own, below(2));
}

static void transmit(void)
{
	int64_t space;

	switch (atomic_load(&l.tx.state)) {
	case XSHIM_TX_TCP:
		if (xshim_tx_may_switch(&l, &peer))
			xshim_tx_up(&l, &own, l.tx.pos + below(1000));
		break;
	case XSHIM_TX_RING:
		if (below(8) == 0 && xshim_tx_may_switch(&l, &peer)) {
			(void)xshim_tx_down(&l, &own, &peer);
			break;
		}
		space = xshim_tx_space(&l, &peer);
		must(space == -EPROTO || (space >= 0 && space <= (int64_t)OWN_RING));
		if (space < 0) {
			must(l.error);
			break;
		}
		if (space > 0) {
			uint64_t n = 1 + below((uint64_t)space);

			if (below(4) == 0)
				xshim_tx_anew(&l, &own, n);
			must(xshim_tx_place(&l) < OWN_RING);
			xshim_tx_commit(&l, &own, &peer, n);
		}
		xshim_tx_want(&l, &own, below(2 * OWN_RING));
		break;
	case XSHIM_TX_RESEND:
		xshim_tx_resent(&l, 1 + below(l.tx.end - l.tx.pos));
		break;
	default:
		break;
	}
	l.tx.frame_sent = l.tx.frame_len;
}

static void leave(bool lying)
{
	struct xshim_frame f = { XSHIM_FRAME_LEAVE, l.nonce_own, l.tx.tail, l.rx.head };
	int rc;

	if (below(4) == 0)
		xshim_link_leave_ask(&l, &own);
	else if (below(4) == 0)
		(void)xshim_link_leave_unask(&l, &own, &peer);
	else if (below(8) == 0)
		(void)xshim_link_leave_alone(&l, &own, &peer);
	if (below(3) == 0) {
		rc = xshim_link_give(&l, &own, &peer);
		must(rc == 1 || rc == 0 || rc == -EAGAIN);
		gives += rc == 1;
	} else if (below(8) == 0 && l.rx.state == XSHIM_RX_GIVEN) {
		rc = xshim_link_ungive(&l, &own, &peer, below(4) == 0);
		must(rc == 1 || (rc == 0 && l.left) || rc == -EAGAIN);
		must((l.rx.state == XSHIM_RX_GIVEN) == (rc == -EAGAIN));
	}
	taken += xshim_link_is_taken(&l, &own, &peer);
	if (peer.leave == XSHIM_REGION_GIVES) {
		rc = xshim_link_is_given(&l, &own, &peer);
		must(rc == 0 || (rc == -EPROTO && l.error));
		takes += rc == 0 && l.taken;
	}
	if (peer.leave == XSHIM_REGION_LEFT) {
		rc = xshim_link_is_left(&l, &peer);
		must(rc == 0 || (rc == -EPROTO && l.error));
	}
	if (xshim_link_leave_due(&l, &peer))
		(void)xshim_link_leave_begin(&l, &own, &peer);
	/* Only in these states does the caller read a frame. */
	if (below(4) || (l.rx.state != XSHIM_RX_FRAME && l.rx.state != XSHIM_RX_RING))
		return;
	if (below(2))
		f.upto = l.tx.tail + below(l.tx.pos - l.tx.tail + 1);
	if (lying && below(3) == 0)
		f.upto = odd_value(below(2) ? l.tx.pos : l.tx.tail, 64);
	if (lying && below(3) == 0)
		f.head = odd_value(below(2) ? l.rx.head : l.rx.pos + PEER_RING, 64);
	if (lying && below(20) == 0)
		f.nonce++;
	if (lying && below(20) == 0)
		f.type++;
	xshim_frame_encode(&f, l.rx.frame);
	l.rx.frame_got = XSHIM_FRAME_BYTES;
	rc = xshim_link_leave_got(&l);
	must(rc == 0 || (rc == -EPROTO && l.error));
	leaves_taken += rc == 0 && l.left;
}

static void run(uint64_t seed)
{
	uint64_t lies = seed % 5;	/* 0: never, else one operation in 8 to 128 */
	uint64_t i;

	seed_now = seed;
	rnd = seed * 0x2545f4914f6cdd1du + 7;
	memset(&own, 0, sizeof(own));
	memset(&peer, 0, sizeof(peer));
	xshim_region_format(&own, ORDER_OWN, 1);
	xshim_region_format(&peer, ORDER_PEER, 2);
	xshim_link_init(&l, ORDER_OWN, 1, ORDER_PEER, 2);
	l.tx.pos = l.tx.tail = l.tx.start = odd_value(0, 32);
	l.rx.pos = l.rx.head = odd_value(0, 32);
	for (i = 0; i < OPERATIONS && !l.error; i++) {
		if (lies && below(4u << lies) == 0)
			hostile_word();
		else
			honest_word();
		switch (below(5)) {
		case 0:
		case 1:
			receive();
			break;
		case 2:
		case 3:
			transmit();
			break;
		default:
			if (i > 100)
				leave(lies && below(2));
		}
		check_invariants();
		if (xshim_link_is_out(&l))
			break;
	}
	operations += i;
	if (l.error) {
		enum xshim_rx_step step;
		uint64_t limit;
		bool crossed;

		resets++;
		must(xshim_rx_next(&l, &own, &peer, &step, &limit, &crossed) == -EPROTO && limit == 0);
		must(xshim_tx_space(&l, &peer) == -EPROTO);
		must(!xshim_tx_may_switch(&l, &peer) && !xshim_link_leave_due(&l, &peer));
	}
}

START_TEST(a_lie_is_refused_or_harmless)
{
	const char *s = getenv("XSHIM_SIM_SEEDS");
	uint64_t seeds = s && *s ? strtoull(s, NULL, 0) : 20000;

	for (uint64_t i = 1; i <= seeds; i++)
		run(i);
	printf("hostile: %llu seeds: operations %llu ring reads %llu leaves taken %llu gives %llu taken %llu takes %llu resets %llu\n",
	       (unsigned long long)seeds, (unsigned long long)operations, (unsigned long long)ring_reads,
	       (unsigned long long)leaves_taken, (unsigned long long)gives, (unsigned long long)taken, (unsigned long long)takes,
	       (unsigned long long)resets);
	fflush(stdout);
	if (seeds >= 1000)
		ck_assert(resets > seeds / 10 && ring_reads > seeds && leaves_taken > seeds / 50 &&
			  operations > 20 * seeds);
}
END_TEST

/* A link on the ring both ways, 100 bytes on each ring, from stream offset 1000. */
static void on_the_ring(void)
{
	enum xshim_rx_step step;
	uint64_t limit;
	bool crossed;

	seed_now = 0;
	memset(&own, 0, sizeof(own));
	memset(&peer, 0, sizeof(peer));
	xshim_region_format(&own, ORDER_OWN, 1);
	xshim_region_format(&peer, ORDER_PEER, 2);
	xshim_link_init(&l, ORDER_OWN, 1, ORDER_PEER, 2);
	peer.attached = 1;
	ck_assert(xshim_tx_may_switch(&l, &peer));
	xshim_tx_up(&l, &own, 1000);
	peer.tail = 1000;
	peer.ack = 1;
	xshim_tx_commit(&l, &own, &peer, 100);
	xshim_rx_set_pos(&l, 1000);
	peer.head = 1000;
	peer.sw_at[1] = 1000;
	peer.sw_seq = 1;
	ck_assert_int_eq(xshim_rx_next(&l, &own, &peer, &step, &limit, &crossed), 0);
	ck_assert(crossed && limit == 0);
	ck_assert_int_eq(xshim_rx_next(&l, &own, &peer, &step, &limit, &crossed), 0);
	ck_assert(!crossed && step == XSHIM_RX_STEP_RING && limit == 0);
	peer.head = 1100;
	ck_assert_int_eq(xshim_rx_next(&l, &own, &peer, &step, &limit, &crossed), 0);
	ck_assert(step == XSHIM_RX_STEP_RING && limit == 100);
	ck_assert_int_eq(xshim_tx_space(&l, &peer), (int64_t)OWN_RING - 100);
}

static const struct lie {
	const char *what;
	uint64_t head, sw_at, tail;
	uint32_t sw_seq;
	bool rx_refuses, tx_refuses;
	uint64_t base;			/* what was taken over before is 10 */
} lies[] = {
	{ "nothing new", 1100, 1000, 1000, 1, false, false, 10 },
	{ "head goes back", 1099, 1000, 1000, 1, true, false, 10 },
	{ "head beyond the ring", 1001 + PEER_RING, 1000, 1000, 1, true, false, 10 },
	{ "head at the ring's end", 1000 + PEER_RING, 1000, 1000, 1, false, false, 10 },
	{ "head wraps", UINT64_MAX, 1000, 1000, 1, true, false, 10 },
	{ "a switch number skipped", 1100, 1100, 1000, 3, true, false, 10 },
	{ "a switch number gone back", 1100, 1100, 1000, 0, true, false, 10 },
	{ "a switch below what is on the ring", 1100, 1099, 1000, 2, true, false, 10 },
	{ "a switch beyond the ring", 1100, 1001 + PEER_RING, 1000, 2, true, false, 10 },
	{ "tail beyond what was sent", 1100, 1000, 1101, 1, false, true, 10 },
	{ "tail at what was sent", 1100, 1000, 1100, 1, false, false, 10 },
	{ "tail wraps", 1100, 1000, UINT64_MAX, 1, false, true, 10 },
	{ "a base that has gone back", 1100, 1000, 1000, 1, true, false, 9 },
	{ "a base at what was read", 1100, 1000, 1000, 1, false, false, 1000 },
	{ "a base beyond what was read", 1100, 1000, 1000, 1, true, false, 1001 },
	{ "the same where a switch is ahead", 1100, 1100, 1000, 2, true, false, 1001 },
	{ "a base that wraps", 1100, 1000, 1000, 1, true, false, UINT64_MAX },
};

START_TEST(each_lie_is_told_from_the_truth)
{
	const struct lie *t = &lies[_i];
	enum xshim_rx_step step;
	uint64_t limit;
	bool crossed;

	on_the_ring();
	l.rx.base = 10;
	peer.base = t->base;
	peer.head = t->head;
	peer.sw_at[t->sw_seq & 1] = t->sw_at;
	peer.sw_seq = t->sw_seq;
	peer.tail = t->tail;
	ck_assert_msg((xshim_tx_space(&l, &peer) < 0) == t->tx_refuses, "%s: sending", t->what);
	l.error = 0;
	ck_assert_msg((xshim_rx_next(&l, &own, &peer, &step, &limit, &crossed) < 0) == t->rx_refuses,
		      "%s: receiving", t->what);
}
END_TEST

START_TEST(an_up_below_what_was_read_is_refused)
{
	enum xshim_rx_step step;
	uint64_t limit;
	bool crossed;

	on_the_ring();
	xshim_link_init(&l, ORDER_OWN, 1, ORDER_PEER, 2);
	peer.sw_at[1] = 999 + (uint64_t)_i;
	xshim_rx_set_pos(&l, 1000);
	ck_assert_int_eq(xshim_rx_next(&l, &own, &peer, &step, &limit, &crossed), _i ? 0 : -EPROTO);
}
END_TEST

START_TEST(a_tail_that_goes_back_is_refused)
{
	on_the_ring();
	peer.tail = 1050;
	ck_assert_int_eq(xshim_tx_space(&l, &peer), (int64_t)OWN_RING - 50);
	peer.tail = 1049;
	ck_assert_int_eq(xshim_tx_space(&l, &peer), -EPROTO);
	peer.tail = 1050;
	ck_assert_int_eq(xshim_tx_space(&l, &peer), -EPROTO);
}
END_TEST

static const struct bad_leave {
	const char *what;
	uint64_t nonce, upto, head;
	bool refused;
} bad_leaves[] = {
	{ "an honest one", 1, 1050, 1100, false },
	{ "the sender's own nonce", 2, 1050, 1100, true },
	{ "upto below what was consumed", 1, 1019, 1100, true },
	{ "upto at what was consumed", 1, 1020, 1100, false },
	{ "upto beyond what was sent", 1, 1101, 1100, true },
	{ "upto wraps", 1, UINT64_MAX, 1100, true },
	{ "head below what was published", 1, 1050, 1099, true },
	{ "head beyond the ring", 1, 1050, 1001 + PEER_RING, true },
	{ "head wraps", 1, 1050, UINT64_MAX, true },
};

START_TEST(a_leave_is_checked)
{
	const struct bad_leave *t = &bad_leaves[_i];
	struct xshim_frame f = { XSHIM_FRAME_LEAVE, t->nonce, t->upto, t->head };

	on_the_ring();
	peer.tail = 1020;
	ck_assert_int_gt(xshim_tx_space(&l, &peer), 0);
	xshim_frame_encode(&f, l.rx.frame);
	l.rx.frame_got = XSHIM_FRAME_BYTES;
	ck_assert_msg((xshim_link_leave_got(&l) == -EPROTO) == t->refused, "%s", t->what);
	check_invariants();
}
END_TEST

/* The word cannot be checked: what region.h says that each lie costs. */
START_TEST(reading_for_ever_holds_up_only_the_down)
{
	on_the_ring();
	peer.ack = 0;
	peer.reading = 1;
	ck_assert(!xshim_tx_may_switch(&l, &peer) && !xshim_tx_may_come_down(&l, &peer));
	ck_assert(xshim_tx_peer_reads(&l, &peer));	/* so that the writer looks again by itself */
	ck_assert_int_eq(xshim_tx_space(&l, &peer), (int64_t)OWN_RING - 100);
	peer.reading = 0;
	ck_assert(xshim_tx_may_switch(&l, &peer) && !xshim_tx_peer_reads(&l, &peer));
	/* once it has crossed nobody looks at the word */
	peer.reading = 1;
	peer.ack = 1;
	ck_assert(xshim_tx_may_switch(&l, &peer) && xshim_tx_may_come_down(&l, &peer) && !xshim_tx_peer_reads(&l, &peer));
	peer.leave = 1;
	ck_assert(xshim_link_leave_due(&l, &peer));
}
END_TEST

START_TEST(a_read_ends_what_one_that_was_killed_has_left)
{
	on_the_ring();
	own.reading = 1;
	ck_assert(xshim_rx_read_begin(&l, &own, &peer));
	xshim_rx_read_end(&own);
	ck_assert_uint_eq(own.reading, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("link_hostile");
	TCase *tc = tcase_create("hostile");

	tcase_add_loop_test(tc, each_lie_is_told_from_the_truth, 0, sizeof(lies) / sizeof(lies[0]));
	tcase_add_loop_test(tc, an_up_below_what_was_read_is_refused, 0, 2);
	tcase_add_test(tc, a_tail_that_goes_back_is_refused);
	tcase_add_loop_test(tc, a_leave_is_checked, 0, sizeof(bad_leaves) / sizeof(bad_leaves[0]));
	tcase_add_test(tc, reading_for_ever_holds_up_only_the_down);
	tcase_add_test(tc, a_read_ends_what_one_that_was_killed_has_left);
	tcase_add_test(tc, a_lie_is_refused_or_harmless);
	tcase_set_timeout(tc, 120);
	suite_add_tcase(s, tc);
	return s;
}

UNIT_MAIN(suite)
