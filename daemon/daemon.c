/* SPDX-License-Identifier: MIT */
/*
 * daemon.c - what the parts of xshimd have in common: life, the timer, and the tidying after each event.
 */
#include <utlist.h>

#include "match.h"
#include "xen.h"
#include "xshimd.h"

#define FD_RESERVE 128u		/* a message brings 5, a probe needs 1, and libuv and the log have theirs */

static void on_timer(uv_timer_t *timer)
{
	struct xshimd *d = timer->data;
	uint64_t now = uv_now(&d->loop), next, t;

	d->timer_ms = UINT64_MAX;
	next = xshimd_conns_sweep(d, now);
	t = xshimd_probes_sweep(d, now);
	if (t < next)
		next = t;
	t = xshimd_waits_sweep(d, now);
	if (t < next)
		next = t;
	t = xshimd_xen_sweep(d, now);
	if (t < next)
		next = t;
	xshimd_settle(d);
	xshimd_timer_by(d, next);
}

void xshimd_timer_by(struct xshimd *d, uint64_t ms)
{
	uint64_t now = uv_now(&d->loop);

	if (ms >= d->timer_ms)
		return;
	d->timer_ms = ms;
	uv_timer_start(&d->timer, on_timer, ms > now ? ms - now : 0, 0);
}

int xshimd_init(struct xshimd *d)
{
	int rc;

	rc = uv_loop_init(&d->loop);
	if (rc < 0)
		return rc;
	uv_timer_init(&d->loop, &d->timer);
	d->timer.data = d;
	d->timer_ms = UINT64_MAX;
	d->started_ms = uv_now(&d->loop);
	rc = xshimd_closer_open(d);
	if (rc < 0)
		return rc;
	return xshimd_publish_open(&d->publish);
}

void xshimd_shut(struct xshimd *d)
{
	struct xshimd_conn *c, *tmp;

	if (d->publish.map)
		atomic_store_explicit(&d->publish.map->closing, 1, memory_order_release);
	xshimd_server_close(d);
	DL_FOREACH_SAFE(d->conns, c, tmp)
		xshimd_conn_drop(c);
	xshimd_settle(d);
	xshimd_xen_close(d);
	xshimd_channels_close(d);
	xshimd_probes_close(d);
	xshimd_arenas_close(d);
	xshimd_publish_close(&d->publish);
	xshimd_closer_close(d);
	uv_close((uv_handle_t *)&d->timer, NULL);
}

void xshimd_settle(struct xshimd *d)
{
	if (d->settling)
		return;
	d->settling = true;
	for (;;) {
		if (d->dead) {
			struct xshimd_conn *c = d->dead;

			DL_DELETE(d->dead, c);
			xshimd_conn_destroy(c);
		} else if (d->probes.ready) {
			xshimd_probes_start(d);
		} else if (d->rematch) {
			d->rematch = false;
			xshimd_match_all(d);
		} else {
			break;
		}
	}
	d->settling = false;
}

bool xshimd_has_room(const struct xshimd *d)
{
	uint64_t used = d->quota.total[XSHIMD_CONNECTIONS] + d->quota.total[XSHIMD_ARENAS] +
			4ull * d->quota.total[XSHIMD_OFFERS] + 3ull * d->probes.running_n + d->channels.n +
			(uint64_t)XSHIM_PROTO_MAX_FDS * d->quota.total[XSHIMD_CLOSED];

	return used + FD_RESERVE <= d->server.fd_limit;
}
