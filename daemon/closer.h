/* SPDX-License-Identifier: MIT */
/*
 * closer.h - closing what a client has passed and what was not found to be what was due.
 *
 * close() asks the file's file system (flush), and a file system can be any user's program (FUSE), which need not answer: then nothing, no
 * signal either, ends the call. So the loop closes only what is known to have nothing of the kind (sockets, memory, timers); the rest of a
 * message is closed together by a thread of its own, which costs an honest mistake some microseconds.
 *
 * A thread that is stuck holds itself and what comes behind in its message. They are counted in the quota of who sent it, and who has as many as he may have, or as there is room for, is not heard: his messages are not received,
 * as a descriptor that has been received must be closed. One that has not is put away by the kernel, which does not ask (flush) then.
 *
 * Loop thread only. The process's end waits for such a thread, as the kernel does not end it: SIGTERM takes the socket and its lock away first.
 */
#ifndef XSHIMD_CLOSER_H
#define XSHIMD_CLOSER_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include <xshim/proto.h>

#define XSHIMD_CLOSINGS 64u

struct xshimd;
struct xshimd_closing;

struct xshimd_closer {
	uv_async_t done;		/* from a thread: something of `all` is */
	struct xshimd_closing *all;	/* XSHIMD_CLOSINGS; a thread that is stuck outlives the loop, and so do they */
};

/* 0 or -errno. */
int xshimd_closer_open(struct xshimd *d);
void xshimd_closer_close(struct xshimd *d);
/* Nothing more can be received from him. */
bool xshimd_closer_is_full(struct xshimd *d, uid_t uid, uint32_t *limit);
/*
 * The descriptors of one message from him, received when that was false; those that are -1 are closed already. Wherever one may be something
 * else than what was asked for this is what closes it.
 */
void xshimd_closer_take(struct xshimd *d, uid_t uid, const int *fds, unsigned int n);

#endif
