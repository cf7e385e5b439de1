/* SPDX-License-Identifier: MIT */
/*
 * sigact.h - signals that the shim handles, while the program goes on seeing its own dispositions.
 *
 * When a signal is taken, our handler is in the kernel's table with the mask and the flags that the program asked for, so that
 * the kernel blocks, restarts and changes stacks as the program expects. What the program set is kept here, shown
 * when it asks, and done when our handler passes the signal on. SA_RESETHAND is done here, because it would be ours that goes.
 *
 * What can be told apart: SigCgt in /proc shows the signal as caught; one that is ignored, and sent by kill(), interrupts
 * calls that never restart, such as poll(). A program that changes a disposition past the C library (by the
 * instruction itself) displaces our handler, and has what it asked for.
 *
 * Threads: any; setters exclude each other, xshim_sigact_pass() takes no lock. Fork: inherited. Signals: safe.
 */
#ifndef XSHIM_SIGACT_H
#define XSHIM_SIGACT_H
#include <signal.h>
#include <stdbool.h>

typedef void xshim_sig_handler(int sig, siginfo_t *info, void *context);

/* The signals that may be taken. */
static inline bool xshim_sigact_may_take(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS;
}

/* From now on `ours` handles sig. */
void xshim_sigact_take(int sig, xshim_sig_handler *ours);
/* From within ours: it is the program's. Returns when the program's handler does, or when dying has been arranged. */
void xshim_sigact_pass(int sig, siginfo_t *info, void *context);
/* sigaction(2) of the program; sig is one that may be taken. 0 or -errno. */
int xshim_sigact_set(int sig, const struct sigaction *act, struct sigaction *old);
/*
 * Before exec, or a call that execs in a child: what the program ignores is ignored by the new image, too. True: something
 * was to be done, and xshim_sigact_go_on() must follow when the exec has failed or the child has begun.
 */
bool xshim_sigact_leave(void);
void xshim_sigact_go_on(void);
void xshim_sigact_fork_child(void);
/* rt_sigaction by its number, with the kernel's struct and masks of 8 bytes: as syscall(2). */
long xshim_sigact_raw(int sig, const void *act, void *old);

#endif
