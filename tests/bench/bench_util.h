/* SPDX-License-Identifier: MIT */
/*
 * bench_util.h - what the measuring programs share. Whatever fails ends the process with a line on stderr.
 */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H
#include <stddef.h>

#define WARM_UP_S 0.1
#define MAX_SAMPLES 4000000

_Noreturn void bench_die(const char *what);
double bench_now(void);
/* Sorts us[] and prints the percentiles, and the rate of n operations in so many seconds. */
void bench_print_us(float *us, size_t n, double seconds);

#endif
