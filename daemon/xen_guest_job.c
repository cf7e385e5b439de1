/* SPDX-License-Identifier: MIT */
/*
 * xen_guest_job.c - all that waits in role guest, in one job: read what the host says, write what we say, open and close the
 * connections to peers. It works on g->job alone.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "xen_guest.h"
#include "xen_wire.h"
#include "xshimd.h"

#define GENERATIONS 4	/* times the list may change while it is read */

__attribute__((format(printf, 4, 5)))
static void note(struct xshimd_guest_job *j, enum xshim_log_level level, const char *cause, const char *fmt, ...)
{
	struct timespec ts;
	char text[256];
	uint32_t left_out;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	if (!xshimd_journal_due(&j->journal, cause, 0, 60000 + (uint64_t)ts.tv_sec * 1000, &left_out))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	xshim_log(&j->journal.log, level, "xenstore: %s", text);
}

void xshimd_guest_job_prepare(void *owner)
{
	struct xshimd_guest *g = owner;
	struct xshimd_guest_job *j = &g->job;
	uint64_t now = uv_now(&g->d->loop);
	struct xshimd_guest_peer *p, *tmp;
	struct xshimd_xen_addrs own;

	j->journal.log = g->d->journal.log;
	xshimd_bells_ask(&g->bells);
	if (j->reopen)
		xshimd_watch_close(&g->store_watch);
	j->instance = g->instance;
	xshimd_own_addrs(&own, true);
	if (xshimd_xen_addrs_format(j->addr, sizeof(j->addr), ' ', &own) < 0)
		j->addr[0] = '\0';
	memcpy(j->close, g->closing, g->closing_n * sizeof(g->closing[0]));
	j->close_n = g->closing_n;
	g->closing_n = 0;
	j->open_n = j->ended_n = j->waits_n = 0;
	HASH_ITER(hh, g->peers, p, tmp) {
		if (p->link.state != XSHIMD_PEER_CLOSED || p->wire || !g->has_self || xshimd_is_draining(g, p->is.domid))
			continue;
		j->waits[j->waits_n++] = p->is.domid;
		if (p->retry_ms > now)
			continue;
		p->tried_ms = now;
		j->open[j->open_n++] = (struct xshimd_guest_open){ .domid = p->is.domid };
	}
	for (uint32_t i = 0; i < XSHIMD_DRAINS; i++) {
		const struct xshimd_drain *dr = &g->drains.d[i];

		if (!dr->active || dr->state != XSHIMD_DRAIN_CLOSING)
			continue;
		j->ended[j->ended_n++] = i;
		if (dr->by_host)
			snprintf(j->answer, sizeof(j->answer), "done %u %u", dr->number, dr->left);
	}
}

static int start_store(struct xshimd_guest_job *j)
{
	int rc;

	if (j->reopen)
		xshimd_store_close(&j->store);
	j->reopen = false;
	if (j->store)
		return 0;
	j->instance_out = 0;
	j->watched_n = 0;
	rc = xshimd_store_open(&j->store);
	if (rc < 0)
		return rc;
	rc = xshimd_store_watch(j->store, "domid");
	return rc < 0 ? rc : xshimd_store_watch(j->store, "xshim");
}

/* 1: it is another one than before. */
static int read_domid(struct xshimd_guest_job *j)
{
	struct xshimd_store_value v;
	const char *why;
	uint64_t n;
	int rc;

	rc = xshimd_store_read(j->store, &v, "domid");
	if (rc == 0)
		rc = xshimd_xen_number(v.text, v.len, XSHIMD_XEN_DOMID_MAX, &n, &why);
	if (rc < 0)
		return rc;
	if (j->has_domid && j->domid == n)
		return 0;
	rc = j->has_domid;
	j->has_domid = true;
	j->domid = (uint32_t)n;
	/* What we wrote stayed with the old number. */
	j->instance_out = 0;
	j->watched_n = 0;
	return rc;
}

static int say(struct xshimd_guest_job *j)
{
	char text[24];
	int rc = 0;

	if (j->instance_out != j->instance) {
		j->addr_out[0] = '\1';	/* differs from any */
		j->answer_out[0] = '\0';
		snprintf(text, sizeof(text), "%016llx", (unsigned long long)j->instance);
		rc = xshimd_store_write(j->store, j->domid, XSHIMD_STORE_ALL, text, "data/xshim/instance");
	}
	if (rc == 0 && strcmp(j->addr_out, j->addr)) {
		rc = xshimd_store_write(j->store, j->domid, XSHIMD_STORE_OWN, j->addr, "data/xshim/addr");
		strcpy(j->addr_out, j->addr);
	}
	if (rc == 0 && strcmp(j->answer_out, j->answer)) {
		rc = xshimd_store_write(j->store, j->domid, XSHIMD_STORE_OWN, j->answer, "data/xshim/drain");
		strcpy(j->answer_out, j->answer);
	}
	/* Last: it is what the host looks for. */
	if (rc == 0 && j->instance_out != j->instance)
		rc = xshimd_store_write(j->store, j->domid, XSHIMD_STORE_OWN, XSHIMD_XEN_VERSION, "data/xshim/version");
	j->instance_out = rc == 0 ? j->instance : 0;
	return rc;
}

