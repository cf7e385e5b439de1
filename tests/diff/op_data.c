/* SPDX-License-Identifier: MIT */
/*
 * op_data.c - the send and receive families.
 *
 *   send|write|sendto|writev|sendmsg|pwritev2|sendmmsg LENGTHS [FLAGS] [on NAME]
 *   recv|read|recvfrom|readv|recvmsg|preadv2|recvmmsg LENGTHS [FLAGS] [on NAME]
 *   recvmmsg LENGTHS for MS                     another time limit than 1 s
 *   sendto LENGTHS [FLAGS] to  to the listener's address
 *   each with `limit MS`                        a time limit of the socket: says so if it ran out too soon or too late
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "player.h"

#define LARGE 32768	/* how much of more than that a call moves is the kernel's affair */

struct call {
	const char *what, *on;
	struct payload p;
	int fd, conn, flags;
	long ms, limit;
	bool addressed;
};

static void call_read(struct call *c, int argc, char **argv)
{
	const char *flags = "0";

	if (argc < 2)
		die("%s: no length", argv[0]);
	c->what = argv[0];
	c->on = "s";
	c->ms = 1000;
	c->limit = 0;
	c->addressed = false;
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "on") && i + 1 < argc)
			c->on = argv[++i];
		else if (!strcmp(argv[i], "for") && i + 1 < argc)
			c->ms = atol(argv[++i]);
		else if (!strcmp(argv[i], "limit") && i + 1 < argc)
			c->limit = atol(argv[++i]);
		else if (!strcmp(argv[i], "to"))
			c->addressed = true;
		else
			flags = argv[i];
	}
	c->fd = fd_of(c->on);
	c->conn = conn_of(c->on);
	c->flags = (int)bits_from(MESSAGE_FLAGS, flags);
	payload_make(&c->p, argv[1]);
}

static bool is(const struct call *c, const char *what)
{
	return !strcmp(c->what, what);
}

/* The first of the payload, for calls that take one buffer. */
static struct iovec one(const struct call *c)
{
	return c->p.n ? c->p.v[0] : (struct iovec){ NULL, 0 };
}

static void put_amount(const struct call *c, ssize_t rc, bool exact)
{
	if (rc > 0 && !exact && c->p.total > LARGE) {
		put("some");
		return;
	}
	put_result(rc);
}

static void put_limit(const struct call *c, ssize_t rc, int64_t since)
{
	if (c->limit && rc < 0)
		put_time(since, c->limit);
}

static ssize_t send_messages(struct call *c)
{
	struct mmsghdr *m = calloc((size_t)c->p.n + 1, sizeof(*m));
	ssize_t sum = 0;
	int rc, err;

	for (int i = 0; i < c->p.n; i++)
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &c->p.v[i], .msg_iovlen = 1 };
	before_call();
	rc = sendmmsg(c->fd, m, (unsigned int)c->p.n, c->flags);
	err = errno;
	for (int i = 0; i < rc; i++)
		sum += m[i].msg_len;
	errno = err;
	put_result(rc);
	for (int i = 0; i < rc; i++)
		if (m[i].msg_len < m[i].msg_hdr.msg_iov->iov_len && m[i].msg_hdr.msg_iov->iov_len > LARGE)
			put(" [some]");
		else
			put(" [%u]", m[i].msg_len);
	free(m);
	return sum;
}

static void op_send(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)me.port) };
	bool nonblock, large;
	int64_t since = now_ms();
	struct call c;
	ssize_t rc;

	call_read(&c, argc, argv);
	payload_fill(&c.p, c.conn, me.shared->conn[c.conn].sent[me.side]);
	if (is(&c, "sendmmsg")) {
		rc = send_messages(&c);
		goto out;
	}
	large = c.p.total > LARGE;
	inet_pton(AF_INET, me.address[1], &to.sin_addr);
	nonblock = (c.flags & MSG_DONTWAIT) || (large && (fcntl(c.fd, F_GETFL) & O_NONBLOCK));
	before_call();
	if (is(&c, "send"))
		rc = send(c.fd, one(&c).iov_base, one(&c).iov_len, c.flags);
	else if (is(&c, "write"))
		rc = write(c.fd, one(&c).iov_base, one(&c).iov_len);
	else if (is(&c, "sendto"))
		rc = sendto(c.fd, one(&c).iov_base, one(&c).iov_len, c.flags, c.addressed ? (struct sockaddr *)&to : NULL,
			    c.addressed ? sizeof(to) : 0);
	else if (is(&c, "writev"))
		rc = writev(c.fd, c.p.v, c.p.n);
	else if (is(&c, "pwritev2"))
		rc = pwritev2(c.fd, c.p.v, c.p.n, -1, c.flags & MSG_DONTWAIT ? RWF_NOWAIT : 0);
	else
		rc = sendmsg(c.fd, &(struct msghdr){ .msg_iov = c.p.v, .msg_iovlen = (size_t)c.p.n }, c.flags);
	/* so is how much a signal or a time limit lets a blocking one move */
	put_amount(&c, rc, !large || (!nonblock && rc == (ssize_t)c.p.total));
