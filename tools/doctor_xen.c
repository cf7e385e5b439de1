/* SPDX-License-Identifier: MIT */
/*
 * doctor_xen.c - `xshim doctor` in a Xen guest or in dom0: what rings between guests need. Says nothing on any other machine.
 *
 * xenstore is asked as any client may, over its socket or device, with requests written out here: the command needs no Xen library.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef HAVE_XEN_GNTALLOC_H
#include <xen/gntalloc.h>
#endif

#include "findings.h"

#define XS_READ 2		/* of xen/io/xs_wire.h */
#define XS_ERROR 16
#define STORE_MS 2000
#define LIMIT_FILE "/sys/module/xen_gntalloc/parameters/limit"
#define LIMIT_LOW 1024		/* the kernel's default: 15 connections with rings of 256 KiB */

static bool read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void check_device(struct xshim_findings *f, const char *name)
{
	char path[64], module[64], advice[160];
	struct group *g = getgrnam("xshim");
	struct stat st;

	snprintf(path, sizeof(path), "/dev/xen/%s", name);
	if (stat(path, &st) < 0) {
		snprintf(module, sizeof(module), "/sys/module/xen_%s", name);
		if (access(module, F_OK) == 0)
			snprintf(advice, sizeof(advice), "the module is loaded: mount devtmpfs at /dev, or give the container this device");
		else
			snprintf(advice, sizeof(advice), "load the module: modprobe xen-%s", name);
		xshim_finding(f, XSHIM_FAIL, "xen-device", advice, "%s: %s", path, strerror(errno));
		return;
	}
	if (access(path, R_OK | W_OK) == 0)
		xshim_finding(f, XSHIM_OK, "xen-device", "", "%s can be opened", path);
	else
		xshim_finding(f, XSHIM_FAIL, "xen-device", g && st.st_gid == g->gr_gid ?
			      "add the user to the group xshim, who then trusts its other members" :
			      "install 70-xshim.rules in /etc/udev/rules.d, then: udevadm trigger --subsystem-match=misc",
			      "%s: mode %04o, gid %u: not for this user", path, st.st_mode & 07777u, (unsigned int)st.st_gid);
	if ((st.st_mode & 0006) != 0)
		xshim_finding(f, XSHIM_WARN, "xen-device", "take the rights of others away",
			      "%s: mode %04o: everybody can reach what is granted to this guest", path, st.st_mode & 07777u);
}

#ifdef HAVE_XEN_GNTALLOC_H
/* A page for dom0 to read, which closing takes back. 0 or -errno. */
static int share_a_page(void)
{
	struct ioctl_gntalloc_alloc_gref op = { .domid = 0, .count = 1 };
	int fd = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return 0;		/* said by check_device() */
	if (ioctl(fd, IOCTL_GNTALLOC_ALLOC_GREF, &op) < 0)
		rc = -errno;
	close(fd);
	return rc;
}
#else
static int share_a_page(void)
{
	return 0;
}
#endif

static void check_limit(struct xshim_findings *f)
{
	char text[32];
	unsigned long n;
	int rc;

	if (!read_text(LIMIT_FILE, text, sizeof(text)))
		return;		/* the module is missing, which has been said */
	n = strtoul(text, NULL, 10);
	rc = share_a_page();
	if (rc < 0)
		xshim_finding(f, XSHIM_FAIL, "xen-limit", "end programs that share pages, or raise the limit; if none does, the kernel "
			      "has lost count: stop xshimd, modprobe -r xen-gntalloc, modprobe xen-gntalloc",
			      "gntalloc has not one page to share: %s (limit: %lu pages)", strerror(-rc), n);
	else if (n <= LIMIT_LOW)
		xshim_finding(f, XSHIM_WARN, "xen-limit", "let xshimd raise it (xen_gntalloc_limit), or: echo 16384 > " LIMIT_FILE,
			      "gntalloc: %lu pages for all of this guest, %lu connections with rings of 256 KiB", n, n / 65);
	else
		xshim_finding(f, XSHIM_OK, "xen-limit", "", "gntalloc: %lu pages, %lu connections with rings of 256 KiB", n, n / 65);
}

static int open_store(void)
{
	static const char *const devices[] = { "/dev/xen/xenbus", "/proc/xen/xenbus" };
	static const char *const sockets[] = { "/run/xenstored/socket", "/var/run/xenstored/socket" };
	int fd, rc = -ENOENT;

	for (size_t i = 0; i < 2; i++) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };

		strcpy(un.sun_path, sockets[i]);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
			return fd;
		if (fd >= 0)
			close(fd);
	}
	for (size_t i = 0; i < 2; i++) {
		fd = open(devices[i], O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0)
			return fd;
		if (errno != ENOENT)	/* it is there */
			rc = -errno;
	}
	return rc;
}

