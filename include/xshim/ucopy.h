/* SPDX-License-Identifier: MIT */
/*
 * ucopy.h - copying to and from memory of the program, whose address may be bad: the kernel answers
 * such a call with EFAULT.
 *
 * The accesses are made by a few instructions that stand together. A handler for SIGSEGV and SIGBUS
 * asks xshim_ucopy_resume() with the address of the instruction that faulted, and goes on where it
 * says; the copy then returns -EFAULT. Without such a handler (preload/fault.h has it) a bad
 * address is the end of the process, as with memcpy. A copy costs what memcpy does, and makes no
 * system call.
 *
 * x86-64 only; on other processors it is memcpy, and nothing is ever resumed.
 *
 * Threads: any. Signals: safe.
 */
#ifndef XSHIM_UCOPY_H
#define XSHIM_UCOPY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ThreadSanitizer does not look into the instructions that copy. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define XSHIM_UCOPY_WATCHED 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define XSHIM_UCOPY_WATCHED 1
#endif
#ifndef XSHIM_UCOPY_WATCHED
#define XSHIM_UCOPY_WATCHED 0
#endif

/* 0, or not (-EFAULT but for xshim_ucopy_inline()): then any part of it may have been copied. The two do not overlap. */
int xshim_ucopy(void *to, const void *from, size_t n);
/* The same where a call less is worth it. */
#define XSHIM_UCOPY_FEW 128
static inline int xshim_ucopy_inline(void *to, const void *from, size_t n)
{
#if defined(__x86_64__) && !XSHIM_UCOPY_WATCHED
	int xshim_ucopy_small(void *to, const void *from, size_t n) __attribute__((visibility("hidden")));

	if (n <= XSHIM_UCOPY_FEW)
		return xshim_ucopy_small(to, from, n);
#endif
	return xshim_ucopy(to, from, n);
}
/*
 * Of at most XSHIM_UCOPY_FEW bytes, for a caller that calls nothing else and so has nothing to save: a call that leaves alone what the
 * routine leaves alone. It wants the caller to use nothing below its stack pointer (-mno-red-zone).
 */
#if defined(__x86_64__) && !XSHIM_UCOPY_WATCHED && defined(XSHIM_NO_RED_ZONE) && defined(__GCC_ASM_FLAG_OUTPUTS__)
static inline __attribute__((always_inline)) int xshim_ucopy_few(void *to, const void *from, size_t n)
{
	bool faulted;

	__asm__ volatile("call xshim_ucopy_128"
			 : "=@cco"(faulted)
			 : "D"(to), "S"(from), "d"(n)
			 : "rax", "rcx", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "memory");
	return faulted;
}
#else
static inline int xshim_ucopy_few(void *to, const void *from, size_t n) { return xshim_ucopy_inline(to, from, n); }
#endif
/* pc is in here: *resume is where to go on, with all other registers as they are. */
bool xshim_ucopy_resume(uintptr_t pc, uintptr_t *resume);

#if defined(__x86_64__)
#define XSHIM_UCOPY_RESUMES 1
#else
#define XSHIM_UCOPY_RESUMES 0
#endif

#endif
