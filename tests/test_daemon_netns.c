/* SPDX-License-Identifier: MIT */
/*
 * Two ends in different network namespaces are introduced only if one reaches the other; a private namespace
 * that copies the addresses and ports never is. Needs root; every namespace is unnamed and dies with its test.
 *
 *     A: 10.99.0.1 ---- veth ---- B: 10.99.0.2
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "daemon_harness.h"

#define ADDR_A "10.99.0.1"
#define ADDR_B "10.99.0.2"

static int ns_home, ns_a, ns_b;

__attribute__((format(printf, 1, 2)))
static void sh(const char *fmt, ...)
{
	char cmd[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	ck_assert_msg(system(cmd) == 0, "failed: %s", cmd);
}

static int here(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void enter(int ns)
{
	ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

static int make_ns(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	sh("ip link set lo up");
	return here();
}

/* A veth pair: `here_name` in the present namespace, `there_name` in ns. */
static void join(int ns, const char *here_name, const char *here_addr, const char *there_name, const char *there_addr)
{
	int back = here();

	sh("ip link add %s type veth peer name %s netns /proc/%d/fd/%d", here_name, there_name, (int)getpid(), ns);
	sh("ip addr add %s dev %s && ip link set %s up", here_addr, here_name, here_name);
	enter(ns);
	sh("ip addr add %s dev %s && ip link set %s up", there_addr, there_name, there_name);
	enter(back);
	close(back);
}

static void setup(void)
{
	ns_home = here();
	ns_b = make_ns();
	ns_a = make_ns();
	join(ns_b, "va", ADDR_A "/24", "vb", ADDR_B "/24");
	enter(ns_home);
}

static struct sockaddr_in addr_of(const char *ip, uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };

	ck_assert_int_eq(inet_pton(AF_INET, ip, &sin.sin_addr), 1);
	return sin;
}

static uint16_t port_of(int fd, bool remote)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	ck_assert_int_eq((remote ? getpeername : getsockname)(fd, (struct sockaddr *)&sin, &len), 0);
	return ntohs(sin.sin_port);
}

