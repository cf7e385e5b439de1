/* SPDX-License-Identifier: MIT */
/* channel.c - attach and detach a channel (channel.h). pump.c moves its protocol on. */
#include "channel.h"
#include "ask.h"
#include "bufs.h"
#include "client.h"
#include "depart.h"
#include "doze.h"
#include "epoll.h"
#include "fault.h"
#include "kick.h"
#include "options.h"
#include "privfd.h"
#include "process.h"
#include "raw.h"
#include "rxopts.h"
#include "sigact.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>

static unsigned int ring_order(const struct xshim_chan *ch)
{
	return (unsigned int)__builtin_ctzll(ch->be->kind == XSHIM_BACKEND_XEN ? xshim_opt.xen_ring_size :
										 xshim_opt.ring_size);
}

/* Below this, two guests that wake each other for so little are no faster than TCP. */
#define XEN_ORDER_LEAST 16

/* Pages to share are scarce: better a smaller ring than none, down to XEN_ORDER_LEAST or to what was asked for. */
static int make_half(struct xshim_chan *ch, const struct xshim_party *guest, uint64_t nonce)
{
	unsigned int order = ring_order(ch);
	int rc;

	do
		rc = ch->be->create(&ch->local, guest, order, nonce);
	while (guest && (rc == -ENOSPC || rc == -ENOMEM) && order-- > XEN_ORDER_LEAST);
	return rc;
}

enum xshim_reason xshim_chan_why(const struct xshim_chan *ch, int rc)
{
	bool xen = ch->be->kind == XSHIM_BACKEND_XEN;

	switch (rc) {
	case -EPROTO:
		return XSHIM_R_CORRUPT;
	case -EPIPE:
		return XSHIM_R_PEER_DIED;
	case -ENOSYS:			/* on one kernel only a filter makes such a difference between two ends */
		return XSHIM_R_SECCOMP;
	case -EMFILE:
	case -ENFILE:
		return XSHIM_R_FD_LIMIT;
	case -EACCES:
	case -EPERM:
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return xen ? XSHIM_R_XEN_DEVICE : XSHIM_R_MEMORY;
	default:
		return xen ? XSHIM_R_XEN_LIMIT : XSHIM_R_MEMORY;
	}
}

void xshim_chan_say_once(enum xshim_reason why)
{
	static _Atomic uint64_t said;

	if (!(atomic_fetch_or_explicit(&said, 1ull << why, memory_order_relaxed) >> why & 1))
		xlog(WARN, "no ring to another guest: %s; its connections stay on TCP", xshim_reason_text(why));
}

struct xshim_chan *xshim_chan_new(const struct xshim_party *guest, enum xshim_reason *why)
{
	struct xshim_chan *ch = (struct xshim_chan *)xshim_obj_new(XSHIM_OBJ_CHAN);
	uint64_t nonce;
	int rc;

	*why = XSHIM_R_MEMORY;
	if (!ch)
		return NULL;
	xshim_fault_ready();
	ch->remote.bell = ch->remote.life = ch->doze_ep = -1;
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++)
		ch->local.fds[i] = -1;
	if (getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != sizeof(nonce))
		nonce = xshim_now_ns() ^ (uintptr_t)ch;
	ch->be = guest ? xshim_backend_of(XSHIM_BACKEND_XEN) : &xshim_backend_shm;
	if (!ch->be) {			/* not in this build */
		ch->be = &xshim_backend_shm;
		*why = XSHIM_R_XEN_DEVICE;
		xshim_chan_drop(ch);
		return NULL;
	}
	ch->cuttable = ch->be->forsake != NULL;
	rc = make_half(ch, guest, nonce);
	if (rc < 0) {
		*why = xshim_chan_why(ch, rc);
		if (guest)
			xshim_chan_say_once(*why);
		xshim_chan_drop(ch);
		return NULL;
	}
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++) {
		if (ch->local.fds[i] < 0)
			continue;
		ch->local.fds[i] = xshim_privfd_move(ch->local.fds[i]);
		if (ch->local.fds[i] < 0)
			rc = ch->local.fds[i];
	}
	if (rc < 0) {
		*why = XSHIM_R_FD_LIMIT;
		xshim_chan_drop(ch);
		return NULL;
	}
	return ch;
}

