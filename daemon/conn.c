/* SPDX-License-Identifier: MIT */
#include "conn.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>
#include <xshim/backend.h>

#include "bounded.h"
#include "match.h"
#include "report.h"
#include "xen.h"
#include "xshimd.h"

#define BURST 16	/* messages of one client before the others have their turn */

void xshimd_conn_note(struct xshimd_conn *c, enum xshim_log_level level, const char *cause, const char *fmt, ...)
{
	struct xshimd_journal *j = &c->d->journal;
	char text[320], more[48] = "";
	uint32_t left_out;
	va_list ap;

	if (level > j->log.level || !xshimd_journal_due(j, cause, c->cred.uid, uv_now(&c->d->loop), &left_out))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (left_out)
		snprintf(more, sizeof(more), " (and %u more like it)", left_out);
	xshim_log(&j->log, level, "uid %u pid %d: %s%s", c->cred.uid, c->cred.pid, text, more);
}

static const char *state_name(const struct xshimd_conn *c)
{
	return c->state == XSHIMD_CONN_NEW ? "new" : "greeted";
}

__attribute__((format(printf, 3, 4)))
static void bad(struct xshimd_conn *c, const char *cause, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	xshimd_conn_note(c, XSHIM_LOG_WARN, cause, "%s; connection closed", text);
	c->d->stats.bad_messages++;
	xshimd_conn_drop(c);
}

void xshimd_conn_verdict(struct xshimd_conn *c, const union xshim_msg *m, const struct xshimd_verdict *v)
{
	if (v->answer == XSHIMD_BAD)
		bad(c, v->cause, "%s: %s", xshim_msg_name(m->h.type), v->text);
	else
		xshimd_conn_note(c, v->ordinary ? XSHIM_LOG_DEBUG : XSHIM_LOG_WARN, v->cause, "%s: %s; declined (%s)",
				 xshim_msg_name(m->h.type), v->text, xshim_reason_name(v->reason));
}

int xshimd_conn_send(struct xshimd_conn *c, union xshim_msg *m, const int *fds, unsigned int nfds)
{
	int rc;

	if (c->state == XSHIMD_CONN_DEAD)
		return -EPIPE;
	rc = xshim_msg_send(c->fd, m, fds, nfds);
	if (rc < 0) {
		/* No queue here: a client that does not read is not waited for. EPIPE is its ordinary end. */
		if (rc != -EPIPE && rc != -ECONNRESET)
			xshimd_conn_note(c, XSHIM_LOG_WARN, "send", "%s: it cannot be sent: %s; connection closed",
					 xshim_msg_name(m->h.type), strerror(-rc));
		xshimd_conn_drop(c);
		return rc;
	}
	/* The message /then/ the mail word that announces it. */
	if (c->mail >= 0)
		xshimd_mail_ring(&c->d->publish, (uint32_t)c->mail);
	return 0;
}

void xshimd_conn_decline(struct xshimd_conn *c, uint32_t id, uint32_t reason)
{
	union xshim_msg m;

	c->d->stats.declined[reason < XSHIM_R_COUNT ? reason : 0]++;
	xshim_msg_init(&m, XSHIM_MSG_DECLINED, id);
	m.refused.reason = reason;
	m.refused.version_min = m.refused.version_max = XSHIM_PROTO_VERSION;
	xshimd_conn_send(c, &m, NULL, 0);
}

static void refuse(struct xshimd_conn *c, uint32_t reason)
{
	union xshim_msg m;

	xshim_msg_init(&m, XSHIM_MSG_REFUSED, 0);
	m.refused.reason = reason;
	m.refused.version_min = m.refused.version_max = XSHIM_PROTO_VERSION;
	xshimd_conn_send(c, &m, NULL, 0);
	xshimd_conn_drop(c);
}

/* Arenas in HELLO: take over those that are good. False when the client is no longer to be greeted. */
static bool take_arenas(struct xshimd_conn *c, int *fds, unsigned int nfds)
{
	uint32_t limit;

	for (unsigned int i = 0; i < nfds; i++) {
		int rc = xshimd_arena_join(c->d, c, fds[i], &limit);

		if (rc == 0) {
			fds[i] = -1;
		} else if (rc == -EDQUOT) {
			xshimd_conn_note(c, XSHIM_LOG_WARN, "arenas",
					 "arenas=%u: as many as one user may have; not counted or shown", limit);
		} else if (rc == -ENOMEM) {
			refuse(c, XSHIM_R_MEMORY);
			return false;
		} else {
			bad(c, "arena", "HELLO: fd %u: not an arena (a memfd with its seals, size and header)", i);
			return false;
		}
	}
	return true;
}

