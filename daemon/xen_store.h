/* SPDX-License-Identifier: MIT */
/*
 * xen_store.h - xenstore, with every length bounded.
 *
 * libxenstore waits for each answer, and a xenstored that has stopped never answers; so all calls but fd and fired
 * are made in a job (xen_sync.h), never in the loop. It must be linked dynamically: the static library has no reader
 * thread, and loses watches. A request longer than 4,096 bytes makes it close its connection, so nothing longer than what
 * is allowed here is given to it.
 *
 * Errors: 0 or -errno: -ENOENT, -EACCES for nodes; -EPIPE: the connection is of no use any more, close it and open another.
 */
#ifndef XSHIMD_XEN_STORE_H
#define XSHIMD_XEN_STORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xen_text.h"

#define XSHIMD_STORE_PATH 192
#define XSHIMD_STORE_LIST 1024		/* children of a node that are looked at */
#define XSHIMD_STORE_TRIES 8		/* of a transaction that others disturb */

struct xshimd_store;
struct xshimd_store_value {
	size_t len;
	char text[XSHIMD_XEN_VALUE_MAX + 1];	/* terminated; may have NULs before */
};

/* -ENOTSUP: built without libxenstore. */
int xshimd_store_open(struct xshimd_store **out);
void xshimd_store_close(struct xshimd_store **s);

/* -E2BIG: longer than XSHIMD_XEN_VALUE_MAX. */
__attribute__((format(printf, 3, 4)))
int xshimd_store_read(struct xshimd_store *s, struct xshimd_store_value *v, const char *path, ...);
/* Whoever `reader` is may read it, too: a domid, or one of the two below. */
#define XSHIMD_STORE_OWN UINT32_MAX		/* permissions stay as they are, or are inherited */
#define XSHIMD_STORE_ALL (UINT32_MAX - 1)
__attribute__((format(printf, 5, 6)))
int xshimd_store_write(struct xshimd_store *s, uint32_t owner, uint32_t reader, const char *text, const char *path, ...);
/* -ENOENT is 0. */
__attribute__((format(printf, 2, 3)))
int xshimd_store_remove(struct xshimd_store *s, const char *path, ...);
/* Children that are plain numbers up to XSHIMD_XEN_DOMID_MAX, others are passed over; how many, or -errno. */
__attribute__((format(printf, 4, 5)))
int xshimd_store_numbers(struct xshimd_store *s, uint32_t *out, uint32_t room, const char *path, ...);
__attribute__((format(printf, 2, 3)))
int xshimd_store_watch(struct xshimd_store *s, const char *path, ...);
__attribute__((format(printf, 2, 3)))
void xshimd_store_unwatch(struct xshimd_store *s, const char *path, ...);
bool xshimd_store_is_domain(struct xshimd_store *s, uint32_t domid);	/* dom0: xenstored serves it */

/* One transaction at a time; reads and writes in between are its. commit: -EAGAIN: another time. */
int xshimd_store_begin(struct xshimd_store *s);
int xshimd_store_commit(struct xshimd_store *s);
void xshimd_store_abandon(struct xshimd_store *s);

/* In the loop, after a first xshimd_store_watch(): readable when watches have fired. -1: none. */
int xshimd_store_fd(struct xshimd_store *s);
/* The path of the next watch that has fired, cut to the room; false: no more now. */
bool xshimd_store_fired(struct xshimd_store *s, char path[XSHIMD_STORE_PATH]);

#endif
