/* SPDX-License-Identifier: MIT */
/*
 * sockbench.c - measures a stream connection as programs use it; includes no xshim header.
 *
 *   sockbench server KIND SIZE ADDRESS PORT
 *   sockbench client KIND SIZE ADDRESS PORT SECONDS [CONNECTIONS]
 *
 * ADDRESS: of IPv4 or IPv6, or the path of a unix socket, with any PORT. SIZE: of a message, in bytes.
 *
 * rr      request and response, blocking calls: p50_us, p99_us, per_s
 * first   the same, each of the first round trips of a connection by itself: us, in order; SECONDS means nothing
 * paced   the same as rr, one request each millisecond, so that both ends have gone to sleep
 * epoll   the same as rr, both ends with a non-blocking socket and epoll_wait
 * stream  the client sends messages, the server reads: bytes_per_s, from the first byte to the server's word
 *         that the last has come
 * crr     connect, request, response, close (by the server first): per_s
 * many    CONNECTIONS connections with one request under way on each, both ends by epoll: per_s
 * idle    CONNECTIONS connections, each used a little; then prints "idle" and sleeps SECONDS. Whoever started
 *         it reads the CPU time of both ends from /proc meanwhile.
 * step    request and response between marks: the client is to be started by stepcount
 *
 * The server prints "listening" when a client may come, the client one JSON object. Both run until the client
 * is done; server status 0 then.
 */
#include "sockbench.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

/* A unix socket has no such option, and no such delay. */
static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void bench_nonblock(int fd)
{
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		bench_die("fcntl");
}

void bench_send(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
			continue;
		}
		if (n <= 0)
			bench_die("send");
		buf += n;
		len -= (size_t)n;
	}
}

bool bench_recv(int fd, char *buf, size_t len)
{
	while (len) {
		ssize_t n = recv(fd, buf, len, 0);

		if (n < 0)
			bench_die("recv");
		if (n == 0)
			return false;
		buf += n;
		len -= (size_t)n;
	}
	return true;
}

int bench_connect(const struct bench *b)
{
	int fd = socket(b->addr.ss_family, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&b->addr, b->addr_len) < 0)
		bench_die("connect");
	no_delay(fd);
	return fd;
}

int bench_accept(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		bench_die("accept");
	no_delay(fd);
	return fd;
}

static int listen_at(const struct bench *b)
{
	int fd = socket(b->addr.ss_family, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (const struct sockaddr *)&b->addr, b->addr_len) < 0 || listen(fd, 4096) < 0)
		bench_die("listen");
	printf("listening\n");
	fflush(stdout);
	return fd;
}

static void set_address(struct bench *b, const char *address, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct sockaddr_un *un = (struct sockaddr_un *)&b->addr;
	struct addrinfo *ai;

	if (address[0] == '/') {
		un->sun_family = AF_UNIX;
		if (strlen(address) >= sizeof(un->sun_path)) {
			errno = ENAMETOOLONG;
			bench_die(address);
		}
		strcpy(un->sun_path, address);
		b->addr_len = sizeof(*un);
		return;
	}
	if (getaddrinfo(address, port, &hints, &ai)) {
		errno = EINVAL;
		bench_die(address);
	}
	memcpy(&b->addr, ai->ai_addr, ai->ai_addrlen);
	b->addr_len = ai->ai_addrlen;
	freeaddrinfo(ai);
}

static void raise_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static const struct {
	const char *name;
	void (*serve)(struct bench *b, int listener);
	void (*run)(struct bench *b);
} kinds[] = {
	{ "rr", serve_rr, run_rr },		{ "first", serve_rr, run_first }, { "paced", serve_rr, run_paced },
	{ "epoll", serve_epoll, run_epoll },	{ "stream", serve_stream, run_stream },
	{ "crr", serve_crr, run_crr },		{ "many", serve_many, run_many }, { "idle", serve_many, run_idle },
	{ "step", serve_step, run_step },
};

int main(int argc, char **argv)
{
	struct bench b = { .connections = 1 };
	size_t i;

	if (argc < 6 || argc > 8 || (!(b.is_server = !strcmp(argv[1], "server")) && argc < 7)) {
		fprintf(stderr, "usage: sockbench server KIND SIZE ADDRESS PORT\n"
			"       sockbench client KIND SIZE ADDRESS PORT SECONDS [CONNECTIONS]\n");
		return 2;
	}
	b.size = strtoul(argv[3], NULL, 0);
	b.seconds = argc > 6 ? atof(argv[6]) : 0;
	if (argc > 7)
		b.connections = (unsigned int)strtoul(argv[7], NULL, 0);
	set_address(&b, argv[4], argv[5]);
	b.buf = calloc(1, b.size + 1);
	if (!b.buf)
		bench_die("calloc");
	raise_descriptors();
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, argv[2]))
			continue;
		if (b.is_server)
			kinds[i].serve(&b, listen_at(&b));
		else
			kinds[i].run(&b);
		return 0;
	}
	fprintf(stderr, "sockbench: there is no kind %s\n", argv[2]);
	return 2;
}
