/* SPDX-License-Identifier: MIT */
/* rxopts.c - SO_RCVLOWAT and SO_PEEK_OFF while a channel is attached (rxopts.h). */
#include "rxopts.h"
#include "channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

/* What the socket has as its mark while a channel is attached. rx_lock. */
static void set_mark(struct xshim_conn *c, int fd, uint32_t n)
{
	_Atomic uint32_t *word = &c->slot->lowat_socket;
	int value = (int)n;

	if (atomic_load_explicit(word, memory_order_relaxed) == n)
		return;
	/* unknown /then/ the socket /then/ known: whoever is killed on the way, the word says nothing that is not so */
	atomic_store_explicit(word, 0, memory_order_relaxed);
	if (libc.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) == 0)
		atomic_store_explicit(word, n, memory_order_relaxed);
}

static int ask(int fd, int name, int none)
{
	int value = none;
	socklen_t len = sizeof(value);

	return libc.getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? none : value;
}

static void take_lowat(struct xshim_conn *c, int fd)
{
	int low = ask(fd, SO_RCVLOWAT, 1);

	/* as the socket has it now; 0 and 1 are one byte both */
	atomic_store_explicit(&c->slot->lowat_socket, low > 1 ? (uint32_t)low : 1, memory_order_relaxed);
	atomic_store_explicit(&c->slot->lowat, low > 1 ? (uint32_t)low : 0, memory_order_relaxed);
	set_mark(c, fd, 1);
}

static void take_peek_off(struct xshim_conn *c, int fd)
{
	int at = ask(fd, SO_PEEK_OFF, -1), off = -1;

	/* the socket first: whoever is killed in between, no peek of the kernel's begins somewhere else than ours think */
	if (at >= 0)
		(void)libc.setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off));
	atomic_store_explicit(&c->slot->peek_at, at >= 0 ? (uint32_t)at + 1 : 0, memory_order_relaxed);
}

void xshim_rxopts_take(struct xshim_conn *c, int fd)
{
	take_lowat(c, fd);
	take_peek_off(c, fd);
}

void xshim_rxopts_give_back(struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	struct xshim_slot *s = c->slot;
	bool locked = xshim_lock_take(&s->rx_lock, xshim_tid()) == 0;
	uint32_t low = xshim_rxopts_lowat(c), at = atomic_load_explicit(&s->peek_at, memory_order_relaxed);
	int fd = low || at ? xshim_fd_find(&c->obj) : -1, value = (int)(at - 1);

	if (fd >= 0 && low)
		set_mark(c, fd, low);
	if (fd >= 0 && at)
		(void)libc.setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof(value));
	/*
	 * Once: another process that shares the connection may come here after the socket's values have moved on. And last, so that
	 * it does come here if this one is killed before.
	 */
	atomic_store_explicit(&s->lowat, 0, memory_order_relaxed);
	atomic_store_explicit(&s->peek_at, 0, memory_order_relaxed);
	if (ch)
		ch->opts_back = true;
	if (locked)
		xshim_lock_drop(&s->rx_lock);
}

int xshim_rxopts_set(struct xshim_conn *c, int fd, int name, const void *value, socklen_t len)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	int rc, saved = errno;

	if (!ch || xshim_lock_take(&c->slot->rx_lock, xshim_tid()) < 0)
		return libc.setsockopt(fd, SOL_SOCKET, name, value, len);
	if (name == SO_RCVLOWAT)
		atomic_store_explicit(&c->slot->lowat_socket, 0, memory_order_relaxed);
	rc = libc.setsockopt(fd, SOL_SOCKET, name, value, len);
	if (!rc && !ch->opts_back && name == SO_RCVLOWAT)
		take_lowat(c, fd);
	else if (!rc && !ch->opts_back)
		take_peek_off(c, fd);
	xshim_lock_drop(&c->slot->rx_lock);
	if (rc < 0)
		return rc;
	/* who sleeps may have enough now */
	xshim_chan_wake_own(ch);
	errno = saved;
	return 0;
}

