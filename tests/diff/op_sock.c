/* SPDX-License-Identifier: MIT */
/*
 * op_sock.c - the life of sockets, and their options.
 *
 *   socket NAME [NONBLOCK,CLOEXEC]; socket6 NAME; connect NAME [refused|unspec|short|null|v6|mapped]; accept NAME [FLAGS] [from NAME]
 *   shutdown RD|WR|RDWR|NUMBER [on NAME]; linger ON SECONDS [on NAME]; timeout receive|send MS [on NAME]
 *   get OPTION [on NAME]; set OPTION VALUE [on NAME]; set OPTION VALUE length N
 *   counts [on NAME]           what TCP_INFO says of bytes, once all is acknowledged, or nothing changes: how much more than the last time
 *   infolength N [on NAME]     TCP_INFO into N bytes
 *   names [on NAME]; state [on NAME]; blocking on|off [ioctl] [on NAME]; flags [on NAME]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "player.h"

/* The word after `key`, or NULL. */
static const char *after(int argc, char **argv, const char *key)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], key))
			return argv[i + 1];
	return NULL;
}

static int target(int argc, char **argv)
{
	const char *on = after(argc, argv, "on");

	return fd_of(on ? on : "s");
}

/* A connection is known by its first letter at both ends. */
static void op_socket(int argc, char **argv)
{
	int flags = argc > 2 ? (int)bits_from(OPEN_FLAGS, argv[2]) : 0, fd, err;

	before_call();
	fd = socket(!strcmp(argv[0], "socket6") ? AF_INET6 : AF_INET, SOCK_STREAM | flags, 0);
	err = errno;
	name_set(argv[1], fd, argv[1][0] - 'a');
	errno = err;
	put_result(fd < 0 ? fd : 0);
}

static void op_connect(int argc, char **argv)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons((uint16_t)me.port) };
	const char *how = argc > 2 ? argv[2] : "";
	socklen_t len = sizeof(sin);

	inet_pton(AF_INET, me.address[1], &sin.sin_addr);
	if (!strcmp(how, "refused"))
		sin.sin_port = htons(9);
	else if (!strcmp(how, "unspec"))
		sin.sin_family = AF_UNSPEC;
	else if (!strcmp(how, "short"))
		len = 4;
	else if (!strcmp(how, "v6"))
		sin.sin_family = AF_INET6;
	if (!strcmp(how, "mapped")) {
		struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = sin.sin_port };

		six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xff;
		memcpy(&six.sin6_addr.s6_addr[12], &sin.sin_addr, 4);
		before_call();
		put_result(connect(fd_of(argv[1]), (struct sockaddr *)&six, sizeof(six)));
		return;
	}
	before_call();
	put_result(connect(fd_of(argv[1]), !strcmp(how, "null") ? NULL : (struct sockaddr *)&sin, len));
}

static void op_accept(int argc, char **argv)
{
	const char *from = after(argc, argv, "from");
	bool four = argc > 2 && strcmp(argv[2], "from");
	int flags = four ? (int)bits_from(OPEN_FLAGS, argv[2]) : 0, fd, err;
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);

	before_call();
	fd = four ? accept4(fd_of(from ? from : "l"), (struct sockaddr *)&sin, &len, flags) :
		    accept(fd_of(from ? from : "l"), (struct sockaddr *)&sin, &len);
	err = errno;
	if (fd >= 0) {
		name_set(argv[1], fd, argv[1][0] - 'a');
		put("from %s length %u", sin.sin_family == AF_INET ? "inet" : "?", (unsigned int)len);
	}
	errno = err;
	put_result(fd < 0 ? fd : 0);
}

static void op_shutdown(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int number = !strcmp(how, "RD") ? SHUT_RD : !strcmp(how, "WR") ? SHUT_WR :
		     !strcmp(how, "RDWR") ? SHUT_RDWR : atoi(how), fd = target(argc, argv);

	before_call();
	put_result(shutdown(fd, number));
}

static void op_linger(int argc, char **argv)
{
	struct linger l = { .l_onoff = atoi(argv[1]), .l_linger = atoi(argv[2]) };
	int fd = target(argc, argv);

	before_call();
	put_result(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
}

static void op_timeout(int argc, char **argv)
{
	long ms = atol(argv[2]);
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	int fd = target(argc, argv);

	before_call();
	put_result(setsockopt(fd, SOL_SOCKET, !strcmp(argv[1], "receive") ? SO_RCVTIMEO : SO_SNDTIMEO, &tv, sizeof(tv)));
}

static void op_option(int argc, char **argv)
{
	const char *length = after(argc, argv, "length");
	bool get = !strcmp(argv[0], "get");
	int level, number, value = get ? -99 : atoi(argv[2]), rc, fd = target(argc, argv);
	socklen_t len = length ? (socklen_t)atoi(length) : sizeof(value);

	if (argc < 2 || !option_named(argv[1], &level, &number))
		die("%s: no such option", argv[0]);
	before_call();
	if (!get) {
		put_result(setsockopt(fd, level, number, &value, len));
		return;
	}
	rc = getsockopt(fd, level, number, &value, &len);
	put_result(rc);
	if (rc < 0)
		return;
	if (number == SO_ERROR && level == SOL_SOCKET && value)
		put(" %s", errno_word(value));
	else
		put(" %d", value);
	put(" length=%u", (unsigned int)len);
}

static void put_name(int rc, const struct sockaddr_in *sin, socklen_t len)
{
	char text[INET_ADDRSTRLEN] = "";
	int port;

	put_result(rc);
	if (rc < 0)
		return;
	inet_ntop(AF_INET, &sin->sin_addr, text, sizeof(text));
	port = ntohs(sin->sin_port);
	put(" %s:%s length=%u", !strcmp(text, me.address[0]) ? "A" : !strcmp(text, me.address[1]) ? "B" : text,
	    port == me.port ? "listener" : port ? "some" : "none", (unsigned int)len);
}

static void op_names(int argc, char **argv)
{
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);
	int fd = target(argc, argv), rc;

	before_call();
	rc = getsockname(fd, (struct sockaddr *)&sin, &len);
	put("own");
	put_name(rc, &sin, len);
	len = sizeof(sin);
	memset(&sin, 0, sizeof(sin));
	before_call();
	rc = getpeername(fd, (struct sockaddr *)&sin, &len);
	put(" peer");
	put_name(rc, &sin, len);
}

