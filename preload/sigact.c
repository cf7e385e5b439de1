/* SPDX-License-Identifier: MIT */
/* sigact.c - signals that the shim handles, while the program goes on seeing its own dispositions (sigact.h). */
#include "sigact.h"
#include "libc.h"
#include "process.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* The flags that the program asked for and ours does not have, or the other way round. */
#define FLAGS_KEPT ((int)(SA_SIGINFO | SA_RESETHAND | SA_RESTART | RESTORER))
/* The C library adds it to what is set, and shows it afterwards; what was never set lacks it. */
#define RESTORER 0x04000000
#if defined(__x86_64__)
#define ADDED RESTORER
#else
#define ADDED 0
#endif

struct taken {
	xshim_sig_handler *ours;	/* under the lock; NULL: not taken */
	_Atomic(sighandler_t) handler;	/* the program's, as long as the kernel's table has one of ours */
	_Atomic int flags;		/* of these FLAGS_KEPT; the rest, and the mask, are in the kernel's table */
};

static struct taken taken[NSIG];
static _Atomic uint32_t lock;
static bool watching;			/* under the lock */
static _Atomic pid_t owner;		/* whose table of the kernel's it is */

bool xshim_sigact_is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP;
}

void xshim_sigact_block(sigset_t *was)
{
	sigset_t all;

	sigfillset(&all);
	for (int sig = 1; sig < NSIG; sig++)
		if (xshim_sigact_is_fault(sig))
			sigdelset(&all, sig);
	(void)sigprocmask(SIG_BLOCK, &all, was);	/* of this thread */
}

/* A handler that came while we hold the lock could ask for it again. */
static void lock_take(sigset_t *was)
{
	sigset_t all;

	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, was);	/* of this thread */
	while (atomic_exchange_explicit(&lock, 1, memory_order_acquire))
		sched_yield();
}

static void lock_drop(const sigset_t *was)
{
	atomic_store_explicit(&lock, 0, memory_order_release);
	(void)sigprocmask(SIG_SETMASK, was, NULL);
}

void xshim_sigact_fork_child(void)
{
	atomic_store_explicit(&lock, 0, memory_order_relaxed);
	if (atomic_load_explicit(&owner, memory_order_relaxed))
		atomic_store_explicit(&owner, getpid(), memory_order_relaxed);
}

/* ---- which handler ended a sleep ---- */

enum { NONE, INTERRUPTS, RESTARTS };

static __thread struct sleeper {
	volatile sig_atomic_t asleep, noted, restarts;
	volatile sig_atomic_t missed;	/* of the first handler since the call began that has ended no sleep */
	volatile sig_atomic_t awake;	/* counts them */
} sleeper __attribute__((tls_model("initial-exec")));

void xshim_sigact_begin(void)
{
	sleeper.missed = NONE;
	sleeper.noted = 0;
}

int xshim_sigact_awake(void)
{
	return sleeper.awake;
}

void xshim_sigact_sleep(void)
{
	sleeper.noted = 0;
	sleeper.asleep = 1;
}

bool xshim_sigact_sleep_again(void)
{
	xshim_sigact_sleep();
	if (!sleeper.missed)
		return true;
	sleeper.asleep = 0;
	sleeper.restarts = sleeper.missed == RESTARTS;
	sleeper.missed = NONE;
	sleeper.noted = 1;
	return false;
}

int xshim_sigact_woken(void)
{
	sleeper.asleep = 0;
	return sleeper.noted ? sleeper.restarts : -1;
}

/*
 * A call was ended by this signal: its result is in the context already. Where several signals come
 * at once, only the first one finds it there, and that is the one whose flag the kernel goes by.
 */
static bool has_ended_call(void *context)
{
	const ucontext_t *uc = context;

#if defined(__x86_64__)
	return uc->uc_mcontext.gregs[REG_RAX] == -EINTR;
#elif defined(__aarch64__)
	return uc->uc_mcontext.regs[0] == (unsigned long long)-EINTR;
#else
	(void)uc;
	return true;
#endif
}

static void note(bool restarts, void *context)
{
	if (!sleeper.asleep || !has_ended_call(context)) {
		if (!sleeper.missed)
			sleeper.missed = restarts ? RESTARTS : INTERRUPTS;
		sleeper.awake = (int)((unsigned int)sleeper.awake + 1);
		return;
	}
	sleeper.missed = NONE;		/* what came together with it */
	sleeper.asleep = 0;
	sleeper.restarts = restarts;
	sleeper.noted = 1;
}

