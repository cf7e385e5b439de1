/* SPDX-License-Identifier: MIT */
/*
 * tcpinfo.c - the kernel's counts of a TCP stream, the witness of every switch (I4).
 *
 * Written by the program: bytes_sent - bytes_retrans + notsent_bytes; bytes_acked would be one off on the
 * connecting side. Read by the program: bytes_received - SIOCINQ; the two come from two calls, so it is
 * done again until nothing arrived in between. bytes_received counts a FIN as an octet, SIOCINQ does not.
 */
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
	/* bytes_retrans is the youngest field that is needed (Linux 4.19) */
	if (len < offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(ti->tcpi_bytes_retrans))
		return -EOPNOTSUPP;
	return 0;
}

int xshim_tcp_written(int fd, uint64_t *n)
{
	struct tcp_info ti;
	int rc = get_info(fd, &ti);

	if (rc < 0)
		return rc;
	*n = ti.tcpi_bytes_sent - ti.tcpi_bytes_retrans + ti.tcpi_notsent_bytes;
	return 0;
}

/* TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING: a FIN has come. In TCP_CLOSE nobody can tell. */
static uint64_t has_fin(const struct tcp_info *ti)
{
	return ti->tcpi_state == 8 || ti->tcpi_state == 9 || ti->tcpi_state == 11;
}

int xshim_tcp_consumed(int fd, uint64_t *n)
{
	struct tcp_info before, after;
	int rc = get_info(fd, &before), queued;

	for (int tries = 0; !rc && tries < 1000; tries++) {
		if (libc.ioctl(fd, SIOCINQ, &queued) < 0)
			return -errno;
		rc = get_info(fd, &after);
		if (!rc && after.tcpi_bytes_received == before.tcpi_bytes_received) {
			*n = after.tcpi_bytes_received - (uint64_t)queued - has_fin(&after);
			return 0;
		}
		before = after;
	}
	return rc ? rc : -EAGAIN;
}

bool xshim_tcp_peer_closed(int fd)
{
	struct tcp_info ti;

	if (get_info(fd, &ti) < 0)
		return true;
	/* TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2: the peer may still send */
	return ti.tcpi_state != 1 && ti.tcpi_state != 4 && ti.tcpi_state != 5;
}
