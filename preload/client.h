/* SPDX-License-Identifier: MIT */
/*
 * client.h - this process's side of the conversation with xshimd (proto.h).
 *
 * There is no helper thread and nothing ever waits for xshimd: HELLO is sent and forgotten, answers are
 * noticed at a later call by a load from the map (mail). A descriptor of a TCP socket is sent only to a xshimd that has
 * been heard within the last 100 ms, because in flight to a stopped one it would keep the connection open.
 *
 * Threads: one lock, only ever tried by who holds another; who does not get it goes on and who has it does the work. Before
 *          a slot's locks and those of epoll sets.
 * Fork: the child closes its copy of the socket and starts anew when it needs to.
 */
#ifndef XSHIM_CLIENT_H
#define XSHIM_CLIENT_H
#include "conn.h"

#include <xshim/map.h>
#include <xshim/proto.h>

/* client_lock.c: the lock. No thread is cancelled while it holds it (unwind.h). */
bool xshim_client_try(void);
bool xshim_client_insist(void);	/* wait for it (it is held for short steps only); false: this thread has it */
void xshim_client_drop(void);

/* ---- with the lock ---- */

/* Somebody who did not get the lock has work for its holder, told once. */
bool xshim_client_was_asked(void);
/* LEFT of the channels that have left. */
void xshim_client_send_left(void);
/* Connect if need be and allowed, take in what has come. Cheap when there is nothing. */
void xshim_client_service(void);
/* xshimd has answered HELLO. */
bool xshim_client_is_greeted(void);
/* Why not, when it has not. */
enum xshim_reason xshim_client_why(void);
/* xshimd lives as of just now; if false a PING is on its way, ask again later. */
bool xshim_client_is_fresh(void);
const struct xshim_map *xshim_client_map(void);

/* ENDPOINT (id 0), or LOOK for the connection with that id, with its socket. 0 or -errno. */
int xshim_client_show(enum xshim_msg_type type, uint32_t id, int fd);
/* OFFER (role CONNECT) or CLAIM (role ACCEPT) of c with its pending local half. */
int xshim_client_channel(struct xshim_conn *c, int fd);
void xshim_client_withdraw(struct xshim_conn *c);

/* Nothing comes of the introduction of c: take it back, in whatever state it is. */
void xshim_client_call_off(struct xshim_conn *c, enum xshim_reason reason);

/* ---- fork ---- */
void xshim_client_fork_prepare(void);
void xshim_client_fork_parent(void);
void xshim_client_fork_child(void);

/* ---- without the lock ---- */

/* Somebody queued something for us, or it is time to see whether xshimd is there: worth a service. */
bool xshim_client_has_mail(void);
/*
 * After a sleep that the bell has ended: xshimd rings it when there is mail. Takes in what has come, or sees to it that the
 * one who has the lock does. The caller holds no lock of a slot or of an epoll set.
 */
void xshim_client_mail(void);
/* Tell xshimd LEFT, now or soon; session: of the MATCHED (ch->session). Any locks may be held. */
void xshim_client_left(uint32_t id, uint32_t session);
void xshim_client_say_left(void);	/* for client_xen.c */

#endif
