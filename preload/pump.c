/* SPDX-License-Identifier: MIT */
/*
 * pump.c - move a channel's protocol on: switches, LEAVE, what has to be sent again (link.h, frame.h).
 *
 * No thread of ours exists, so this runs inside the program's calls: before a sleep, after a wake-up,
 * when readiness is computed, and when a quick path finds the state unusual. It never blocks.
 */
#include "ask.h"
#include "channel.h"
#include "client.h"
#include "depart.h"
#include "epoll.h"
#include "options.h"
#include "raw.h"
#include "ready.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/uio.h>
#include <xshim/ring.h>

void xshim_chan_rx_mend_slow(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	bool known;
	uint64_t pos;

	xshim_rx_mend(l, ch->local.region);
	known = xshim_tcp_consumed(fd, &pos) == 0;
	if (known && (l->rx.state == XSHIM_RX_TCP || l->rx.state == XSHIM_RX_RAW)) {
		pos += (uint64_t)xshim_base_rx(c->slot);
		if (pos > l->rx.pos)
			(void)xshim_rx_took_tcp(l, pos - l->rx.pos);
	} else if (known && l->rx.state == XSHIM_RX_RING) {
		c->slot->base_rx += (int64_t)(l->rx.pos - pos) - xshim_base_rx(c->slot);	/* bytes of the ring may not have been counted */
	}
	xshim_rx_read_end(ch->local.region);
	atomic_store_explicit(&c->slot->rx_taking, 0, memory_order_relaxed);
	atomic_store_explicit(&c->slot->rx_lock.orphaned, 0, memory_order_relaxed);
	xshim_chan_ring(c, ch);
	xshim_chan_wake_own(ch);
}

void xshim_chan_tx_mend_slow(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	uint64_t written;

	xshim_tx_mend(l, ch->local.region);
	if (l->tx.state == XSHIM_TX_RING && xshim_tcp_written(fd, c->slot->role == XSHIM_ROLE_CONNECT, &written) == 0)
		c->slot->base_tx += (int64_t)(l->tx.pos - written) - xshim_base_tx(c->slot);
	/* it may not have come to this look, either */
	if (xshim_tx_is_alone(ch->remote.region))
		atomic_store_explicit(&l->late, 1, memory_order_relaxed);
	atomic_store_explicit(&c->slot->tx_lock.orphaned, 0, memory_order_relaxed);
	xshim_chan_ring(c, ch);		/* it may not have come to that */
	xshim_chan_wake_own(ch);
}

/* A direction that is closed needs no ring. */
void xshim_chan_note(struct xshim_conn *c, struct xshim_chan *ch)
{
	struct xshim_link *l = &c->slot->link;

	if ((l->tx.state == XSHIM_TX_RING || l->fin) &&
	    (l->rx.state == XSHIM_RX_RING ||
	     atomic_load_explicit(&ch->remote.region->fin, memory_order_relaxed))) {
		atomic_store_explicit(&c->slot->transport, XSHIM_TRANSPORT_RING, memory_order_relaxed);
		xshim_conn_reason(c, XSHIM_R_RING);
	}
}

bool xshim_chan_up_locked(struct xshim_conn *c, struct xshim_chan *ch, int fd, bool hurry)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_link *l = &c->slot->link;
	uint32_t consult;
	uint64_t written;

	if (l->tx.state != XSHIM_TX_TCP || !xshim_tx_may_switch(l, peer))
		return false;
	if (atomic_load_explicit(&peer->deaf, memory_order_relaxed))
		return false;		/* the kernel answers what is sent to one that reads no more */
	if (xshim_conn_flag(c, XSHIM_SLOT_URGENT))
		return false;
	/* Until it crosses, only the ring's size is buffered: the peer should be seen to read. */
	consult = atomic_load_explicit(&peer->consult, memory_order_relaxed);
	if (!hurry && consult == atomic_load_explicit(&ch->consult_seen, memory_order_relaxed) &&
	    atomic_load_explicit(&peer->want_data, memory_order_relaxed) == XSHIM_WANT_NOTHING &&
	    !atomic_load_explicit(&peer->leave, memory_order_relaxed))
		return false;
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR) || xshim_tcp_written(fd, c->slot->role == XSHIM_ROLE_CONNECT, &written) < 0)
		return false;
	atomic_store_explicit(&ch->consult_seen, consult, memory_order_relaxed);
	xlog(DEBUG, "connection %u: on the ring from %llu", c->id, (unsigned long long)written);
	xshim_tx_up(l, ch->local.region, written + (uint64_t)xshim_base_tx(c->slot));
	(void)xshim_tx_space(l, peer);	/* how much of the ring may be used */
	xshim_count(&c->slot->n.switches, 1);
	xshim_chan_note(c, ch);
	xshim_chan_ring(c, ch);
	return true;
}

