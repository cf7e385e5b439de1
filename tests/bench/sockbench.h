/* SPDX-License-Identifier: MIT */
/*
 * sockbench.h - what the parts of sockbench share. Whatever fails ends the process with a line on stderr.
 *
 * Each kind of measurement has a server, which is given a listening socket and returns when its client is
 * done, and a client, which prints one JSON object.
 */
#ifndef SOCKBENCH_H
#define SOCKBENCH_H
#include "bench_util.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct bench {
	bool is_server;
	const char *kind;
	size_t size;		/* of a message */
	double seconds;
	unsigned int connections;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	char *buf;		/* of size + 1 bytes */
};

int bench_connect(const struct bench *b);
int bench_accept(int listener);
void bench_nonblock(int fd);
void bench_send(int fd, const char *buf, size_t len);
bool bench_recv(int fd, char *buf, size_t len);		/* false: the end came first */

/* bench_rr.c */
void serve_rr(struct bench *b, int listener);
void run_rr(struct bench *b);
void run_first(struct bench *b);
void run_paced(struct bench *b);
void serve_epoll(struct bench *b, int listener);
void run_epoll(struct bench *b);

/* bench_stream.c */
void serve_stream(struct bench *b, int listener);
void run_stream(struct bench *b);

/* bench_many.c */
void serve_crr(struct bench *b, int listener);
void run_crr(struct bench *b);
void serve_many(struct bench *b, int listener);
void run_many(struct bench *b);
void run_idle(struct bench *b);

/* bench_step.c */
void serve_step(struct bench *b, int listener);
void run_step(struct bench *b);

#endif