out:
	if (rc > 0) {
		me.shared->conn[c.conn].sent[me.side] += (uint64_t)rc;
		me.shared->conn[c.conn].urgent[me.side] += (c.flags & MSG_OOB) != 0;
	}
	put_limit(&c, rc, since);
	payload_free(&c.p);
}

static void put_address(const struct sockaddr_in *sin, socklen_t len)
{
	put(" address-length=%u", (unsigned int)len);
	if (len && sin->sin_family != 0xeeee)
		put(" family=%d", sin->sin_family);
}

/* What TCP_INQ tells. */
static void put_inq(const struct msghdr *m)
{
	struct cmsghdr head;
	int n;

	if (m->msg_controllen < CMSG_LEN(sizeof(n)))
		return;
	memcpy(&head, m->msg_control, sizeof(head));
	memcpy(&n, (char *)m->msg_control + CMSG_LEN(0), sizeof(n));
	if (head.cmsg_level == IPPROTO_TCP && head.cmsg_type == TCP_CM_INQ)
		put(" inq=%d", n);
}

/* recvmsg and recvmmsg: everything the kernel may write. */
static ssize_t receive_messages(struct call *c, bool many)
{
	struct mmsghdr *m = calloc((size_t)c->p.n + 1, sizeof(*m));
	struct timespec ts = { .tv_sec = c->ms / 1000, .tv_nsec = c->ms % 1000 * 1000000 };
	struct sockaddr_in from;
	char control[64], flags[80];
	ssize_t rc, sum = 0;
	int err, n;

	if (many)
		for (int i = 0; i < c->p.n; i++)
			m[i].msg_hdr = (struct msghdr){ .msg_iov = &c->p.v[i], .msg_iovlen = 1 };
	else
		m[0].msg_hdr = (struct msghdr){ .msg_iov = c->p.v, .msg_iovlen = (size_t)c->p.n, .msg_name = &from,
						.msg_namelen = sizeof(from), .msg_control = control,
						.msg_controllen = sizeof(control) };
	before_call();
	rc = many ? recvmmsg(c->fd, m, (unsigned int)c->p.n, c->flags, c->flags & MSG_DONTWAIT ? NULL : &ts) :
		    recvmsg(c->fd, &m[0].msg_hdr, c->flags);
	err = errno;
	n = many ? (int)rc : rc >= 0;
	errno = err;
	if (!many)
		put_amount(c, rc, false);
	else
		put_result(rc);
	for (int i = 0; i < n; i++) {
		bits_to(MESSAGE_FLAGS, (unsigned int)m[i].msg_hdr.msg_flags, flags, sizeof(flags));
		if (many) {
			struct payload part = { .v = &c->p.v[i], .n = 1 };

			put(" [%u]", m[i].msg_len);
			if (m[i].msg_len)
				payload_check(&part, c->conn, me.shared->conn[c->conn].got[me.side] + (uint64_t)sum,
					      m[i].msg_len, c->flags & MSG_TRUNC);
		}
		put(" flags=%s", flags);
		if (!many)
			put(" address-length=%u control=%zu", m[i].msg_hdr.msg_namelen, m[i].msg_hdr.msg_controllen);
		if (!many)
			put_inq(&m[i].msg_hdr);
		sum += many ? (ssize_t)m[i].msg_len : rc;
	}
	free(m);
	return rc < 0 ? rc : sum;
}

