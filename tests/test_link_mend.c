/* SPDX-License-Identifier: MIT */
/*
 * test_link_mend.c - a process that shares an end with others is killed at each instruction of what link.c does; another takes over.
 *
 * What has been begun is finished by xshim_tx_mend(), xshim_rx_mend() and xshim_link_mend(): the words that the peer reads are those of
 * the state, and an honest peer finds nothing to object to.
 */
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <xshim/link.h>
#include "unit.h"

#define ORDER XSHIM_RING_ORDER_MIN
#define STEPS_MAX 200000
/* what a sanitizer puts in is long, and nobody is killed for that */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 97
#else
#define STRIDE 1
#endif

/* Shared with the child that is killed: our end, and the peer's, which nobody kills. */
struct shared {
	struct xshim_region_hdr own, its;
	struct xshim_link l, p;
	volatile int inside;		/* the child is in what it is killed in: 1; it has ended: 2 */
};
static struct shared *sh;

static void next(struct xshim_link *l, struct xshim_region_hdr *own, const struct xshim_region_hdr *peer)
{
	enum xshim_rx_step step;
	uint64_t limit;
	bool crossed;

	/* not ck_assert(): the child would be stepped through that, too */
	if (xshim_rx_next(l, own, peer, &step, &limit, &crossed) < 0)
		abort();
}

static void i_go_up(void)
{
	xshim_tx_up(&sh->l, &sh->own, 100);
}

static void it_goes_up(void)
{
	xshim_tx_up(&sh->p, &sh->its, 200);
}

static void i_cross(void)
{
	next(&sh->l, &sh->own, &sh->its);
}

static void it_crosses(void)
{
	next(&sh->p, &sh->its, &sh->own);
}

static void i_put(void)
{
	(void)xshim_tx_commit(&sh->l, &sh->own, &sh->its, 10);
}

static void it_puts(void)
{
	(void)xshim_tx_commit(&sh->p, &sh->its, &sh->own, 10);
}

static void i_begin_anew(void)
{
	if (xshim_tx_space(&sh->l, &sh->its) < 0)
		abort();
	xshim_tx_anew(&sh->l, &sh->own, 10);
}

static void i_take(void)
{
	(void)xshim_rx_took_ring(&sh->l, &sh->own, &sh->its, 10);
}

static void it_takes(void)
{
	it_crosses();
	(void)xshim_rx_took_ring(&sh->p, &sh->its, &sh->own, 10);
}

static void i_come_down(void)
{
	(void)xshim_tx_down(&sh->l, &sh->own, &sh->its);
}

static void it_comes_down(void)
{
	(void)xshim_tx_down(&sh->p, &sh->its, &sh->own);
}

static void i_leave_alone(void)
{
	(void)xshim_link_leave_alone(&sh->l, &sh->own, &sh->its);
}

static void i_give(void)
{
	(void)xshim_link_give(&sh->l, &sh->own, &sh->its);
}

static void i_think_better(void)
{
	(void)xshim_link_ungive(&sh->l, &sh->own, &sh->its, false);
}

static void it_gives(void)
{
	(void)xshim_link_give(&sh->p, &sh->its, &sh->own);
}

static void i_take_it(void)
{
	(void)xshim_link_is_given(&sh->l, &sh->own, &sh->its);
}

static void it_takes_it(void)
{
	(void)xshim_link_is_given(&sh->p, &sh->its, &sh->own);
}

static void i_see_it_taken(void)
{
	(void)xshim_link_is_taken(&sh->l, &sh->own, &sh->its);
}

static void i_half_close(void)
{
	(void)xshim_link_try_fin(&sh->l, &sh->own, &sh->its);
}

/* What precedes, and, last, where the child is killed. */
#define BEFORE 7
static void (*const cases[][BEFORE + 1])(void) = {
	{ i_go_up },
	{ i_go_up, it_crosses, i_put },
	{ i_go_up, it_crosses, i_put, it_takes, i_come_down },
	{ i_go_up, it_crosses, i_put, it_takes, i_begin_anew },
	{ i_go_up, it_crosses, i_put, it_takes, i_begin_anew, i_put },
	{ it_goes_up, i_cross },
	{ it_goes_up, i_cross, it_puts, i_cross, i_take },
	{ it_goes_up, i_cross, it_comes_down, i_cross },
	{ i_go_up, it_crosses, it_goes_up, i_cross, i_leave_alone },
	{ i_go_up, it_crosses, i_put, i_leave_alone },
	{ i_go_up, it_crosses, it_goes_up, i_cross, it_puts, i_give },
	{ it_goes_up, it_puts, i_give },
	{ it_goes_up, i_cross, it_puts, i_give, i_think_better },
	{ it_goes_up, i_cross, it_puts, i_give, it_takes_it, i_see_it_taken },
	{ i_go_up, i_put, it_gives, i_take_it },
	{ i_go_up, it_crosses, i_put, it_takes, i_put, it_gives, i_take_it },
	{ i_go_up, it_crosses, i_put, i_half_close },
};

static void begin(void)
{
	memset(sh, 0, sizeof(*sh));
	xshim_region_format(&sh->own, ORDER, 1);
	xshim_region_format(&sh->its, ORDER, 2);
	xshim_link_init(&sh->l, ORDER, 1, ORDER, 2);
	xshim_link_init(&sh->p, ORDER, 2, ORDER, 1);
	xshim_rx_set_pos(&sh->l, 200);
	xshim_rx_set_pos(&sh->p, 100);
	atomic_store(&sh->own.attached, 1);
	atomic_store(&sh->its.attached, 1);
}

