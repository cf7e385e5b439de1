/* SPDX-License-Identifier: MIT */
/*
 * Every kind of bad input on the control socket: one clear line in the log, that client dropped or declined, and
 * the daemon, its descriptors and the other clients as before.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "daemon_harness.h"

enum outcome { DROPPED, DECLINED, REFUSED, NOTHING };

struct bad {
	const char *name;
	void (*act)(struct client *c, const struct daemon *d);
	enum outcome outcome;
	uint32_t reason;
	const char *line;
	bool root;		/* takes another user */
};

/* ---- packets ---- */

static void send_bytes(struct client *c, size_t len)
{
	union xshim_msg m;
	char buf[4096] = "";

	xshim_msg_init(&m, XSHIM_MSG_PING, 1);
	memcpy(buf, &m, sizeof(m));
	client_raw(c->fd, buf, len, NULL, 0);
}

static void act_empty(struct client *c, const struct daemon *d) { (void)d; send_bytes(c, 0); }
static void act_one(struct client *c, const struct daemon *d) { (void)d; send_bytes(c, 1); }
static void act_15(struct client *c, const struct daemon *d) { (void)d; send_bytes(c, 15); }
static void act_17(struct client *c, const struct daemon *d) { (void)d; send_bytes(c, 17); }
static void act_129(struct client *c, const struct daemon *d) { (void)d; send_bytes(c, 129); }
static void act_4096(struct client *c, const struct daemon *d) { (void)d; send_bytes(c, 4096); }

static void send_ping(struct client *c, uint32_t magic, uint16_t version, uint16_t type, uint32_t length)
{
	union xshim_msg m;

	xshim_msg_init(&m, XSHIM_MSG_PING, 1);
	m.h.magic = magic;
	m.h.version = version;
	m.h.type = type;
	m.h.length = length;
	client_raw(c->fd, &m, sizeof(m.plain), NULL, 0);
}

static void act_magic(struct client *c, const struct daemon *d)
{
	(void)d;
	send_ping(c, 0x12345678, XSHIM_PROTO_VERSION, XSHIM_MSG_PING, 16);
}

static void act_length(struct client *c, const struct daemon *d)
{
	(void)d;
	send_ping(c, XSHIM_PROTO_MAGIC, XSHIM_PROTO_VERSION, XSHIM_MSG_PING, 0x80000000u);
}

static void act_type(struct client *c, const struct daemon *d)
{
	(void)d;
	send_ping(c, XSHIM_PROTO_MAGIC, XSHIM_PROTO_VERSION, 999, 16);
}

static void act_older(struct client *c, const struct daemon *d)
{
	(void)d;
	send_ping(c, XSHIM_PROTO_MAGIC, 0, XSHIM_MSG_PING, 16);
}

static void act_wrong_state(struct client *c, const struct daemon *d)
{
	(void)d;
	send_ping(c, XSHIM_PROTO_MAGIC, XSHIM_PROTO_VERSION, XSHIM_MSG_PONG, 16);
}

static void act_hello_twice(struct client *c, const struct daemon *d)
{
	union xshim_msg m;

	(void)d;
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.hello.kind = XSHIM_CLIENT_SHIM;
	client_raw(c->fd, &m, sizeof(m.hello), NULL, 0);
}

static void act_unterminated(struct client *c, const struct daemon *d)
{
	union xshim_msg m;

	(void)d;
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	memset(m.hello.comm, 'x', sizeof(m.hello.comm));
	client_raw(c->fd, &m, sizeof(m.hello), NULL, 0);
}

static void act_report_what(struct client *c, const struct daemon *d)
{
	union xshim_msg m;

	(void)d;
	xshim_msg_init(&m, XSHIM_MSG_REPORT_ASK, 0);
	m.report_ask.what = 77;
	client_raw(c->fd, &m, sizeof(m.report_ask), NULL, 0);
}

static void act_report_reserved(struct client *c, const struct daemon *d)
{
	union xshim_msg m;

	(void)d;
	xshim_msg_init(&m, XSHIM_MSG_REPORT_ASK, 0);
	m.report_ask.what = XSHIM_REPORT_TOTALS;
	m.report_ask.reserved = 1;
	client_raw(c->fd, &m, sizeof(m.report_ask), NULL, 0);
}

/* ---- descriptors ---- */