/* What we have sent by ring is the peer's: the present stretch, or, after a down, the one before that. */
static bool sent_by_ring(const struct xshim_link *l)
{
	return l->tx.state == XSHIM_TX_RING || (l->tx.state == XSHIM_TX_TCP && l->tx.seq);
}

/*
 * Nobody will read what we send by ring any more. If something lies there unread, TCP would have answered
 * the peer's end by RST: the error is owed to the program (RESET), and our socket is shut so that the
 * kernel says what comes after it. Both locks.
 */
static void peer_dead(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	uint64_t tail = atomic_load_explicit(&ch->remote.region->tail, memory_order_seq_cst);
	bool unread;

	/* what went before that stretch of the ring went by TCP */
	if (tail < l->tx.start)
		tail = l->tx.start;
	/*
	 * What the peer had on its ring is still there for us, if it was leaving, too. In RAW the socket
	 * comes first; the rest is taken from the ring when it has nothing more (stream_recv.c).
	 */
	if (l->rx.state == XSHIM_RX_FRAME)
		l->rx.state = XSHIM_RX_RING;
	(void)xshim_link_ungive(l, ch->local.region, ch->remote.region, true);
	/* the kernel knows of a reset, perhaps since just now: then the error is the socket's */
	if (xshim_conn_flag(c, XSHIM_SLOT_TOLD) || (xshim_ask_poll(fd, 0) & POLLERR))
		atomic_store_explicit(&ch->tcp_dead, 1, memory_order_relaxed);
	unread = sent_by_ring(l) && tail < l->tx.pos && !atomic_load_explicit(&ch->tcp_dead, memory_order_relaxed);
	/*
	 * It had half-closed, and then closed, which with something unread it does by RST: what the kernel makes of that behind a FIN (if
	 * ours went before nothing, else EPIPE) is what the program is to be told. One that was killed makes no RST.
	 */
	if (unread && atomic_load_explicit(&ch->remote.region->fin, memory_order_acquire) &&
	    (atomic_load_explicit(&ch->remote.region->deaf, memory_order_relaxed) == XSHIM_REGION_CLOSED || xshim_tcp_is_over(fd)))
		unread = false;
	if (unread) {
		xshim_conn_set_flag(c, XSHIM_SLOT_RESET, true);
		atomic_store_explicit(&ch->fin_seen, 1, memory_order_relaxed);
		(void)libc.shutdown(fd, SHUT_RDWR);
	}
	if (l->tx.state != XSHIM_TX_OUT && (l->tx.state != XSHIM_TX_TCP || unread)) {
		l->tx.state = XSHIM_TX_OUT;	/* the kernel answers sends from now on */
		xshim_conn_reason(c, XSHIM_R_PEER_DIED);
	}
}

void xshim_chan_peer_gone_locked(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;

	atomic_store_explicit(&ch->fin_seen, 1, memory_order_relaxed);
	if (atomic_load_explicit(&ch->remote.region->fin, memory_order_acquire) &&
	    atomic_load_explicit(&ch->remote.region->deaf, memory_order_relaxed) != XSHIM_REGION_CLOSED &&
	    !atomic_load_explicit(&ch->tcp_dead, memory_order_relaxed)) {
		xshim_link_leave_undo(l);
		return;		/* it only closed its own direction and goes on reading */
	}
	peer_dead(c, ch, fd);
}

/*
 * The peer's LEAVE, which our half-close has called off or which nobody needs to answer any more, may lie in front of its FIN: away with
 * it, or it would look like bytes that came past the ring. Only a whole and true one. Both locks.
 */
