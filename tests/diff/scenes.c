/* SPDX-License-Identifier: MIT */
/*
 * scenes.c - calls that only together say something: one that blocks and what wakes it, what is held back and let go, urgent
 * data and its mark, processes that share a connection (generate.h).
 *
 * Where plain TCP leaves it open when bytes arrive (a cork, MSG_MORE) nobody looks before they must be there. Where it leaves
 * open how much a call moves (a full buffer, a time limit), all of it is taken away before anything else is asked. Lines that
 * begin with a + belong to the one before: they would say something else without it.
 *
 * What takes long, because TCP waits by the clock, is rare.
 *
 * Processes that share a connection have epoll sets of their own here, and take it out of the set before they close it: what the
 * kernel does otherwise is in cases/signals.txt.
 */
#include <string.h>

#include "generate.h"

/* By then a call that was to be woken has been; else it is interrupted, and the results tell. */
#define WOKEN_MS 1000
/* More than the buffers that SMALL asks for and the ring of the suite hold together. */
#define LARGE "200000"
#define SMALL "20000"
#define USUAL "400000"		/* the system's limit, then */

static int conn_by(const char *on)
{
	return on[0] == 't';
}

static const char *small(void)
{
	static const char *const sizes[] = { "1", "2", "7", "20", "64", "100" };

	return ONE_OF(sizes);
}

/* A few bytes in one call, which arrive together. */
static void send_some(struct making *m, const char *plus, const char *end, const char *on)
{
	static const char *const calls[] = { "send", "write", "sendto", "pwritev2" };

	if (below(4))
		add(m, "%s%s %s %s on %s", plus, end, ONE_OF(calls), small(), on);
	else
		add(m, "%s%s %s %s,%s on %s", plus, end, below(2) ? "writev" : "sendmsg", small(), small(), on);
}

/* w sleeps in a call, p lets it go on. */
static void wake(struct making *m, const char *w, const char *p, const char *on)
{
	unsigned int kind = below(10);

	if (below(4))
		add(m, "%s drain on %s", w, on);
	switch (kind) {
	case 0: case 1: add(m, "%s& recv 500 0 on %s", w, on); break;
	case 2: add(m, "%s& read 500 on %s", w, on); break;
	case 3: add(m, "%s& recvmsg 20,500 0 on %s", w, on); break;
	case 4: add(m, "%s& recv 30 WAITALL on %s", w, on); break;
	case 5: add(m, "%s& recv 300 PEEK on %s", w, on); break;
	case 6: add(m, "%s& poll %s=IN,RDHUP for 3000", w, on); break;
	case 7: add(m, "%s& select %s=r for 3000", w, on); break;
	case 8: add(m, "%s& readv 10,500 on %s", w, on); break;
	default:
		add(m, "%s add e %s=IN", w, on);
		add(m, "+ %s mod e %s=IN", w, on);
		add(m, "+ %s& ewait e for 3000", w);
		break;
	}
	if (kind == 4) {
		add(m, "+ %s send 10 on %s", p, on);
		add(m, "+ %s send 25 on %s", p, on);
	} else if (below(10)) {
		send_some(m, "+ ", p, on);
	} else {
		add(m, "+ %s shutdown WR on %s", p, on);
		m->shut[conn_by(on)] = true;
	}
	add(m, "+ %s wait %d", w, WOKEN_MS);
}

static void receive_limit(struct making *m, const char *w, const char *on)
{
	static const char *const calls[] = { "recv 10", "read 10", "recvmsg 5,10", "recv 10 WAITALL", "recv 10 PEEK", "readv 5,5" };

	add(m, "%s timeout receive 25 on %s", w, on);
	add(m, "%s drain on %s", w, on);
	add(m, "%s %s on %s limit 25", w, ONE_OF(calls), on);
	add(m, "%s timeout receive 0 on %s", w, on);
}

