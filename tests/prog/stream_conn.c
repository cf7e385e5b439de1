/* SPDX-License-Identifier: MIT */
/* stream_conn.c - one connection of "stream": what to send, what to expect, and by which call. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "stream.h"

#define GOLDEN 0x9e3779b97f4a7c15ull
#define MAX_IOV 6
#define SEARCH (16ull << 20)	/* how far around a wrong byte its origin is looked for */

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t rng_next(struct rng *r)
{
	r->state += GOLDEN;
	return mix(r->state);
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

size_t rng_size(struct rng *r, size_t max)
{
	unsigned int bits = 0;
	size_t n;

	while (bits < 63 && ((size_t)1 << bits) < max)
		bits++;
	n = 1 + (size_t)(rng_next(r) & (((uint64_t)1 << rng_below(r, bits + 1)) - 1));
	return n < max ? n : max;
}

/* The eight bytes at offsets 8 * word to 8 * word + 7 of a stream. */
static uint64_t stream_word(uint64_t key, uint64_t word)
{
	return mix(key + GOLDEN * (word + 1));
}

static uint8_t stream_byte(uint64_t key, uint64_t off)
{
	return (uint8_t)(stream_word(key, off / 8) >> (8 * (off % 8)));
}

static void stream_fill(uint64_t key, uint64_t off, uint8_t *buf, size_t len)
{
	while (len && off % 8) {
		*buf++ = stream_byte(key, off++);
		len--;
	}
	for (; len >= 8; len -= 8, off += 8, buf += 8) {
		uint64_t w = stream_word(key, off / 8);

		memcpy(buf, &w, 8);
	}
	while (len--)
		*buf++ = stream_byte(key, off++);
}

/* Index of the first wrong byte, or len. */
static size_t stream_compare(uint64_t key, uint64_t off, const uint8_t *buf, size_t len)
{
	size_t i = 0;

	while (i < len) {
		if ((off + i) % 8 == 0 && len - i >= 8) {
			uint64_t w = stream_word(key, (off + i) / 8), got;

			memcpy(&got, buf + i, 8);
			if (w == got) {
				i += 8;
				continue;
			}
		}
		if (buf[i] != stream_byte(key, off + i))
			return i;
		i++;
	}
	return len;
}

_Noreturn void conn_fail(const struct conn *c, const char *what, int err)
{
	fprintf(stderr, "stream %s: connection %u (seed 0x%llx, sent %llu, received %llu of %llu): %s%s%s\n",
		c->role, c->index, (unsigned long long)c->seed, (unsigned long long)c->tx,
		(unsigned long long)c->rx, (unsigned long long)c->bytes, what, err ? ": " : "",
		err ? strerror(err) : "");
	exit(1);
}

/* Say where the wrong bytes come from: that tells loss from doubling from foreign data. */
static _Noreturn void report_wrong(const struct conn *c, uint64_t off, const uint8_t *buf, size_t len)
{
	size_t probe = len < 16 ? len : 16;
	uint64_t from = off > SEARCH ? off - SEARCH : 0, to = off + SEARCH, o;
	char text[200];

	fprintf(stderr, "stream %s: connection %u: byte %llu is 0x%02x, must be 0x%02x\n", c->role, c->index,
		(unsigned long long)off, buf[0], stream_byte(c->rx_key, off));
	for (o = from; probe >= 8 && o < to; o++) {
		if (stream_compare(c->rx_key, o, buf, probe) == probe) {
			snprintf(text, sizeof(text), "the bytes there are those of offset %llu: %llu bytes %s",
				 (unsigned long long)o,
				 (unsigned long long)(o > off ? o - off : off - o),
				 o > off ? "lost" : "doubled");
			conn_fail(c, text, 0);
		}
	}
	conn_fail(c, "the bytes there are not of this stream nearby", 0);
}

static void check_received(struct conn *c, uint64_t off, const uint8_t *buf, size_t len)
{
	size_t bad = stream_compare(c->rx_key, off, buf, len);

	if (bad < len)
		report_wrong(c, off + bad, buf + bad, len - bad);
	if (off + len > c->bytes)
		conn_fail(c, "more bytes came than were sent", 0);
}

void conn_open(struct conn *c, int fd, const struct hello *h, bool is_server, bool nonblocking)
{
	uint64_t base = mix(h->seed ^ mix(h->index + 1));
	uint64_t to_server = mix(base + 1), to_client = mix(base + 2);

	memset(c, 0, sizeof(*c));
	c->fd = fd;
	c->role = is_server ? "server" : "client";
	c->index = h->index;
	c->seed = h->seed;
	c->bytes = h->bytes;
	c->max_message = h->max_message;
	c->nonblocking = nonblocking;
	c->tx_key = is_server ? to_client : to_server;
	c->rx_key = is_server ? to_server : to_client;
	c->tx_rng.state = mix(c->tx_key + 3);
	c->rx_rng.state = mix(c->rx_key + 4);
	c->rx_cap = h->max_message;
	c->tx_buf = malloc(h->max_message);
	c->rx_buf = malloc(h->max_message);
	if (!c->tx_buf || !c->rx_buf)
		conn_fail(c, "no memory", ENOMEM);
}

void conn_free(struct conn *c)
{
	free(c->tx_buf);
	free(c->rx_buf);
	c->tx_buf = c->rx_buf = NULL;
}

/* Cut buf into a random number of pieces, empty ones among them. */
static int cut(struct rng *r, struct iovec *iov, uint8_t *buf, size_t len)
{
	int n = 1 + (int)rng_below(r, MAX_IOV), i;

	for (i = 0; i < n - 1; i++) {
		size_t part = rng_below(r, 4) ? (size_t)rng_below(r, len + 1) : 0;

		iov[i].iov_base = buf;
		iov[i].iov_len = part;
		buf += part;
		len -= part;
	}
	iov[i].iov_base = buf;
	iov[i].iov_len = len;
	return n;
}

static ssize_t send_by_some_call(struct conn *c, uint8_t *buf, size_t len, bool more_follows)
{
	struct iovec iov[MAX_IOV];
	struct msghdr m = { .msg_iov = iov };
	int flags = MSG_NOSIGNAL;

	if (more_follows && !rng_below(&c->tx_rng, 32))
		flags |= MSG_MORE;
	if (c->nonblocking && rng_below(&c->tx_rng, 2))
		flags |= MSG_DONTWAIT;
	switch (rng_below(&c->tx_rng, 5)) {
	case 0:
		return write(c->fd, buf, len);
	case 1:
		return writev(c->fd, iov, cut(&c->tx_rng, iov, buf, len));
	case 2:
		m.msg_iovlen = (size_t)cut(&c->tx_rng, iov, buf, len);
		return sendmsg(c->fd, &m, flags);
	case 3:
		return sendto(c->fd, buf, len, flags, NULL, 0);
	default:
		return send(c->fd, buf, len, flags);
	}
}

static void next_message(struct conn *c)
{
	uint64_t left = c->bytes - c->tx;

	c->message = rng_size(&c->tx_rng, c->max_message);
	if (c->message > left)
		c->message = (size_t)left;
	c->message_done = 0;
	stream_fill(c->tx_key, c->tx, c->tx_buf, c->message);
}

/* One call within the present message. The count, or 0 for EAGAIN. */
static size_t send_once(struct conn *c)
{
	size_t left = c->message - c->message_done, len = left;
	ssize_t n;

	if (len > 1 && !rng_below(&c->tx_rng, 4))
		len = 1 + (size_t)rng_below(&c->tx_rng, len - 1);
	do {
		n = send_by_some_call(c, c->tx_buf + c->message_done, len, len < left);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN && c->nonblocking)
		return 0;
	if (n < 0)
		conn_fail(c, "send", errno);
	if (n == 0 || (size_t)n > len)
		conn_fail(c, "a send call returned an impossible count", 0);
	c->message_done += (size_t)n;
	c->tx += (uint64_t)n;
	return (size_t)n;
}

static void half_close(struct conn *c)
{
	if (shutdown(c->fd, SHUT_WR) < 0)
		conn_fail(c, "shutdown(SHUT_WR)", errno);
	c->tx_shut = true;
}

bool conn_send_some(struct conn *c)
{
	if (c->tx == c->bytes) {
		half_close(c);
		return true;
	}
	if (c->message_done == c->message)
		next_message(c);
	if (!send_once(c))
		return false;
	if (c->tx == c->bytes)
		half_close(c);
	return true;
}

void conn_send_all(struct conn *c, uint64_t n)
{
	while (n) {
		c->message = n < c->max_message ? (size_t)n : c->max_message;
		c->message_done = 0;
		stream_fill(c->tx_key, c->tx, c->tx_buf, c->message);
		n -= c->message;
		while (c->message_done < c->message)
			send_once(c);
	}
}

static ssize_t recv_by_some_call(struct conn *c, size_t len, int flags)
{
	struct iovec iov[MAX_IOV];
	struct msghdr m = { .msg_iov = iov };

	if (c->nonblocking && rng_below(&c->rx_rng, 2))
		flags |= MSG_DONTWAIT;
	switch (rng_below(&c->rx_rng, flags & ~MSG_DONTWAIT ? 3 : 5)) {
	case 0:
		return recv(c->fd, c->rx_buf, len, flags);
	case 1:
		m.msg_iovlen = (size_t)cut(&c->rx_rng, iov, c->rx_buf, len);
		return recvmsg(c->fd, &m, flags);
	case 2:
		return recvfrom(c->fd, c->rx_buf, len, flags, NULL, NULL);
	case 3:
		return readv(c->fd, iov, cut(&c->rx_rng, iov, c->rx_buf, len));
	default:
		return read(c->fd, c->rx_buf, len);
	}
}

static void at_eof(struct conn *c)
{
	if (c->rx != c->bytes)
		conn_fail(c, "the stream ended early", 0);
	c->rx_eof = true;
}

/* MSG_TRUNC on TCP throws bytes away and does not touch the buffer. */
static ssize_t discard_some(struct conn *c)
{
	uint8_t before[64], buf[64];
	size_t len = rng_size(&c->rx_rng, c->rx_cap < sizeof(buf) ? c->rx_cap : sizeof(buf));
	ssize_t n;

	memset(buf, 0x5a, sizeof(buf));
	memcpy(before, buf, sizeof(buf));
	n = recv(c->fd, buf, len, MSG_TRUNC);
	if (n > (ssize_t)len)
		conn_fail(c, "recv(MSG_TRUNC) returned more than was asked for", 0);
	if (memcmp(before, buf, sizeof(buf)))
		conn_fail(c, "recv(MSG_TRUNC) wrote into the buffer", 0);
	return n;
}

bool conn_recv_some(struct conn *c)
{
	uint64_t dice = rng_below(&c->rx_rng, 64);
	size_t len = rng_size(&c->rx_rng, c->rx_cap);
	int flags = 0;
	ssize_t n;

	if (dice < 4)
		flags = MSG_PEEK;
	else if (dice < 8 && !c->nonblocking)
		flags = MSG_WAITALL;
	do {
		n = dice == 9 ? discard_some(c) : recv_by_some_call(c, len, flags);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN && c->nonblocking)
		return false;
	if (n < 0)
		conn_fail(c, "receive", errno);
	if (n == 0) {
		at_eof(c);
		return true;
	}
	if (dice == 9) {
		c->rx += (uint64_t)n;
		if (c->rx > c->bytes)
			conn_fail(c, "more bytes came than were sent", 0);
		return true;
	}
	if ((size_t)n > len)
		conn_fail(c, "a receive call returned more than was asked for", 0);
	check_received(c, c->rx, c->rx_buf, (size_t)n);
	if (flags == MSG_PEEK)
		return true;
	c->rx += (uint64_t)n;
	if (flags == MSG_WAITALL && (size_t)n < len && c->rx != c->bytes)
		conn_fail(c, "recv(MSG_WAITALL) returned early", 0);
	return true;
}

void conn_recv_all(struct conn *c, uint64_t n)
{
	uint64_t end = c->rx + n;
	size_t cap = c->rx_cap;

	while (c->rx < end) {
		if (end - c->rx < cap)
			c->rx_cap = (size_t)(end - c->rx);
		conn_recv_some(c);
		c->rx_cap = cap;
		if (c->rx_eof)
			conn_fail(c, "the stream ended within a message", 0);
	}
}
