/* SPDX-License-Identifier: MIT */
/*
 * F55: what is passed to xshimd is a file of a file system that does not answer, so that fstat() and close() of it never return. It is
 * held up by nothing of the kind: others are served meanwhile, and who sends it costs his own user what there is, and no more.
 *
 * Takes the right to mount a FUSE file system; without it nothing is tested, and that is said.
 */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "daemon_harness.h"
#include "stuck_file.h"

#define USER 65534		/* not root, who has more */

enum what { TCP, REGION, BELL, LIFE, PROBE, ARENA, ENDPOINT, LATE_PROBE, LATE_LOOK, RESUME, UNASKED, TOO_MANY, NO_MESSAGE, WHATS };

/* A message in which the descriptor is where that is due. */
static void send_stuck(int sock, enum what what, int fd)
{
	struct xshim_local l;
	struct pair p;
	union xshim_msg m;
	int fds[20], n = 0;

	switch (what) {
	case TCP:
	case REGION:
	case BELL:
	case LIFE:
	case PROBE:
		ck_assert_int_eq(seteuid(USER), 0);
		pair_open(&p, NULL);
		ck_assert_int_eq(seteuid(0), 0);
		channel_make(&l, 12, 1);
		xshim_msg_init(&m, XSHIM_MSG_OFFER, 1);
		m.channel.cookie = cookie_of(p.connector);
		m.channel.order = 12;
		m.channel.nonce = 1;
		fds[TCP] = p.connector;
		fds[REGION] = l.fds[XSHIM_LOCAL_MEMORY];
		fds[BELL] = l.fds[XSHIM_LOCAL_BELL];
		fds[LIFE] = l.fds[XSHIM_LOCAL_LIFE_OUT];
		fds[what] = fd;
		client_raw(sock, &m, m.h.length, fds, what == PROBE ? 5 : 4);
		channel_free(&l);
		pair_close(&p);
		return;
	case ARENA:
		xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
		m.hello.kind = XSHIM_CLIENT_SHIM;
		n = 1;
		break;
	case ENDPOINT:
		xshim_msg_init(&m, XSHIM_MSG_ENDPOINT, 0);
		n = 1;
		break;
	case LATE_PROBE:
		xshim_msg_init(&m, XSHIM_MSG_PROBE, 77);
		n = 1;
		break;
	case LATE_LOOK:
		xshim_msg_init(&m, XSHIM_MSG_LOOK, 77);
		n = 1;
		break;
	case RESUME:
		xshim_msg_init(&m, XSHIM_MSG_RESUME, 77);
		n = 1;
		break;
	case UNASKED:
		xshim_msg_init(&m, XSHIM_MSG_PING, 77);
		n = 3;
		break;
	default:
		xshim_msg_init(&m, XSHIM_MSG_PING, 77);
		n = what == TOO_MANY ? 20 : 2;
		break;
	}
	for (int i = 0; i < n; i++)
		fds[i] = fd;
	client_raw(sock, &m, what == NO_MESSAGE ? 0 : m.h.length, fds, (unsigned int)n);
}

/* A client of that user; HELLO is said. */
static int greeted(const struct daemon *d, uid_t uid, bool hello)
{
	int fds[XSHIM_PROTO_MAX_FDS], sock;
	unsigned int nfds;
	union xshim_msg m;

	ck_assert_int_eq(seteuid(uid), 0);
	sock = client_socket(d);
	ck_assert_int_eq(seteuid(0), 0);
	if (!hello)
		return sock;
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.hello.kind = XSHIM_CLIENT_SHIM;
	client_raw(sock, &m, m.h.length, NULL, 0);
	ck_assert_uint_eq(client_recv(sock, &m, fds, &nfds), XSHIM_MSG_WELCOME);
	while (nfds)
		close(fds[--nfds]);
	return sock;
}

static void expect_end(int sock)
{
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;

	while (client_recv(sock, &m, fds, &nfds))
		;
	close(sock);
}

