/* SPDX-License-Identifier: MIT */
/*
 * backend_shm.c - a sealed memfd and a doorbell, for two processes on one kernel.
 *
 * The memfd is sealed after its owner has mapped it: FUTURE_WRITE then leaves the owner's mapping the
 * only one through which it can be written, whoever else gets the descriptor. Neither size nor pages
 * can change (SHRINK, GROW, and holes need what FUTURE_WRITE denies), so reading it raises no SIGBUS.
 *
 * The doorbell is a timerfd that never runs out: who rings sets its ticks (TFD_IOC_SET_TICKS), which makes it readable and wakes who waits,
 * and who empties it sets the timer to nothing, which takes them back. Neither ever blocks, whatever the other does, although both have the
 * same open file; and each ring is an edge, however many there were. Measured, a round trip of bells on one processor: 1.95 us, 2.85 with a
 * byte through a socket pair.
 * Not an eventfd, whose write() the other can make block (with the counter full and O_NONBLOCK off). Not a pipe, although it is as fast:
 * the kernel holds its lock while it copies, so who reads or writes it from memory that does not come (FUSE) would stop us in any call, up to close().
 * The other may empty our bell, or ring it for nothing: that costs its own stream, or a look.
 *
 * Where the kernel has no such call (CONFIG_CHECKPOINT_RESTORE, which distributions set), or a filter forbids it, it is a socket pair:
 * each half is an open file of its own, so the peer can neither make our end block nor eat what rings it. A full socket means that the peer has
 * been rung and has not looked. We keep the half that the peer gets, to wake other waiters of our own.
 *
 * A socket pair besides, of which each end has one half, tells that the peer is gone: TCP does not always, because the kernel does not
 * know of what lies unread in a ring. Each end gives away half of one, and the pair of who has the greater nonce is used.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <xshim/backend.h>
#include "shmem.h"
#include "sys.h"

#ifndef TFD_IOC_SET_TICKS	/* linux/timerfd.h, which cannot be included beside fcntl.h */
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

#define HUSH_ROUNDS 16
#define EMPTY_ROUNDS 256	/* of such; a socket takes less than 1 MiB */
#define TOKEN_BYTES 4096

static void close_fd(int *fd)
{
	if (*fd >= 0)
		sys_close(*fd);
	*fd = -1;
}

static void shm_destroy(struct xshim_local *l)
{
	if (l->region)
		munmap(l->region, xshim_region_bytes(l->order));
	l->region = NULL;
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++)
		close_fd(&l->fds[i]);
}

/* 1: such a bell can be rung here; -1: it cannot; 0: not known yet. */
static _Atomic int can_tick;

static int tick(int fd)
{
	uint64_t ticks = 1;

	return sys_ioctl(fd, TFD_IOC_SET_TICKS, &ticks);
}

static int untick(int fd)
{
	static const struct itimerspec never;

	return (int)sys_call(SYS_timerfd_settime, fd, 0, &never, NULL, 0, 0);
}

static int make_pair(struct xshim_local *l, enum xshim_local_fd ours, enum xshim_local_fd its)
{
	int pair[2], rc = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, pair);

	if (rc < 0)
		return rc;
	l->fds[ours] = pair[0];
	l->fds[its] = pair[1];
	return 0;
}

static int make_bell(struct xshim_local *l)
{
	int rc, can = atomic_load_explicit(&can_tick, memory_order_relaxed);

	if (can >= 0) {
		rc = (int)sys_call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC, 0, 0, 0, 0);
		if (rc >= 0 && (can > 0 || (tick(rc) == 0 && untick(rc) == 0))) {
			atomic_store_explicit(&can_tick, 1, memory_order_relaxed);
			l->fds[XSHIM_LOCAL_BELL] = rc;
			l->ticks = true;
			return 0;
		}
		if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM)
			return rc;
		if (rc >= 0)
			sys_close(rc);
		atomic_store_explicit(&can_tick, -1, memory_order_relaxed);
	}
	return make_pair(l, XSHIM_LOCAL_BELL, XSHIM_LOCAL_BELL_OUT);
}