static int tcp_bound(const char *ip, uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
	struct sockaddr_in sin = addr_of(ip, port);

	ck_assert_int_ge(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	return fd;
}

static void set_blocking(int fd)
{
	int off = 0;

	ioctl(fd, FIONBIO, &off);
}

/* A connection from ip_c:port_c in ns_c to ip_l:port_l in ns_l; ports 0: any. */
static void pair_across(struct pair *p, int ns_c, const char *ip_c, uint16_t port_c, int ns_l, const char *ip_l,
			uint16_t port_l)
{
	struct sockaddr_in to;
	int back = here();

	enter(ns_l);
	p->listener = tcp_bound(ip_l, port_l);
	ck_assert_int_eq(listen(p->listener, 8), 0);
	set_blocking(p->listener);
	enter(ns_c);
	p->connector = tcp_bound(ip_c, port_c);
	set_blocking(p->connector);
	to = addr_of(ip_l, port_of(p->listener, false));
	ck_assert_int_eq(connect(p->connector, (struct sockaddr *)&to, sizeof(to)), 0);
	p->accepted = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(p->accepted, 0);
	enter(back);
	close(back);
}

/* One across the two namespaces: a offers, b claims. */
static void meet(struct pair *p, struct client *a, struct client *b)
{
	pair_across(p, ns_a, ADDR_A, 0, ns_b, ADDR_B, 0);
	client_channel(a, XSHIM_MSG_OFFER, 1, p->connector, 11, -1);
	client_ping(a);
	client_channel(b, XSHIM_MSG_CLAIM, 2, p->accepted, 22, -1);
}

static int probe_socket(int ns, const char *ip, bool listening)
{
	int back = here(), fd;

	enter(ns);
	fd = tcp_bound(ip, 0);
	if (listening)
		ck_assert_int_eq(listen(fd, 8), 0);
	enter(back);
	close(back);
	return fd;
}

/* PROBE_WANTED is due; answer with fd, which is closed here as the protocol has it. */
static void answer_probe(struct client *c, uint32_t id, int fd)
{
	union xshim_msg m;

	client_expect(c, XSHIM_MSG_PROBE_WANTED, &m);
	ck_assert_uint_eq(m.h.id, id);
	client_send(c, XSHIM_MSG_PROBE, id, &fd, 1);
	close(fd);
}

START_TEST(joined_namespaces_are_matched_by_a_probe)
{
	struct client a, b;
	struct daemon d;
	struct pair p;
	int before;

	setup();
	daemon_start_for_two(&d, &a, &b);
	before = daemon_fds(&d);
	meet(&p, &a, &b);
	answer_probe(&a, 1, probe_socket(ns_a, ADDR_A, false));
	answer_probe(&b, 2, probe_socket(ns_b, ADDR_B, true));
	client_expect_matched(&b, 2, 11);
	client_expect_matched(&a, 1, 22);
	pair_close(&p);
	/* The answer is remembered: the next one needs no probe. */
	pair_across(&p, ns_a, ADDR_A, 0, ns_b, ADDR_B, 0);
	client_channel(&a, XSHIM_MSG_OFFER, 3, p.connector, 33, -1);
	client_ping(&a);
	client_channel(&b, XSHIM_MSG_CLAIM, 4, p.accepted, 44, -1);
	client_expect_matched(&b, 4, 33);
	client_expect_matched(&a, 3, 44);
	unit_wait_for(daemon_fds(&d) == before);
	daemon_stop_for_two(&d, &a, &b);
}
END_TEST

START_TEST(sockets_that_come_with_offer_and_claim_are_used)
{
	struct client a, b;
	struct daemon d;
	struct pair p;
	int before, k, l;

	setup();
	daemon_start_for_two(&d, &a, &b);
	before = daemon_fds(&d);
	pair_across(&p, ns_a, ADDR_A, 0, ns_b, ADDR_B, 0);
	k = probe_socket(ns_a, ADDR_A, false);
	l = probe_socket(ns_b, ADDR_B, true);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 11, k);
	client_ping(&a);
	client_channel(&b, XSHIM_MSG_CLAIM, 2, p.accepted, 22, l);
	close(k);
	close(l);
	client_expect_matched(&b, 2, 11);
	client_expect_matched(&a, 1, 22);
	unit_wait_for(daemon_fds(&d) == before);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(cross_netns_off_needs_no_probe)
{
	struct client a, b;
	struct daemon d;
	struct pair p;

	setup();
	daemon_start(&d, "cross_netns = off\n");
	client_open(&a, &d, NULL, 0);
	client_open(&b, &d, NULL, 0);
	meet(&p, &a, &b);
	client_expect_declined(&b, 2, XSHIM_R_NETNS);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(equal_loopback_addresses_are_not_a_connection)
{
	struct client a, b;
	struct pair p, q;
	struct daemon d;

	setup();
	daemon_start_for_two(&d, &a, &b);
	pair_across(&p, ns_a, "127.0.0.1", 5001, ns_a, "127.0.0.1", 5002);
	pair_across(&q, ns_b, "127.0.0.1", 5001, ns_b, "127.0.0.1", 5002);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 11, -1);
	client_ping(&a);
	client_channel(&b, XSHIM_MSG_CLAIM, 2, q.accepted, 22, -1);
	client_expect_declined(&b, 2, XSHIM_R_NETNS);
	ck_assert(client_silent(a.fd, 0));
	daemon_stop(&d, SIGTERM);
}
END_TEST

/* ---- probe sockets that are not what they should be ---- */

enum wrong { WRONG_LISTENER, WRONG_NETNS, WRONG_ADDRESS, WRONG_CONNECTED, WRONG_UDP, WRONG_CONNECTOR, WRONG_COUNT };

START_TEST(bad_probe_socket_declines_its_sender_alone)
{
	static const char *const lines[WRONG_COUNT] = {
		[WRONG_LISTENER] = "an unconnected TCP socket is due (state LISTEN)",
		[WRONG_NETNS] = "socket of namespace",
		[WRONG_ADDRESS] = "bound to 127.0.0.1",
		[WRONG_CONNECTED] = "an unconnected TCP socket is due (state ESTABLISHED)",
		[WRONG_UDP] = "not a TCP socket",
		[WRONG_CONNECTOR] = "a listening TCP socket is due (state CLOSE)",
	};
	int before, fds[XSHIM_PROTO_MAX_FDS], k = -1, l;
	struct client a, b, other;
	struct xshim_tuple tuple;
	unsigned int nfds;
	union xshim_msg m;
	struct daemon d;
	struct pair p;

	setup();
	daemon_start(&d, NULL);
	client_open(&other, &d, NULL, 0);
	before = daemon_fds(&d);
	client_open(&a, &d, NULL, 0);
	client_open(&b, &d, NULL, 0);
	pair_across(&p, ns_a, ADDR_A, 0, ns_b, ADDR_B, 0);
	ck_assert_int_eq(xshim_tuple_from_socket(&tuple, p.accepted), 0);
	l = probe_socket(ns_b, ADDR_B, true);
	switch (_i) {
	case WRONG_LISTENER:
		k = probe_socket(ns_a, ADDR_A, true);
		break;
	case WRONG_NETNS:
		k = probe_socket(ns_b, ADDR_B, false);
		break;
	case WRONG_ADDRESS:
		k = probe_socket(ns_a, "127.0.0.1", false);
		break;
	case WRONG_CONNECTED:
		k = dup(p.connector);
		break;
	case WRONG_UDP:
		k = socket(AF_INET, SOCK_DGRAM, 0);
		break;
	case WRONG_CONNECTOR:
		k = probe_socket(ns_a, ADDR_A, false);
		close(l);
		l = probe_socket(ns_b, ADDR_B, false);
		break;
	}
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 11, -1);
	client_ping(&a);
	client_channel(&b, XSHIM_MSG_CLAIM, 2, p.accepted, 22, -1);
	answer_probe(&a, 1, k);
	answer_probe(&b, 2, l);
	if (_i == WRONG_CONNECTOR) {
		client_expect_declined(&b, 2, XSHIM_R_NETNS);
		client_ping(&a);
	} else {
		client_expect_declined(&a, 1, XSHIM_R_NETNS);
		/* Who hears of it may offer anew: it is not there any more. */
		ck_assert(!xshim_map_has_offer(other.map, xshim_tuple_hash(&tuple)));
		if (_i == WRONG_UDP)
			ck_assert_uint_eq(client_recv(a.fd, &m, fds, &nfds), 0);
		client_expect_declined(&b, 2, XSHIM_R_PEER_SILENT);
	}
	ck_assert_int_eq(daemon_log_count(&d, lines[_i]), 1);
	ck_assert_int_eq(daemon_log_count(&d, "uid "), 1);
	client_ping(&other);
	client_close(&a);
	client_close(&b);
	unit_wait_for(daemon_fds(&d) == before);
	daemon_stop(&d, SIGTERM);
}
END_TEST