START_TEST(a_file_that_does_not_answer_holds_up_nobody)
{
	enum what what = (enum what)_i;
	struct stuck_file f;
	struct daemon d;
	int before, sock;

	daemon_start(&d, NULL);
	before = daemon_fds(&d);
	stuck_file_open(&f, harness_dir());
	sock = greeted(&d, USER, what != ARENA);
	stuck_file_stop(&f);
	send_stuck(sock, what, f.fd);
	daemon_introduces(&d);
	/* It is in the close of the first; that one has no number any more. */
	close(sock);
	unit_wait_for(daemon_fds(&d) == before + (what == UNASKED ? 2 : what == NO_MESSAGE ? 1 : what == TOO_MANY ? XSHIM_PROTO_MAX_FDS - 1 : 0));
	stuck_file_end(&f);
	unit_wait_for(daemon_fds(&d) == before);
	daemon_introduces(&d);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(who_sends_many_is_not_heard_and_others_are)
{
	struct stuck_file f;
	struct daemon d;
	int sock[6], last;

	daemon_start(&d, NULL);
	stuck_file_open(&f, harness_dir());
	for (int i = 0; i < 6; i++)
		sock[i] = greeted(&d, USER, true);
	last = greeted(&d, USER, true);
	stuck_file_stop(&f);
	for (int i = 0; i < 6; i++) {
		send_stuck(sock[i], UNASKED, f.fd);
		expect_end(sock[i]);
	}
	ck_assert_int_eq(daemon_log_count(&d, "descriptors that do not close=4: nothing is received from this user"), 1);
	send_stuck(last, UNASKED, f.fd);
	expect_end(last);
	daemon_introduces(&d);
	/* When they have been closed he is as anybody. */
	stuck_file_end(&f);
	for (uint64_t limit = unit_now_ms() + 20000;;) {
		int fds[XSHIM_PROTO_MAX_FDS];
		unsigned int nfds;
		union xshim_msg m;
		uint32_t got;

		last = greeted(&d, USER, false);
		xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
		m.hello.kind = XSHIM_CLIENT_SHIM;
		client_raw(last, &m, m.h.length, NULL, 0);
		got = client_recv(last, &m, fds, &nfds);
		while (got && nfds)
			close(fds[--nfds]);
		close(last);
		if (got == XSHIM_MSG_WELCOME)
			break;
		ck_assert_uint_eq(got, XSHIM_MSG_REFUSED);
		ck_assert_uint_lt(unit_now_ms(), limit);
		unit_nap();
	}
	daemon_stop(&d, SIGTERM);
}
END_TEST

/* Its last close waits for an hour, if it is let; also where it is in a message that is not received, because of the one before. */
START_TEST(a_socket_that_lingers_holds_up_nobody)
{
	static const char much[1 << 20];
	const struct linger hour = { 1, 3600 };
	union xshim_msg m;
	struct daemon d;
	struct pair p;
	int sock;

	daemon_start(&d, NULL);
	sock = greeted(&d, USER, true);
	pair_open(&p, NULL);
	ck_assert_int_eq(setsockopt(p.connector, SOL_SOCKET, SO_LINGER, &hour, sizeof(hour)), 0);
	while (send(p.connector, much, sizeof(much), MSG_DONTWAIT) > 0)
		;
	/* Ours is closed while the daemon cannot read. */
	ck_assert_int_eq(kill(d.pid, SIGSTOP), 0);
	if (_i)
		client_raw(sock, "?", 1, NULL, 0);
	xshim_msg_init(&m, XSHIM_MSG_ENDPOINT, 0);
	client_raw(sock, &m, m.h.length, &p.connector, 1);
	close(p.connector);
	ck_assert_int_eq(kill(d.pid, SIGCONT), 0);
	daemon_introduces(&d);
	close(p.accepted);
	close(p.listener);
	close(sock);
	daemon_stop(&d, SIGTERM);
}
END_TEST

static Suite *suite(bool stuck)
{
	Suite *s = suite_create("daemon_stuck");
	TCase *t = tcase_create("files");

	tcase_set_timeout(t, 60);
	if (stuck) {
		tcase_add_loop_test(t, a_file_that_does_not_answer_holds_up_nobody, 0, WHATS);
		tcase_add_test(t, who_sends_many_is_not_heard_and_others_are);
	}
	tcase_add_loop_test(t, a_socket_that_lingers_holds_up_nobody, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	const char *why_not = geteuid() ? "it takes root" : stuck_file_why_not();
	int rc;

	if (geteuid()) {
		printf("skipped: %s\n", why_not);
		return 77;
	}
	if (why_not)
		printf("skipped: files that do not answer: %s\n", why_not);
	rc = harness_main(suite(!why_not));
	return rc || !why_not ? rc : 77;
}