static int shm_create(struct xshim_local *l, const struct xshim_party *with, unsigned int order, uint64_t nonce)
{
	size_t bytes;
	void *at;
	int rc;

	(void)with;
	memset(l, 0, sizeof(*l));
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++)
		l->fds[i] = -1;
	if (order < XSHIM_RING_ORDER_MIN || order > XSHIM_RING_ORDER_MAX)
		return -EINVAL;
	l->order = order;
	l->nonce = nonce;
	bytes = xshim_region_bytes(order);
	rc = shmem_create("xshim-ring", bytes, true);
	if (rc < 0)
		return rc;
	l->fds[XSHIM_LOCAL_MEMORY] = rc;
	rc = shmem_map(&at, l->fds[XSHIM_LOCAL_MEMORY], bytes, true);
	if (rc < 0)
		goto destroy;
	l->region = at;
	xshim_region_format(l->region, order, nonce);
	rc = shmem_seal(l->fds[XSHIM_LOCAL_MEMORY], SHMEM_SEALS_OWNER);
	if (rc < 0)
		goto destroy;
	rc = make_bell(l);
	if (rc < 0)
		goto destroy;
	rc = make_pair(l, XSHIM_LOCAL_LIFE, XSHIM_LOCAL_LIFE_OUT);
	if (rc < 0)
		goto destroy;
	return 0;
destroy:
	shm_destroy(l);
	return rc;
}

static bool has_option(int fd, int name, int wanted)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return sys_getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 && value == wanted;
}

/* Has no name, as is the case with both halves of a pair but not with the two ends of a connection to a service. */
static bool is_unnamed(int fd, int (*name_of)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_un name;
	socklen_t len = sizeof(name);

	return name_of(fd, (struct sockaddr *)&name, &len) == 0 && len == offsetof(struct sockaddr_un, sun_path);
}

/* The byte we send must not be taken for a word to somebody else. */
static bool is_half_of_pair(int fd)
{
	return has_option(fd, SO_DOMAIN, AF_UNIX) && has_option(fd, SO_TYPE, SOCK_STREAM) &&
	       is_unnamed(fd, sys_getsockname) && is_unnamed(fd, sys_getpeername);
}

/* Asks, and changes nothing that such a bell has. 0; -EINVAL or -EBADF: it is something else; others: it may not be asked. */
static int is_timer(int fd)
{
	struct itimerspec left;

	return (int)sys_call(SYS_timerfd_gettime, fd, &left, 0, 0, 0, 0);
}

static int shm_attach(struct xshim_remote *r, struct xshim_local *l, const struct xshim_ticket *t, int *fds)
{
	unsigned int its_order;
	uint64_t its_nonce;
	struct stat st;
	size_t bytes;
	bool ticks;
	void *at;
	int rc;

	if (t->order < XSHIM_RING_ORDER_MIN || t->order > XSHIM_RING_ORDER_MAX)
		return -EPROTO;
	bytes = xshim_region_bytes(t->order);
	rc = is_timer(fds[1]);
	if (rc < 0 && rc != -EINVAL && rc != -EBADF && !is_half_of_pair(fds[1]))
		return -ENOSYS;
	ticks = rc == 0;
	if ((!ticks && !is_half_of_pair(fds[1])) || !is_half_of_pair(fds[2]))
		return -EPROTO;
	if (ticks && atomic_load_explicit(&can_tick, memory_order_relaxed) < 0)
		return -ENOSYS;
	rc = shmem_check(fds[0], bytes, SHMEM_SEALS_OWNER, &st);
	if (rc < 0)
		return rc;
	/* A page that is not there yet would be made, and paid for, by whoever reads it first: us. */
	if ((uint64_t)st.st_blocks * 512 < bytes)
		return -EPROTO;
	rc = shmem_map(&at, fds[0], bytes, false);
	if (rc < 0)
		return rc == -EACCES ? -EPROTO : rc;
	rc = xshim_region_check(at, bytes, &its_order, &its_nonce);
	if (rc == 0 && (its_order != t->order || its_nonce != t->nonce))
		rc = -EPROTO;
	if (rc < 0) {
		munmap(at, bytes);
		return rc;
	}
	r->region = at;
	r->order = t->order;
	r->nonce = t->nonce;
	r->ticks = ticks;
	r->bell = fds[1];
	sys_close(fds[0]);
	fds[0] = fds[1] = -1;
	if (l && l->nonce > t->nonce) {
		r->life = l->fds[XSHIM_LOCAL_LIFE];
		l->fds[XSHIM_LOCAL_LIFE] = -1;
	} else {
		r->life = fds[2];
		fds[2] = -1;
	}
	return 0;
}

