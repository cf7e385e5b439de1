/* SPDX-License-Identifier: MIT */
/* conn.c - connections of this process: from connect or accept to close, and over fork. offer.c introduces them. */
#include "conn.h"
#include "channel.h"
#include "client.h"
#include "depart.h"
#include "doze.h"
#include "epoll.h"
#include "identity.h"
#include "linger.h"
#include "options.h"
#include "privfd.h"
#include "process.h"
#include "raw.h"
#include "ready.h"
#include "stream.h"
#include "urgent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

__thread uint32_t xshim_tid_cache __attribute__((tls_model("initial-exec")));
struct xshim_arena xshim_own_arena;
int xshim_own_arena_fd = -1;
struct xshim_arena xshim_old_arenas[XSHIM_ARENAS_MAX - 1];
int xshim_old_arena_fds[XSHIM_ARENAS_MAX - 1] = { -1, -1, -1 };
_Atomic uint32_t xshim_tcp_only;

uint32_t xshim_tid_slow(void)
{
	xshim_tid_cache = (uint32_t)libc.syscall(SYS_gettid);
	return xshim_tid_cache;
}

uint64_t xshim_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

void xshim_conn_set_flag(struct xshim_conn *c, uint32_t flag, bool on)
{
	if (!c->slot)
		return;
	if (on)
		atomic_fetch_or_explicit(&c->slot->flags, flag, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&c->slot->flags, ~flag, memory_order_relaxed);
}

void xshim_conn_reason(struct xshim_conn *c, enum xshim_reason why)
{
	if (!c->slot)
		return;
	if (why == XSHIM_R_SHARED && atomic_load_explicit(&c->slot->reason, memory_order_relaxed) != why)
		xlog(DEBUG, "connection %u: stays on TCP as long as other processes have it, too", c->id);
	atomic_store_explicit(&c->slot->reason, why, memory_order_relaxed);
}

void xshim_conn_never(struct xshim_conn *c, enum xshim_reason why)
{
	if (!c->slot)
		return;
	if (xshim_conn_chan(c)) {	/* its return takes longer */
		xshim_conn_set_flag(c, XSHIM_SLOT_STAY, true);
		return;
	}
	xshim_conn_set_flag(c, XSHIM_SLOT_CROWDED, true);	/* also for those who share the slot */
	c->next_ops = XSHIM_NEVER_OPS;
	c->next_bytes = UINT64_MAX;
	xshim_conn_reason(c, why);
}

/* ---- arenas ---- */

bool xshim_arena_ready(void)
{
	static _Atomic uint32_t state;	/* 0 none, 1 being made, 2 there, 3 cannot be had */
	uint32_t now;
	bool locked;
	int fd;

	now = atomic_load_explicit(&state, memory_order_acquire);
	if (now >= 2)
		return now == 2;
	/*
	 * Threads make their first connections at once: who comes second waits. For the client's lock, because fork takes it: no
	 * child finds one that is half made. A thread that has it already comes from the client, or is a signal handler.
	 */
	locked = xshim_client_insist();
	now = atomic_load_explicit(&state, memory_order_acquire);
	if (!now) {
		atomic_store_explicit(&state, 1, memory_order_relaxed);
		now = 3;
		if (xshim_arena_create(&xshim_own_arena, &fd) < 0) {
			xshim_own_arena.hdr = NULL;
		} else {
			xshim_own_arena_fd = xshim_privfd_move(fd);
			now = 2;
		}
		atomic_store_explicit(&state, now, memory_order_release);
	}
	if (locked)
		xshim_client_drop();
	return now == 2;
}

/* ---- tracking ---- */

static struct xshim_conn *new_conn(int fd)
{
	struct xshim_conn *c = (struct xshim_conn *)xshim_obj_new(XSHIM_OBJ_CONN);
	static _Atomic uint32_t generation;

	if (!c)
		return NULL;
	do				/* 0 means none, or all, in messages */
		c->id = (atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed) << 16) |
			(c->obj.index & 0xffff);
	while (!c->id);
	atomic_store_explicit(&c->next_bytes, xshim_opt.trigger_bytes, memory_order_relaxed);
	xshim_fd_set(fd, &c->obj);
	return c;
}

