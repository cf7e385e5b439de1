/* SPDX-License-Identifier: MIT */
#include "probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>
#include <xshim/proto.h>

#include "bounded.h"
#include "verify.h"
#include "xshimd.h"

#define STRANGERS 8	/* connections that are not ours taken off the listener in one go */

static bool is_running(const struct xshimd_probe *p)
{
	return p->state == XSHIMD_PROBE_WANT || p->state == XSHIMD_PROBE_RUN;
}

static void let_go(struct xshimd_probe *p)
{
	if (p->offer)
		p->offer->probes--;
	if (p->claim)
		p->claim->probes--;
	p->offer = p->claim = NULL;
}

/* Everything but the answer. */
static void clean(struct xshimd_probe *p)
{
	struct xshimd_probes *all = &p->d->probes;
	int *fds[] = { &p->connector, &p->listener, &p->accepted };

	let_go(p);
	xshimd_watch_close(&p->w_connector);
	xshimd_watch_close(&p->w_listener);
	xshimd_watch_close(&p->w_accepted);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			xshimd_bounded_close(*fds[i]);
		*fds[i] = -1;
	}
	DL_DELETE(all->running, p);
	all->running_n--;
}

static void discard(struct xshimd_probe *p)
{
	struct xshimd *d = p->d;

	if (is_running(p)) {
		clean(p);
		d->rematch = true;
	}
	HASH_DEL(d->probes.table, p);
	free(p);
}

static void finish(struct xshimd_probe *p, bool proven)
{
	struct xshimd *d = p->d;
	uint32_t keep_s = proven ? d->opt.probe_cache : d->opt.probe_retry;

	clean(p);
	p->state = proven ? XSHIMD_PROBE_PROVEN : XSHIMD_PROBE_REFUTED;
	/* Not less than it takes for the claims that wait to see it. */
	p->until_ms = uv_now(&d->loop) + 1000ull * keep_s + 1;
	if (proven)
		d->stats.probes_ok++;
	else
		d->stats.probes_failed++;
	d->rematch = true;
}

/* Both nonces have to arrive, each at the other end. */
static bool receive(int fd, const uint8_t *want, bool *got)
{
	uint8_t buf[XSHIMD_PROBE_NONCE + 1];
	ssize_t n;

	if (*got)
		return true;
	/* Peeked until it is whole: a part of it may come first. */
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0 || n > XSHIMD_PROBE_NONCE || memcmp(buf, want, (size_t)n))
		return false;
	*got = n == XSHIMD_PROBE_NONCE;
	return true;
}

/* Names as TCP gives them to a connection of exactly these two sockets. */
static bool names_agree(const struct xshimd_probe *p)
{
	struct xshim_tuple ours, theirs, mirror;

	if (xshim_tuple_from_socket(&ours, p->connector) < 0 || xshim_tuple_from_socket(&theirs, p->accepted) < 0)
		return false;
	mirror = xshim_tuple_mirror(&theirs);
	return xshim_tuple_equal(&ours, &mirror) && xshim_endpoint_equal(&ours.local, &p->from) &&
	       xshim_endpoint_equal(&ours.remote, &p->to);
}

