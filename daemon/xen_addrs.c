/* SPDX-License-Identifier: MIT */
/*
 * xen_addrs.c - which addresses this machine has, as far as other guests reach it at them.
 *
 * In a guest these are the addresses of Xen network interfaces and of what stands on them (bridges, bonds, vlans), so that the bridge of a
 * container engine, which has the same address in every guest, is not claimed. A guest without a Xen interface claims none.
 */
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xen_guest.h"

#define DEPTH 4		/* of interfaces on interfaces */

static bool is_vif(const char *name)
{
	char path[64 + IFNAMSIZ], to[256], *last;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device/driver", name);
	n = readlink(path, to, sizeof(to) - 1);
	if (n <= 0)
		return false;
	to[n] = '\0';
	last = strrchr(to, '/');
	return last && !strcmp(last + 1, "vif");
}

static bool is_on_vif(const char *name, int depth)
{
	char path[64 + IFNAMSIZ];
	struct dirent *e;
	bool yes = false;
	DIR *dir;

	if (strlen(name) >= IFNAMSIZ)
		return false;
	if (is_vif(name))
		return true;
	snprintf(path, sizeof(path), "/sys/class/net/%s", name);
	dir = depth ? opendir(path) : NULL;
	if (!dir)
		return false;
	while (!yes && (e = readdir(dir)))
		if (!strncmp(e->d_name, "lower_", 6))
			yes = is_on_vif(e->d_name + 6, depth - 1);
	closedir(dir);
	return yes;
}

void xshimd_own_addrs(struct xshimd_xen_addrs *out, bool vifs_only)
{
	struct ifaddrs *all, *i;
	char text[64];
	const char *why;

	memset(out, 0, sizeof(*out));
	if (getifaddrs(&all) < 0)
		return;
	for (i = all; i && out->n < XSHIMD_XEN_ADDRS; i = i->ifa_next) {
		struct xshimd_xen_addrs one;
		struct xshim_endpoint ep;
		socklen_t len;

		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
			continue;
		len = i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
		if (xshim_endpoint_from_sockaddr(&ep, i->ifa_addr, len) < 0)
			continue;
		ep.port = 0;
		/* Written and read again: what a reader would refuse is not said. */
		one.n = 1;
		one.a[0] = ep;
		if (xshimd_xen_addrs_format(text, sizeof(text), ' ', &one) < 0 ||
		    xshimd_xen_addrs_parse(text, strlen(text), ' ', false, &one, &why) < 0 ||
		    xshimd_xen_addrs_have(out, &ep) || (vifs_only && !is_on_vif(i->ifa_name, DEPTH)))
			continue;
		out->a[out->n++] = ep;
	}
	freeifaddrs(all);
}

int xshimd_addrs_watch(void)
{
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), rc;

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&nl, sizeof(nl)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

/* What changed does not matter: all is read again. */
void xshimd_addrs_drain(int fd)
{
	char buf[4096];

	for (int i = 0; i < 256 && (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) >= 0 || errno == ENOBUFS); i++)
		;
}
