/* SPDX-License-Identifier: MIT */
#include "xen_wire.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <xshim/backend.h>
#include <xshim/ring.h>

#include "xen_keeper.h"

#define ORDER XSHIM_RING_ORDER_MIN
#define SIZE ((uint64_t)1 << ORDER)
_Static_assert(((1u << ORDER) % XSHIMD_PEER_MSG) == 0, "a message is in one piece");

struct xshimd_wire {
	const struct xshim_backend *be;
	struct xshim_local local;
	struct xshim_remote remote;	/* region NULL: not mapped yet */
	uint64_t sent, taken;
	bool cut;			/* our guest has moved */
};

/* ---- the other's memory ---- */

static __thread sigjmp_buf *guard;

static void on_bus(int sig)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };

	if (guard)
		siglongjmp(*guard, 1);
	sigaction(sig, &plain, NULL);	/* it faults again */
}

static void catch_bus(void)
{
	static _Atomic bool done;
	struct sigaction act = { .sa_handler = on_bus, .sa_flags = SA_NODEFER };

	if (!done) {
		done = true;
		sigaction(SIGBUS, &act, NULL);
	}
}

/* fn, which may read the other's region; -EPIPE when it is not there any more. */
static int guarded(int (*fn)(struct xshimd_wire *, void *), struct xshimd_wire *w, void *arg)
{
	sigjmp_buf here;
	int rc = -EPIPE;

	if (w->cut)
		return rc;
	guard = &here;
	if (sigsetjmp(here, 0) == 0)
		rc = fn(w, arg);
	else
		w->cut = true;
	guard = NULL;
	return rc;
}

/* Ones in place of what was there. -EPIPE, also when the other has ended. */
static int look_alive(struct xshimd_wire *w)
{
	if (!xshim_region_is_whole(w->remote.region))
		w->cut = true;
	return w->cut || atomic_load_explicit(&w->remote.region->alive, memory_order_relaxed) != XSHIM_REGION_ALIVE ?
		-EPIPE : 0;
}

static int look(struct xshimd_wire *w, void *unused)
{
	(void)unused;
	return look_alive(w);
}

static int send_one(struct xshimd_wire *w, void *m)
{
	struct iovec v = { .iov_base = m, .iov_len = XSHIMD_PEER_MSG };
	uint64_t used = w->sent - atomic_load_explicit(&w->remote.region->tail, memory_order_seq_cst);
	struct xshim_iov it;

	if (used > SIZE)
		return look_alive(w) < 0 ? -EPIPE : -EPROTO;
	if (SIZE - used < XSHIMD_PEER_MSG)
		return look_alive(w);
	xshim_iov_init(&it, &v, 1);
	xshim_ring_copy_in(xshim_region_data(w->local.region), ORDER, w->sent, &it, XSHIMD_PEER_MSG);
	w->sent += XSHIMD_PEER_MSG;
	atomic_store_explicit(&w->local.region->head, w->sent, memory_order_seq_cst);
	return w->be->ring(&w->local, &w->remote) < 0 ? -EPIPE : 1;
}

static int recv_one(struct xshimd_wire *w, void *m)
{
	struct iovec v = { .iov_base = m, .iov_len = XSHIMD_PEER_MSG };
	uint64_t head = atomic_load_explicit(&w->remote.region->head, memory_order_seq_cst), was = w->taken;
	struct xshim_iov it;

	/* What was sent before the end is read first. */
	if (head == was)
		return look_alive(w);
	if (head - was > SIZE || head - was < XSHIMD_PEER_MSG)
		return look_alive(w) < 0 ? -EPIPE : -EPROTO;
	xshim_iov_init(&it, &v, 1);
	xshim_ring_copy_out(xshim_region_cdata(w->remote.region), ORDER, was, &it, XSHIMD_PEER_MSG);
	if (look_alive(w) < 0 && w->cut)
		return -EPIPE;
	w->taken += XSHIMD_PEER_MSG;
	/*
	 * tail /then/ head. Pairs with send_one() over there: head /then/, when it next sends, tail. So one who found no room is seen
	 * by us, or sees the room.
	 */
	atomic_store_explicit(&w->local.region->tail, w->taken, memory_order_seq_cst);
	head = atomic_load_explicit(&w->remote.region->head, memory_order_seq_cst);
	if (head - was > SIZE - XSHIMD_PEER_MSG)
		(void)w->be->ring(&w->local, &w->remote);
	return 1;
}

static int carrier_send(void *carrier, const struct xshimd_peer_msg *m)
{
	struct xshimd_peer_msg copy = *m;

	return guarded(send_one, carrier, &copy);
}

static int carrier_recv(void *carrier, struct xshimd_peer_msg *m)
{
	return guarded(recv_one, carrier, m);
}

const struct xshimd_carrier xshimd_wire_carrier = { carrier_send, carrier_recv };

static int hush(struct xshimd_wire *w, void *unused)
{
	(void)unused;
	return w->be->hush(&w->local, &w->remote);
}

void xshimd_wire_take_event(struct xshimd_wire *w)
{
	(void)guarded(hush, w, NULL);
}

int xshimd_wire_fd(const struct xshimd_wire *w)
{
	return w->local.fds[XSHIM_LOCAL_BELL];
}

void xshimd_wire_abandon(struct xshimd_wire *w)
{
	w->cut = true;
	if (w->remote.region)
		w->be->forsake(&w->remote);
}

/* ---- opening and closing ---- */