static bool exchange(struct xshimd_probe *p)
{
	if (!names_agree(p))
		return false;
	return send(p->connector, p->there, sizeof(p->there), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(p->there) &&
	       send(p->accepted, p->back, sizeof(p->back), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(p->back);
}

static void on_accepted(void *owner, int events);

/* The connection is complete when connect is done and its other end has been accepted. */
static bool step_connected(struct xshimd_probe *p)
{
	if (!p->connected || p->accepted < 0)
		return true;
	if (!exchange(p))
		return false;
	xshimd_watch_close(&p->w_connector);
	return xshimd_watch_open(&p->w_accepted, &p->d->loop, p->accepted, UV_READABLE, on_accepted, p) == 0 &&
	       xshimd_watch_open(&p->w_connector, &p->d->loop, p->connector, UV_READABLE, on_accepted, p) == 0;
}

static void on_accepted(void *owner, int events)
{
	struct xshimd_probe *p = owner;
	struct xshimd *d = p->d;

	if (!events || !receive(p->accepted, p->there, &p->got_there) ||
	    !receive(p->connector, p->back, &p->got_back))
		finish(p, false);
	else if (p->got_there && p->got_back)
		finish(p, names_agree(p));
	xshimd_settle(d);
}

static void on_connector(void *owner, int events)
{
	struct xshimd_probe *p = owner;
	struct xshimd *d = p->d;
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(p->connector, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err || !events) {
		finish(p, false);
	} else {
		p->connected = true;
		xshimd_watch_close(&p->w_connector);
		if (!step_connected(p))
			finish(p, false);
	}
	xshimd_settle(d);
}

/* True if the accepted socket is the connector's other end, by its name. */
static bool is_ours(const struct xshimd_probe *p, int fd)
{
	struct xshim_tuple t;

	return xshim_tuple_from_socket(&t, fd) == 0 && xshim_endpoint_equal(&t.remote, &p->from) &&
	       xshim_endpoint_equal(&t.local, &p->to);
}

static void on_listener(void *owner, int events)
{
	const struct linger reset = { 1, 0 };
	struct xshimd_probe *p = owner;
	struct xshimd *d = p->d;
	int fd = -1;

	for (int i = 0; events && i < STRANGERS; i++) {
		fd = xshimd_bounded_accept(p->listener);
		if (fd < 0 || is_ours(p, fd))
			break;
		close(fd);
		fd = -EAGAIN;
	}
	if (fd >= 0) {
		/* Leaves no TIME_WAIT behind in somebody's namespace. */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		p->accepted = fd;
		xshimd_watch_close(&p->w_listener);
		if (!step_connected(p))
			finish(p, false);
	} else if (!events || (fd != -EAGAIN && fd != -ECONNABORTED && fd != -EPROTO)) {
		finish(p, false);
	}
	xshimd_settle(d);
}

/* Both sockets are here and checked. */
static int start(struct xshimd_probe *p)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(int);
	int family = AF_INET6, rc;

	if (getrandom(p->there, sizeof(p->there), 0) != sizeof(p->there) ||
	    getrandom(p->back, sizeof(p->back), 0) != sizeof(p->back))
		return -EIO;
	if (getsockopt(p->connector, SOL_SOCKET, SO_DOMAIN, &family, &len) < 0)
		return -errno;
	len = xshim_endpoint_to_sockaddr(&p->to, family, &ss);
	if (!len)
		return -EAFNOSUPPORT;
	/* A link-local address goes by the interface that the connector was bound with. */
	if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)&ss)->sin6_addr)) {
		struct sockaddr_in6 self;
		socklen_t self_len = sizeof(self);

		if (getsockname(p->connector, (struct sockaddr *)&self, &self_len) < 0)
			return -errno;
		((struct sockaddr_in6 *)&ss)->sin6_scope_id = self.sin6_scope_id;
	}
	rc = xshimd_bounded_connect(p->connector, (struct sockaddr *)&ss, len);
	if (rc < 0 && rc != -EINPROGRESS)
		return rc;
	p->state = XSHIMD_PROBE_RUN;
	rc = xshimd_watch_open(&p->w_connector, &p->d->loop, p->connector, UV_WRITABLE, on_connector, p);
	if (rc < 0)
		return rc;
	return xshimd_watch_open(&p->w_listener, &p->d->loop, p->listener, UV_READABLE, on_listener, p);
}

/* Take the socket that w has supplied. False: it was no good; w has been declined and is gone, the probe too. */
static bool take(struct xshimd_probe *p, struct xshimd_wait *w, int *fd, struct xshim_endpoint *bound)
{
	struct xshimd_conn *c = w->conn;
	struct xshimd *d = p->d;
	struct xshimd_verdict v;

	if (xshimd_verify_probe(w->probe, c->cred.uid, w->is_claim, w->tcp.netns, &w->tcp.tuple.local, bound, &v) !=
	    XSHIMD_OK) {
		xshimd_conn_note(c, XSHIM_LOG_WARN, v.cause, "%s; declined (netns)", v.text);
		/* Nothing is remembered: it says nothing about honest ends of the same namespaces. */
		xshimd_wait_decline(d, w, XSHIM_R_NETNS);
		if (v.answer == XSHIMD_BAD) {
			d->stats.bad_messages++;
			xshimd_conn_drop(c);
		}
		return false;
	}
	if (xshimd_verify_owner(w->probe) == 0)
		p->strange = true;
	*fd = w->probe;
	w->probe = -1;
	w->probe_asked = false;
	return true;
}

static void ask(struct xshimd_wait *w)
{
	union xshim_msg m;

	if (w->probe >= 0 || w->probe_asked)
		return;
	w->probe_asked = true;
	xshim_msg_init(&m, XSHIM_MSG_PROBE_WANTED, w->id);
	xshimd_conn_send(w->conn, &m, NULL, 0);
}

/* A socket serves only once: ask again for the other probes that count on this end. */
static void ask_again(struct xshimd_wait *w)
{
	if (w->probes)
		ask(w);
}

/* WANT with both sockets here. The probe may be gone afterwards, and one of its ends. */
static void run(struct xshimd_probe *p)
{
	struct xshimd_wait *offer = p->offer, *claim = p->claim;

	if (!take(p, offer, &p->connector, &p->from) || !take(p, claim, &p->listener, &p->to))
		return;
	let_go(p);
	if (start(p) < 0)
		finish(p, false);
	ask_again(offer);
	ask_again(claim);
}

void xshimd_probe_forget(struct xshimd *d, struct xshimd_wait *w)
{
	struct xshimd_probe *p, *tmp;

	if (!w->probes)
		return;
	DL_FOREACH_SAFE(d->probes.running, p, tmp)
		if (p->offer == w || p->claim == w)
			discard(p);
}

