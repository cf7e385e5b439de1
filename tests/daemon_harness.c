/* SPDX-License-Identifier: MIT */
#include "daemon_harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static char base[] = "/tmp/xshimd-test-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	remove(path);
	return 0;
}

int harness_main(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	if (!mkdtemp(base)) {
		perror(base);
		return EXIT_FAILURE;
	}
	chmod(base, 0755);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

const char *harness_dir(void)
{
	return base;
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

/*
 * Its last word before the loop: it listens, and what it opened only to start is closed. Not found out by connecting,
 * because a test that counts its descriptors would count that connection, too.
 */
static bool is_up(const struct daemon *d, int starts)
{
	ck_assert_msg(waitpid(d->pid, NULL, WNOHANG) == 0, "the daemon has ended; see %s", d->log);
	return access(d->log, F_OK) == 0 && daemon_log_count(d, ": version ") > starts;
}

void daemon_start(struct daemon *d, const char *config)
{
	const char *binary = getenv("XSHIMD");
	pid_t parent = getpid();
	int starts;

	if (!binary)
		binary = "./xshimd";
	snprintf(d->socket, sizeof(d->socket), "%s/%d/xshimd.sock", base, (int)parent);
	snprintf(d->log, sizeof(d->log), "%s/%d.log", base, (int)parent);
	snprintf(d->config, sizeof(d->config), "%s/%d.conf", base, (int)parent);
	write_file(d->config, config ? config : "");
	starts = access(d->log, F_OK) == 0 ? daemon_log_count(d, ": version ") : 0;
	d->pid = fork();
	ck_assert_int_ge(d->pid, 0);
	if (d->pid == 0) {
		int fd = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(126);
		dup2(fd, 2);
		for (int i = 3; i < 256; i++)
			close(i);
		execl(binary, "xshimd", "--socket", d->socket, "--config", d->config, NULL);
		dprintf(2, "%s: %s\n", binary, strerror(errno));
		_exit(127);
	}
	unit_wait_for(is_up(d, starts));
}

void daemon_stop(struct daemon *d, int sig)
{
	int status;

	ck_assert_int_eq(kill(d->pid, sig), 0);
	ck_assert_int_eq(waitpid(d->pid, &status, 0), d->pid);
	if (sig == SIGKILL) {
		ck_assert(WIFSIGNALED(status));
	} else {
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			daemon_log_show(d);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the daemon ended with status 0x%x", status);
	}
	d->pid = 0;
}

int daemon_fds(const struct daemon *d)
{
	char path[40];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d->pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

int daemon_log_count(const struct daemon *d, const char *what)
{
	FILE *f = fopen(d->log, "r");
	char line[1024];
	int n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, what) != NULL;
	fclose(f);
	return n;
}

void daemon_log_show(const struct daemon *d)
{
	FILE *f = fopen(d->log, "r");
	char line[1024];

	while (f && fgets(line, sizeof(line), f))
		fprintf(stderr, "  log: %s", line);
	if (f)
		fclose(f);
}

int client_socket(const struct daemon *d)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", d->socket);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

void client_open(struct client *c, const struct daemon *d, const int *arenas, unsigned int n)
{
	union xshim_msg m;
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;

	c->fd = client_socket(d);
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.hello.pid = (uint32_t)getpid();
	m.hello.kind = XSHIM_CLIENT_SHIM;
	strcpy(m.hello.comm, "test");
	ck_assert_int_eq(xshim_msg_send(c->fd, &m, arenas, n), 0);
	ck_assert_uint_eq(client_recv(c->fd, &m, fds, &nfds), XSHIM_MSG_WELCOME);
	ck_assert_uint_eq(nfds, 1);
	c->mail = m.welcome.mail;
	c->instance = m.welcome.instance;
	c->map_fd = fds[0];
	ck_assert_int_eq(xshim_map_open(&c->map, c->map_fd), 0);
	ck_assert_uint_lt(c->mail, XSHIM_MAP_MAIL);
	ck_assert_uint_eq(c->instance, c->map->instance);
}

void client_close(struct client *c)
{
	xshim_map_close(c->map);
	close(c->map_fd);
	close(c->fd);
}

void daemon_start_for_two(struct daemon *d, struct client *a, struct client *b)
{
	daemon_start(d, NULL);
	client_open(a, d, NULL, 0);
	client_open(b, d, NULL, 0);
}

void daemon_stop_for_two(struct daemon *d, struct client *a, struct client *b)
{
	client_close(a);
	client_close(b);
	daemon_stop(d, SIGTERM);
}

void client_raw(int fd, const void *buf, size_t len, const int *fds, unsigned int nfds)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))] = "";

	if (nfds) {
		struct cmsghdr *c;

		mh.msg_control = control;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	ck_assert_int_eq(sendmsg(fd, &mh, MSG_NOSIGNAL), (ssize_t)len);
}

