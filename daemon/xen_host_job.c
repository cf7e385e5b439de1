/* SPDX-License-Identifier: MIT */
/*
 * xen_host_job.c - all that waits in role host: read of all domains, decide, write what has changed. Works on h->job alone.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <xshim/proto.h>

#include "xen_host.h"

#define VIFS 16

__attribute__((format(printf, 5, 6)))
static void note(struct xshimd_host_job *j, enum xshim_log_level level, const char *cause, uint32_t domid, const char *fmt, ...)
{
	struct timespec ts;
	char text[256];
	uint32_t left_out;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	if (!xshimd_journal_due(&j->journal, cause, domid, 60000 + (uint64_t)ts.tv_sec * 1000, &left_out))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	xshim_log(&j->journal.log, level, "guest %u: %s", domid, text);
}

static int start_store(struct xshimd_host_job *j)
{
	int rc;

	if (j->reopen)
		xshimd_store_close(&j->store);
	j->reopen = false;
	if (j->store)
		return 0;
	j->watched_n = j->told_n = 0;
	rc = xshimd_store_open(&j->store);
	if (rc == 0)
		rc = xshimd_store_watch(j->store, "@introduceDomain");
	if (rc == 0)
		rc = xshimd_store_watch(j->store, "@releaseDomain");
	if (rc == 0)
		rc = xshimd_store_watch(j->store, "/local/domain/0/backend/vif");
	return rc;
}

/* A node that is not there, or that may not be read, is an empty one. */
static int absent(int rc)
{
	return rc == -ENOENT || rc == -EACCES ? 0 : rc;
}

static int read_vifs(struct xshimd_host_job *j, struct xshimd_xen_domain *d, bool bad_before)
{
	struct xshimd_store_value v;
	struct xshimd_xen_addrs one;
	uint32_t numbers[VIFS];
	const char *why;
	int n, rc;

	n = xshimd_store_numbers(j->store, numbers, VIFS, "/local/domain/0/backend/vif/%u", d->domid);
	if (n < 0)
		return absent(n);
	for (int i = 0; i < n; i++) {
		rc = xshimd_store_read(j->store, &v, "/local/domain/0/backend/vif/%u/%u/ip", d->domid, numbers[i]);
		if (rc < 0 && rc != -E2BIG) {
			if (absent(rc) < 0)
				return rc;
			continue;
		}
		if (!v.len && rc == 0)
			continue;
		/* Something stands there, so it is the host's word; what of it cannot be read gives the guest nothing. */
		d->has_vif = true;
		why = "longer than 1024 bytes";
		if (rc == -E2BIG || xshimd_xen_addrs_parse(v.text, v.len, ' ', true, &one, &why) < 0) {
			d->bad = true;
			if (!bad_before)
				note(j, XSHIM_LOG_WARN, "vif", d->domid, "ip= of network interface %u: %s; none of its "
				     "addresses is taken", numbers[i], why);
			continue;
		}
		for (uint32_t k = 0; k < one.n && d->vif.n < XSHIMD_XEN_ADDRS; k++)
			if (!xshimd_xen_addrs_have(&d->vif, &one.a[k]))
				d->vif.a[d->vif.n++] = one.a[k];
	}
	return 0;
}

/* What the guest says of itself, which may be anything. */
static int read_claims(struct xshimd_host_job *j, struct xshimd_xen_domain *d, bool bad_before)
{
	struct xshimd_store_value v;
	const char *field = "version", *why = "not 1";
	int rc;

	rc = xshimd_store_read(j->store, &v, "/local/domain/%u/data/xshim/version", d->domid);
	if (rc == -ENOENT || rc == -EACCES)
		return 0;
	if (rc < 0 && rc != -E2BIG)
		return rc;
	if (rc < 0 || v.len != strlen(XSHIMD_XEN_VERSION) || memcmp(v.text, XSHIMD_XEN_VERSION, v.len))
		goto bad;
	field = "instance";
	why = "longer than 1024 bytes";
	rc = xshimd_store_read(j->store, &v, "/local/domain/%u/data/xshim/instance", d->domid);
	if (rc == -ENOENT)
		return 0;	/* it is on its way in or out */
	if (rc == -EPIPE)
		return rc;
	if (rc < 0 || xshimd_xen_hex(v.text, v.len, &d->instance, &why) < 0)
		goto bad;
	field = "addr";
	why = "longer than 1024 bytes";
	rc = xshimd_store_read(j->store, &v, "/local/domain/%u/data/xshim/addr", d->domid);
	if (rc == -ENOENT)
		return 0;
	if (rc == -EPIPE)
		return rc;
	if (rc < 0 || xshimd_xen_addrs_parse(v.text, v.len, ' ', false, &d->claimed, &why) < 0)
		goto bad;
	d->takes_part = true;
	return 0;
bad:
	d->bad = true;
	if (!bad_before)
		note(j, XSHIM_LOG_WARN, field, d->domid, "data/xshim/%s: %s; the guest is left out", field, why);
	return 0;
}

