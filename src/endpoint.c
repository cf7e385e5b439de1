/* SPDX-License-Identifier: MIT */
/*
 * endpoint.c - normalise, compare, hash and print a TCP address and port.
 *
 * The formatter is our own because inet_ntop() may use stdio inside, and logging must be possible in a
 * signal handler.
 */
#include <netinet/in.h>
#include <string.h>
#include <xshim/endpoint.h>
#include "sys.h"

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

int xshim_endpoint_from_sockaddr(struct xshim_endpoint *ep, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	sa_family_t family;

	if (len < sizeof(family))
		return -EINVAL;
	memcpy(&family, sa, sizeof(family));
	memset(ep, 0, sizeof(*ep));
	switch (family) {
	case AF_INET:
		if (len < sizeof(in))
			return -EINVAL;
		memcpy(&in, sa, sizeof(in));
		memcpy(ep->addr, v4_prefix, sizeof(v4_prefix));
		memcpy(ep->addr + 12, &in.sin_addr, 4);
		ep->port = ntohs(in.sin_port);
		return 0;
	case AF_INET6:
		/* As for the kernel, the zone id at the end may be missing. */
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return -EINVAL;
		memcpy(&in6, sa, offsetof(struct sockaddr_in6, sin6_scope_id));
		memcpy(ep->addr, &in6.sin6_addr, 16);
		ep->port = ntohs(in6.sin6_port);
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}

int xshim_endpoint_of_socket(struct xshim_endpoint *ep, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int rc = sys_getsockname(fd, (struct sockaddr *)&ss, &len);

	return rc < 0 ? rc : xshim_endpoint_from_sockaddr(ep, (struct sockaddr *)&ss, len);
}

int xshim_tuple_from_socket(struct xshim_tuple *t, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int rc = xshim_endpoint_of_socket(&t->local, fd);

	if (rc < 0)
		return rc;
	rc = sys_getpeername(fd, (struct sockaddr *)&ss, &len);
	if (rc < 0)
		return rc;
	return xshim_endpoint_from_sockaddr(&t->remote, (struct sockaddr *)&ss, len);
}

bool xshim_endpoint_equal(const struct xshim_endpoint *a, const struct xshim_endpoint *b)
{
	return a->port == b->port && memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

bool xshim_endpoint_is_v4(const struct xshim_endpoint *ep)
{
	return memcmp(ep->addr, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool xshim_endpoint_is_loopback(const struct xshim_endpoint *ep)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (xshim_endpoint_is_v4(ep))
		return ep->addr[12] == 127;
	return memcmp(ep->addr, one, sizeof(one)) == 0;
}

bool xshim_tuple_equal(const struct xshim_tuple *a, const struct xshim_tuple *b)
{
	return xshim_endpoint_equal(&a->local, &b->local) && xshim_endpoint_equal(&a->remote, &b->remote);
}

struct xshim_tuple xshim_tuple_mirror(const struct xshim_tuple *t)
{
	struct xshim_tuple m = { .local = t->remote, .remote = t->local };

	return m;
}

/* Each step is invertible in the word it takes in, so that two inputs of one word never collide. */
static uint64_t mix(uint64_t h, uint64_t word)
{
	h ^= word;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 29;
	h *= 0xa0761d6478bd642fu;
	h ^= h >> 32;
	return h;
}

static uint64_t mix_endpoint(uint64_t h, const struct xshim_endpoint *ep)
{
	uint64_t w[2];

	memcpy(w, ep->addr, sizeof(w));
	h = mix(h, w[0]);
	h = mix(h, w[1]);
	return mix(h, ep->port);
}

/* 0 and 1 mean empty and deleted in the map. */
static uint64_t usable(uint64_t h)
{
	return h > 1 ? h : h + 2;
}

uint64_t xshim_endpoint_hash(const struct xshim_endpoint *ep)
{
	return usable(mix_endpoint(0x656e64706f696e74u, ep));
}

uint64_t xshim_tuple_hash(const struct xshim_tuple *t)
{
	return usable(mix_endpoint(mix_endpoint(0x7475706c65u, &t->local), &t->remote));
}

static char *put_number(char *p, unsigned int value, unsigned int base)
{
	char digits[10];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		*p++ = digits[--n];
	return p;
}

static char *put_v4(char *p, const uint8_t *a)
{
	for (int i = 0; i < 4; i++) {
		if (i)
			*p++ = '.';
		p = put_number(p, a[i], 10);
	}
	return p;
}

/* As RFC 5952 wants it: lower case, the first longest run of two or more zero groups is "::". */
static char *put_v6(char *p, const uint8_t *a)
{
	unsigned int group[8];
	int best = -1, best_len = 1, run = 0;

	for (int i = 0; i < 8; i++) {
		group[i] = (unsigned int)a[2 * i] << 8 | a[2 * i + 1];
		run = group[i] ? 0 : run + 1;
		if (run > best_len) {
			best_len = run;
			best = i - run + 1;
		}
	}
	for (int i = 0; i < 8; i++) {
		if (i == best) {
			*p++ = ':';
			*p++ = ':';
			i += best_len - 1;
			continue;
		}
		if (i && p[-1] != ':')
			*p++ = ':';
		p = put_number(p, group[i], 16);
	}
	return p;
}

const char *xshim_endpoint_format(const struct xshim_endpoint *ep, char buf[XSHIM_ENDPOINT_STRLEN])
{
	char *p = buf;

	if (xshim_endpoint_is_v4(ep)) {
		p = put_v4(p, ep->addr + 12);
	} else {
		*p++ = '[';
		p = put_v6(p, ep->addr);
		*p++ = ']';
	}
	*p++ = ':';
	p = put_number(p, ep->port, 10);
	*p = '\0';
	return buf;
}

socklen_t xshim_endpoint_to_sockaddr(const struct xshim_endpoint *ep, int family, struct sockaddr_storage *ss)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(ep->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(ep->port) };

	memset(ss, 0, sizeof(*ss));
	switch (family) {
	case AF_INET:
		if (!xshim_endpoint_is_v4(ep))
			return 0;
		memcpy(&in.sin_addr, ep->addr + 12, 4);
		memcpy(ss, &in, sizeof(in));
		return sizeof(in);
	case AF_INET6:
		memcpy(&in6.sin6_addr, ep->addr, 16);
		memcpy(ss, &in6, sizeof(in6));
		return sizeof(in6);
	default:
		return 0;
	}
}
