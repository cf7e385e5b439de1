/* SPDX-License-Identifier: MIT */
/* client.c - the control connection to xshimd (client.h). */
#include "client.h"
#include "channel.h"
#include "client_xen.h"
#include "depart.h"
#include "options.h"
#include "privfd.h"
#include "process.h"
#include "raw.h"
#include "ready.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <xshim/proto.h>

#define RETRY_NS 1000000000ull		/* between attempts to reach xshimd */
#define FRESH_NS 100000000ull
#define PING_NS 20000000ull
#define LOOK_NS 100000000ull		/* look for the end of xshimd, or for a new one, at most so often */
#define LOST_NS 10000000000ull		/* for so long after the end of one; a xshimd that is restarted is back by then */

/* all guarded by the lock */
static int sock = -1;
static bool greeted;
static enum xshim_reason why = XSHIM_R_NO_DAEMON;
static const struct xshim_map *map, *place;	/* place: of the map, also when there is none */
static uint64_t retry_at, heard_at, pinged_at, looked_at, lost_at, hello_at;
static bool was_greeted;		/* by a xshimd, once: it may be restarted */
static bool resume_due;			/* xshimd does not know all of our channels yet */

static _Atomic uint64_t look_at = UINT64_MAX; /* when who wakes up is to look for xshimd; 0: now, as its WELCOME is due */

static const _Atomic uint64_t no_gen;
static const _Atomic uint32_t no_mail;
const _Atomic uint64_t *_Atomic xshim_conn_gen[3] = { &no_gen, &no_gen, &no_gen };
const _Atomic uint32_t *_Atomic xshim_mail = &no_mail;
_Atomic uint32_t xshim_mail_seen;

void xshim_client_send_left(void)
{
	xshim_session_send_left(sock);
}

static bool has_mail(uint64_t now)
{
	return (atomic_load_explicit(xshim_mail_word(), memory_order_relaxed) != xshim_mail_seen ||
		now >= atomic_load_explicit(&look_at, memory_order_relaxed)) &&
	       xshim_active;	/* a filter may forbid to look */
}

bool xshim_client_has_mail(void)
{
	return has_mail(xshim_now_ns());
}

bool xshim_client_is_greeted(void)
{
	return greeted;
}

enum xshim_reason xshim_client_why(void)
{
	return why;
}

const struct xshim_map *xshim_client_map(void)
{
	return map;
}

static struct xshim_conn *conn_of_id(uint32_t id)
{
	struct xshim_obj *o = xshim_obj_at(XSHIM_OBJ_CONN, id & 0xffff);
	struct xshim_conn *c = (struct xshim_conn *)o;

	return c && c->id == id ? c : NULL;
}

/* xshimd has answered what came with a descriptor of c's: it has closed that, and those that were sent before. */
static void given_back(uint32_t id)
{
	struct xshim_conn *c = conn_of_id(id);

	if (c)
		atomic_store_explicit(&c->lent, false, memory_order_relaxed);
}

/* Nothing more comes of an introduction that is under way. */
static void give_up(struct xshim_conn *c, enum xshim_reason reason)
{
	if (c->intro != XSHIM_INTRO_OFFERED && c->intro != XSHIM_INTRO_CLAIMED)
		return;
	xshim_chan_drop(c->pending);
	c->pending = NULL;
	c->intro = XSHIM_INTRO_PLAIN;
	if (!c->retry_wait_ns && reason == XSHIM_R_PEER_SILENT) {
		/* At once, the first time: the offer was made before its connection was accepted, and is made anew. */
		c->retry_wait_ns = 25000000;
		c->retry_ns = 0;
	} else {
		c->retry_wait_ns = c->retry_wait_ns ? c->retry_wait_ns * 2 : 50000000;
		if (c->retry_wait_ns > 10000000000ull)
			c->retry_wait_ns = 10000000000ull;
		c->retry_ns = xshim_now_ns() + c->retry_wait_ns;
	}
	c->next_ops = c->ops + 1;
	xshim_conn_reason(c, reason);
	xlog(DEBUG, "connection %u: not introduced: %s", c->id, xshim_reason_name(reason));
}

/*
 * The map of a xshimd that has gone gives its memory back, but not its place: a thread may be looking at its words. It finds
 * zeros there, or those of the next map, which gets the same place; none of them decides anything.
 */
