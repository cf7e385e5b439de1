/* SPDX-License-Identifier: MIT */
/*
 * proto.c - the table of messages; make, check, send and receive one.
 */
#include <string.h>
#include <xshim/backend.h>
#include <xshim/proto.h>
#include "sys.h"

static const struct {
	const char *name;
	uint16_t size;
	uint8_t fds_min, fds_max;
} table[] = {
	[XSHIM_MSG_HELLO] = { "HELLO", sizeof(struct xshim_msg_hello), 0, 4 },
	[XSHIM_MSG_WELCOME] = { "WELCOME", sizeof(struct xshim_msg_welcome), 1, 1 },
	[XSHIM_MSG_REFUSED] = { "REFUSED", sizeof(struct xshim_msg_refused), 0, 0 },
	[XSHIM_MSG_PING] = { "PING", sizeof(struct xshim_msg_plain), 0, 0 },
	[XSHIM_MSG_PONG] = { "PONG", sizeof(struct xshim_msg_plain), 0, 0 },
	[XSHIM_MSG_ENDPOINT] = { "ENDPOINT", sizeof(struct xshim_msg_plain), 1, 1 },
	[XSHIM_MSG_OFFER] = { "OFFER", sizeof(struct xshim_msg_channel), 2, 5 },
	[XSHIM_MSG_CLAIM] = { "CLAIM", sizeof(struct xshim_msg_channel), 2, 5 },
	[XSHIM_MSG_WITHDRAW] = { "WITHDRAW", sizeof(struct xshim_msg_plain), 0, 0 },
	[XSHIM_MSG_MATCHED] = { "MATCHED", sizeof(struct xshim_msg_matched), 0, 3 },
	[XSHIM_MSG_DECLINED] = { "DECLINED", sizeof(struct xshim_msg_refused), 0, 0 },
	[XSHIM_MSG_PROBE_WANTED] = { "PROBE_WANTED", sizeof(struct xshim_msg_plain), 0, 0 },
	[XSHIM_MSG_PROBE] = { "PROBE", sizeof(struct xshim_msg_plain), 1, 1 },
	[XSHIM_MSG_REPORT_ASK] = { "REPORT_ASK", sizeof(struct xshim_msg_report_ask), 0, 0 },
	[XSHIM_MSG_REPORT] = { "REPORT", sizeof(struct xshim_msg_plain), 1, 1 },
	[XSHIM_MSG_LEAVE] = { "LEAVE", sizeof(struct xshim_msg_leave), 0, 0 },
	[XSHIM_MSG_FORSAKE] = { "FORSAKE", sizeof(struct xshim_msg_leave), 0, 0 },
	[XSHIM_MSG_LEFT] = { "LEFT", sizeof(struct xshim_msg_plain), 0, 0 },
	[XSHIM_MSG_DRAIN_ASK] = { "DRAIN_ASK", sizeof(struct xshim_msg_drain_ask), 0, 0 },
	[XSHIM_MSG_RESUME] = { "RESUME", sizeof(struct xshim_msg_resume), 1, 1 },
	[XSHIM_MSG_NUDGE] = { "NUDGE", sizeof(struct xshim_msg_leave), 0, 0 },
	[XSHIM_MSG_LOOK_WANTED] = { "LOOK_WANTED", sizeof(struct xshim_msg_plain), 0, 0 },
	[XSHIM_MSG_LOOK] = { "LOOK", sizeof(struct xshim_msg_plain), 1, 1 },
	[XSHIM_MSG_DRAINED] = { "DRAINED", sizeof(struct xshim_msg_drain_ask), 0, 0 },
};

#define TABLE_SIZE (sizeof(table) / sizeof(table[0]))

size_t xshim_msg_size(uint32_t type)
{
	return type < TABLE_SIZE ? table[type].size : 0;
}

const char *xshim_msg_name(uint32_t type)
{
	return type < TABLE_SIZE && table[type].name ? table[type].name : "unknown";
}

size_t xshim_msg_init(union xshim_msg *m, enum xshim_msg_type type, uint32_t id)
{
	size_t size = xshim_msg_size(type);

	memset(m, 0, sizeof(*m));
	m->h.magic = XSHIM_PROTO_MAGIC;
	m->h.version = XSHIM_PROTO_VERSION;
	m->h.type = (uint16_t)type;
	m->h.length = (uint32_t)size;
	m->h.id = id;
	return size;
}

static bool is_terminated(const char *s, size_t room)
{
	return memchr(s, '\0', room) != NULL;
}