/* A client that clears O_NONBLOCK and the timeout all the time, on a socket whose SYNs nobody answers. */
struct spoiler {
	int fd;
	_Atomic bool stop;
};

static void *spoil(void *arg)
{
	const struct timeval none = { 0, 0 };
	struct spoiler *s = arg;

	while (!s->stop) {
		set_blocking(s->fd);
		setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	}
	return NULL;
}

START_TEST(a_connect_made_blocking_holds_up_nobody)
{
	struct client a, b, other;
	struct daemon d;
	struct pair p;
	pthread_t thread;
	uint64_t start, worst = 0;
	struct spoiler spoiler = { 0 };
	int k;

	setup();
	daemon_start(&d, NULL);
	client_open(&other, &d, NULL, 0);
	client_open(&a, &d, NULL, 0);
	client_open(&b, &d, NULL, 0);
	pair_across(&p, ns_a, ADDR_A, 0, ns_b, ADDR_B, 0);
	k = probe_socket(ns_a, ADDR_A, false);
	enter(ns_a);
	sh("ip neigh replace " ADDR_B " lladdr 02:00:00:00:00:99 dev va nud permanent");
	enter(ns_home);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 11, k);
	client_ping(&a);
	spoiler.fd = k;
	ck_assert_int_eq(pthread_create(&thread, NULL, spoil, &spoiler), 0);
	client_channel(&b, XSHIM_MSG_CLAIM, 2, p.accepted, 22, probe_socket(ns_b, ADDR_B, true));
	while (client_silent(b.fd, 0)) {
		start = unit_now_ms();
		client_ping(&other);
		if (unit_now_ms() - start > worst)
			worst = unit_now_ms() - start;
	}
	client_expect_declined(&b, 2, XSHIM_R_NETNS);
	/* a connect that blocks takes two minutes; our turn may take long to come on a busy machine */
	ck_assert_uint_lt(worst, 10000);
	spoiler.stop = true;
	pthread_join(thread, NULL);
	daemon_stop(&d, SIGTERM);
}
END_TEST

