/* SPDX-License-Identifier: MIT */
/*
 * verify.h - what the kernel says about a descriptor that a client has passed.
 *
 * Nothing a client writes is believed where the kernel can be asked. Every function leaves the descriptor
 * open; none blocks: what it is is asked first, with calls that the kernel answers by itself for a descriptor of any kind (getsockopt,
 * F_GET_SEALS, timerfd_gettime), and only of what is known then more. fstat of an unknown file asks its file system, which may be
 * a user's program that does not answer.
 *
 * Open: TCP_INFO and getsockname() of a TCP socket wait for its lock, which the owner's send() holds while it copies; from a page that does not come
 * (a mapped file of such a file system) it holds it for as long as he likes. Nothing asks for that lock without waiting.
 *
 * A verdict has two bad cases. XSHIMD_BAD: no well-behaved client can have sent it, the client is dropped.
 * XSHIMD_NO: the rules say no, or the connection changed while the message was under way; DECLINED.
 */
#ifndef XSHIMD_VERIFY_H
#define XSHIMD_VERIFY_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <xshim/endpoint.h>

enum xshimd_answer { XSHIMD_OK = 0, XSHIMD_NO, XSHIMD_BAD };

struct xshimd_verdict {
	enum xshimd_answer answer;
	uint32_t reason;	/* enum xshim_reason, for XSHIMD_NO */
	bool ordinary;		/* NO that honest clients meet every day: not worth a line */
	const char *cause;	/* static: what kind of mistake, for the journal */
	char text[160];		/* "fd 0: not an established TCP socket (state LISTEN)" */
};

struct xshimd_tcp {
	struct xshim_tuple tuple;
	uint64_t cookie, netns;
};

/* It is one whose close() the kernel finishes by itself, soon: a socket of IP or unix, a timerfd, or memory of a bounded size. */
bool xshimd_verify_closes_at_once(int fd);
/* fd number `n` is a TCP socket, whatever its state. */
enum xshimd_answer xshimd_verify_kind(int fd, unsigned int n, struct xshimd_verdict *v);
/*
 * fd number `n` of a message must be a connected TCP socket of `uid` (any, for root). cookie: the one it must have, NULL: any.
 * Half-closed in either direction will do.
 */
enum xshimd_answer xshimd_verify_tcp(int fd, unsigned int n, uid_t uid, const uint64_t *cookie,
				     struct xshimd_tcp *out, struct xshimd_verdict *v);
/* A memfd with all of a region's seals and exactly its size, all of it allocated. */
enum xshimd_answer xshimd_verify_region(int fd, unsigned int n, uint32_t order, uint32_t max_bytes,
					struct xshimd_verdict *v);
/* One half of a unix stream pair; what: "a bell", which is what it is to be. */
enum xshimd_answer xshimd_verify_pair(int fd, unsigned int n, const char *what, struct xshimd_verdict *v);
/* That, or a timerfd. */
enum xshimd_answer xshimd_verify_bell(int fd, unsigned int n, struct xshimd_verdict *v);
/*
 * A probe socket: TCP, of namespace `netns`, bound to local->addr and some port; listening, or neither listening nor
 * connected. *bound gets its address.
 */
enum xshimd_answer xshimd_verify_probe(int fd, uid_t uid, bool listening, uint64_t netns,
				       const struct xshim_endpoint *local, struct xshim_endpoint *bound,
				       struct xshimd_verdict *v);
/*
 * Who owns the network namespace that a socket is in: 1 our own user namespace (root made it), 0 another one
 * (a user's `unshare -Urn`), -errno: not allowed to know, which takes CAP_NET_ADMIN.
 */
int xshimd_verify_owner(int fd);

#endif
