/* SPDX-License-Identifier: MIT */
/*
 * sigact.h - signals that the shim handles, while the program goes on seeing its own dispositions.
 *
 * Two uses: faults (fault.h) are taken, whatever the program does with them. Of all other signals
 * handlers of the program's are watched: ours runs first and notes whether the program's has
 * SA_RESTART, because a call that is begun anew after some handlers and says EINTR after others has
 * to know which one ended its sleep; then it is the program's turn. What is not a handler is left alone.
 *
 * When a signal is taken or watched, our handler is in the kernel's table with the mask and the
 * flags that the program asked for, so that the kernel blocks, restarts and changes stacks as the
 * program expects. What the program set is kept here, shown when it asks, and done when our handler
 * passes the signal on. SA_RESETHAND of a watched signal is done by the kernel: both handlers go before they run. Of one that
 * is taken it is done here, because it would be ours that goes.
 *
 * What can be told apart: SigCgt in /proc shows the signal as caught; one that is ignored, and sent
 * by kill(), interrupts calls that never restart, such as poll(). A program that changes a
 * disposition past the C library (by the instruction itself) displaces our handler, and has what it
 * asked for. One that asks past the C library finds ours.
 *
 * Threads: any; setters exclude each other, xshim_sigact_pass() takes no lock. Fork: inherited.
 * Signals: safe.
 */
#ifndef XSHIM_SIGACT_H
#define XSHIM_SIGACT_H
#include <signal.h>
#include <stdbool.h>

typedef void xshim_sig_handler(int sig, siginfo_t *info, void *context);

/* A signal that the program can have a handler for; 32 and 33 are the C library's own. */
static inline bool xshim_sigact_is_known(int sig)
{
	return sig > 0 && sig < NSIG && sig != SIGKILL && sig != SIGSTOP && sig != 32 && sig != 33;
}

/* From now on `ours` handles sig. */
void xshim_sigact_take(int sig, xshim_sig_handler *ours);
/* From within ours: it is the program's. Returns when the program's handler does, or when dying has been arranged. */
void xshim_sigact_pass(int sig, siginfo_t *info, void *context);
/* From now on handlers are watched. */
void xshim_sigact_watch(void);
/* No signal is handled or watched any more: the kernel's table is as the program asked. */
void xshim_sigact_end(void);
/* One that an instruction brings about: it does not come to a thread that sleeps, and to one that has it blocked it is the end. */
bool xshim_sigact_is_fault(int sig);
/*
 * No handler runs on top of this thread from now on, but that of a fault: another guest's memory may go while we look at it, and then ours lets
 * go of it (fault.c). *was: the mask to be set again.
 */
void xshim_sigact_block(sigset_t *was);
/* Before a sleep in a call that handlers interrupt. */
void xshim_sigact_sleep(void);
/*
 * For a call that sleeps, looks and sleeps again, awake for longer: begin when it begins, then before each sleep; false: it is not to
 * sleep, as a handler has run since and ended no sleep. Of one that runs between this and the sleep itself nothing is known.
 */
void xshim_sigact_begin(void);
bool xshim_sigact_sleep_again(void);
/* Changes with each such handler: for a call that is made of several. */
int xshim_sigact_awake(void);
/*
 * That call said EINTR: 1: after a handler with SA_RESTART, 0: after one without, -1: not known. Since a begin, whatever its last sleep
 * said: -1 also if no handler has ended that.
 */
int xshim_sigact_woken(void);
/* act, as libc.sigaction() says, is a watched handler: were it one that ended the sleep, that would be known. */
bool xshim_sigact_is_watched(const struct sigaction *act);
/* sigaction(2) of the program; sig is a known one. 0 or -errno. */
int xshim_sigact_set(int sig, const struct sigaction *act, struct sigaction *old);
/*
 * Before exec, or a call that execs in a child: what the program ignores is ignored by the new
 * image, too. True: something was to be done, and xshim_sigact_go_on() must follow when the exec
 * has failed or the child has begun.
 */
bool xshim_sigact_leave(void);
void xshim_sigact_go_on(void);
void xshim_sigact_fork_child(void);
/* rt_sigaction by its number, with the kernel's struct and masks of 8 bytes: as syscall(2). */
long xshim_sigact_raw(int sig, const void *act, void *old);

#endif