static void on_hello(struct xshimd_conn *c, const union xshim_msg *m, int *fds, unsigned int nfds)
{
	struct xshimd *d = c->d;
	union xshim_msg reply;

	if (m->hello.kind != XSHIM_CLIENT_SHIM && m->hello.kind != XSHIM_CLIENT_TOOL) {
		bad(c, "kind", "HELLO: kind=%u: neither a shim nor the command", m->hello.kind);
		return;
	}
	if (m->hello.kind == XSHIM_CLIENT_TOOL && nfds) {
		bad(c, "tool-fds", "HELLO: descriptors=%u: the command has no arena", nfds);
		return;
	}
	if (!take_arenas(c, fds, nfds))
		return;
	c->mail = xshimd_mail_take(&d->publish);
	if (c->mail < 0) {
		refuse(c, XSHIM_R_QUOTA);
		return;
	}
	c->kind = m->hello.kind;
	c->state = XSHIMD_CONN_GREETED;
	d->stats.clients++;
	xshim_msg_init(&reply, XSHIM_MSG_WELCOME, 0);
	reply.welcome.mail = (uint32_t)c->mail;
	reply.welcome.instance = d->publish.map->instance;
	snprintf(reply.welcome.build, sizeof(reply.welcome.build), "%s", XSHIMD_VERSION);
	xshimd_conn_send(c, &reply, &d->publish.fd, 1);
}

static void on_endpoint(struct xshimd_conn *c, const union xshim_msg *m, int fd)
{
	struct xshimd_verdict v;
	struct xshimd_tcp tcp;
	uint32_t limit;
	int rc;

	if (xshimd_verify_tcp(fd, 0, c->cred.uid, NULL, &tcp, &v) != XSHIMD_OK) {
		/* There is no answer to ENDPOINT. */
		if (v.answer == XSHIMD_NO)
			xshimd_conn_note(c, v.ordinary ? XSHIM_LOG_DEBUG : XSHIM_LOG_WARN, v.cause,
					 "ENDPOINT: %s; not registered (%s)", v.text, xshim_reason_name(v.reason));
		else
			xshimd_conn_verdict(c, m, &v);
		return;
	}
	rc = xshimd_endpoint_add(c->d, c, &tcp, &limit);
	if (rc == -EDQUOT)
		xshimd_conn_note(c, XSHIM_LOG_WARN, "endpoints",
				 "endpoints=%u: as many as one user may have; not registered", limit);
	else if (rc < 0)
		xshimd_conn_note(c, XSHIM_LOG_WARN, "endpoint-room", "endpoint: %s; not registered", strerror(-rc));
}

/* Returns true if the descriptor was taken. */
static bool on_probe(struct xshimd_conn *c, const union xshim_msg *m, int fd)
{
	struct xshimd_wait *w = xshimd_wait_find(c, m->h.id);
	struct xshimd_verdict v;

	/* Late, as what it was asked for has been settled: ordinary. */
	if (!w || !w->probe_asked || w->probe >= 0)
		return false;
	/* The rest is looked at when its turn comes, but from here on it is closed like a socket. */
	if (xshimd_verify_kind(fd, 0, &v) != XSHIMD_OK) {
		xshimd_wait_decline(c->d, w, XSHIM_R_NETNS);
		xshimd_conn_verdict(c, m, &v);
		return false;
	}
	w->probe = fd;
	c->d->probes.ready = true;
	return true;
}

static void on_report_ask(struct xshimd_conn *c, const union xshim_msg *m)
{
	union xshim_msg reply;
	int fd;

	if (m->report_ask.what != XSHIM_REPORT_CONNECTIONS && m->report_ask.what != XSHIM_REPORT_TOTALS) {
		bad(c, "report", "REPORT_ASK: what=%u: no such report", m->report_ask.what);
		return;
	}
	fd = xshimd_report_make(c->d, c->cred.uid, m->report_ask.what);
	if (fd < 0) {
		xshimd_conn_note(c, XSHIM_LOG_WARN, "report-failed", "REPORT: %s; connection closed", strerror(-fd));
		xshimd_conn_drop(c);
		return;
	}
	xshim_msg_init(&reply, XSHIM_MSG_REPORT, m->h.id);
	xshimd_conn_send(c, &reply, &fd, 1);
	close(fd);
}

