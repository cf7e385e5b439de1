/* SPDX-License-Identifier: MIT */
/* info.c - TCP_INFO with what went by ring (info.h). */
#include "info.h"
#include "ask.h"
#include "channel.h"
#include "stream.h"
#include "user.h"

#include <linux/tcp.h>
#include <string.h>
#include <sys/param.h>

/* A kernel that is younger than the headers says more. */
union answer {
	struct tcp_info ti;
	char room[1024];
};

/* The kernel's count of octets, and how it differs from the stream's: what has come by TCP alone may have been less than a frame that was not counted. */
static uint64_t plus(uint64_t count, int64_t more)
{
	return more < 0 && count < (uint64_t)-more ? 0 : count + (uint64_t)more;
}

/* Of `unread` bytes of the peer's on its ring, those that a receive buffer would have taken. */
static uint64_t arrived(const struct xshim_link *l, const struct xshim_chan *ch, uint64_t unread)
{
	return MIN(unread, xshim_rx_room(l, ch->remote.region) / 2);
}

/* by_tcp: octets that the kernel has received. rx_lock. */
static uint64_t received(struct xshim_conn *c, struct xshim_chan *ch, int fd, uint64_t by_tcp)
{
	const struct xshim_link *l = &c->slot->link;
	uint64_t at = plus(by_tcp, xshim_base_rx(c->slot)), head, up, frame, reach;
	const struct xshim_region_hdr *peer;
	int queued;
	bool ahead;

	if (!ch)
		return at;
	peer = ch->remote.region;
	/* what is queued /then/ whether a switch was announced: if none, it is a frame (pump.c, take_frame()) */
	queued = MAX(xshim_ask_queued(fd), 0);
	ahead = atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) != l->rx.seq;
	head = atomic_load_explicit(&peer->head, memory_order_acquire);
	switch (atomic_load_explicit(&l->rx.state, memory_order_relaxed)) {
	case XSHIM_RX_TCP:
		up = atomic_load_explicit(&peer->sw_at[(l->rx.seq + 1) & 1], memory_order_relaxed);
		return ahead && at >= up && head > up ? at + arrived(l, ch, head - up) : at;
	case XSHIM_RX_RING:
		if (!ahead)
			at = plus(at, -queued);
		return MAX(at, l->rx.pos) + (head > l->rx.pos ? arrived(l, ch, head - l->rx.pos) : 0);
	default:
		/* what was on the ring and is not read comes once more, by TCP */
		frame = l->rx.state == XSHIM_RX_FRAME ? MIN((uint64_t)queued, XSHIM_FRAME_BYTES - l->rx.frame_got) : 0;
		reach = l->rx.state == XSHIM_RX_RAW ? MAX(l->rx.head, l->rx.end) : l->rx.head;
		reach = reach > l->rx.pos ? l->rx.pos + arrived(l, ch, reach - l->rx.pos) : l->rx.pos;
		return MAX(plus(at, -(int64_t)frame), reach);
	}
}

/* Bytes that a send has returned, and the kernel would not have sent yet. tx_lock. */
static uint64_t unsent(struct xshim_slot *s, struct xshim_chan *ch)
{
	if (!ch)
		return 0;
	return s->link.tx.state == XSHIM_TX_RESEND ? s->link.tx.end - s->link.tx.pos : xshim_stream_unacked(s, ch);
}

/* It has been told before of more, perhaps by another process: then that. */
static uint64_t no_less(_Atomic uint64_t *told, uint64_t n)
{
	uint64_t was = atomic_load_explicit(told, memory_order_relaxed);

	while (n > was && !atomic_compare_exchange_weak_explicit(told, &was, n, memory_order_relaxed, memory_order_relaxed))
		;
	return MAX(n, was);
}

#define HAS(field) (len >= offsetof(struct tcp_info, field) + sizeof(ti->field))

/* len: how much of it the kernel has said. */
static void count_ring(struct xshim_conn *c, int fd, struct tcp_info *ti, socklen_t len, bool locked)
{
	struct xshim_slot *s = c->slot;

	if (locked && HAS(tcpi_bytes_received)) {
		struct xshim_chan *ch = xshim_conn_chan(c);
		uint64_t rest = unsent(s, ch);
		int64_t more = xshim_base_tx(s) - (int64_t)rest;

		ti->tcpi_bytes_acked = plus(ti->tcpi_bytes_acked, more);
		ti->tcpi_bytes_received = received(c, ch, fd, ti->tcpi_bytes_received);
		if (HAS(tcpi_notsent_bytes))
			ti->tcpi_notsent_bytes += (uint32_t)rest;
		if (HAS(tcpi_bytes_sent))
			ti->tcpi_bytes_sent = plus(ti->tcpi_bytes_sent, more);
	}
	if (HAS(tcpi_bytes_received)) {
		ti->tcpi_bytes_acked = no_less(&s->info.acked, ti->tcpi_bytes_acked);
		ti->tcpi_bytes_received = no_less(&s->info.received, ti->tcpi_bytes_received);
	}
	if (HAS(tcpi_bytes_sent))
		ti->tcpi_bytes_sent = no_less(&s->info.sent, ti->tcpi_bytes_sent);
}

int xshim_info_get(struct xshim_conn *c, int fd, void *value, socklen_t *len)
{
	/* the kernel's answer, whatever becomes of the rest; and who has never had a ring needs no other */
	int rc = libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, value, len), saved = errno;
	socklen_t all = sizeof(union answer);
	struct xshim_chan *ch;
	union answer own;
	bool locked;

	if (rc < 0 || !c || !c->slot || !atomic_load_explicit(&c->slot->n.attaches, memory_order_relaxed))
		return rc;
	locked = xshim_chan_lock(c->slot);
	ch = xshim_conn_chan(c);
	if (locked && ch) {
		xshim_chan_rx_mend(c, ch, fd);
		xshim_chan_tx_mend(c, ch, fd);
	}
	rc = libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &own, &all);
	if (!rc)
		count_ring(c, fd, &own.ti, all, locked);
	if (locked)
		xshim_chan_unlock(c->slot);
	if (!rc && xshim_user_put(value, &own, MIN(*len, all)) < 0) {
		errno = EFAULT;
		return -1;
	}
	errno = saved;
	return 0;
}