/* w sends more than there is room for: until p has taken it, or until its time is over. */
static void overflow(struct making *m, const char *w, const char *p, const char *on)
{
	bool limit = !m->urgent[conn_by(on)] && below(3) == 0;	/* with that no number of bytes is known (op_queue.c, drain) */

	add(m, "%s drain on %s", p, on);
	add(m, "+ %s set SO_SNDBUF " SMALL " on %s", w, on);
	add(m, "+ %s set SO_RCVBUF " SMALL " on %s", p, on);
	if (limit) {
		add(m, "+ %s timeout send 30 on %s", w, on);
		add(m, "+ %s send 300000 on %s", w, on);
	} else {
		add(m, "+ %s& %s " LARGE " on %s", w, below(2) ? "send" : "write", on);
		add(m, "+ %s take " LARGE " on %s", p, on);
		add(m, "+ %s wait %d", w, WOKEN_MS);
	}
	add(m, "+ %s drain on %s", p, on);
	if (limit)
		add(m, "+ %s timeout send 0 on %s", w, on);
	add(m, "+ %s set SO_SNDBUF " USUAL " on %s", w, on);
	add(m, "+ %s set SO_RCVBUF " USUAL " on %s", p, on);
}

/* What w sends is held back, and then let go by what it does next, or by time. */
static void hold_back(struct making *m, const char *w, const char *p, const char *on)
{
	bool by_time = !m->urgent[conn_by(on)] && below(16) == 0, cork = below(2);

	if (cork)
		add(m, "%s set TCP_CORK 1 on %s", w, on);
	for (unsigned int i = 1 + below(3); i; i--) {
		if (cork)
			send_some(m, "", w, on);
		else
			add(m, "%s %s %s MORE on %s", w, below(2) ? "send" : "sendmsg", small(), on);
	}
	if (by_time) {
		add(m, "%s drain on %s", p, on);
	} else if (below(8) == 0) {
		add(m, "%s shutdown WR on %s", w, on);
		m->shut[conn_by(on)] = true;
	} else if (!cork) {
		send_some(m, "", w, on);
	}
	if (cork)
		add(m, "%s set TCP_CORK 0 on %s", w, on);
	if (!by_time)
		add(m, "%s recv 500 DONTWAIT on %s", p, on);
}

/* Urgent data from w, which p reads in some order. */
static void urgent(struct making *m, const char *w, const char *p, const char *on)
{
	static const char *const looks[] = { "atmark", "sockatmark", "recv 3 DONTWAIT", "recv 100 DONTWAIT", "recv 1 OOB", "recv 1 OOB,PEEK",
					     "recv 100 DONTWAIT,PEEK", "inq", "recvmsg 5,50 DONTWAIT", "recv 1 OOB,DONTWAIT" };

	m->urgent[conn_by(on)] = true;
	if (below(3))
		add(m, "%s drain on %s", p, on);
	if (below(2))
		add(m, "%s set SO_OOBINLINE %u on %s", p, below(2), on);
	if (below(2))
		send_some(m, "", w, on);
	add(m, "%s send %s OOB on %s", w, below(3) ? "1" : "5", on);
	if (below(2))
		send_some(m, "", w, on);
	add(m, "%s until PRI on %s", p, on);
	for (unsigned int i = 2 + below(5); i; i--) {
		if (below(4))
			add(m, "%s %s on %s", p, ONE_OF(looks), on);
		else if (below(2))
			add(m, "%s poll %s=IN,PRI,OUT,RDHUP", p, on);
		else
			add(m, "%s select %s=r,e", p, on);
	}
}

/*
 * Less than the mark of low water is nothing to poll, and does not wake a receive. The kernel measures what it has not given out yet: a
 * receive that has taken some sleeps until the mark is reached by what comes after.
 */
static void low_water(struct making *m, const char *w, const char *p, const char *on)
{
	static const char *const flags[] = { "0", "0", "PEEK", "WAITALL", "PEEK,WAITALL" };
	const char *how = ONE_OF(flags), *amount = below(8) ? "1000" : "25";	/* which is not enough: ended after WOKEN_MS */

	if (*amount == '1' && !strstr(how, "ALL") && below(2))
		amount = "60";
	if (below(2))
		add(m, "%s drain on %s", w, on);
	add(m, "%s set SO_RCVLOWAT 50 on %s", w, on);
	if (below(4))
		add(m, "+ %s send 30 on %s", p, on);
	add(m, "+ %s poll %s=IN,OUT", w, on);
	if (below(4))
		add(m, "+ %s& recv %s %s on %s", w, below(2) ? "100" : "40", how, on);
	else
		add(m, "+ %s& poll %s=IN for 3000", w, on);
	add(m, "+ %s send %s on %s", p, amount, on);
	add(m, "+ %s wait %d", w, WOKEN_MS);
	if (below(8))
		add(m, "+ %s set SO_RCVLOWAT 1 on %s", w, on);
}

