/* SPDX-License-Identifier: MIT */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <xshim/reason.h>
#include <xshim/region.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef HUGETLBFS_MAGIC
#define HUGETLBFS_MAGIC 0x958458f6
#endif

#define MEMORY_MAX (64u << 20)	/* an arena, the greatest region, and some */
#define REGION_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

__attribute__((format(printf, 5, 6)))
static enum xshimd_answer say(struct xshimd_verdict *v, enum xshimd_answer answer, uint32_t reason,
			      const char *cause, const char *fmt, ...)
{
	va_list ap;

	v->answer = answer;
	v->reason = reason;
	v->ordinary = false;
	v->cause = cause;
	va_start(ap, fmt);
	vsnprintf(v->text, sizeof(v->text), fmt, ap);
	va_end(ap);
	return answer;
}

static const char *tcp_state_name(unsigned int state)
{
	static const char *const names[] = {
		"0", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT",
		"CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static int get_int(int fd, int level, int name, int *out)
{
	socklen_t len = sizeof(*out);

	*out = 0;
	return getsockopt(fd, level, name, out, &len) < 0 ? -errno : 0;
}

static int get_u64(int fd, int name, uint64_t *out)
{
	socklen_t len = sizeof(*out);

	*out = 0;
	if (getsockopt(fd, SOL_SOCKET, name, out, &len) < 0)
		return -errno;
	return len == sizeof(*out) ? 0 : -EINVAL;
}

static bool is_timer(int fd)
{
	struct itimerspec left;

	return timerfd_gettime(fd, &left) == 0;
}

/* Of what is no socket. A pipe by its name: any question to it waits for its lock, which whoever writes to it can hold for ever. */
static const char *file_kind(int fd)
{
	char path[40], name[5];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, name, sizeof(name)) == sizeof(name) && !memcmp(name, "pipe:", sizeof(name)))
		return "a pipe";
	if (fcntl(fd, F_GET_SEALS) >= 0)
		return "memory";
	return is_timer(fd) ? "a timer" : "a file";
}

bool xshimd_verify_closes_at_once(int fd)
{
	int domain, type, proto, seals;
	struct stat st;

	if (get_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) == 0) {
		if (domain == AF_UNIX)
			return true;
		return (domain == AF_INET || domain == AF_INET6) && get_int(fd, SOL_SOCKET, SO_TYPE, &type) == 0 &&
		       get_int(fd, SOL_SOCKET, SO_PROTOCOL, &proto) == 0 &&
		       ((type == SOCK_STREAM && (proto == IPPROTO_TCP || proto == IPPROTO_MPTCP)) ||
			(type == SOCK_DGRAM && proto == IPPROTO_UDP));
	}
	/* The last close of memory frees it, which takes as long as there is much of it. Pages of hugetlbfs are no more per byte. */
	seals = fcntl(fd, F_GET_SEALS);
	if (seals >= 0)
		return seals & F_SEAL_GROW && fstat(fd, &st) == 0 && st.st_size >= 0 && (size_t)st.st_size <= MEMORY_MAX;
	return is_timer(fd);
}

/* Family, type and protocol: the part that is the same for connected and for probe sockets. */
enum xshimd_answer xshimd_verify_kind(int fd, unsigned int n, struct xshimd_verdict *v)
{
	int domain, type, proto;

	if (get_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) < 0)
		return say(v, XSHIMD_BAD, 0, "tcp-kind", "fd %u: %s: not a TCP socket", n, file_kind(fd));
	if (get_int(fd, SOL_SOCKET, SO_TYPE, &type) < 0 || get_int(fd, SOL_SOCKET, SO_PROTOCOL, &proto) < 0)
		return say(v, XSHIMD_BAD, 0, "tcp-kind", "fd %u: a socket without type: not TCP", n);
	if ((domain == AF_INET || domain == AF_INET6) && type == SOCK_STREAM) {
		if (proto == IPPROTO_MPTCP)
			return say(v, XSHIMD_NO, XSHIM_R_MPTCP, "mptcp", "fd %u: a Multipath TCP socket", n);
		if (proto == IPPROTO_TCP)
			return XSHIMD_OK;
	}
	return say(v, XSHIMD_BAD, 0, "tcp-kind", "fd %u: socket of family %d, type %d, protocol %d: not a TCP socket",
		   n, domain, type, proto);
}

static enum xshimd_answer check_rest(int fd, unsigned int n, uid_t uid, struct xshimd_verdict *v)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp) - 1;
	struct stat st;

	if (fstat(fd, &st) < 0 || (uid != 0 && st.st_uid != uid))
		return say(v, XSHIMD_NO, XSHIM_R_NOT_OWNER, "not-owner", "fd %u: socket of uid %u, not of the caller",
			   n, (unsigned int)st.st_uid);
	if (getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) == 0 && len > 0 && ulp[0]) {
		say(v, XSHIMD_NO, XSHIM_R_ULP, "ulp", "fd %u: has the upper layer protocol %s", n, ulp);
		v->ordinary = true;
		return XSHIMD_NO;
	}
	return XSHIMD_OK;
}