/* A handler of the program's that is not for a signal of ours. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct taken *t = &taken[sig];
	sighandler_t handler = atomic_load_explicit(&t->handler, memory_order_acquire);
	struct sleeper was;

	note(atomic_load_explicit(&t->flags, memory_order_relaxed) & SA_RESTART, context);
	was = sleeper;
	/* also without SA_SIGINFO the kernel gives all three */
	((xshim_sig_handler *)(uintptr_t)handler)(sig, info, context);
	sleeper = was;		/* the handler may have made calls of its own */
}

bool xshim_sigact_is_watched(const struct sigaction *act)
{
	return (act->sa_flags & SA_SIGINFO) && act->sa_sigaction == on_signal;
}

static bool is_to_be_watched(const struct sigaction *act)
{
	return watching && act->sa_handler != SIG_DFL && act->sa_handler != SIG_IGN;
}

/* ---- the kernel's table ---- */

/* act: as the program wants it. Lock held. */
static int install(int sig, const struct sigaction *act)
{
	struct taken *t = &taken[sig];
	struct sigaction real = *act;

	if (t->ours || is_to_be_watched(act)) {
		real.sa_sigaction = t->ours ? t->ours : on_signal;
		real.sa_flags = act->sa_flags | SA_SIGINFO;
		if (t->ours)
			real.sa_flags &= (int)~SA_RESETHAND;
		if (act->sa_handler == SIG_IGN)
			real.sa_flags |= SA_RESTART;	/* an ignored signal interrupts nothing */
		/* before the kernel knows our handler */
		atomic_store_explicit(&t->flags, act->sa_flags, memory_order_relaxed);
		atomic_store_explicit(&t->handler, act->sa_handler, memory_order_release);
	} else {
		/* what is shown from now on is the program's own */
		atomic_fetch_and_explicit(&t->flags, (int)~SA_RESETHAND, memory_order_relaxed);
	}
	return libc.sigaction(sig, &real, NULL) < 0 ? -errno : 0;
}

/* Ours has run, once, as the kernel was asked; it has left the flags and the mask as they were. */
static bool has_gone(const struct taken *t, const struct sigaction *act)
{
	return !t->ours && act->sa_handler == SIG_DFL && (act->sa_flags & (int)SA_RESETHAND) &&
	       (atomic_load_explicit(&t->flags, memory_order_relaxed) & (int)SA_RESETHAND);
}

/* What the program would find. Lock held. */
static int show(int sig, struct sigaction *act)
{
	struct taken *t = &taken[sig];

	if (libc.sigaction(sig, NULL, act) < 0)
		return -errno;
	if (!has_gone(t, act)) {
		if (act->sa_sigaction != on_signal && (!t->ours || act->sa_sigaction != t->ours))
			return 0;	/* not taken, or set past us: that is what holds */
		act->sa_handler = atomic_load_explicit(&t->handler, memory_order_acquire);
	}
	act->sa_flags &= ~FLAGS_KEPT;
	act->sa_flags |= atomic_load_explicit(&t->flags, memory_order_relaxed) & FLAGS_KEPT;
	return 0;
}

void xshim_sigact_take(int sig, xshim_sig_handler *ours)
{
	struct sigaction act;
	sigset_t was;

	lock_take(&was);
	atomic_store_explicit(&owner, getpid(), memory_order_relaxed);
	if (!taken[sig].ours && show(sig, &act) == 0) {
		taken[sig].ours = ours;
		(void)install(sig, &act);
	}
	lock_drop(&was);
}

void xshim_sigact_watch(void)
{
	struct sigaction act;
	sigset_t was;

	lock_take(&was);
	atomic_store_explicit(&owner, getpid(), memory_order_relaxed);
	watching = true;
	for (int sig = 1; sig < NSIG; sig++)
		if (xshim_sigact_is_known(sig) && !taken[sig].ours && show(sig, &act) == 0 && is_to_be_watched(&act))
			(void)install(sig, &act);
	lock_drop(&was);
}

void xshim_sigact_end(void)
{
	struct sigaction act;
	sigset_t was;

	lock_take(&was);
	watching = false;
	for (int sig = 1; sig < NSIG; sig++) {
		if (!xshim_sigact_is_known(sig) || show(sig, &act) < 0)
			continue;
		taken[sig].ours = NULL;
		if (atomic_load_explicit(&taken[sig].handler, memory_order_relaxed))
			(void)libc.sigaction(sig, &act, NULL);
	}
	lock_drop(&was);
}