static void empty_place(void)
{
	if (place && xshim_active)	/* a filter may forbid it */
		(void)mmap((void *)(uintptr_t)place, sizeof(*place), PROT_READ,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static const struct xshim_map *put_in_place(const struct xshim_map *fresh)
{
	void *to = (void *)(uintptr_t)place, *from = (void *)(uintptr_t)fresh;

	if (!place || mremap(from, sizeof(*fresh), sizeof(*fresh), MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		place = fresh;
	return place;
}

static void forget_map(void)
{
	for (int i = 0; i < 3; i++)
		xshim_conn_gen[i] = &no_gen;
	xshim_mail = &no_mail;
	xshim_mail_seen = 0;
	map = NULL;
	empty_place();
}

static void hang_up(enum xshim_reason reason)
{
	xshim_privfd_close(sock);
	sock = -1;
	greeted = false;
	why = reason;
	retry_at = xshim_now_ns() + (reason == XSHIM_R_DAEMON_LOST ? 0 : RETRY_NS);
	if (reason == XSHIM_R_DAEMON_LOST)
		lost_at = xshim_now_ns();
	resume_due = false;
	xshim_session_new();
	forget_map();
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		struct xshim_obj *o = xshim_obj_at(XSHIM_OBJ_CONN, i);

		if (o)
			give_up((struct xshim_conn *)o, XSHIM_R_DAEMON_LOST);
	}
}

static void take_all(void);

/* xshimd takes no more: it has ended, or turned us away, and then what it has said of that is still to be read. */
static void hear_out(void)
{
	take_all();
	if (sock >= 0)
		hang_up(greeted ? XSHIM_R_DAEMON_LOST : XSHIM_R_NO_DAEMON);
}

static void say_hello(void)
{
	union xshim_msg m;
	int fds[XSHIM_ARENAS_MAX], nfds = 0;

	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.hello.pid = (uint32_t)getpid();
	m.hello.kind = XSHIM_CLIENT_SHIM;
	(void)prctl(PR_GET_NAME, m.hello.comm);
	m.hello.comm[sizeof(m.hello.comm) - 1] = 0;
	strncpy(m.hello.build, PACKAGE_VERSION, sizeof(m.hello.build) - 1);
	fds[nfds++] = xshim_own_arena_fd;
	for (int i = 0; i < XSHIM_ARENAS_MAX - 1; i++)
		if (xshim_old_arena_fds[i] >= 0)
			fds[nfds++] = xshim_old_arena_fds[i];
	if (xshim_msg_send(sock, &m, fds, (unsigned int)nfds) < 0)
		hear_out();
}

static void reach(uint64_t now)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (now < retry_at || atomic_load_explicit(&xshim_tcp_only, memory_order_relaxed) == XSHIM_R_SECCOMP ||
	    !xshim_arena_ready() || strlen(xshim_opt.socket) >= sizeof(un.sun_path))
		return;
	retry_at = now + (lost_at && now - lost_at < LOST_NS ? LOOK_NS : RETRY_NS);
	strcpy(un.sun_path, xshim_opt.socket);
	fd = libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (raw_connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		raw_close(fd);
		why = XSHIM_R_NO_DAEMON;
		return;
	}
	sock = xshim_privfd_move(fd);
	if (sock < 0) {
		sock = -1;
		why = XSHIM_R_FD_LIMIT;
		return;
	}
	resume_due = true;
	hello_at = now;
	say_hello();
}

static void take_welcome(const union xshim_msg *m, int map_fd)
{
	const struct xshim_map *fresh;

	if (greeted || m->welcome.mail >= XSHIM_MAP_MAIL || xshim_map_open(&fresh, map_fd) < 0) {
		hang_up(XSHIM_R_VERSION);
		return;
	}
	map = put_in_place(fresh);
	greeted = was_greeted = true;
	lost_at = 0;
	xshim_mail_seen = atomic_load_explicit(&map->mail[m->welcome.mail].seq, memory_order_acquire);
	xshim_mail = &map->mail[m->welcome.mail].seq;
	xshim_conn_gen[XSHIM_ROLE_CONNECT] = &map->generation;
	xshim_conn_gen[XSHIM_ROLE_ACCEPT] = &map->offers_gen;
	xlog(INFO, "xshimd %s at %s", m->welcome.build, xshim_opt.socket);
}

static struct xshim_chan *introduced(struct xshim_conn *c, uint32_t backend)
{
	struct xshim_chan *ch = c ? c->pending : NULL;

	if (!ch || (uint32_t)ch->be->kind != backend ||
	    (c->intro != XSHIM_INTRO_OFFERED && c->intro != XSHIM_INTRO_CLAIMED))
		return NULL;
	return ch;
}

/* Both halves are here. */
static void matched(struct xshim_conn *c, struct xshim_chan *ch)
{
	static const enum xshim_local_fd given[] = { XSHIM_LOCAL_MEMORY, XSHIM_LOCAL_LIFE, XSHIM_LOCAL_LIFE_OUT };

	/* shm: the peer has its copies, and of two pairs one is used. xen: the kernel has been told what to do at our end. */
	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		xshim_privfd_close(ch->local.fds[given[i]]);
		ch->local.fds[given[i]] = -1;
	}
	c->intro = XSHIM_INTRO_MATCHED;
	c->retry_wait_ns = 0;
	xshim_conn_reason(c, XSHIM_R_SWITCHING);
	atomic_store_explicit(&c->attach_due, 1, memory_order_release);
	xshim_chan_attach(c, 0);
}

static void take_matched(const union xshim_msg *m, int *fds)
{
	struct xshim_conn *c = conn_of_id(m->h.id);
	struct xshim_chan *ch = introduced(c, XSHIM_BACKEND_SHM);
	struct xshim_ticket ticket;
	int rc;

	if (!ch)
		return;
	ticket = (struct xshim_ticket){ .nonce = m->matched.nonce, .order = m->matched.order };
	rc = xshim_chan_take_half(ch, &ticket, fds);
	if (rc == 0)
		matched(c, ch);
	else
		give_up(c, xshim_chan_why(ch, rc));
	if (rc == -ENOSYS)		/* its bell cannot be rung from here, nor the next one's that it makes */
		xshim_conn_never(c, XSHIM_R_SECCOMP);
}

static void take_matched_xen(const union xshim_msg *m)
{
	struct xshim_conn *c = conn_of_id(m->h.id);
	struct xshim_chan *ch = introduced(c, XSHIM_BACKEND_XEN);
	uint32_t of = xshim_session();
	struct xshim_ticket ticket = {
		.nonce = m->matched.nonce, .order = m->matched.order, .domid = m->matched.domid,
		.gref = m->matched.gref, .port = m->matched.port,
	};
	int rc;

	if (!ch) {
		xshim_client_left(m->h.id, of);
		return;
	}
	/* From here on xshimd waits for LEFT, whatever comes of it. */
	ch->id = c->id;
	atomic_store_explicit(&ch->session, of, memory_order_relaxed);
	rc = ch->be->attach(&ch->remote, &ch->local, &ticket, NULL);
	if (rc == -EPIPE)
		xlog(INFO, "connection %u: the ring of domain %u is not there any more; it stays on TCP", c->id, ticket.domid);
	else if (rc == -EPROTO)
		xlog(WARN, "connection %u: the ring of domain %u is not what it must be; it stays on TCP", c->id, ticket.domid);
	else if (rc < 0)
		xshim_chan_say_once(xshim_chan_why(ch, rc));
	if (rc < 0) {
		give_up(c, xshim_chan_why(ch, rc));
		return;
	}
	matched(c, ch);
}

void xshim_client_call_off(struct xshim_conn *c, enum xshim_reason reason)
{
	if (c->intro == XSHIM_INTRO_OFFERED || c->intro == XSHIM_INTRO_CLAIMED)
		xshim_client_withdraw(c);
	if (c->intro == XSHIM_INTRO_MATCHED) {
		atomic_store_explicit(&c->attach_due, 0, memory_order_relaxed);
		c->intro = XSHIM_INTRO_CLAIMED;		/* not attached, so it is as if it had not been matched */
	}
	give_up(c, reason);
}

static void take_probe_wanted(uint32_t id)
{
	struct xshim_conn *c = conn_of_id(id);
	struct sockaddr_storage ss;
	union xshim_msg m;
	socklen_t len;
	int family, fd, rc;

	if (!c || !c->hash)
		return;
	family = xshim_endpoint_is_v4(&c->slot->tuple.local) ? AF_INET : AF_INET6;
	len = xshim_endpoint_to_sockaddr(&c->slot->tuple.local, family, &ss);
	if (!len)
		return;
	((struct sockaddr_in *)&ss)->sin_port = 0;	/* same place in sockaddr_in6 */
	fd = libc.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	rc = bind(fd, (struct sockaddr *)&ss, len);
	if (!rc && c->slot->role == XSHIM_ROLE_ACCEPT)
		rc = libc.listen(fd, 4);
	if (!rc) {
		xshim_msg_init(&m, XSHIM_MSG_PROBE, id);
		(void)xshim_msg_send(sock, &m, &fd, 1);
	}
	raw_close(fd);
}

static void take_refused(const struct xshim_msg_refused *m)
{
	enum xshim_reason reason = m->reason < XSHIM_R_COUNT && m->reason != XSHIM_R_RING ? m->reason : XSHIM_R_VERSION;

	if (reason == XSHIM_R_VERSION)
		xlog(WARN, "xshimd at %s refuses us: version (it speaks %u to %u, we %u); all stays on TCP", xshim_opt.socket,
		     (unsigned int)m->version_min, (unsigned int)m->version_max, (unsigned int)XSHIM_PROTO_VERSION);
	else
		xlog(WARN, "xshimd at %s refuses us: %s; all stays on TCP until it is asked again", xshim_opt.socket,
		     xshim_reason_name(reason));
	hang_up(reason);
	retry_at = xshim_now_ns() + 10 * RETRY_NS;
}

static void take(const union xshim_msg *m, int *fds, unsigned int nfds)
{
	struct xshim_conn *c;

	switch (m->h.type) {
	case XSHIM_MSG_WELCOME:
		if (nfds == 1)
			take_welcome(m, fds[0]);
		break;
	case XSHIM_MSG_REFUSED:
		take_refused(&m->refused);
		break;
	case XSHIM_MSG_MATCHED:
		given_back(m->h.id);
		if (m->matched.backend == XSHIM_BACKEND_XEN)
			take_matched_xen(m);
		else if (nfds == 3)
			take_matched(m, fds);
		break;
	case XSHIM_MSG_LEAVE:
	case XSHIM_MSG_FORSAKE:
	case XSHIM_MSG_NUDGE:
		xshim_depart_told(m);
		break;
	case XSHIM_MSG_DECLINED:
		given_back(m->h.id);
		c = conn_of_id(m->h.id);
		if (c)
			give_up(c, m->refused.reason < XSHIM_R_COUNT ? m->refused.reason :
								       XSHIM_R_POLICY);
		break;
	case XSHIM_MSG_PROBE_WANTED:
		given_back(m->h.id);
		take_probe_wanted(m->h.id);
		break;
	case XSHIM_MSG_LOOK_WANTED:
		given_back(m->h.id);
		c = conn_of_id(m->h.id);
		if (c) {		/* its number is known where the program uses it */
			c->look_due = true;
			c->next_ops = c->ops + 1;
		}
		break;
	default:
		break;
	}
}

static void take_all(void)
{
	unsigned int nfds;
	int fds[XSHIM_PROTO_MAX_FDS];
	const char *field;
	unsigned long long value;
	union xshim_msg m;
	bool reset = false;
	ssize_t n;

	for (int i = 0; i < 64 && sock >= 0; i++) {
		nfds = 0;
		n = xshim_msg_recv(sock, &m, fds, &nfds);
		/* it has closed with something of ours unread; the kernel tells that before what it had said */
		if (n == -ECONNRESET && !reset) {
			reset = true;
			continue;
		}
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) {
			while (nfds)
				raw_close(fds[--nfds]);
			hang_up(greeted ? XSHIM_R_DAEMON_LOST : why);
			return;
		}
		heard_at = xshim_now_ns();
		if (m.h.type == XSHIM_MSG_REFUSED || xshim_msg_check(&m, (size_t)n, nfds, &field, &value) == 0)
			take(&m, fds, nfds);
		else
			hang_up(XSHIM_R_VERSION);
		for (unsigned int k = 0; k < nfds; k++)
			if (fds[k] >= 0)
				raw_close(fds[k]);
	}
}