void xshim_conn_track(int fd, enum xshim_role role, int proto, uint32_t flags, const struct sockaddr *peer, socklen_t len)
{
	uint32_t tcp_only = atomic_load_explicit(&xshim_tcp_only, memory_order_relaxed);
	struct xshim_conn *c = new_conn(fd);
	struct xshim_slot *s;

	if (!c)
		return;
	if (xshim_arena_ready()) {
		s = xshim_slot_alloc(&xshim_own_arena);
		if (s) {
			s->role = role;
			xshim_identity_comm(s->comm);
			atomic_store_explicit(&s->pid, (uint32_t)xshim_pid(), memory_order_relaxed);
			if (xshim_opt.force_leave | xshim_opt.force_spill)
				flags |= XSHIM_SLOT_FORCED;
			atomic_store_explicit(&s->flags, flags, memory_order_relaxed);
			/* what keeps all on TCP may keep its calls from us, too */
			atomic_store_explicit(&s->reason, tcp_only ? tcp_only : XSHIM_R_NEW, memory_order_relaxed);
			xshim_slot_begin(s, xshim_pid());
			c->arena = xshim_own_arena;
			c->slot = s;
			/* no ordered store where none is needed: each is a locked instruction, and each connection pays it */
			atomic_store_explicit(&c->next_ops, role == XSHIM_ROLE_CONNECT ? (uint32_t)xshim_opt.trigger_ops : 1,
					      memory_order_relaxed);
			if (role == XSHIM_ROLE_CONNECT)
				atomic_store_explicit(&c->mode_due, 1, memory_order_relaxed);
			c->since_ns = role == XSHIM_ROLE_ACCEPT ? xshim_clock_ns() : 0;
			if (proto == IPPROTO_MPTCP)
				xshim_conn_never(c, XSHIM_R_MPTCP);
			xshim_identity_show(c, fd, peer, len);
			xshim_slot_publish(s);
		}
	}
	/* where nothing is to be introduced xshimd still shows why; but a filter may forbid to speak to it */
	if (c->slot && tcp_only != XSHIM_R_SECCOMP && xshim_client_try()) {
		xshim_client_service();
		if (!tcp_only && c->hash && xshim_client_is_greeted())
			xshim_conn_look_first(c, fd);
		xshim_client_drop();
	}
	xshim_conn_put(c);
}

void xshim_conn_adopt(int fd, const struct xshim_arena *a, struct xshim_slot *s)
{
	struct xshim_conn *c = new_conn(fd);

	if (!c)
		return;
	c->arena = *a;
	c->slot = s;
	c->next_ops = 1;
	c->since_ns = xshim_clock_ns();
	atomic_store_explicit(&s->pid, (uint32_t)xshim_pid(), memory_order_relaxed);
	xshim_identity_comm(s->comm);
	c->mode_due = 1;
	(void)xshim_identity_ask(c, fd);
	xshim_conn_put(c);
}

/* ---- the end ---- */

void xshim_conn_closed(struct xshim_obj *o, int fd)
{
	struct xshim_conn *c = (struct xshim_conn *)o;

	xshim_depart_closed(c, xshim_conn_chan(c));
	xshim_epoll_forget(c, fd);
	if (c->pending && xshim_client_insist()) {
		if (c->intro == XSHIM_INTRO_OFFERED || c->intro == XSHIM_INTRO_CLAIMED)
			xshim_client_withdraw(c);
		c->intro = XSHIM_INTRO_NEVER;
		atomic_store_explicit(&c->attach_due, 0, memory_order_relaxed);
		xshim_chan_drop(c->pending);
		c->pending = NULL;
		xshim_client_drop();
	}
}

int xshim_conn_other_fd(struct xshim_conn *c, int fd)
{
	int left = atomic_load_explicit(&c->left_fd, memory_order_acquire), other;

	if (left)
		return left - 1;
	other = xshim_fd_find(&c->obj);
	return other >= 0 ? other : fd;
}

