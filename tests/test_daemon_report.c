/* SPDX-License-Identifier: MIT */
/*
 * What xshimd counts: rows of arenas, totals that outlive the clients, and arenas that are not what they claim.
 */
#include <fcntl.h>
#include <jansson.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon_harness.h"

static json_t *ask(struct client *c, uint32_t what)
{
	char *text = client_report(c, what);
	json_error_t err;
	json_t *o = json_loads(text, 0, &err);

	ck_assert_msg(o != NULL, "not JSON: %s", err.text);
	ck_assert_int_eq(json_integer_value(json_object_get(o, "version")), 1);
	ck_assert_uint_eq(strlen(json_string_value(json_object_get(o, "instance"))), 16);
	free(text);
	return o;
}

static long long at(json_t *o, const char *a, const char *b, const char *c)
{
	o = json_object_get(o, a);
	if (b)
		o = json_object_get(o, b);
	if (c)
		o = json_object_get(o, c);
	ck_assert_msg(json_is_integer(o), "no number %s %s %s", a, b ? b : "", c ? c : "");
	return json_integer_value(o);
}

static const char *text_at(json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "(null)";
}

static struct xshim_endpoint ep(uint8_t last, uint16_t port)
{
	struct xshim_endpoint e = { .addr = { [10] = 0xff, [11] = 0xff, 10, 0, 0, last }, .port = port };

	return e;
}

static struct xshim_slot *slot(struct xshim_arena *a, uint8_t local, uint8_t remote, uint64_t netns, uint32_t reason)
{
	struct xshim_slot *s = xshim_slot_alloc(a);

	ck_assert_ptr_nonnull(s);
	s->tuple.local = ep(local, 80);
	s->tuple.remote = ep(remote, 80);
	s->netns = netns;
	s->role = XSHIM_ROLE_CONNECT;
	strcpy(s->comm, "prog\x80\"x");
	atomic_store(&s->reason, reason);
	atomic_store(&s->transport, reason == XSHIM_R_RING ? XSHIM_TRANSPORT_RING : XSHIM_TRANSPORT_TCP);
	atomic_store(&s->pid, 42);
	atomic_store(&s->named, 1);
	xshim_slot_publish(s);
	return s;
}

