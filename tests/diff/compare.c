/* SPDX-License-Identifier: MIT */
/*
 * compare.c - play cases over plain TCP and under the preload, from each phase, and compare.
 *
 *   player compare --run-a WORDS --run-b WORDS --address-a A --address-b B --preload LIBRARY --tool XSHIM
 *                  --directory DIR --port N [--part I/N] [--only CASE] [--phases LIST] [--verbose] FILE...
 *                  [--random SEED --count N | --random SEED --until-told [--seconds N]]
 *
 * --until-told: until SIGINT or SIGTERM, or until a sequence differs.
 *
 * Exit status: 0, or 1 when something differs that is not known, or a known difference has gone.
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "player.h"

static struct {
	struct stage_setup setups[4];
	struct stage *stages[4];
	const char *only;
	unsigned int phases;
	int part, parts;
	bool verbose;
	int cases, runs, differ, known, unrepeatable, once;
	int64_t ms, until_ms;		/* 0: no limit of the time */
	bool until_told;
} all = { .phases = (1u << PHASES) - 1, .parts = 1 };

enum { PLAIN, RING, LEAVING, SPILLING };

static int stage_of(enum phase p)
{
	return p == LEAVES ? LEAVING : p == SPILLS ? SPILLING : RING;
}

static struct stage *stage(int which)
{
	static const char *const names[] = { "plain", "ring", "leaves", "spills" };

	if (!all.stages[which])
		all.stages[which] = stage_new(&all.setups[which], names[which]);
	return all.stages[which];
}

/* Line by line; those that differ are marked. */
static void print_difference(const char *plain, const char *ring)
{
	while (*plain || *ring) {
		size_t a = strcspn(plain, "\n"), b = strcspn(ring, "\n");

		if (a == b && !strncmp(plain, ring, a)) {
			printf("  %.*s\n", (int)a, plain);
		} else {
			if (a)
				printf("- %.*s\n", (int)a, plain);
			if (b)
				printf("+ %.*s\n", (int)b, ring);
		}
		plain += a + (plain[a] == '\n');
		ring += b + (ring[b] == '\n');
	}
}

/* Does it differ? *plain and *ring are what was printed. cached: an earlier plain text of the same prelude. */
static bool differs(const struct test_case *c, enum phase p, const char *cached, char **plain, char **ring)
{
	enum phase like = p == LEAVES || p == SPILLS ? BUSY : p;	/* the same to plain TCP */

	*plain = NULL;
	if (cached)
		*plain = strdup(cached);
	else if (!stage_play(stage(PLAIN), c, like, plain))
		die("%s over plain TCP: %s", c->name, *plain);
	if (!stage_play(stage(stage_of(p)), c, p, ring)) {
		/* under load an end may have come too late for the phase; a second time it has not */
		free(*ring);
		(void)stage_play(stage(stage_of(p)), c, p, ring);
	}
	all.runs += cached ? 1 : 2;
	return strcmp(*plain, *ring) != 0;
}

/* It is the other one of two that was told, and that may be. */
static bool is_other_way(const struct test_case *c, enum phase p, const char *plain, const char *ring)
{
	char *swapped;
	bool is;

	if (!(c->either & (1u << p)))
		return false;
	swapped = case_other_way(c, ring);
	is = !strcmp(swapped, plain);
	free(swapped);
	return is;
}

/* One phase of a case. Returns the plain text. */
static char *play(const struct test_case *c, enum phase p, const char *cached)
{
	bool known = c->known & (1u << p), sometimes = c->sometimes & (1u << p);
	char *plain, *ring, *again = NULL;

	if (differs(c, p, cached, &plain, &ring)) {
		enum phase like = p == LEAVES || p == SPILLS ? BUSY : p;

		if (known || sometimes || is_other_way(c, p, plain, ring)) {
			all.known++;
			if (all.verbose)
				printf("known: %s, %s: %s\n", c->name, phase_names[p], c->why_known);
		} else {
			(void)stage_play(stage(PLAIN), c, like, &again);
			if (!strcmp(ring, again)) {
				/* time decides over plain TCP, and the kernel says this, too */
				printf("once so, once so over plain TCP: %s, %s:\n", c->name, phase_names[p]);
				print_difference(plain, again);
				all.unrepeatable++;
				free(again);
				goto out;
			}
			printf("not ok %s, %s: over plain TCP (-) and under the preload (+):\n", c->name, phase_names[p]);
			print_difference(plain, ring);
			if (strcmp(plain, again)) {
				printf("  (over plain TCP once more it was different, too)\n");
				print_difference(plain, again);
				all.unrepeatable++;
			}
			all.differ++;
			free(again);
		}
	} else if (known) {
		printf("not ok %s, %s: listed as a known difference, but there is none now\n", c->name, phase_names[p]);
		all.differ++;
	} else if (all.verbose) {
		printf("ok %s, %s\n%s", c->name, phase_names[p], plain);
	}
out:
	fflush(stdout);
	free(ring);
	return plain;
}

