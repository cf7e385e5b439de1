/* SPDX-License-Identifier: MIT */
/*
 * depart.h - channels over xen and guests that go: what xshimd says about them, and LEFT, which it is told.
 *
 * LEAVE    the other guest, or this one, is about to be saved or moved: return to TCP. It is begun here and goes on in the
 *          program's calls (pump.c).
 * FORSAKE  the other guest is gone, or this one was moved: its memory is let go of, untouched, and the connection is reset.
 * NUDGE    the other guest's xshimd was started anew: who sleeps over there is to wake up and look for it.
 * LEFT     a channel's mapping is gone. Said once for each MATCHED, by the process that got it, unless others hold the channel;
 *          then the end of the bell tells.
 *
 * Flag /then/ let go: link.error is set before zeros take the place of the peer's memory, and who has copied from
 * it asks afterwards whether it was whole (xshim_chan_is_cut). So this may be done under either lock, or none.
 *
 * The same holds when nobody has told us yet: after a save that came without warning the peer's memory reads as ones, or raises
 * SIGBUS where the guest is PV (fault.c).
 *
 * Locks: the client lock, then a slot's. A handler that interrupted the holder of a slot's lock leaves a note
 * in ch->told, and the next look at the channel acts on it.
 */
#ifndef XSHIM_DEPART_H
#define XSHIM_DEPART_H
#include "conn.h"

#include <xshim/proto.h>

#define XSHIM_TOLD_LEAVE 1u
#define XSHIM_TOLD_FORSAKE 2u

/* The mapping of the peer's memory is no longer that. Never so over shm. */
static inline bool xshim_chan_is_cut(const struct xshim_chan *ch)
{
	return __builtin_expect(ch->cuttable, 0) && !xshim_region_is_whole(ch->remote.region);
}

/* LEAVE or FORSAKE has come. Client lock held. */
void xshim_depart_told(const union xshim_msg *m);
/* Act on ch->told. Both locks. 0, or -ECONNRESET. */
int xshim_depart_obey(struct xshim_conn *c, struct xshim_chan *ch, int fd);
/* Let go of the peer's memory and say LEFT. link.error is set, or the link is out. */
void xshim_depart_let_go(struct xshim_conn *c, struct xshim_chan *ch);
/* conn.c: the connection's last descriptor in this process has gone. */
void xshim_depart_closed(struct xshim_conn *c, struct xshim_chan *ch);

#endif