struct parts {			/* a good OFFER, of which each case spoils one part */
	struct pair pair;
	struct xshim_local l;
	union xshim_msg m;
	int fds[5];
	unsigned int nfds;
};

static void parts_make(struct parts *p)
{
	pair_open(&p->pair, NULL);
	channel_make(&p->l, 12, 99);
	xshim_msg_init(&p->m, XSHIM_MSG_OFFER, 5);
	p->m.channel.cookie = cookie_of(p->pair.connector);
	p->m.channel.order = 12;
	p->m.channel.nonce = 99;
	p->fds[0] = p->pair.connector;
	p->fds[1] = p->l.fds[XSHIM_LOCAL_MEMORY];
	p->fds[2] = p->l.fds[XSHIM_LOCAL_BELL];
	p->fds[3] = p->l.fds[XSHIM_LOCAL_LIFE_OUT];
	p->nfds = 4;
}

static void parts_send(struct parts *p, struct client *c)
{
	client_raw(c->fd, &p->m, sizeof(p->m.channel), p->fds, p->nfds);
	channel_free(&p->l);
	/* The pair stays until the test's process ends: closed now, the daemon might find it so. */
}

static void with_tcp(struct client *c, int fd, uint64_t cookie)
{
	struct parts p;

	parts_make(&p);
	p.fds[0] = fd;
	p.m.channel.cookie = cookie;
	parts_send(&p, c);
	close(fd);
}

static void act_no_fds(struct client *c, const struct daemon *d)
{
	struct parts p;

	(void)d;
	parts_make(&p);
	p.nfds = 0;
	parts_send(&p, c);
}

static void act_two_fds(struct client *c, const struct daemon *d)
{
	struct parts p;

	(void)d;
	parts_make(&p);
	p.nfds = 2;
	parts_send(&p, c);
}

static void act_ping_fd(struct client *c, const struct daemon *d)
{
	union xshim_msg m;
	int fd = 0;

	(void)d;
	xshim_msg_init(&m, XSHIM_MSG_PING, 1);
	client_raw(c->fd, &m, sizeof(m.plain), &fd, 1);
}

static void act_253_fds(struct client *c, const struct daemon *d)
{
	union xshim_msg m;
	int fds[253];

	(void)d;
	for (int i = 0; i < 253; i++)
		fds[i] = c->fd;
	xshim_msg_init(&m, XSHIM_MSG_PING, 1);
	client_raw(c->fd, &m, sizeof(m.plain), fds, 253);
}

static void act_pipe(struct client *c, const struct daemon *d)
{
	int fds[2];

	(void)d;
	ck_assert_int_eq(pipe(fds), 0);
	with_tcp(c, fds[0], 1);
	close(fds[1]);
}

static void act_file(struct client *c, const struct daemon *d) { with_tcp(c, open(d->log, O_RDONLY), 1); }
static void act_directory(struct client *c, const struct daemon *d) { (void)d; with_tcp(c, open("/", O_RDONLY), 1); }
static void act_path(struct client *c, const struct daemon *d) { (void)d; with_tcp(c, open("/", O_PATH), 1); }
static void act_udp(struct client *c, const struct daemon *d) { (void)d; with_tcp(c, socket(AF_INET, SOCK_DGRAM, 0), 1); }
static void act_unix(struct client *c, const struct daemon *d) { (void)d; with_tcp(c, socket(AF_UNIX, SOCK_STREAM, 0), 1); }

static void act_unconnected(struct client *c, const struct daemon *d)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)d;
	with_tcp(c, fd, cookie_of(fd));
}

static void act_listening(struct client *c, const struct daemon *d)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)d;
	ck_assert_int_eq(listen(fd, 1), 0);
	with_tcp(c, fd, cookie_of(fd));
}

static void act_cookie(struct client *c, const struct daemon *d)
{
	struct parts p;

	(void)d;
	parts_make(&p);
	p.m.channel.cookie = cookie_of(p.pair.accepted);
	parts_send(&p, c);
}

static void act_cookie_0(struct client *c, const struct daemon *d)
{
	struct parts p;

	(void)d;
	parts_make(&p);
	p.m.channel.cookie = 0;
	parts_send(&p, c);
}

