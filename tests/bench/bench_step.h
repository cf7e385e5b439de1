/* SPDX-License-Identifier: MIT */
/*
 * bench_step.h - between stepcount and the program it follows: where to begin and to end counting.
 *
 * A mark is an int3 with its number in a register. A program that has none over it is killed by the signal.
 */
#ifndef BENCH_STEP_H
#define BENCH_STEP_H

enum { STEP_END, STEP_DONE, STEP_NOTHING, STEP_SEND, STEP_RECV, STEP_KINDS };

#ifdef __x86_64__
#define STEP_MARK(kind) __asm__ volatile("int3" : : "D"(kind) : "memory")
#else
#define STEP_MARK(kind) ((void)(kind))
#endif

#endif