static enum xshimd_answer check_state(int fd, unsigned int n, struct xshimd_verdict *v)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return say(v, XSHIMD_BAD, 0, "tcp-kind", "fd %u: no TCP_INFO: %s", n, strerror(errno));
	/* half-closed either way will do: the other direction is worth a ring, too */
	if (info.tcpi_state == TCP_ESTABLISHED || info.tcpi_state == TCP_CLOSE_WAIT ||
	    info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_FIN_WAIT2)
		return XSHIMD_OK;
	if (info.tcpi_state == TCP_LISTEN)
		return say(v, XSHIMD_BAD, 0, "tcp-state", "fd %u: not an established TCP socket (state LISTEN)", n);
	/* It may have been one when it was sent: the connection can end at any time. */
	say(v, XSHIMD_NO, XSHIM_R_PEER_DIED, "tcp-state", "fd %u: not an established TCP socket (state %s)", n,
	    tcp_state_name(info.tcpi_state));
	v->ordinary = info.tcpi_state != TCP_CLOSE;
	return XSHIMD_NO;
}

enum xshimd_answer xshimd_verify_tcp(int fd, unsigned int n, uid_t uid, const uint64_t *cookie,
				     struct xshimd_tcp *out, struct xshimd_verdict *v)
{
	enum xshimd_answer a;

	a = xshimd_verify_kind(fd, n, v);
	if (a == XSHIMD_OK)
		a = check_state(fd, n, v);
	if (a == XSHIMD_OK)
		a = check_rest(fd, n, uid, v);
	if (a != XSHIMD_OK)
		return a;
	if (get_u64(fd, SO_COOKIE, &out->cookie) < 0 || get_u64(fd, SO_NETNS_COOKIE, &out->netns) < 0 ||
	    !out->cookie || !out->netns)
		return say(v, XSHIMD_NO, XSHIM_R_NETNS, "no-cookie", "fd %u: the kernel gives no socket cookies", n);
	if (cookie && *cookie != out->cookie)
		return say(v, XSHIMD_NO, XSHIM_R_NOT_OWNER, "cookie", "cookie=%llu: not that of fd %u (%llu)",
			   (unsigned long long)*cookie, n, (unsigned long long)out->cookie);
	if (xshim_tuple_from_socket(&out->tuple, fd) < 0) {
		say(v, XSHIMD_NO, XSHIM_R_PEER_DIED, "tcp-state", "fd %u: no longer connected", n);
		v->ordinary = true;
		return XSHIMD_NO;
	}
	return XSHIMD_OK;
}

enum xshimd_answer xshimd_verify_region(int fd, unsigned int n, uint32_t order, uint32_t max_bytes,
					struct xshimd_verdict *v)
{
	unsigned long long want;
	struct statfs fs;
	struct stat st;
	int seals;

	if (order < XSHIM_RING_ORDER_MIN || order > XSHIM_RING_ORDER_MAX)
		return say(v, XSHIMD_BAD, 0, "order", "order=%u: from %d to %d", order, XSHIM_RING_ORDER_MIN,
			   XSHIM_RING_ORDER_MAX);
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return say(v, XSHIMD_BAD, 0, "region-kind", "fd %u: %s: ring memory must be a memfd", n,
			   file_kind(fd));
	if ((seals & REGION_SEALS) != REGION_SEALS)
		return say(v, XSHIMD_BAD, 0, "region-seals", "fd %u: ring memory: seals 0x%x, need 0x%x", n,
			   (unsigned int)seals, REGION_SEALS);
	if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return say(v, XSHIMD_BAD, 0, "region-kind", "fd %u: ring memory: not of ordinary pages%s", n,
			   fs.f_type == HUGETLBFS_MAGIC ? " (hugetlb)" : "");
	want = xshim_region_bytes(order);
	if (fstat(fd, &st) < 0 || (unsigned long long)st.st_size != want)
		return say(v, XSHIMD_BAD, 0, "region-size", "fd %u: ring memory: %lld bytes, order %u needs %llu", n,
			   (long long)st.st_size, order, want);
	/* A hole would be filled, and paid for, by the peer who reads it; with these seals none can be made later. */
	if ((unsigned long long)st.st_blocks * 512 < want)
		return say(v, XSHIMD_BAD, 0, "region-holes", "fd %u: ring memory: %llu of %llu bytes allocated", n,
			   (unsigned long long)st.st_blocks * 512, want);
	if (((size_t)1 << order) > max_bytes)
		return say(v, XSHIMD_NO, XSHIM_R_QUOTA, "ring-size", "order=%u: a ring of more than max_ring_size=%u bytes",
			   order, max_bytes);
	return XSHIMD_OK;
}

