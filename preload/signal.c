/* SPDX-License-Identifier: MIT */
/*
 * signal.c - sigaction(2) and its older relatives: sigact.h has what the program set. What is no
 * signal that a program can handle goes to the C library, which refuses.
 */
#include "libc.h"
#include "sigact.h"
#include "user.h"

#include <string.h>

/*
 * ThreadSanitizer calls this before it can look into what it has itself had compiled: for handlers that report a crash. In such a
 * build of the shim it does without them.
 */
#if defined(__SANITIZE_THREAD__)
#define UNWATCHED __attribute__((no_sanitize_thread))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNWATCHED __attribute__((no_sanitize("thread")))
#endif
#endif
#ifdef UNWATCHED
#define TOO_EARLY !xshim_libc_ready
#else
#define UNWATCHED
#define TOO_EARLY 0
#endif

UNWATCHED XSHIM_EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	if (TOO_EARLY)
		return 0;
	if (!xshim_sigact_is_known(sig))
		return libc.sigaction(sig, act, old);
	return (int)xshim_ret(xshim_sigact_set(sig, act, old));
}

/* no alias: gcc 12 stops at one of an UNWATCHED function */
XSHIM_EXPORT int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);
XSHIM_EXPORT int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return sigaction(sig, act, old);
}

/* siginterrupt() said that signal() is to interrupt. */
static volatile sig_atomic_t interrupts[NSIG];

static sighandler_t set(int sig, sighandler_t handler, int flags, bool blocks_itself)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags }, old;

	if (handler == SIG_ERR)
		return (sighandler_t)xshim_ret(-EINVAL);
	sigemptyset(&act.sa_mask);
	if (blocks_itself)
		sigaddset(&act.sa_mask, sig);
	return sigaction(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}

XSHIM_EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
	if (!xshim_sigact_is_known(sig))
		return libc.signal(sig, handler);
	return set(sig, handler, interrupts[sig] ? 0 : SA_RESTART, true);
}
XSHIM_ALIAS(sighandler_t, bsd_signal, signal, (int, sighandler_t))
XSHIM_ALIAS(sighandler_t, ssignal, signal, (int, sighandler_t))

XSHIM_EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	if (!xshim_sigact_is_known(sig))
		return libc.__sysv_signal(sig, handler);
	return set(sig, handler, (int)SA_RESETHAND | SA_NODEFER, false);
}
XSHIM_ALIAS(sighandler_t, sysv_signal, __sysv_signal, (int, sighandler_t))

XSHIM_EXPORT int siginterrupt(int sig, int interrupt)
{
	struct sigaction act;

	if (!xshim_sigact_is_known(sig))
		return libc.siginterrupt(sig, interrupt);
	if (sigaction(sig, NULL, &act) < 0)
		return -1;
	interrupts[sig] = interrupt != 0;
	if (interrupt)
		act.sa_flags &= ~SA_RESTART;
	else
		act.sa_flags |= SA_RESTART;
	return sigaction(sig, &act, NULL);
}

XSHIM_EXPORT sighandler_t sigset(int sig, sighandler_t disp)
{
	sigset_t one, was;
	sighandler_t old;

	/* SIG_HOLD blocks and shows; the C library shows what the kernel has */
	if (!xshim_sigact_is_known(sig))
		return libc.sigset(sig, disp);
	sigemptyset(&one);
	sigaddset(&one, sig);
	if (disp == SIG_HOLD) {
		struct sigaction act;

		if (sigprocmask(SIG_BLOCK, &one, &was) < 0 || sigaction(sig, NULL, &act) < 0)
			return SIG_ERR;
		return sigismember(&was, sig) ? SIG_HOLD : act.sa_handler;
	}
	old = set(sig, disp, 0, false);
	if (old == SIG_ERR || sigprocmask(SIG_UNBLOCK, &one, &was) < 0)
		return SIG_ERR;
	return sigismember(&was, sig) ? SIG_HOLD : old;
}

XSHIM_EXPORT int sigignore(int sig)
{
	if (!xshim_sigact_is_known(sig))
		return libc.sigignore(sig);
	return set(sig, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
}

/* x86-64 and all that have a restorer in it */
struct raw {
	sighandler_t handler;
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

long xshim_sigact_raw(int sig, const void *act, void *old)
{
	struct sigaction want = { 0 }, found;
	struct raw raw;
	int rc;

	if (act && xshim_user_get(&raw, act, sizeof(raw)) < 0)
		return xshim_ret(-EFAULT);
	if (act) {
		want.sa_handler = raw.handler;
		want.sa_flags = (int)raw.flags;
		memcpy(&want.sa_mask, &raw.mask, sizeof(raw.mask));
	}
	rc = xshim_sigact_set(sig, act ? &want : NULL, &found);
	if (rc < 0 || !old)
		return xshim_ret(rc);
	raw = (struct raw){ found.sa_handler, (unsigned int)found.sa_flags, found.sa_restorer, 0 };
	memcpy(&raw.mask, &found.sa_mask, sizeof(raw.mask));
	return xshim_ret(xshim_user_put(old, &raw, sizeof(raw)));
}
