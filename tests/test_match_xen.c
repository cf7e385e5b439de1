/* SPDX-License-Identifier: MIT */
/*
 * test_match_xen.c - offers and claims between two guests, without Xen: match_xen.c of both daemons in one process, with a carrier in
 * memory between them and a shim that speaks for itself on either side. The guests are two addresses of this machine.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <utlist.h>
#include <xshim/backend.h>

#include "../daemon/bounded.h"
#include "../daemon/conn.h"
#include "../daemon/role.h"
#include "../daemon/xen.h"
#include "../daemon/xen_guest.h"
#include "../daemon/xshimd.h"

#define ROOM 64

struct pipe_end {		/* one direction */
	struct xshimd_peer_msg m[ROOM];
	uint32_t at, n;
};

struct guest {
	struct xshimd d;
	struct xshimd_guest g;
	struct xshimd_guest_peer other;
	struct xshimd_conn *c;
	int shim;			/* the shim's end of c */
	int bell;			/* the shim's end of the bells that it has passed; the others hang up with it */
	struct pipe_end *in, *out;
	uint32_t offers, gones;
};

static struct pipe_end ab, ba;
static struct guest a, b;	/* A connects, B accepts */
static bool b_sleeps;
static int listener, connector, accepted;

/* ---- between the two ---- */

static int carrier_send(void *carrier, const struct xshimd_peer_msg *m)
{
	struct pipe_end *out = ((struct guest *)carrier)->out;

	ck_assert_uint_lt(out->n, ROOM);
	out->m[(out->at + out->n++) % ROOM] = *m;
	return 1;
}

static int carrier_recv(void *carrier, struct xshimd_peer_msg *m)
{
	struct pipe_end *in = ((struct guest *)carrier)->in;

	if (!in->n)
		return 0;
	*m = in->m[in->at];
	in->at = (in->at + 1) % ROOM;
	in->n--;
	return 1;
}

static const struct xshimd_carrier carrier = { carrier_send, carrier_recv };

static struct guest *guest_of(struct xshimd_peer *link)
{
	return link == &a.other.link ? &a : &b;
}

static void on_up(struct xshimd_peer *link)
{
	(void)link;
}

static bool is_theirs(struct xshimd_peer *link, const struct xshim_endpoint *ep)
{
	return xshimd_xen_addrs_have(&guest_of(link)->other.is.addrs, ep);
}

static bool is_ours(struct xshimd_peer *link, const struct xshim_endpoint *ep)
{
	return xshimd_xen_addrs_have(&guest_of(link)->g.self.addrs, ep);
}

static int on_endpoint(struct xshimd_peer *link, const struct xshim_endpoint *ep, bool add)
{
	(void)link;
	(void)ep;
	(void)add;
	return 0;
}

static int on_offer(struct xshimd_peer *link, const struct xshimd_peer_offer *o, bool add)
{
	(void)o;
	guest_of(link)->offers += add ? 1u : -1u;
	return 0;
}

static void on_gone(struct xshimd_peer *link, uint32_t number, bool ours)
{
	(void)number;
	(void)ours;
	guest_of(link)->gones++;
}

static void on_down(struct xshimd_peer *link, const char *why)
{
	(void)why;
	xshimd_guest_decline_offers(&guest_of(link)->g, &guest_of(link)->other, XSHIM_R_DAEMON_LOST);
}

static const struct xshimd_peer_ops ops = {
	.up = on_up, .is_theirs = is_theirs, .is_ours = is_ours, .endpoint = on_endpoint, .offer = on_offer,
	.answer = xshimd_guest_answer, .gone = on_gone, .heard = xshimd_guest_heard, .older = xshimd_guest_older,
	.clock_ns = uv_hrtime, .down = on_down,
};

static bool serve(struct guest *s)
{
	if (!s->in->n)
		return false;
	xshimd_peer_event(&s->other.link, uv_now(&s->d.loop));
	xshimd_settle(&s->d);
	return true;
}

static void run(void)
{
	while (serve(&a) || (!b_sleeps && serve(&b)))
		;
}

/* ---- the two guests ---- */

