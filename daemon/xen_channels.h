/* SPDX-License-Identifier: MIT */
/*
 * xen_channels.h - role guest: the channels over xen that were introduced here, and the end of them when a guest goes.
 *
 * A shim leaves its BELL_OUT with us, so that we can wake it when it sleeps. A channel is in the table until its shim says LEFT or
 * has closed the other half of the bell. The end of the client that made it is not enough: a forked child may go on with it.
 *
 * LEAVE and FORSAKE are sent for all channels with a domain at once (id 0), to every shim: one message each, however many
 * channels.
 *
 * Channels that a xshimd before this one introduced come in by RESUME, perhaps from several processes that share them: a channel is
 * known by its bell. They have no number, so there is no GONE for them: their shims ring each other.
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
	uint32_t number;		/* of the offer that it came of; 0: resumed */
	bool ours;			/* the offer was */
	bool forsaken;			/* its shim has been told */
	int bell;
	uint64_t inode;			/* of the bell */
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
/* One that was introduced before our time. Takes the bell over. */
void xshimd_channel_resume(struct xshimd_conn *c, uint32_t id, uint32_t domid, int bell);
void xshimd_channel_left(struct xshimd *d, const struct xshimd_conn *c, uint32_t id);
void xshimd_channels_conn_gone(struct xshimd *d, const struct xshimd_conn *c);
void xshimd_channels_ring(struct xshimd *d, uint32_t domid, uint32_t number, bool ours);
/* XSHIM_MSG_LEAVE, XSHIM_MSG_FORSAKE or XSHIM_MSG_NUDGE to all shims, and all bells of that domain. */
void xshimd_channels_tell(struct xshimd *d, uint32_t type, uint32_t domid, uint32_t reason);
/*
 * Our guest has moved: the bells are kept open for good, as the event channels inside are not to be closed (xen_keeper.h). Their shims
 * have been told; nobody is waited for.
 */
void xshimd_channels_strand(struct xshimd *d);
/* With a domain, or XSHIM_DOMID_ALL. */
uint32_t xshimd_channels_count(const struct xshimd *d, uint32_t domid);
void xshimd_channels_close(struct xshimd *d);

#endif
