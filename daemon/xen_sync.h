/* SPDX-License-Identifier: MIT */
/*
 * xen_sync.h - a job that may wait (for xenstored), done again whenever something has changed.
 *
 * One job at a time: `prepare` in the loop takes down what is to be done, `work` does it in another thread, `done` in the loop takes
 * the outcome over. A kick while it runs makes it run once more. Between prepare and done the loop keeps its hands off
 * what belongs to the job. A job that never ends holds up nothing but itself.
 *
 * After a failure it is tried again: 8 times with doubling pauses from 100 ms, then each 10 s. It also runs every 30 s without
 * a kick, so that a xenstored that was started anew is found.
 */
#ifndef XSHIMD_XEN_SYNC_H
#define XSHIMD_XEN_SYNC_H
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define XSHIMD_SYNC_TRIES 8
#define XSHIMD_SYNC_PAUSE_MS 10000
#define XSHIMD_SYNC_LOOK_MS 30000

/* How long to wait after a number of failures in a row. */
uint64_t xshimd_backoff_ms(unsigned int failures);

struct xshimd_sync {
	void *owner;
	void (*prepare)(void *owner);
	int (*work)(void *owner);	/* in the other thread, all signals blocked */
	void (*done)(void *owner, int rc);
	uv_loop_t *loop;
	uv_work_t job;
	uv_timer_t timer;
	int rc;
	unsigned int failures;
	bool running, again, stopped;
};

void xshimd_sync_open(struct xshimd_sync *s, uv_loop_t *loop);
void xshimd_sync_kick(struct xshimd_sync *s);
/* No more jobs; `done` still comes for one that runs. The memory is needed until the loop has ended. */
void xshimd_sync_close(struct xshimd_sync *s);

#endif
