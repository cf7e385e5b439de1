/* SPDX-License-Identifier: MIT */
/*
 * linger.h - a close that waits, because SO_LINGER says so, for what the other end has not read from the ring.
 *
 * The kernel's waits until all that was sent, and the FIN, are acknowledged, that is in the other end's receive buffer, or the time is
 * over, or a signal comes; with O_NONBLOCK, too; and it says 0 in any case. It waits for the socket, and when it has, we do for the ring:
 * until no more is unread there than would fit into a receive buffer (stream.h, xshim_stream_unacked()). FIN has gone by then. The number is
 * free meanwhile, as in the kernel; what the other end reads later it finds on the ring.
 *
 * Not waited for: where other processes, or descriptors, or calls under way hold the connection; at the end of the process; between two
 * guests, where a memory that is held keeps one from being saved; where the other end has reset the connection and holds it on: nothing tells us.
 *
 * Threads: who closes the last descriptor. Signals: a handler may close. Fork: a child does not wait, nor hold what is waited for.
 * If the other end lies about what it has read, we wait too long, or not: no longer than the program has asked for. If it dies its life hangs up.
 */
#ifndef XSHIM_LINGER_H
#define XSHIM_LINGER_H
#include "conn.h"

/* After xshim_stream_closing(), fd, the last descriptor, is about to be closed: note in c until when that waits. */
void xshim_linger_begin(struct xshim_conn *c, int fd);
/* It is closed, and c->linger_until was set: wait, and drop the caller's reference, also if a handler jumps out of this. errno is changed. */
void xshim_linger(struct xshim_conn *c);
/* In a forked child: c is one that a thread of the parent has closed, and waits with: it is not the child's. c->slot is NULL then. */
bool xshim_linger_forked(struct xshim_conn *c);

#endif
