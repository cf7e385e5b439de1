/* SPDX-License-Identifier: MIT */
/* peek.c - a peek goes on where the stream changes its path (peek.h). */
#include "peek.h"
#include "depart.h"
#include "raw.h"
#include "urgent.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/*
 * A peek that took n bytes of TCP and then `on_ring`, all that the peer put there before it came back to TCP: what follows is in the
 * socket behind the n, which are had once more, for nobody.
 */
static size_t peek_third(int fd, struct xshim_iov it, size_t n, size_t on_ring, int flags)
{
	struct iovec v[XSHIM_STREAM_SLICES];
	struct msghdr m = { .msg_iov = v };
	size_t left = n;
	ssize_t got;

	m.msg_iovlen = xshim_rxopts_front(v, n);
	for (size_t i = 0; i < m.msg_iovlen; i++)
		left -= v[i].iov_len;
	if (left)
		return 0;	/* more than a socket holds */
	xshim_iov_skip(&it, n + on_ring);
	m.msg_iovlen += xshim_iov_slice(&it, SSIZE_MAX, v + m.msg_iovlen, XSHIM_PEEK_PARTS);
	got = raw_recvmsg(fd, &m, MSG_PEEK | (flags & MSG_TRUNC) | MSG_DONTWAIT);
	return got > 0 && (size_t)got > n ? (size_t)got - n : 0;
}

ssize_t xshim_peek_beyond(struct xshim_conn *c, struct xshim_chan *ch, int fd, struct xshim_iov begin, uint64_t n, int flags)
{
	const struct xshim_region_hdr *peer = ch->remote.region;
	struct xshim_link *l = &c->slot->link;
	/* the last switch /then/ the head, which is final if it is a down */
	bool down = atomic_load_explicit(&peer->sw_seq, memory_order_seq_cst) == l->rx.seq + 2;
	uint64_t at = l->rx.pos + n, head = atomic_load_explicit(&peer->head, memory_order_seq_cst);
	uint64_t base = atomic_load_explicit(&peer->base, memory_order_relaxed);
	struct xshim_iov it = begin;
	size_t more, all;

	xshim_iov_skip(&it, n);
	more = xshim_iov_left(&it);
	if (head < at || head - at > (1ull << l->order_peer) || base > at)
		return (ssize_t)n;
	all = head - at;
	if (more > all)
		more = all;
	if (!(flags & MSG_TRUNC))
		more = xshim_ring_copy_out(xshim_region_cdata(peer), l->order_peer, at - base, &it, more);
	if (xshim_chan_is_cut(ch))
		return (ssize_t)n;
	n += more;
	if (down && more == all && n < xshim_iov_left(&begin))
		n += peek_third(fd, begin, n - more, more, flags);
	return (ssize_t)n;
}

ssize_t xshim_peek_behind(struct xshim_chan *ch, int fd, struct xshim_iov it, ssize_t n, int flags)
{
	struct iovec v[XSHIM_STREAM_SLICES];
	struct msghdr m = { .msg_iov = v };
	ssize_t more;

	xshim_iov_skip(&it, (size_t)n);
	m.msg_iovlen = xshim_urgent_is_next(fd) ? 0 : xshim_iov_slice(&it, SSIZE_MAX, v, XSHIM_STREAM_SLICES);
	more = m.msg_iovlen ? raw_recvmsg(fd, &m, MSG_PEEK | (flags & MSG_TRUNC) | MSG_DONTWAIT) : 0;
	if (more < 0 && errno != EAGAIN && errno != EFAULT)	/* the look has taken it from the socket */
		atomic_store_explicit(&ch->tcp_err, errno, memory_order_relaxed);
	return more > 0 ? n + more : n;
}
