/* SPDX-License-Identifier: MIT */
/* stage.h - two ends and the conductor's knowledge of them: what procs.c, settle.c, phase.c and stage.c share. */
#ifndef STAGE_H
#define STAGE_H
#include "player.h"

#define PROCS 8
#define ANSWER_MS patience(6000)
/* A call on the connections by the names that cases give them; those that are not there are left out. */
#define LOOK_ALL "poll s=RDHUP t=RDHUP d=RDHUP"

struct proc {
	char name[8];
	int sock, side;
	pid_t pid;		/* of a thread its number */
	pid_t process;		/* that it is of */
	bool thread;
	bool pending;		/* has an operation under way ("a& ...") */
	bool busy;		/* was told something, and has not answered */
	char *early;		/* an answer that came while another one was waited for */
	int late;		/* answers that were not waited for any longer, and come yet */
};

struct stage {
	const struct stage_setup *setup;
	const char *name;
	char control[104], memory[104];
	int listener;
	struct shared *shared;
	struct proc procs[PROCS];
	bool broken;		/* an end has died: both are made anew */
	bool used[CONNS];
	bool corked;		/* something may be held back at a sender, */
	bool by_flag;		/* until its next send (MSG_MORE) */
	bool hung;		/* the rest of the case is left out */
	bool leaving;		/* the phase in which connections leave their ring all the time */
	bool pumps;		/* an end that waits gets help: the other one makes a call now and then */
	char *text;
	size_t size;
	FILE *log;
};

/* ---- procs.c ---- */

struct proc *proc_named(struct stage *st, const char *name);
void proc_gone(struct proc *p);
/* The next process that says hello, NULL if none does in time. */
struct proc *proc_accept(struct stage *st, int ms);
void procs_end(struct stage *st);
void procs_begin(struct stage *st);
bool proc_tell(struct stage *st, struct proc *p, const char *line);
/* Within ms there is an answer, to what was told last, or it has died. */
bool proc_answered(struct proc *p, int ms);
/* False: it has died or hangs; text says which. */
bool proc_answer(struct stage *st, struct proc *p, char *text, int ms);
bool proc_ask(struct stage *st, const char *who, char *text, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* ---- settle.c ---- */

/* sender: the side that has just sent, or -1. If the other side has gone, RST will come. */
void stage_settle(struct stage *st, int sender);

/* ---- phase.c ---- */

/* A connection called `name`, without delays by Nagle. */
bool stage_open(struct stage *st, const char *name, char *text);
bool stage_prelude(struct stage *st, enum phase p, char *text);

#endif
