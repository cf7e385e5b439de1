/* SPDX-License-Identifier: MIT */
/*
 * talk.c - one TCP connection, moved step by step: talk listen|connect ADDRESS PORT
 *
 * Reads one command a line from standard input, and answers each with "ok COMMAND", or with what happened instead. Every call blocks;
 * between two commands it sleeps in poll, on its input and the connection, until the latter has something. Byte n of each direction has a value that depends on n alone, so whatever is received is checked.
 *
 *   send N      sends N bytes
 *   recv N      receives N bytes
 *   rounds N    N times: connect: sends a byte, receives one; listen: receives one, sends one
 *   half        shuts down its sending direction
 *   eof         receives the end of the stream
 *   drop        receives until there is no more; "ok drop COUNT end" or "ok drop COUNT reset"
 *
 *   end         closes, and ends
 *
 * At the end of its input it ends, too. Status 0: all answers were ok; 1: not; 2: usage.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int fd;
static uint64_t sent, received;

static unsigned char pattern(uint64_t n)
{
	return (unsigned char)((n * 2654435761u) >> 13 ^ n >> 32);
}

static const char *put(uint64_t n)
{
	unsigned char buf[8192];

	while (n) {
		size_t want = n < sizeof(buf) ? n : sizeof(buf);
		ssize_t k;

		for (size_t i = 0; i < want; i++)
			buf[i] = pattern(sent + i);
		k = send(fd, buf, want, MSG_NOSIGNAL);
		if (k < 0)
			return strerror(errno);
		sent += (uint64_t)k;
		n -= (uint64_t)k;
	}
	return NULL;
}

/* The next bytes, at most n; 0 at the end, or -1 and *why. */
static ssize_t get_some(uint64_t n, const char **why)
{
	unsigned char buf[8192];
	ssize_t k = recv(fd, buf, n < sizeof(buf) ? n : sizeof(buf), 0);

	if (k < 0)
		*why = strerror(errno);
	for (ssize_t i = 0; i < k; i++) {
		if (buf[i] != pattern(received + (uint64_t)i)) {
			*why = "a wrong byte";
			return -1;
		}
	}
	received += k > 0 ? (uint64_t)k : 0;
	return k;
}

static const char *get(uint64_t n)
{
	const char *why = NULL;

	while (n) {
		ssize_t k = get_some(n, &why);

		if (k <= 0)
			return k ? why : "the end of the stream";
		n -= (uint64_t)k;
	}
	return NULL;
}

static const char *rounds(uint64_t n, int first)
{
	const char *why = NULL;

	for (uint64_t i = 0; i < n && !why; i++) {
		why = first ? put(1) : get(1);
		if (!why)
			why = first ? get(1) : put(1);
	}
	return why;
}

static const char *drop(char *text, size_t room)
{
	const char *why = NULL;
	uint64_t began = received;
	ssize_t k;

	do
		k = get_some(UINT64_MAX, &why);
	while (k > 0);
	if (k < 0 && strcmp(why, strerror(ECONNRESET)))
		return why;
	snprintf(text, room, " %llu %s", (unsigned long long)(received - began), k ? "reset" : "end");
	return NULL;
}

/* The next command. False at the end of the input. */
static int next_line(char *line, size_t room)
{
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	size_t n = 0;

	while (poll(p, 2, -1) < 0 || !p[0].revents)
		if (p[1].revents)
			p[1].fd = -1;	/* for a command to take */
	while (n + 1 < room && read(0, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	return n > 0;
}

static int open_connection(int listens, const char *address, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	struct timespec pause = { .tv_nsec = 50000000 };
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (s < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
		return -1;
	if (listens) {
		setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(s, (struct sockaddr *)&to, sizeof(to)) < 0 || listen(s, 1) < 0)
			return -1;
		return accept(s, NULL, NULL);
	}
	for (int i = 0; connect(s, (struct sockaddr *)&to, sizeof(to)) < 0; i++) {
		if (errno != ECONNREFUSED || i == 100)
			return -1;
		nanosleep(&pause, NULL);
	}
	return s;
}

int main(int argc, char **argv)
{
	int listens, status = 0;
	char line[64], text[64];

	if (argc != 4 || (strcmp(argv[1], "listen") && strcmp(argv[1], "connect"))) {
		fprintf(stderr, "usage: talk listen|connect ADDRESS PORT\n");
		return 2;
	}
	listens = !strcmp(argv[1], "listen");
	setvbuf(stdout, NULL, _IOLBF, 0);
	fd = open_connection(listens, argv[2], argv[3]);
	if (fd < 0) {
		perror("talk");
		return 1;
	}
	while (next_line(line, sizeof(line))) {
		unsigned long long n = 0;
		const char *why;
		char word[16];
		char byte;

		text[0] = '\0';
		if (sscanf(line, "%15s %llu", word, &n) < 1)
			continue;
		if (!strcmp(word, "end"))
			break;
		if (!strcmp(word, "send"))
			why = put(n);
		else if (!strcmp(word, "recv"))
			why = get(n);
		else if (!strcmp(word, "rounds"))
			why = rounds(n, !listens);
		else if (!strcmp(word, "half"))
			why = shutdown(fd, SHUT_WR) < 0 ? strerror(errno) : NULL;
		else if (!strcmp(word, "eof"))
			why = recv(fd, &byte, 1, 0) == 0 ? NULL : "no end of the stream";
		else if (!strcmp(word, "drop"))
			why = drop(text, sizeof(text));
		else
			why = "no such command";
		if (!why) {
			printf("ok %s%s\n", line, text);
			continue;
		}
		printf("not ok %s: %s, after %llu bytes sent and %llu received\n", line, why, (unsigned long long)sent,
		       (unsigned long long)received);
		status = 1;
	}
	close(fd);
	return status;
}