static void play_all_phases(const struct test_case *c)
{
	char *busy = NULL, *plain;

	all.cases++;
	for (int p = 0; p < PHASES; p++) {
		if ((c->skip & (1u << p)) || !(all.phases & (1u << p)))
			continue;
		plain = play(c, (enum phase)p, p == LEAVES || p == SPILLS ? busy : NULL);
		if (p == BUSY)
			busy = plain;
		else
			free(plain);
	}
	free(busy);
}

static void play_files(int n, char **files)
{
	struct test_case *c, *next;
	int i = 0;

	for (int k = 0; k < n; k++) {
		for (c = cases_read(files[k]); c; c = next) {
			next = c->next;
			if ((!all.only || !strcmp(all.only, c->name)) && i++ % all.parts == all.part)
				play_all_phases(c);
			case_free(c);
		}
	}
}

/* ---- random sequences ---- */

/* The same again; what differed the first time, if a later one does not, is kept in `first`. */
static bool differs_with(const struct test_case *c, enum phase p, char *first[2])
{
	bool d = differs(c, p, NULL, &first[0], &first[1]);

	if (d)
		return true;
	free(first[0]);
	free(first[1]);
	first[0] = first[1] = NULL;
	return false;
}

static bool still_differs(const struct test_case *c, enum phase p)
{
	char *plain, *ring;
	bool d = differs(c, p, NULL, &plain, &ring);

	free(plain);
	free(ring);
	return d;
}

/* Where the unit of lines behind the one that begins at `at` begins: lines with a + belong to the one before. */
static int unit_after(const struct test_case *c, int at)
{
	do
		at++;
	while (at < c->count && c->lines[at][0] == '+');
	return at;
}

/* Take units of lines out, ever shorter stretches, as long as a difference remains. */
static void shrink(struct test_case *c, enum phase p)
{
	int units = 0;

	for (int at = 0; at < c->count; at = unit_after(c, at))
		units++;
	for (int len = units / 2; len >= 1; len /= 2) {
		for (int at = 0; at < c->count;) {
			struct test_case less = *c;
			int end = at;

			for (int i = 0; i < len && end < c->count; i++)
				end = unit_after(c, end);
			less.lines = calloc((size_t)c->count, sizeof(char *));
			less.count = 0;
			for (int i = 0; i < c->count; i++)
				if (i < at || i >= end)
					less.lines[less.count++] = c->lines[i];
			if (less.count && still_differs(&less, p)) {
				memcpy(c->lines, less.lines, (size_t)less.count * sizeof(char *));
				c->count = less.count;
			} else {
				at = unit_after(c, at);
			}
			free(less.lines);
		}
	}
}

/*
 * To be asked between two sequences; the signals are blocked, and interrupt nothing. The ends are not to have that from us
 * (procs.c).
 */
static bool is_told(void)
{
	const struct timespec now = { 0 };
	sigset_t set;

	if (!all.until_told)
		return false;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	return sigtimedwait(&set, NULL, &now) > 0 || all.differ || (all.until_ms && now_ms() >= all.until_ms);
}

static void play_random(uint64_t seed, long long count)
{
	/* not LEAVES: what a call can do while a return to TCP waits for the other end is known to differ */
	static const enum phase phases[] = { YOUNG, UNREAD, IDLE, BUSY, LEFT, SPILLS };
	const uint64_t kinds = sizeof(phases) / sizeof(phases[0]);
	struct test_case *c;
	char *first[2];
	enum phase p;

	for (uint64_t s = seed; s < seed + (uint64_t)count && !is_told(); s++) {
		/* each part has all the phases, some of which take longer */
		if (s / kinds % (uint64_t)all.parts != (uint64_t)all.part)
			continue;
		p = phases[s % kinds];
		if (!(all.phases & (1u << p)))
			continue;
		c = case_random(s, p);
		all.cases++;
		if (differs_with(c, p, first)) {
			int before = all.differ;

			printf("seed %llu differs (%d operations); the shortest that still does:\n",
			       (unsigned long long)s, c->count);
			fflush(stdout);
			if (still_differs(c, p))
				shrink(c, p);
			free(play(c, p, NULL));
			if (all.differ == before) {
				printf("not seen again, from %s:\n", phase_names[p]);
				print_difference(first[0], first[1]);
				all.once++;
			}
			printf("again: tests/diff/random.sh %llu 1\n", (unsigned long long)s);
			free(first[0]);
			free(first[1]);
		}
		case_free(c);
	}
}

