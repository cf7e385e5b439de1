/* SPDX-License-Identifier: MIT */
/*
 * client_xen.h - client.c's part about channels over xen: which ones xshimd is told of, by RESUME and LEFT (proto.h).
 *
 * A session is one conversation with one xshimd. A channel belongs to the session in which xshimd heard of it (ch->session). When
 * a conversation ends, what was to be said in it is void: the end of the bells says it.
 *
 * Locks: the client lock, but for xshim_client_left() (client.h) and what is said to be for any.
 */
#ifndef XSHIM_CLIENT_XEN_H
#define XSHIM_CLIENT_XEN_H
#include <stdbool.h>
#include <stdint.h>

uint32_t xshim_session(void);		/* any */
void xshim_session_new(void);
/* Say LEFT of those that have left; what cannot be sent now stays for the next time. sock -1: forget them. */
void xshim_session_send_left(int sock);
/* More have left than could be noted; asked once. */
bool xshim_session_overflowed(void);
/* Name the channels that an earlier xshimd has introduced. 0: all are known now; -EAGAIN: its queue is full; -EPIPE: it has gone. */
int xshim_session_resume(int sock);

#endif
