/* SPDX-License-Identifier: MIT */
/*
 * sockbench.c - measures a TCP connection as programs use it; includes no xshim header.
 *
 *   sockbench server rr|first|stream|crr|idle SIZE ADDRESS PORT
 *   sockbench client rr|first|stream|crr|idle SIZE ADDRESS PORT SECONDS [CONNECTIONS]
 *
 * rr      request and response of SIZE bytes, blocking calls: p50_us, p99_us, per_s
 * first   the same, each of the first round trips of a connection by itself: us, in order; SECONDS means nothing
 * stream  the client sends messages of SIZE bytes, the server reads: bytes_per_s, from the first byte to the
 *         server's word that the last has come
 * crr     connect, request of SIZE bytes, response, close (by the server first): per_s
 * idle    CONNECTIONS connections, each used a little; then prints "idle" and sleeps SECONDS. Whoever started
 *         it reads the CPU time of both ends from /proc meanwhile.
 *
 * The client prints one JSON object. Both run until the client is done; server status 0 then.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_S 0.1
#define MAX_SAMPLES 4000000
#define FIRST 32

struct bench {
	bool is_server;
	const char *kind;
	size_t size;
	double seconds;
	unsigned int connections;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	char *buf;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "sockbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void send_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

		if (n <= 0)
			die("send");
		buf += n;
		len -= (size_t)n;
	}
}

/* False: the end came first. */
static bool recv_all(int fd, char *buf, size_t len)
{
	while (len) {
		ssize_t n = recv(fd, buf, len, 0);

		if (n < 0)
			die("recv");
		if (n == 0)
			return false;
		buf += n;
		len -= (size_t)n;
	}
	return true;
}

static int connect_to(const struct bench *b)
{
	int fd = socket(b->addr.ss_family, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&b->addr, b->addr_len) < 0)
		die("connect");
	no_delay(fd);
	return fd;
}

/* ---- servers ---- */

static int listen_at(const struct bench *b)
{
	int fd = socket(b->addr.ss_family, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (const struct sockaddr *)&b->addr, b->addr_len) < 0 || listen(fd, 4096) < 0)
		die("listen");
	return fd;
}

static int accept_one(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		die("accept");
	no_delay(fd);
	return fd;
}

static void serve_rr(struct bench *b, int listener)
{
	int fd = accept_one(listener);

	while (recv_all(fd, b->buf, b->size))
		send_all(fd, b->buf, b->size);
	close(fd);
}

static void serve_stream(struct bench *b, int listener)
{
	int fd = accept_one(listener);
	uint64_t sum = 0;
	ssize_t n;

	while ((n = recv(fd, b->buf, b->size, 0)) > 0)
		sum += (uint64_t)n;
	if (n < 0)
		die("recv");
	send_all(fd, (const char *)&sum, sizeof(sum));
	close(fd);
}

/* One after the other until a request begins with 'q'. */
static void serve_crr(struct bench *b, int listener)
{
	bool last = false;

	while (!last) {
		int fd = accept_one(listener);

		if (!recv_all(fd, b->buf, b->size))
			die("request");
		last = b->buf[0] == 'q';
		send_all(fd, b->buf, b->size);
		close(fd);
	}
}

static void serve_idle(struct bench *b, int listener)
{
	struct epoll_event ev[64], e = { .events = EPOLLIN };
	int ep = epoll_create1(0), i, n, open_now = 0;
	bool any = false;

	e.data.fd = listener;
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
	while (!any || open_now) {
		n = epoll_wait(ep, ev, 64, -1);
		for (i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			ssize_t got;

			if (fd == listener) {
				e.data.fd = accept_one(listener);
				if (epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e) < 0)
					die("epoll_ctl");
				open_now++;
				any = true;
				continue;
			}
			got = recv(fd, b->buf, b->size, MSG_DONTWAIT);
			if (got > 0) {
				send_all(fd, b->buf, (size_t)got);
			} else if (got == 0 || errno != EAGAIN) {
				close(fd);
				open_now--;
			}
		}
	}
}

