/* SPDX-License-Identifier: MIT */
#include "xen_channels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "xen_guest.h"
#include "xen_keeper.h"
#include "xshimd.h"

static void ring(const struct xshimd_channel *ch)
{
	/* Full: it has been rung already. Gone: there is nobody to be woken. */
	(void)send(ch->bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drop(struct xshimd_channel *ch)
{
	struct xshimd *d = ch->d;

	xshimd_watch_close(&ch->watch);
	xshimd_bell_close(d, ch->bell);
	DL_DELETE(d->channels.list, ch);
	d->channels.n--;
	if (d->guest)
		xshimd_guest_channel_gone(d->guest, ch);
	free(ch);
}

static void on_bell(void *owner, int events)
{
	struct xshimd_channel *ch = owner;
	struct xshimd *d = ch->d;

	(void)events;
	drop(ch);
	xshimd_settle(d);
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

int xshimd_channel_add(struct xshimd *d, struct xshimd_conn *c, uint32_t id, uint32_t domid, uint32_t number, bool ours,
		       int bell)
{
	struct xshimd_channel *ch = calloc(1, sizeof(*ch));
	int rc = -ENOMEM;

	if (ch)
		rc = xshimd_watch_open(&ch->watch, &d->loop, bell, UV_DISCONNECT, on_bell, ch);
	if (rc < 0) {
		free(ch);
		close(bell);
		return rc;
	}
	ch->d = d;
	ch->conn = c;
	ch->id = id;
	ch->domid = domid;
	ch->number = number;
	ch->ours = ours;
	ch->bell = bell;
	ch->inode = inode_of(bell);
	DL_APPEND(d->channels.list, ch);
	d->channels.n++;
	d->channels.total++;
	return 0;
}

void xshimd_channel_resume(struct xshimd_conn *c, uint32_t id, uint32_t domid, int bell)
{
	struct xshimd *d = c->d;
	uint64_t inode = inode_of(bell);
	struct xshimd_channel *ch;
	int rc;

	DL_FOREACH(d->channels.list, ch) {
		if (ch->inode == inode) {	/* by another process that has it, too */
			close(bell);
			return;
		}
	}
	rc = xshimd_has_room(d) ? xshimd_channel_add(d, c, id, domid, 0, false, bell) : -EMFILE;
	if (rc < 0)
		xshimd_conn_note(c, XSHIM_LOG_WARN, "resume", "RESUME: %s; a channel with guest %u goes on uncounted",
				 strerror(-rc), domid);
	if (rc == -EMFILE)
		close(bell);
	if (rc == 0 && d->guest)
		xshimd_guest_resumed(d->guest, domid);
}

void xshimd_channel_left(struct xshimd *d, const struct xshimd_conn *c, uint32_t id)
{
	struct xshimd_channel *ch, *tmp;

	DL_FOREACH_SAFE(d->channels.list, ch, tmp)
		if (ch->conn == c && ch->id == id)
			drop(ch);
}

void xshimd_channels_conn_gone(struct xshimd *d, const struct xshimd_conn *c)
{
	struct xshimd_channel *ch;

	DL_FOREACH(d->channels.list, ch)
		if (ch->conn == c)
			ch->conn = NULL;
}

void xshimd_channels_ring(struct xshimd *d, uint32_t domid, uint32_t number, bool ours)
{
	struct xshimd_channel *ch;

	DL_FOREACH(d->channels.list, ch)
		if (ch->domid == domid && ch->number == number && ch->ours == ours)
			ring(ch);
}

void xshimd_channels_tell(struct xshimd *d, uint32_t type, uint32_t domid, uint32_t reason)
{
	struct xshimd_channel *ch;
	struct xshimd_conn *c, *tmp;
	union xshim_msg m;

	DL_FOREACH_SAFE(d->conns, c, tmp) {
		if (c->state != XSHIMD_CONN_GREETED || c->kind != XSHIM_CLIENT_SHIM)
			continue;
		xshim_msg_init(&m, (enum xshim_msg_type)type, 0);
		m.leave.domid = domid;
		m.leave.reason = reason;
		xshimd_conn_send(c, &m, NULL, 0);
	}
	/* The message /then/ the bell: who is woken finds it. */
	DL_FOREACH(d->channels.list, ch) {
		if (ch->domid != domid)
			continue;
		ch->forsaken |= type == XSHIM_MSG_FORSAKE;
		ring(ch);
	}
}

void xshimd_channels_strand(struct xshimd *d)
{
	struct xshimd_channel *ch, *tmp;

	DL_FOREACH_SAFE(d->channels.list, ch, tmp) {
		xshimd_watch_close(&ch->watch);
		xshimd_keeper_hold(ch->bell);
		DL_DELETE(d->channels.list, ch);
		d->channels.n--;
		free(ch);
	}
}

uint32_t xshimd_channels_count(const struct xshimd *d, uint32_t domid)
{
	const struct xshimd_channel *ch;
	uint32_t n = 0;

	if (domid == XSHIM_DOMID_ALL)
		return d->channels.n;
	DL_FOREACH(d->channels.list, ch)
		n += ch->domid == domid;
	return n;
}

void xshimd_channels_close(struct xshimd *d)
{
	while (d->channels.list)
		drop(d->channels.list);
}
