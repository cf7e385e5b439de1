/* SPDX-License-Identifier: MIT */
/* cases.c - read case files (cases/README has the language). */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "player.h"

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

/* The next "WHO wait -> RESULT" from `at` on: its result, up to the end of the line; NULL: there is none. */
static const char *waited(const char *at, const char *who)
{
	size_t n = strlen(who);

	for (; *at; at += strcspn(at, "\n"), at += *at == '\n') {
		at += strspn(at, " ");
		if (!strncmp(at, who, n) && !strncmp(at + n, " wait -> ", 9))
			return at + n + 9;
	}
	return NULL;
}

char *case_other_way(const struct test_case *c, const char *printed)
{
	const char *one = printed, *other = printed;
	char *new = strdup(printed), *to;
	size_t a, b;

	if (!new)
		die("no memory");
	/* their lengths together stay the same, so what lies before and behind both does not move */
	while ((one = waited(one, c->who[0])) && (other = waited(other, c->who[1]))) {
		const char *first = one < other ? one : other, *second = one < other ? other : one;

		a = strcspn(first, "\n");
		b = strcspn(second, "\n");
		to = new + (first - printed);
		memcpy(to, second, b);
		memcpy(to + b, first + a, (size_t)(second - first) - a);
		memcpy(to + b + (second - first) - a, first, a);
	}
	return new;
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
		} else {
			case_add_line(c, at);
		}
	}
	fclose(f);
	return first;
}
