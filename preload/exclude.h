/* SPDX-License-Identifier: MIT */
/*
 * exclude.h - what a ring cannot be combined with: the connection returns to TCP and stays there.
 *
 * Threads: any. Errno is kept.
 */
#ifndef XSHIM_EXCLUDE_H
#define XSHIM_EXCLUDE_H
#include "conn.h"

/* This connection, for good; fd names it. */
void xshim_exclude_conn(struct xshim_conn *c, int fd, enum xshim_reason why);
/* The same for what fd names, if it is a connection. */
void xshim_exclude_fd(int fd, enum xshim_reason why);
/* It returns to TCP, and may come back when what stands in the way is gone (conn.h, xshim_conn_on_stdio()). */
void xshim_exclude_for_now(int fd, enum xshim_reason why);
/* All that the process has now, and none gets a ring later. */
void xshim_exclude_all(enum xshim_reason why);

/*
 * stdio.c: fd was given to a stream before it was connected. forget: it is closed or names something new.
 */
bool xshim_stdio_has(int fd);
void xshim_stdio_forget(int fd);
void xshim_stdio_forget_all(unsigned int first, unsigned int last);

#endif