void client_send(struct client *c, enum xshim_msg_type type, uint32_t id, const int *fds, unsigned int nfds)
{
	union xshim_msg m;

	xshim_msg_init(&m, type, id);
	ck_assert_int_eq(xshim_msg_send(c->fd, &m, fds, nfds), 0);
}

uint32_t client_recv(int fd, union xshim_msg *m, int *fds, unsigned int *nfds)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	const char *why = "";
	unsigned long long value = 0;
	ssize_t n;

	ck_assert_msg(poll(&p, 1, 10000) == 1, "no message from the daemon in 10 s");
	n = xshim_msg_recv(fd, m, fds, nfds);
	if (n == 0 || n == -ECONNRESET)
		return 0;
	ck_assert_int_gt(n, 0);
	ck_assert_msg(xshim_msg_check(m, (size_t)n, *nfds, &why, &value) == 0, "from the daemon: %s (%llu)", why, value);
	return m->h.type;
}

bool client_silent(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 0;
}

void client_expect(struct client *c, enum xshim_msg_type type, union xshim_msg *m)
{
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	uint32_t got = client_recv(c->fd, m, fds, &nfds);

	ck_assert_msg(got == (uint32_t)type, "%s came, %s was due (reason %s)", got ? xshim_msg_name(got) : "the end",
		      xshim_msg_name(type), got == XSHIM_MSG_DECLINED ? xshim_reason_name(m->refused.reason) : "none");
	ck_assert_uint_eq(nfds, 0);
}

void client_expect_declined(struct client *c, uint32_t id, uint32_t reason)
{
	union xshim_msg m;

	client_expect(c, XSHIM_MSG_DECLINED, &m);
	ck_assert_uint_eq(m.h.id, id);
	ck_assert_str_eq(xshim_reason_name(m.refused.reason), xshim_reason_name(reason));
}

void client_ping(struct client *c)
{
	union xshim_msg m;

	client_send(c, XSHIM_MSG_PING, 7, NULL, 0);
	client_expect(c, XSHIM_MSG_PONG, &m);
	ck_assert_uint_eq(m.h.id, 7);
}

char *client_report(struct client *c, uint32_t what)
{
	int fds[XSHIM_PROTO_MAX_FDS];
	unsigned int nfds;
	union xshim_msg m;
	struct stat st;
	char *text;

	xshim_msg_init(&m, XSHIM_MSG_REPORT_ASK, 3);
	m.report_ask.what = what;
	ck_assert_int_eq(xshim_msg_send(c->fd, &m, NULL, 0), 0);
	ck_assert_uint_eq(client_recv(c->fd, &m, fds, &nfds), XSHIM_MSG_REPORT);
	ck_assert_uint_eq(nfds, 1);
	ck_assert_int_eq(fcntl(fds[0], F_GET_SEALS) & F_SEAL_WRITE, F_SEAL_WRITE);
	ck_assert_int_eq(fstat(fds[0], &st), 0);
	text = calloc(1, (size_t)st.st_size + 1);
	ck_assert_ptr_nonnull(text);
	ck_assert_int_eq(pread(fds[0], text, (size_t)st.st_size, 0), st.st_size);
	close(fds[0]);
	return text;
}