/* For the conductor: which row of `xshim ss` it is. */
static void op_where(int argc, char **argv)
{
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);
	char text[INET_ADDRSTRLEN];

	getsockname(target(argc, argv), (struct sockaddr *)&sin, &len);
	inet_ntop(AF_INET, &sin.sin_addr, text, sizeof(text));
	put("%s:%d", text, ntohs(sin.sin_port));
}

static void op_state(int argc, char **argv)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);
	int fd = target(argc, argv), rc;

	before_call();
	rc = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	put_result(rc);
	if (!rc)
		put(" %s", state_word(ti.tcpi_state));
}

static void op_blocking(int argc, char **argv)
{
	int fd = target(argc - 1, argv + 1), off = strcmp(argv[1], "on") != 0, rc;	/* "blocking on on u" */

	before_call();
	if (argc > 2 && !strcmp(argv[2], "ioctl"))
		rc = ioctl(fd, FIONBIO, &off);
	else
		rc = fcntl(fd, F_SETFL, off ? O_RDWR | O_NONBLOCK : O_RDWR);
	put_result(rc);
}

static void op_flags(int argc, char **argv)
{
	int fd = target(argc, argv), fl, fdfl;

	before_call();
	fl = fcntl(fd, F_GETFL);
	if (fl < 0) {
		put_result(fl);
		return;
	}
	fdfl = fcntl(fd, F_GETFD);
	put("%s %s", fl & O_NONBLOCK ? "nonblocking" : "blocking", fdfl & FD_CLOEXEC ? "cloexec" : "inherited");
}

/* What was said last, of each connection; a forked child goes on from there. */
static struct tcp_info noted[26];

void counts_forget(void)
{
	memset(noted, 0, sizeof(noted));
}

static void put_more(const char *what, uint64_t now, uint64_t before)
{
	put(now < before ? " %s %lld LESS" : " %s %lld more", what, (long long)(now < before ? before - now : now - before));
}

static void op_counts(int argc, char **argv)
{
	const char *on = after(argc, argv, "on");
	struct tcp_info ti = { 0 }, *was = &noted[conn_of(on ? on : "s")];
	int fd = target(argc, argv), rc;
	int64_t deadline = now_ms() + 250;
	socklen_t len;

	do {
		before_call();
		len = sizeof(ti);
		rc = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	} while (!rc && (ti.tcpi_unacked || ti.tcpi_notsent_bytes) && now_ms() < deadline && poll(NULL, 0, 5) == 0);
	put_result(rc);
	if (rc)
		return;
	if (!was->tcpi_state) {
		put(" noted");
	} else {
		put_more("acked", ti.tcpi_bytes_acked, was->tcpi_bytes_acked);
		put_more("sent", ti.tcpi_bytes_sent - ti.tcpi_bytes_retrans, was->tcpi_bytes_sent - was->tcpi_bytes_retrans);
		put_more("received", ti.tcpi_bytes_received, was->tcpi_bytes_received);
	}
	put(ti.tcpi_notsent_bytes ? " some unsent" : " all sent");
	*was = ti;
}

static void op_infolength(int argc, char **argv)
{
	struct tcp_info all, part;
	size_t n = strtoul(argv[1], NULL, 10), i, from;
	socklen_t len = sizeof(all), given = (socklen_t)n;
	int fd = target(argc, argv), rc;

	memset(&part, 0x5a, sizeof(part));
	before_call();
	rc = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &part, &given);
	put_result(rc);
	if (rc || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &all, &len))
		return;
	/* the counts of bytes, as far as there is room, and nothing behind */
	from = offsetof(struct tcp_info, tcpi_bytes_acked);
	for (i = from; i < n && i < from + 16 && ((char *)&part)[i] == ((char *)&all)[i]; i++)
		;
	put(" length %u%s", (unsigned int)given, i < n && i < from + 16 ? " DIFFERS" : "");
	for (i = n; i < sizeof(part) && ((char *)&part)[i] == 0x5a; i++)
		;
	put(i < sizeof(part) ? " WRITTEN BEHIND" : "");
}

const struct op sock_ops[] = {
	{ "socket", op_socket }, { "socket6", op_socket }, { "connect", op_connect }, { "accept", op_accept }, { "shutdown", op_shutdown },
	{ "linger", op_linger }, { "timeout", op_timeout }, { "get", op_option }, { "set", op_option },
	{ "counts", op_counts }, { "infolength", op_infolength }, { "names", op_names }, { "where", op_where }, { "state", op_state }, { "blocking", op_blocking }, { "flags", op_flags },
	{ NULL, NULL },
};
