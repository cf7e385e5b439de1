/* SPDX-License-Identifier: MIT */
/*
 * daemon_harness.h - an xshimd of one's own, and clients for it that speak the protocol themselves.
 *
 * One temporary directory a test program (harness_main), one daemon a test (daemon_start). The daemon dies with the
 * test that started it, also when that fails. XSHIMD names the binary; ./xshimd otherwise.
 */
#ifndef XSHIM_TESTS_DAEMON_HARNESS_H
#define XSHIM_TESTS_DAEMON_HARNESS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <xshim/arena.h>
#include <xshim/backend.h>
#include <xshim/map.h>
#include <xshim/proto.h>

#include "unit.h"

struct daemon {
	pid_t pid;
	char socket[100];
	char log[100];
	char config[100];
};

struct client {
	int fd;
	uint32_t mail;
	uint64_t instance;
	int map_fd;
	const struct xshim_map *map;
};

struct pair {			/* a TCP connection */
	int listener, connector, accepted;
};

int harness_main(Suite *suite);
/* That directory: for a test's own files, which go with it, whatever becomes of the test. */
const char *harness_dir(void);

/* config: text of the configuration file, or NULL. */
void daemon_start(struct daemon *d, const char *config);
void daemon_stop(struct daemon *d, int sig);
int daemon_fds(const struct daemon *d);
/* Lines of the log that contain `what`. */
int daemon_log_count(const struct daemon *d, const char *what);
void daemon_log_show(const struct daemon *d);

int client_socket(const struct daemon *d);	/* connected, nothing said */
void client_open(struct client *c, const struct daemon *d, const int *arenas, unsigned int n);
void client_close(struct client *c);
/* A daemon and two clients of it. */
void daemon_start_for_two(struct daemon *d, struct client *a, struct client *b);
void daemon_stop_for_two(struct daemon *d, struct client *a, struct client *b);
void client_raw(int fd, const void *buf, size_t len, const int *fds, unsigned int nfds);
void client_send(struct client *c, enum xshim_msg_type type, uint32_t id, const int *fds, unsigned int nfds);
/* The next message within 10 s; its type, or 0 at the end of the connection. */
uint32_t client_recv(int fd, union xshim_msg *m, int *fds, unsigned int *nfds);
/* No message for a while of `ms`. */
bool client_silent(int fd, int ms);
void client_expect(struct client *c, enum xshim_msg_type type, union xshim_msg *m);
void client_expect_declined(struct client *c, uint32_t id, uint32_t reason);
void client_ping(struct client *c);
char *client_report(struct client *c, uint32_t what);	/* JSON text, to be freed */

/* On 127.0.0.1 (or what `address` says), in the present network namespace. */
void pair_open(struct pair *p, const char *address);
void pair_close(struct pair *p);
uint64_t cookie_of(int fd);

/* A region, a bell and a life by the shm backend. */
void channel_make(struct xshim_local *l, unsigned int order, uint64_t nonce);
void channel_free(struct xshim_local *l);
/* OFFER or CLAIM of a socket with a fresh channel of order 12 and this nonce; extra: a probe socket or -1. */
void client_channel(struct client *c, enum xshim_msg_type type, uint32_t id, int tcp, uint64_t nonce, int extra);
/* client_channel() claims what has always been there. */
void client_channel_aged(struct client *c, enum xshim_msg_type type, uint32_t id, int tcp, uint64_t nonce, int extra, uint32_t age_us);
/* MATCHED for id; checks that the region that came carries this nonce. */
void client_expect_matched(struct client *c, uint32_t id, uint64_t nonce);
/* Two new clients offer and claim a connection, and are introduced; each step must work. */
void daemon_introduces(const struct daemon *d);

#endif