/* A client of uid 65534 that got hold of a socket of root's. */
static void act_not_owner(struct client *c, const struct daemon *d)
{
	struct parts p;
	pid_t pid;
	int status;

	(void)c;
	parts_make(&p);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct client other;

		if (setgid(65534) || setuid(65534))
			_exit(1);
		client_open(&other, d, NULL, 0);
		client_raw(other.fd, &p.m, sizeof(p.m.channel), p.fds, p.nfds);
		client_expect_declined(&other, 5, XSHIM_R_NOT_OWNER);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	channel_free(&p.l);
	pair_close(&p.pair);
}

static void with_region(struct client *c, int fd, uint32_t order)
{
	struct parts p;

	parts_make(&p);
	if (fd >= 0)
		p.fds[1] = fd;
	p.m.channel.order = order;
	parts_send(&p, c);
	if (fd >= 0)
		close(fd);
}

static int memory(size_t bytes, int seals, bool filled)
{
	int fd = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	if (filled)
		ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)bytes), 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

static void with_seals(struct client *c, int seals)
{
	with_region(c, memory(xshim_region_bytes(12), seals, true), 12);
}

static void act_no_shrink(struct client *c, const struct daemon *d) { (void)d; with_seals(c, ALL_SEALS & ~F_SEAL_SHRINK); }
static void act_no_grow(struct client *c, const struct daemon *d) { (void)d; with_seals(c, ALL_SEALS & ~F_SEAL_GROW); }
static void act_no_future(struct client *c, const struct daemon *d) { (void)d; with_seals(c, ALL_SEALS & ~F_SEAL_FUTURE_WRITE); }
static void act_no_seal(struct client *c, const struct daemon *d) { (void)d; with_seals(c, ALL_SEALS & ~F_SEAL_SEAL); }

static void act_small(struct client *c, const struct daemon *d)
{
	(void)d;
	with_region(c, memory(xshim_region_bytes(12) - 1, ALL_SEALS, true), 12);
}

static void act_big(struct client *c, const struct daemon *d)
{
	(void)d;
	with_region(c, memory((size_t)1 << 60, ALL_SEALS, false), 12);
}

static void act_holes(struct client *c, const struct daemon *d)
{
	(void)d;
	with_region(c, memory(xshim_region_bytes(12), ALL_SEALS, false), 12);
}

static void act_order_11(struct client *c, const struct daemon *d) { (void)d; with_region(c, -1, 11); }
static void act_order_25(struct client *c, const struct daemon *d) { (void)d; with_region(c, -1, 25); }
static void act_order_13(struct client *c, const struct daemon *d) { (void)d; with_region(c, -1, 13); }
static void act_zero(struct client *c, const struct daemon *d) { (void)d; with_region(c, open("/dev/zero", O_RDWR), 12); }

static void with_other(struct client *c, unsigned int which, int fd)
{
	struct parts p;

	parts_make(&p);
	p.fds[which] = fd;
	parts_send(&p, c);
	close(fd);
}

static void with_bell(struct client *c, int fd) { with_other(c, 2, fd); }
static void with_life(struct client *c, int fd) { with_other(c, 3, fd); }

static void act_bell_file(struct client *c, const struct daemon *d) { with_bell(c, open(d->log, O_RDONLY)); }
static void act_bell_tcp(struct client *c, const struct daemon *d) { (void)d; with_bell(c, socket(AF_INET, SOCK_STREAM, 0)); }
static void act_bell_alone(struct client *c, const struct daemon *d) { (void)d; with_bell(c, socket(AF_UNIX, SOCK_STREAM, 0)); }
static void act_bell_named(struct client *c, const struct daemon *d) { with_bell(c, client_socket(d)); }
static void act_bell_eventfd(struct client *c, const struct daemon *d) { (void)d; with_bell(c, eventfd(0, 0)); }
static void act_life_timerfd(struct client *c, const struct daemon *d) { (void)d; with_life(c, timerfd_create(CLOCK_MONOTONIC, 0)); }
static void act_life_alone(struct client *c, const struct daemon *d) { (void)d; with_life(c, socket(AF_UNIX, SOCK_STREAM, 0)); }

static void act_endpoint_pipe(struct client *c, const struct daemon *d)
{
	int fds[2];

	(void)d;
	ck_assert_int_eq(pipe(fds), 0);
	client_send(c, XSHIM_MSG_ENDPOINT, 0, &fds[1], 1);
	close(fds[0]);
	close(fds[1]);
}