/* 0, also for a value that is refused (ok false), or -errno of the store. */
static int read_guest(struct xshimd_guest_job *j, const char *path, bool self, uint32_t domid, struct xshimd_xen_guest *out,
		      bool *ok)
{
	struct xshimd_store_value v;
	const char *why = "longer than 1024 bytes";
	int rc;

	*ok = false;
	rc = xshimd_store_read(j->store, &v, "%s", path);
	if (rc == -ENOENT || rc == -EACCES)
		return 0;
	if (rc < 0 && rc != -E2BIG)
		return rc;
	if (rc < 0 || xshimd_xen_guest_parse(v.text, v.len, self, out, &why) < 0)
		note(j, XSHIM_LOG_WARN, path, "%s: %s; passed over", path, why);
	else if (out->domid != domid)
		note(j, XSHIM_LOG_WARN, path, "%s: domid=%u: not the one that is due; passed over", path, out->domid);
	else
		*ok = true;
	return 0;
}

static int read_list(struct xshimd_guest_job *j)
{
	uint32_t numbers[XSHIMD_GUEST_PEERS + 1];
	struct xshimd_store_value v;
	const char *why;
	char path[64];
	int n, rc;
	bool ok;

	j->list_n = 0;
	rc = read_guest(j, "xshim/self", true, j->domid, &j->self, &j->has_self);
	if (rc < 0)
		return rc;
	n = xshimd_store_numbers(j->store, numbers, XSHIMD_GUEST_PEERS + 1, "xshim/guest");
	if (n < 0)
		n = n == -ENOENT || n == -EACCES ? 0 : n;
	if (n < 0)
		return n;
	if (n > XSHIMD_GUEST_PEERS) {
		note(j, XSHIM_LOG_WARN, "peers", "guests=%d: more than the %d that are reached", n, XSHIMD_GUEST_PEERS);
		n = XSHIMD_GUEST_PEERS;
	}
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "xshim/guest/%u", numbers[i]);
		rc = read_guest(j, path, false, numbers[i], &j->list[j->list_n], &ok);
		if (rc < 0)
			return rc;
		/* Our own programs reach each other by shared memory. */
		if (ok && numbers[i] != j->domid)
			j->list_n++;
	}
	memset(&j->drain, 0, sizeof(j->drain));
	rc = xshimd_store_read(j->store, &v, "xshim/drain");
	if (rc == 0 && xshimd_xen_drain_parse(v.text, v.len, &j->drain, &why) < 0)
		note(j, XSHIM_LOG_WARN, "drain", "xshim/drain: %s; passed over", why);
	return rc == -ENOENT || rc == -EACCES || rc == -E2BIG ? 0 : rc;
}

/* The host writes in transactions, but we read in several steps: the generation tells whether they belong together. */
static int read_host(struct xshimd_guest_job *j)
{
	struct xshimd_store_value before, after;
	int rc;

	for (int i = 0; i < GENERATIONS; i++) {
		rc = xshimd_store_read(j->store, &before, "xshim/generation");
		if (rc == -ENOENT || rc == -EACCES) {
			j->has_list = j->has_self = false;
			j->list_n = 0;
			memset(&j->drain, 0, sizeof(j->drain));
			return 0;
		}
		if (rc == 0)
			rc = read_list(j);
		if (rc == 0)
			rc = xshimd_store_read(j->store, &after, "xshim/generation");
		if (rc < 0)
			return rc;
		if (before.len == after.len && !memcmp(before.text, after.text, before.len)) {
			j->has_list = true;
			return 0;
		}
	}
	return -EAGAIN;
}

static bool is_watched(const struct xshimd_guest_job *j, uint32_t domid)
{
	for (uint32_t i = 0; i < j->watched_n; i++)
		if (j->watched[i] == domid)
			return true;
	return false;
}

static bool is_listed(const struct xshimd_guest_job *j, uint32_t domid)
{
	for (uint32_t i = 0; i < j->list_n; i++)
		if (j->list[i].domid == domid)
			return true;
	return false;
}

/* The half of a connection that is that one's to make (xen_wire.h). */
static const char *its_leaf(const struct xshimd_guest_job *j, uint32_t domid)
{
	return domid < j->domid ? "offer" : "claim";
}

