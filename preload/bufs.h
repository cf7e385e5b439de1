/* SPDX-License-Identifier: MIT */
/*
 * bufs.h - SO_SNDBUF and SO_RCVBUF on a ring: a program that has set them small is not to find more under way than it allowed.
 *
 * What the sizes mean there is in region.h, "Room". The kernel knows whether they were set (SO_BUF_LOCK, since Linux 5.14; with an older
 * one they say nothing): also those that a connection has from its listener. Sizes that nobody has set grow as the kernel finds right, and
 * are no limit.
 */
#ifndef XSHIM_BUFS_H
#define XSHIM_BUFS_H
#include "channel.h"

/* At attach, with nobody inside: take them from the socket. */
void xshim_bufs_take(struct xshim_conn *c, struct xshim_chan *ch, int fd);
/* The program has set option `name` of SOL_SOCKET: if it is one of these they are taken anew, and both ends told. No locks held. */
void xshim_bufs_set(struct xshim_conn *c, int fd, int name);

#endif