int xshim_chan_take_half(struct xshim_chan *ch, const struct xshim_ticket *ticket, int *fds)
{
	int its[3] = { fds[0] }, rc = 0;

	for (int i = 1; i < 3; i++) {
		its[i] = xshim_privfd_move(fds[i]);
		fds[i] = -1;
		if (its[i] < 0)
			rc = -EMFILE;
	}
	if (!rc)
		rc = ch->be->attach(&ch->remote, &ch->local, ticket, its);
	fds[0] = its[0];
	xshim_privfd_close(its[1]);
	xshim_privfd_close(its[2]);
	return rc;
}

void xshim_chan_drop(struct xshim_chan *ch)
{
	if (ch)
		xshim_obj_put(&ch->obj);
}

void xshim_chan_release(struct xshim_obj *o)
{
	struct xshim_chan *ch = (struct xshim_chan *)o;

	if (!xshim_active)
		return;			/* a filter may forbid to give anything back */
	if (ch->be->bye)
		ch->be->bye(&ch->local);
	/* The numbers are ours to free, the rest is the backend's. */
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++) {
		xshim_privfd_close(ch->local.fds[i]);
		ch->local.fds[i] = -1;
	}
	xshim_privfd_close(ch->remote.bell);
	xshim_privfd_close(ch->remote.life);
	ch->remote.bell = ch->remote.life = -1;
	xshim_doze_close(ch);
	if (ch->local.region)
		ch->be->destroy(&ch->local);
	if (ch->remote.region)
		ch->be->detach(&ch->remote);
	if (atomic_load_explicit(&ch->session, memory_order_relaxed))
		xshim_client_left(ch->id, atomic_exchange_explicit(&ch->session, 0, memory_order_relaxed));
}

/*
 * Nobody inside but `own` calls of ours, and nobody may enter until enter_again(). Who would is waiting, so no handler runs on top of
 * this thread until then: a call that it made on the connection would never end.
 */
static bool keep_out(struct xshim_conn *c, uint32_t own, sigset_t *was)
{
	uint32_t fds = atomic_load_explicit(&c->obj.fds, memory_order_relaxed), alone = fds + own;

	if (!fds || atomic_load_explicit(&c->obj.refs, memory_order_relaxed) != alone)
		return false;
	xshim_sigact_block(was);
	if (atomic_compare_exchange_strong_explicit(&c->obj.refs, &alone, alone | XSHIM_REF_EXCL, memory_order_acquire,
						    memory_order_relaxed))
		return true;
	(void)sigprocmask(SIG_SETMASK, was, NULL);
	return false;
}

static void enter_again(struct xshim_conn *c, const sigset_t *was)
{
	atomic_fetch_and_explicit(&c->obj.refs, ~XSHIM_REF_EXCL, memory_order_release);
	(void)sigprocmask(SIG_SETMASK, was, NULL);
}

static void free_dead(struct xshim_conn *c)
{
	struct xshim_chan *ch = atomic_exchange_explicit(&c->dead, NULL, memory_order_acquire);

	while (ch) {
		struct xshim_chan *next = ch->next_dead;

		xshim_chan_drop(ch);
		ch = next;
	}
}

void xshim_chan_reap(struct xshim_conn *c, uint32_t own)
{
	sigset_t was;

	if (!xshim_active || !atomic_load_explicit(&c->dead, memory_order_relaxed) || !keep_out(c, own, &was))
		return;
	free_dead(c);
	enter_again(c, &was);
}

/*
 * Where the program stands in the stream that it reads, as long as the kernel can tell, and whether its calls have a time
 * limit. 0 or -errno. Nobody is inside; a close on the way is seen because the table is cleared first.
 */
static int learn_pos(struct xshim_conn *c, uint64_t *pos)
{
	int fd = xshim_fd_find(&c->obj), rc, inq = 0;
	socklen_t len = sizeof(inq);

	if (fd < 0)
		return -EBADF;
	rc = xshim_tcp_consumed(fd, pos);
	if (xshim_ask_limit(fd, SO_RCVTIMEO) || xshim_ask_limit(fd, SO_SNDTIMEO))
		xshim_conn_set_flag(c, XSHIM_SLOT_TIMEO, true);
	if (libc.getsockopt(fd, IPPROTO_TCP, TCP_INQ, &inq, &len) == 0 && inq)
		xshim_conn_set_flag(c, XSHIM_SLOT_INQ, true);
	if (xshim_fd_peek(fd) != &c->obj)
		return -EAGAIN;
	*pos += (uint64_t)xshim_base_rx(c->slot);
	return rc;
}

