/* SPDX-License-Identifier: MIT */
/*
 * F33 in xshimd: its n-th allocation fails, for each n, at its start and in an introduction with all that belongs to it; alone, and with
 * all that come after it. It does not end because of that but at its start, with a line that says so; what the failure cost is the
 * affair of its moment: afterwards two ends are introduced as ever, and no descriptor is left over.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "daemon_harness.h"

struct shared {			/* tests/load/nth_malloc.c */
	_Atomic uint64_t count, first, fails;
};
static struct shared *shared;

#define FOR_EVER UINT64_MAX
#define MOST 5000u		/* allocations of one introduction: there must be an end */

static void begin(void)
{
	const char *build = getenv("XSHIM_BUILD");
	char file[100], lib[400];
	int fd;

	snprintf(file, sizeof(file), "%s/nth_malloc", harness_dir());
	fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	snprintf(lib, sizeof(lib), "%s/tests/load/.libs/nth_malloc.so", build ? build : ".");
	ck_assert_msg(access(lib, R_OK) == 0, "%s: %s", lib, strerror(errno));
	ck_assert_int_eq(ftruncate(fd, sizeof(*shared)), 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	setenv("NTH_MALLOC", file, 1);
	setenv("LD_PRELOAD", lib, 1);
}

/* Read until this message comes; false: the daemon has hung up. */
static bool hear(struct client *c, uint32_t type)
{
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;
	uint32_t got;

	do {
		got = client_recv(c->fd, &m, fds, &nfds);
		while (got && nfds)
			close(fds[--nfds]);
	} while (got && got != type);
	return got != 0;
}

static bool tell(struct client *c, union xshim_msg *m, const int *fds, unsigned int n)
{
	int rc = xshim_msg_send(c->fd, m, fds, n);

	ck_assert_msg(rc >= 0 || rc == -EPIPE || rc == -ECONNRESET, "sending: %s", strerror(-rc));
	return rc >= 0;
}

static bool tell_plain(struct client *c, enum xshim_msg_type type, uint32_t id, const int *fds, unsigned int n)
{
	union xshim_msg m;

	xshim_msg_init(&m, type, id);
	return tell(c, &m, fds, n);
}

static bool greet(struct client *c, const struct daemon *d, int arena)
{
	union xshim_msg m;

	c->fd = client_socket(d);
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.hello.pid = (uint32_t)getpid();
	m.hello.kind = XSHIM_CLIENT_SHIM;
	return tell(c, &m, &arena, arena >= 0) && hear(c, XSHIM_MSG_WELCOME);
}

static bool half(struct client *c, enum xshim_msg_type type, int tcp, uint64_t nonce)
{
	struct xshim_local l;
	union xshim_msg m;
	bool said;

	channel_make(&l, 12, nonce);
	xshim_msg_init(&m, type, 1);
	m.channel.cookie = cookie_of(tcp);
	m.channel.order = 12;
	m.channel.nonce = nonce;
	said = tell(c, &m, (int[]){ tcp, l.fds[XSHIM_LOCAL_MEMORY], l.fds[XSHIM_LOCAL_BELL],
				   l.fds[XSHIM_LOCAL_LIFE_OUT] }, 4);
	channel_free(&l);
	/* what was declined is declined; the answer to PING says that it has been dealt with */
	return said && tell_plain(c, XSHIM_MSG_PING, 2, NULL, 0) && hear(c, XSHIM_MSG_PONG);
}

static bool report(struct client *c, uint32_t what)
{
	union xshim_msg m;

	xshim_msg_init(&m, XSHIM_MSG_REPORT_ASK, 3);
	m.report_ask.what = what;
	return tell(c, &m, NULL, 0) && hear(c, XSHIM_MSG_REPORT);
}

/* All that clients ask for, whatever becomes of it. */
static void everything(const struct daemon *d)
{
	struct client a, b;
	int arena[2];
	struct xshim_arena map[2];
	struct pair p;

	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(xshim_arena_create(&map[i], &arena[i]), 0);
		xshim_slot_publish(xshim_slot_alloc(&map[i]));
	}
	pair_open(&p, NULL);
	if (greet(&a, d, arena[0])) {
		if (greet(&b, d, arena[1])) {
			if (tell_plain(&b, XSHIM_MSG_ENDPOINT, 4, &p.accepted, 1) && half(&a, XSHIM_MSG_OFFER, p.connector, 7))
				(void)half(&b, XSHIM_MSG_CLAIM, p.accepted, 8);
			(void)report(&b, XSHIM_REPORT_CONNECTIONS);
		}
		close(b.fd);
		(void)report(&a, XSHIM_REPORT_TOTALS);
	}
	close(a.fd);
	pair_close(&p);
	for (int i = 0; i < 2; i++) {
		xshim_arena_unmap(&map[i]);
		close(arena[i]);
	}
}

static void lives(struct daemon *d, uint64_t n)
{
	int status = 0;

	if (waitpid(d->pid, &status, WNOHANG) == 0)
		return;
	daemon_log_show(d);
	ck_abort_msg("xshimd has ended with status 0x%x when allocation %llu failed", (unsigned int)status, (unsigned long long)n);
}

