/* SPDX-License-Identifier: MIT */
/* cases.c - read case files (cases/README has the language). */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "player.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define WATCHED true
#else
#define WATCHED false
#endif

const char *const phase_names[PHASES] = { "young", "unread", "idle", "busy", "full", "left", "leaves", "spills" };

int split(char *line, char **words, int max)
{
	char *word, *save = NULL;
	int n = 0;

	for (word = strtok_r(line, " \t\n", &save); word && n < max; word = strtok_r(NULL, " \t\n", &save))
		words[n++] = word;
	return n;
}

void case_add_line(struct test_case *c, const char *line)
{
	c->lines = realloc(c->lines, (size_t)(c->count + 1) * sizeof(*c->lines));
	if (!c->lines || !(c->lines[c->count] = strdup(line)))
		die("no memory");
	c->count++;
}

void case_free(struct test_case *c)
{
	for (int i = 0; i < c->count; i++)
		free(c->lines[i]);
	free(c->lines);
	free(c);
}

/* What `line` says that who was told in `wait`, up to the end of the line; NULL: it is another line. */
static const char *waited(const char *line, const char *who)
{
	size_t n = strlen(who);

	line += strspn(line, " ");
	return strncmp(line, who, n) || strncmp(line + n, " wait -> ", 9) ? NULL : line + n + 9;
}

/* The nth line, from 0, in which who was told something: what; NULL: there are not so many. */
static const char *nth_waited(const char *printed, const char *who, int n)
{
	const char *what;

	for (; *printed; printed += strcspn(printed, "\n"), printed += *printed == '\n') {
		what = waited(printed, who);
		if (what && !n--)
			return what;
	}
	return NULL;
}

char *case_other_way(const struct test_case *c, const char *printed)
{
	char *new = malloc(strlen(printed) + 1), *to = new;
	const char *what = NULL, *instead = NULL, *line, *end;
	int told[2] = { 0, 0 }, who;

	if (!new)
		die("no memory");
	/* each line is as long as what takes its place elsewhere, so all of them together are, too, or none is swapped */
	for (line = printed; *line; line = end + (*end == '\n')) {
		end = line + strcspn(line, "\n");
		for (who = 0; who < 2 && !(what = waited(line, c->who[who])); who++)
			;
		instead = who < 2 ? nth_waited(printed, c->who[!who], told[who]++) : NULL;
		if (instead) {
			to = mempcpy(to, line, (size_t)(what - line));
			to = mempcpy(to, instead, strcspn(instead, "\n"));
		} else {
			to = mempcpy(to, line, (size_t)(end - line));
		}
		if (*end)
			*to++ = '\n';
	}
	*to = 0;
	return new;
}

/* "either X Y": X and Y are told something, as often as each other. */
static void check_either(const struct test_case *c, const char *path)
{
	char wait[2][32];
	int told[2] = { 0, 0 };

	if (!c || !c->either)
		return;
	for (int who = 0; who < 2; who++) {
		snprintf(wait[who], sizeof(wait[who]), "%s wait", c->who[who]);
		for (int i = 0; i < c->count; i++)
			told[who] += !strcmp(c->lines[i], wait[who]);
	}
	if (!told[0] || told[0] != told[1])
		die("%s: %s: either %s %s: %d and %d times in `wait`, which cannot change places", path, c->name, c->who[0], c->who[1],
		    told[0], told[1]);
}

/* "skip full,young: why" */
static unsigned int phases_from(char *list, const char *where, char **why)
{
	char *word, *save = NULL, *colon = strchr(list, ':');
	unsigned int set = 0;
	int i;

	if (!colon || strlen(colon) < 4)
		die("%s: no reason is given", where);
	*colon = 0;
	*why = colon + 2;
	for (word = strtok_r(list, ", ", &save); word; word = strtok_r(NULL, ", ", &save)) {
		for (i = 0; i < PHASES && strcmp(word, phase_names[i]); i++)
			;
		if (i < PHASES)
			set |= 1u << i;
		else if (!strcmp(word, "all"))
			set |= (1u << PHASES) - 1;
		else
			die("%s: '%s' is no phase", where, word);
	}
	return set;
}

struct test_case *cases_read(const char *path)
{
	struct test_case *first = NULL, **end = &first, *c = NULL;
	FILE *f = fopen(path, "r");
	char line[LINE], where[300], *at, *why;
	int number = 0;

	if (!f)
		die("%s cannot be read", path);
	while (fgets(line, sizeof(line), f)) {
		snprintf(where, sizeof(where), "%s:%d", path, ++number);
		line[strcspn(line, "#\n")] = 0;
		for (at = line + strlen(line); at > line && isspace((unsigned char)at[-1]);)
			*--at = 0;
		for (at = line; isspace((unsigned char)*at); at++)
			;
		if (!*at)
			continue;
		if (!strncmp(at, "case ", 5)) {
			check_either(c, path);
			c = calloc(1, sizeof(*c));
			if (!c)
				die("no memory");
			snprintf(c->name, sizeof(c->name), "%s", at + 5);
			c->skip = 1u << FULL;
			*end = c;
			end = &c->next;
		} else if (!c) {
			die("%s: '%s' before the first case", where, at);
		} else if (!strncmp(at, "skip ", 5)) {
			c->skip |= phases_from(at + 5, where, &why);
		} else if (!strcmp(at, "also full")) {
			c->skip &= ~(1u << FULL);
		} else if (!strcmp(at, "only full")) {
			c->skip = ~(1u << FULL);
		} else if (!strcmp(at, "peer calls")) {
			c->pumps = true;
		} else if (!strncmp(at, "known ", 6)) {
			c->known |= phases_from(at + 6, where, &why);
			snprintf(c->why_known, sizeof(c->why_known), "%s", why);
		} else if (!strncmp(at, "sometimes ", 10)) {
			c->sometimes |= phases_from(at + 10, where, &why);
			snprintf(c->why_known, sizeof(c->why_known), "%s", why);
		} else if (!strncmp(at, "either ", 7)) {
			int skip = 0;

			if (sscanf(at + 7, "%15s %15s %n", c->who[0], c->who[1], &skip) < 2 || !skip)
				die("%s: which two?", where);
			c->either |= phases_from(at + 7 + skip, where, &why);
			snprintf(c->why_known, sizeof(c->why_known), "%s", why);
		} else if (!strncmp(at, "unwatched: ", 11)) {
			if (WATCHED)
				c->skip = ~0u;
		} else {
			case_add_line(c, at);
		}
	}
	check_either(c, path);
	fclose(f);
	return first;
}