bool xshim_chan_attach(struct xshim_conn *c, uint32_t own)
{
	struct xshim_slot *s = c->slot;
	struct xshim_chan *ch;
	uint64_t pos = 0;
	sigset_t was;
	int rc;

	if (xshim_epoll_is_below(c) || !keep_out(c, own, &was)) {
		xshim_conn_reason(c, XSHIM_R_BUSY);
		atomic_store_explicit(&c->kickable, 1, memory_order_relaxed);
		return xshim_conn_chan(c) != NULL;
	}
	ch = c->pending;
	if (!atomic_load_explicit(&c->attach_due, memory_order_acquire) || !ch || xshim_conn_chan(c))
		goto out;
	if (!xshim_slot_is_sole(s, getpid()) || xshim_conn_on_stdio(c)) {
		xshim_conn_reason(c, xshim_conn_on_stdio(c) ? XSHIM_R_STDIO : XSHIM_R_SHARED);
		goto out;
	}
	free_dead(c);
	ch->slot = s;
	ch->waits = xshim_slot_waits_begin(s, getpid());
	rc = learn_pos(c, &pos);
	if (rc == -EAGAIN)
		goto out;
	if (rc < 0)
		xlog(DEBUG, "connection %u: no channel, as where it stands cannot be learnt: errno %d", c->id, -rc);
	atomic_store_explicit(&c->attach_due, 0, memory_order_relaxed);
	c->pending = NULL;
	if (rc < 0 || !xshim_epoll_can_follow(c)) {
		c->intro = XSHIM_INTRO_NEVER;
		xshim_conn_reason(c, rc < 0 ? XSHIM_R_PEER_DIED : XSHIM_R_INHERITED);
		xshim_chan_drop(ch);
		goto out;
	}
	c->intro = XSHIM_INTRO_PLAIN;
	xshim_link_init(&s->link, ch->local.order, ch->local.nonce, ch->remote.order, ch->remote.nonce);
	xshim_rx_set_pos(&s->link, pos);
	ch->tx_mask = (1ull << ch->local.order) - 1;
	ch->rx_mask = (1ull << ch->remote.order) - 1;
	xshim_bufs_take(c, ch, xshim_fd_find(&c->obj));
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR))
		xshim_link_fin(&s->link, ch->local.region);	/* only the other direction will switch */
	if (xshim_conn_flag(c, XSHIM_SLOT_SHUT_WR) && xshim_conn_flag(c, XSHIM_SLOT_SHUT_RD))
		xshim_link_deaf(ch->local.region, XSHIM_REGION_SHUT);
	atomic_store_explicit(&s->transport, XSHIM_TRANSPORT_SWITCHING, memory_order_relaxed);
	xshim_conn_reason(c, XSHIM_R_SWITCHING);
	xshim_count(&s->n.attaches, 1);
	xshim_rxopts_take(c, xshim_fd_find(&c->obj));
	atomic_store_explicit(&c->obj.ch, ch, memory_order_release);
	if (!xshim_epoll_attached(c)) {
		/* max_user_watches, say. At once: the peer sees that we have gone, and were never there, and nothing of ours has seen it. */
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
		xshim_chan_detach(c);
		free_dead(c);
		xshim_conn_never(c, XSHIM_R_FD_LIMIT);
		goto out;
	}
	xshim_kick(c);
	/* From here on we consult the channel around each read of the socket; the peer may switch. */
	atomic_store_explicit(&ch->local.region->attached, 1, memory_order_seq_cst);
	if (xshim_link_is_withdrawn(&s->link, ch->local.region, ch->remote.region))
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
	xshim_chan_ring(c, ch);
	xlog(DEBUG, "connection %u: channel attached after %llu bytes by TCP", c->id,
	     (unsigned long long)c->bytes);
out:
	enter_again(c, &was);
	return xshim_conn_chan(c) != NULL;
}

/* The other guest's memory goes at once, whoever may still be inside: under the locks, so that nobody takes it for a loss. */
static void let_go(struct xshim_conn *c, struct xshim_chan *ch)
{
	if (!xshim_chan_lock(c->slot))
		return;			/* when the channel is freed, then */
	xshim_depart_let_go(c, ch);
	xshim_chan_unlock(c->slot);
}