static int new_half(struct xshimd_wire **out, uint32_t peer, bool offers)
{
	struct xshim_party party = { .domid = peer, .offers = offers, .seldom = true };
	struct xshimd_wire *w = calloc(1, sizeof(*w));
	uint64_t nonce;
	int rc;

	if (!w)
		return -ENOMEM;
	w->be = xshim_backend_of(XSHIM_BACKEND_XEN);
	if (!w->be)
		rc = -ENOTSUP;
	else if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
		rc = -EIO;
	else
		rc = w->be->create(&w->local, &party, ORDER, nonce ? nonce : 1);
	if (rc < 0) {
		free(w);
		return rc;
	}
	*out = w;
	return 0;
}

static int attach(struct xshimd_wire *w, void *ticket)
{
	return w->be->attach(&w->remote, &w->local, ticket, NULL);
}

static int map_other(struct xshimd_wire *w, uint32_t peer, const struct xshimd_xen_half *half)
{
	struct xshim_ticket t = { .nonce = half->nonce, .order = ORDER, .domid = peer, .gref = half->gref, .port = half->port };
	int rc;

	catch_bus();
	rc = guarded(attach, w, &t);
	if (rc < 0)
		return rc;
	close(w->local.fds[XSHIM_LOCAL_MEMORY]);	/* the kernel has been told what to do at our end */
	w->local.fds[XSHIM_LOCAL_MEMORY] = -1;
	return 0;
}

void xshimd_wire_close(struct xshimd_wire *w)
{
	if (!w)
		return;
	if (w->remote.region)
		(void)guarded(look, w, NULL);
	if (w->cut) {
		if (w->remote.region)
			w->be->forsake(&w->remote);
		xshimd_keeper_hold(w->local.fds[XSHIM_LOCAL_BELL_OUT]);
		w->local.fds[XSHIM_LOCAL_BELL_OUT] = -1;
	} else {
		w->be->bye(&w->local);
	}
	w->be->destroy(&w->local);
	w->be->detach(&w->remote);
	free(w);
}

/* What the other one says to us. */
static int read_leaf(struct xshimd_store *s, uint32_t self, uint32_t peer, bool offer, struct xshimd_xen_half *out, const char **why)
{
	struct xshimd_store_value v;
	int rc;

	rc = xshimd_store_read(s, &v, "/local/domain/%u/data/xshim/peer/%u/%s", peer, self, offer ? "offer" : "claim");
	if (rc == -ENOENT || rc == -EACCES || (rc == 0 && !v.len))
		return -EAGAIN;
	if (rc == -E2BIG) {
		*why = "longer than 1024 bytes";
		return -EINVAL;
	}
	return rc < 0 ? rc : xshimd_xen_half_parse(v.text, v.len, offer, out, why);
}

static int offer(struct xshimd_wire **half, struct xshimd_store *s, uint32_t self, uint32_t peer)
{
	struct xshimd_wire *w;
	struct xshimd_xen_half h;
	char text[XSHIMD_XEN_HALF_TEXT];
	int rc;

	rc = new_half(&w, peer, true);
	if (rc < 0)
		return rc;
	h = (struct xshimd_xen_half){ .gref = w->local.gref, .port = w->local.port, .nonce = w->local.nonce };
	xshimd_xen_half_format(text, true, &h);
	rc = xshimd_store_write(s, self, peer, text, "data/xshim/peer/%u/offer", peer);
	if (rc < 0) {
		xshimd_wire_close(w);
		return rc;
	}
	*half = w;
	return -EAGAIN;
}

static int take_claim(struct xshimd_wire **out, struct xshimd_wire **half, struct xshimd_store *s, uint32_t self, uint32_t peer,
		      const char **why)
{
	struct xshimd_wire *w = *half;
	struct xshimd_xen_half h;
	int rc;

	rc = read_leaf(s, self, peer, false, &h, why);
	if (rc == 0 && h.to != w->local.nonce)
		return -EAGAIN;		/* an old one */
	if (rc == -EAGAIN || rc == -EINVAL)
		return rc;
	*half = NULL;
	if (rc == 0)
		rc = map_other(w, peer, &h);
	if (rc == 0)
		rc = xshimd_store_write(s, self, peer, "", "data/xshim/peer/%u/offer", peer);
	if (rc < 0) {
		xshimd_wire_close(w);
		return rc == -EAGAIN ? -EIO : rc;
	}
	*out = w;
	return 0;
}

static int claim(struct xshimd_wire **out, struct xshimd_store *s, uint32_t self, uint32_t peer, const char **why)
{
	struct xshimd_xen_half its, own;
	char text[XSHIMD_XEN_HALF_TEXT];
	struct xshimd_wire *w;
	int rc;

	rc = read_leaf(s, self, peer, true, &its, why);
	if (rc == 0)
		rc = new_half(&w, peer, false);
	if (rc < 0)
		return rc;
	rc = map_other(w, peer, &its);
	if (rc == 0) {
		own = (struct xshimd_xen_half){ .gref = w->local.gref, .nonce = w->local.nonce, .to = its.nonce };
		xshimd_xen_half_format(text, false, &own);
		rc = xshimd_store_write(s, self, peer, text, "data/xshim/peer/%u/claim", peer);
	}
	if (rc < 0) {
		xshimd_wire_close(w);
		return rc == -EAGAIN ? -EIO : rc;
	}
	*out = w;
	return 0;
}

int xshimd_wire_open(struct xshimd_wire **out, struct xshimd_wire **half, struct xshimd_store *s, uint32_t self, uint32_t peer,
		     const char **why)
{
	*why = NULL;
	if (self > peer)
		return claim(out, s, self, peer, why);
	return *half ? take_claim(out, half, s, self, peer, why) : offer(half, s, self, peer);
}