static struct xshimd_xen_addrs address(const char *text)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct xshimd_xen_addrs out = { .n = 1 };

	inet_pton(AF_INET, text, &sin.sin_addr);
	ck_assert_int_eq(xshim_endpoint_from_sockaddr(&out.a[0], (struct sockaddr *)&sin, sizeof(sin)), 0);
	return out;
}

static void start(struct guest *s, uint32_t domid, const char *own, uint32_t other_domid, const char *other)
{
	struct ucred cred = { .pid = getpid(), .uid = getuid(), .gid = getgid() };
	struct xshimd_guest_peer *p = &s->other;
	socklen_t len = sizeof(s->g.netns);
	uint32_t limit;
	int pair[2];

	xshimd_options_default(&s->d.opt);
	s->d.opt.log_level = XSHIM_LOG_ERROR;
	s->d.journal.log = (struct xshim_log){ .fd = 2, .level = XSHIM_LOG_ERROR };
	s->d.role = XSHIMD_ROLE_GUEST;
	s->d.server.fd_limit = 4096;
	ck_assert_int_eq(xshimd_bounded_init(), 0);
	ck_assert_int_eq(xshimd_init(&s->d), 0);
	s->d.guest = &s->g;
	s->g.d = &s->d;
	ck_assert_int_eq(getsockopt(listener, SOL_SOCKET, SO_NETNS_COOKIE, &s->g.netns, &len), 0);
	s->g.has_self = true;
	s->g.self = (struct xshimd_xen_guest){ .domid = domid, .addrs = address(own) };
	p->g = &s->g;
	p->is = (struct xshimd_xen_guest){ .domid = other_domid, .addrs = address(other) };
	HASH_ADD(hh, s->g.peers, is.domid, sizeof(p->is.domid), p);
	xshimd_peer_init(&p->link, &ops, p, s->d.opt.offer_timeout);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	ck_assert_int_eq(xshimd_quota_take(&s->d.quota, &s->d.opt, cred.uid, XSHIMD_CONNECTIONS, &limit), 0);
	ck_assert_int_eq(xshimd_conn_open(&s->d, pair[0], &cred), 0);
	s->shim = pair[1];
	s->c = s->d.conns;
	s->c->state = XSHIMD_CONN_GREETED;
	s->c->kind = XSHIM_CLIENT_SHIM;
}

static void stop(struct guest *s)
{
	xshimd_peer_detach(&s->other.link, NULL);
	if (s->d.conns)
		xshimd_conn_drop(s->c);
	xshimd_settle(&s->d);
	ck_assert_ptr_null(s->g.offers);
	ck_assert_uint_eq(s->d.quota.total[XSHIMD_OFFERS], 0);
	xshimd_channels_close(&s->d);
	xshimd_bells_free(&s->g.bells);
	HASH_DEL(s->g.peers, &s->other);
	xshimd_publish_close(&s->d.publish);
	xshimd_closer_close(&s->d);
	uv_close((uv_handle_t *)&s->d.timer, NULL);
	uv_run(&s->d.loop, UV_RUN_DEFAULT);
	ck_assert_int_eq(uv_loop_close(&s->d.loop), 0);
	close(s->shim);
}

static void begin(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);

	inet_pton(AF_INET, "127.0.0.3", &sin.sin_addr);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&sin, len), 0);
	ck_assert_int_eq(listen(listener, 8), 0);
	a.out = b.in = &ab;
	a.in = b.out = &ba;
	start(&a, 1, "127.0.0.2", 2, "127.0.0.3");
	start(&b, 2, "127.0.0.3", 1, "127.0.0.2");
	ck_assert_int_eq(xshimd_peer_attach(&a.other.link, &carrier, &a, 11, 22, uv_now(&a.d.loop)), 0);
	ck_assert_int_eq(xshimd_peer_attach(&b.other.link, &carrier, &b, 22, 11, uv_now(&b.d.loop)), 0);
	run();
	ck_assert_int_eq(b.other.link.state, XSHIMD_PEER_UP);
}

static void end(void)
{
	stop(&a);
	stop(&b);
	ck_assert_uint_eq(b.offers, 0);
	close(listener);
}