/* ---- somebody else's namespace ---- */

struct copy {			/* what an unprivileged process needs to pretend */
	const struct daemon *d;
	uint16_t port_c, port_l;
	int relay;		/* a socket of namespace B, or -1 */
	uint32_t reason;
};

static bool write_proc(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* unshare -Urn, as nobody. */
static bool become_private(void)
{
	if (setgid(65534) || setuid(65534))
		return false;
	prctl(PR_SET_DUMPABLE, 1);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	return write_proc("/proc/self/setgroups", "deny") && write_proc("/proc/self/uid_map", "0 65534 1") &&
	       write_proc("/proc/self/gid_map", "0 65534 1");
}

static void pump(int from, int to)
{
	char buf[256];
	ssize_t n = recv(from, buf, sizeof(buf), MSG_DONTWAIT);

	if (n > 0)
		send(to, buf, (size_t)n, MSG_NOSIGNAL);
}

/*
 * Listen in B at the port of the private listener, and carry what comes into the private namespace, with the
 * very names of the one who connected.
 */
static void relay_once(int listener, uint16_t port)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	struct sockaddr_in sin = addr_of(ADDR_B, port), from;
	socklen_t len = sizeof(from);
	int out, in;

	if (poll(&p, 1, 5000) != 1)
		return;
	out = accept4(listener, (struct sockaddr *)&from, &len, 0);
	in = tcp_bound(ADDR_A, ntohs(from.sin_port));
	set_blocking(in);
	if (out < 0 || connect(in, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		return;
	for (uint64_t end = unit_now_ms() + 3000; unit_now_ms() < end; unit_nap()) {
		pump(out, in);
		pump(in, out);
	}
}

static void pretend(const struct copy *c)
{
	struct sockaddr_in sin;
	struct client self;
	struct pair p;
	int ns, l;

	client_open(&self, c->d, NULL, 0);
	ns = here();
	sh("ip link set lo up && ip addr add " ADDR_A "/24 dev lo && ip addr add " ADDR_B "/24 dev lo");
	pair_across(&p, ns, ADDR_A, c->port_c, ns, ADDR_B, c->port_l);
	client_channel(&self, XSHIM_MSG_CLAIM, 66, p.accepted, 666, -1);
	l = probe_socket(ns, ADDR_B, true);
	if (c->relay >= 0) {
		sin = addr_of(ADDR_B, port_of(l, false));
		ck_assert_int_eq(bind(c->relay, (struct sockaddr *)&sin, sizeof(sin)), 0);
		ck_assert_int_eq(listen(c->relay, 8), 0);
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			relay_once(c->relay, ntohs(sin.sin_port));
			_exit(0);
		}
	}
	answer_probe(&self, 66, l);
	client_expect_declined(&self, 66, c->reason);
}

/* Status of a child that pretends: 0 as expected, 77 when it may not make a namespace. */
static pid_t start_pretender(struct copy *c)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!become_private())
			_exit(77);
		pretend(c);
		_exit(0);
	}
	return pid;
}