enum xshimd_answer xshimd_verify_pair(int fd, unsigned int n, const char *what, struct xshimd_verdict *v)
{
	struct sockaddr_un self, peer;
	socklen_t self_len = sizeof(self), peer_len = sizeof(peer);
	int domain, type, listening;

	if (get_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) < 0)
		return say(v, XSHIMD_BAD, 0, "bell-kind", "fd %u: %s: %s must be a unix stream socket", n, file_kind(fd), what);
	if (domain != AF_UNIX || get_int(fd, SOL_SOCKET, SO_TYPE, &type) < 0 || type != SOCK_STREAM)
		return say(v, XSHIMD_BAD, 0, "bell-kind", "fd %u: socket of family %d: %s must be a unix stream socket", n, domain,
			   what);
	if (get_int(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening) < 0 || listening)
		return say(v, XSHIMD_BAD, 0, "bell-kind", "fd %u: %s must not be a listening socket", n, what);
	if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return say(v, XSHIMD_BAD, 0, "bell-kind", "fd %u: %s must be half of a socketpair, not unconnected", n, what);
	if (getsockname(fd, (struct sockaddr *)&self, &self_len) < 0 || self_len > sizeof(sa_family_t) ||
	    peer_len > sizeof(sa_family_t))
		return say(v, XSHIMD_BAD, 0, "bell-kind", "fd %u: %s must be half of a socketpair", n, what);
	return XSHIMD_OK;
}

enum xshimd_answer xshimd_verify_bell(int fd, unsigned int n, struct xshimd_verdict *v)
{
	if (is_timer(fd))
		return XSHIMD_OK;
	return xshimd_verify_pair(fd, n, "a bell that is no timerfd", v);
}

enum xshimd_answer xshimd_verify_probe(int fd, uid_t uid, bool listening, uint64_t netns,
				       const struct xshim_endpoint *local, struct xshim_endpoint *bound,
				       struct xshimd_verdict *v)
{
	const char *what = listening ? "a listening" : "an unconnected";
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	struct sockaddr_storage ss;
	char got[XSHIM_ENDPOINT_STRLEN], want[XSHIM_ENDPOINT_STRLEN];
	enum xshimd_answer a;
	uint64_t ns;
	int repair = 0;

	a = xshimd_verify_kind(fd, 0, v);
	if (a == XSHIMD_OK)
		a = check_rest(fd, 0, uid, v);
	if (a != XSHIMD_OK)
		return a;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    info.tcpi_state != (listening ? TCP_LISTEN : TCP_CLOSE))
		return say(v, XSHIMD_NO, XSHIM_R_NETNS, "probe-state", "probe: %s TCP socket is due (state %s)", what,
			   tcp_state_name(info.tcpi_state));
	if (get_int(fd, IPPROTO_TCP, TCP_REPAIR, &repair) == 0 && repair)
		return say(v, XSHIMD_NO, XSHIM_R_NETNS, "probe-repair", "probe: the socket is in repair mode");
	if (get_u64(fd, SO_NETNS_COOKIE, &ns) < 0 || ns != netns)
		return say(v, XSHIMD_NO, XSHIM_R_NETNS, "probe-netns",
			   "probe: socket of namespace %llu, the connection is in %llu", (unsigned long long)ns,
			   (unsigned long long)netns);
	len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
	    xshim_endpoint_from_sockaddr(bound, (struct sockaddr *)&ss, len) < 0)
		return say(v, XSHIMD_NO, XSHIM_R_NETNS, "probe-address", "probe: the socket has no address");
	if (!bound->port || memcmp(bound->addr, local->addr, sizeof(bound->addr)))
		return say(v, XSHIMD_NO, XSHIM_R_NETNS, "probe-address", "probe: bound to %s, the connection is at %s",
			   xshim_endpoint_format(bound, got), xshim_endpoint_format(local, want));
	return XSHIMD_OK;
}

int xshimd_verify_owner(int fd)
{
	struct stat own, theirs;
	int ns, user, rc;

	ns = ioctl(fd, SIOCGSKNS);
	if (ns < 0)
		return -errno;
	/* Answers -EPERM for a user namespace that is not below ours, so not ours either. */
	user = ioctl(ns, NS_GET_USERNS);
	rc = user < 0 ? (errno == EPERM ? 0 : -errno) : 1;
	close(ns);
	if (rc != 1)
		return rc;
	if (fstat(user, &theirs) < 0 || stat("/proc/self/ns/user", &own) < 0)
		rc = -errno;
	else
		rc = own.st_dev == theirs.st_dev && own.st_ino == theirs.st_ino;
	close(user);
	return rc;
}