static void look_later(uint64_t now)
{
	uint64_t next = now + LOOK_NS;

	if (sock >= 0 && !greeted && now - hello_at < RETRY_NS)
		next = now == hello_at ? 0 : now + 1;	/* at each call, then at each tick of the clock */
	else if (sock < 0 && !was_greeted)
		next = UINT64_MAX;	/* new connections try it */
	else if (sock < 0 && retry_at > next)
		next = retry_at;
	atomic_store_explicit(&look_at, next, memory_order_relaxed);
}

void xshim_client_service(void)
{
	uint64_t now = xshim_now_ns();
	uint32_t seen;
	int rc;

	if (!xshim_active)
		return;
	if (xshim_client_was_asked())
		xshim_session_send_left(sock);
	if (sock >= 0 && (has_mail(now) || now - looked_at > LOOK_NS ||
			  (now - pinged_at < FRESH_NS && heard_at <= pinged_at))) {
		looked_at = now;
		seen = atomic_load_explicit(xshim_mail_word(), memory_order_acquire);
		if (xshim_session_overflowed())
			hang_up(XSHIM_R_DAEMON_LOST);
		take_all();
		if (greeted && xshim_mail != &no_mail && seen)
			xshim_mail_seen = seen;
	}
	if (sock < 0)
		reach(now);
	/* Right behind HELLO: who has only woken for it may sleep when WELCOME comes. */
	if (sock >= 0 && resume_due) {
		rc = xshim_session_resume(sock);
		resume_due = rc == -EAGAIN;
		if (rc == -EPIPE)
			hear_out();
	}
	look_later(now);
}

