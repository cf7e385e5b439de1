/* SPDX-License-Identifier: MIT */
/*
 * Who is introduced to whom: on one network namespace; what bounds offers; and what becomes of them.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "daemon_harness.h"

static uint64_t print_of(const struct pair *p)
{
	struct xshim_tuple t;

	ck_assert_int_eq(xshim_tuple_from_socket(&t, p->accepted), 0);
	return xshim_tuple_hash(&t);
}

START_TEST(two_ends_are_introduced)
{
	struct client a, b;
	struct daemon d;
	struct pair p;
	int before;

	daemon_start_for_two(&d, &a, &b);
	before = daemon_fds(&d);
	for (uint32_t i = 1; i <= 20; i++) {
		pair_open(&p, NULL);
		client_channel(&a, XSHIM_MSG_OFFER, i, p.connector, 1000 + i, -1);
		unit_wait_for(xshim_map_has_offer(a.map, print_of(&p)));
		client_channel(&b, XSHIM_MSG_CLAIM, 100 + i, p.accepted, 2000 + i, -1);
		client_expect_matched(&b, 100 + i, 1000 + i);
		client_expect_matched(&a, i, 2000 + i);
		ck_assert(!xshim_map_has_offer(a.map, print_of(&p)));
		pair_close(&p);
	}
	unit_wait_for(daemon_fds(&d) == before);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(claim_without_offer_is_told_so)
{
	struct client b;
	struct daemon d;
	struct pair p;

	daemon_start(&d, NULL);
	client_open(&b, &d, NULL, 0);
	pair_open(&p, NULL);
	client_channel(&b, XSHIM_MSG_CLAIM, 4, p.accepted, 1, -1);
	client_expect_declined(&b, 4, XSHIM_R_PEER_SILENT);
	client_close(&b);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(the_two_ends_of_another_connection_do_not_fit)
{
	struct client a, b;
	struct pair p, q;
	struct daemon d;

	daemon_start_for_two(&d, &a, &b);
	pair_open(&p, NULL);
	pair_open(&q, NULL);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 1, -1);
	client_ping(&a);
	client_channel(&b, XSHIM_MSG_CLAIM, 2, q.accepted, 2, -1);
	client_expect_declined(&b, 2, XSHIM_R_PEER_SILENT);
	/* The same end twice is no pair either. */
	client_channel(&b, XSHIM_MSG_CLAIM, 3, p.connector, 3, -1);
	client_expect_declined(&b, 3, XSHIM_R_PEER_SILENT);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(both_ends_in_one_process_stay_on_tcp)
{
	struct daemon d;
	struct client a;
	struct pair p;

	daemon_start(&d, NULL);
	client_open(&a, &d, NULL, 0);
	pair_open(&p, NULL);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 1, -1);
	client_channel(&a, XSHIM_MSG_CLAIM, 2, p.accepted, 2, -1);
	client_expect_declined(&a, 1, XSHIM_R_SAME_PROCESS);
	client_expect_declined(&a, 2, XSHIM_R_SAME_PROCESS);
	ck_assert(!xshim_map_has_offer(a.map, print_of(&p)));
	client_close(&a);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(endpoints_are_published_while_somebody_has_them)
{
	struct xshim_tuple t;
	struct client a, b;
	uint64_t hash, gen;
	struct daemon d;
	struct pair p;

	daemon_start_for_two(&d, &a, &b);
	pair_open(&p, NULL);
	ck_assert_int_eq(xshim_tuple_from_socket(&t, p.accepted), 0);
	hash = xshim_endpoint_hash(&t.local);
	gen = atomic_load(&a.map->generation);
	ck_assert(!xshim_map_has_endpoint(a.map, hash));
	client_send(&a, XSHIM_MSG_ENDPOINT, 1, &p.accepted, 1);
	client_send(&a, XSHIM_MSG_ENDPOINT, 1, &p.accepted, 1);
	client_send(&b, XSHIM_MSG_ENDPOINT, 1, &p.accepted, 1);
	client_ping(&a);
	client_ping(&b);
	ck_assert(xshim_map_has_endpoint(a.map, hash));
	ck_assert_uint_gt(atomic_load(&a.map->generation), gen);
	client_close(&a);
	client_ping(&b);
	unit_wait_for(daemon_log_count(&d, "uid ") == 0 && xshim_map_has_endpoint(b.map, hash));
	client_open(&a, &d, NULL, 0);
	ck_assert(xshim_map_has_endpoint(a.map, hash));
	client_close(&b);
	unit_wait_for(!xshim_map_has_endpoint(a.map, hash));
	client_close(&a);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(withdrawn_offer_is_gone)
{
	struct client a, b;
	struct daemon d;
	struct pair p;
	int before;

	daemon_start_for_two(&d, &a, &b);
	before = daemon_fds(&d);
	pair_open(&p, NULL);
	client_channel(&a, XSHIM_MSG_OFFER, 9, p.connector, 1, -1);
	client_ping(&a);
	ck_assert_int_eq(daemon_fds(&d), before + 3);
	ck_assert(xshim_map_has_offer(a.map, print_of(&p)));
	client_send(&a, XSHIM_MSG_WITHDRAW, 8, NULL, 0);
	client_ping(&a);
	ck_assert(xshim_map_has_offer(a.map, print_of(&p)));
	client_send(&a, XSHIM_MSG_WITHDRAW, 9, NULL, 0);
	client_ping(&a);
	ck_assert(!xshim_map_has_offer(a.map, print_of(&p)));
	ck_assert_int_eq(daemon_fds(&d), before);
	client_channel(&b, XSHIM_MSG_CLAIM, 1, p.accepted, 2, -1);
	client_expect_declined(&b, 1, XSHIM_R_PEER_SILENT);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(second_offer_of_one_id_replaces_the_first)
{
	struct client a, b;
	struct daemon d;
	struct pair p;
	int before;

	daemon_start_for_two(&d, &a, &b);
	before = daemon_fds(&d);
	pair_open(&p, NULL);
	for (uint64_t nonce = 1; nonce <= 3; nonce++)
		client_channel(&a, XSHIM_MSG_OFFER, 9, p.connector, nonce, -1);
	client_ping(&a);
	ck_assert_int_eq(daemon_fds(&d), before + 3);
	client_channel(&b, XSHIM_MSG_CLAIM, 1, p.accepted, 50, -1);
	client_expect_matched(&b, 1, 3);
	client_expect_matched(&a, 9, 50);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(offer_that_nobody_claims_expires)
{
	struct daemon d;
	struct client a;
	struct pair p;
	int before;

	daemon_start(&d, "offer_timeout = 1\n");
	client_open(&a, &d, NULL, 0);
	before = daemon_fds(&d);
	pair_open(&p, NULL);
	client_channel(&a, XSHIM_MSG_OFFER, 9, p.connector, 1, -1);
	ck_assert(client_silent(a.fd, 500));
	client_expect_declined(&a, 9, XSHIM_R_PEER_SILENT);
	ck_assert(!xshim_map_has_offer(a.map, print_of(&p)));
	ck_assert_int_eq(daemon_fds(&d), before);
	client_close(&a);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(offers_die_with_their_client)
{
	struct client b;
	struct daemon d;
	struct pair p;
	int before, status;
	pid_t pid;

	daemon_start(&d, NULL);
	client_open(&b, &d, NULL, 0);
	before = daemon_fds(&d);
	pair_open(&p, NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct client a;

		client_open(&a, &d, NULL, 0);
		client_channel(&a, XSHIM_MSG_OFFER, 9, p.connector, 1, -1);
		client_ping(&a);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	unit_wait_for(!xshim_map_has_offer(b.map, print_of(&p)));
	unit_wait_for(daemon_fds(&d) == before);
	client_channel(&b, XSHIM_MSG_CLAIM, 1, p.accepted, 2, -1);
	client_expect_declined(&b, 1, XSHIM_R_PEER_SILENT);
	client_close(&b);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(a_tcp_socket_is_not_kept)
{
	struct client a;
	struct daemon d;
	struct pair p;
	char c;

	daemon_start(&d, NULL);
	client_open(&a, &d, NULL, 0);
	pair_open(&p, NULL);
	client_channel(&a, XSHIM_MSG_OFFER, 9, p.connector, 1, -1);
	client_ping(&a);
	/* While the offer waits, closing our own descriptor must end the connection. */
	close(p.connector);
	ck_assert_int_eq(read(p.accepted, &c, 1), 0);
	client_close(&a);
	daemon_stop(&d, SIGTERM);
}
END_TEST

/* Who offered has closed by RST, without a word, and stays: the next connection between these ports is not his. */
START_TEST(ports_that_are_used_again)
{
	struct sockaddr_in from = { .sin_family = AF_INET }, to;
	struct linger now = { 1, 0 };
	socklen_t len = sizeof(from);
	struct client a, b;
	struct daemon d;
	struct pair p;

	daemon_start_for_two(&d, &a, &b);
	pair_open(&p, NULL);
	getsockname(p.connector, (struct sockaddr *)&from, &len);
	getsockname(p.listener, (struct sockaddr *)&to, &len);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 1001, -1);
	client_ping(&a);
	setsockopt(p.connector, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(p.connector);
	close(p.accepted);
	p.connector = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(p.connector, (struct sockaddr *)&from, len), 0);
	ck_assert_int_eq(connect(p.connector, (struct sockaddr *)&to, len), 0);
	p.accepted = accept(p.listener, NULL, NULL);
	client_channel_aged(&b, XSHIM_MSG_CLAIM, 2, p.accepted, 1002, -1, 0);
	client_expect_declined(&b, 2, XSHIM_R_PEER_SILENT);
	client_expect_declined(&a, 1, XSHIM_R_PEER_SILENT);
	/* one that was made when the connection was there is good */
	client_channel(&a, XSHIM_MSG_OFFER, 3, p.connector, 1003, -1);
	client_ping(&a);
	client_channel(&b, XSHIM_MSG_CLAIM, 4, p.accepted, 1004, -1);
	client_expect_matched(&b, 4, 1003);
	client_expect_matched(&a, 3, 1004);
	pair_close(&p);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(quotas_bound_offers_and_rings)
{
	struct client a, b;
	struct pair p[4];
	struct xshim_local l;
	struct daemon d;
	union xshim_msg m;
	int fds[4];

	daemon_start(&d, "max_offers = 2\nmax_ring_size = 4096\n");
	client_open(&a, &d, NULL, 0);
	client_open(&b, &d, NULL, 0);
	for (int i = 0; i < 4; i++)
		pair_open(&p[i], NULL);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p[0].connector, 1, -1);
	client_channel(&b, XSHIM_MSG_OFFER, 2, p[1].connector, 2, -1);
	client_ping(&b);
	client_channel(&a, XSHIM_MSG_OFFER, 3, p[2].connector, 3, -1);
	client_expect_declined(&a, 3, XSHIM_R_QUOTA);
	client_channel(&b, XSHIM_MSG_OFFER, 4, p[3].connector, 3, -1);
	client_expect_declined(&b, 4, XSHIM_R_QUOTA);
	ck_assert_int_eq(daemon_log_count(&d, "waiting offers=2: as many as one user may have; declined (quota)"), 1);
	/* What is given back can be had again. */
	client_send(&b, XSHIM_MSG_WITHDRAW, 2, NULL, 0);
	client_channel(&b, XSHIM_MSG_OFFER, 4, p[3].connector, 4, -1);
	client_ping(&b);
	/* A bigger ring than is allowed. */
	client_send(&b, XSHIM_MSG_WITHDRAW, 4, NULL, 0);
	channel_make(&l, 13, 5);
	xshim_msg_init(&m, XSHIM_MSG_OFFER, 5);
	m.channel.cookie = cookie_of(p[3].connector);
	m.channel.order = 13;
	m.channel.nonce = 5;
	fds[0] = p[3].connector;
	fds[1] = l.fds[XSHIM_LOCAL_MEMORY];
	fds[2] = l.fds[XSHIM_LOCAL_BELL];
	fds[3] = l.fds[XSHIM_LOCAL_LIFE_OUT];
	client_raw(b.fd, &m, sizeof(m.channel), fds, 4);
	client_expect_declined(&b, 5, XSHIM_R_QUOTA);
	channel_free(&l);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(quota_bounds_connections_of_one_user_only)
{
	int fds[XSHIM_PROTO_MAX_FDS], third, status;
	struct client a, b;
	unsigned int nfds;
	union xshim_msg m;
	struct daemon d;
	pid_t pid;

	daemon_start(&d, "max_connections = 2\n");
	client_open(&a, &d, NULL, 0);
	/* The harness' own first look may still be counted. */
	for (;;) {
		int fd = client_socket(&d);

		xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
		m.hello.kind = XSHIM_CLIENT_TOOL;
		xshim_msg_send(fd, &m, NULL, 0);
		if (client_recv(fd, &m, fds, &nfds) == XSHIM_MSG_WELCOME) {
			close(fds[0]);
			b.fd = fd;
			break;
		}
		close(fd);
	}
	third = client_socket(&d);
	ck_assert_uint_eq(client_recv(third, &m, fds, &nfds), XSHIM_MSG_REFUSED);
	ck_assert_uint_eq(m.refused.reason, XSHIM_R_QUOTA);
	ck_assert_uint_eq(client_recv(third, &m, fds, &nfds), 0);
	close(third);
	if (geteuid() == 0) {
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			struct client c;

			if (setgid(65534) || setuid(65534))
				_exit(1);
			client_open(&c, &d, NULL, 0);
			client_ping(&c);
			_exit(0);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
	}
	close(b.fd);
	client_ping(&a);
	client_close(&a);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(a_new_daemon_is_a_new_instance)
{
	struct client a, b;
	struct daemon d;

	daemon_start(&d, NULL);
	client_open(&a, &d, NULL, 0);
	daemon_stop(&d, SIGKILL);
	/* The socket it left behind is found to be stale. */
	ck_assert_int_eq(access(d.socket, F_OK), 0);
	daemon_start(&d, NULL);
	client_open(&b, &d, NULL, 0);
	ck_assert_uint_ne(a.instance, b.instance);
	daemon_stop_for_two(&d, &a, &b);
	ck_assert_int_ne(access(d.socket, F_OK), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon_match");
	TCase *t = tcase_create("match");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, two_ends_are_introduced);
	tcase_add_test(t, claim_without_offer_is_told_so);
	tcase_add_test(t, the_two_ends_of_another_connection_do_not_fit);
	tcase_add_test(t, both_ends_in_one_process_stay_on_tcp);
	tcase_add_test(t, endpoints_are_published_while_somebody_has_them);
	tcase_add_test(t, withdrawn_offer_is_gone);
	tcase_add_test(t, second_offer_of_one_id_replaces_the_first);
	tcase_add_test(t, offer_that_nobody_claims_expires);
	tcase_add_test(t, ports_that_are_used_again);
	tcase_add_test(t, offers_die_with_their_client);
	tcase_add_test(t, a_tcp_socket_is_not_kept);
	tcase_add_test(t, quotas_bound_offers_and_rings);
	tcase_add_test(t, quota_bounds_connections_of_one_user_only);
	tcase_add_test(t, a_new_daemon_is_a_new_instance);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return harness_main(suite());
}
