/* SPDX-License-Identifier: MIT */
/*
 * stream.h - parts of the byte-exact stress program "stream".
 *
 * Both ends send a keyed pseudo-random stream at the same time, in messages of random sizes and with
 * randomly mixed calls, and compare every byte they receive. What a byte at an offset must be follows
 * from (key, offset) alone, so a lost, doubled or displaced byte is seen at once and can be located.
 *
 * Errors: a wrong byte, a wrong count or a call that fails ends the process with status 1 and a line on
 *         stderr that names connection, offset and seed. No return codes to forget.
 */
#ifndef STREAM_H
#define STREAM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define MAX_CONNS 256

enum style {
	STYLE_THREADS,		/* blocking, one thread reads and one writes */
	STYLE_LOCKSTEP,		/* blocking, message and answer in turn */
	STYLE_POLL,
	STYLE_SELECT,
	STYLE_EPOLL_LT,
	STYLE_EPOLL_ET,
	STYLE_COUNT,
};

struct config {
	enum style style;
	bool is_server;
	bool forks;		/* server: a child process per connection */
	unsigned int conns;
	uint64_t bytes;		/* per direction and connection */
	uint64_t seed;
	size_t max_message;
	unsigned int deadline_s;
	unsigned int local_port;	/* client, one connection; 0: any */
	struct sockaddr_storage addr;
	socklen_t addr_len;
};

/* What the client tells the server first; the same numbers then hold at both ends. */
struct hello {
	uint64_t magic;
	uint64_t seed;
	uint64_t bytes;
	uint64_t max_message;
	uint32_t index;
	uint32_t zero;
};
#define HELLO_MAGIC 0x68656c6c6f313233ull

struct rng {
	uint64_t state;
};

struct conn {
	int fd;
	const char *role;	/* for messages */
	unsigned int index;
	uint64_t seed;
	uint64_t bytes;		/* per direction */
	size_t max_message;
	bool nonblocking;
	bool exact;		/* readiness that turns out to be none is a failure */

	/* sending: only the writing thread uses these */
	struct rng tx_rng;
	uint64_t tx_key;
	_Atomic uint64_t tx;	/* offset of the next byte to send; a message of the other thread may tell it, as rx */
	size_t message;		/* length of the present message */
	size_t message_done;
	uint8_t *tx_buf;
	bool tx_shut;

	/* receiving: only the reading thread uses these */
	struct rng rx_rng;
	uint64_t rx_key;
	_Atomic uint64_t rx;
	size_t rx_cap;
	uint8_t *rx_buf;
	bool rx_eof;
};

/* stream_conn.c */
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);
/* Log-uniform in 1..max: as many messages around 10 bytes as around 1 MiB. */
size_t rng_size(struct rng *r, size_t max);
void conn_open(struct conn *c, int fd, const struct hello *h, bool is_server, bool nonblocking);
void conn_free(struct conn *c);
/* One sending call of a random kind. False: EAGAIN. Half-closes after the last byte. */
bool conn_send_some(struct conn *c);
/* One receiving call of a random kind. False: EAGAIN. Sets rx_eof, and then checks the count. */
bool conn_recv_some(struct conn *c);
/* Blocking: send or receive exactly n bytes. */
void conn_send_all(struct conn *c, uint64_t n);
void conn_recv_all(struct conn *c, uint64_t n);
_Noreturn void conn_fail(const struct conn *c, const char *what, int err);

/* stream_loop.c */
void run_threads(struct conn *conns, unsigned int n);
void run_lockstep(struct conn *c, bool is_server);
/* Event styles, one loop for all connections. listener is -1 or accepts until n connections are there. */
void run_events(enum style style, struct conn *conns, unsigned int n, int listener);

/* stream.c */
void server_greet(struct conn *c, int fd, bool nonblocking);
/* The watchdog prints how far these have come. */
void watch_conns(const struct conn *conns, unsigned int n);

#endif
