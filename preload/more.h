/* SPDX-License-Identifier: MIT */
/*
 * more.h - sleep until more comes than is there already. poll() cannot say that, so news is taken as edges, by an epoll
 * descriptor that lives as long as the call which waits (a peek that wants all, or a low-water mark's worth).
 *
 * Order, so that nothing is missed: begin, look, and while that is too little: wait, look. Whatever comes after the wish is stored, by
 * begin or by the end of a wait, is an edge for the next wait.
 *
 * Threads: each call its own. Errors: -errno.
 */
#ifndef XSHIM_MORE_H
#define XSHIM_MORE_H
#include "channel.h"

struct xshim_more {
	struct xshim_chan *ch;
	int ep;
};

/* 0 or -ENOMEM: no descriptor is to be had. end() only after 0. */
int xshim_more_begin(struct xshim_more *m, struct xshim_conn *c, struct xshim_chan *ch, int fd);
/* 0: look again; -EAGAIN: the deadline (xshim_clock_ns(); UINT64_MAX: none) has passed; -EINTR. */
int xshim_more_wait(struct xshim_more *m, struct xshim_conn *c, int fd, uint64_t deadline_ns);
void xshim_more_end(struct xshim_more *m);
/* No more will come: what a look finds after this is all there is. */
bool xshim_more_is_over(struct xshim_conn *c, struct xshim_chan *ch, int fd);

#endif