static void drop_called_off(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	uint8_t whole[XSHIM_FRAME_BYTES];
	uint32_t got = l->rx.frame_got;
	struct xshim_frame f;
	ssize_t n;

	if (xshim_ask_queued(fd) < (int)(sizeof(whole) - got))
		return;
	if (l->rx.state != XSHIM_RX_RING || atomic_load_explicit(&ch->remote.region->sw_seq, memory_order_seq_cst) != l->rx.seq)
		return;		/* what is there is the stream's */
	memcpy(whole, l->rx.frame, got);
	n = raw_recv(fd, whole + got, sizeof(whole) - got, MSG_PEEK | MSG_DONTWAIT);
	if (n != (ssize_t)(sizeof(whole) - got) || xshim_frame_decode(&f, whole) < 0 || f.type != XSHIM_FRAME_LEAVE ||
	    f.nonce != l->nonce_own)
		return;
	n = raw_recv(fd, whole, sizeof(whole) - got, MSG_DONTWAIT);
	if (n > 0)
		c->slot->base_rx -= n;
	l->rx.frame_got = 0;
}

/*
 * The peer says that it reads no more. Once the end of its stream is here, what is sent is the kernel's to answer: with one
 * that has closed there is nothing left to do by ring; one that has only shut its socket may still read what the ring holds.
 * Both locks.
 */
static void hear_deaf(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	uint32_t deaf = atomic_load_explicit(&ch->remote.region->deaf, memory_order_relaxed);
	unsigned int end;

	if (!deaf || l->tx.state != XSHIM_TX_RING)
		return;
	end = xshim_ask_poll(fd, POLLRDHUP) & (POLLRDHUP | POLLHUP | POLLERR);
	if (!end)
		return;
	if (end & POLLERR)
		atomic_store_explicit(&ch->tcp_dead, 1, memory_order_relaxed);
	if ((end & (POLLERR | POLLHUP)) || deaf == XSHIM_REGION_CLOSED) {
		drop_called_off(c, ch, fd);
		xshim_chan_peer_gone_locked(c, ch, fd);
	} else {
		l->tx.state = XSHIM_TX_OUT;	/* its kernel answers by RST, and gives it to nobody */
	}
}

/* Of the peer's LEAVE, what is there. True: it is complete. Both locks. */
static bool read_frame(struct xshim_conn *c, int fd)
{
	struct xshim_link *l = &c->slot->link;
	ssize_t n = raw_recv(fd, l->rx.frame + l->rx.frame_got, XSHIM_FRAME_BYTES - l->rx.frame_got, MSG_DONTWAIT);

	if (n <= 0)
		return false;
	c->slot->base_rx -= n;
	l->rx.frame_got += (uint32_t)n;
	return l->rx.frame_got == XSHIM_FRAME_BYTES;
}

/*
 * The socket has an error, which stays in it. If both have begun, the peer's LEAVE and what it sent behind that may lie in front of it.
 * As below. Both locks.
 */
static int take_frame_from_dead(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	int rc = 0;

	atomic_store_explicit(&ch->tcp_dead, 1, memory_order_relaxed);
	if (l->rx.state != XSHIM_RX_FRAME)
		drop_called_off(c, ch, fd);
	else if (xshim_ask_queued(fd) > 0 && read_frame(c, fd))
		rc = xshim_link_leave_got(l) < 0 ? -EPROTO : 1;
	xshim_chan_peer_gone_locked(c, ch, fd);
	return rc;
}

/*
 * Read what there is of the peer's LEAVE, or see the end of the stream. kmask: what poll has just said. An error of the
 * socket stays in it for the program to find. 1: LEAVE is complete and taken in; 0: not; or -errno.
 */
static int take_frame(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int kmask)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_link *l = &c->slot->link;
	const int now_only = 2;		/* even: what was set stays */
	uint8_t byte;
	ssize_t n;

	if (atomic_load_explicit(&ch->fin_seen, memory_order_relaxed) && !(kmask & POLLERR))
		return 0;
	if (kmask & POLLERR)
		return take_frame_from_dead(c, ch, fd);
	/*
	 * See that bytes are there /then/ see that no switch was announced: only then are they a frame,
	 * because the peer announces a down before it writes the first byte of it.
	 */
	n = raw_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		/* after our own shutdown(SHUT_RD) the kernel says 0 without a FIN, too */
		if (n == 0 && xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD) && !xshim_tcp_peer_closed(fd))
			return 0;
		if (n < 0) {
			/* it came just now; the look has taken it from the socket, so we owe it */
			atomic_store_explicit(&ch->tcp_err, errno, memory_order_relaxed);
			atomic_store_explicit(&ch->tcp_dead, 1, memory_order_relaxed);
		}
		xshim_chan_peer_gone_locked(c, ch, fd);
		return 0;
	}
	if (l->rx.state == XSHIM_RX_RING &&
	    atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) != l->rx.seq)
		return 0;
	if (!read_frame(c, fd))
		return 0;
	/* The kernel of who sent it holds small pieces back until it has an acknowledgement, for which ours would wait 40 ms. */
	(void)libc.setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &now_only, sizeof(now_only));
	return xshim_link_leave_got(l) < 0 ? -EPROTO : 1;
}