static int take(int fd, void *buf, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t got = 0;
	ssize_t n;

	while (got < len) {
		if (poll(&p, 1, STORE_MS) != 1)
			return -ETIMEDOUT;
		n = read(fd, (char *)buf + got, len - got);
		if (n <= 0 && errno != EAGAIN && errno != EINTR)
			return -EPIPE;
		got += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* 0, -ENOENT for what is not there or not ours to read, or another -errno. */
static int store_read(int fd, const char *path, char *value, size_t size)
{
	struct { uint32_t type, id, tx, len; } h = { XS_READ, 1, 0, (uint32_t)strlen(path) + 1 };
	char out[sizeof(h) + 128], body[4097];
	int rc;

	if (h.len > 128)
		return -ENAMETOOLONG;
	memcpy(out, &h, sizeof(h));
	memcpy(out + sizeof(h), path, h.len);
	if (write(fd, out, sizeof(h) + h.len) != (ssize_t)(sizeof(h) + h.len))
		return -EPIPE;
	rc = take(fd, &h, sizeof(h));
	if (rc == 0 && h.len > sizeof(body) - 1)
		rc = -EPROTO;
	if (rc == 0 && h.len)
		rc = take(fd, body, h.len);
	if (rc < 0)
		return rc;
	if (h.type != XS_READ)
		return h.type == XS_ERROR ? -ENOENT : -EPROTO;
	body[h.len] = '\0';
	snprintf(value, size, "%.255s", body);
	return 0;
}

static void check_guest_store(struct xshim_findings *f, int fd)
{
	static const char start[] = "start xshimd with --role=guest in this guest";
	char domid[16], value[256];

	if (store_read(fd, "domid", domid, sizeof(domid)) < 0) {
		xshim_finding(f, XSHIM_FAIL, "xenstore", "look at xenstored in dom0", "xenstore does not answer");
		return;
	}
	xshim_finding(f, XSHIM_OK, "xenstore", "", "xenstore answers: this is domain %.15s", domid);
	if (store_read(fd, "data/xshim/version", value, sizeof(value)) < 0)
		xshim_finding(f, XSHIM_FAIL, "xen-guest", start, "data/xshim is not there: no xshimd takes part for this guest");
	else
		xshim_finding(f, XSHIM_OK, "xen-guest", "", "this guest's xshimd takes part");
	if (store_read(fd, "xshim/generation", value, sizeof(value)) < 0) {
		xshim_finding(f, XSHIM_FAIL, "xen-host", "start xshimd in dom0 (with --role=host)",
			      "/local/domain/%.15s/xshim/generation is not there: no xshimd in dom0 has told us of other guests", domid);
		return;
	}
	if (store_read(fd, "xshim/self", value, sizeof(value)) == 0 && strlen(value) > 2 && strcmp(value + strlen(value) - 2, " -") == 0)
		xshim_finding(f, XSHIM_WARN, "xen-host", "give it ip= in the vif line of its configuration, and see the log of xshimd in dom0",
			      "dom0 believes this guest to have no address");
	else
		xshim_finding(f, XSHIM_OK, "xen-host", "", "xshimd in dom0 has told us of the other guests");
}

/* The daemon that programs here talk to has to take the part that belongs to this domain. */
static void check_role(struct xshim_findings *f, const char *role, bool host)
{
	const char *want = host ? "host" : "guest";
	char advice[96];

	if (!*role || strcmp(role, want) == 0)
		return;
	snprintf(advice, sizeof(advice), "start it with --role=%s, or see its log for why it took the other one", want);
	xshim_finding(f, XSHIM_FAIL, host ? "xen-host" : "xen-guest", advice, "this is a Xen %s, and xshimd has the role %.15s",
		      host ? "host's dom0" : "guest", role);
}

void xshim_doctor_xen(struct xshim_findings *f, const char *role)
{
	char text[128];
	bool host;
	int fd;

	if (!read_text("/sys/hypervisor/type", text, sizeof(text)) || strncmp(text, "xen", 3) != 0)
		return;
	host = read_text("/proc/xen/capabilities", text, sizeof(text)) && strstr(text, "control_d");
	if (!host) {
		check_device(f, "gntalloc");
		check_device(f, "gntdev");
		check_device(f, "evtchn");
		check_limit(f);
	}
	check_role(f, role, host);
	fd = open_store();
	if (fd < 0) {
		if (fd == -EACCES)
			xshim_finding(f, XSHIM_OK, "xenstore", "", "xenstore is root's, as it should be; ask as root to see more");
		else
			xshim_finding(f, XSHIM_FAIL, "xenstore", host ? "start xenstored" : "load the module: modprobe xenfs; mount "
				      "-t xenfs xenfs /proc/xen", "xenstore cannot be reached: %s", strerror(-fd));
		return;
	}
	if (!host)
		check_guest_store(f, fd);
	else if (store_read(fd, "/local/domain/0/name", text, sizeof(text)) < 0)
		xshim_finding(f, XSHIM_FAIL, "xenstore", "look at xenstored", "xenstore does not answer");
	else
		xshim_finding(f, XSHIM_OK, "xenstore", "", "xenstore answers: this is dom0");
	close(fd);
}
