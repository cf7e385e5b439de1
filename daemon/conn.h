/* SPDX-License-Identifier: MIT */
/*
 * conn.h - one client's control connection.
 *
 *            HELLO, right version          anything wrong, the end, queue full
 *      NEW ------------------------> GREETED ------------------------> DEAD
 *       |  no HELLO in hello_timeout, anything else                     ^
 *       +---------------------------------------------------------------+
 *
 * Nothing is freed in the middle of what is going on: xshimd_conn_drop() only marks. Whoever was called
 * by the loop ends with xshimd_settle(), which takes the dead apart. Sending to a dead one is a no-op.
 */
#ifndef XSHIMD_CONN_H
#define XSHIMD_CONN_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <xshim/log.h>
#include <xshim/proto.h>

#include "registry.h"
#include "watch.h"

#define XSHIMD_CONN_ARENAS 4

struct xshimd;
struct xshimd_arena;

enum xshimd_conn_state { XSHIMD_CONN_NEW, XSHIMD_CONN_GREETED, XSHIMD_CONN_DEAD };

struct xshimd_conn {
	struct xshimd *d;
	int fd;
	struct xshimd_watch *watch;
	enum xshimd_conn_state state;
	struct ucred cred;		/* SO_PEERCRED at accept */
	uint64_t hello_by_ms;
	int mail;			/* slot in the map, -1 before WELCOME */
	uint32_t kind;			/* XSHIM_CLIENT_* */
	struct xshimd_arena *arenas[XSHIMD_CONN_ARENAS];
	unsigned int arenas_n;
	struct xshimd_endpoint_reg *endpoints;
	struct xshimd_wait *waits;
	struct xshimd_conn *prev, *next;	/* in d->conns or d->dead */
};

/* Takes the descriptor over; its quota has been taken. 0 or -errno (descriptor and quota are the caller's). */
int xshimd_conn_open(struct xshimd *d, int fd, const struct ucred *cred);
void xshimd_conn_drop(struct xshimd_conn *c);
/* Only from xshimd_settle(). */
void xshimd_conn_destroy(struct xshimd_conn *c);
/* Drop who has not said HELLO in time; the next such time, or UINT64_MAX. */
uint64_t xshimd_conns_sweep(struct xshimd *d, uint64_t now_ms);

/* One message with descriptors, which stay the caller's. A full queue drops the client. 0 or -errno. */
int xshimd_conn_send(struct xshimd_conn *c, union xshim_msg *m, const int *fds, unsigned int nfds);
void xshimd_conn_decline(struct xshimd_conn *c, uint32_t id, uint32_t reason);

/* Log what the kernel said about a descriptor of this message; XSHIMD_BAD also drops the client. */
void xshimd_conn_verdict(struct xshimd_conn *c, const union xshim_msg *m, const struct xshimd_verdict *v);

/* "uid 1000 pid 123: ..." at most once in 10 s for a cause and user. */
__attribute__((format(printf, 4, 5)))
void xshimd_conn_note(struct xshimd_conn *c, enum xshim_log_level level, const char *cause, const char *fmt, ...);

#endif