/*
 * What is in the socket goes out now. The kernel may hold a small piece back until what went before is acknowledged, which the
 * other end does after 40 ms unless it has something to send, and TCP_CORK holds it longer.
 */
static void push(int fd)
{
	int on = 1, was = 1;
	socklen_t len = sizeof(was);

	if (libc.getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &was, &len) < 0)
		return;
	(void)libc.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!was)
		(void)libc.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &was, sizeof(was));
}

/* Write our LEAVE, then what the peer's LEAVE says is missing. 0 or -errno. */
static int send_pending(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;
	bool some = false;

	while (l->tx.frame_sent < l->tx.frame_len) {
		ssize_t n = raw_send(fd, l->tx.frame + l->tx.frame_sent,
				      l->tx.frame_len - l->tx.frame_sent,
				      MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		c->slot->base_tx -= n;
		l->tx.frame_sent += (uint32_t)n;
		some = true;
	}
	while (l->tx.state == XSHIM_TX_RESEND) {
		struct iovec v[2];
		struct msghdr m = { .msg_iov = v };
		ssize_t n;

		m.msg_iovlen = xshim_ring_stretch(xshim_region_cdata(ch->local.region), l->order_own,
						  xshim_tx_place(l), l->tx.end - l->tx.pos, v);
		n = raw_sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		c->slot->base_tx -= n;
		xshim_tx_resent(l, (uint64_t)n);
		some = true;
	}
	if (some)
		push(fd);
	return 0;
}

/* The half-close that is due, if nothing is to go before it any more. anew: it was tried just now. Both locks. */
static void half_close(struct xshim_conn *c, struct xshim_chan *ch, int fd, bool anew)
{
	struct xshim_link *l = &c->slot->link;

	if (xshim_tx_fin_waits(l, ch->remote.region))
		return;
	if (l->tx.state != XSHIM_TX_OUT) {	/* the peer goes on with the ring */
		if (!xshim_link_try_fin(l, ch->local.region, ch->remote.region)) {
			/* it gives since just now, and the program may make no other call */
			if (anew)
				return;
			(void)xshim_link_is_given(l, ch->local.region, ch->remote.region);
			(void)send_pending(c, ch, fd);
			half_close(c, ch, fd, true);
			return;
		}
		xshim_chan_ring(c, ch);
	}
	xshim_conn_set_flag(c, XSHIM_SLOT_SHUT_DUE, false);
	(void)libc.shutdown(fd, SHUT_WR);
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD))	/* as xshim_stream_shutdown() */
		xshim_link_deaf(ch->local.region, XSHIM_REGION_SHUT);
}

/* The peer's end of the channel has gone. Both locks. */
static void peer_hung_up(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct xshim_link *l = &c->slot->link;

	/* Abandoned before anything was switched: the peer never attached and never will. */
	if (!l->tx.seq && !l->rx.seq &&
	    atomic_load_explicit(&ch->remote.region->attached, memory_order_acquire) != 1) {
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
		xshim_conn_reason(c, XSHIM_R_PEER_LEFT);
		return;
	}
	/*
	 * A peer that returned to TCP in order has had our LEAVE, and its own is on TCP, perhaps not read
	 * yet: in HELD only TCP tells whether it died.
	 */
	if (sent_by_ring(l))
		peer_dead(c, ch, fd);
}

