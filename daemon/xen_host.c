/* SPDX-License-Identifier: MIT */
#include "xen_host.h"

#include <errno.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "xshimd.h"

/* All that this host has, whatever interface it is on; what does not fit is not guarded. */
static void own_addresses(struct xshimd_xen_addrs own[XSHIMD_HOST_OWN])
{
	struct ifaddrs *all, *i;
	uint32_t n = 0;

	memset(own, 0, XSHIMD_HOST_OWN * sizeof(own[0]));
	if (getifaddrs(&all) < 0)
		return;
	for (i = all; i && n < XSHIMD_HOST_OWN * XSHIMD_XEN_ADDRS; i = i->ifa_next) {
		struct xshimd_xen_addrs *a = &own[n / XSHIMD_XEN_ADDRS];
		struct xshim_endpoint ep;

		if (!i->ifa_addr || xshim_endpoint_from_sockaddr(&ep, i->ifa_addr, sizeof(struct sockaddr_storage)) < 0)
			continue;
		ep.port = 0;
		a->a[a->n++] = ep;
		n++;
	}
	freeifaddrs(all);
}

static void prepare(void *owner)
{
	struct xshimd_host *h = owner;
	struct xshimd_host_job *j = &h->job;

	j->journal.log = h->d->journal.log;
	if (j->reopen)
		xshimd_watch_close(&h->store_watch);
	j->vif_only = h->d->opt.xen_trust == XSHIMD_TRUST_VIF;
	j->drain = h->drain != XSHIMD_HOST_IDLE;
	j->drain_domid = h->drain_domid;
	j->drain_number = h->drain_number;
	own_addresses(j->own);
}

static void on_store(void *owner, int events)
{
	struct xshimd_host *h = owner;
	char path[XSHIMD_STORE_PATH];
	bool any = false;

	(void)events;
	for (int i = 0; i < 1024 && xshimd_store_fired(h->job.store, path); i++)
		any |= !strstr(path, "/data/xshim/peer");	/* the guests' own affair */
	if (any)
		xshimd_sync_kick(&h->sync);
}

static void answer(struct xshimd_host *h)
{
	struct xshimd *d = h->d;
	uint32_t left = h->left > UINT32_MAX - h->silent ? UINT32_MAX : h->left + h->silent;
	union xshim_msg m;

	h->drain = XSHIMD_HOST_HOLDING;
	h->deadline_ms = uv_now(&d->loop) + 1000ull * d->opt.xen_drain_hold;
	xshimd_timer_by(d, h->deadline_ms);
	xshim_log(&d->journal.log, left ? XSHIM_LOG_WARN : XSHIM_LOG_INFO,
		  "drain: %u connections are left on their rings, %u guests have not answered", h->left, h->silent);
	if (!h->asker)
		return;
	xshim_msg_init(&m, XSHIM_MSG_DRAINED, h->id);
	m.drain.domid = h->drain_domid;
	m.drain.left = left;
	xshimd_conn_send(h->asker, &m, NULL, 0);
	h->asker = NULL;
}

static void end_drain(struct xshimd_host *h)
{
	if (h->drain == XSHIMD_HOST_IDLE)
		return;
	if (h->asker)
		xshimd_conn_decline(h->asker, h->id, XSHIM_R_ADMIN);
	h->asker = NULL;
	h->drain = XSHIMD_HOST_IDLE;
	xshimd_sync_kick(&h->sync);
}

static void on_done(void *owner, int rc)
{
	struct xshimd_host *h = owner;
	struct xshimd_host_job *j = &h->job;
	struct xshimd *d = h->d;

	if (h->sync.stopped)
		return;
	if (rc < 0)
		xshimd_watch_close(&h->store_watch);
	if (rc == 0 && !h->told_first) {
		xshim_log(&d->journal.log, XSHIM_LOG_INFO, "xenstore: connected; %u guests take part", j->guests);
		h->told_first = true;
	}
	if (rc == 0)
		h->guests = j->guests;
	/* The outcome may be that of a job that began before the drain did. */
	if (rc == 0 && h->drain != XSHIMD_HOST_IDLE && j->drain && j->drain_number == h->drain_number) {
		if (h->drain == XSHIMD_HOST_ASKING) {
			h->silent = j->silent;
			h->left = j->left;
		}
		if (h->drain == XSHIMD_HOST_ASKING && !j->silent)
			answer(h);
		else if (h->drain == XSHIMD_HOST_HOLDING && !j->drained_is_there)
			end_drain(h);
	}
	if (!h->store_watch && j->store && !j->reopen && xshimd_store_fd(j->store) >= 0 &&
	    xshimd_watch_open(&h->store_watch, &d->loop, xshimd_store_fd(j->store), UV_READABLE, on_store, h) == 0)
		on_store(h, 0);
	xshimd_settle(d);
}

void xshimd_host_drain(struct xshimd_host *h, struct xshimd_conn *c, const union xshim_msg *m)
{
	struct xshimd *d = h->d;
	union xshim_msg reply;

	if (m->drain.left) {
		if (m->drain.domid == XSHIM_DOMID_ALL || m->drain.domid == h->drain_domid)
			end_drain(h);
		xshim_msg_init(&reply, XSHIM_MSG_DRAINED, m->h.id);
		reply.drain.domid = m->drain.domid;
		xshimd_conn_send(c, &reply, NULL, 0);
		return;
	}
	if (h->drain == XSHIMD_HOST_ASKING) {
		xshimd_conn_decline(c, m->h.id, XSHIM_R_BUSY);
		return;
	}
	h->drain = XSHIMD_HOST_ASKING;
	h->drain_domid = m->drain.domid;
	h->drain_number++;
	h->silent = h->guests;
	h->left = 0;
	h->asker = c;
	h->id = m->h.id;
	/* The guests' own time, and some for xenstore. */
	h->deadline_ms = uv_now(&d->loop) + 1000ull * d->opt.xen_drain_timeout + 2000;
	xshimd_timer_by(d, h->deadline_ms);
	xshimd_sync_kick(&h->sync);
}

void xshimd_host_asker_gone(struct xshimd_host *h, const struct xshimd_conn *c)
{
	if (h->asker == c)
		h->asker = NULL;
}

uint64_t xshimd_host_sweep(struct xshimd_host *h, uint64_t now_ms)
{
	if (h->drain == XSHIMD_HOST_IDLE)
		return UINT64_MAX;
	if (h->deadline_ms > now_ms)
		return h->deadline_ms;
	if (h->drain == XSHIMD_HOST_ASKING) {
		answer(h);
		return h->deadline_ms;
	}
	end_drain(h);
	return UINT64_MAX;
}

int xshimd_host_open(struct xshimd *d)
{
	struct xshimd_host *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->d = d;
	d->host = h;
	/* Numbers that a xshimd before us has used are to be seen as other ones. */
	if (getrandom(&h->drain_number, sizeof(h->drain_number), 0) < 0)
		h->drain_number = (uint32_t)uv_hrtime();
	h->drain_number &= UINT32_MAX >> 1;
	h->sync = (struct xshimd_sync){ .owner = h, .prepare = prepare, .work = xshimd_host_job_work, .done = on_done };
	xshimd_sync_open(&h->sync, &d->loop);
	xshimd_sync_kick(&h->sync);
	return 0;
}

void xshimd_host_close(struct xshimd_host *h)
{
	xshimd_sync_close(&h->sync);
	xshimd_watch_close(&h->store_watch);
}
