/* SPDX-License-Identifier: MIT */
/*
 * endpoint.h - a TCP address and port, normalised so that it can be compared, hashed and printed.
 *
 * IPv4 is held as IPv4-mapped IPv6, so that 10.0.0.1 seen by an AF_INET socket and ::ffff:10.0.0.1 seen
 * by an AF_INET6 socket are one and the same endpoint. Zone ids are not part of it: the two ends of a
 * link-local connection name different zones.
 *
 * Threads: any; no state. Signals: all safe. Errors: 0 or -errno.
 */
#ifndef XSHIM_ENDPOINT_H
#define XSHIM_ENDPOINT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct xshim_endpoint {
	uint8_t addr[16];	/* network order, IPv4 as ::ffff:a.b.c.d */
	uint16_t port;		/* host order */
	uint16_t pad[3];	/* zero */
};
_Static_assert(sizeof(struct xshim_endpoint) == 24, "endpoint ABI");

/* A connection as one of its ends sees it. */
struct xshim_tuple {
	struct xshim_endpoint local;
	struct xshim_endpoint remote;
};

#define XSHIM_ENDPOINT_STRLEN 56	/* "[ffff:...:255.255.255.255]:65535" and the NUL */

/* -EAFNOSUPPORT for anything that is not AF_INET or AF_INET6, -EINVAL when len is too short. */
int xshim_endpoint_from_sockaddr(struct xshim_endpoint *ep, const struct sockaddr *sa, socklen_t len);
/* The local address of a socket; -errno of getsockname. */
int xshim_endpoint_of_socket(struct xshim_endpoint *ep, int fd);
/* Both addresses of a connected socket; -errno of getsockname or getpeername (-ENOTCONN). */
int xshim_tuple_from_socket(struct xshim_tuple *t, int fd);

bool xshim_endpoint_equal(const struct xshim_endpoint *a, const struct xshim_endpoint *b);
/* True for 127.0.0.0/8 and ::1, which mean something only inside one network namespace. */
bool xshim_endpoint_is_loopback(const struct xshim_endpoint *ep);
bool xshim_endpoint_is_v4(const struct xshim_endpoint *ep);

bool xshim_tuple_equal(const struct xshim_tuple *a, const struct xshim_tuple *b);
/* The same connection as the other end sees it. */
struct xshim_tuple xshim_tuple_mirror(const struct xshim_tuple *t);

/* 64-bit fingerprints for the co-residency map; never 0 or 1, which mark empty and deleted there. */
uint64_t xshim_endpoint_hash(const struct xshim_endpoint *ep);
uint64_t xshim_tuple_hash(const struct xshim_tuple *t);

/* "10.0.0.1:80" or "[fd00::1]:80"; returns buf. */
const char *xshim_endpoint_format(const struct xshim_endpoint *ep, char buf[XSHIM_ENDPOINT_STRLEN]);
/* Fill a sockaddr of the given family (AF_INET or AF_INET6) for bind or connect; returns its length, 0 if it does not fit the family. */
socklen_t xshim_endpoint_to_sockaddr(const struct xshim_endpoint *ep, int family, struct sockaddr_storage *ss);

#endif