void xshim_rxopts_get(struct xshim_conn *c, int name, void *value, const socklen_t *len)
{
	uint32_t low = xshim_rxopts_lowat(c), at = atomic_load_explicit(&c->slot->peek_at, memory_order_relaxed), n;

	if (*len > sizeof(n) || (name == SO_RCVLOWAT ? !low : !at))
		return;			/* the socket's own value is the program's */
	n = name == SO_RCVLOWAT ? low : at - 1;
	memcpy(value, &n, *len);
}

void xshim_rxopts_any(struct xshim_conn *c, int fd)
{
	if (xshim_rxopts_lowat(c))
		set_mark(c, fd, 1);
}

void xshim_rxopts_look(struct xshim_conn *c, struct xshim_chan *ch, int fd, enum xshim_rx_step step, uint64_t limit,
		       struct xshim_ready *r)
{
	const struct xshim_link *l = &c->slot->link;
	uint64_t low = xshim_rxopts_lowat(c), size = xshim_rx_room(l, ch->remote.region), behind;
	bool down;

	/* a peer that waits for room in a ring as full as that sends no more */
	if (step == XSHIM_RX_STEP_RING && low > size - size / 4)
		low = size - size / 4;
	if (step == XSHIM_RX_STEP_RING && limit < low && !atomic_load_explicit(&ch->fin_seen, memory_order_relaxed)) {
		r->mask &= ~(unsigned int)POLLIN;
		if (atomic_load_explicit(&ch->remote.region->sw_seq, memory_order_relaxed) != l->rx.seq) {
			/* it goes on by TCP behind what is on the ring */
			r->in_from_tcp = true;
			r->tcp_events |= POLLIN;
			set_mark(c, fd, (uint32_t)(low - limit));
			return;
		}
	}
	if (step != XSHIM_RX_STEP_TCP) {
		set_mark(c, fd, 1);
		return;
	}
	if (limit >= low) {
		set_mark(c, fd, (uint32_t)low);
		return;
	}
	/* the last switch /then/ the head, which is final if it is a down */
	down = atomic_load_explicit(&ch->remote.region->sw_seq, memory_order_seq_cst) == l->rx.seq + 2;
	behind = xshim_ready_behind(l, ch, limit);
	if (limit + behind >= low) {
		set_mark(c, fd, (uint32_t)limit);
		return;
	}
	if (down) {
		/* TCP, ring, TCP: more comes there */
		set_mark(c, fd, (uint32_t)(low - behind));
		return;
	}
	/* more has to come by ring, unless it is the end */
	set_mark(c, fd, 1);
	r->in_from_tcp = false;
	r->tcp_events &= ~(unsigned int)POLLIN;
	if (xshim_tcp_peer_closed(fd))
		r->mask |= POLLIN;
	else
		r->tcp_events |= POLLRDHUP;
}

void xshim_rxopts_moved(struct xshim_conn *c, size_t n, bool peeked)
{
	_Atomic uint32_t *word = &c->slot->peek_at;
	uint32_t at = atomic_load_explicit(word, memory_order_relaxed), now;

	/* the program may set another one meanwhile, which stays */
	do {
		if (!at)
			return;
		now = peeked ? at + (uint32_t)n : at - 1 > n ? at - (uint32_t)n : 1;
	} while (!atomic_compare_exchange_weak_explicit(word, &at, now, memory_order_relaxed, memory_order_relaxed));
}

size_t xshim_rxopts_front(struct iovec v[XSHIM_RXOPTS_PARTS], size_t at)
{
	static char nobody_reads_this[1 << 20];	/* touched by who uses it only */
	size_t k = 0;

	for (; at && k < XSHIM_RXOPTS_PARTS; k++) {
		v[k].iov_base = nobody_reads_this;
		v[k].iov_len = at < sizeof(nobody_reads_this) ? at : sizeof(nobody_reads_this);
		at -= v[k].iov_len;
	}
	return k;
}
