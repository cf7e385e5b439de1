/* SPDX-License-Identifier: MIT */
#include "xen_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "xen.h"
#include "xen_channels.h"
#include "xen_wire.h"
#include "xshimd.h"

#define RETRY_GAP_MS 100	/* between two attempts, whatever a peer does to its leaves */

struct xshimd_guest_peer *xshimd_guest_find(const struct xshimd_guest *g, uint32_t domid)
{
	struct xshimd_guest_peer *p;

	HASH_FIND(hh, g->peers, &domid, sizeof(domid), p);
	return p;
}

struct xshimd_guest_peer *xshimd_guest_at(const struct xshimd_guest *g, const struct xshim_endpoint *ep)
{
	struct xshimd_guest_peer *p, *tmp;

	HASH_ITER(hh, g->peers, p, tmp)
		if (xshimd_xen_addrs_have(&p->is.addrs, ep))
			return p;
	return NULL;
}

uint32_t xshimd_guest_peers_up(const struct xshimd_guest *g)
{
	struct xshimd_guest_peer *p, *tmp;
	uint32_t n = 0;

	HASH_ITER(hh, g->peers, p, tmp)
		n += p->link.state == XSHIMD_PEER_UP;
	return n;
}

/* ---- what a peer's connection asks of us (xen_peer.h) ---- */

static bool is_theirs(struct xshimd_peer *link, const struct xshim_endpoint *ep)
{
	const struct xshimd_guest_peer *p = link->owner;

	return xshimd_xen_addrs_have(&p->is.addrs, ep);
}

static bool is_ours(struct xshimd_peer *link, const struct xshim_endpoint *ep)
{
	const struct xshimd_guest_peer *p = link->owner;

	return p->g->has_self && xshimd_xen_addrs_have(&p->g->self.addrs, ep);
}

static void on_up(struct xshimd_peer *link)
{
	struct xshimd_guest_peer *p = link->owner;
	struct xshimd_guest_export *e, *tmp;

	p->failures = 0;
	p->said = NULL;
	xshim_log(&p->g->d->journal.log, XSHIM_LOG_INFO, "guest %u: connected to its xshimd", p->is.domid);
	/* Its programs may know nothing of it yet, where they sleep. */
	xshimd_channels_tell(p->g->d, XSHIM_MSG_NUDGE, p->is.domid, 0);
	HASH_ITER(hh, p->g->exports, e, tmp)
		if (e->announced && xshimd_peer_endpoint(link, &e->ep, true) < 0)
			return;
}

static int on_endpoint(struct xshimd_peer *link, const struct xshim_endpoint *ep, bool add)
{
	struct xshimd_guest_peer *p = link->owner;
	uint64_t hash = xshim_endpoint_hash(ep);

	if (add)
		return xshimd_publish_endpoint(&p->g->d->publish, hash);
	xshimd_withdraw_endpoint(&p->g->d->publish, hash);
	return 0;
}

static int on_offer(struct xshimd_peer *link, const struct xshimd_peer_offer *o, bool add)
{
	struct xshimd_guest_peer *p = link->owner;
	uint64_t hash = xshim_tuple_hash(&o->tuple);

	if (!add) {
		xshimd_withdraw_offer(&p->g->d->publish, hash);
		return 0;
	}
	if (xshimd_is_draining(p->g, p->is.domid))
		return -EBUSY;
	xshimd_timer_by(p->g->d, o->until_ms);
	return xshimd_publish_offer(&p->g->d->publish, hash);
}

static void on_gone(struct xshimd_peer *link, uint32_t number, bool ours)
{
	struct xshimd_guest_peer *p = link->owner;

	/* Nothing but a wake-up: the shim finds out by itself what has become of the other end. */
	xshimd_channels_ring(p->g->d, p->is.domid, number, ours);
}

static void drop_wire(struct xshimd_guest_peer *p)
{
	struct xshimd_guest *g = p->g;

	xshimd_watch_close(&p->watch);
	if (!p->wire)
		return;
	g->closing[g->closing_n++] = p->wire;
	p->wire = NULL;
	xshimd_sync_kick(&g->sync);
}

static void on_down(struct xshimd_peer *link, const char *why)
{
	struct xshimd_guest_peer *p = link->owner;
	struct xshimd *d = p->g->d;
	/* It is tried again and again; one of another version stays that. */
	enum xshim_log_level level = !why ? XSHIM_LOG_INFO : why == p->said ? XSHIM_LOG_DEBUG : XSHIM_LOG_WARN;

	p->failures++;
	if (p->failures > 16)
		p->failures = 16;
	p->retry_ms = uv_now(&d->loop) + xshimd_backoff_ms(p->failures);
	xshim_log(&d->journal.log, level, "guest %u: connection to its xshimd closed%s%s", p->is.domid, why ? ": " : "",
		  why ? why : "");
	if (why)
		p->said = why;
	drop_wire(p);
	xshimd_guest_decline_offers(p->g, p, XSHIM_R_DAEMON_LOST);
	xshimd_timer_by(d, p->retry_ms);
}

