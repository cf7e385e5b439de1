/* SPDX-License-Identifier: MIT */
/* generate.h - a random sequence in the making: what generate.c (single calls) and scenes.c (several that belong together) share. */
#ifndef GENERATE_H
#define GENERATE_H
#include "player.h"

/* Who holds descriptors of its own: a, b, and a child of each. A thread has those of its end. */
enum holder { A, B, A_CHILD, B_CHILD, HOLDERS };

struct making {
	struct test_case *c;
	enum phase phase;
	bool threads;
	bool child[2];				/* of a, of b: there is one, a2, b2 */
	bool closed[HOLDERS][2];		/* connection s, t */
	bool shut[2];				/* in one direction at least */
	bool urgent[2];				/* urgent data was sent on it */
	bool piped[2];				/* a, b: has a pipe r, w and another one x, y */
};

unsigned int below(unsigned int n);
void add(struct making *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *one_of(const char *const *list, unsigned int n);
#define ONE_OF(list) one_of(list, sizeof(list) / sizeof(list[0]))
/* A length of up to 4000. */
const char *size(void);

/* Some end of side 0 or 1: it, its thread or its child. */
const char *some_end(const struct making *m, int side);
/* One that has connection on ("s", "t"), which is open and not shut so far; NULL: there is none. */
const char *holder_of(const struct making *m, int side, const char *on);
enum holder holder_by(const char *end);
/* Some call that moves data. */
void data(struct making *m, const char *end, const char *on);

/* ---- scenes.c ---- */

/* Calls that belong together, on s or t. `side` begins; each may come to nothing. */
void scene(struct making *m, int side, const char *on);
/* After the last call, before what is left is looked at. */
void scene_last(struct making *m);

#endif