static void unwatch_old(struct xshimd_guest_job *j)
{
	for (uint32_t i = 0; i < j->watched_n;) {
		uint32_t domid = j->watched[i];

		if (is_listed(j, domid)) {
			i++;
			continue;
		}
		xshimd_store_unwatch(j->store, "/local/domain/%u/data/xshim/instance", domid);
		xshimd_store_unwatch(j->store, "/local/domain/%u/data/xshim/peer/%u/%s", domid, j->domid, its_leaf(j, domid));
		j->watched[i] = j->watched[--j->watched_n];
	}
}

/* Watch each guest's leaf /then/ read it; one that cannot be read is of a domain that has gone, whatever the list says. */
static int look_at_leaves(struct xshimd_guest_job *j)
{
	struct xshimd_store_value v;
	int rc = 0;

	unwatch_old(j);
	for (uint32_t i = 0; i < j->list_n;) {
		uint32_t domid = j->list[i].domid;

		if (!is_watched(j, domid)) {
			rc = xshimd_store_watch(j->store, "/local/domain/%u/data/xshim/instance", domid);
			if (rc == 0)
				rc = xshimd_store_watch(j->store, "/local/domain/%u/data/xshim/peer/%u/%s", domid, j->domid,
							its_leaf(j, domid));
			if (rc == -E2BIG)
				note(j, XSHIM_LOG_WARN, "watches", "watches: no more to be had; guest %u goes unnoticed", domid);
			else if (rc < 0)
				return rc;
			j->watched[j->watched_n++] = domid;
		}
		rc = xshimd_store_read(j->store, &v, "/local/domain/%u/data/xshim/instance", domid);
		if (rc == -ENOENT || rc == -EACCES) {
			j->list[i] = j->list[--j->list_n];
			continue;
		}
		if (rc < 0 && rc != -E2BIG)
			return rc;
		i++;
	}
	return 0;
}

static bool is_waited_for(const struct xshimd_guest_job *j, uint32_t domid)
{
	for (uint32_t i = 0; i < j->waits_n; i++)
		if (j->waits[i] == domid)
			return true;
	return false;
}

/* Offers to guests that have gone, or with which nothing is to be begun now. moved: all. */
static void drop_halves(struct xshimd_guest_job *j, bool moved)
{
	for (uint32_t i = 0; i < j->half_n;) {
		if (!moved && is_waited_for(j, j->half[i].domid)) {
			i++;
			continue;
		}
		if (moved)
			xshimd_wire_abandon(j->half[i].wire);
		xshimd_wire_close(j->half[i].wire);
		j->half[i] = j->half[--j->half_n];
	}
}

/* The one for that domain, or room for it; NULL: none is left. */
static struct xshimd_guest_half *half_for(struct xshimd_guest_job *j, uint32_t domid)
{
	uint32_t i;

	for (i = 0; i < j->half_n && j->half[i].domid != domid; i++)
		;
	if (i == j->half_n) {
		if (i == XSHIMD_GUEST_PEERS)
			return NULL;
		j->half[j->half_n++] = (struct xshimd_guest_half){ .domid = domid };
	}
	return &j->half[i];
}

static void open_links(struct xshimd_guest_job *j)
{
	for (uint32_t i = 0; i < j->open_n; i++) {
		struct xshimd_guest_open *o = &j->open[i];
		struct xshimd_guest_half *h = half_for(j, o->domid);

		o->rc = h && is_listed(j, o->domid) ?
			xshimd_wire_open(&o->wire, &h->wire, j->store, j->domid, o->domid, &o->why) : -ENOENT;
		if (h && !h->wire)
			*h = j->half[--j->half_n];
	}
}

static void close_links(struct xshimd_guest_job *j)
{
	while (j->close_n) {
		struct xshimd_wire *w = j->close[--j->close_n];

		if (j->moved)
			xshimd_wire_abandon(w);
		xshimd_wire_close(w);
	}
}

void xshimd_guest_job_end(struct xshimd_guest_job *j)
{
	j->waits_n = 0;
	drop_halves(j, false);
}

int xshimd_guest_job_work(void *owner)
{
	struct xshimd_guest *g = owner;
	struct xshimd_guest_job *j = &g->job;
	int rc;

	j->moved = false;
	rc = start_store(j);
	if (rc == 0)
		rc = read_domid(j);
	/* Where we are /then/ close: after a move that is done otherwise. */
	j->moved = rc > 0;
	close_links(j);
	drop_halves(j, j->moved);
	if (j->moved)
		return 0;
	if (rc == 0)
		rc = say(j);
	if (rc == 0)
		rc = read_host(j);
	if (rc == 0)
		rc = look_at_leaves(j);
	if (rc == 0)
		open_links(j);
	if (rc < 0) {
		for (uint32_t i = 0; i < j->open_n; i++)
			j->open[i].rc = rc;
		note(j, XSHIM_LOG_WARN, "failed", "%s; tried again", strerror(-rc));
		j->reopen = rc != -EAGAIN && rc != -ENOSPC && rc != -EACCES;
	}
	return rc;
}
