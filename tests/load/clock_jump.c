/* SPDX-License-Identifier: MIT */
/*
 * clock_jump.c - the time of day jumps, a day on and back, each time that it is asked for; for programs that are started with this as
 * LD_PRELOAD. CLOCK_JUMPS names a file that gets an octet for each jump.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

static _Atomic unsigned int jumps;

static time_t jump(void)
{
	const char *name = getenv("CLOCK_JUMPS");
	int fd = name ? open(name, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;

	if (fd >= 0) {
		(void)!write(fd, "j", 1);
		close(fd);
	}
	return atomic_fetch_add(&jumps, 1) % 2 ? -DAY : DAY;
}

#pragma GCC visibility push(default)
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, ts);

	if (!rc && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
		ts->tv_sec += jump();
	return rc;
}

int gettimeofday(struct timeval *tv, void *zone)
{
	int rc = (int)syscall(SYS_gettimeofday, tv, zone);

	if (!rc)
		tv->tv_sec += jump();
	return rc;
}

time_t time(time_t *out)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	if (out)
		*out = tv.tv_sec;
	return tv.tv_sec;
}