static void words_are_those_of_the_state(void)
{
	struct xshim_link *l = &sh->l;
	uint32_t leave = atomic_load(&sh->own.leave);

	ck_assert_uint_eq(atomic_load(&sh->own.sw_seq), l->tx.seq);
	if (l->tx.state <= XSHIM_TX_RING)
		ck_assert_uint_eq(l->tx.state == XSHIM_TX_RING, l->tx.seq & 1);
	else
		ck_assert_uint_eq(l->tx.seq & 1, 0);
	if (l->tx.seq)
		ck_assert_uint_eq(atomic_load(&sh->own.sw_at[l->tx.seq & 1]), l->tx.seq & 1 ? l->tx.start : l->tx.pos);
	if (l->tx.state == XSHIM_TX_RING)
		ck_assert_uint_eq(atomic_load(&sh->own.head), l->tx.pos);
	ck_assert_uint_eq(atomic_load(&sh->own.base), l->tx.base);
	ck_assert_uint_eq(atomic_load(&sh->own.ack), l->rx.seq);
	if (l->taken && l->tx.state == XSHIM_TX_RESEND)
		ck_assert(l->tx.pos == l->tx.tail && l->tx.end == atomic_load(&sh->own.head));
	if (l->rx.state <= XSHIM_RX_RING)
		ck_assert_uint_eq(l->rx.state == XSHIM_RX_RING, l->rx.seq & 1);
	if (l->rx.state == XSHIM_RX_RING) {
		ck_assert_uint_eq(atomic_load(&sh->own.tail), l->rx.pos);
		ck_assert_uint_ge(l->rx.head, l->rx.pos);
	}
	ck_assert_uint_eq(atomic_load(&sh->own.answering), l->taken);
	/* who has seen that it was taken may be killed before it says so; the peer has its word from before */
	if (leave == XSHIM_REGION_GIVES)
		ck_assert(l->rx.state == XSHIM_RX_GIVEN || l->left);
	else
		ck_assert_uint_eq(leave, l->left ? XSHIM_REGION_LEFT : 0);
	ck_assert(!l->left || xshim_link_is_out(l) || leave == XSHIM_REGION_GIVES);
}

/* Both go on: nothing that an honest end would refuse. */
static void both_go_on(void)
{
	if (atomic_load(&sh->own.leave) == XSHIM_REGION_LEFT)
		ck_assert_int_eq(xshim_link_is_left(&sh->p, &sh->own), 0);
	if (atomic_load(&sh->own.leave) == XSHIM_REGION_GIVES)
		ck_assert_int_eq(xshim_link_is_given(&sh->p, &sh->its, &sh->own), 0);
	if (atomic_load(&sh->its.leave) == XSHIM_REGION_GIVES) {
		ck_assert_int_eq(xshim_link_is_given(&sh->l, &sh->own, &sh->its), 0);
		ck_assert(sh->l.taken && xshim_link_is_taken(&sh->p, &sh->its, &sh->own));
	}
	if (sh->l.rx.state == XSHIM_RX_GIVEN) {
		ck_assert(xshim_link_is_taken(&sh->l, &sh->own, &sh->its));
		ck_assert(xshim_link_is_out(&sh->l) && sh->p.taken);
	}
	for (int i = 0; i < 4; i++) {
		it_crosses();
		if (sh->p.rx.state == XSHIM_RX_RING && sh->p.rx.head > sh->p.rx.pos)
			(void)xshim_rx_took_ring(&sh->p, &sh->its, &sh->own, sh->p.rx.head - sh->p.rx.pos);
		if (sh->l.rx.state <= XSHIM_RX_RING)
			i_cross();
	}
	if (sh->p.tx.state == XSHIM_TX_RING)
		ck_assert_int_ge(xshim_tx_space(&sh->p, &sh->own), 0);
	if (sh->l.tx.state == XSHIM_TX_RING)
		ck_assert_int_ge(xshim_tx_space(&sh->l, &sh->its), 0);
	ck_assert(sh->l.tx.state > XSHIM_TX_RING || sh->p.rx.state > XSHIM_RX_RING || atomic_load(&sh->its.ack) == sh->l.tx.seq);
}

/* False: it came to its end before that many steps. */
static bool killed_after(int steps, void (*op)(void))
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
			raise(SIGSTOP);
		sh->inside = 1;
		op();
		sh->inside = 2;
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	while (sh->inside < 2 && (!sh->inside || steps-- > 0)) {
		/* ck_assert() writes a line each time */
		if (!WIFSTOPPED(status) || ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid)
			ck_abort_msg("the child cannot be stepped through: status 0x%x", status);
	}
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return sh->inside < 2;
}

START_TEST(who_takes_over_finishes_what_a_killed_one_began)
{
	void (*const *what)(void) = cases[_i];
	bool more = true;
	int n = 0;

	while (what[n + 1])
		n++;
	for (int steps = 0; more; steps += STRIDE) {
		ck_assert_int_lt(steps, STEPS_MAX);
		begin();
		for (int i = 0; i < n; i++)
			what[i]();
		more = killed_after(steps, what[n]);
		xshim_rx_mend(&sh->l, &sh->own);
		xshim_tx_mend(&sh->l, &sh->own);
		(void)xshim_link_mend(&sh->l, &sh->own);
		words_are_those_of_the_state();
		both_go_on();
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("link_mend");
	TCase *tc = tcase_create("killed");

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		abort();
	tcase_add_loop_test(tc, who_takes_over_finishes_what_a_killed_one_began, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_set_timeout(tc, 120);
	suite_add_tcase(s, tc);
	return s;
}

UNIT_MAIN(suite)