void xshim_chan_detach(struct xshim_conn *c)
{
	struct xshim_slot *s = c->slot;
	struct xshim_chan *ch;

	if (!atomic_exchange_explicit(&c->detach_due, 0, memory_order_acq_rel))
		return;
	if (xshim_epoll_is_below(c)) {
		atomic_store_explicit(&c->detach_due, 1, memory_order_release);
		return;			/* by the call below, or the next one */
	}
	ch = atomic_load_explicit(&c->obj.ch, memory_order_acquire);
	if (xshim_chan_owed(c, false))
		return;			/* when that has been told */
	/* one thread takes it away; another may have found it due once more before it was */
	if (!ch || atomic_exchange_explicit(&ch->taken_away, 1, memory_order_acq_rel))
		return;
	xshim_rxopts_give_back(c);
	xshim_epoll_detached(c);
	atomic_store_explicit(&c->obj.ch, NULL, memory_order_release);
	atomic_store_explicit(&s->transport, XSHIM_TRANSPORT_TCP, memory_order_relaxed);
	xshim_conn_set_flag(c, XSHIM_SLOT_LEAVE, false);
	xshim_count(&s->n.leaves, 1);
	if (ch->be->forsake)
		let_go(c, ch);
	/* Calls under way may still wait on its bell: it goes when the last of them has left. */
	ch->next_dead = atomic_load_explicit(&c->dead, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&c->dead, &ch->next_dead, ch,
						      memory_order_release, memory_order_relaxed))
		;
	c->next_ops = c->ops + (xshim_opt.force_leave ? 1 : (uint32_t)xshim_opt.trigger_ops);
	c->next_bytes = UINT64_MAX;
	c->retry_ns = xshim_opt.force_leave ? 0 : xshim_now_ns() + 100000000;
	xlog(DEBUG, "connection %u: back on TCP", c->id);
}

void xshim_chan_ring(struct xshim_conn *c, struct xshim_chan *ch)
{
	/* before: what it takes after it was rung is more */
	if (ch->remote.ticks)
		atomic_store_explicit(&ch->unheard_tail, atomic_load_explicit(&ch->remote.region->tail, memory_order_relaxed),
				      memory_order_relaxed);
	xshim_count(&c->slot->n.bells_rung, 1);
	if (ch->be->ring(&ch->local, &ch->remote) == -EPIPE)
		atomic_store_explicit(&ch->gone, 1, memory_order_relaxed);
	if (ch->remote.ticks)
		atomic_store_explicit(&ch->unheard, 1, memory_order_relaxed);
}

void xshim_chan_ask_life(struct xshim_chan *ch)
{
	struct pollfd p = { .fd = ch->remote.life };

	atomic_store_explicit(&ch->unheard, 0, memory_order_relaxed);
	if (atomic_load_explicit(&ch->remote.region->tail, memory_order_relaxed) !=
	    atomic_load_explicit(&ch->unheard_tail, memory_order_relaxed))
		return;			/* it has read since */
	if (raw_poll(&p, 1, 0) > 0)
		atomic_store_explicit(&ch->gone, 1, memory_order_relaxed);
}

void xshim_chan_drop_ringing(struct xshim_conn *c, struct xshim_chan *ch, struct xshim_lock *lock)
{
	int sharers = 0, saved = errno;

	for (int i = 0; i < XSHIM_ARENA_SHARERS && atomic_load_explicit(&ch->forked, memory_order_relaxed); i++)
		sharers += atomic_load_explicit(&c->slot->sharers[i], memory_order_relaxed) != 0;
	if (sharers > 1)
		xshim_chan_ring(c, ch);
	xshim_lock_drop(lock);
	if (sharers <= 1)
		xshim_chan_ring(c, ch);
	errno = saved;
}

int xshim_chan_break(struct xshim_conn *c, int fd, enum xshim_reason why)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint32_t was;

	if (why == XSHIM_R_CORRUPT && ch && xshim_chan_is_cut(ch))
		why = XSHIM_R_PEER_MOVED;	/* what could not be true came of it */
	c->slot->link.error = EPROTO;
	was = atomic_exchange_explicit(&c->slot->reason, why, memory_order_seq_cst);
	if (ch)
		xshim_depart_let_go(c, ch);
	if (was == XSHIM_R_CORRUPT || was == XSHIM_R_BYPASS || was == XSHIM_R_PEER_MOVED) {
		atomic_store_explicit(&c->slot->reason, was, memory_order_relaxed);
		return -ECONNRESET;	/* done before, perhaps by a process that shares it */
	}
	xlog(ERROR, "connection %u: %s; it is reset", c->id, xshim_reason_text(why));
	/* Disconnecting aborts: the peer gets RST, our own socket is unconnected. */
	(void)libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)raw_connect(fd, &unspec, sizeof(unspec));
	xshim_conn_set_flag(c, XSHIM_SLOT_RESET, true);
	return -ECONNRESET;
}
