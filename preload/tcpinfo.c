/* SPDX-License-Identifier: MIT */
/*
 * tcpinfo.c - the kernel's counts of a TCP stream, the witness of every switch (I4).
 *
 * Written by the program: bytes_acked + SIOCOUTQ. On the connecting side bytes_acked has the SYN in it. bytes_sent says something
 * else: what the device or its queue refuses is counted each time it is tried, and no retransmission. Read by the program:
 * bytes_received - SIOCINQ. Each two come from two calls, so it is done again until nothing moved in between. bytes_received
 * counts a FIN as an octet, SIOCINQ does not.
 */
#include "ask.h"
#include "channel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

static int get_info(int fd, struct tcp_info *ti)
{
	socklen_t len = sizeof(*ti);

	memset(ti, 0, sizeof(*ti));
	if (libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, ti, &len) < 0)
		return -errno;
	/* bytes_received is the youngest field that is needed (Linux 4.1) */
	if (len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(ti->tcpi_bytes_received))
		return -EOPNOTSUPP;
	return 0;
}

int xshim_tcp_written(int fd, bool connected, uint64_t *n)
{
	int before, after, rc;
	struct tcp_info ti;

	if (libc.ioctl(fd, SIOCOUTQ, &before) < 0)
		return -errno;
	for (int tries = 0; tries < 1000; tries++) {
		rc = get_info(fd, &ti);
		if (rc < 0)
			return rc;
		if (libc.ioctl(fd, SIOCOUTQ, &after) < 0)
			return -errno;
		if (after == before) {
			*n = ti.tcpi_bytes_acked - connected + (uint64_t)after;
			return 0;
		}
		before = after;
	}
	return -EAGAIN;
}

/* 1: a FIN has come and is counted; 0: none; -ENOTCONN: nobody can tell, as in TCP_CLOSE. */
static int has_fin(const struct tcp_info *ti)
{
	switch (ti->tcpi_state) {
	case 1: case 4: case 5:		/* TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2 */
		return 0;
	case 8: case 9: case 11:	/* TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING */
		return 1;
	default:
		return -ENOTCONN;
	}
}

int xshim_tcp_consumed(int fd, uint64_t *n)
{
	struct tcp_info before, after;
	int rc = get_info(fd, &before), queued, fin;

	for (int tries = 0; !rc && tries < 1000; tries++) {
		queued = xshim_ask_queued(fd);
		if (queued < 0)
			return queued;
		rc = get_info(fd, &after);
		if (!rc && after.tcpi_bytes_received == before.tcpi_bytes_received) {
			fin = has_fin(&after);
			if (fin < 0)
				return fin;
			*n = after.tcpi_bytes_received - (uint64_t)queued - (uint64_t)fin;
			return 0;
		}
		before = after;
	}
	return rc ? rc : -EAGAIN;
}

uint64_t xshim_tcp_arrived(int fd)
{
	struct tcp_info ti;

	return get_info(fd, &ti) == 0 ? ti.tcpi_bytes_received : UINT64_MAX;
}

bool xshim_tcp_is_over(int fd)
{
	struct tcp_info ti;

	return get_info(fd, &ti) == 0 && ti.tcpi_state == 7;	/* TCP_CLOSE */
}

bool xshim_tcp_peer_closed(int fd)
{
	struct tcp_info ti;

	if (get_info(fd, &ti) < 0)
		return true;
	return has_fin(&ti) != 0;
}
