/* SPDX-License-Identifier: MIT */
/*
 * identity.h - who a connection is, and who we are, for as few system calls as it can be had.
 *
 * Most connections end before anybody has to know more than can be shown: both addresses, of which the call that made the
 * connection has told one. What an introduction rests on (that it is TCP, both addresses as the kernel has them, the cookies,
 * O_NONBLOCK) is asked for when there is to be one, or an exec.
 *
 * Threads: any; identify: the client lock, or nobody else is inside. Fork: what is remembered of the process is not the child's.
 */
#ifndef XSHIM_IDENTITY_H
#define XSHIM_IDENTITY_H
#include "conn.h"

#include <sys/socket.h>

/* getpid(), asked once. */
void xshim_pid_init(void);
pid_t xshim_pid(void);

/* The calling thread's name, as it was within the last second. */
void xshim_identity_comm(char comm[16]);
/* It is about to get another. */
void xshim_identity_renamed(void);

/* A connection is made: what is shown of it, and c->hash. peer: as the call that made it has it; NULL: ask. */
void xshim_identity_show(struct xshim_conn *c, int fd, const struct sockaddr *peer, socklen_t len);
/* All that an introduction needs to know, once. False: it is not to be known yet, or there is none for it. */
bool xshim_identity_ask(struct xshim_conn *c, int fd);
/* O_NONBLOCK of a connection without a channel; true also if it only seems so, because the connect did not wait. */
bool xshim_identity_nonblock(struct xshim_conn *c, int fd);

#endif
