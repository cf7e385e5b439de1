/* SPDX-License-Identifier: MIT */
/*
 * xen_channels.h - role guest: the channels over xen that were introduced here, and the end of them when a guest goes.
 *
 * A shim leaves its BELL_OUT with us, so that we can wake it when it sleeps. A channel is in the table until its shim says LEFT or
 * has closed the other half of the bell. The end of the client that made it is not enough: a forked child may go on with it.
 *
 * LEAVE and FORSAKE are sent for all channels with a domain at once (id 0), to every shim: one message each, however many
 * channels, and also right for those that a xshimd before this one introduced.
 */
#ifndef XSHIMD_XEN_CHANNELS_H
#define XSHIMD_XEN_CHANNELS_H
#include <stdbool.h>
#include <stdint.h>

#include "watch.h"

struct xshimd;
struct xshimd_conn;

struct xshimd_channel {
	struct xshimd *d;
	struct xshimd_conn *conn;	/* NULL: it has gone, the channel goes on */
	uint32_t id;
	uint32_t domid;
	uint32_t number;		/* of the offer that it came of */
	bool ours;			/* the offer was */
	int bell;
	struct xshimd_watch *watch;	/* for the end of the bell */
	struct xshimd_channel *prev, *next;
};

struct xshimd_channels {
	struct xshimd_channel *list;
	uint32_t n;
	uint64_t total;
};

/* Takes the bell over, also when it fails. 0 or -errno. */
int xshimd_channel_add(struct xshimd *d, struct xshimd_conn *c, uint32_t id, uint32_t domid, uint32_t number, bool ours,
		       int bell);
void xshimd_channel_left(struct xshimd *d, const struct xshimd_conn *c, uint32_t id);
void xshimd_channels_conn_gone(struct xshimd *d, const struct xshimd_conn *c);
void xshimd_channels_ring(struct xshimd *d, uint32_t domid, uint32_t number, bool ours);
/* XSHIM_MSG_LEAVE or XSHIM_MSG_FORSAKE to all shims, and all bells of that domain. */
void xshimd_channels_tell(struct xshimd *d, uint32_t type, uint32_t domid, uint32_t reason);
/* With a domain, or XSHIM_DOMID_ALL. */
uint32_t xshimd_channels_count(const struct xshimd *d, uint32_t domid);
void xshimd_channels_close(struct xshimd *d);

#endif