static void shm_detach(struct xshim_remote *r)
{
	if (r->region)
		munmap((void *)(uintptr_t)r->region, xshim_region_bytes(r->order));
	r->region = NULL;
	close_fd(&r->bell);
	close_fd(&r->life);
}

static bool is_end(ssize_t rc)
{
	return rc == -EPIPE || rc == -ECONNRESET || rc == -ENOTCONN;
}

/* The descriptor's flags may be shared with the peer, so that not to block is said with each call. */
static ssize_t put_token(int fd)
{
	ssize_t rc;

	do
		rc = sys_send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (rc == -EINTR);
	return rc;
}

static int shm_ring(const struct xshim_local *l, const struct xshim_remote *r)
{
	ssize_t rc;

	atomic_fetch_add_explicit(&l->region->rung, 1, memory_order_seq_cst);
	if (r->ticks) {
		rc = tick(r->bell);
		/* it has made its bell one that the clock's being set ends */
		return rc == -ECANCELED ? 0 : (int)rc;
	}
	rc = put_token(r->bell);
	if (rc >= 0 || rc == -EAGAIN)
		return 0;
	return is_end(rc) ? -EPIPE : (int)rc;
}

static int shm_hush(const struct xshim_local *l, const struct xshim_remote *r)
{
	char sink[256];

	(void)r;
	if (l->ticks)
		return untick(l->fds[XSHIM_LOCAL_BELL]);
	/* No room for control data is given, so descriptors that come along are dropped by the kernel. */
	for (int i = 0; i < HUSH_ROUNDS; i++) {
		ssize_t rc = sys_recv(l->fds[XSHIM_LOCAL_BELL], sink, sizeof(sink), MSG_DONTWAIT);

		if (rc == -EAGAIN)
			return 0;
		if (rc == 0 || is_end(rc))
			return -EPIPE;
		if (rc < 0 && rc != -EINTR)
			return (int)rc;
		if (rc > 0 && (size_t)rc < sizeof(sink))
			return 0;	/* that was all, or what came since rings again */
	}
	return 0;
}

/*
 * Who hears edges has heard of a bell that is full: it is emptied first. A liar may have put more into it than rings; if it goes on with
 * that, each is an edge, too.
 */
static int shm_ring_self(const struct xshim_local *l)
{
	ssize_t rc;

	if (l->ticks)
		return tick(l->fds[XSHIM_LOCAL_BELL]);
	rc = put_token(l->fds[XSHIM_LOCAL_BELL_OUT]);
	for (int i = 0; rc == -EAGAIN && i < EMPTY_ROUNDS; i++) {
		(void)shm_hush(l, NULL);
		rc = put_token(l->fds[XSHIM_LOCAL_BELL_OUT]);
	}
	return is_end(rc) ? -EPIPE : rc < 0 && rc != -EAGAIN ? (int)rc : 0;
}

/* Ticks are no fewer edges for being set already. In a socket, the kernel takes less than TOKEN_BYTES of the sender's buffer for one. */
static uint32_t shm_holds(const struct xshim_local *l)
{
	socklen_t len = sizeof(int);
	int bytes = 0;

	if (l->ticks)
		return UINT32_MAX;
	if (sys_getsockopt(l->fds[XSHIM_LOCAL_BELL_OUT], SOL_SOCKET, SO_SNDBUF, &bytes, &len) < 0 || bytes < 0)
		return 0;
	return (uint32_t)bytes / TOKEN_BYTES;
}

const struct xshim_backend xshim_backend_shm = {
	.name = "shm",
	.kind = XSHIM_BACKEND_SHM,
	.create = shm_create,
	.destroy = shm_destroy,
	.attach = shm_attach,
	.detach = shm_detach,
	.ring = shm_ring,
	.hush = shm_hush,
	.ring_self = shm_ring_self,
	.holds = shm_holds,
};