int xshim_chan_pump_locked(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int kmask)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_link *l = &c->slot->link;
	uint32_t tx_was = l->tx.state, rx_was = l->rx.state, leave;
	int rc = 0;

	if (l->error)
		return xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
	if (xshim_conn_chan(c) != ch)
		return 0;		/* detached: all has been said, and its memory may have been let go of */
	xshim_chan_rx_mend(c, ch, fd);
	xshim_chan_tx_mend(c, ch, fd);
	if (xshim_link_mend(l, ch->local.region)) {
		xshim_chan_ring(c, ch);
		xshim_chan_if_out(c);
	}
	if (xshim_chan_is_cut(ch))
		return xshim_chan_break(c, fd, XSHIM_R_PEER_MOVED);
	if (atomic_load_explicit(&ch->told, memory_order_relaxed)) {
		rc = xshim_depart_obey(c, ch, fd);
		if (rc < 0)
			return rc;
	}
	if (!l->tx.seq && !l->rx.seq && xshim_link_is_withdrawn(l, ch->local.region, peer)) {
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
		xshim_conn_reason(c, XSHIM_R_PEER_LEFT);
		xshim_chan_ring(c, ch);
		xshim_chan_wake_own(ch);
		return 0;
	}
	leave = atomic_load_explicit(&peer->leave, memory_order_seq_cst);
	if (leave != XSHIM_REGION_STOP)
		atomic_store_explicit(&ch->undecided, 0, memory_order_relaxed);
	if (leave <= XSHIM_REGION_ASKS)		/* it looks again before it leaves, and finds what is there */
		atomic_store_explicit(&l->late, 0, memory_order_relaxed);
	if (leave == XSHIM_REGION_LEFT) {
		if (xshim_link_is_left(l, peer) < 0)
			return xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
		xshim_conn_reason(c, XSHIM_R_PEER_LEFT);
	}
	if (leave == XSHIM_REGION_GIVES) {
		if (xshim_link_is_given(l, ch->local.region, peer) < 0)
			return xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
		if (l->taken)
			xshim_conn_reason(c, XSHIM_R_PEER_LEFT);
		if (tx_was == XSHIM_TX_RING && !l->fin)
			xshim_chan_ring(c, ch);
	}
	(void)xshim_link_is_taken(l, ch->local.region, peer);
	if (l->tx.state == XSHIM_TX_TCP)
		xshim_chan_up_locked(c, ch, fd, false);
	hear_deaf(c, ch, fd);
	if (((kmask & (POLLIN | POLLRDHUP | POLLHUP)) &&
	     (l->rx.state == XSHIM_RX_RING || l->rx.state == XSHIM_RX_FRAME)) || (kmask & POLLERR))
		rc = take_frame(c, ch, fd, kmask);
	if (rc < 0)
		return xshim_chan_break(c, fd, XSHIM_R_CORRUPT);
	if (xshim_link_leave_due(l, peer) &&
	    !atomic_load_explicit(&ch->fin_seen, memory_order_relaxed))
		(void)xshim_link_leave_begin(l, ch->local.region, peer);
	rc = send_pending(c, ch, fd);
	if (rc < 0) {
		if (rc != -EPIPE)
			atomic_store_explicit(&ch->tcp_err, -rc, memory_order_relaxed);
		atomic_store_explicit(&ch->tcp_dead, 1, memory_order_relaxed);
		xshim_chan_peer_gone_locked(c, ch, fd);
	}
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_DUE))
		half_close(c, ch, fd, false);
	if (l->tx.state != tx_was || l->rx.state != rx_was) {
		if (l->left && l->tx.frame_len && tx_was == XSHIM_TX_RING)
			xshim_count(&c->slot->n.switches, 2);
		if (l->tx.state == XSHIM_TX_HELD || l->left) {
			atomic_store_explicit(&c->slot->transport, XSHIM_TRANSPORT_SWITCHING,
					      memory_order_relaxed);
			if (!l->want_leave && rx_was != XSHIM_RX_GIVEN)
				xshim_conn_reason(c, XSHIM_R_PEER_LEFT);
		}
	}
	if (xshim_link_is_out(l))
		xshim_chan_if_out(c);
	else if (atomic_load_explicit(&ch->gone, memory_order_relaxed))
		peer_hung_up(c, ch, fd);
	/* Who sleeps here chose what to wait for by the state that was. */
	if (l->tx.state != tx_was || l->rx.state != rx_was)
		xshim_chan_wake_own(ch);
	return 0;
}

/* It is told, once: also if the peer's RST has come since it was known. */
static void told_reset(struct xshim_conn *c)
{
	int fd = xshim_fd_find(&c->obj), err;
	socklen_t len = sizeof(err);

	xshim_conn_set_flag(c, XSHIM_SLOT_RESET, false);
	if (fd >= 0)
		(void)libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
}