static const struct bad bads[] = {
	{ "empty", act_empty, DROPPED, 0, "length=0", false },
	{ "one byte", act_one, DROPPED, 0, "length=1:", false },
	{ "header less one", act_15, DROPPED, 0, "length=15:", false },
	{ "one too many", act_17, DROPPED, 0, "length", false },
	{ "longest plus one", act_129, DROPPED, 0, "length: more than 128", false },
	{ "a page", act_4096, DROPPED, 0, "length: more than 128", false },
	{ "magic", act_magic, DROPPED, 0, "magic=0x12345678", false },
	{ "length field", act_length, DROPPED, 0, "length=2147483648", false },
	{ "type", act_type, DROPPED, 0, "type=999: unknown", false },
	{ "older version", act_older, REFUSED, XSHIM_R_VERSION, "protocol 0, this xshimd speaks 8", false },
	{ "state", act_wrong_state, DROPPED, 0, "type=PONG: unexpected in state greeted", false },
	{ "second HELLO", act_hello_twice, DROPPED, 0, "type=HELLO: unexpected in state greeted", false },
	{ "unterminated name", act_unterminated, DROPPED, 0, "comm is not terminated", false },
	{ "report", act_report_what, DROPPED, 0, "what=77", false },
	{ "reserved", act_report_reserved, DROPPED, 0, "reserved is not zero", false },
	{ "no descriptors", act_no_fds, DROPPED, 0, "OFFER: descriptors=0", false },
	{ "two descriptors", act_two_fds, DROPPED, 0, "OFFER: descriptors=2", false },
	{ "PING with one", act_ping_fd, DROPPED, 0, "PING: descriptors=1", false },
	{ "253 descriptors", act_253_fds, DROPPED, 0, "5 descriptors", false },
	{ "pipe", act_pipe, DROPPED, 0, "fd 0: a pipe: not a TCP socket", false },
	{ "file", act_file, DROPPED, 0, "fd 0: a file: not a TCP socket", false },
	{ "directory", act_directory, DROPPED, 0, "fd 0: a file: not a TCP socket", false },
	{ "O_PATH", act_path, DROPPED, 0, "not a TCP socket", false },
	{ "UDP", act_udp, DROPPED, 0, "not a TCP socket", false },
	{ "unix", act_unix, DROPPED, 0, "not a TCP socket", false },
	{ "listening", act_listening, DROPPED, 0, "not an established TCP socket (state LISTEN)", false },
	{ "unconnected", act_unconnected, DECLINED, XSHIM_R_PEER_DIED, "not an established TCP socket (state CLOSE)", false },
	{ "another's cookie", act_cookie, DECLINED, XSHIM_R_NOT_OWNER, "cookie=", false },
	{ "cookie 0", act_cookie_0, DECLINED, XSHIM_R_NOT_OWNER, "cookie=0", false },
	{ "another user's socket", act_not_owner, NOTHING, 0, "socket of uid 0, not of the caller", true },
	{ "no SHRINK", act_no_shrink, DROPPED, 0, "seals 0x15, need 0x17", false },
	{ "no GROW", act_no_grow, DROPPED, 0, "seals 0x13, need 0x17", false },
	{ "no FUTURE_WRITE", act_no_future, DROPPED, 0, "seals 0x7, need 0x17", false },
	{ "no SEAL", act_no_seal, DROPPED, 0, "seals 0x16, need 0x17", false },
	{ "a byte short", act_small, DROPPED, 0, "8191 bytes, order 12 needs 8192", false },
	{ "2^60 bytes", act_big, DROPPED, 0, "order 12 needs 8192", false },
	{ "holes", act_holes, DROPPED, 0, "0 of 8192 bytes allocated", false },
	{ "order 11", act_order_11, DROPPED, 0, "order=11: from 12 to 24", false },
	{ "order 25", act_order_25, DROPPED, 0, "order=25: from 12 to 24", false },
	{ "another order", act_order_13, DROPPED, 0, "order 13 needs 12288", false },
	{ "/dev/zero", act_zero, DROPPED, 0, "a file: ring memory must be a memfd", false },
	{ "bell file", act_bell_file, DROPPED, 0, "fd 2: a file: a bell that is no timerfd must be", false },
	{ "bell TCP", act_bell_tcp, DROPPED, 0, "socket of family 2: a bell that is no timerfd must be a unix stream socket", false },
	{ "bell unconnected", act_bell_alone, DROPPED, 0, "half of a socketpair", false },
	{ "bell SEQPACKET", act_bell_named, DROPPED, 0, "a bell that is no timerfd must be a unix stream socket", false },
	{ "bell eventfd", act_bell_eventfd, DROPPED, 0, "a bell that is no timerfd must be a unix stream socket", false },
	{ "life timerfd", act_life_timerfd, DROPPED, 0, "fd 3: a timer: a life must be a unix stream socket", false },
	{ "life unconnected", act_life_alone, DROPPED, 0, "a life must be half of a socketpair", false },
	{ "endpoint", act_endpoint_pipe, DROPPED, 0, "ENDPOINT: fd 0: a pipe", false },
};

