/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xshim/proto.h>

#include "role.h"
#include "xen_guest.h"
#include "xen_host.h"
#include "xshimd.h"

static const char *const counter_names[XSHIMD_COUNTERS] = {
	[XSHIMD_RING_TX] = "ring_tx", [XSHIMD_RING_RX] = "ring_rx",
	[XSHIMD_TCP_TX] = "tcp_tx", [XSHIMD_TCP_RX] = "tcp_rx",
	[XSHIMD_ATTACHES] = "attaches", [XSHIMD_LEAVES] = "leaves",
	[XSHIMD_SWITCHES] = "switches", [XSHIMD_BELLS_RUNG] = "bells_rung",
	[XSHIMD_BELLS_GOT] = "bells_got", [XSHIMD_SLEEPS] = "sleeps",
};

struct entry {				/* a row with what is needed to find its mirror */
	struct xshimd_row row;
	uid_t uid;
	struct entry *same;		/* next with the same tuple */
	UT_hash_handle hh;		/* by tuple */
};

struct gather {
	const struct xshimd *d;
	struct entry *list, *by_tuple;
	size_t n, room;
	uid_t uid;
	bool failed;
};

/* JSON has signed 64-bit integers here; an arena can hold any number. */
static json_t *number(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static void put(json_t *o, const char *name, json_t *value)
{
	json_object_set_new(o, name, value);
}

/* A program may call itself anything: what is not plain ASCII becomes '?'. */
static json_t *plain(const char *s)
{
	char buf[32];
	size_t i;

	for (i = 0; s[i] && i < sizeof(buf) - 1; i++)
		buf[i] = s[i] >= 0x20 && s[i] < 0x7f ? s[i] : '?';
	buf[i] = '\0';
	return json_string(buf);
}

static json_t *address(const struct xshim_endpoint *ep)
{
	char buf[XSHIM_ENDPOINT_STRLEN];

	return json_string(xshim_endpoint_format(ep, buf));
}

static void gather_row(const struct xshimd_row *row, void *arg)
{
	struct gather *g = arg;
	struct entry *e;

	if (!row->named || g->n >= XSHIMD_REPORT_ROWS || g->failed)
		return;
	if (g->n == g->room) {
		size_t room = g->room ? 2 * g->room : 64;

		e = realloc(g->list, room * sizeof(*e));
		if (!e) {
			g->failed = true;
			return;
		}
		g->list = e;
		g->room = room;
	}
	e = &g->list[g->n++];
	memset(e, 0, sizeof(*e));
	e->row = *row;
	e->uid = g->uid;
}

/* After the list has stopped moving. */
static void index_rows(struct gather *g)
{
	for (size_t i = 0; i < g->n; i++) {
		struct entry *e = &g->list[i], *first;

		/* What is between the fields came from the client, so it is not part of the key as it stands. */
		memset(e->row.tuple.local.pad, 0, sizeof(e->row.tuple.local.pad));
		memset(e->row.tuple.remote.pad, 0, sizeof(e->row.tuple.remote.pad));
		HASH_FIND(hh, g->by_tuple, &e->row.tuple, sizeof(e->row.tuple), first);
		if (first) {
			e->same = first->same;
			first->same = e;
		} else {
			HASH_ADD(hh, g->by_tuple, row.tuple, sizeof(e->row.tuple), e);
			g->failed |= !XSHIMD_ADDED(hh, e);
		}
	}
}

/* The other end: in the same namespace, else one elsewhere if there is just one. */
static const struct entry *find_peer(const struct gather *g, const struct entry *e)
{
	struct xshim_tuple mirror = xshim_tuple_mirror(&e->row.tuple);
	const struct entry *elsewhere = NULL;
	struct entry *p;
	unsigned int n = 0;

	HASH_FIND(hh, g->by_tuple, &mirror, sizeof(mirror), p);
	/* Bounded: a user may fill an arena with one tuple, and each row of it would walk all the others. */
	for (unsigned int steps = 0; p && steps < 64; p = p->same, steps++) {
		if (p == e)
			continue;
		if (p->row.netns == e->row.netns)
			return p;
		elsewhere = p;
		n++;
	}
	return n == 1 ? elsewhere : NULL;
}

/* What the ring is made of: the shims decide by the same addresses. NULL: it is not on one. */
static const char *backend_of(const struct xshimd *d, const struct xshimd_row *row)
{
	if (row->transport == XSHIM_TRANSPORT_TCP)
		return NULL;
	return d->guest && row->netns == d->guest->netns && xshimd_guest_at(d->guest, &row->tuple.remote) ? "xen" : "shm";
}

static json_t *row_json(const struct gather *g, const struct entry *e)
{
	static const char *const roles[] = { "unknown", "connect", "accept" };
	static const char *const transports[] = { "tcp", "switching", "ring" };
	const struct entry *peer = find_peer(g, e);
	const char *backend = backend_of(g->d, &e->row);
	json_t *o = json_object();

	put(o, "netns", number(e->row.netns));
	put(o, "local", address(&e->row.tuple.local));
	put(o, "remote", address(&e->row.tuple.remote));
	put(o, "pid", number(e->row.pid));
	put(o, "uid", number(e->uid));
	put(o, "command", plain(e->row.comm));
	put(o, "role", json_string(roles[e->row.role < 3 ? e->row.role : 0]));
	put(o, "transport", json_string(transports[e->row.transport < 3 ? e->row.transport : 0]));
	put(o, "backend", backend ? json_string(backend) : json_null());
	put(o, "reason", json_string(xshim_reason_name(e->row.reason)));
	put(o, "peer_reason", peer ? json_string(xshim_reason_name(peer->row.reason)) : json_null());
	for (int i = 0; i < XSHIMD_COUNTERS; i++)
		put(o, counter_names[i], number(e->row.n[i]));
	return o;
}

static json_t *connections(struct xshimd *d, uid_t uid)
{
	struct xshimd_arena *a, *tmp;
	struct gather g = { .d = d };
	json_t *rows;

	HASH_ITER(hh, d->arenas.live, a, tmp) {
		g.uid = a->uid;
		xshimd_arena_each(a, gather_row, &g);
	}
	index_rows(&g);
	rows = g.failed ? NULL : json_array();
	for (size_t i = 0; rows && i < g.n; i++) {
		if ((uid == 0 || g.list[i].uid == uid) && json_array_append_new(rows, row_json(&g, &g.list[i])) < 0) {
			json_decref(rows);
			rows = NULL;
		}
	}
	HASH_CLEAR(hh, g.by_tuple);
	free(g.list);
	return rows;
}

static json_t *reasons_json(const struct xshimd_figures *f)
{
	json_t *all = json_object();

	for (uint32_t i = 0; i < XSHIM_REASON_SLOTS; i++) {
		const char *name = xshim_reason_name(i);
		json_t *o = json_object_get(all, name);
		uint64_t open = f->open_by[i], ended = f->ended_by[i];

		if (!open && !ended)
			continue;
		if (o) {	/* several numbers that have no name yet */
			open += (uint64_t)json_integer_value(json_object_get(o, "open"));
			ended += (uint64_t)json_integer_value(json_object_get(o, "ended"));
		}
		o = json_object();
		put(o, "open", number(open));
		put(o, "ended", number(ended));
		put(all, name, o);
	}
	return all;
}

static json_t *daemon_json(const struct xshimd *d)
{
	const struct xshimd_stats *s = &d->stats;
	json_t *o = json_object(), *declined = json_object();

	for (uint32_t i = 0; i < XSHIM_R_COUNT; i++)
		if (s->declined[i])
			put(declined, xshim_reason_name(i), number(s->declined[i]));
	put(o, "offers", number(s->offers));
	put(o, "claims", number(s->claims));
	put(o, "matched", number(s->matched));
	put(o, "declined", declined);
	put(o, "probes_ok", number(s->probes_ok));
	put(o, "probes_failed", number(s->probes_failed));
	put(o, "bad_messages", number(s->bad_messages));
	put(o, "offers_waiting", number(d->registry.offers_n));
	put(o, "endpoints", number(d->registry.endpoints_n));
	put(o, "clients_total", number(s->clients));
	put(o, "arenas", number(d->arenas.lives));
	return o;
}

static json_t *xen_json(const struct xshimd *d)
{
	json_t *o = json_object();

	if (d->guest) {
		if (d->guest->has_self)
			put(o, "domid", number(d->guest->self.domid));
		put(o, "guests", number(HASH_COUNT(d->guest->peers)));
		put(o, "peers", number(xshimd_guest_peers_up(d->guest)));
		put(o, "offers", number(xshimd_guest_offers_made(d->guest)));
	} else {
		put(o, "guests", number(d->host->guests));
	}
	put(o, "channels", number(d->channels.n));
	put(o, "channels_total", number(d->channels.total));
	return o;
}

static void totals(struct xshimd *d, json_t *top)
{
	struct xshimd_figures f = d->arenas.past;
	json_t *conns = json_object(), *bytes = json_object(), *counters = json_object();
	struct xshimd_arena *a, *tmp;

	HASH_ITER(hh, d->arenas.live, a, tmp)
		xshimd_arena_count(a, &f);
	put(top, "uptime_s", number((uv_now(&d->loop) - d->started_ms) / 1000));
	put(top, "clients", number(d->conns_n));
	put(conns, "open", number(f.open));
	put(conns, "on_ring", number(f.on_ring));
	put(conns, "ended", number(f.ended));
	put(conns, "ended_on_ring", number(f.ended_on_ring));
	put(top, "connections", conns);
	for (int i = 0; i < XSHIMD_COUNTERS; i++)
		put(i <= XSHIMD_TCP_RX ? bytes : counters, counter_names[i], number(f.n[i]));
	put(top, "bytes", bytes);
	put(top, "counters", counters);
	put(top, "reasons", reasons_json(&f));
	put(top, "daemon", daemon_json(d));
	put(top, "role", json_string(xshimd_role_name(d->role)));
	if (d->guest || d->host)
		put(top, "xen", xen_json(d));
}

static int sealed(const char *text, size_t len)
{
	int fd = memfd_create("xshim-report", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd < 0)
		return -errno;
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0) {
			rc = -errno;
			goto fail;
		}
		text += n;
		len -= (size_t)n;
	}
	lseek(fd, 0, SEEK_SET);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	rc = -errno;
fail:
	close(fd);
	return rc;
}

int xshimd_report_make(struct xshimd *d, uid_t uid, uint32_t what)
{
	json_t *top = json_object();
	char instance[17];
	char *text;
	int rc = -ENOMEM;

	snprintf(instance, sizeof(instance), "%016llx", (unsigned long long)d->publish.map->instance);
	put(top, "version", json_integer(1));
	put(top, "instance", json_string(instance));
	if (what == XSHIM_REPORT_CONNECTIONS) {
		json_t *rows = connections(d, uid);

		if (!rows)
			goto out;
		put(top, "connections", rows);
	} else {
		totals(d, top);
	}
	text = json_dumps(top, JSON_COMPACT);
	if (text)
		rc = sealed(text, strlen(text));
	free(text);
out:
	json_decref(top);
	return rc;
}