/* Where a peek begins, behind what is next to be read (SO_PEEK_OFF). */
static uint64_t peeked_from(int fd)
{
	socklen_t len = sizeof(int);
	int off = 0;

	return getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, &len) == 0 && off > 0 ? (uint64_t)off : 0;
}

static void op_receive(int argc, char **argv)
{
	struct sockaddr_in from = { .sin_family = 0xeeee };
	socklen_t len = sizeof(from);
	int64_t since = now_ms();
	struct call c;
	uint64_t at;
	ssize_t rc;

	call_read(&c, argc, argv);
	payload_clear(&c.p);
	at = me.shared->conn[c.conn].got[me.side];
	if (c.flags & MSG_PEEK)
		at += peeked_from(c.fd);
	if (is(&c, "recvmsg") || is(&c, "recvmmsg")) {
		rc = receive_messages(&c, is(&c, "recvmmsg"));
		goto check;
	}
	before_call();
	if (is(&c, "recv"))
		rc = recv(c.fd, one(&c).iov_base, one(&c).iov_len, c.flags);
	else if (is(&c, "read"))
		rc = read(c.fd, one(&c).iov_base, one(&c).iov_len);
	else if (is(&c, "recvfrom"))
		rc = recvfrom(c.fd, one(&c).iov_base, one(&c).iov_len, c.flags, (struct sockaddr *)&from, &len);
	else if (is(&c, "readv"))
		rc = readv(c.fd, c.p.v, c.p.n);
	else
		rc = preadv2(c.fd, c.p.v, c.p.n, -1, c.flags & MSG_DONTWAIT ? RWF_NOWAIT : 0);
	put_amount(&c, rc, c.flags & MSG_WAITALL);
	if (is(&c, "recvfrom"))
		put_address(&from, len);
check:
	if (is(&c, "recvmmsg"))
		;	/* each message was checked by itself */
	else if (rc > 0 && (c.flags & MSG_OOB))
		put(" byte %02x", *(uint8_t *)one(&c).iov_base);
	else if (rc > 0)
		payload_check(&c.p, c.conn, at, (size_t)rc, c.flags & MSG_TRUNC);
	if (rc > 0 && !(c.flags & (MSG_OOB | MSG_PEEK)))
		me.shared->conn[c.conn].got[me.side] += (uint64_t)rc;
	put_limit(&c, rc, since);
	payload_free(&c.p);
}

/* One byte, with a control message that has a descriptor in it. type -1: one that is shorter than its own head. */
static ssize_t send_with(int fd, struct iovec *v, int level, int type)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} u = { .head = { .cmsg_len = type < 0 ? 3 : CMSG_LEN(sizeof(int)), .cmsg_level = level, .cmsg_type = type } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u) };

	return sendmsg(fd, &m, MSG_DONTWAIT);
}

