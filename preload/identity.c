/* SPDX-License-Identifier: MIT */
/* identity.c - who a connection is, and who we are (identity.h). */
#include "identity.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define COMM_NS 1000000000ull

/* ---- the process ---- */

/*
 * On a page that the kernel empties in a child, however it was made: a child that took itself for its parent would give the
 * parent's slots back. NULL: there is no such page.
 */
static _Atomic pid_t *known;

void xshim_pid_init(void)
{
	void *page = mmap(NULL, sizeof(*known), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	if (madvise(page, sizeof(*known), MADV_WIPEONFORK) == 0)
		known = page;
	else
		munmap(page, sizeof(*known));
}

pid_t xshim_pid(void)
{
	pid_t pid = known ? atomic_load_explicit(known, memory_order_relaxed) : 0;

	if (pid)
		return pid;
	pid = getpid();
	if (known)
		atomic_store_explicit(known, pid, memory_order_relaxed);
	return pid;
}

static __thread char comm_was[16] __attribute__((tls_model("initial-exec")));
static __thread uint64_t comm_until __attribute__((tls_model("initial-exec")));

void xshim_identity_comm(char comm[16])
{
	uint64_t now = xshim_now_ns();

	if (now >= comm_until) {
		(void)prctl(PR_GET_NAME, comm_was);
		comm_until = now + COMM_NS;
	}
	memcpy(comm, comm_was, sizeof(comm_was));
}

void xshim_identity_renamed(void)
{
	comm_until = 0;
}

/* ---- a connection ---- */

static uint64_t hash_of(const struct xshim_slot *s)
{
	return s->role == XSHIM_ROLE_CONNECT ? xshim_endpoint_hash(&s->tuple.remote) : xshim_tuple_hash(&s->tuple);
}

/* connect() to it means this host. */
static bool is_any(const struct xshim_endpoint *ep)
{
	static const uint8_t zeros[16];

	return memcmp(ep->addr, zeros, xshim_endpoint_is_v4(ep) ? 10 : 16) == 0 &&
	       memcmp(ep->addr + 12, zeros, 4) == 0;
}

void xshim_identity_show(struct xshim_conn *c, int fd, const struct sockaddr *peer, socklen_t len)
{
	struct xshim_slot *s = c->slot;
	bool told = peer && xshim_endpoint_from_sockaddr(&s->tuple.remote, peer, len) == 0 && !is_any(&s->tuple.remote);

	if ((told ? xshim_endpoint_of_socket(&s->tuple.local, fd) : xshim_tuple_from_socket(&s->tuple, fd)) < 0)
		return;		/* not connected yet */
	atomic_store_explicit(&s->named, 1, memory_order_release);
	c->hash = hash_of(s);
}

static bool get_u64(int fd, int option, uint64_t *value)
{
	socklen_t len = sizeof(*value);

	return libc.getsockopt(fd, SOL_SOCKET, option, value, &len) == 0;
}

static void ask_mode(struct xshim_conn *c, int fd)
{
	int flags;

	if (!atomic_load_explicit(&c->mode_due, memory_order_relaxed))
		return;
	flags = libc.fcntl(fd, F_GETFL);
	/* not if somebody has set it meanwhile, and said so */
	if (flags >= 0 && atomic_exchange_explicit(&c->mode_due, 0, memory_order_relaxed))
		xshim_conn_set_flag(c, XSHIM_SLOT_NONBLOCK, flags & O_NONBLOCK);
}

bool xshim_identity_ask(struct xshim_conn *c, int fd)
{
	struct xshim_slot *s = c->slot;
	struct xshim_tuple tuple;
	uint64_t cookie, netns;
	int proto = 0;
	socklen_t len = sizeof(proto);

	if (c->identified)
		return true;
	if (libc.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &len) < 0)
		return false;
	if (proto != IPPROTO_TCP) {
		xshim_conn_never(c, proto == IPPROTO_MPTCP ? XSHIM_R_MPTCP : XSHIM_R_ROLE);
		return false;
	}
	memset(&tuple, 0, sizeof(tuple));
	if (xshim_tuple_from_socket(&tuple, fd) < 0 || !get_u64(fd, SO_COOKIE, &cookie) ||
	    !get_u64(fd, SO_NETNS_COOKIE, &netns))
		return false;
	/* As a program of the administrator's for the cgroup has it, which may lead a connection elsewhere than it was told to. */
	if (!atomic_load_explicit(&s->named, memory_order_acquire) || !xshim_tuple_equal(&s->tuple, &tuple)) {
		atomic_store_explicit(&s->named, 0, memory_order_relaxed);
		s->tuple = tuple;
	}
	s->cookie = cookie;
	s->netns = netns;
	atomic_store_explicit(&s->named, 1, memory_order_release);
	c->hash = hash_of(s);
	ask_mode(c, fd);
	c->identified = true;
	return true;
}

bool xshim_identity_nonblock(struct xshim_conn *c, int fd)
{
	if (!xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK))
		ask_mode(c, fd);
	return xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK);
}
