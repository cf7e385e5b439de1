/* SPDX-License-Identifier: MIT */
/*
 * backend_shm.c - a sealed memfd and a unix socket pair, for two processes on one kernel.
 *
 * The memfd is sealed after its owner has mapped it: FUTURE_WRITE then leaves the owner's mapping the
 * only one through which it can be written, whoever else gets the descriptor. Neither size nor pages
 * can change (SHRINK, GROW, and holes need what FUTURE_WRITE denies), so reading it raises no SIGBUS.
 *
 * The doorbell is a socket pair and not an eventfd: each half is an open file of its own, so the peer can
 * neither make our end block nor eat what rings it. A full socket means that the peer has been rung and
 * has not looked. We keep the half that the peer gets, to wake other waiters of our own; so the end of
 * the stream does not tell that the peer died (TCP does that) but that it has shut its half down.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <xshim/backend.h>
#include "shmem.h"
#include "sys.h"

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

static int shm_create(struct xshim_local *l, const struct xshim_party *with, unsigned int order, uint64_t nonce)
{
	int pair[2];
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
	rc = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, pair);
	if (rc < 0)
		goto destroy;
	l->fds[XSHIM_LOCAL_BELL] = pair[0];
	l->fds[XSHIM_LOCAL_BELL_OUT] = pair[1];
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

/* What we would ring must be half a pair: the byte we send must not be taken for a word to somebody else. */
static bool is_bell(int fd)
{
	return has_option(fd, SO_DOMAIN, AF_UNIX) && has_option(fd, SO_TYPE, SOCK_STREAM) &&
	       is_unnamed(fd, sys_getsockname) && is_unnamed(fd, sys_getpeername);
}

static int shm_attach(struct xshim_remote *r, struct xshim_local *l, const struct xshim_ticket *t, const int *fds)
{
	unsigned int its_order;
	uint64_t its_nonce;
	struct stat st;
	size_t bytes;
	void *at;
	int rc;

	(void)l;
	if (t->order < XSHIM_RING_ORDER_MIN || t->order > XSHIM_RING_ORDER_MAX)
		return -EPROTO;
	bytes = xshim_region_bytes(t->order);
	if (!is_bell(fds[1]))
		return -EPROTO;
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
	r->bell = fds[1];
	sys_close(fds[0]);
	return 0;
}

static void shm_detach(struct xshim_remote *r)
{
	if (r->region)
		munmap((void *)(uintptr_t)r->region, xshim_region_bytes(r->order));
	r->region = NULL;
	close_fd(&r->bell);
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
	rc = put_token(r->bell);
	if (rc >= 0 || rc == -EAGAIN)
		return 0;
	return is_end(rc) ? -EPIPE : (int)rc;
}

static int shm_hush(const struct xshim_local *l, const struct xshim_remote *r)
{
	char sink[256];

	(void)r;
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
	ssize_t rc = put_token(l->fds[XSHIM_LOCAL_BELL_OUT]);

	for (int i = 0; rc == -EAGAIN && i < EMPTY_ROUNDS; i++) {
		(void)shm_hush(l, NULL);
		rc = put_token(l->fds[XSHIM_LOCAL_BELL_OUT]);
	}
	return is_end(rc) ? -EPIPE : rc < 0 && rc != -EAGAIN ? (int)rc : 0;
}

/* The kernel takes less than TOKEN_BYTES of the sender's buffer for one. */
static uint32_t shm_holds(const struct xshim_local *l)
{
	socklen_t len = sizeof(int);
	int bytes = 0;

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