static void run_pretender(bool with_relay)
{
	struct client a, b;
	struct copy copy;
	struct daemon d;
	struct pair p;
	char *text;
	int status;
	pid_t pid;

	setup();
	daemon_start_for_two(&d, &a, &b);
	pair_across(&p, ns_a, ADDR_A, 0, ns_b, ADDR_B, 0);
	copy.d = &d;
	copy.port_c = port_of(p.connector, false);
	copy.port_l = port_of(p.connector, true);
	copy.reason = XSHIM_R_NETNS;
	copy.relay = -1;
	if (with_relay) {
		enter(ns_b);
		copy.relay = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		enter(ns_home);
	}
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 11, -1);
	client_ping(&a);
	/* The pretender is first. */
	pid = start_pretender(&copy);
	answer_probe(&a, 1, probe_socket(ns_a, ADDR_A, false));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "the pretender was killed");
	if (WEXITSTATUS(status))
		daemon_log_show(&d);
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	/* The relay did its work, so it is not for want of that that nothing came of it. */
	text = client_report(&b, XSHIM_REPORT_TOTALS);
	ck_assert_ptr_nonnull(strstr(text, with_relay ? "\"probes_ok\":1," : "\"probes_ok\":0,"));
	free(text);
	/* The victim has heard nothing, and its offer still stands for the one it is meant for. */
	client_channel(&b, XSHIM_MSG_CLAIM, 2, p.accepted, 22, -1);
	answer_probe(&a, 1, probe_socket(ns_a, ADDR_A, false));
	answer_probe(&b, 2, probe_socket(ns_b, ADDR_B, true));
	client_expect_matched(&b, 2, 11);
	client_expect_matched(&a, 1, 22);
	daemon_stop(&d, SIGTERM);
}

START_TEST(private_copy_of_the_addresses_is_never_matched)
{
	run_pretender(false);
}
END_TEST

START_TEST(private_copy_with_a_relay_is_never_matched)
{
	run_pretender(true);
}
END_TEST

