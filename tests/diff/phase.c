/* SPDX-License-Identifier: MIT */
/* phase.c - bring a connection into the state in which a case begins (stage.h, cases/README). */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "stage.h"

/* Rows of `xshim ss --json` of the connection whose active end is at `where`: on a ring; attached at some time. */
static void rows(struct stage *st, const char *where, int *ring, int *attached, int *all)
{
	char command[400], line[400], key[64], value[200];
	bool ours = false, on_ring = false, was = false;
	FILE *f;

	*ring = *attached = *all = 0;
	snprintf(command, sizeof(command), "exec %s ss --json", st->setup->tool);
	f = popen(command, "r");
	if (!f)
		die("popen: %s", errno_word(errno));
	while (fgets(line, sizeof(line), f)) {
		if (strchr(line, '}')) {
			*all += ours;
			*ring += ours && on_ring;
			*attached += ours && was;
			ours = on_ring = was = false;
		}
		if (sscanf(line, " \"%63[^\"]\": %199[^,\n]", key, value) != 2)
			continue;
		if (!strcmp(key, "local") || !strcmp(key, "remote")) {
			size_t len = strlen(where);

			ours = ours || (value[0] == '"' && !strncmp(value + 1, where, len) && value[len + 1] == '"');
		} else if (!strcmp(key, "transport")) {
			on_ring = !strcmp(value, "\"ring\"");
		} else if (!strcmp(key, "attaches")) {
			was = atoi(value) > 0;
		}
	}
	pclose(f);
}

static bool both(struct stage *st, char *text, const char *a, const char *b)
{
	struct proc *pa = proc_named(st, "a"), *pb = proc_named(st, "b");

	if (!pa || !pb || !proc_tell(st, pa, a) || !proc_tell(st, pb, b))
		return false;
	pb->busy = true;
	if (!proc_answer(st, pa, text, ANSWER_MS))
		return false;
	pb->busy = false;
	return proc_answer(st, pb, text, ANSWER_MS);
}


bool stage_open(struct stage *st, const char *name, char *text)
{
	if (name[0] < 'a' || name[0] > 'y')
		die("open: a connection is called by a small letter, not '%s'", name);
	st->used[name[0] - 'a'] = true;
	return proc_ask(st, "a", text, "socket %s", name) && proc_ask(st, "a", text, "connect %s", name) &&
	       proc_ask(st, "b", text, "accept %s", name) && proc_ask(st, "a", text, "set TCP_NODELAY 1 on %s", name) &&
	       proc_ask(st, "b", text, "set TCP_NODELAY 1 on %s", name);
}

/* Until the ends are where they should be. what: 'r' on the ring, 'a' attached, by one of the exchanges. */
static bool until_on(struct stage *st, const char *where, char what, const char *a, const char *b, char *text)
{
	int64_t deadline = now_ms() + patience(5000);
	int ring, attached, all;

	do {
		if (!both(st, text, a, b))
			return false;
		rows(st, where, &ring, &attached, &all);
		if ((what == 'r' ? ring : attached) >= 2)
			return true;
	} while (now_ms() < deadline);
	snprintf(text, TEXT, "%d ends of 2 are %s", what == 'r' ? ring : attached,
		 what == 'r' ? "on the ring" : "introduced");
	return false;
}

/* The program asks for what a ring cannot do, while the other end does something now and then. */
static bool leave(struct stage *st, const char *where, char *text)
{
	struct proc *a = proc_named(st, "a");
	int ring, attached, all;

	if (!proc_tell(st, a, "set SO_TIMESTAMP 0"))
		return false;
	do {
		if (!proc_ask(st, "b", text, "poll s=RDHUP for 1"))
			return false;
	} while (!proc_answered(a, 0));
	if (!proc_answer(st, a, text, ANSWER_MS))
		return false;
	if (!st->setup->preload)
		return true;
	for (int i = 0; i < 20; i++) {
		if (!both(st, text, "poll s=RDHUP", "poll s=RDHUP"))
			return false;
		rows(st, where, &ring, &attached, &all);
		if (!ring)
			return true;
	}
	snprintf(text, TEXT, "%d ends are still on the ring", ring);
	return false;
}

bool stage_prelude(struct stage *st, enum phase p, char *text)
{
	bool shimmed = st->setup->preload;
	char where[TEXT];

	if (p == FULL) {
		st->used['s' - 'a'] = true;
		/* small, so that it is soon full */
		if (!stage_open(st, "s", text) || !both(st, text, "set SO_SNDBUF 16384", "set SO_RCVBUF 16384"))
			return false;
	} else if (!stage_open(st, "s", text)) {
		return false;
	}
	if (p == YOUNG)
		return true;
	if (!proc_ask(st, "a", text, "where"))
		return false;
	snprintf(where, sizeof(where), "%s", text);
	if (p == UNREAD) {
		if (!both(st, text, "send 50", "send 50"))
			return false;
		stage_settle(st, -1);
		if (shimmed && !until_on(st, where, 'a', "recv 1 PEEK,DONTWAIT", "recv 1 PEEK,DONTWAIT", text))
			return false;
		if (!both(st, text, "send 30", "send 30"))
			return false;
		stage_settle(st, -1);
		return true;
	}
	if (!both(st, text, "ping 4", "pong 4"))
		return false;
	if (shimmed && !until_on(st, where, p == LEAVES || p == SPILLS ? 'a' : 'r', "ping 1", "pong 1", text))
		return false;
	if (p == FULL) {
		if (!proc_ask(st, "a", text, "fill"))
			return false;
	} else if (p != IDLE) {
		if (!both(st, text, "send 40", "send 70") || !both(st, text, "send 60", "send 30"))
			return false;
	}
	stage_settle(st, -1);
	/* under load the other end may come too late */
	return p != LEFT || leave(st, where, text) || (!st->broken && leave(st, where, text));
}