int xshim_chan_owed(struct xshim_conn *c, bool take)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	int err = 0;

	if (ch)
		err = atomic_load_explicit(&ch->tcp_err, memory_order_relaxed);
	if (err && take)
		err = atomic_exchange_explicit(&ch->tcp_err, 0, memory_order_relaxed);
	if (!err && xshim_conn_flag(c, XSHIM_SLOT_RESET)) {
		err = ECONNRESET;
		if (take)
			told_reset(c);
	}
	if (ch && err && take)
		xshim_chan_if_out(c);
	return err;
}

void xshim_chan_if_out(struct xshim_conn *c)
{
	if (xshim_link_is_out(&c->slot->link) && !xshim_chan_owed(c, false))
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
}

void xshim_chan_told_error(struct xshim_conn *c, int fd)
{
	struct xshim_chan *ch = xshim_conn_chan(c);

	if (!ch || !xshim_tcp_is_over(fd))
		return;
	atomic_store_explicit(&ch->tcp_dead, 1, memory_order_relaxed);
	atomic_store_explicit(&ch->tcp_err, 0, memory_order_relaxed);
	xshim_conn_set_flag(c, XSHIM_SLOT_TOLD, true);
	xshim_conn_set_flag(c, XSHIM_SLOT_RESET, false);
}

void xshim_chan_wake_own(struct xshim_chan *ch)
{
	if (atomic_load_explicit(&ch->waits->rx, memory_order_seq_cst) ||
	    atomic_load_explicit(&ch->waits->tx, memory_order_seq_cst) ||
	    xshim_slot_others_wait(ch->slot, ch->waits, true, true, false))
		xshim_chan_ring_self(ch);
}

int xshim_chan_pump(struct xshim_conn *c, struct xshim_chan *ch, int fd, unsigned int kmask)
{
	int rc;

	if (!xshim_chan_lock(c->slot))
		return 0;
	rc = xshim_chan_pump_locked(c, ch, fd, kmask);
	xshim_chan_unlock(c->slot);
	return rc;
}

#define TAKES_NS 10000000000ull
#define DECIDES_NS 100000000ull		/* it is between two instructions, or stopped there */

bool xshim_chan_decided(struct xshim_conn *c, struct xshim_chan *ch)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	uint64_t end;

	if (xshim_tx_is_alone(peer) == XSHIM_REGION_STOP && !atomic_load_explicit(&ch->undecided, memory_order_relaxed)) {
		end = xshim_now_ns() + DECIDES_NS;
		while (xshim_tx_is_alone(peer) == XSHIM_REGION_STOP && xshim_now_ns() < end)
			sched_yield();
		xshim_chan_ring(c, ch);		/* who decided may have been killed: another process that shares its end is to look */
	}
	atomic_store_explicit(&ch->undecided, xshim_tx_is_alone(peer) == XSHIM_REGION_STOP, memory_order_relaxed);
	return !atomic_load_explicit(&ch->undecided, memory_order_relaxed);
}

void xshim_chan_left_alone(struct xshim_conn *c, struct xshim_chan *ch, int fd)
{
	struct pollfd p = { .events = POLLOUT };
	uint64_t end;

	(void)xshim_chan_decided(c, ch);
	(void)xshim_chan_pump(c, ch, fd, POLLOUT);
	/*
	 * The call will say that it has sent them, and no later one may come: not before the socket has them. Also where the call may not
	 * wait; this is a matter of one call in a connection's life, and only of one that crossed with the decision.
	 */
	end = xshim_now_ns() + TAKES_NS;
	while (atomic_load_explicit(&c->slot->link.tx.state, memory_order_relaxed) == XSHIM_TX_RESEND && xshim_now_ns() < end) {
		p.fd = xshim_conn_fd(c, fd);
		(void)raw_poll(&p, 1, 100);
		(void)xshim_chan_pump(c, ch, p.fd, 0);
	}
}

bool xshim_chan_pump_due(struct xshim_conn *c, struct xshim_chan *ch)
{
	struct xshim_link *l = &c->slot->link;

	return l->tx.state != XSHIM_TX_RING || l->rx.state == XSHIM_RX_FRAME || l->error ||
	       atomic_load_explicit(&ch->told, memory_order_relaxed) || xshim_conn_flag(c, XSHIM_SLOT_SHUT_DUE) ||
	       atomic_load_explicit(&ch->remote.region->leave, memory_order_acquire);
}
