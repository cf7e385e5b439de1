/* SPDX-License-Identifier: MIT */
/*
 * stepcount.c - instructions between marks of a program (bench_step.h), counted by stepping through them one
 * by one. Repeatable to the instruction, and possible where the processor's own counters are not, as in most
 * virtual machines. What the kernel does in a system call is one instruction here.
 *
 *   stepcount PROFILE PROGRAM [ARGUMENT...]
 *
 * Prints {"send": N, "recv": N, "sum": N, "most": N, "rounds": N}: medians over the rounds, less what a round
 * with nothing in it takes; most: the sum of the longest round of each. Into the file PROFILE, of the shortest
 * round of each: lines of kind, file, offset, how often. stepprofile.py knows which functions these are.
 */
#include "bench_step.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ROUNDS 1000
#define MAX_STEPS 100000	/* in one round: beyond that it is no fast path but a wait without end */

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "stepcount: %s: %s\n", what, strerror(errno));
	exit(1);
}

#ifdef __x86_64__

static long counts[STEP_KINDS][MAX_ROUNDS];
static unsigned int rounds[STEP_KINDS];

/* Where the program was at each step: of the present round, and of the shortest of each kind. */
static uint64_t steps[MAX_STEPS], shortest[STEP_KINDS][MAX_STEPS];
static long shortest_n[STEP_KINDS];

/* Lets it go on by `how` until it stops; the signal it stopped for, or -1 when it has ended well. */
static int go_on(pid_t pid, enum __ptrace_request how, int give)
{
	int status;

	if (ptrace(how, pid, NULL, (void *)(intptr_t)give) < 0 || waitpid(pid, &status, 0) < 0)
		die("ptrace");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return -1;
	if (!WIFSTOPPED(status)) {
		errno = ECHILD;
		die("the program has not ended well");
	}
	return WSTOPSIG(status);
}

/* Has it just run an int3? Then which one. */
static bool at_mark(pid_t pid, const struct user_regs_struct *r, uint32_t *kind)
{
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, pid, (void *)(uintptr_t)(r->rip - 1), NULL);
	if (errno || (word & 0xff) != 0xcc)
		return false;
	*kind = (uint32_t)r->rdi;
	return *kind < STEP_KINDS;
}

/* From a mark to the next STEP_END. */
static void count(pid_t pid, uint32_t kind)
{
	struct user_regs_struct r;
	uint32_t end;
	long n;

	for (n = 0; n < MAX_STEPS; n++) {
		if (go_on(pid, PTRACE_SINGLESTEP, 0) != SIGTRAP) {
			errno = EINTR;
			die("a signal came in between");
		}
		if (ptrace(PTRACE_GETREGS, pid, NULL, &r) < 0)
			die("ptrace");
		steps[n] = r.rip;
		if (at_mark(pid, &r, &end) && end == STEP_END) {
			if (rounds[kind] < MAX_ROUNDS)
				counts[kind][rounds[kind]++] = n;
			if (!shortest_n[kind] || n < shortest_n[kind]) {
				shortest_n[kind] = n;
				memcpy(shortest[kind], steps, (size_t)n * sizeof(steps[0]));
			}
			return;
		}
	}
	errno = ELOOP;
	die("a round without an end");
}

/* One line for each step: kind, file, offset in it. As long as the program is there to ask. */
static void write_profile(pid_t pid, const char *path)
{
	char name[64], line[4352], file[4096];
	unsigned long from, to, offset;
	FILE *maps, *out = fopen(path, "w");
	uint32_t kind;
	long i;

	snprintf(name, sizeof(name), "/proc/%d/maps", (int)pid);
	maps = fopen(name, "r");
	if (!out || !maps)
		die(path);
	while (fgets(line, sizeof(line), maps)) {
		file[0] = '\0';
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %4095s", &from, &to, &offset, file) < 3)
			continue;
		for (kind = STEP_SEND; kind < STEP_KINDS; kind++)
			for (i = 0; i < shortest_n[kind]; i++)
				if (shortest[kind][i] >= from && shortest[kind][i] < to)
					fprintf(out, "%u\t%s\t%lx\n", kind, file[0] ? file : "-",
						(unsigned long)shortest[kind][i] - from + offset);
	}
	fclose(maps);
	if (fclose(out))
		die(path);
}

static int compare(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

static long middle(uint32_t kind)
{
	if (!rounds[kind]) {
		errno = ENODATA;
		die("the program has no marks");
	}
	qsort(counts[kind], rounds[kind], sizeof(long), compare);
	return counts[kind][rounds[kind] / 2];
}

static int trace(pid_t pid, const char *profile)
{
	long nothing, send, recv, most;
	struct user_regs_struct r;
	uint32_t kind;
	int sig = 0;

	for (;;) {
		sig = go_on(pid, PTRACE_CONT, sig);
		if (sig < 0)
			break;
		if (sig != SIGTRAP)
			continue;
		sig = 0;
		if (ptrace(PTRACE_GETREGS, pid, NULL, &r) < 0)
			die("ptrace");
		if (at_mark(pid, &r, &kind) && kind == STEP_DONE)
			write_profile(pid, profile);
		else if (at_mark(pid, &r, &kind) && kind != STEP_END)
			count(pid, kind);
	}
	nothing = middle(STEP_NOTHING);
	send = middle(STEP_SEND) - nothing;
	recv = middle(STEP_RECV) - nothing;
	most = counts[STEP_SEND][rounds[STEP_SEND] - 1] + counts[STEP_RECV][rounds[STEP_RECV] - 1];
	printf("{\"send\": %ld, \"recv\": %ld, \"sum\": %ld, \"most\": %ld, \"rounds\": %u}\n", send, recv,
	       send + recv, most - 2 * nothing, rounds[STEP_RECV]);
	return 0;
}

int main(int argc, char **argv)
{
	int status;
	pid_t pid;

	if (argc < 3) {
		fprintf(stderr, "usage: stepcount PROFILE PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			die("ptrace");
		execvp(argv[2], argv + 2);
		die(argv[2]);
	}
	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status)) {
		errno = ECHILD;
		die(argv[2]);
	}
	return trace(pid, argv[1]);
}

#else

int main(void)
{
	fprintf(stderr, "stepcount: knows only x86-64\n");
	return 77;
}

#endif
