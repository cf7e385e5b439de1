/* SPDX-License-Identifier: MIT */
/*
 * xen_none.c - in place of xen_store.c and xen_wire.c where Xen's libraries were not there to build with.
 *
 * Nobody gets a store, so nothing else is ever called.
 */
#include <errno.h>

#include "xen_store.h"
#include "xen_wire.h"

int xshimd_store_open(struct xshimd_store **out)
{
	(void)out;
	return -ENOTSUP;
}

void xshimd_store_close(struct xshimd_store **s)
{
	(void)s;
}

int xshimd_store_read(struct xshimd_store *s, struct xshimd_store_value *v, const char *path, ...)
{
	(void)s;
	(void)v;
	(void)path;
	return -ENOTSUP;
}

int xshimd_store_write(struct xshimd_store *s, uint32_t owner, uint32_t reader, const char *text, const char *path, ...)
{
	(void)s;
	(void)owner;
	(void)reader;
	(void)text;
	(void)path;
	return -ENOTSUP;
}

int xshimd_store_remove(struct xshimd_store *s, const char *path, ...)
{
	(void)s;
	(void)path;
	return -ENOTSUP;
}

int xshimd_store_numbers(struct xshimd_store *s, uint32_t *out, uint32_t room, const char *path, ...)
{
	(void)s;
	(void)out;
	(void)room;
	(void)path;
	return -ENOTSUP;
}

int xshimd_store_watch(struct xshimd_store *s, const char *path, ...)
{
	(void)s;
	(void)path;
	return -ENOTSUP;
}

void xshimd_store_unwatch(struct xshimd_store *s, const char *path, ...)
{
	(void)s;
	(void)path;
}

bool xshimd_store_is_domain(struct xshimd_store *s, uint32_t domid)
{
	(void)s;
	(void)domid;
	return false;
}

int xshimd_store_begin(struct xshimd_store *s)
{
	(void)s;
	return -ENOTSUP;
}

int xshimd_store_commit(struct xshimd_store *s)
{
	(void)s;
	return -ENOTSUP;
}

void xshimd_store_abandon(struct xshimd_store *s)
{
	(void)s;
}

int xshimd_store_fd(struct xshimd_store *s)
{
	(void)s;
	return -1;
}

bool xshimd_store_fired(struct xshimd_store *s, char path[XSHIMD_STORE_PATH])
{
	(void)s;
	(void)path;
	return false;
}

static int no_send(void *carrier, const struct xshimd_peer_msg *m)
{
	(void)carrier;
	(void)m;
	return -ENOTSUP;
}

static int no_recv(void *carrier, struct xshimd_peer_msg *m)
{
	(void)carrier;
	(void)m;
	return -ENOTSUP;
}

const struct xshimd_carrier xshimd_wire_carrier = { no_send, no_recv };

int xshimd_wire_open(struct xshimd_wire **out, struct xshimd_wire **half, struct xshimd_store *s, uint32_t self, uint32_t peer,
		     const char **why)
{
	(void)out;
	(void)half;
	(void)s;
	(void)self;
	(void)peer;
	*why = NULL;
	return -ENOTSUP;
}

void xshimd_wire_close(struct xshimd_wire *v)
{
	(void)v;
}

int xshimd_wire_fd(const struct xshimd_wire *v)
{
	(void)v;
	return -1;
}

void xshimd_wire_take_event(struct xshimd_wire *v)
{
	(void)v;
}

void xshimd_wire_abandon(struct xshimd_wire *v)
{
	(void)v;
}
