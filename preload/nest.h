/* SPDX-License-Identifier: MIT */
/*
 * nest.h - epoll sets that are looked at from outside: as members of other sets, by poll, by select.
 *
 * A member's entry in the outer set carries a tag as datum. Before the outer set is waited for, its members are shown
 * (epoll.h: xshim_epoll_shown), and what the kernel says of one is believed only if it still says so after that.
 *
 * Locks: the structure lock (eset.h) for which set is in which; none while a member is shown. Threads: any. Fork: as epoll.h.
 */
#ifndef XSHIM_NEST_H
#define XSHIM_NEST_H
#include "epoll.h"

/* epoll_ctl for a descriptor that is no connection: as the C library's, errno and all. */
int xshim_nest_ctl(int epfd, int op, int fd, struct epoll_event *event);
/* The set is closed: it is in no other and has no members. */
void xshim_nest_forget(struct xshim_eset *set);
/* Somebody is about to sleep in the set. */
void xshim_nest_show_members(struct xshim_eset *set);
/* The kernel says that the member with this tag is ready. True: it is; *to is what the program is to be told. */
bool xshim_nest_event(struct xshim_eset *outer, uint32_t tag, struct epoll_event *to);
/* poll: the kernel has said of fd, if it is a set, what is in *revents. False: that is not true any more. */
bool xshim_nest_is_ready(int fd, short events, short *revents);

#endif
