/* SPDX-License-Identifier: MIT */
/*
 * hostile.c - in place of a guest's xshimd, after that one has been stopped: hostile PEER-DOMID WHAT [ADDRESS PORT]
 *
 * Connects to the xshimd of PEER-DOMID as xen_wire.h says, greets it in the name of the one that was there, and then
 *
 *   storm    rings without end for three seconds, and sends nothing
 *   garbage  sends a message that is none
 *   beyond   says that it has sent more than the ring has room for
 *   silent   never sends HELLO
 *   older    sends HELLO in the version before ours
 *   refs     connects to ADDRESS PORT over plain TCP, and offers a ring for the connection with grants and a port that are none
 *   revoke   likewise, with a ring that is one; takes it away when it has been claimed
 *
 * With refs and revoke it plays the part of `talk connect` for as many `rounds` as the other end asks for: every byte must be right.
 * Status 0: done, and the TCP connection did not notice; 1 and a line on stderr: not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <xshim/backend.h>
#include <xshim/endpoint.h>

#include "../../../daemon/xen_peer.h"
#include "../../../daemon/xen_store.h"

#define ORDER XSHIM_RING_ORDER_MIN
#define ROUNDS 3000
#define CLAIMED_AT 1500			/* by then it must have been offered and answered */

static const struct xshim_backend *be;
static struct xshim_local local;
static struct xshim_remote remote;
static struct xshimd_store *store;
static uint32_t self, peer;
static uint64_t put, taken;

static _Noreturn void give_up(const char *what, int rc)
{
	fprintf(stderr, "hostile: %s: %s\n", what, strerror(rc < 0 ? -rc : errno));
	exit(1);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	struct timespec t = { .tv_nsec = ms * 1000000 };

	nanosleep(&t, NULL);
}

/* ---- the connection to the daemon ---- */

static void read_own(const char *path, struct xshimd_store_value *v)
{
	int rc = xshimd_store_read(store, v, "%s", path);

	if (rc < 0)
		give_up(path, rc);
}

static int its_half(bool offer, struct xshimd_xen_half *h)
{
	struct xshimd_store_value v;
	const char *why;
	int rc = xshimd_store_read(store, &v, "/local/domain/%u/data/xshim/peer/%u/%s", peer, self, offer ? "offer" : "claim");

	return rc < 0 ? rc : xshimd_xen_half_parse(v.text, v.len, offer, h, &why);
}

static void make(struct xshim_local *l, bool offers)
{
	struct xshim_party party = { .domid = peer, .offers = offers, .seldom = true };
	int rc = be->create(l, &party, ORDER, (uint64_t)getpid() << 40 | (now_ms() & 0xffffffffff) | 1);

	if (rc < 0)
		give_up("a half of a ring", rc);
}

static int try_wire(void)
{
	bool offers = self < peer;
	struct xshimd_xen_half its, own;
	char text[XSHIMD_XEN_HALF_TEXT];
	struct xshim_ticket t;
	int rc;

	if (!offers) {
		rc = its_half(true, &its);
		if (rc < 0)
			return rc;
	}
	make(&local, offers);
	own = (struct xshimd_xen_half){ .gref = local.gref, .port = local.port, .nonce = local.nonce, .to = offers ? 0 : its.nonce };
	xshimd_xen_half_format(text, offers, &own);
	if (offers)
		xshimd_store_write(store, self, peer, text, "data/xshim/peer/%u/offer", peer);
	for (int i = 0; offers && i < 100; i++) {
		rc = its_half(false, &its);
		if (rc == 0 && its.to == local.nonce)
			break;
		rc = -EAGAIN;
		pause_ms(50);
	}
	if (offers && rc < 0)
		return rc;
	t = (struct xshim_ticket){ .nonce = its.nonce, .order = ORDER, .domid = peer, .gref = its.gref, .port = its.port };
	rc = be->attach(&remote, &local, &t, NULL);
	if (rc == 0 && !offers)
		rc = xshimd_store_write(store, self, peer, text, "data/xshim/peer/%u/claim", peer);
	return rc;
}

static void wire(void)
{
	uint64_t limit = now_ms() + 20000;
	int rc;

	while ((rc = try_wire()) < 0) {
		if (now_ms() > limit)
			give_up("a connection to the other daemon", rc);
		if (local.region) {
			be->bye(&local);
			be->destroy(&local);
		}
		pause_ms(100);
	}
}

static void put_message(const void *m)
{
	memcpy(xshim_region_data(local.region) + put % (1u << ORDER), m, XSHIMD_PEER_MSG);
	put += XSHIMD_PEER_MSG;
	atomic_store(&local.region->head, put);
	(void)be->ring(&local, &remote);
}

static struct xshimd_peer_msg message(enum xshimd_peer_type type, uint32_t number)
{
	struct xshimd_peer_msg m;

	memset(&m, 0, sizeof(m));
	m.magic = XSHIMD_PEER_MAGIC;
	m.version = XSHIMD_PEER_VERSION;
	m.type = (uint16_t)type;
	m.number = number;
	return m;
}

static void greet(bool as_older)
{
	struct xshimd_peer_msg m = message(XSHIMD_PEER_HELLO, 0);
	struct xshimd_store_value v;
	const char *why;

	read_own("data/xshim/instance", &v);
	if (xshimd_xen_hex(v.text, v.len, &m.u.instance, &why) < 0)
		give_up(why, -EINVAL);
	m.version = (uint16_t)(m.version - as_older);
	put_message(&m);
}