/* Of the end itself: a child made later has them, too. */
static void need_pipes(struct making *m, int side)
{
	if (m->piped[side])
		return;
	m->piped[side] = true;
	add(m, "%s pipe r w", side ? "b" : "a");
	add(m, "%s pipe x y", side ? "b" : "a");
}

/* Pipes are between an end and s. */
static void pipes(struct making *m, int side)
{
	const char *w = side ? "b" : "a", *p = holder_of(m, !side, "s"), *n = size();

	if (m->closed[side][0] || !p)
		return;
	need_pipes(m, side);
	switch (below(4)) {
	case 0:		/* out of the connection: what is there, or what comes */
		if (below(2))
			add(m, "%s drain on s", w);
		add(m, "%s& splice s w %s", w, below(2) ? "500" : "20");
		send_some(m, "+ ", p, "s");
		add(m, "+ %s wait %d", w, WOKEN_MS);
		add(m, "+ %s sip r", w);
		break;
	case 1:
		add(m, "%s feed w %s", w, n);
		add(m, "%s splice r s %s", w, below(2) ? n : "4000");
		break;
	case 2:
		add(m, "%s feed w %s", w, n);
		add(m, "%s tee r y 4000", w);
		add(m, "%s splice x s 4000", w);
		add(m, "%s splice r s 4000", w);
		break;
	default:	/* between the two, in both directions */
		add(m, "%s send 100 on s", p);
		add(m, "%s splice s w 60", w);
		add(m, "%s splice r s 60", w);
		add(m, "%s recv 500 DONTWAIT on s", p);
		break;
	}
}

static void from_a_file(struct making *m, const char *w, const char *on)
{
	add(m, "%s file f 9000", w);
	if (below(2))
		add(m, "%s sendfile %s f on %s", w, size(), on);
	add(m, "%s sendfile %s f at %u on %s", w, size(), below(2) ? 0 : below(9500), on);
	if (below(2))
		add(m, "%s sendfile %s f on %s", w, size(), on);
}

/* A child: both use what they share, or one closes it. */
static void processes(struct making *m, int side)
{
	const char *end = side ? "b" : "a", *child = side ? "b2" : "a2";

	if (!m->child[side]) {
		add(m, "%s fork %s", end, child);
		add(m, "+ %s epoll e", child);
		m->child[side] = true;
		memcpy(m->closed[A_CHILD + side], m->closed[side], sizeof(m->closed[side]));
		for (unsigned int i = below(4); i; i--)
			data(m, i & 1 ? child : end, below(4) ? "s" : "t");
	} else if (below(4)) {
		const char *who = below(2) ? end : child, *on = below(2) ? "s" : "t";

		if (m->closed[holder_by(who)][conn_by(on)])
			return;
		add(m, "%s del e %s", who, on);
		add(m, "+ %s close %s", who, on);
		m->closed[holder_by(who)][conn_by(on)] = true;
	} else {
		add(m, below(3) ? "%s exit" : "kill %s", child);
		m->child[side] = false;
		m->closed[A_CHILD + side][0] = m->closed[A_CHILD + side][1] = true;
	}
}

void scene(struct making *m, int side, const char *on)
{
	const char *w = holder_of(m, side, on), *p = holder_of(m, !side, on);
	unsigned int kind = below(21);

	if (kind < 4) {
		processes(m, side);
		return;
	}
	if (kind < 8) {
		pipes(m, side);
		return;
	}
	if (!w || !p)
		return;
	switch (kind) {
	case 8:
		if (below(8) == 0)
			overflow(m, w, p, on);
		else if (below(3) == 0)
			receive_limit(m, w, on);
		break;
	case 9: case 10: case 11: hold_back(m, w, p, on); break;
	case 12: case 13: urgent(m, w, p, on); break;
	case 14: case 15: low_water(m, w, p, on); break;
	case 16: from_a_file(m, w, on); break;
	default: wake(m, w, p, on); break;
	}
}

void scene_last(struct making *m)
{
	unsigned int how = below(6);

	for (int side = 0; side < 2; side++) {
		/* the last holder's close is the connection's */
		if (how == 0 && m->child[side] && !m->closed[side][0]) {
			add(m, "%s del e s", side ? "b" : "a");
			add(m, "+ %s close s", side ? "b" : "a");
			add(m, "%s poll s=IN,OUT,RDHUP", side ? "a" : "b");
		}
		if (how < 3 && m->child[side])
			add(m, "%s exit", side ? "b2" : "a2");
		if (how == 1 && side == 0 && !m->closed[side][0])
			add(m, "a close s");
	}
}