bool xshim_conn_keep_socket(struct xshim_conn *c, int fd)
{
	int kept;

	/* its descriptor's reference, ours, and theirs */
	if ((atomic_load_explicit(&c->obj.refs, memory_order_acquire) & ~XSHIM_REF_EXCL) <= 2)
		return false;
	kept = xshim_privfd_dup(fd);
	if (kept < 0)
		return false;
	atomic_store_explicit(&c->left_fd, kept + 1, memory_order_release);
	return true;
}

void xshim_conn_end(struct xshim_conn *c, int fd)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct linger linger = { 0 };
	socklen_t len = sizeof(linger);
	int unread = 0, saved = errno;

	/* nobody's but ours and xshimd's: others, and calls that are inside, go on with a socket that is closed here */
	if (!atomic_load_explicit(&c->lent, memory_order_relaxed) || !c->slot || !xshim_slot_is_sole(c->slot, getpid()) ||
	    (atomic_load_explicit(&c->obj.refs, memory_order_acquire) & ~XSHIM_REF_EXCL) >
		    atomic_load_explicit(&c->obj.fds, memory_order_relaxed) + 1)
		return;
	(void)libc.getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len);
	(void)libc.ioctl(fd, FIONREAD, &unread);
	/* an urgent octet is none of those that FIONREAD counts, and to the kernel unread until a receive has gone beyond it */
	if (unread > 0 || xshim_urgent_is_next(fd) || (linger.l_onoff && !linger.l_linger))
		(void)libc.connect(fd, &none, sizeof(none));	/* RST */
	else
		(void)libc.shutdown(fd, SHUT_RDWR);
	errno = saved;
}

/* What close would have done to a socket that was kept. */
static void close_kept(struct xshim_conn *c)
{
	int left = atomic_load_explicit(&c->left_fd, memory_order_acquire);

	if (!left || !(left = atomic_exchange_explicit(&c->left_fd, 0, memory_order_acq_rel)))
		return;
	xshim_stream_closing(c, left - 1);
	xshim_privfd_close(left - 1);
}

void xshim_conn_release(struct xshim_obj *o)
{
	struct xshim_conn *c = (struct xshim_conn *)o;
	struct xshim_chan *ch = atomic_load_explicit(&c->dead, memory_order_relaxed);

	if (ch)		/* nobody else is there any more, but most have none, and each exchange is a locked one */
		ch = atomic_exchange_explicit(&c->dead, NULL, memory_order_acquire);
	close_kept(c);
	while (ch) {
		struct xshim_chan *next = ch->next_dead;

		xshim_chan_drop(ch);
		ch = next;
	}
	if (atomic_load_explicit(&c->obj.ch, memory_order_relaxed))
		xshim_chan_drop(atomic_exchange_explicit(&c->obj.ch, NULL, memory_order_acquire));
	if (c->slot && xshim_sandbox_pid() && xshim_slot_sharer_remove(c->slot, xshim_sandbox_pid()) &&
	    !atomic_load_explicit(&c->slot->fork_pending, memory_order_acquire))
		xshim_slot_free(&c->arena, c->slot);
	c->slot = NULL;
	c->id = 0;
}

/* ---- fork ---- */

void xshim_conn_fork_prepare(void)
{
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		struct xshim_conn *c = (struct xshim_conn *)xshim_obj_at(XSHIM_OBJ_CONN, i);
		struct xshim_chan *ch = c ? xshim_conn_chan(c) : NULL;

		if (c && c->slot)
			atomic_fetch_add_explicit(&c->slot->fork_pending, 1, memory_order_acq_rel);
		/* both processes find it, also if there is no child in the end */
		if (ch) {
			atomic_store_explicit(&ch->forked, 1, memory_order_relaxed);
			atomic_store_explicit(&ch->local.shared, true, memory_order_relaxed);
		}
	}
}

void xshim_conn_fork_undo(void)
{
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		struct xshim_conn *c = (struct xshim_conn *)xshim_obj_at(XSHIM_OBJ_CONN, i);

		if (c && c->slot)
			atomic_fetch_sub_explicit(&c->slot->fork_pending, 1, memory_order_acq_rel);
	}
}