START_TEST(rows_show_what_the_arenas_hold)
{
	struct xshim_arena a, b;
	int fd_a, fd_b;
	struct client ca, cb;
	struct xshim_slot *s;
	struct daemon d;
	json_t *o, *rows, *row;
	size_t i;

	daemon_start(&d, NULL);
	ck_assert_int_eq(xshim_arena_create(&a, &fd_a), 0);
	ck_assert_int_eq(xshim_arena_create(&b, &fd_b), 0);
	client_open(&ca, &d, &fd_a, 1);
	client_open(&cb, &d, &fd_b, 1);
	s = slot(&a, 1, 2, 7, XSHIM_R_RING);
	atomic_store(&s->n.ring_tx, 1000);
	atomic_store(&s->n.attaches, 1);
	slot(&b, 2, 1, 8, XSHIM_R_SWITCHING);
	slot(&a, 3, 4, 7, XSHIM_R_NEW);
	/* Not named, not published: not shown. */
	s = xshim_slot_alloc(&a);
	xshim_slot_publish(s);
	xshim_slot_alloc(&a);
	o = ask(&ca, XSHIM_REPORT_CONNECTIONS);
	rows = json_object_get(o, "connections");
	ck_assert_uint_eq(json_array_size(rows), 3);
	json_array_foreach(rows, i, row) {
		ck_assert_str_eq(text_at(row, "command"), "prog?\"x");
		ck_assert_int_eq(at(row, "pid", NULL, NULL), 42);
		ck_assert_int_eq(at(row, "uid", NULL, NULL), geteuid());
		ck_assert_str_eq(text_at(row, "role"), "connect");
		if (!strcmp(text_at(row, "local"), "10.0.0.1:80")) {
			ck_assert_str_eq(text_at(row, "remote"), "10.0.0.2:80");
			ck_assert_str_eq(text_at(row, "transport"), "ring");
			ck_assert_str_eq(text_at(row, "peer_reason"), "switching");
			ck_assert_int_eq(at(row, "ring_tx", NULL, NULL), 1000);
			ck_assert_int_eq(at(row, "netns", NULL, NULL), 7);
		} else if (!strcmp(text_at(row, "local"), "10.0.0.2:80")) {
			ck_assert_str_eq(text_at(row, "peer_reason"), "ring");
		} else {
			ck_assert_str_eq(text_at(row, "reason"), "new");
			ck_assert(json_is_null(json_object_get(row, "peer_reason")));
		}
	}
	json_decref(o);
	client_close(&ca);
	client_close(&cb);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(totals_outlive_the_clients_and_count_once)
{
	struct client c, c2, look;
	struct xshim_arena a;
	struct xshim_slot *s;
	struct daemon d;
	json_t *o;
	int fd, before;

	daemon_start(&d, NULL);
	client_open(&look, &d, NULL, 0);
	before = daemon_fds(&d);
	ck_assert_int_eq(xshim_arena_create(&a, &fd), 0);
	/* Two control connections of a family share one arena. */
	client_open(&c, &d, &fd, 1);
	client_open(&c2, &d, &fd, 1);
	s = slot(&a, 1, 2, 7, XSHIM_R_RING);
	atomic_store(&s->n.ring_tx, 500);
	atomic_store(&s->n.attaches, 1);
	xshim_slot_free(&a, s);
	s = slot(&a, 1, 3, 7, XSHIM_R_RING);
	atomic_store(&s->n.ring_tx, 50);
	atomic_store(&s->n.attaches, 1);
	slot(&a, 1, 4, 7, XSHIM_R_POLICY);
	for (int phase = 0; phase < 4; phase++) {
		bool gone = phase == 1 || phase == 3;

		o = ask(&look, XSHIM_REPORT_TOTALS);
		ck_assert_int_eq(at(o, "bytes", "ring_tx", NULL), 550);
		ck_assert_int_eq(at(o, "counters", "attaches", NULL), 2);
		ck_assert_int_eq(at(o, "connections", "open", NULL), gone ? 0 : 2);
		ck_assert_int_eq(at(o, "connections", "on_ring", NULL), gone ? 0 : 1);
		ck_assert_int_eq(at(o, "connections", "ended", NULL), gone ? 3 : 1);
		ck_assert_int_eq(at(o, "connections", "ended_on_ring", NULL), gone ? 2 : 1);
		ck_assert_int_eq(at(o, "reasons", "ring", "ended"), gone ? 2 : 1);
		ck_assert_int_eq(at(o, "reasons", "policy", gone ? "ended" : "open"), 1);
		ck_assert_int_eq(at(o, "daemon", "arenas", NULL), gone ? 0 : 1);
		ck_assert_int_eq(at(o, "clients", NULL, NULL), gone ? 1 : phase == 0 ? 3 : 2);
		json_decref(o);
		if (phase == 0) {
			/* One of the two going changes nothing, the other ends it. */
			client_close(&c2);
			client_ping(&look);
			o = ask(&look, XSHIM_REPORT_TOTALS);
			ck_assert_int_eq(at(o, "connections", "open", NULL), 2);
			json_decref(o);
		} else if (phase == 1) {
			/* A client that was dropped comes back with its arena. */
			client_open(&c, &d, &fd, 1);
			continue;
		}
		if (!gone) {
			client_close(&c);
			unit_wait_for(daemon_fds(&d) == before);
		}
	}
	unit_wait_for(daemon_fds(&d) == before);
	client_close(&look);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(daemon_counters_count)
{
	struct client a, b;
	struct daemon d;
	struct pair p;
	json_t *o;

	daemon_start_for_two(&d, &a, &b);
	pair_open(&p, NULL);
	client_send(&b, XSHIM_MSG_ENDPOINT, 1, &p.accepted, 1);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 1, -1);
	client_ping(&a);
	o = ask(&a, XSHIM_REPORT_TOTALS);
	ck_assert_int_eq(at(o, "daemon", "offers_waiting", NULL), 1);
	json_decref(o);
	client_channel(&b, XSHIM_MSG_CLAIM, 1, p.accepted, 2, -1);
	client_expect_matched(&b, 1, 1);
	client_expect_matched(&a, 1, 2);
	client_channel(&b, XSHIM_MSG_CLAIM, 1, p.accepted, 2, -1);
	client_expect_declined(&b, 1, XSHIM_R_PEER_SILENT);
	client_raw(b.fd, "x", 1, NULL, 0);
	unit_wait_for(daemon_log_count(&d, "length=1") == 1);
	o = ask(&a, XSHIM_REPORT_TOTALS);
	ck_assert_int_eq(at(o, "daemon", "offers", NULL), 1);
	ck_assert_int_eq(at(o, "daemon", "claims", NULL), 2);
	ck_assert_int_eq(at(o, "daemon", "matched", NULL), 1);
	ck_assert_int_eq(at(o, "daemon", "declined", "peer-silent"), 1);
	ck_assert_int_eq(at(o, "daemon", "bad_messages", NULL), 1);
	ck_assert_int_eq(at(o, "daemon", "clients_total", NULL), 2);
	ck_assert_int_eq(at(o, "daemon", "offers_waiting", NULL), 0);
	ck_assert_int_eq(at(o, "clients", NULL, NULL), 1);
	json_decref(o);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(a_user_sees_his_own_connections_only)
{
	struct xshim_arena a;
	struct client root;
	struct daemon d;
	json_t *o;
	pid_t pid;
	int fd, status;

	if (geteuid() != 0)
		return;
	daemon_start(&d, NULL);
	ck_assert_int_eq(xshim_arena_create(&a, &fd), 0);
	client_open(&root, &d, &fd, 1);
	slot(&a, 1, 2, 7, XSHIM_R_NEW);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct client c;
		struct xshim_arena own;
		int own_fd;
		json_t *rows;

		if (setgid(65534) || setuid(65534))
			_exit(1);
		ck_assert_int_eq(xshim_arena_create(&own, &own_fd), 0);
		client_open(&c, &d, &own_fd, 1);
		slot(&own, 2, 1, 7, XSHIM_R_POLICY);
		rows = json_object_get(ask(&c, XSHIM_REPORT_CONNECTIONS), "connections");
		ck_assert_uint_eq(json_array_size(rows), 1);
		ck_assert_int_eq(at(json_array_get(rows, 0), "uid", NULL, NULL), 65534);
		ck_assert_str_eq(text_at(json_array_get(rows, 0), "peer_reason"), "new");
		rows = json_object_get(ask(&c, XSHIM_REPORT_CONNECTIONS), "connections");
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	o = ask(&root, XSHIM_REPORT_CONNECTIONS);
	ck_assert_uint_eq(json_array_size(json_object_get(o, "connections")), 1);
	json_decref(o);
	client_close(&root);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(an_arena_that_lies_harms_nobody)
{
	struct client c, look;
	struct xshim_arena a;
	struct daemon d;
	uint64_t seed = 4711;
	uint64_t *words;
	struct stat st;
	json_t *o;
	int fd;

	daemon_start(&d, NULL);
	client_open(&look, &d, NULL, 0);
	ck_assert_int_eq(xshim_arena_create(&a, &fd), 0);
	client_open(&c, &d, &fd, 1);
	/* Slots are announced that do not exist: looking must not bring them into being. */
	atomic_store(&a.hdr->high_water, 0xffffffffu);
	json_decref(ask(&look, XSHIM_REPORT_TOTALS));
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_lt(st.st_blocks, 64);
	/* Then everything is noise, but for the state and the flag that make slots be looked at. */
	for (uint32_t i = 0; i < XSHIM_ARENA_SLOTS; i += 16) {
		struct xshim_slot *s = xshim_slot_at(&a, i);

		words = (uint64_t *)s;
		for (size_t k = 0; k < sizeof(*s) / sizeof(*words); k++)
			words[k] = unit_random(&seed);
		atomic_store(&s->state, XSHIM_SLOT_USED);
		atomic_store(&s->named, 1);
	}
	words = (uint64_t *)&a.hdr->done;
	for (size_t k = 0; k < sizeof(a.hdr->done) / sizeof(*words); k++)
		words[k] = unit_random(&seed);
	o = ask(&look, XSHIM_REPORT_CONNECTIONS);
	ck_assert_uint_eq(json_array_size(json_object_get(o, "connections")), 256);
	json_decref(o);
	o = ask(&look, XSHIM_REPORT_TOTALS);
	ck_assert_int_eq(at(o, "connections", "open", NULL), 256);
	json_decref(o);
	client_close(&c);
	client_ping(&look);
	json_decref(ask(&look, XSHIM_REPORT_TOTALS));
	client_close(&look);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(rings_of_a_user_are_bounded)
{
	struct xshim_arena a;
	struct client c;
	struct daemon d;
	struct pair p;
	int fd;

	daemon_start(&d, "max_rings = 2\n");
	ck_assert_int_eq(xshim_arena_create(&a, &fd), 0);
	slot(&a, 1, 2, 7, XSHIM_R_RING);
	slot(&a, 1, 3, 7, XSHIM_R_RING);
	client_open(&c, &d, &fd, 1);
	pair_open(&p, NULL);
	client_channel(&c, XSHIM_MSG_OFFER, 1, p.connector, 1, -1);
	client_expect_declined(&c, 1, XSHIM_R_QUOTA);
	ck_assert_int_eq(daemon_log_count(&d, "rings=2: as many as max_rings allows"), 1);
	client_close(&c);
	daemon_stop(&d, SIGTERM);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon_report");
	TCase *t = tcase_create("report");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, rows_show_what_the_arenas_hold);
	tcase_add_test(t, totals_outlive_the_clients_and_count_once);
	tcase_add_test(t, daemon_counters_count);
	tcase_add_test(t, a_user_sees_his_own_connections_only);
	tcase_add_test(t, an_arena_that_lies_harms_nobody);
	tcase_add_test(t, rings_of_a_user_are_bounded);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return harness_main(suite());
}