/* ---- options ---- */

static unsigned int phases_of(char *list)
{
	char *word, *save = NULL;
	unsigned int set = 0;
	int i;

	for (word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		for (i = 0; i < PHASES && strcmp(word, phase_names[i]); i++)
			;
		if (i == PHASES)
			die("'%s' is no phase", word);
		set |= 1u << i;
	}
	return set;
}

static void until_told(long long *count)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	all.until_told = true;
	*count = INT64_MAX;
}

int compare_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "run-a", 1, NULL, 'a' }, { "run-b", 1, NULL, 'b' }, { "address-a", 1, NULL, 'A' },
		{ "address-b", 1, NULL, 'B' }, { "preload", 1, NULL, 'l' }, { "tool", 1, NULL, 't' },
		{ "directory", 1, NULL, 'd' }, { "port", 1, NULL, 'p' }, { "part", 1, NULL, 'i' },
		{ "only", 1, NULL, 'o' }, { "phases", 1, NULL, 'f' }, { "verbose", 0, NULL, 'v' },
		{ "random", 1, NULL, 'r' }, { "count", 1, NULL, 'n' },
		{ "until-told", 0, NULL, 'u' }, { "seconds", 1, NULL, 's' }, { NULL, 0, NULL, 0 },
	};
	static const char *const common[] = { "XSHIM_TRIGGER_OPS=1", "XSHIM_TRIGGER_BYTES=1", "XSHIM_RING_SIZE=65536",
					      "XSHIM_STALL_MS=10000", "XSHIM_DOZE_AFTER=0" };
	struct stage_setup s = { .port = 7800 };
	long long seed = -1, count = 1;
	int o;

	all.ms = now_ms();
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 'a': s.run[0] = optarg; break;
		case 'b': s.run[1] = optarg; break;
		case 'A': s.address[0] = optarg; break;
		case 'B': s.address[1] = optarg; break;
		case 'l': s.preload = optarg; break;
		case 't': s.tool = optarg; break;
		case 'd': s.directory = optarg; break;
		case 'p': s.port = atoi(optarg); break;
		case 'o': all.only = optarg; break;
		case 'f': all.phases = phases_of(optarg); break;
		case 'v': all.verbose = true; break;
		case 'r': seed = atoll(optarg); break;
		case 'n': count = atoll(optarg); break;
		case 'u': until_told(&count); break;
		case 's': all.until_ms = atoll(optarg) ? now_ms() + atoll(optarg) * 1000 : 0; break;
		case 'i':
			if (sscanf(optarg, "%d/%d", &all.part, &all.parts) != 2 || all.parts < 1)
				die("--part %s: not I/N", optarg);
			break;
		default: return 2;
		}
	}
	if (!s.run[0] || !s.run[1] || !s.address[0] || !s.address[1] || !s.preload || !s.tool || !s.directory)
		die("compare: a setting is missing");
	for (int i = 0; i < 4; i++) {
		all.setups[i] = s;
		all.setups[i].port = s.port + i;
		memcpy(all.setups[i].environment, common, sizeof(common));
	}
	all.setups[PLAIN].preload = NULL;
	all.setups[LEAVING].environment[5] = "XSHIM_FORCE_LEAVE=30";
	all.setups[SPILLING].environment[5] = "XSHIM_FORCE_SPILL=20";
	if (seed >= 0)
		play_random((uint64_t)seed, count);
	else
		play_files(argc - optind, argv + optind);
	for (int i = 0; i < 4; i++)
		stage_free(all.stages[i]);
	printf("%d cases, %d runs, %d differences, %d known ones, %d not repeatable, %d seen once only, %.1f s\n",
	       all.cases, all.runs, all.differ, all.known, all.unrepeatable, all.once, (double)(now_ms() - all.ms) / 1000);
	return all.differ ? 1 : 0;
}