void pair_open(struct pair *p, const char *address)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);

	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	p->connector = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(inet_pton(AF_INET, address ? address : "127.0.0.1", &sin.sin_addr), 1);
	ck_assert_int_eq(bind(p->listener, (struct sockaddr *)&sin, len), 0);
	ck_assert_int_eq(listen(p->listener, 8), 0);
	ck_assert_int_eq(getsockname(p->listener, (struct sockaddr *)&sin, &len), 0);
	ck_assert_int_eq(connect(p->connector, (struct sockaddr *)&sin, len), 0);
	p->accepted = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(p->accepted, 0);
}

void pair_close(struct pair *p)
{
	close(p->listener);
	close(p->connector);
	close(p->accepted);
}

uint64_t cookie_of(int fd)
{
	socklen_t len = sizeof(uint64_t);
	uint64_t cookie = 0;

	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

void channel_make(struct xshim_local *l, unsigned int order, uint64_t nonce)
{
	ck_assert_int_eq(xshim_backend_shm.create(l, NULL, order, nonce), 0);
}

void channel_free(struct xshim_local *l)
{
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++) {
		if (l->fds[i] >= 0)
			close(l->fds[i]);
		l->fds[i] = -1;
	}
	xshim_backend_shm.destroy(l);
}

void client_channel(struct client *c, enum xshim_msg_type type, uint32_t id, int tcp, uint64_t nonce, int extra)
{
	client_channel_aged(c, type, id, tcp, nonce, extra, type == XSHIM_MSG_CLAIM ? UINT32_MAX : 0);
}

void client_channel_aged(struct client *c, enum xshim_msg_type type, uint32_t id, int tcp, uint64_t nonce, int extra, uint32_t age_us)
{
	struct xshim_local l;
	union xshim_msg m;
	int fds[5];

	channel_make(&l, 12, nonce);
	xshim_msg_init(&m, type, id);
	m.channel.cookie = cookie_of(tcp);
	m.channel.order = 12;
	m.channel.nonce = nonce;
	m.channel.age_us = age_us;
	fds[0] = tcp;
	fds[1] = l.fds[XSHIM_LOCAL_MEMORY];
	fds[2] = l.fds[XSHIM_LOCAL_BELL];
	fds[3] = l.fds[XSHIM_LOCAL_LIFE_OUT];
	fds[4] = extra;
	ck_assert_int_eq(xshim_msg_send(c->fd, &m, fds, extra >= 0 ? 5 : 4), 0);
	channel_free(&l);
}

void client_expect_matched(struct client *c, uint32_t id, uint64_t nonce)
{
	int fds[XSHIM_PROTO_MAX_FDS];
	struct xshim_remote r;
	unsigned int nfds;
	union xshim_msg m;
	uint32_t got;

	got = client_recv(c->fd, &m, fds, &nfds);
	ck_assert_msg(got == XSHIM_MSG_MATCHED, "%s came, MATCHED was due (reason %s)", got ? xshim_msg_name(got) : "the end",
		      got == XSHIM_MSG_DECLINED ? xshim_reason_name(m.refused.reason) : "none");
	ck_assert_uint_eq(m.h.id, id);
	ck_assert_uint_eq(nfds, 3);
	ck_assert_uint_eq(m.matched.nonce, nonce);
	ck_assert_uint_ne(m.matched.peer_pid, 0);
	/* What came is the other's region, and can be attached. */
	ck_assert_int_eq(xshim_backend_shm.attach(&r, NULL, &(struct xshim_ticket){ .order = m.matched.order, .nonce = nonce }, fds), 0);
	xshim_backend_shm.detach(&r);
}

void daemon_introduces(const struct daemon *d)
{
	struct client a, b;
	struct pair p;

	client_open(&a, d, NULL, 0);
	client_open(&b, d, NULL, 0);
	pair_open(&p, NULL);
	client_channel(&a, XSHIM_MSG_OFFER, 1, p.connector, 1001, -1);
	client_ping(&a);
	client_channel(&b, XSHIM_MSG_CLAIM, 2, p.accepted, 1002, -1);
	client_expect_matched(&b, 2, 1001);
	client_expect_matched(&a, 1, 1002);
	free(client_report(&a, XSHIM_REPORT_TOTALS));
	pair_close(&p);
	client_close(&a);
	client_close(&b);
}