START_TEST(bad_input_costs_only_its_sender)
{
	const struct bad *b = &bads[_i];
	int before, fds[XSHIM_PROTO_MAX_FDS];
	struct client other, c;
	unsigned int nfds;
	union xshim_msg m;
	struct daemon d;
	char who[40];

	if (b->root && geteuid() != 0)
		return;
	daemon_start(&d, NULL);
	client_open(&other, &d, NULL, 0);
	before = daemon_fds(&d);
	client_open(&c, &d, NULL, 0);
	b->act(&c, &d);
	switch (b->outcome) {
	case DROPPED:
		ck_assert_uint_eq(client_recv(c.fd, &m, fds, &nfds), 0);
		break;
	case REFUSED:
		client_expect(&c, XSHIM_MSG_REFUSED, &m);
		ck_assert_uint_eq(m.refused.reason, b->reason);
		ck_assert_uint_eq(m.refused.version_max, XSHIM_PROTO_VERSION);
		ck_assert_uint_eq(client_recv(c.fd, &m, fds, &nfds), 0);
		break;
	case DECLINED:
		client_expect_declined(&c, 5, b->reason);
		client_ping(&c);
		break;
	case NOTHING:
		client_ping(&c);
		break;
	}
	client_close(&c);
	client_ping(&other);
	unit_wait_for(daemon_fds(&d) == before);
	if (daemon_log_count(&d, b->line) != 1 || daemon_log_count(&d, "uid ") != 1)
		daemon_log_show(&d);
	ck_assert_msg(daemon_log_count(&d, b->line) == 1, "%s: no line, or more, with \"%s\"", b->name, b->line);
	ck_assert_msg(daemon_log_count(&d, "uid ") == 1, "%s: more than one line", b->name);
	snprintf(who, sizeof(who), ": uid %u pid %d: ", geteuid(), (int)getpid());
	if (!b->root)
		ck_assert_int_eq(daemon_log_count(&d, who), 1);
	client_close(&other);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(hello_of_another_version_is_answered)
{
	int before, fd, fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;
	struct daemon d;

	daemon_start(&d, NULL);
	before = daemon_fds(&d);
	fd = client_socket(&d);
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.h.version = XSHIM_PROTO_VERSION + 1;
	m.h.length = 100;	/* a later HELLO may be longer */
	client_raw(fd, &m, 100, NULL, 0);
	ck_assert_uint_eq(client_recv(fd, &m, fds, &nfds), XSHIM_MSG_REFUSED);
	ck_assert_uint_eq(m.refused.reason, XSHIM_R_VERSION);
	ck_assert_uint_eq(m.refused.version_min, XSHIM_PROTO_VERSION);
	ck_assert_uint_eq(client_recv(fd, &m, fds, &nfds), 0);
	close(fd);
	ck_assert_int_eq(daemon_log_count(&d, "protocol 9, this xshimd speaks 8"), 1);
	unit_wait_for(daemon_fds(&d) == before);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(nothing_but_hello_is_heard_first)
{
	int fd, fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;
	struct daemon d;

	daemon_start(&d, NULL);
	fd = client_socket(&d);
	xshim_msg_init(&m, XSHIM_MSG_PING, 0);
	client_raw(fd, &m, sizeof(m.plain), NULL, 0);
	ck_assert_uint_eq(client_recv(fd, &m, fds, &nfds), 0);
	close(fd);
	ck_assert_int_eq(daemon_log_count(&d, "type=PING: unexpected in state new"), 1);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(hello_with_something_that_is_no_arena_is_dropped)
{
	int before, fd, arena, fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;
	struct daemon d;

	daemon_start(&d, NULL);
	before = daemon_fds(&d);
	fd = client_socket(&d);
	arena = memory(XSHIM_ARENA_BYTES, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, false);
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.hello.kind = XSHIM_CLIENT_SHIM;
	client_raw(fd, &m, sizeof(m.hello), &arena, 1);
	ck_assert_uint_eq(client_recv(fd, &m, fds, &nfds), 0);
	close(fd);
	close(arena);
	ck_assert_int_eq(daemon_log_count(&d, "HELLO: fd 0: not an arena"), 1);
	unit_wait_for(daemon_fds(&d) == before);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(who_says_nothing_is_dropped_in_time)
{
	int fd, fds[XSHIM_PROTO_MAX_FDS];
	uint64_t start = unit_now_ms();
	unsigned int nfds;
	union xshim_msg m;
	struct daemon d;

	daemon_start(&d, "hello_timeout = 1\n");
	fd = client_socket(&d);
	ck_assert_uint_eq(client_recv(fd, &m, fds, &nfds), 0);
	ck_assert_uint_ge(unit_now_ms() - start, 900);
	close(fd);
	ck_assert_int_eq(daemon_log_count(&d, "HELLO: none in 1 s"), 1);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(who_does_not_read_is_dropped_and_holds_up_nobody)
{
	struct client c, other;
	struct daemon d;
	union xshim_msg m;
	int n;

	daemon_start(&d, NULL);
	client_open(&other, &d, NULL, 0);
	client_open(&c, &d, NULL, 0);
	xshim_msg_init(&m, XSHIM_MSG_PING, 1);
	for (n = 0; n < 100000; n++) {
		int rc = xshim_msg_send(c.fd, &m, NULL, 0);

		if (rc == -EPIPE || rc == -ECONNRESET)
			break;
		if (rc == -EAGAIN)
			client_ping(&other);
	}
	ck_assert_int_lt(n, 100000);
	client_ping(&other);
	ck_assert_int_eq(daemon_log_count(&d, "PONG: it cannot be sent"), 1);
	client_close(&c);
	client_close(&other);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(a_flood_of_mistakes_is_one_line)
{
	struct client c;
	struct daemon d;

	daemon_start(&d, NULL);
	for (int i = 0; i < 200; i++) {
		int fd = client_socket(&d), fds[XSHIM_PROTO_MAX_FDS];
		unsigned int nfds;
		union xshim_msg m;

		client_raw(fd, "x", 1, NULL, 0);
		ck_assert_uint_eq(client_recv(fd, &m, fds, &nfds), 0);
		close(fd);
	}
	ck_assert_int_eq(daemon_log_count(&d, "length=1:"), 1);
	client_open(&c, &d, NULL, 0);
	client_ping(&c);
	client_close(&c);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(mail_is_counted_for_each_message)
{
	struct client c;
	struct daemon d;

	daemon_start(&d, NULL);
	client_open(&c, &d, NULL, 0);
	for (int i = 0; i < 3; i++)
		client_ping(&c);
	/* WELCOME and three PONGs, each counted after it was sent. */
	unit_wait_for(atomic_load(&c.map->mail[c.mail].seq) == 4);
	ck_assert_uint_eq(atomic_load(&c.map->closing), 0);
	daemon_stop(&d, SIGTERM);
	ck_assert_uint_eq(atomic_load(&c.map->closing), 1);
	client_close(&c);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon_protocol");
	TCase *t = tcase_create("bad input");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, bad_input_costs_only_its_sender, 0, (int)(sizeof(bads) / sizeof(bads[0])));
	suite_add_tcase(s, t);
	t = tcase_create("life");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, hello_of_another_version_is_answered);
	tcase_add_test(t, nothing_but_hello_is_heard_first);
	tcase_add_test(t, hello_with_something_that_is_no_arena_is_dropped);
	tcase_add_test(t, who_says_nothing_is_dropped_in_time);
	tcase_add_test(t, who_does_not_read_is_dropped_and_holds_up_nobody);
	tcase_add_test(t, a_flood_of_mistakes_is_one_line);
	tcase_add_test(t, mail_is_counted_for_each_message);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return harness_main(suite());
}
