/* SPDX-License-Identifier: MIT */
/*
 * player.h - parts of "player", which plays socket cases on two ends in lock-step and compares what they
 * print over plain TCP with what they print under the preload. It knows nothing of xshim but the output of
 * `xshim ss --json`.
 *
 *   conductor --- unix sockets ---> end a  (connects)   in one network namespace
 *                              ---> end b  (accepts)    in another
 *
 * The conductor sends one operation, waits for its result and then for the kernels of both ends to have
 * received what is under way (settle), and sends the next. The language is in cases/README.
 */
#ifndef PLAYER_H
#define PLAYER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define LINE 512		/* of an operation */
#define TEXT 4096		/* of a result */
#define CONNS 26		/* a connection is named by a small letter */
#define WORDS 40

/* How far each direction of each connection is; in memory that all the ends share. */
struct shared {
	struct {
		uint64_t sent[2], got[2];	/* by end: 0 is a, 1 is b */
		uint64_t urgent[2];		/* sends with MSG_OOB: the receiver may get a byte less for each, */
		uint64_t less[2];		/* by receiver: and has, so far */
	} conn[CONNS];
};

/* What the kernel says of a connection; `there` is false when the end has no descriptor of it. */
struct kernel {
	bool there;
	unsigned long long sent, received;
	unsigned int unsent, state, unacked;
};

_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int64_t now_ms(void);
/* A limit for what comes at once, or not at all: times XSHIM_TEST_SLOW. */
int patience(int ms);
/* Cuts a line into words, in place. */
int split(char *line, char **words, int max);

/* ---- words.c: numbers as words ---- */

enum table { MESSAGE_FLAGS, POLL_BITS, EPOLL_BITS, OPEN_FLAGS };

/* "A,B" as a number; "0" or "-" is 0. Dies on a word it does not know. */
unsigned int bits_from(enum table t, const char *list);
void bits_to(enum table t, unsigned int bits, char *out, size_t room);
const char *errno_word(int err);
const char *state_word(unsigned int tcp_state);
/* A socket option by its name, false if there is none of that name. */
bool option_named(const char *name, int *level, int *number);

/* ---- end.c: one end ---- */

struct end {
	int side;			/* 0: a, 1: b */
	int control;
	const char *address[2];		/* of a and b */
	int port;
	struct shared *shared;
	char *out;			/* the result, TEXT bytes */
};

/* Names of descriptors. */
struct name {
	char text[16];
	int fd, conn;			/* conn: -1 if it is no connection of the case */
};
extern __thread struct end me;	/* of the thread, which may be an end by itself */

struct name *name_find(const char *text);
int fd_of(const char *text);		/* -1 for a name that is not there: the kernel says EBADF */
int conn_of(const char *text);
void name_set(const char *text, int fd, int conn);
void name_drop_fd(int fd);
void name_forget(const char *text);
const char *name_of_fd(int fd);
struct name *name_at(int i);		/* NULL after the last */
void put(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Before a call and after it: result, errno, signals that came meanwhile. */
void before_call(void);
void put_result(ssize_t rc);
void put_time(int64_t since, int64_t wanted);	/* whether a call took as long as it should */
int end_main(int argc, char **argv);
/* A child of an end, under another name. */
void end_become(const char *name);
/* A thread of an end, under another name: takes operations until the conductor closes its socket. */
void end_thread(const char *name);

typedef void op_function(int argc, char **argv);
struct op {
	const char *name;
	op_function *run;
};
void pipe_forget(void);		/* what op_queue.c knows of pipes */
void counts_forget(void);
extern const struct op data_ops[], queue_ops[], sock_ops[], fd_ops[], ready_ops[], process_ops[], odd_ops[];

/* ---- buffers.c: payload with a pattern ---- */

struct payload {
	struct iovec *v;
	int n;
	size_t total;
	bool bad;			/* a part of it is not memory */
};

uint8_t pattern(int conn, int side, uint64_t at);
/* Of bytes that are not the pattern's, for the comparison: what the two runs have got must be the same all the same. Begins with 0. */
uint32_t sum_of(uint32_t sum, const void *bytes, size_t n);
/* "10", "10,20", "1*5" (five of 1), "8!" (8 at an address that is not mapped), "8?" (in the page of NULL), "8~4" (8 and then 4 that are not memory), "huge" */
void payload_make(struct payload *p, const char *list);
void payload_fill(struct payload *p, int conn, uint64_t at);	/* to be sent */
void payload_clear(struct payload *p);
/* What was received: the right bytes (or, with MSG_TRUNC, none), and nothing else written. Puts a word. */
void payload_check(struct payload *p, int conn, uint64_t at, size_t n, bool discards);
void payload_free(struct payload *p);

/* ---- case files ---- */

enum phase { YOUNG, UNREAD, IDLE, BUSY, FULL, LEFT, LEAVES, SPILLS, PHASES };
extern const char *const phase_names[PHASES];

struct test_case {
	char name[64];
	char **lines;
	int count;
	unsigned int skip;		/* sets of phases: not played; */
	unsigned int known, sometimes;	/* differ always, or by how the switch falls */
	bool pumps;			/* while one end waits, the other makes a call now and then */
	char why_known[160];
	unsigned int either;		/* or only in which of two it is that is told, */
	char who[2][16];		/* of these */
	struct test_case *next;
};

struct test_case *cases_read(const char *path);	/* dies with file and line */
void case_add_line(struct test_case *c, const char *line);
/* What was printed, with what the two of c->who were told changed places: the first call of one for that of the other, and so on. */
char *case_other_way(const struct test_case *c, const char *printed);
void case_free(struct test_case *c);
/* A random one, to be played from p. */
struct test_case *case_random(uint64_t seed, enum phase p);

/* ---- stage.c: two ends, with the preload or without ---- */

struct stage;
struct stage_setup {
	const char *run[2];		/* the words before the command, to get into the namespace of a and b */
	const char *address[2];
	const char *preload;		/* NULL: plain TCP */
	const char *environment[8];	/* more settings, NULL at the end */
	const char *tool;		/* xshim */
	const char *directory;
	int port;
};

struct stage *stage_new(const struct stage_setup *s, const char *name);
void stage_free(struct stage *st);
/* Play a case from a phase; what was printed is appended to *text (malloc). False: the phase could not be had, which text says. */
bool stage_play(struct stage *st, const struct test_case *c, enum phase p, char **text);

/* ---- compare.c ---- */
int compare_main(int argc, char **argv);

#endif