static const struct xshimd_peer_ops peer_ops = {
	.up = on_up, .is_theirs = is_theirs, .is_ours = is_ours, .endpoint = on_endpoint, .offer = on_offer,
	.answer = xshimd_guest_answer, .gone = on_gone, .heard = xshimd_guest_heard, .older = xshimd_guest_older, .clock_ns = uv_hrtime, .down = on_down,
};

static void on_event(void *owner, int events)
{
	struct xshimd_guest_peer *p = owner;
	struct xshimd *d = p->g->d;

	(void)events;
	xshimd_wire_take_event(p->wire);
	if (xshimd_peer_event(&p->link, uv_now(&d->loop)) && p->link.more)
		xshimd_timer_by(d, uv_now(&d->loop));
	xshimd_timer_by(d, p->link.deadline_ms);
	xshimd_timer_by(d, p->link.ping_due_ms);
	xshimd_settle(d);
}

static void take_opened(struct xshimd_guest *g, struct xshimd_guest_open *o)
{
	struct xshimd_guest_peer *p = xshimd_guest_find(g, o->domid);
	uint64_t now = uv_now(&g->d->loop);
	int rc = o->rc;

	if (rc == 0 && p) {
		p->wire = o->wire;
		rc = xshimd_watch_open(&p->watch, &g->d->loop, xshimd_wire_fd(p->wire), UV_READABLE, on_event, p);
		if (rc == 0)
			rc = xshimd_peer_attach(&p->link, &xshimd_wire_carrier, p->wire, g->instance, p->is.instance, now);
		if (rc == 0) {
			xshimd_timer_by(g->d, p->link.deadline_ms);
			(void)xshimd_peer_event(&p->link, now);
			return;
		}
		drop_wire(p);
	} else if (rc == 0) {
		g->closing[g->closing_n++] = o->wire;
		xshimd_sync_kick(&g->sync);
		return;
	}
	if (!p)
		return;
	if (rc == -EINVAL && o->why)
		xshim_log(&g->d->journal.log, XSHIM_LOG_WARN, "guest %u: leaves of its connection: %s; tried again", o->domid,
			  o->why);
	else if (rc != -EAGAIN)
		xshim_log(&g->d->journal.log, XSHIM_LOG_DEBUG, "guest %u: cannot connect: %s; tried again", o->domid,
			  strerror(-rc));
	p->failures += p->failures < 16;
	p->retry_ms = now + xshimd_backoff_ms(p->failures);
	xshimd_timer_by(g->d, p->retry_ms);
}

/* ---- endpoints of ours ---- */

static void announce(struct xshimd_guest *g, struct xshimd_guest_export *e, bool now)
{
	struct xshimd_guest_peer *p, *tmp;

	if (e->announced == now)
		return;
	e->announced = now;
	HASH_ITER(hh, g->peers, p, tmp)
		(void)xshimd_peer_endpoint(&p->link, &e->ep, now);
}

