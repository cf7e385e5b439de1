/* SPDX-License-Identifier: MIT */
/*
 * stream.c - byte-exact stress program for stream sockets.
 *
 *   stream server|fork|client [-s STYLE] [-n CONNECTIONS] [-b BYTES] [-m MAX_MESSAGE] [-S SEED]
 *          [-t SECONDS] [-p LOCAL_PORT] [-x] ADDRESS PORT
 *
 * The client's -n, -b, -m and -S hold for both ends but for -n, which the server needs as well to know
 * when it has served all. `fork` is a server with a child process per connection. -x: a connection that
 * poll, select or epoll calls ready and that is not is a failure, too. Prints one line with the verdict.
 * Status 0: every byte right; 1: a wrong byte, count or call; 2: usage; 3: the deadline passed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"

static const char *const style_names[STYLE_COUNT] = {
	[STYLE_THREADS] = "threads", [STYLE_LOCKSTEP] = "lockstep", [STYLE_POLL] = "poll",
	[STYLE_SELECT] = "select", [STYLE_EPOLL_LT] = "epoll-lt", [STYLE_EPOLL_ET] = "epoll-et",
};

static const struct conn *watched;
static volatile unsigned int watched_count;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
	exit(1);
}

void watch_conns(const struct conn *conns, unsigned int n)
{
	watched = conns;
	watched_count = n;
}

/* A hang is a result too: say how far each connection had come. */
static void on_alarm(int sig)
{
	unsigned int i;
	char line[200];

	(void)sig;
	for (i = 0; i < watched_count; i++) {
		const struct conn *c = &watched[i];
		int n = snprintf(line, sizeof(line),
				 "stream %s: deadline passed: connection %u: sent %llu%s, received %llu%s of %llu\n",
				 c->role, c->index, (unsigned long long)c->tx, c->tx_shut ? " and half-closed" : "",
				 (unsigned long long)c->rx, c->rx_eof ? " and the end" : "",
				 (unsigned long long)c->bytes);

		if (write(2, line, (size_t)n) < 0)
			break;
	}
	_exit(3);
}

static bool exact;	/* -x */

static void set_nonblocking(int fd)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0)
		die("fcntl(O_NONBLOCK)");
}

void server_greet(struct conn *c, int fd, bool nonblocking)
{
	struct hello h;
	ssize_t n = recv(fd, &h, sizeof(h), MSG_WAITALL);

	if (n != (ssize_t)sizeof(h) || h.magic != HELLO_MAGIC) {
		fprintf(stderr, "stream: the greeting has %zd octets and is not one\n", n);
		exit(1);
	}
	conn_open(c, fd, &h, true, nonblocking);
	c->exact = exact;
	if (nonblocking)
		set_nonblocking(fd);
}

static void bind_port(int fd, const struct config *cfg)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)cfg->local_port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)cfg->local_port) };
	bool is4 = cfg->addr.ss_family == AF_INET;
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, is4 ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6, is4 ? sizeof(in4) : sizeof(in6)) < 0)
		die("binding the local port");
}

static void client_greet(struct conn *c, const struct config *cfg, unsigned int index, bool nonblocking)
{
	struct hello h = { .magic = HELLO_MAGIC, .seed = cfg->seed, .bytes = cfg->bytes,
			   .max_message = cfg->max_message, .index = index };
	int fd = socket(cfg->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (cfg->local_port)
		bind_port(fd, cfg);
	if (connect(fd, (const struct sockaddr *)&cfg->addr, cfg->addr_len) < 0)
		die("connect");
	if (send(fd, &h, sizeof(h), MSG_NOSIGNAL) != (ssize_t)sizeof(h))
		die("sending the greeting");
	conn_open(c, fd, &h, false, nonblocking);
	c->exact = exact;
	if (nonblocking)
		set_nonblocking(fd);
}

static int listen_at(const struct config *cfg)
{
	int fd = socket(cfg->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&cfg->addr, cfg->addr_len) < 0)
		die("bind");
	if (listen(fd, 128) < 0)
		die("listen");
	return fd;
}

struct lockstep_arg {
	struct conn *c;
	bool is_server;
};

static void *lockstep_thread(void *arg)
{
	struct lockstep_arg *a = arg;

	run_lockstep(a->c, a->is_server);
	return NULL;
}

static void run_blocking(const struct config *cfg, struct conn *conns, unsigned int n)
{
	struct lockstep_arg args[MAX_CONNS];
	pthread_t threads[MAX_CONNS];
	unsigned int i;

	if (cfg->style == STYLE_THREADS) {
		run_threads(conns, n);
		return;
	}
	if (n == 1) {
		run_lockstep(conns, cfg->is_server);
		return;
	}
	for (i = 0; i < n; i++) {
		args[i] = (struct lockstep_arg){ &conns[i], cfg->is_server };
		if (pthread_create(&threads[i], NULL, lockstep_thread, &args[i]))
			die("pthread_create");
	}
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static bool is_blocking(const struct config *cfg)
{
	return cfg->style == STYLE_THREADS || cfg->style == STYLE_LOCKSTEP;
}

static void run_client(const struct config *cfg, struct conn *conns)
{
	unsigned int i;

	for (i = 0; i < cfg->conns; i++)
		client_greet(&conns[i], cfg, i, !is_blocking(cfg));
	watch_conns(conns, cfg->conns);
	if (is_blocking(cfg))
		run_blocking(cfg, conns, cfg->conns);
	else
		run_events(cfg->style, conns, cfg->conns, -1);
}

static void run_server(const struct config *cfg, struct conn *conns)
{
	int listener = listen_at(cfg), fd;
	unsigned int i;

	if (!is_blocking(cfg)) {
		run_events(cfg->style, conns, cfg->conns, listener);
		return;
	}
	for (i = 0; i < cfg->conns; i++) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			die("accept");
		server_greet(&conns[i], fd, false);
	}
	watch_conns(conns, cfg->conns);
	run_blocking(cfg, conns, cfg->conns);
}

