/* SPDX-License-Identifier: MIT */
#include "xen_sync.h"

#include <signal.h>

uint64_t xshimd_backoff_ms(unsigned int failures)
{
	return failures > XSHIMD_SYNC_TRIES ? XSHIMD_SYNC_PAUSE_MS : failures ? 50ull << failures : 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct xshimd_sync *s = timer->data;

	xshimd_sync_kick(s);
}

static void on_work(uv_work_t *job)
{
	struct xshimd_sync *s = job->data;
	sigset_t all;

	/* The alarm of bounded.h is for the loop's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	s->rc = s->work(s->owner);
}

static void on_done(uv_work_t *job, int status)
{
	struct xshimd_sync *s = job->data;

	(void)status;
	s->failures = s->rc < 0 ? s->failures + 1 : 0;
	if (s->failures > 2 * XSHIMD_SYNC_TRIES)
		s->failures = 2 * XSHIMD_SYNC_TRIES;
	/* Still running: what `done` kicks must not be prepared before it has taken over all of this outcome. */
	s->done(s->owner, s->rc);
	s->running = false;
	if (s->stopped)
		return;
	if (s->rc < 0) {
		uv_timer_start(&s->timer, on_timer, xshimd_backoff_ms(s->failures), 0);
	} else {
		uv_timer_start(&s->timer, on_timer, XSHIMD_SYNC_LOOK_MS, 0);
		if (s->again)
			xshimd_sync_kick(s);
	}
}

void xshimd_sync_open(struct xshimd_sync *s, uv_loop_t *loop)
{
	s->loop = loop;
	s->job.data = s;
	uv_timer_init(loop, &s->timer);
	s->timer.data = s;
}

void xshimd_sync_kick(struct xshimd_sync *s)
{
	if (s->stopped)
		return;
	if (s->running) {
		s->again = true;
		return;
	}
	s->again = false;
	s->prepare(s->owner);
	if (uv_queue_work(s->loop, &s->job, on_work, on_done) < 0) {
		/* No thread to be had: later. */
		uv_timer_start(&s->timer, on_timer, XSHIMD_SYNC_PAUSE_MS, 0);
		return;
	}
	s->running = true;
}

void xshimd_sync_close(struct xshimd_sync *s)
{
	if (s->stopped)
		return;
	s->stopped = true;
	uv_close((uv_handle_t *)&s->timer, NULL);
}