/* ---- clients ---- */

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static void run_rr(struct bench *b)
{
	int fd = connect_to(b);
	float *us = malloc(MAX_SAMPLES * sizeof(*us));
	double start = now_s(), end, t0, t1;
	size_t n = 0;

	if (!us)
		die("malloc");
	for (t1 = start; t1 < start + WARM_UP_S; t1 = now_s()) {
		send_all(fd, b->buf, b->size);
		recv_all(fd, b->buf, b->size);
	}
	start = t1 = now_s();
	end = start + b->seconds;
	while (t1 < end && n < MAX_SAMPLES) {
		t0 = t1;
		send_all(fd, b->buf, b->size);
		if (!recv_all(fd, b->buf, b->size))
			die("the server has closed");
		t1 = now_s();
		us[n++] = (float)((t1 - t0) * 1e6);
	}
	qsort(us, n, sizeof(*us), compare);
	printf("{\"p50_us\": %.3f, \"p99_us\": %.3f, \"per_s\": %.1f}\n", (double)us[n / 2],
	       (double)us[n - 1 - n / 100], (double)n / (t1 - start));
	free(us);
	close(fd);
}

static void run_first(struct bench *b)
{
	double us[FIRST], t0;
	int fd = connect_to(b), i;

	for (i = 0; i < FIRST; i++) {
		t0 = now_s();
		send_all(fd, b->buf, b->size);
		if (!recv_all(fd, b->buf, b->size))
			die("the server has closed");
		us[i] = (now_s() - t0) * 1e6;
	}
	printf("{\"us\": [");
	for (i = 0; i < FIRST; i++)
		printf("%s%.1f", i ? ", " : "", us[i]);
	printf("]}\n");
	close(fd);
}

static void run_stream(struct bench *b)
{
	int fd = connect_to(b), i;
	uint64_t sum = 0, seen = 0;
	double start = now_s(), end = start + b->seconds;

	while (now_s() < end) {
		for (i = 0; i < 16; i++) {
			send_all(fd, b->buf, b->size);
			sum += b->size;
		}
	}
	shutdown(fd, SHUT_WR);
	if (!recv_all(fd, (char *)&seen, sizeof(seen)) || seen != sum)
		die("the server has not counted what was sent");
	printf("{\"bytes_per_s\": %.1f}\n", (double)sum / (now_s() - start));
	close(fd);
}

static void run_crr(struct bench *b)
{
	double start = now_s(), end = start + b->seconds;
	unsigned long n = 0;
	bool last = false;

	while (!last) {
		int fd = connect_to(b);
		char c;

		last = now_s() >= end;
		b->buf[0] = last ? 'q' : 'r';
		send_all(fd, b->buf, b->size);
		if (!recv_all(fd, b->buf, b->size) || recv(fd, &c, 1, 0) != 0)
			die("response");
		close(fd);
		n++;
	}
	printf("{\"per_s\": %.1f}\n", (double)n / (now_s() - start));
}

static void run_idle(struct bench *b)
{
	int *fds = calloc(b->connections, sizeof(*fds)), round;
	unsigned int i;
	double start = now_s();

	if (!fds)
		die("calloc");
	for (i = 0; i < b->connections; i++)
		fds[i] = connect_to(b);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < b->connections; i++) {
			send_all(fds[i], b->buf, b->size);
			if (!recv_all(fds[i], b->buf, b->size))
				die("the server has closed");
		}
	}
	printf("{\"setup_s\": %.3f}\nidle\n", now_s() - start);
	fflush(stdout);
	poll(NULL, 0, (int)(b->seconds * 1000));
	for (i = 0; i < b->connections; i++)
		close(fds[i]);
	free(fds);
}

/* ---- */

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
	{ "rr", serve_rr, run_rr }, { "first", serve_rr, run_first }, { "stream", serve_stream, run_stream },
	{ "crr", serve_crr, run_crr }, { "idle", serve_idle, run_idle },
};

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *ai;
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
	if (getaddrinfo(argv[4], argv[5], &hints, &ai))
		die(argv[4]);
	memcpy(&b.addr, ai->ai_addr, ai->ai_addrlen);
	b.addr_len = ai->ai_addrlen;
	freeaddrinfo(ai);
	b.buf = calloc(1, b.size + 1);
	if (!b.buf)
		die("calloc");
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