/* "a send 1 to bad": calls with a bad header or address */
static void op_bad(int argc, char **argv)
{
	char byte[16] = { 0 }, room[200] = { 0 };
	struct iovec v = { byte, 1 };
	void *volatile hidden = (void *)64;	/* the compiler knows what cannot be read */
	void *nowhere = hidden;
	volatile int negative = -1;
	struct msghdr m = { .msg_iov = nowhere, .msg_iovlen = 1 }, many = { .msg_iov = &v, .msg_iovlen = 5000 };
	int fd = fd_of(argc > 2 ? argv[2] : "s");
	const char *what = argv[1];
	ssize_t rc;

	before_call();
	if (!strcmp(what, "sendmsg-null"))
		rc = sendmsg(fd, NULL, MSG_DONTWAIT);
	else if (!strcmp(what, "recvmsg-null"))
		rc = recvmsg(fd, NULL, MSG_DONTWAIT);
	else if (!strcmp(what, "sendmsg-iov"))
		rc = sendmsg(fd, &m, MSG_DONTWAIT);
	else if (!strcmp(what, "recvmsg-iov"))
		rc = recvmsg(fd, &m, MSG_DONTWAIT);
	else if (!strcmp(what, "sendmsg-many"))
		rc = sendmsg(fd, &many, MSG_DONTWAIT);
	else if (!strcmp(what, "recvmsg-many"))
		rc = recvmsg(fd, &many, MSG_DONTWAIT);
	else if (!strcmp(what, "readv-iov"))
		rc = readv(fd, nowhere, 1);
	else if (!strcmp(what, "writev-iov"))
		rc = writev(fd, nowhere, 1);
	else if (!strcmp(what, "readv-negative"))
		rc = readv(fd, &v, negative);
	else if (!strcmp(what, "writev-negative"))
		rc = writev(fd, &v, negative);
	else if (!strcmp(what, "writev-negative-length"))
		rc = writev(fd, &(struct iovec){ byte, (size_t)SSIZE_MAX + 1 }, 1);
	else if (!strcmp(what, "readv-negative-length"))
		rc = readv(fd, &(struct iovec){ byte, (size_t)SSIZE_MAX + 1 }, 1);
	else if (!strcmp(what, "writev-sum"))
		rc = writev(fd, (struct iovec[2]){ { byte, (size_t)SSIZE_MAX }, { byte, (size_t)SSIZE_MAX } }, 2);
	else if (!strcmp(what, "poll"))
		rc = poll(nowhere, 1, 0);
	else if (!strcmp(what, "pread"))
		rc = pread(fd, byte, 1, 0);
	else if (!strcmp(what, "pwrite"))
		rc = pwrite(fd, byte, 1, 0);
	else if (!strcmp(what, "preadv2-offset"))
		rc = preadv2(fd, &v, 1, 0, 0);
	else if (!strcmp(what, "preadv2-flags"))
		rc = preadv2(fd, &v, 1, -1, 0x40000000);
	else if (!strcmp(what, "pwritev2-flags"))
		rc = pwritev2(fd, &v, 1, -1, 0x40000000);
	else if (!strcmp(what, "lseek"))
		rc = lseek(fd, 0, SEEK_CUR);
	else if (!strcmp(what, "sendmmsg"))
		rc = sendmmsg(fd, nowhere, 1, MSG_DONTWAIT);
	else if (!strcmp(what, "recvmmsg"))
		rc = recvmmsg(fd, nowhere, 1, MSG_DONTWAIT, NULL);
	else if (!strcmp(what, "recvfrom-length"))
		rc = recvfrom(fd, byte, 1, MSG_DONTWAIT, (struct sockaddr *)byte, nowhere);
	else if (!strcmp(what, "sendto-address"))
		rc = sendto(fd, byte, 0, MSG_DONTWAIT, nowhere, sizeof(struct sockaddr_in));
	else if (!strcmp(what, "sendto-long-address"))
		rc = sendto(fd, byte, 1, MSG_DONTWAIT, (struct sockaddr *)room, sizeof(room));
	else if (!strcmp(what, "recvfrom-negative-length"))
		rc = recvfrom(fd, byte, 1, MSG_DONTWAIT, (struct sockaddr *)room, &(socklen_t){ (socklen_t)negative });
	else if (!strcmp(what, "recvmsg-negative-name"))
		rc = recvmsg(fd, &(struct msghdr){ .msg_iov = &v, .msg_iovlen = 1, .msg_name = room,
						   .msg_namelen = (socklen_t)negative }, MSG_DONTWAIT);
	else if (!strcmp(what, "sendmsg-control"))	/* nothing that a socket knows */
		rc = send_with(fd, &v, SOL_SOCKET, 0x1234);
	else if (!strcmp(what, "sendmsg-control-length"))
		rc = send_with(fd, &v, SOL_SOCKET, -1);
	else if (!strcmp(what, "sendmsg-rights"))	/* over TCP nobody gets them */
		rc = send_with(fd, &v, SOL_SOCKET, SCM_RIGHTS);
	else if (!strcmp(what, "sendmsg-control-of-others"))
		rc = send_with(fd, &v, IPPROTO_IP, 0x1234);
	else
		die("bad %s: unknown", what);
	put_result(rc);
}

const struct op data_ops[] = {
	{ "send", op_send }, { "write", op_send }, { "sendto", op_send }, { "writev", op_send },
	{ "sendmsg", op_send }, { "pwritev2", op_send }, { "sendmmsg", op_send },
	{ "recv", op_receive }, { "read", op_receive }, { "recvfrom", op_receive }, { "readv", op_receive },
	{ "recvmsg", op_receive }, { "preadv2", op_receive }, { "recvmmsg", op_receive },
	{ "bad", op_bad }, { NULL, NULL },
};
