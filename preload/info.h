/* SPDX-License-Identifier: MIT */
/*
 * info.h - TCP_INFO as the program is to have it: bytes that went by ring are counted like those that TCP carried.
 *
 * That is tcpi_bytes_sent, _acked and _received, and tcpi_notsent_bytes. Of what lies unread on a ring so much counts as acknowledged, and as
 * received at the other end, as TIOCOUTQ takes for delivered (stream.h, xshim_stream_takes()); the rest has not been sent yet. The three
 * first never go back, whatever path the bytes take and also where a path carries some of them once more: slot->info has the most that was told. What the
 * kernel counts in segments, and its times, speak of TCP alone.
 *
 * Our own witness of a switch is the kernel's count as it is (tcpinfo.c).
 *
 * Threads: any; takes both locks of the slot. Fork: the counts are in the slot. Signals: a handler that interrupts who has a lock is told
 * the kernel's counts, or the most that was told.
 */
#ifndef XSHIM_INFO_H
#define XSHIM_INFO_H
#include "conn.h"

/* getsockopt(2) of TCP_INFO: what it returns, with errno. c: NULL, it is no connection of ours. */
int xshim_info_get(struct xshim_conn *c, int fd, void *value, socklen_t *len);

#endif