/* The body, whose size is right. NULL, or the field that is wrong. */
static const char *check_body(const union xshim_msg *m, unsigned long long *value)
{
	*value = 0;
	switch (m->h.type) {
	case XSHIM_MSG_HELLO:
		if (!is_terminated(m->hello.comm, sizeof(m->hello.comm)))
			return "comm is not terminated";
		if (!is_terminated(m->hello.build, sizeof(m->hello.build)))
			return "build is not terminated";
		return NULL;
	case XSHIM_MSG_WELCOME:
		if (!is_terminated(m->welcome.build, sizeof(m->welcome.build)))
			return "build is not terminated";
		*value = m->welcome.reserved;
		return m->welcome.reserved ? "reserved is not zero" : NULL;
	case XSHIM_MSG_OFFER:
	case XSHIM_MSG_CLAIM:
		*value = m->channel.backend;
		if (m->channel.backend > XSHIM_BACKEND_XEN)
			return "backend is unknown";
		*value = m->channel.age_us;
		return m->h.type == XSHIM_MSG_OFFER && m->channel.age_us ? "age_us of an offer is not zero" : NULL;
	case XSHIM_MSG_RESUME:
		*value = m->resume.reserved;
		return m->resume.reserved ? "reserved is not zero" : NULL;
	case XSHIM_MSG_REPORT_ASK:
		*value = m->report_ask.reserved;
		return m->report_ask.reserved ? "reserved is not zero" : NULL;
	default:
		return NULL;
	}
}

/* Memory, bell and life are descriptors with shm, numbers in the message with xen. */
static bool fds_fit_backend(const union xshim_msg *m, unsigned int nfds)
{
	switch (m->h.type) {
	case XSHIM_MSG_OFFER:
	case XSHIM_MSG_CLAIM:
		return m->channel.backend == XSHIM_BACKEND_XEN ? nfds == 2 : nfds >= 4;
	case XSHIM_MSG_MATCHED:
		return nfds == (m->matched.backend == XSHIM_BACKEND_XEN ? 0 : 3);
	default:
		return true;
	}
}

static int wrong(const char **why, unsigned long long *value, const char *field, unsigned long long v, int rc)
{
	*why = field;
	*value = v;
	return rc;
}

int xshim_msg_check(const union xshim_msg *m, size_t len, unsigned int nfds, const char **why,
		    unsigned long long *value)
{
	const char *field;

	if (len < sizeof(m->h))
		return wrong(why, value, "packet is shorter than a header", len, -EPROTO);
	if (m->h.magic != XSHIM_PROTO_MAGIC)
		return wrong(why, value, "magic", m->h.magic, -EPROTO);
	if (m->h.length != len)
		return wrong(why, value, "length is not that of the packet", m->h.length, -EPROTO);
	/* Before anything that another version may have changed. */
	if (m->h.version != XSHIM_PROTO_VERSION)
		return wrong(why, value, "version", m->h.version, -EPROTONOSUPPORT);
	if (!xshim_msg_size(m->h.type))
		return wrong(why, value, "type", m->h.type, -EPROTO);
	if (len != xshim_msg_size(m->h.type))
		return wrong(why, value, "length is not that of the type", len, -EPROTO);
	if (nfds < table[m->h.type].fds_min || nfds > table[m->h.type].fds_max)
		return wrong(why, value, "number of descriptors", nfds, -EPROTO);
	if (!fds_fit_backend(m, nfds))
		return wrong(why, value, "number of descriptors", nfds, -EPROTO);
	field = check_body(m, value);
	if (field) {
		*why = field;
		return -EPROTO;
	}
	return 0;
}

/* Room for as many descriptors as a message may have, aligned for the header in front of them. */
union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(XSHIM_PROTO_MAX_FDS * sizeof(int))];
};

int xshim_msg_send(int sock, const union xshim_msg *m, const int *fds, unsigned int nfds)
{
	struct iovec iov = { (void *)(uintptr_t)m, m->h.length };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control;
	ssize_t n;

	if (nfds > XSHIM_PROTO_MAX_FDS || m->h.length > sizeof(*m))
		return -EINVAL;
	if (nfds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do
		n = sys_sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n == -EINTR);
	return n < 0 ? (int)n : 0;
}

/* Take the descriptors out of the control data; those beyond the room are closed. */
static unsigned int collect_fds(struct msghdr *mh, int *fds)
{
	unsigned int nfds = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (nfds < XSHIM_PROTO_MAX_FDS)
				fds[nfds++] = fd;
			else
				sys_close(fd);
		}
	}
	return nfds;
}

ssize_t xshim_msg_recv(int sock, union xshim_msg *m, int *fds, unsigned int *nfds)
{
	struct iovec iov = { m, sizeof(*m) };
	union control control;
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		/* the size of the room is rounded up, and one too many would fit and be dropped in silence */
		.msg_controllen = CMSG_LEN(XSHIM_PROTO_MAX_FDS * sizeof(int)),
	};
	ssize_t n;

	*nfds = 0;
	memset(m, 0, sizeof(*m));
	do
		n = sys_recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	if (n < 0)
		return n;
	*nfds = collect_fds(&mh, fds);
	if (n > 0 && !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return n;
	/* The end, an empty packet (which cannot be told from it), or one that was cut. */
	return n > 0 || mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EMSGSIZE : 0;
}
