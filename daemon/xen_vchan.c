/* SPDX-License-Identifier: MIT */
#include "xen_vchan.h"

#include <errno.h>
#include <fcntl.h>
#include <libxenvchan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <xen/gntdev.h>
#include <xenevtchn.h>
#include <xengnttab.h>

/* Such that both rings lie inside the one page. */
#define RING_IN 1024
#define RING_OUT 2048
#define PORT_MAX 131071

struct xshimd_vchan {
	struct libxenvchan *vc;
	bool abandoned;
};

/* A leaf of the server: a number, whoever wrote it. */
static int check_leaf(struct xshimd_store *s, uint32_t self, uint32_t peer, const char *leaf, uint64_t max, const char **why)
{
	struct xshimd_store_value v;
	uint64_t n;
	int rc;

	rc = xshimd_store_read(s, &v, "/local/domain/%u/data/xshim/peer/%u/%s", peer, self, leaf);
	if (rc == -ENOENT || rc == -EACCES)
		return -EAGAIN;
	if (rc < 0)
		return rc;
	rc = xshimd_xen_number(v.text, v.len, max, &n, why);
	return rc == 0 && !n ? -EINVAL : rc;
}

static int take_back_clear_byte(struct libxenvchan *vc)
{
	struct ioctl_gntdev_unmap_notify n = { .index = 0, .action = UNMAP_NOTIFY_SEND_EVENT,
		.event_channel_port = vc->event_port };

	return ioctl(xengnttab_fd(vc->gnttab), IOCTL_GNTDEV_SET_UNMAP_NOTIFY, &n) < 0 ? -errno : 0;
}

int xshimd_vchan_open(struct xshimd_vchan **out, struct xshimd_store *s, uint32_t self, uint32_t peer, const char **why)
{
	struct xshimd_vchan *v;
	char path[XSHIMD_STORE_PATH];
	int rc = 0, fd;

	*why = NULL;
	if (self > peer) {
		rc = check_leaf(s, self, peer, "ring-ref", UINT32_MAX >> 1, why);
		if (rc == 0)
			rc = check_leaf(s, self, peer, "event-channel", PORT_MAX, why);
		if (rc < 0)
			return rc;
	}
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	errno = 0;
	if (self > peer) {
		snprintf(path, sizeof(path), "/local/domain/%u/data/xshim/peer/%u", peer, self);
		v->vc = libxenvchan_client_init(NULL, (int)peer, path);
	} else {
		snprintf(path, sizeof(path), "/local/domain/%u/data/xshim/peer/%u", self, peer);
		v->vc = libxenvchan_server_init(NULL, (int)peer, path, RING_IN, RING_OUT);
	}
	if (!v->vc) {
		rc = errno ? -errno : -EIO;
		free(v);
		return rc;
	}
	v->vc->blocking = 0;
	if (!v->vc->is_server)
		rc = take_back_clear_byte(v->vc);
	fd = libxenvchan_fd_for_select(v->vc);
	if (rc == 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		rc = -errno;
	if (rc < 0) {
		xshimd_vchan_close(v);
		return rc;
	}
	*out = v;
	return 0;
}

void xshimd_vchan_close(struct xshimd_vchan *v)
{
	if (!v || v->abandoned)
		return;
	libxenvchan_close(v->vc);
	free(v);
}

int xshimd_vchan_fd(const struct xshimd_vchan *v)
{
	return libxenvchan_fd_for_select(v->vc);
}

void xshimd_vchan_take_event(struct xshimd_vchan *v)
{
	/* Reads the port and unmasks it; does not wait, as the descriptor is non-blocking. */
	(void)libxenvchan_wait(v->vc);
}

void xshimd_vchan_abandon(struct xshimd_vchan *v)
{
	v->abandoned = true;
}

static int carrier_send(void *carrier, const struct xshimd_peer_msg *m)
{
	struct xshimd_vchan *v = carrier;
	int n;

	if (v->abandoned || !libxenvchan_is_open(v->vc))
		return -EPIPE;
	n = libxenvchan_send(v->vc, m, sizeof(*m));
	return n < 0 ? -EPIPE : n > 0;
}

static int carrier_recv(void *carrier, struct xshimd_peer_msg *m)
{
	struct xshimd_vchan *v = carrier;
	int n;

	if (v->abandoned)
		return -EPIPE;
	n = libxenvchan_recv(v->vc, m, sizeof(*m));
	if (n > 0)
		return 1;
	/* What was sent before the end is read first. */
	return n < 0 || !libxenvchan_is_open(v->vc) ? -EPIPE : 0;
}

const struct xshimd_carrier xshimd_vchan_carrier = { carrier_send, carrier_recv };
