/* SPDX-License-Identifier: MIT */
/* stage.c - the lines of a case, one after the other (player.h). */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stage.h"

static char state_of(pid_t pid)
{
	char path[64], line[256], *at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f)
		return '?';
	at = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return at ? at[2] : '?';
}

/* All of its threads, so that its descriptors are closed: one that the sanitizer has made may outlive the first. */
static bool has_ended(pid_t pid)
{
	char path[64];
	int threads = -2;	/* "." and ".." */
	DIR *d;

	switch (state_of(pid)) {
	case '?':
		return true;
	case 'Z':
		snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
		d = opendir(path);
		if (!d)
			return true;
		while (readdir(d))
			threads++;
		closedir(d);
		return threads <= 1;
	default:
		return false;
	}
}

/* Sleeping, twice in a row, without an answer. */
static bool is_blocked(struct proc *p)
{
	int64_t deadline = now_ms() + ANSWER_MS;
	int asleep = 0;

	while (asleep < 3 && now_ms() < deadline) {
		if (proc_answered(p, 2))
			return false;
		asleep = state_of(p->pid) == 'S' ? asleep + 1 : 0;
	}
	return asleep >= 3;
}

static void say(struct stage *st, const char *line, const char *what)
{
	fprintf(st->log, "  %s -> %s\n", line, what);
}

/* "signal a", "stop a", "cont a", "kill a", "open t" */
static bool direct(struct stage *st, const char *line, char **words, int n)
{
	char text[TEXT] = "";
	struct proc *p;

	if (!strcmp(words[0], "open") && n == 2) {
		if (!stage_open(st, words[1], text))
			say(st, line, text);
		return true;
	}
	if (!strcmp(words[0], "signal") && n == 2 && (p = proc_named(st, words[1]))) {
		/* it may have been woken by the operation before */
		if (p->pending)
			(void)is_blocked(p);
		kill(p->pid, SIGUSR1);
		return true;
	}
	if ((!strcmp(words[0], "stop") || !strcmp(words[0], "cont")) && n == 2 && (p = proc_named(st, words[1]))) {
		kill(p->pid, words[0][0] == 's' ? SIGSTOP : SIGCONT);
		while (words[0][0] == 's' && !strchr("TZ?", state_of(p->pid)))
			poll(NULL, 0, 1);
		return true;
	}
	if (!strcmp(words[0], "kill") && n == 2 && (p = proc_named(st, words[1]))) {
		kill(p->pid, SIGKILL);
		if (strlen(p->name) == 1) {
			waitpid(p->pid, NULL, 0);
			st->broken = true;	/* afterwards; until then the other end goes on */
		} else {
			while (!has_ended(p->pid))
				poll(NULL, 0, 1);
		}
		proc_gone(p);
		return true;
	}
	return false;
}

static bool sends(const char *op)
{
	return !strncmp(op, "send", 4) || !strncmp(op, "write", 5) || !strcmp(op, "splice") || !strcmp(op, "pwritev2") ||
	       !strcmp(op, "fill") || !strcmp(op, "flood");
}

static bool is_quiet(const char *op)
{
	static const char *const quiet[] = { "poll", "ppoll", "select", "pselect", "epoll", "add", "mod", "del",
					     "ewait", "names", "flags", "get", "state", "inq", "event", "handler",
					     "timeout", "lowest", "file", "pipe", "feed", "kind", "timer",
					     "signals", "mask", "thread", "counts", "infolength" };

	for (size_t i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++)
		if (!strcmp(quiet[i], op))
			return true;
	return false;
}

static void note_use(struct stage *st, char **words, int n)
{
	bool by_option = st->corked && !st->by_flag;

	if (n > 2 && (!strncmp(words[1], "socket", 6) || !strcmp(words[1], "accept")) && words[2][0] >= 'a' && words[2][0] < 'z')
		st->used[words[2][0] - 'a'] = true;
	if (n > 3 && !strcmp(words[1], "set") && !strcmp(words[2], "TCP_CORK")) {
		st->corked = strcmp(words[3], "0") != 0;
		st->by_flag = false;
	} else if (n > 3 && strstr(words[3], "MORE")) {
		st->corked = true;
		st->by_flag = !by_option;
	} else if (st->by_flag && sends(words[1])) {
		st->corked = st->by_flag = false;	/* it goes with what follows it */
	}
	if (n > 3 && !strcmp(words[1], "set") && !strcmp(words[2], "TCP_NODELAY") && !strcmp(words[3], "0"))
		st->corked = true;
}

/* The ends of one side look at their connections. */
static void be_seen(struct stage *st, int side)
{
	char text[TEXT], line[LINE] = "poll";

	for (int k = 0; k < CONNS; k++)
		if (st->used[k])
			snprintf(line + strlen(line), sizeof(line) - strlen(line), " %c=RDHUP", 'a' + k);
	for (int i = 0; i < PROCS && !st->broken; i++)
		if (st->procs[i].name[0] && st->procs[i].side == side && !st->procs[i].pending)
			(void)proc_ask(st, st->procs[i].name, text, "%s", line);
}