/* Has an answer of this type come? Everything that has is taken; the last of the type is *out. */
static bool heard(enum xshimd_peer_type type, struct xshimd_peer_msg *out)
{
	struct xshimd_peer_msg m;
	bool yes = false;

	(void)be->hush(&local, &remote);
	while (atomic_load(&remote.region->head) - taken >= XSHIMD_PEER_MSG) {
		memcpy(&m, xshim_region_cdata(remote.region) + taken % (1u << ORDER), sizeof(m));
		taken += XSHIMD_PEER_MSG;
		atomic_store(&local.region->tail, taken);
		if (m.type != (uint16_t)type)
			continue;
		*out = m;
		yes = true;
	}
	return yes;
}

/* ---- what it does ---- */

static void storm(void)
{
	uint64_t end = now_ms() + 3000, n = 0;

	for (; now_ms() < end; n++)
		(void)be->ring(&local, &remote);
	printf("rang %llu times\n", (unsigned long long)n);
}

static unsigned char pattern(uint64_t n)	/* as in tests/prog/talk.c */
{
	return (unsigned char)((n * 2654435761u) >> 13 ^ n >> 32);
}

static int connect_to(const char *address, const char *port, struct xshim_tuple *as_it_sees)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) }, own;
	socklen_t len = sizeof(own);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (s < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	    getsockname(s, (struct sockaddr *)&own, &len) < 0)
		give_up("connect", 0);
	memset(as_it_sees, 0, sizeof(*as_it_sees));
	xshim_endpoint_from_sockaddr(&as_it_sees->local, (struct sockaddr *)&to, sizeof(to));
	xshim_endpoint_from_sockaddr(&as_it_sees->remote, (struct sockaddr *)&own, sizeof(own));
	return s;
}

static void over_tcp(const char *address, const char *port, bool revoke)
{
	struct xshimd_peer_msg m = message(XSHIMD_PEER_OFFER, 1), ping = message(XSHIMD_PEER_PING, 1), answer;
	bool offered = false, answered = false;
	struct xshim_local ring;
	int s;

	make(&ring, true);
	s = connect_to(address, port, &m.u.channel.tuple);
	m.u.channel.half = (struct xshimd_peer_half){ .order = ORDER, .gref = revoke ? ring.gref : 0x7fffff,
		.port = revoke ? ring.port : 77777, .nonce = ring.nonce };
	for (uint64_t n = 0; n < ROUNDS; n++) {
		unsigned char byte = pattern(n);

		if (send(s, &byte, 1, MSG_NOSIGNAL) != 1 || recv(s, &byte, 1, 0) != 1)
			give_up("a round over TCP", 0);
		if (byte != pattern(n)) {
			fprintf(stderr, "hostile: byte %llu is wrong\n", (unsigned long long)n);
			exit(1);
		}
		if (n == 0) {		/* the connection has been accepted */
			put_message(&ping);
		} else if (!offered && heard(XSHIMD_PEER_PONG, &answer)) {
			m.u.channel.heard_ns = answer.u.time_ns;
			put_message(&m);
			offered = true;
		} else if (offered && !answered && heard(XSHIMD_PEER_CLAIMED, &answer)) {
			answered = true;
			printf("claimed in round %llu\n", (unsigned long long)n);
			if (revoke) {
				pause_ms(200);	/* mapped by now, or it finds nothing: both must do */
				be->bye(&ring);
				be->destroy(&ring);
			}
		}
		if (n == CLAIMED_AT && !answered) {
			fprintf(stderr, "hostile: the offer has not been claimed\n");
			exit(1);
		}
	}
	close(s);
}

int main(int argc, char **argv)
{
	struct xshimd_store_value v;
	struct xshimd_peer_msg hello;
	const char *what, *why;
	uint64_t n;
	int rc;

	if (argc < 3) {
		fprintf(stderr, "usage: hostile PEER-DOMID storm|garbage|beyond|silent|older|refs|revoke [ADDRESS PORT]\n");
		return 2;
	}
	peer = (uint32_t)atoi(argv[1]);
	what = argv[2];
	be = xshim_backend_of(XSHIM_BACKEND_XEN);
	rc = xshimd_store_open(&store);
	if (rc < 0 || !be)
		give_up("xenstore", rc);
	read_own("domid", &v);
	if (xshimd_xen_number(v.text, v.len, XSHIMD_XEN_DOMID_MAX, &n, &why) < 0)
		give_up(why, -EINVAL);
	self = (uint32_t)n;
	wire();
	if (strcmp(what, "silent"))
		greet(!strcmp(what, "older"));
	for (int i = 0; strcmp(what, "silent") && !heard(XSHIMD_PEER_HELLO, &hello); i++) {
		if (i == 100)
			give_up("HELLO of the other daemon", -ETIMEDOUT);
		pause_ms(50);
	}
	if (!strcmp(what, "storm")) {
		storm();
	} else if (!strcmp(what, "garbage")) {
		char junk[XSHIMD_PEER_MSG];

		memset(junk, 0xaa, sizeof(junk));
		put_message(junk);
	} else if (!strcmp(what, "beyond")) {
		atomic_store(&local.region->head, put + ((uint64_t)1 << 40));
		(void)be->ring(&local, &remote);
	} else if (argc == 5) {
		over_tcp(argv[3], argv[4], !strcmp(what, "revoke"));
	}
	/* the other end is to act on it before we end */
	for (int i = 0; argc == 3 && i < 200 && atomic_load(&remote.region->alive) == XSHIM_REGION_ALIVE; i++)
		pause_ms(50);
	if (argc == 3 && atomic_load(&remote.region->alive) == XSHIM_REGION_ALIVE) {
		fprintf(stderr, "hostile: the other daemon goes on with us\n");
		return 1;
	}
	/* the end of a process alone rings nobody, and the one that comes after this one has the same instance */
	be->bye(&local);
	return 0;
}