static int read_life(struct xshimd_host_job *j, struct xshimd_xen_domain *d)
{
	struct xshimd_store_value v;
	const char *why;
	int rc;

	rc = xshimd_store_read(j->store, &v, "/local/domain/%u/xshim/life", d->domid);
	if (rc == 0 && xshimd_xen_hex(v.text, v.len, &d->life, &why) == 0)
		return 0;
	if (rc < 0 && rc != -E2BIG && absent(rc) < 0)
		return rc;
	while (!d->life)
		if (getrandom(&d->life, sizeof(d->life), 0) != sizeof(d->life))
			return -errno;
	return 0;
}

static bool is_watched(const struct xshimd_host_job *j, uint32_t domid)
{
	for (uint32_t i = 0; i < j->watched_n; i++)
		if (j->watched[i] == domid)
			return true;
	return false;
}

static void unwatch_old(struct xshimd_host_job *j)
{
	for (uint32_t i = 0; i < j->watched_n;) {
		if (xshimd_xen_list_find(&j->now, j->watched[i])) {
			i++;
			continue;
		}
		xshimd_store_unwatch(j->store, "/local/domain/%u/data/xshim", j->watched[i]);
		j->watched[i] = j->watched[--j->watched_n];
	}
}

static int read_domain(struct xshimd_host_job *j, uint32_t domid)
{
	const struct xshimd_xen_domain *old = xshimd_xen_list_find(&j->before, domid);
	struct xshimd_xen_domain *d = &j->now.d[j->now.n];
	int rc = 0;

	memset(d, 0, sizeof(*d));
	d->domid = domid;
	/* Watch /then/ read. */
	if (!is_watched(j, domid)) {
		rc = xshimd_store_watch(j->store, "/local/domain/%u/data/xshim", domid);
		if (rc < 0)
			return rc;
		j->watched[j->watched_n++] = domid;
	}
	rc = read_claims(j, d, old && old->bad);
	if (rc == 0)
		rc = read_vifs(j, d, old && old->bad);
	if (rc == 0 && d->takes_part)
		rc = read_life(j, d);
	if (rc == 0)
		j->now.n++;
	return rc;
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int read_domains(struct xshimd_host_job *j)
{
	uint32_t numbers[XSHIMD_XEN_DOMAINS + 1], room = XSHIMD_XEN_DOMAINS + 1;
	int n, rc;

	j->before = j->now;
	j->now.n = 0;
	n = xshimd_store_numbers(j->store, numbers, room, "/local/domain");
	if (n < 0)
		return n;
	qsort(numbers, (size_t)n, sizeof(numbers[0]), compare_numbers);
	for (int i = 0; i < n; i++) {
		if (!numbers[i] || !xshimd_store_is_domain(j->store, numbers[i]))
			continue;
		if (j->now.n == XSHIMD_XEN_DOMAINS || j->watched_n == XSHIMD_XEN_DOMAINS) {
			note(j, XSHIM_LOG_WARN, "domains", numbers[i], "more than %d domains; left out", XSHIMD_XEN_DOMAINS);
			break;
		}
		rc = read_domain(j, numbers[i]);
		if (rc < 0)
			return rc;
	}
	unwatch_old(j);
	return 0;
}

static void on_refused(void *arg, const struct xshimd_xen_domain *d, const struct xshim_endpoint *ep, const char *why)
{
	struct xshimd_host_job *j = arg;
	const struct xshimd_xen_domain *old = xshimd_xen_list_find(&j->before, d->domid);
	struct xshimd_xen_addrs one = { .n = 1, .a = { *ep } };
	char text[64] = "";

	/* Said once, not each time that something is looked at. */
	if (old && old->life == d->life && xshimd_xen_addrs_have(&old->claimed, ep) && !xshimd_xen_addrs_have(&old->taken, ep))
		return;
	xshimd_xen_addrs_format(text, sizeof(text), ' ', &one);
	xshim_log(&j->journal.log, XSHIM_LOG_WARN, "guest %u: address %s refused: %s", d->domid, text, why);
}

/* ---- telling a guest ---- */

static uint64_t mix(uint64_t print, const char *text)
{
	for (; *text; text++)
		print = (print ^ (uint8_t)*text) * 0x100000001b3u;
	return print * 0x100000001b3u;
}

static struct xshimd_host_told *told_of(struct xshimd_host_job *j, const struct xshimd_xen_domain *d)
{
	for (uint32_t i = 0; i < j->told_n; i++) {
		if (j->told[i].domid != d->domid)
			continue;
		if (j->told[i].life != d->life)
			j->told[i] = (struct xshimd_host_told){ .domid = d->domid, .life = d->life };
		return &j->told[i];
	}
	for (uint32_t i = 0; i < j->told_n; i++) {
		if (!xshimd_xen_list_find(&j->now, j->told[i].domid)) {
			j->told[i] = (struct xshimd_host_told){ .domid = d->domid, .life = d->life };
			return &j->told[i];
		}
	}
	j->told[j->told_n] = (struct xshimd_host_told){ .domid = d->domid, .life = d->life };
	return &j->told[j->told_n++];
}

static void drain_text(const struct xshimd_host_job *j, const struct xshimd_xen_domain *d, char text[64])
{
	text[0] = '\0';
	if (!j->drain)
		return;
	if (j->drain_domid == XSHIM_DOMID_ALL || j->drain_domid == d->domid)
		snprintf(text, 64, "request %u all", j->drain_number);
	else
		snprintf(text, 64, "request %u %u", j->drain_number, j->drain_domid);
}

static bool is_replaced(const struct xshimd_host_job *j, const struct xshimd_xen_domain *d)
{
	const struct xshimd_xen_domain *old = xshimd_xen_list_find(&j->before, d->domid);

	return old && old->takes_part && old->life != d->life;
}

static int write_all(struct xshimd_host_job *j, const struct xshimd_xen_domain *to, bool without_replaced)
{
	char text[XSHIMD_XEN_VALUE_MAX + 1];
	struct xshimd_store_value v;
	struct xshimd_xen_guest e;
	uint64_t generation = 0;
	const char *why;
	int rc;

	/* Part of the transaction: if the domain goes meanwhile, nothing is written. */
	rc = xshimd_store_read(j->store, &v, "/local/domain/%u/domid", to->domid);
	if (rc < 0)
		return rc;
	if (xshimd_store_read(j->store, &v, "/local/domain/%u/xshim/generation", to->domid) == 0 &&
	    xshimd_xen_number(v.text, v.len, UINT64_MAX / 2, &generation, &why) < 0)
		generation = 0;
	rc = xshimd_store_write(j->store, 0, to->domid, "", "/local/domain/%u/xshim", to->domid);
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)to->life);
	if (rc == 0)
		rc = xshimd_store_write(j->store, 0, to->domid, text, "/local/domain/%u/xshim/life", to->domid);
	xshimd_xen_list_entry(to, &e);
	if (rc == 0)
		rc = xshimd_xen_guest_format(text, sizeof(text), true, &e) < 0 ? -E2BIG : 0;
	if (rc == 0)
		rc = xshimd_store_write(j->store, 0, to->domid, text, "/local/domain/%u/xshim/self", to->domid);
	if (rc == 0)
		rc = xshimd_store_remove(j->store, "/local/domain/%u/xshim/guest", to->domid);
	if (rc == 0)
		rc = xshimd_store_write(j->store, 0, to->domid, "", "/local/domain/%u/xshim/guest", to->domid);
	for (uint32_t i = 0; rc == 0 && i < j->now.n; i++) {
		const struct xshimd_xen_domain *o = &j->now.d[i];

		if (o == to || !o->takes_part || (without_replaced && is_replaced(j, o)))
			continue;
		xshimd_xen_list_entry(o, &e);
		if (xshimd_xen_guest_format(text, sizeof(text), false, &e) < 0)
			continue;
		rc = xshimd_store_write(j->store, 0, to->domid, text, "/local/domain/%u/xshim/guest/%u", to->domid, o->domid);
	}
	drain_text(j, to, text);
	if (rc == 0)
		rc = xshimd_store_write(j->store, 0, to->domid, text, "/local/domain/%u/xshim/drain", to->domid);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)generation + 1);
	if (rc == 0)
		rc = xshimd_store_write(j->store, 0, to->domid, text, "/local/domain/%u/xshim/generation", to->domid);
	return rc;
}