bool xshimd_xen_export(struct xshimd *d, const struct xshim_endpoint *ep, uint64_t netns)
{
	struct xshimd_guest *g = d->guest;
	struct xshimd_guest_export *e;
	uint32_t left_out;

	if (!g || netns != g->netns || xshim_endpoint_is_loopback(ep))
		return false;
	HASH_FIND(hh, g->exports, ep, sizeof(*ep), e);
	if (e) {
		e->refs++;
		return true;
	}
	if (HASH_COUNT(g->exports) >= XSHIMD_GUEST_EXPORTS) {
		if (xshimd_journal_due(&d->journal, "exports", 0, uv_now(&d->loop), &left_out))
			xshim_log(&d->journal.log, XSHIM_LOG_WARN, "endpoints=%d: other guests are told of no more",
				  XSHIMD_GUEST_EXPORTS);
		return false;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return false;
	e->ep = *ep;
	e->refs = 1;
	HASH_ADD(hh, g->exports, ep, sizeof(e->ep), e);
	if (!XSHIMD_ADDED(hh, e)) {
		free(e);
		return false;
	}
	announce(g, e, g->has_self && xshimd_xen_addrs_have(&g->self.addrs, ep));
	return true;
}

void xshimd_xen_unexport(struct xshimd *d, const struct xshim_endpoint *ep)
{
	struct xshimd_guest *g = d->guest;
	struct xshimd_guest_export *e = NULL;

	if (g)
		HASH_FIND(hh, g->exports, ep, sizeof(*ep), e);
	if (!e || --e->refs)
		return;
	announce(g, e, false);
	HASH_DEL(g->exports, e);
	free(e);
}

/* ---- the host's list ---- */

static void map_addrs(struct xshimd_guest *g, const struct xshimd_guest_peer *p, bool add)
{
	struct xshim_map *m = g->d->publish.map;

	for (uint32_t i = 0; i < p->is.addrs.n; i++) {
		if (!add)
			xshim_map_guest_del(m, &p->is.addrs.a[i]);
		else if (xshim_map_guest_add(m, &p->is.addrs.a[i], p->is.domid) < 0)
			xshim_log(&g->d->journal.log, XSHIM_LOG_WARN, "guest %u: no room in the map for all its addresses",
				  p->is.domid);
	}
}

enum why_forgotten {
	WE_CLOSE,
	GONE,			/* its domain, as seen from here */
	MOVED,			/* ours: what was mapped is not there any more */
};

static void forget_peer(struct xshimd_guest_peer *p, enum why_forgotten why)
{
	bool gone = why != WE_CLOSE;
	struct xshimd_guest *g = p->g;

	if (why == MOVED && p->wire)
		xshimd_wire_abandon(p->wire);
	if (gone)
		xshimd_guest_decline_offers(g, p, XSHIM_R_PEER_MOVED);
	xshimd_peer_detach(&p->link, NULL);
	drop_wire(p);
	map_addrs(g, p, false);
	if (gone) {
		xshim_log(&g->d->journal.log, XSHIM_LOG_INFO, "guest %u: gone, with %u connections on rings", p->is.domid,
			  xshimd_channels_count(g->d, p->is.domid));
		xshimd_channels_tell(g->d, XSHIM_MSG_FORSAKE, p->is.domid, XSHIM_R_PEER_MOVED);
		xshimd_drain_over(g, p->is.domid);
	}
	HASH_DEL(g->peers, p);
	free(p);
}

static const struct xshimd_xen_guest *in_list(const struct xshimd_guest_job *j, uint32_t domid)
{
	for (uint32_t i = 0; i < j->list_n; i++)
		if (j->list[i].domid == domid)
			return &j->list[i];
	return NULL;
}

static void meet(struct xshimd_guest *g, const struct xshimd_xen_guest *is)
{
	struct xshimd_guest_peer *p = calloc(1, sizeof(*p));

	if (!p)
		return;
	p->g = g;
	p->is = *is;
	HASH_ADD(hh, g->peers, is.domid, sizeof(p->is.domid), p);
	if (!XSHIMD_ADDED(hh, p)) {
		free(p);
		return;
	}
	xshimd_peer_init(&p->link, &peer_ops, p, g->d->opt.offer_timeout);
	map_addrs(g, p, true);
	xshimd_sync_kick(&g->sync);
}

static void change(struct xshimd_guest_peer *p, const struct xshimd_xen_guest *is)
{
	if (p->is.instance != is->instance) {
		/* Another xshimd in the same domain: connections go on, what it told is void. */
		p->failures = 0;
		p->said = NULL;
		p->retry_ms = 0;
		p->is.instance = is->instance;
		if (p->link.state != XSHIMD_PEER_CLOSED) {
			xshimd_peer_detach(&p->link, NULL);
			p->retry_ms = 0;
		}
		xshimd_sync_kick(&p->g->sync);
	}
	p->is.by_vif = is->by_vif;
	if (!xshimd_xen_addrs_equal(&p->is.addrs, &is->addrs)) {
		p->is.addrs = is->addrs;
		map_addrs(p->g, p, true);
		xshimd_peer_recheck(&p->link);
	}
}

/* Under xen_trust=vif an address that is only claimed is nobody's. */
static void apply_trust(struct xshimd_guest *g)
{
	struct xshimd_guest_job *j = &g->job;

	for (uint32_t i = 0; i < j->list_n; i++)
		if (!j->list[i].by_vif && g->d->opt.xen_trust == XSHIMD_TRUST_VIF)
			j->list[i].addrs.n = 0;
}

/* Channels that were resumed with a domain that went while there was no xshimd here. */
static void forsake_strangers(struct xshimd_guest *g)
{
	struct xshimd_channel *ch, *tmp;

	DL_FOREACH_SAFE(g->d->channels.list, ch, tmp)
		if (!ch->forsaken && !xshimd_guest_find(g, ch->domid))
			xshimd_channels_tell(g->d, XSHIM_MSG_FORSAKE, ch->domid, XSHIM_R_PEER_MOVED);
}

void xshimd_guest_resumed(struct xshimd_guest *g, uint32_t domid)
{
	if (g->has_list)
		forsake_strangers(g);
	if (xshimd_is_draining(g, domid))
		xshimd_channels_tell(g->d, XSHIM_MSG_LEAVE, domid, XSHIM_R_DRAIN);
}

static void take_list(struct xshimd_guest *g)
{
	struct xshimd_guest_job *j = &g->job;
	struct xshimd_guest_peer *p, *ptmp;
	struct xshimd_guest_export *e, *etmp;

	apply_trust(g);
	HASH_ITER(hh, g->peers, p, ptmp) {
		const struct xshimd_xen_guest *is = in_list(j, p->is.domid);

		if (!is || is->life != p->is.life)
			forget_peer(p, GONE);
		else if (!xshimd_xen_addrs_equal(&p->is.addrs, &is->addrs))
			map_addrs(g, p, false);	/* all of these before any is given to another */
	}
	for (uint32_t i = 0; i < j->list_n; i++) {
		p = xshimd_guest_find(g, j->list[i].domid);
		if (p)
			change(p, &j->list[i]);
		else
			meet(g, &j->list[i]);
	}
	g->has_list = true;
	forsake_strangers(g);
	if (g->has_self == j->has_self && (!j->has_self || xshimd_xen_addrs_equal(&g->self.addrs, &j->self.addrs))) {
		g->self = j->self;
		return;
	}
	g->has_self = j->has_self;
	g->self = j->self;
	HASH_ITER(hh, g->exports, e, etmp)
		announce(g, e, g->has_self && xshimd_xen_addrs_have(&g->self.addrs, &e->ep));
	HASH_ITER(hh, g->peers, p, ptmp)
		xshimd_peer_recheck(&p->link);
	xshimd_sync_kick(&g->sync);
}

static void new_instance(struct xshimd_guest *g)
{
	do {
		if (getrandom(&g->instance, sizeof(g->instance), 0) != sizeof(g->instance))
			g->instance = g->d->publish.map->instance ^ uv_hrtime();
	} while (!g->instance);
}

/* Saved and restored, or moved: what we had mapped is not there any more, and nobody else is where he was. */
static void on_moved(struct xshimd_guest *g)
{
	struct xshimd_guest_peer *p, *tmp;

	xshim_log(&g->d->journal.log, XSHIM_LOG_INFO, "this guest was restored or moved; it is domain %u now", g->job.domid);
	xshimd_guest_keep_offers(g);
	HASH_ITER(hh, g->peers, p, tmp)
		forget_peer(p, MOVED);
	/* Channels with a domain that is not in the list. */
	forsake_strangers(g);
	xshimd_channels_strand(g->d);
	xshimd_bells_keep(&g->bells);
	xshimd_drain_over(g, XSHIM_DOMID_ALL);
	g->has_self = g->has_list = false;
	new_instance(g);
	xshimd_sync_kick(&g->sync);
}

static void on_store(void *owner, int events)
{
	struct xshimd_guest *g = owner;
	char path[XSHIMD_STORE_PATH];
	struct xshimd_guest_peer *p, *tmp;
	uint64_t now = uv_now(&g->d->loop);
	unsigned int domid;

	(void)events;
	for (int i = 0; i < 256 && xshimd_store_fired(g->job.store, path); i++) {
		if (!strstr(path, "/peer/") || sscanf(path, "/local/domain/%u/", &domid) != 1)
			continue;
		/* The other one has put up its half. */
		HASH_ITER(hh, g->peers, p, tmp)
			if (p->is.domid == domid && p->link.state == XSHIMD_PEER_CLOSED)
				p->retry_ms = p->tried_ms + RETRY_GAP_MS > now ? p->tried_ms + RETRY_GAP_MS : now;
		xshimd_timer_by(g->d, now + RETRY_GAP_MS);
	}
	xshimd_sync_kick(&g->sync);
}

static void on_done(void *owner, int rc)
{
	struct xshimd_guest *g = owner;
	struct xshimd_guest_job *j = &g->job;
	struct xshimd *d = g->d;

	if (g->sync.stopped)
		return;
	if (rc < 0) {
		xshimd_watch_close(&g->store_watch);
	} else if (j->moved || (g->has_self && j->has_self && g->self.life != j->self.life)) {
		on_moved(g);
	} else {
		xshimd_bells_answered(&g->bells, uv_now(&d->loop));
		if (g->bells.n)
			xshimd_timer_by(d, g->bells.due_ms);
		/* A list that has gone says nothing of the guests: those we know stay. */
		if (j->has_list)
			take_list(g);
		if (!j->has_list && !g->told_absent)
			xshim_log(&d->journal.log, XSHIM_LOG_INFO, "domain %u: no xshimd in dom0 has answered yet "
				  "(/local/domain/%u/xshim is not there)", j->domid, j->domid);
		g->told_absent = !j->has_list;
		xshimd_drain_host(g, &j->drain);
	}
	for (uint32_t i = 0; i < j->open_n; i++)
		take_opened(g, &j->open[i]);
	j->open_n = 0;
	for (uint32_t i = 0; rc == 0 && i < j->ended_n; i++)
		xshimd_drain_closed(g, j->ended[i]);
	if (!g->store_watch && j->store && !j->reopen && xshimd_store_fd(j->store) >= 0 &&
	    xshimd_watch_open(&g->store_watch, &d->loop, xshimd_store_fd(j->store), UV_READABLE, on_store, g) == 0)
		on_store(g, 0);
	xshimd_settle(d);
}

/* ---- life ---- */

void xshimd_guest_channel_gone(struct xshimd_guest *g, const struct xshimd_channel *ch)
{
	struct xshimd_guest_peer *p = xshimd_guest_find(g, ch->domid);

	if (p && ch->number)
		(void)xshimd_peer_gone(&p->link, ch->number, ch->ours);
	xshimd_timer_by(g->d, uv_now(&g->d->loop));	/* a drain may wait for it */
}

uint64_t xshimd_guest_sweep(struct xshimd_guest *g, uint64_t now_ms)
{
	struct xshimd_guest_peer *p, *tmp;
	uint64_t next = xshimd_drains_check(g, now_ms), t;
	bool due = false;

	HASH_ITER(hh, g->peers, p, tmp) {
		t = xshimd_peer_sweep(&p->link, now_ms);
		if (p->link.state == XSHIMD_PEER_CLOSED && !p->wire && !xshimd_is_draining(g, p->is.domid)) {
			due |= p->retry_ms <= now_ms && p->tried_ms < p->retry_ms;
			t = p->retry_ms > now_ms ? p->retry_ms : UINT64_MAX;
		}
		if (t < next)
			next = t;
	}
	if (g->bells.n && !g->sync.running) {
		due |= g->bells.due_ms <= now_ms || !xshimd_has_room(g->d);
		if (!due && g->bells.due_ms < next)
			next = g->bells.due_ms;
	}
	if (due)
		xshimd_sync_kick(&g->sync);
	return next;
}

static void on_addresses(void *owner, int events)
{
	struct xshimd_guest *g = owner;

	(void)events;
	xshimd_addrs_drain(g->link_fd);
	xshimd_sync_kick(&g->sync);
}

int xshimd_guest_open(struct xshimd *d)
{
	struct xshimd_guest *g = calloc(1, sizeof(*g));
	socklen_t len = sizeof(g->netns);
	int fd, rc = 0;

	if (!g)
		return -ENOMEM;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &g->netns, &len) < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc < 0) {
		free(g);
		return rc;
	}
	g->d = d;
	d->guest = g;
	new_instance(g);
	g->link_fd = xshimd_addrs_watch();
	if (g->link_fd >= 0)
		xshimd_watch_open(&g->link_watch, &d->loop, g->link_fd, UV_READABLE, on_addresses, g);
	g->sync = (struct xshimd_sync){ .owner = g, .prepare = xshimd_guest_job_prepare, .work = xshimd_guest_job_work,
		.done = on_done };
	xshimd_sync_open(&g->sync, &d->loop);
	xshimd_raise_gntalloc(d);
	xshimd_sync_kick(&g->sync);
	return 0;
}

void xshimd_guest_close(struct xshimd_guest *g)
{
	struct xshimd_guest_export *e, *tmp;

	/* Nothing is taken back in xenstore: a xshimd that comes after us finds rings that go on, and so do the others. */
	xshimd_sync_close(&g->sync);
	while (g->peers)
		forget_peer(g->peers, WE_CLOSE);
	while (!g->sync.running && g->closing_n)
		xshimd_wire_close(g->closing[--g->closing_n]);
	xshimd_watch_close(&g->store_watch);
	xshimd_watch_close(&g->link_watch);
	if (g->link_fd >= 0)
		close(g->link_fd);
	HASH_ITER(hh, g->exports, e, tmp) {
		HASH_DEL(g->exports, e);
		free(e);
	}
}