static const uint64_t widths[] = { 1, 3, FOR_EVER };

START_TEST(any_allocation_for_a_client_may_fail)
{
	uint64_t n, before;
	struct daemon d;
	int fds;

	begin();
	daemon_start(&d, NULL);
	daemon_introduces(&d);
	everything(&d);
	fds = daemon_fds(&d);
	for (n = 1; n < MOST; n++) {
		before = shared->count;
		shared->fails = widths[_i];
		shared->first = before + n;
		everything(&d);
		lives(&d, n);
		shared->first = 0;
		if (shared->count < before + n)
			break;
		daemon_introduces(&d);
		lives(&d, n);
		unit_wait_for(daemon_fds(&d) <= fds);
	}
	printf("%llu allocations, %llu at a time\n", (unsigned long long)n - 1, (unsigned long long)widths[_i]);
	ck_assert_uint_gt(n, 20);
	ck_assert_uint_lt(n, MOST);
	daemon_stop(&d, SIGTERM);
}
END_TEST

/* Tables that grow with the number of clients grow once in a life, so each time it is another xshimd. */
#define MANY 70

START_TEST(any_allocation_for_many_clients_may_fail)
{
	struct client c[MANY];
	struct daemon d;
	uint64_t n, before = 0;
	int fds;

	begin();
	for (n = 1; shared->count >= before + n - 1 && n < MOST; n++) {
		shared->first = 0;
		daemon_start(&d, NULL);
		fds = daemon_fds(&d);
		before = shared->count;
		shared->fails = 1;
		shared->first = before + n;
		for (int i = 0; i < MANY; i++)
			(void)greet(&c[i], &d, -1);
		for (int i = 0; i < MANY; i++)
			close(c[i].fd);
		lives(&d, n);
		unit_wait_for(daemon_fds(&d) <= fds);
		daemon_stop(&d, SIGKILL);
	}
	printf("%llu allocations for %d clients\n", (unsigned long long)n - 1, MANY);
	ck_assert_uint_gt(n, MANY);
	ck_assert_uint_lt(n, MOST);
}
END_TEST

/* The daemon at its start, with the n-th allocation failing. True: it listens. */
static bool starts(struct daemon *d, const char *binary)
{
	int status = 0;
	char up[140];

	snprintf(d->socket, sizeof(d->socket), "%s/xshimd.sock", harness_dir());
	snprintf(d->log, sizeof(d->log), "%s/log", harness_dir());
	snprintf(up, sizeof(up), ", at %s", d->socket);
	unlink(d->log);
	d->pid = fork();
	ck_assert_int_ge(d->pid, 0);
	if (d->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), 2);
		execl(binary, "xshimd", "--socket", d->socket, NULL);
		_exit(127);
	}
	for (;;) {
		pid_t pid = waitpid(d->pid, &status, WNOHANG);

		ck_assert_int_ge(pid, 0);
		if (pid == 0 && access(d->log, F_OK) == 0 && daemon_log_count(d, up))
			return true;
		if (pid) {
			if (!WIFEXITED(status) || (WEXITSTATUS(status) != 1 && WEXITSTATUS(status) != 2) || !daemon_log_count(d, "xshimd: ")) {
				daemon_log_show(d);
				ck_abort_msg("at its start it has ended with status 0x%x when allocation %llu failed", (unsigned int)status,
					     (unsigned long long)shared->first);
			}
			return false;
		}
		unit_nap();
	}
}

START_TEST(any_allocation_at_the_start_may_fail)
{
	const char *binary = getenv("XSHIMD");
	uint64_t n, refused = 0;
	struct daemon d;

	begin();
	for (n = 1; n < MOST; n++) {
		shared->count = 0;
		shared->fails = 1;
		shared->first = n;
		if (!starts(&d, binary ? binary : "./xshimd")) {
			refused++;
			continue;
		}
		shared->first = 0;
		lives(&d, n);
		daemon_introduces(&d);
		daemon_stop(&d, SIGTERM);
		if (shared->count < n)
			break;
	}
	printf("%llu allocations at the start, %llu of them end it\n", (unsigned long long)n - 1, (unsigned long long)refused);
	ck_assert_uint_gt(refused, 0);
	ck_assert_uint_lt(n, MOST);
}
END_TEST

int main(void)
{
	const char *shim = getenv("XSHIM_PRELOAD");
	Suite *s;
	TCase *t;

	if (shim && strchr(shim, ':')) {
		printf("skipped: a sanitizer has an allocator of its own\n");
		return 77;
	}
	s = suite_create("daemon without memory");
	t = tcase_create("allocations that fail");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, any_allocation_for_a_client_may_fail, 0, 3);
	tcase_add_test(t, any_allocation_for_many_clients_may_fail);
	tcase_add_test(t, any_allocation_at_the_start_may_fail);
	suite_add_tcase(s, t);
	return harness_main(s);
}
