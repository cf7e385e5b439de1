/* SPDX-License-Identifier: MIT */
/*
 * settle.c - wait until the kernels have delivered what is under way (stage.h).
 *
 * They are asked (TCP_INFO, past the preload, op_info()) until what one end has sent the other has received, and FIN and RST have
 * arrived. So a result does not depend on how fast a packet was.
 */
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "stage.h"

#define SETTLE_MS 250
#define STABLE_MS 30
#define HOLD_MS 150	/* what an end has closed xshimd may hold for a moment, which is long on a busy machine */
#define ACK_MS 100	/* an acknowledgement may be a delayed one, of 40 ms */
#define FIELDS 5	/* of what op_info() says of a connection */

/* What both sides' kernels say of connection k; of several processes of one side the first that has it. */
static void look(struct stage *st, struct kernel now[CONNS][2], bool unknown[2])
{
	char line[LINE] = "info", text[TEXT], *words[FIELDS * CONNS];
	int n, k, at;

	memset(now, 0, 2 * CONNS * sizeof(now[0][0]));
	unknown[0] = unknown[1] = false;
	for (k = 0; k < CONNS; k++)
		if (st->used[k])
			snprintf(line + strlen(line), sizeof(line) - strlen(line), " %c", 'a' + k);
	for (int i = 0; i < PROCS && !st->broken; i++) {
		struct proc *p = &st->procs[i];

		if (!p->name[0])
			continue;
		if (p->pending) {
			unknown[p->side] = true;
			continue;
		}
		if (!proc_tell(st, p, line) || !proc_answer(st, p, text, ANSWER_MS))
			return;
		n = split(text, words, FIELDS * CONNS);
		for (k = 0, at = 0; k < CONNS; k++) {
			struct kernel *kn = &now[k][p->side];

			if (!st->used[k])
				continue;
			if (at + FIELDS > n)
				break;
			if (words[at][0] != '-' && !kn->there) {
				kn->there = true;
				kn->sent = strtoull(words[at], NULL, 10);
				kn->received = strtoull(words[at + 1], NULL, 10);
				kn->unsent = (unsigned int)atoi(words[at + 2]);
				kn->state = (unsigned int)atoi(words[at + 3]);
				kn->unacked = (unsigned int)atoi(words[at + 4]);
			}
			at += FIELDS;
		}
	}
}

static bool in(unsigned int state, unsigned int a, unsigned int b, unsigned int c)
{
	return state == a || state == b || state == c;
}

/* Has `to` got what `from` has sent? quiet_ms: since when nothing has changed. */
static bool arrived(const struct kernel *from, const struct kernel *to, bool corked, int64_t quiet_ms, bool sender_unknown)
{
	bool stable = quiet_ms >= STABLE_MS || corked;

	if (!to->there)
		return true;
	if (!from->there)	/* closed: FIN or RST must be here */
		return sender_unknown || !in(to->state, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2) ||
		       quiet_ms >= HOLD_MS || corked;
	if (in(to->state, TCP_CLOSE, TCP_LISTEN, TCP_SYN_SENT))
		return true;
	if (to->received < from->sent || (from->unsent && !stable))
		return false;
	if (from->unsent && from->unacked && !corked && quiet_ms < ACK_MS)
		return false;	/* Nagle's algorithm has it until then */
	if (in(from->state, TCP_FIN_WAIT1, TCP_CLOSING, TCP_LAST_ACK) && quiet_ms < ACK_MS)
		return false;
	if (in(from->state, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_CLOSING) || from->state == TCP_LAST_ACK)
		return stable || !in(to->state, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2);
	if (from->state == TCP_CLOSE)
		return stable || in(to->state, TCP_LAST_ACK, TCP_TIME_WAIT, TCP_CLOSE);
	return true;
}

/* Until all has arrived; `sender` as in stage_settle(). */
static void deliver(struct stage *st, int sender)
{
	struct kernel now[CONNS][2], before[CONNS][2];
	int64_t begin = now_ms(), changed = begin, t;
	bool unknown[2], done;

	memset(before, 0, sizeof(before));
	do {
		look(st, now, unknown);
		t = now_ms();
		if (memcmp(now, before, sizeof(now))) {
			memcpy(before, now, sizeof(now));
			changed = t;
		}
		done = true;
		for (int k = 0; k < CONNS; k++) {
			struct kernel *a = &now[k][0], *b = &now[k][1];
			bool stable = t - changed >= STABLE_MS || st->corked;
			int64_t quiet = t - changed;

			if (!st->used[k])
				continue;
			if (!arrived(a, b, st->corked, quiet, unknown[0]) || !arrived(b, a, st->corked, quiet, unknown[1]))
				done = false;
			if (sender >= 0 && now[k][sender].there && !now[k][!sender].there && !unknown[!sender] &&
			    !stable && in(now[k][sender].state, TCP_ESTABLISHED, TCP_CLOSE_WAIT, TCP_ESTABLISHED))
				done = false;
		}
	} while (!done && t - begin < SETTLE_MS && !st->broken);
}

void stage_settle(struct stage *st, int sender)
{
	char text[TEXT];

	deliver(st, sender);
	/*
	 * A return to TCP takes both ends: let each of them make a call now and then, as programs do. What such a call
	 * sends, the rest of the stream, has to arrive, too.
	 */
	for (int round = 0; st->leaving && round < 3; round++) {
		for (int i = 0; i < PROCS && !st->broken; i++)
			if (st->procs[i].name[0] && !st->procs[i].pending)
				(void)proc_ask(st, st->procs[i].name, text, LOOK_ALL);
		deliver(st, -1);
	}
}