static void make_key(struct xshimd_probe_key *key, const struct xshimd_wait *offer, const struct xshimd_wait *claim)
{
	memset(key, 0, sizeof(*key));
	key->offer_netns = offer->tcp.netns;
	key->claim_netns = claim->tcp.netns;
	memcpy(key->offer_addr, offer->tcp.tuple.local.addr, sizeof(key->offer_addr));
	memcpy(key->claim_addr, claim->tcp.tuple.local.addr, sizeof(key->claim_addr));
}

/* uthash keeps the order of insertion, so the first that is not running is the oldest answer. */
static void make_room(struct xshimd *d)
{
	struct xshimd_probe *p, *tmp;

	if (HASH_COUNT(d->probes.table) < XSHIMD_PROBES_KEPT + d->probes.running_n)
		return;
	HASH_ITER(hh, d->probes.table, p, tmp) {
		if (!is_running(p)) {
			discard(p);
			return;
		}
	}
}

static struct xshimd_probe *create(struct xshimd *d, const struct xshimd_probe_key *key, struct xshimd_wait *offer,
				   struct xshimd_wait *claim)
{
	struct xshimd_probe *p;

	make_room(d);
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->key = *key;
	p->d = d;
	p->state = XSHIMD_PROBE_WANT;
	p->connector = p->listener = p->accepted = -1;
	p->until_ms = uv_now(&d->loop) + 1000ull * d->opt.probe_timeout;
	p->offer = offer;
	p->claim = claim;
	HASH_ADD(hh, d->probes.table, key, sizeof(p->key), p);
	if (!XSHIMD_ADDED(hh, p)) {
		free(p);
		return NULL;
	}
	offer->probes++;
	claim->probes++;
	DL_APPEND(d->probes.running, p);
	d->probes.running_n++;
	xshimd_timer_by(d, p->until_ms);
	return p;
}

static enum xshimd_reach answer(const struct xshimd *d, const struct xshimd_probe *p,
				const struct xshimd_wait *offer, const struct xshimd_wait *claim)
{
	if (p->state != XSHIMD_PROBE_PROVEN)
		return XSHIMD_REACH_NO;
	if (p->strange && d->opt.cross_netns == XSHIMD_CROSS_OWNED && offer->conn->cred.uid != claim->conn->cred.uid)
		return XSHIMD_REACH_NO;
	return XSHIMD_REACH_YES;
}

enum xshimd_reach xshimd_probe_reach(struct xshimd *d, struct xshimd_wait *offer, struct xshimd_wait *claim)
{
	struct xshimd_probe_key key;
	struct xshimd_probe *p;

	if (d->opt.cross_netns == XSHIMD_CROSS_OFF || xshim_endpoint_is_loopback(&offer->tcp.tuple.local) ||
	    xshim_endpoint_is_loopback(&claim->tcp.tuple.local))
		return XSHIMD_REACH_NO;
	make_key(&key, offer, claim);
	HASH_FIND(hh, d->probes.table, &key, sizeof(key), p);
	if (p && is_running(p))
		return XSHIMD_REACH_PENDING;
	if (p && p->until_ms > uv_now(&d->loop))
		return answer(d, p, offer, claim);
	if (p)
		discard(p);
	if (!xshimd_has_room(d))
		return XSHIMD_REACH_NO;
	p = create(d, &key, offer, claim);
	if (!p)
		return XSHIMD_REACH_NO;
	ask(offer);
	ask(claim);
	/* Sockets that came with the OFFER and the CLAIM: start at a time when nobody walks the lists. */
	if (offer->probe >= 0 && claim->probe >= 0)
		d->probes.ready = true;
	return XSHIMD_REACH_PENDING;
}

void xshimd_probes_start(struct xshimd *d)
{
	struct xshimd_probe *p;

again:
	d->probes.ready = false;
	DL_FOREACH(d->probes.running, p) {
		if (p->state == XSHIMD_PROBE_WANT && p->offer->probe >= 0 && p->claim->probe >= 0) {
			run(p);
			goto again;
		}
	}
}

uint64_t xshimd_probes_sweep(struct xshimd *d, uint64_t now_ms)
{
	struct xshimd_probe *p, *tmp;
	uint64_t next = UINT64_MAX;

	DL_FOREACH_SAFE(d->probes.running, p, tmp) {
		if (p->until_ms > now_ms) {
			if (p->until_ms < next)
				next = p->until_ms;
		} else if (p->state == XSHIMD_PROBE_RUN) {
			finish(p, false);
		} else {
			/*
			 * An end that has not supplied its socket, perhaps as it is busy, says nothing about the way
			 * between the two: nothing is remembered.
			 */
			d->stats.probes_failed++;
			discard(p);
		}
	}
	return next;
}

void xshimd_probes_close(struct xshimd *d)
{
	struct xshimd_probe *p, *tmp;

	HASH_ITER(hh, d->probes.table, p, tmp)
		discard(p);
}