/* From this port of A to B; 0: any. */
static void connect_from(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
	socklen_t len = sizeof(sin);

	inet_pton(AF_INET, "127.0.0.2", &sin.sin_addr);
	connector = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(connector, (struct sockaddr *)&sin, len), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
	ck_assert_int_eq(connect(connector, (struct sockaddr *)&sin, len), 0);
	accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(accepted, 0);
}

/* By RST: its ports are free at once. Returns the one of A. */
static uint16_t reset(void)
{
	struct linger now = { 1, 0 };
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	getsockname(connector, (struct sockaddr *)&sin, &len);
	setsockopt(connector, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(connector);
	close(accepted);
	return ntohs(sin.sin_port);
}

static void hang_up(void)
{
	close(connector);
	close(accepted);
}

/* ---- what the shims say ---- */

static void channel(struct guest *s, enum xshim_msg_type type, uint32_t id, int tcp, uint64_t nonce, uint32_t age_us)
{
	socklen_t len = sizeof(uint64_t);
	union xshim_msg m;
	int fds[2], pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s->bell = pair[0];
	xshim_msg_init(&m, type, id);
	m.channel.backend = XSHIM_BACKEND_XEN;
	m.channel.order = 12;
	m.channel.nonce = nonce;
	m.channel.domid = s->other.is.domid;
	m.channel.gref = 9;
	m.channel.port = type == XSHIM_MSG_OFFER ? 33 : 0;
	m.channel.age_us = age_us;
	ck_assert_int_eq(getsockopt(tcp, SOL_SOCKET, SO_COOKIE, &m.channel.cookie, &len), 0);
	fds[0] = dup(tcp);
	fds[1] = pair[1];
	xshimd_xen_channel(s->c, &m, fds);
	xshimd_settle(&s->d);
	close(s->bell);
	run();
}

static void offer(uint32_t id, uint64_t nonce)
{
	channel(&a, XSHIM_MSG_OFFER, id, connector, nonce, 0);
}

static void claim(uint32_t id, uint64_t nonce, uint32_t age_us)
{
	channel(&b, XSHIM_MSG_CLAIM, id, accepted, nonce, age_us);
}

static void look(uint32_t id, int tcp)
{
	union xshim_msg m;

	xshim_msg_init(&m, XSHIM_MSG_LOOK, id);
	xshimd_xen_look(a.c, &m, tcp);
	xshimd_settle(&a.d);
	run();
}

static union xshim_msg expect(struct guest *s, enum xshim_msg_type type, uint32_t id)
{
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;
	ssize_t n = xshim_msg_recv(s->shim, &m, fds, &nfds);

	ck_assert_msg(n > 0, "no %s has come", xshim_msg_name(type));
	ck_assert_str_eq(xshim_msg_name(m.h.type), xshim_msg_name(type));
	ck_assert_uint_eq(m.h.id, id);
	ck_assert_uint_eq(nfds, 0);
	return m;
}

static void expect_declined(struct guest *s, uint32_t id, uint32_t reason)
{
	union xshim_msg m = expect(s, XSHIM_MSG_DECLINED, id);

	ck_assert_str_eq(xshim_reason_name(m.refused.reason), xshim_reason_name(reason));
}

static void expect_nothing(struct guest *s)
{
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;

	ck_assert_int_eq(xshim_msg_recv(s->shim, &m, fds, &nfds), -EAGAIN);
}

static void offer_with_look(uint32_t id, uint64_t nonce)
{
	offer(id, nonce);
	expect(&a, XSHIM_MSG_LOOK_WANTED, id);
	look(id, connector);
}

static void expect_matched(uint32_t offer_id, uint64_t offer_nonce, uint32_t claim_id, uint64_t claim_nonce)
{
	ck_assert_uint_eq(expect(&b, XSHIM_MSG_MATCHED, claim_id).matched.nonce, offer_nonce);
	ck_assert_uint_eq(expect(&a, XSHIM_MSG_MATCHED, offer_id).matched.nonce, claim_nonce);
}

/* ---- the tests ---- */

START_TEST(an_offer_is_made_when_its_socket_has_been_looked_at_again)
{
	connect_from(0);
	offer(1, 1001);
	ck_assert_uint_eq(b.offers, 0);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	ck_assert_uint_eq(xshimd_guest_offers_made(&a.g), 0);
	look(1, connector);
	ck_assert_uint_eq(b.offers, 1);
	ck_assert_uint_eq(xshimd_guest_offers_made(&a.g), 1);
	claim(2, 1002, UINT32_MAX);
	expect_matched(1, 1001, 2, 1002);
	ck_assert_uint_eq(xshimd_guest_offers_made(&a.g), 0);
	hang_up();
}
END_TEST

/* Who had offered has closed by RST, without a word, and stays: the next connection between these ports is not his. */
START_TEST(ports_that_are_used_again_between_guests)
{
	connect_from(0);
	offer_with_look(1, 1001);
	connect_from(reset());
	claim(2, 1002, 0);
	expect_declined(&b, 2, XSHIM_R_PEER_SILENT);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	ck_assert_uint_eq(b.offers, 0);
	/* he has another socket there now, be it of his own */
	look(1, connector);
	expect_declined(&a, 1, XSHIM_R_NOT_OWNER);
	ck_assert_uint_eq(b.offers, 0);
	/* one that is made of the connection that is there now is good */
	offer_with_look(3, 1003);
	claim(4, 1004, UINT32_MAX);
	expect_matched(3, 1003, 4, 1004);
	hang_up();
}
END_TEST

/* In the backlog while it is offered: to the one who claims it is younger than the offer. */
START_TEST(what_is_accepted_late_is_offered_once_more)
{
	connect_from(0);
	offer_with_look(1, 1001);
	claim(2, 1002, 0);
	expect_declined(&b, 2, XSHIM_R_PEER_SILENT);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	ck_assert_uint_eq(b.offers, 0);
	look(1, connector);
	ck_assert_uint_eq(b.offers, 1);
	/* the same socket; that it has been there since the first claim is known, however long the second one took */
	claim(3, 1003, 0);
	expect_matched(1, 1001, 3, 1003);
	hang_up();
}
END_TEST

/* What is known of one socket is nothing to the next one between the same ports. */
START_TEST(an_offer_that_is_older_twice_is_declined)
{
	uint16_t port;

	connect_from(0);
	offer_with_look(1, 1001);
	claim(2, 1002, 0);
	expect_declined(&b, 2, XSHIM_R_PEER_SILENT);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	look(1, connector);
	ck_assert_uint_eq(b.offers, 1);
	port = reset();
	connect_from(port);
	claim(3, 1003, 0);
	expect_declined(&b, 3, XSHIM_R_PEER_SILENT);
	expect_declined(&a, 1, XSHIM_R_PEER_SILENT);
	ck_assert_uint_eq(b.offers, 0);
	ck_assert_uint_eq(a.other.offers_out, 0);
	hang_up();
}
END_TEST

/* The time has been asked for while the first connection was there; nothing is offered on the strength of that. */
START_TEST(ports_that_are_used_again_before_the_look)
{
	connect_from(0);
	offer(1, 1001);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	connect_from(reset());
	/* another socket than the one that was offered, be it between the same ports */
	look(1, connector);
	expect_declined(&a, 1, XSHIM_R_NOT_OWNER);
	ck_assert_uint_eq(b.offers, 0);
	hang_up();
}
END_TEST

START_TEST(a_connection_that_has_ended_before_the_look_is_not_offered)
{
	struct linger now = { 1, 0 };
	char c;

	connect_from(0);
	offer(1, 1001);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	setsockopt(accepted, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(accepted);
	ck_assert_int_eq(recv(connector, &c, 1, 0), -1);
	look(1, connector);
	expect_declined(&a, 1, XSHIM_R_PEER_DIED);
	ck_assert_uint_eq(b.offers, 0);
	close(connector);
}
END_TEST

START_TEST(a_look_that_nobody_asked_for_is_passed_over)
{
	connect_from(0);
	look(1, connector);
	offer_with_look(1, 1001);
	look(1, connector);
	look(7, connector);
	ck_assert_uint_eq(b.offers, 1);
	expect_nothing(&a);
	ck_assert_ptr_nonnull(a.d.conns);
	claim(2, 1002, UINT32_MAX);
	expect_matched(1, 1001, 2, 1002);
	look(1, connector);
	expect_nothing(&a);
	hang_up();
}
END_TEST

START_TEST(an_offer_that_is_withdrawn_before_the_look_is_unknown_over_there)
{
	connect_from(0);
	offer(1, 1001);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	xshimd_wait_free(&a.d, xshimd_wait_find(a.c, 1));
	ck_assert_uint_eq(ab.n, 0);
	look(1, connector);
	ck_assert_uint_eq(b.offers, 0);
	expect_nothing(&a);
	hang_up();
}
END_TEST

/* The other guest guesses the number of what it has not been offered. */
START_TEST(an_answer_to_an_offer_that_has_not_been_made_is_void)
{
	static const uint16_t types[] = { XSHIMD_PEER_DECLINED, XSHIMD_PEER_CLAIMED, XSHIMD_PEER_OLDER };
	struct xshimd_peer_msg m = { .magic = XSHIMD_PEER_MAGIC, .version = XSHIMD_PEER_VERSION, .number = 1, .type = types[_i] };

	connect_from(0);
	offer(1, 1001);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	if (types[_i] == XSHIMD_PEER_CLAIMED)
		m.u.channel.half = (struct xshimd_peer_half){ .order = 12, .gref = 8, .nonce = 5 };
	if (types[_i] == XSHIMD_PEER_OLDER)
		m.u.time_ns = uv_hrtime();
	carrier_send(&b, &m);
	run();
	expect_nothing(&a);
	ck_assert_uint_eq(b.gones, types[_i] == XSHIMD_PEER_CLAIMED);
	look(1, connector);
	claim(2, 1002, UINT32_MAX);
	expect_matched(1, 1001, 2, 1002);
	hang_up();
}
END_TEST

START_TEST(offers_that_wait_for_the_time_end_with_the_other_daemon)
{
	connect_from(0);
	offer(1, 1001);
	expect(&a, XSHIM_MSG_LOOK_WANTED, 1);
	xshimd_peer_detach(&a.other.link, "it does not answer");
	expect_declined(&a, 1, XSHIM_R_DAEMON_LOST);
	look(1, connector);
	expect_nothing(&a);
	ck_assert_uint_eq(a.other.offers_out, 0);
	hang_up();
}
END_TEST

START_TEST(many_offers_are_made_at_the_price_of_two_questions)
{
	int socks[20][2];

	b_sleeps = true;
	for (uint32_t i = 0; i < 20; i++) {
		connect_from(0);
		offer(100 + i, 1);
		socks[i][0] = connector;
		socks[i][1] = accepted;
	}
	ck_assert_uint_eq(ab.n, 1);
	b_sleeps = false;
	run();
	ck_assert_uint_eq(a.other.link.ping, 2);
	for (uint32_t i = 0; i < 20; i++) {
		expect(&a, XSHIM_MSG_LOOK_WANTED, 100 + i);
		look(100 + i, socks[i][0]);
		close(socks[i][0]);
		close(socks[i][1]);
	}
	ck_assert_uint_eq(b.offers, 20);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("match_xen");
	TCase *t = tcase_create("two guests");

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, an_offer_is_made_when_its_socket_has_been_looked_at_again);
	tcase_add_test(t, ports_that_are_used_again_between_guests);
	tcase_add_test(t, what_is_accepted_late_is_offered_once_more);
	tcase_add_test(t, an_offer_that_is_older_twice_is_declined);
	tcase_add_test(t, ports_that_are_used_again_before_the_look);
	tcase_add_test(t, a_connection_that_has_ended_before_the_look_is_not_offered);
	tcase_add_test(t, a_look_that_nobody_asked_for_is_passed_over);
	tcase_add_test(t, an_offer_that_is_withdrawn_before_the_look_is_unknown_over_there);
	tcase_add_loop_test(t, an_answer_to_an_offer_that_has_not_been_made_is_void, 0, 3);
	tcase_add_test(t, offers_that_wait_for_the_time_end_with_the_other_daemon);
	tcase_add_test(t, many_offers_are_made_at_the_price_of_two_questions);
	suite_add_tcase(s, t);
	return s;
}

UNIT_MAIN(suite)