/* He is not to be heard now (closer.h). */
static void hear_no_more(struct xshimd_conn *c, uint32_t limit)
{
	xshimd_conn_note(c, XSHIM_LOG_WARN, "closed", "%s=%u: nothing is received from this user; refused (quota)",
			 xshimd_thing_name(XSHIMD_CLOSED), limit);
	refuse(c, XSHIM_R_QUOTA);
}

/* What xshim_msg_check() finds, in the words of the log. */
static void bad_packet(struct xshimd_conn *c, const union xshim_msg *m, size_t len, const char *why,
		       unsigned long long value)
{
	const char *name = len >= sizeof(m->h) ? xshim_msg_name(m->h.type) : "packet";

	if (!strcmp(why, "magic"))
		bad(c, why, "magic=0x%llx: not xshim's, 0x%x", value, XSHIM_PROTO_MAGIC);
	else if (!strcmp(why, "type"))
		bad(c, why, "type=%llu: unknown", value);
	else if (!strcmp(why, "number of descriptors"))
		bad(c, why, "%s: descriptors=%llu: not the number due", name, value);
	else if (!strcmp(why, "length is not that of the type"))
		bad(c, why, "%s: length=%llu: expected %zu", name, value, xshim_msg_size(m->h.type));
	else if (strstr(why, "length") || strstr(why, "shorter"))
		bad(c, why, "length=%llu: %s (%zu bytes came)", value, why, len);
	else
		bad(c, why, "%s: %s (%llu)", name, why, value);
}

static bool is_allowed(const struct xshimd_conn *c, uint32_t type)
{
	switch (type) {
	case XSHIM_MSG_HELLO:
		return c->state == XSHIMD_CONN_NEW;
	case XSHIM_MSG_PING:
	case XSHIM_MSG_REPORT_ASK:
		return c->state == XSHIMD_CONN_GREETED;
	case XSHIM_MSG_DRAIN_ASK:
		return c->state == XSHIMD_CONN_GREETED && c->kind == XSHIM_CLIENT_TOOL;
	case XSHIM_MSG_ENDPOINT:
	case XSHIM_MSG_OFFER:
	case XSHIM_MSG_CLAIM:
	case XSHIM_MSG_WITHDRAW:
	case XSHIM_MSG_PROBE:
	case XSHIM_MSG_LOOK:
	case XSHIM_MSG_RESUME:
	case XSHIM_MSG_LEFT:
		return c->state == XSHIMD_CONN_GREETED && c->kind == XSHIM_CLIENT_SHIM;
	default:
		return false;
	}
}

static void dispatch(struct xshimd_conn *c, const union xshim_msg *m, int *fds, unsigned int nfds)
{
	union xshim_msg reply;

	switch (m->h.type) {
	case XSHIM_MSG_HELLO:
		on_hello(c, m, fds, nfds);
		break;
	case XSHIM_MSG_PING:
		xshim_msg_init(&reply, XSHIM_MSG_PONG, m->h.id);
		xshimd_conn_send(c, &reply, NULL, 0);
		break;
	case XSHIM_MSG_ENDPOINT:
		on_endpoint(c, m, fds[0]);
		break;
	case XSHIM_MSG_OFFER:
	case XSHIM_MSG_CLAIM:
		if (m->channel.backend == XSHIM_BACKEND_XEN)
			xshimd_xen_channel(c, m, fds);
		else
			xshimd_match_channel(c, m, fds, nfds);
		return;		/* it has closed, or keeps, the descriptors */
	case XSHIM_MSG_WITHDRAW:
		xshimd_match_withdraw(c, m->h.id);
		break;
	case XSHIM_MSG_PROBE:
		if (on_probe(c, m, fds[0]))
			return;
		break;
	case XSHIM_MSG_REPORT_ASK:
		on_report_ask(c, m);
		break;
	case XSHIM_MSG_LOOK:
		xshimd_xen_look(c, m, fds[0]);
		break;
	case XSHIM_MSG_RESUME:
		if (xshimd_xen_resume(c, m, fds[0]))
			return;
		break;
	case XSHIM_MSG_LEFT:
		xshimd_xen_left(c, m->h.id);
		break;
	case XSHIM_MSG_DRAIN_ASK:
		xshimd_xen_drain(c, m);
		break;
	}
	xshimd_closer_take(c->d, c->cred.uid, fds, nfds);
}