static uint64_t fingerprint(const struct xshimd_host_job *j, const struct xshimd_xen_domain *to, bool without_replaced)
{
	char text[XSHIMD_XEN_VALUE_MAX + 1];
	uint64_t print = 0xcbf29ce484222325u;
	struct xshimd_xen_guest e;

	for (uint32_t i = 0; i < j->now.n; i++) {
		const struct xshimd_xen_domain *o = &j->now.d[i];

		if (!o->takes_part || (o != to && without_replaced && is_replaced(j, o)))
			continue;
		xshimd_xen_list_entry(o, &e);
		if (xshimd_xen_guest_format(text, sizeof(text), o == to, &e) > 0)
			print = mix(print, text);
	}
	drain_text(j, to, text);
	print = mix(print, text);
	return print ? print : 1;
}

static int tell(struct xshimd_host_job *j, const struct xshimd_xen_domain *to, bool without_replaced)
{
	struct xshimd_host_told *told = told_of(j, to);
	uint64_t print = fingerprint(j, to, without_replaced);
	int rc = -EAGAIN;

	if (told->print == print)
		return 0;
	for (int i = 0; i < XSHIMD_STORE_TRIES && rc == -EAGAIN; i++) {
		rc = xshimd_store_begin(j->store);
		if (rc < 0)
			return rc;
		rc = write_all(j, to, without_replaced);
		if (rc == 0)
			rc = xshimd_store_commit(j->store);
		else
			xshimd_store_abandon(j->store);
	}
	if (rc == -ENOENT)
		return 0;	/* it has gone; the watch for that is on its way */
	if (rc == 0)
		told->print = print;
	else if (rc != -EPIPE)
		note(j, XSHIM_LOG_WARN, "tell", to->domid, "its list cannot be written: %s; tried again", strerror(-rc));
	return rc;
}