/* ms: after so long a signal ends the call, which is said. 0: it is waited for. */
static void wait_for_answer(struct stage *st, struct proc *p, const char *line, int ms)
{
	char text[TEXT] = "";

	if (!p->pending) {
		say(st, line, "(in no call)");
		return;
	}
	if (ms && !proc_answered(p, ms)) {
		say(st, line, "(interrupted)");
		(void)syscall(SYS_tgkill, p->process, p->pid, SIGUSR1);
	}
	if (proc_answer(st, p, text, ANSWER_MS))
		p->pending = false;
	say(st, line, text);
}

static void play_line(struct stage *st, const char *line)
{
	char copy[LINE], text[TEXT] = "", *words[WORDS], *rest;
	bool background = false;
	struct proc *p, *child;
	int n;

	if (line[0] == '+')
		line += 1 + strspn(line + 1, " ");
	snprintf(copy, sizeof(copy), "%s", line);
	n = split(copy, words, WORDS);
	if (!n || direct(st, line, words, n)) {
		stage_settle(st, -1);
		return;
	}
	if (words[0][strlen(words[0]) - 1] == '&') {
		background = true;
		words[0][strlen(words[0]) - 1] = 0;
	}
	p = proc_named(st, words[0]);
	if (!p || n < 2) {
		say(st, line, "(no such end)");
		return;
	}
	note_use(st, words, n);
	rest = strpbrk(line, " \t");
	rest += strspn(rest, " \t");
	if (!strcmp(words[1], "blocked")) {
		say(st, line, p->pending && !proc_answered(p, n > 2 ? atoi(words[2]) : 0) ? "yes" : "no");
		return;
	}
	if (!strcmp(words[1], "wait")) {
		wait_for_answer(st, p, line, n > 2 ? atoi(words[2]) : 0);
		stage_settle(st, p->side);
		return;
	}
	if (p->pending) {
		say(st, line, "(still in another call)");
		return;
	}
	if (!proc_tell(st, p, rest)) {
		say(st, line, "(gone)");
		return;
	}
	if (background) {
		say(st, line, is_blocked(p) ? "blocks" : "returns");
		p->pending = true;
		return;
	}
	if (!strcmp(words[1], "exit")) {
		while (!has_ended(p->pid))
			poll(NULL, 0, 1);
		proc_gone(p);
		say(st, line, "gone");
		stage_settle(st, -1);
		return;
	}
	(void)proc_answer(st, p, text, ANSWER_MS);
	say(st, line, text);
	if ((!strcmp(words[1], "fork") || !strcmp(words[1], "thread")) && !st->broken) {
		child = proc_accept(st, patience(5000));
		if (child && !strcmp(words[1], "thread")) {
			child->thread = true;
			return;
		}
		if (!child || !proc_answer(st, child, text, ANSWER_MS))
			say(st, line, "(the child does not come)");
	}
	if (!is_quiet(words[1]))
		stage_settle(st, sends(words[1]) ? p->side : -1);
	if (!strcmp(words[n - 1], "seen"))
		be_seen(st, !p->side);
}

static void reset(struct stage *st)
{
	char text[TEXT];

	for (int i = 0; i < PROCS; i++) {
		struct proc *p = &st->procs[i];

		if (!p->name[0])
			continue;
		if (p->thread) {		/* ends when its socket does */
			st->broken = st->broken || p->pending;
			proc_gone(p);
		} else if (strlen(p->name) > 1) {	/* a child; its end reaps it */
			kill(p->pid, SIGKILL);
			proc_gone(p);
		} else if (p->pending) {
			st->broken = true;
		}
	}
	if (!st->broken && (!proc_ask(st, "a", text, "clean") || !proc_ask(st, "b", text, "clean")))
		st->broken = true;
	if (st->broken)
		procs_begin(st);
	memset(st->shared, 0, sizeof(*st->shared));
	memset(st->used, 0, sizeof(st->used));
	st->corked = st->by_flag = st->pumps = st->leaving = st->hung = false;
}

bool stage_play(struct stage *st, const struct test_case *c, enum phase p, char **text)
{
	char why[TEXT] = "";
	bool ok;

	reset(st);
	st->log = open_memstream(&st->text, &st->size);
	if (!st->log)
		die("no memory");
	st->leaving = p == LEAVES && st->setup->preload;
	st->pumps = st->leaving || c->pumps;
	ok = stage_prelude(st, p, why);
	if (!ok)
		fprintf(st->log, "  the phase cannot be had: %s\n", why);
	for (int i = 0; ok && i < c->count && !st->hung; i++)
		play_line(st, c->lines[i]);
	fclose(st->log);
	*text = st->text;
	return ok;
}