bool xshim_client_is_fresh(void)
{
	uint64_t now = xshim_now_ns();
	union xshim_msg m;

	if (!greeted)
		return false;
	if (now - heard_at < FRESH_NS)
		return true;
	if (now - pinged_at > PING_NS) {
		pinged_at = now;
		xshim_msg_init(&m, XSHIM_MSG_PING, 0);
		if (xshim_msg_send(sock, &m, NULL, 0) == -EPIPE)
			hang_up(XSHIM_R_DAEMON_LOST);
	}
	return false;
}

int xshim_client_show(enum xshim_msg_type type, uint32_t id, int fd)
{
	union xshim_msg m;

	xshim_msg_init(&m, type, id);
	return xshim_msg_send(sock, &m, &fd, 1);
}

static uint32_t age_us(const struct xshim_conn *c)
{
	uint64_t us = (xshim_clock_ns() - c->since_ns) / 1000;

	return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

int xshim_client_channel(struct xshim_conn *c, int fd)
{
	bool offer = c->slot->role == XSHIM_ROLE_CONNECT;
	struct xshim_chan *ch = c->pending;
	const int *own = ch->local.fds;
	int bell = own[own[XSHIM_LOCAL_BELL_OUT] >= 0 ? XSHIM_LOCAL_BELL_OUT : XSHIM_LOCAL_BELL];
	int fds[4] = { fd, own[XSHIM_LOCAL_MEMORY], bell, own[XSHIM_LOCAL_LIFE_OUT] };
	bool xen = ch->be->kind == XSHIM_BACKEND_XEN;
	union xshim_msg m;
	int rc;

	xshim_msg_init(&m, offer ? XSHIM_MSG_OFFER : XSHIM_MSG_CLAIM, c->id);
	m.channel.cookie = c->slot->cookie;
	m.channel.order = ch->local.order;
	m.channel.nonce = ch->local.nonce;
	m.channel.backend = ch->be->kind;
	if (!offer)
		m.channel.age_us = age_us(c);
	if (xen) {			/* pages and event channel are named, not handed over */
		m.channel.domid = ch->local.domid;
		m.channel.gref = ch->local.gref;
		m.channel.port = ch->local.port;
		fds[1] = bell;
	}
	rc = xshim_msg_send(sock, &m, fds, xen ? 2 : 4);
	if (rc == -EPIPE || rc == -ECONNRESET)
		hang_up(XSHIM_R_DAEMON_LOST);
	return rc;
}

void xshim_client_withdraw(struct xshim_conn *c)
{
	union xshim_msg m;

	if (!greeted)
		return;
	xshim_msg_init(&m, XSHIM_MSG_WITHDRAW, c->id);
	(void)xshim_msg_send(sock, &m, NULL, 0);
}

void xshim_client_fork_prepare(void)
{
	(void)xshim_client_insist();
}

void xshim_client_fork_parent(void)
{
	xshim_client_drop();
}

void xshim_client_fork_child(void)
{
	xshim_privfd_close(sock);
	sock = -1;
	greeted = false;
	why = XSHIM_R_NO_DAEMON;
	retry_at = lost_at = 0;
	resume_due = false;
	atomic_store_explicit(&look_at, was_greeted ? 0 : UINT64_MAX, memory_order_relaxed);
	heard_at = pinged_at = looked_at = 0;
	xshim_session_new();
	(void)xshim_client_was_asked();
	forget_map();
	xshim_client_drop();
}
