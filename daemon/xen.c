/* SPDX-License-Identifier: MIT */
#include "xen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "role.h"
#include "verify.h"
#include "xen_channels.h"
#include "xen_guest.h"
#include "xen_host.h"
#include "xshimd.h"

int xshimd_xen_open(struct xshimd *d)
{
	int rc = 0;

	if (d->role == XSHIMD_ROLE_GUEST)
		rc = xshimd_guest_open(d);
	else if (d->role == XSHIMD_ROLE_HOST)
		rc = xshimd_host_open(d);
	if (rc < 0)
		xshim_log(&d->journal.log, XSHIM_LOG_ERROR, "role=%s: cannot start: %s", xshimd_role_name(d->role),
			  strerror(-rc));
	return rc;
}

void xshimd_xen_close(struct xshimd *d)
{
	if (d->guest)
		xshimd_guest_close(d->guest);
	if (d->host)
		xshimd_host_close(d->host);
}

bool xshimd_xen_is_busy(const struct xshimd *d)
{
	return (d->guest && d->guest->sync.running) || (d->host && d->host->sync.running);
}

void xshimd_xen_free(struct xshimd *d)
{
	if (d->guest) {
		xshimd_guest_job_end(&d->guest->job);
		xshimd_bells_free(&d->guest->bells);
		xshimd_store_close(&d->guest->job.store);
	}
	if (d->host)
		xshimd_store_close(&d->host->job.store);
	free(d->guest);
	free(d->host);
	d->guest = NULL;
	d->host = NULL;
}

uint64_t xshimd_xen_sweep(struct xshimd *d, uint64_t now_ms)
{
	if (d->guest)
		return xshimd_guest_sweep(d->guest, now_ms);
	return d->host ? xshimd_host_sweep(d->host, now_ms) : UINT64_MAX;
}

bool xshimd_xen_resume(struct xshimd_conn *c, const union xshim_msg *m, int bell)
{
	struct xshimd_verdict v;

	if (!c->d->guest)		/* a role without channels over xen; the shim comes from another one */
		return false;
	if (xshimd_verify_pair(bell, 0, "a bell", &v) != XSHIMD_OK) {
		xshimd_conn_verdict(c, m, &v);
		return false;
	}
	xshimd_channel_resume(c, m->h.id, m->resume.domid, bell);
	return true;
}

void xshimd_xen_left(struct xshimd_conn *c, uint32_t id)
{
	xshimd_channel_left(c->d, c, id);
}

void xshimd_xen_conn_gone(struct xshimd_conn *c)
{
	struct xshimd *d = c->d;

	xshimd_channels_conn_gone(d, c);
	if (d->guest)
		xshimd_drain_asker_gone(d->guest, c);
	if (d->host)
		xshimd_host_asker_gone(d->host, c);
}

void xshimd_xen_drain(struct xshimd_conn *c, const union xshim_msg *m)
{
	struct xshimd *d = c->d;
	union xshim_msg reply;

	if (c->cred.uid != 0 && c->cred.uid != geteuid()) {
		xshimd_conn_decline(c, m->h.id, XSHIM_R_POLICY);
		return;
	}
	if (d->host) {
		xshimd_host_drain(d->host, c, m);
		return;
	}
	if (!d->guest) {
		xshimd_conn_decline(c, m->h.id, XSHIM_R_NOT_CORESIDENT);
		return;
	}
	if (!m->drain.left) {
		if (xshimd_drain_begin(d->guest, m->drain.domid, c, m->h.id, NULL) < 0)
			xshimd_conn_decline(c, m->h.id, XSHIM_R_BUSY);
		return;
	}
	xshimd_drain_end(d->guest, m->drain.domid, false);
	xshim_msg_init(&reply, XSHIM_MSG_DRAINED, m->h.id);
	reply.drain.domid = m->drain.domid;
	xshimd_conn_send(c, &reply, NULL, 0);
}