static void on_packet(struct xshimd_conn *c, const union xshim_msg *m, size_t len, int *fds, unsigned int nfds)
{
	unsigned long long value;
	const char *why;
	int rc;

	rc = xshim_msg_check(m, len, nfds, &why, &value);
	if (rc == 0 && is_allowed(c, m->h.type)) {
		dispatch(c, m, fds, nfds);
		return;
	}
	if (rc == -EPROTONOSUPPORT) {
		/* An answer, then the door: the client can tell its user which of the two is old. */
		xshimd_conn_note(c, XSHIM_LOG_WARN, "version", "protocol %llu, this xshimd speaks %d; refused", value,
				 XSHIM_PROTO_VERSION);
		c->d->stats.bad_messages++;
		refuse(c, XSHIM_R_VERSION);
	} else if (rc < 0) {
		bad_packet(c, m, len, why, value);
	} else {
		bad(c, xshim_msg_name(m->h.type), "type=%s: unexpected in state %s%s", xshim_msg_name(m->h.type),
		    state_name(c), c->kind == XSHIM_CLIENT_TOOL ? " of the command" : "");
	}
	xshimd_closer_take(c->d, c->cred.uid, fds, nfds);
}

/* recvmsg gives 0 for the end and for an empty packet alike. */
static bool has_hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) != 0;
}

static void on_ready(void *owner, int events)
{
	struct xshimd_conn *c = owner;
	struct xshimd *d = c->d;
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;
	uint32_t limit;
	ssize_t n;

	if (!events)
		xshimd_conn_drop(c);
	for (int i = 0; i < BURST && c->state != XSHIMD_CONN_DEAD; i++) {
		if (xshimd_closer_is_full(d, c->cred.uid, &limit)) {
			hear_no_more(c, limit);
			break;
		}
		n = xshim_msg_recv(c->fd, &m, fds, &nfds);
		if (n == -EAGAIN)
			break;
		if (n > 0) {
			on_packet(c, &m, (size_t)n, fds, nfds);
			if (m.h.type == XSHIM_MSG_REPORT_ASK)
				break;	/* costs more than the others */
		} else if (n == -EMSGSIZE) {
			xshimd_closer_take(d, c->cred.uid, fds, nfds);
			bad(c, "cut", "length: more than %d bytes or %d descriptors", XSHIM_PROTO_MAX, XSHIM_PROTO_MAX_FDS);
		} else if (n == 0 && !has_hung_up(c->fd)) {
			xshimd_closer_take(d, c->cred.uid, fds, nfds);
			bad(c, "empty", "length=0: an empty packet");
		} else {
			xshimd_conn_drop(c);
		}
	}
	xshimd_settle(d);
}

int xshimd_conn_open(struct xshimd *d, int fd, const struct ucred *cred)
{
	struct xshimd_conn *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->d = d;
	c->fd = fd;
	c->cred = *cred;
	c->mail = -1;
	c->hello_by_ms = uv_now(&d->loop) + 1000ull * d->opt.hello_timeout;
	rc = xshimd_watch_open(&c->watch, &d->loop, fd, UV_READABLE, on_ready, c);
	if (rc < 0) {
		free(c);
		return rc;
	}
	DL_APPEND(d->conns, c);
	d->conns_n++;
	xshimd_timer_by(d, c->hello_by_ms);
	return 0;
}

void xshimd_conn_drop(struct xshimd_conn *c)
{
	struct xshimd *d = c->d;

	if (c->state == XSHIMD_CONN_DEAD)
		return;
	c->state = XSHIMD_CONN_DEAD;
	xshimd_watch_close(&c->watch);
	DL_DELETE(d->conns, c);
	d->conns_n--;
	DL_APPEND(d->dead, c);
}

void xshimd_conn_destroy(struct xshimd_conn *c)
{
	struct xshimd *d = c->d;

	xshimd_xen_conn_gone(c);
	xshimd_registry_leave(d, c);
	for (unsigned int i = 0; i < c->arenas_n; i++)
		xshimd_arena_leave(d, c->arenas[i]);
	if (c->mail >= 0)
		xshimd_mail_give(&d->publish, (uint32_t)c->mail);
	xshimd_bounded_close(c->fd);	/* with what was not received */
	xshimd_quota_give(&d->quota, c->cred.uid, XSHIMD_CONNECTIONS);
	free(c);
}

uint64_t xshimd_conns_sweep(struct xshimd *d, uint64_t now_ms)
{
	struct xshimd_conn *c, *tmp;
	uint64_t next = UINT64_MAX;

	DL_FOREACH_SAFE(d->conns, c, tmp) {
		if (c->state != XSHIMD_CONN_NEW)
			continue;
		if (c->hello_by_ms <= now_ms)
			bad(c, "slow", "HELLO: none in %u s", d->opt.hello_timeout);
		else if (c->hello_by_ms < next)
			next = c->hello_by_ms;
	}
	return next;
}