int xshim_sigact_set(int sig, const struct sigaction *act, struct sigaction *old)
{
	pid_t pid = atomic_load_explicit(&owner, memory_order_relaxed);
	struct sigaction want = { 0 }, found;
	sigset_t was;
	int rc;

	/* a child that runs on its parent's memory has a table of its own, which ours does not describe */
	if (!xshim_active || (pid && pid != getpid()))
		return libc.sigaction(sig, act, old) < 0 ? -errno : 0;
	/* a bad address faults here, as in the C library, and not with the lock held */
	if (act)
		want = *act;
	lock_take(&was);
	if (!watching) {
		rc = libc.sigaction(sig, act ? &want : NULL, &found) < 0 ? -errno : 0;
	} else {
		rc = show(sig, &found);
		want.sa_flags |= ADDED;
		if (rc == 0 && act)
			rc = install(sig, &want);
	}
	lock_drop(&was);
	if (rc == 0 && old)
		*old = found;
	return rc;
}

/*
 * The default: the kernel does it best. A faulting instruction is made again and faults again, a
 * signal that was sent is sent again, with the sender in it; it comes when the handler has
 * returned.
 */
static void by_default(int sig, siginfo_t *info)
{
	struct sigaction act = { .sa_handler = SIG_DFL };

	(void)libc.sigaction(sig, &act, NULL);
	if (info->si_code <= 0)
		(void)libc.syscall(SYS_rt_tgsigqueueinfo, getpid(), libc.syscall(SYS_gettid), sig, info);
}

void xshim_sigact_pass(int sig, siginfo_t *info, void *context)
{
	struct taken *t = &taken[sig];
	sighandler_t handler = atomic_load_explicit(&t->handler, memory_order_acquire);

	if (handler != SIG_DFL && handler != SIG_IGN &&
	    (atomic_load_explicit(&t->flags, memory_order_relaxed) & SA_RESETHAND))
		handler = atomic_exchange_explicit(&t->handler, SIG_DFL, memory_order_acq_rel);
	note(handler == SIG_IGN || (atomic_load_explicit(&t->flags, memory_order_relaxed) & SA_RESTART), context);
	if (handler == SIG_DFL || (handler == SIG_IGN && info->si_code > 0))
		by_default(sig, info);	/* a fault cannot be ignored */
	else if (handler != SIG_IGN)
		((xshim_sig_handler *)(uintptr_t)handler)(sig, info, context);
}

/* Put SIG_IGN into the kernel's table, or ours again, for what the program ignores. Lock held. */
static bool swap_ignored(bool bare)
{
	struct sigaction act;
	bool any = false;

	for (int sig = 1; sig < NSIG; sig++) {
		struct taken *t = &taken[sig];

		if (!t->ours ||
		    atomic_load_explicit(&t->handler, memory_order_relaxed) != SIG_IGN ||
		    libc.sigaction(sig, NULL, &act) < 0)
			continue;
		if (bare ? act.sa_sigaction != t->ours : act.sa_handler != SIG_IGN)
			continue;
		if (bare) {
			act.sa_handler = SIG_IGN;
			act.sa_flags &= ~SA_SIGINFO;
			(void)libc.sigaction(sig, &act, NULL);
		} else {
			act.sa_flags &= ~FLAGS_KEPT;
			act.sa_flags |= atomic_load_explicit(&t->flags, memory_order_relaxed) & FLAGS_KEPT;
			(void)install(sig, &act);
		}
		any = true;
	}
	return any;
}

static bool ignores_any(void)
{
	for (int sig = 1; sig < NSIG; sig++)
		if (atomic_load_explicit(&taken[sig].handler, memory_order_relaxed) == SIG_IGN)
			return true;
	return false;
}

bool xshim_sigact_leave(void)
{
	sigset_t was;
	bool any;

	if (!ignores_any())
		return false;
	lock_take(&was);
	any = swap_ignored(true);
	lock_drop(&was);
	return any;
}

void xshim_sigact_go_on(void)
{
	int saved = errno;
	sigset_t was;

	lock_take(&was);
	(void)swap_ignored(false);
	lock_drop(&was);
	errno = saved;
}