/* The greeting is read in the parent, so the shim has already seen the connection when fork comes. */
static unsigned int run_forking(const struct config *cfg, struct conn *conns)
{
	int listener = listen_at(cfg), status;
	unsigned int i, failed = 0;

	for (i = 0; i < cfg->conns; i++) {
		int fd = accept(listener, NULL, NULL);
		pid_t pid;

		if (fd < 0)
			die("accept");
		server_greet(&conns[i], fd, !is_blocking(cfg));
		pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			close(listener);
			alarm(cfg->deadline_s);
			watch_conns(&conns[i], 1);
			if (is_blocking(cfg))
				run_blocking(cfg, &conns[i], 1);
			else
				run_events(cfg->style, &conns[i], 1, -1);
			_exit(0);
		}
		close(fd);
		conn_free(&conns[i]);
	}
	for (i = 0; i < cfg->conns; i++) {
		pid_t pid = wait(&status);

		if (pid < 0)
			die("wait");
		if (status) {
			fprintf(stderr, "stream: child %d ended with wait status 0x%x\n", (int)pid, status);
			failed++;
		}
	}
	return failed;
}

static _Noreturn void usage(const char *why)
{
	fprintf(stderr, "stream: %s\nusage: stream server|fork|client [-s threads|lockstep|poll|select|"
		"epoll-lt|epoll-et] [-n CONNECTIONS] [-b BYTES]\n"
		"       [-m MAX_MESSAGE] [-S SEED] [-t SECONDS] [-p LOCAL_PORT] [-x] ADDRESS PORT\n", why);
	exit(2);
}

static enum style parse_style(const char *name)
{
	unsigned int i;

	for (i = 0; i < STYLE_COUNT; i++) {
		if (!strcmp(name, style_names[i]))
			return (enum style)i;
	}
	usage("unknown style");
}

static void parse(struct config *cfg, int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *ai;
	const char *role = argc > 1 ? argv[1] : "";
	int opt, rc;

	cfg->is_server = !strcmp(role, "server") || !strcmp(role, "fork");
	cfg->forks = !strcmp(role, "fork");
	if (!cfg->is_server && strcmp(role, "client"))
		usage("the first argument must be server, fork or client");
	optind = 2;
	while ((opt = getopt(argc, argv, "s:n:b:m:S:t:p:x")) != -1) {
		switch (opt) {
		case 's': cfg->style = parse_style(optarg); break;
		case 'n': cfg->conns = (unsigned int)strtoul(optarg, NULL, 0); break;
		case 'b': cfg->bytes = strtoull(optarg, NULL, 0); break;
		case 'm': cfg->max_message = (size_t)strtoull(optarg, NULL, 0); break;
		case 'S': cfg->seed = strtoull(optarg, NULL, 0); break;
		case 't': cfg->deadline_s = (unsigned int)strtoul(optarg, NULL, 0); break;
		case 'x': exact = true; break;
		case 'p': cfg->local_port = (unsigned int)strtoul(optarg, NULL, 0); break;
		default: usage("unknown option");
		}
	}
	if (argc - optind != 2)
		usage("an address and a port are needed");
	if (!cfg->conns || cfg->conns > MAX_CONNS || !cfg->max_message)
		usage("-n must be 1 to 256, -m at least 1");
	rc = getaddrinfo(argv[optind], argv[optind + 1], &hints, &ai);
	if (rc)
		usage(gai_strerror(rc));
	memcpy(&cfg->addr, ai->ai_addr, ai->ai_addrlen);
	cfg->addr_len = ai->ai_addrlen;
	freeaddrinfo(ai);
}

int main(int argc, char **argv)
{
	static struct conn conns[MAX_CONNS];
	struct config cfg = { .conns = 1, .bytes = 16 << 20, .max_message = 4 << 20, .deadline_s = 120 };
	struct timespec now;
	unsigned int i, failed = 0;
	uint64_t tx = 0, rx = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	cfg.seed = (uint64_t)now.tv_sec * 1000000007ull ^ (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 40;
	parse(&cfg, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, on_alarm);
	alarm(cfg.deadline_s);
	if (cfg.forks)
		failed = run_forking(&cfg, conns);
	else if (cfg.is_server)
		run_server(&cfg, conns);
	else
		run_client(&cfg, conns);
	for (i = 0; i < cfg.conns; i++) {
		tx += conns[i].tx;
		rx += conns[i].rx;
	}
	printf("stream %s style=%s connections=%u seed=0x%llx sent=%llu received=%llu: %s\n", argv[1],
	       style_names[cfg.style], cfg.conns,
	       (unsigned long long)(cfg.is_server ? conns[0].seed : cfg.seed), (unsigned long long)tx,
	       (unsigned long long)rx, failed ? "children failed" : "every byte right");
	return failed ? 1 : 0;
}