static int tell_all(struct xshimd_host_job *j, bool without_replaced)
{
	int rc, first = 0;

	for (uint32_t i = 0; i < j->now.n; i++) {
		if (!j->now.d[i].takes_part)
			continue;
		rc = tell(j, &j->now.d[i], without_replaced);
		if (rc == -EPIPE)
			return rc;
		if (rc < 0 && !first)
			first = rc;	/* one guest that fails does not keep the others waiting */
	}
	return first;
}

static int read_answers(struct xshimd_host_job *j)
{
	struct xshimd_store_value v;
	uint32_t number, left;
	const char *why;
	int rc;

	j->guests = j->silent = j->left = 0;
	j->drained_is_there = j->drain_domid == XSHIM_DOMID_ALL || xshimd_xen_list_find(&j->now, j->drain_domid);
	for (uint32_t i = 0; i < j->now.n; i++) {
		if (!j->now.d[i].takes_part)
			continue;
		j->guests++;
		if (!j->drain)
			continue;
		rc = xshimd_store_read(j->store, &v, "/local/domain/%u/data/xshim/drain", j->now.d[i].domid);
		if (rc == -EPIPE)
			return rc;
		if (rc < 0 || xshimd_xen_answer_parse(v.text, v.len, &number, &left, &why) < 0 || number != j->drain_number)
			j->silent++;
		else if (left > UINT32_MAX - j->left)
			j->left = UINT32_MAX;
		else
			j->left += left;
	}
	return 0;
}

int xshimd_host_job_work(void *owner)
{
	struct xshimd_host *h = owner;
	struct xshimd_host_job *j = &h->job;
	bool replaced = false;
	int rc;

	rc = start_store(j);
	if (rc == 0) {
		rc = read_domains(j);
		if (rc < 0)
			j->now = j->before;	/* what was known before it failed half way */
	}
	if (rc < 0)
		goto fail;
	xshimd_xen_list_decide(&j->now, &j->before, j->own, XSHIMD_HOST_OWN, j->vif_only, on_refused, j);
	for (uint32_t i = 0; i < j->now.n; i++)
		replaced |= j->now.d[i].takes_part && is_replaced(j, &j->now.d[i]);
	if (replaced)
		rc = tell_all(j, true);
	if (rc == 0)
		rc = tell_all(j, false);
	if (rc == 0)
		rc = read_answers(j);
	if (rc == 0)
		return 0;
fail:
	if (rc == -EPIPE || j->watched_n == 0)
		j->reopen = true;
	note(j, XSHIM_LOG_WARN, "failed", 0, "xenstore: %s; tried again", strerror(-rc));
	return rc;
}