START_TEST(two_offers_that_both_reach_are_ambiguous)
{
	struct client a, b, c;
	struct daemon d;
	struct pair p, q;
	int ns_c;

	setup();
	/*
	 * C has A's address too, and a way to B of its own; B answers by the port, so both really reach it. C's
	 * connection with the same ports was made while it had B's address itself.
	 */
	ns_c = make_ns();
	sh("ip addr add " ADDR_B "/32 dev lo");
	sh("echo 40000 50000 >/proc/sys/net/ipv4/ip_local_port_range");
	join(ns_b, "vc", ADDR_A "/32", "vbc", "10.98.0.2/24");
	enter(ns_a);
	sh("echo 20000 30000 >/proc/sys/net/ipv4/ip_local_port_range");
	pair_across(&p, ns_a, ADDR_A, 0, ns_b, ADDR_B, 0);
	pair_across(&q, ns_c, ADDR_A, port_of(p.connector, false), ns_c, ADDR_B, port_of(p.connector, true));
	enter(ns_c);
	sh("ip addr del " ADDR_B "/32 dev lo && ip route add " ADDR_B "/32 dev vc src " ADDR_A);
	enter(ns_b);
	sh("ip rule add dport 40000-50000 lookup 100 && ip route add " ADDR_A "/32 dev vbc src " ADDR_B " table 100");
	sh("for f in all vbc vb; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done");
	enter(ns_home);

	daemon_start_for_two(&d, &a, &b);
	client_open(&c, &d, NULL, 0);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 11, probe_socket(ns_a, ADDR_A, false));
	client_ping(&a);
	client_channel(&c, XSHIM_MSG_OFFER, 3, q.connector, 33, probe_socket(ns_c, ADDR_A, false));
	client_ping(&c);
	client_channel(&b, XSHIM_MSG_CLAIM, 2, p.accepted, 22, -1);
	answer_probe(&b, 2, probe_socket(ns_b, ADDR_B, true));
	/* One socket, one probe: it is asked for the second time. */
	answer_probe(&b, 2, probe_socket(ns_b, ADDR_B, true));
	client_expect_declined(&b, 2, XSHIM_R_AMBIGUOUS);
	client_ping(&a);
	client_ping(&c);
	/* With one of the two withdrawn it is clear again. */
	client_send(&c, XSHIM_MSG_WITHDRAW, 3, NULL, 0);
	client_ping(&c);
	client_channel(&b, XSHIM_MSG_CLAIM, 4, p.accepted, 44, -1);
	client_expect_matched(&b, 4, 11);
	client_expect_matched(&a, 1, 44);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(a_client_that_dies_while_it_is_waited_for_is_replaced)
{
	struct client a, b, b2;
	struct daemon d;
	union xshim_msg m;
	struct pair p;

	setup();
	daemon_start_for_two(&d, &a, &b);
	client_open(&b2, &d, NULL, 0);
	meet(&p, &a, &b);
	client_expect(&b, XSHIM_MSG_PROBE_WANTED, &m);
	client_channel(&b2, XSHIM_MSG_CLAIM, 3, p.accepted, 33, -1);
	ck_assert(client_silent(b2.fd, 50));
	client_close(&b);
	answer_probe(&b2, 3, probe_socket(ns_b, ADDR_B, true));
	answer_probe(&a, 1, probe_socket(ns_a, ADDR_A, false));
	client_expect_matched(&b2, 3, 11);
	client_expect_matched(&a, 1, 33);
	daemon_stop(&d, SIGTERM);
}
END_TEST

START_TEST(a_claim_waits_two_seconds_for_a_probe_and_no_longer)
{
	uint64_t start = unit_now_ms();
	struct client a, b;
	struct daemon d;
	union xshim_msg m;
	struct pair p;

	setup();
	daemon_start_for_two(&d, &a, &b);
	meet(&p, &a, &b);
	client_expect(&b, XSHIM_MSG_PROBE_WANTED, &m);
	client_expect_declined(&b, 2, XSHIM_R_NETNS);
	ck_assert_uint_ge(unit_now_ms() - start, 1900);
	daemon_stop(&d, SIGTERM);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon_netns");
	TCase *t = tcase_create("netns");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, joined_namespaces_are_matched_by_a_probe);
	tcase_add_test(t, sockets_that_come_with_offer_and_claim_are_used);
	tcase_add_test(t, cross_netns_off_needs_no_probe);
	tcase_add_test(t, equal_loopback_addresses_are_not_a_connection);
	tcase_add_loop_test(t, bad_probe_socket_declines_its_sender_alone, 0, WRONG_COUNT);
	tcase_add_test(t, a_connect_made_blocking_holds_up_nobody);
	tcase_add_test(t, private_copy_of_the_addresses_is_never_matched);
	tcase_add_test(t, private_copy_with_a_relay_is_never_matched);
	tcase_add_test(t, two_offers_that_both_reach_are_ambiguous);
	tcase_add_test(t, a_client_that_dies_while_it_is_waited_for_is_replaced);
	tcase_add_test(t, a_claim_waits_two_seconds_for_a_probe_and_no_longer);
	suite_add_tcase(s, t);
	return s;
}

/* Whether the kernel lets root make namespaces and nobody make private ones; in a child, nothing stays. */
static bool may_run(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) == 0 && system("ip link set lo up") == 0 && become_private() ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int main(void)
{
	if (geteuid() != 0) {
		puts("SKIP: needs root, to make network namespaces");
		return 77;
	}
	if (!may_run()) {
		puts("SKIP: network namespaces, or user namespaces for an unprivileged user, cannot be made here");
		return 77;
	}
	return harness_main(suite());
}
