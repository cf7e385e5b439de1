/* SPDX-License-Identifier: MIT */
/*
 * watch.h - a callback when a descriptor is ready; a libuv poll handle whose owner may go first.
 *
 * libuv frees a handle only after its close callback has run, in a later turn of the loop. A watch takes that
 * on itself, so that what owns one can be freed at once. The descriptor stays the owner's: close
 * the watch, then the descriptor.
 */
#ifndef XSHIMD_WATCH_H
#define XSHIMD_WATCH_H
#include <uv.h>

struct xshimd_watch;
/* events: UV_READABLE, UV_WRITABLE, UV_DISCONNECT; also called with 0 when the descriptor has failed. */
typedef void (*xshimd_watch_fn)(void *owner, int events);

/* Before libuv is used for anything else. 0 or -errno. */
int xshimd_watch_init(void);
/* 0 or -errno. */
int xshimd_watch_open(struct xshimd_watch **out, uv_loop_t *loop, int fd, int events, xshimd_watch_fn fn,
		      void *owner);
void xshimd_watch_close(struct xshimd_watch **w);	/* NULL inside is fine; sets it to NULL */

#endif