/* The peer's memory is not always inherited (xen). */
static void remap(struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	int rc;

	if (!ch || !ch->be->forked)
		return;
	rc = ch->be->forked(&ch->local, &ch->remote);
	if (rc == 0 || xshim_link_is_out(&c->slot->link))
		return;
	c->lost = true;
	xlog(WARN, "connection %u: the ring of domain %u cannot be mapped in a forked child: errno %d; it is reset there",
	     c->id, ch->remote.domid, -rc);
}

/* A connection that was reset, for real: the kernel then says what is to be said. Where that cannot be had, an unconnected socket. */
static int reset_socket(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	socklen_t len = sizeof(to);
	int mine, listener, its = -1;

	mine = libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	listener = libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (mine >= 0 && listener >= 0 && bind(listener, (struct sockaddr *)&to, len) == 0 &&
	    libc.listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&to, &len) == 0) {
		(void)raw_connect(mine, (struct sockaddr *)&to, len);
		its = raw_accept4(listener, SOCK_CLOEXEC);
	}
	if (its >= 0) {
		(void)libc.setsockopt(its, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		raw_close(its);
	}
	if (listener >= 0)
		raw_close(listener);
	return mine;
}

static void put_reset_socket(int fd)
{
	int flags = libc.fcntl(fd, F_GETFD), status = libc.fcntl(fd, F_GETFL), dead = reset_socket();

	xshim_fd_clear(fd);
	if (dead < 0) {
		raw_close(fd);
		return;
	}
	libc.dup3(dead, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	raw_close(dead);
	(void)libc.fcntl(fd, F_SETFL, status & O_NONBLOCK);
}

void xshim_conn_fork_lost(void)
{
	struct xshim_obj *o;
	int fd;

	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		o = xshim_obj_at(XSHIM_OBJ_CONN, i);
		if (!o || !((struct xshim_conn *)o)->lost)
			continue;
		((struct xshim_conn *)o)->lost = false;
		while ((fd = xshim_fd_find(o)) >= 0)
			put_reset_socket(fd);
	}
}

/*
 * The parent's sleepers are not here, its epoll entries are. The forking thread, the only one here, has had the locks under which entries come, go
 * and count since before the fork (fork.c), so what is read is whole. But where a handler has forked on top of who has them: between the two
 * stores of a count that makes it one too few or too many here, of one entry until the next channel.
 */
static void count_waits(struct xshim_conn *c)
{
	struct xshim_chan *ch = xshim_conn_chan(c);
	uint32_t rx = 0, tx = 0;

	if (!ch)
		return;
	xshim_doze_close(ch);
	for (const struct xshim_reg *r = c->regs; r; r = r->next_of_conn) {
		rx += r->rx_wait;
		tx += r->tx_wait;
	}
	ch->waits = xshim_slot_waits(c->slot, getpid());
	atomic_fetch_add_explicit(&ch->waits->rx, rx, memory_order_seq_cst);
	atomic_fetch_add_explicit(&ch->waits->tx, tx, memory_order_seq_cst);
}

/* The arena stays common to the family; each process has its own control connection. */
void xshim_conn_fork_child(pid_t parent)
{
	bool blind = getppid() != parent;	/* another pid namespace, or an orphan already */

	xshim_tid_cache = 0;
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		struct xshim_conn *c = (struct xshim_conn *)xshim_obj_at(XSHIM_OBJ_CONN, i);

		if (!c)
			continue;
		/* so are the threads that are inside a call */
		xshim_privfd_close(atomic_exchange_explicit(&c->left_fd, 0, memory_order_relaxed) - 1);
		/* The introduction is the parent's. */
		xshim_chan_drop(c->pending);
		c->pending = NULL;
		c->intro = XSHIM_INTRO_PLAIN;
		c->next_ops = c->ops + 1;
		atomic_store_explicit(&c->attach_due, 0, memory_order_relaxed);
		if (!c->slot || xshim_linger_forked(c))
			continue;
		remap(c);
		if (blind)
			xshim_conn_set_flag(c, XSHIM_SLOT_CROWDED, true);
		xshim_slot_sharer_add(c->slot, getpid());
		count_waits(c);
		atomic_fetch_sub_explicit(&c->slot->fork_pending, 1, memory_order_acq_rel);
	}
}
