/* SPDX-License-Identifier: MIT */
/*
 * backend_xen.c - granted pages and an event channel, for two guests on one Xen host.
 *
 * The kernel's own interfaces are used (gntalloc, gntdev, evtchn), not Xen's libraries: those own their descriptors and map
 * where they like, while descriptors here go to private numbers and mappings come back in place after a fork.
 *
 *   offering end                                     claiming end
 *   create   pages, granted read-only to the peer    create   likewise; the channel is made at attach
 *            event channel, waits for the peer
 *   attach   maps the peer's pages                   attach   maps the peer's pages, binds the channel
 *
 * Doorbell. One event channel for each pair of regions, on an evtchn descriptor of its own that the kernel lets deal with no other
 * domain than the peer. An event masks its port until the port is written back, so a peer that rings without end costs one
 * wake-up for each hush. BELL is an epoll of the event channel and of a socket pair, by which this end and xshimd ring.
 * The binding end gets one event at once, which makes good for what was rung before there was anybody. While event channels are
 * plenty in the guest a pair has several, on the one descriptor, and they are written back together (region.h, "Ports"): a system call of
 * a PV guest goes by way of Xen, and there are four in the way of a message otherwise.
 *
 * Alive. The word `alive` stands before the grants are known to anybody. The kernel is told to clear its first byte when the last
 * mapping of the owner's header page goes: munmap, exit, kill -9, with forked children counted in. The peer sees that `alive` is not
 * what it was, and what the ring holds is still there. Nothing of the kind is asked for pages mapped from the peer: after a save
 * such a byte is written through a mapping that is not there any more. Nor is the kernel asked to send an event then: it would
 * keep the number of the port, and after a save of this guest give back whatever port has that number, for instance the network's.
 * So bye() unmaps and rings, in this order; who is killed is missed on TCP. A guest that is destroyed clears nothing; what was mapped
 * from it stays readable until it is let go of.
 *
 * Saved with an event channel. Of a guest that was saved and restored the kernel has forgotten which interrupt belongs to the ports
 * that user space had bound, and oopses when the descriptor of such a one is closed, be it by exit (evtchn_release, measured with Linux
 * 6.1, PV and PVH). So that the process may end, BELL_OUT has a reference to EVENT inside; xshimd, who has BELL_OUT too, never closes
 * the ones that it had when its own domain changed.
 *
 * The peer's pages are mapped by xen_map.h, which says where they lie, and what a fork and letting go of them take.
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <xshim/backend.h>
#include "sys.h"
#include "xen_map.h"

/* The kernel's headers use Xen's names without defining them. */
typedef uint16_t domid_t;
#include <xen/evtchn.h>
#include <xen/gntalloc.h>

#define DOMID_END 0x7ff0u		/* the first that names no guest */
#define HUSH_ROUNDS 16
/* Xen gives the lowest number that is free in the guest, of 1,023 as a rule: from here on a connection has one only. */
#define PORTS_PLENTY 128
#define SPOKEN_MAX 16
_Static_assert(XSHIM_REGION_PORTS <= SPOKEN_MAX, "one read tells of all");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "XSHIM_REGION_GONE: the first byte is the lowest");

/* ---- our own half ---- */

static uint32_t port_of(const struct xshim_local *l, uint32_t number)
{
	return number && number < l->ports ? l->more_ports[number - 1] : l->port;
}

static int notify(const struct xshim_local *l, uint32_t number)
{
	struct ioctl_evtchn_notify n = { .port = port_of(l, number) };

	return sys_ioctl(l->fds[XSHIM_LOCAL_EVENT], IOCTL_EVTCHN_NOTIFY, &n);
}

/* By all that there are: which one it listens to is not known for sure when its memory may be gone. */
static void xen_bye(struct xshim_local *l)
{
	if (!l->region)
		return;
	munmap(l->region, xshim_region_bytes(l->order));
	l->region = NULL;
	for (uint32_t i = 0; i < l->ports; i++)
		(void)notify(l, i);
}

static void xen_destroy(struct xshim_local *l)
{
	if (l->region)
		munmap(l->region, xshim_region_bytes(l->order));
	l->region = NULL;
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++) {
		if (l->fds[i] >= 0)
			sys_close(l->fds[i]);
		l->fds[i] = -1;
	}
	l->port = l->ports = 0;
}

static int clear_when_gone(const struct xshim_local *l, uint64_t header)
{
	struct ioctl_gntalloc_unmap_notify n = {
		.index = header + offsetof(struct xshim_region_hdr, alive),
		.action = UNMAP_NOTIFY_CLEAR_BYTE,
	};

	return sys_ioctl(l->fds[XSHIM_LOCAL_MEMORY], IOCTL_GNTALLOC_SET_UNMAP_NOTIFY, &n);
}

/* Pages that only domid may map, and only to read. */
static int make_pages(struct xshim_local *l)
{
	unsigned int pages = xen_map_pages(l->order);
	union {
		struct ioctl_gntalloc_alloc_gref op;
		uint8_t room[sizeof(struct ioctl_gntalloc_alloc_gref) + XEN_MAP_PAGES_MAX * sizeof(uint32_t)];
	} a;
	void *at;
	int rc;

	rc = sys_open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC);
	if (rc < 0)
		return rc;
	l->fds[XSHIM_LOCAL_MEMORY] = rc;
	memset(&a.op, 0, sizeof(a.op));
	a.op.domid = (uint16_t)l->domid;
	a.op.count = pages;
	rc = sys_ioctl(l->fds[XSHIM_LOCAL_MEMORY], IOCTL_GNTALLOC_ALLOC_GREF, &a);
	if (rc < 0)
		return rc;
	rc = xen_map_at(&at, NULL, xshim_region_bytes(l->order), PROT_READ | PROT_WRITE, MAP_SHARED,
		    l->fds[XSHIM_LOCAL_MEMORY], a.op.index);
	if (rc < 0)
		return rc;
	l->region = at;
	l->gref = a.op.gref_ids[0];
	xshim_region_format(l->region, l->order, l->nonce);
	memcpy(l->region->more_ports, l->more_ports, sizeof(l->more_ports));
	atomic_store_explicit(&l->region->ports, l->ports, memory_order_relaxed);
	memcpy(l->region->grefs, a.op.gref_ids + 1, (pages - 1) * sizeof(uint32_t));
	return clear_when_gone(l, a.op.index);
}

/* One more, that Xen has given. False: it is the last. */
static bool add_port(struct xshim_local *l, uint32_t port)
{
	if (l->ports++)
		l->more_ports[l->ports - 2] = port;
	else
		l->port = port;
	return port < PORTS_PLENTY && l->ports < XSHIM_REGION_PORTS;
}

static int open_channel(struct xshim_local *l, const struct xshim_party *with)
{
	struct ioctl_evtchn_restrict_domid only = { .domid = (domid_t)l->domid };
	struct ioctl_evtchn_bind_unbound_port bind = { .remote_domain = l->domid };
	int fd, rc;

	fd = sys_open("/dev/xen/evtchn", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fd;
	l->fds[XSHIM_LOCAL_EVENT] = fd;
	/* First, because a restricted descriptor makes no port of this kind. */
	if (with->offers) {
		do
			rc = sys_ioctl(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &bind);
		while (rc >= 0 && add_port(l, (uint32_t)rc) && !with->seldom);
		if (!l->ports)
			return rc;
	}
	/* There is no way to say "only dom0". */
	return l->domid ? sys_ioctl(fd, IOCTL_EVTCHN_RESTRICT_DOMID, &only) : 0;
}

static int watch(int epfd, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return (int)sys_call(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, fd, &ev, 0, 0);
}

/*
 * Put a reference to the event channel where it lasts as long as anybody has BELL_OUT: in a message that nobody reads. Where it cannot
 * be had (too many are under way for the user) the channel is as good.
 */
static void pin(const struct xshim_local *l)
{
	union {
		struct cmsghdr c;
		uint8_t room[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec v = { .iov_base = (char[]){ 0 }, .iov_len = 1 };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u.room),
	};

	memset(&u, 0, sizeof(u));
	u.c.cmsg_level = SOL_SOCKET;
	u.c.cmsg_type = SCM_RIGHTS;
	u.c.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.c), &l->fds[XSHIM_LOCAL_EVENT], sizeof(int));
	(void)sys_sendmsg(l->fds[XSHIM_LOCAL_BELL_IN], &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int make_bell(struct xshim_local *l)
{
	int pair[2], rc;

	rc = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, pair);
	if (rc < 0)
		return rc;
	l->fds[XSHIM_LOCAL_BELL_IN] = pair[0];
	l->fds[XSHIM_LOCAL_BELL_OUT] = pair[1];
	pin(l);
	rc = (int)sys_call(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0, 0, 0);
	if (rc < 0)
		return rc;
	l->fds[XSHIM_LOCAL_BELL] = rc;
	/* An epoll names open files, so other numbers for these two make no difference to it. */
	rc = watch(l->fds[XSHIM_LOCAL_BELL], l->fds[XSHIM_LOCAL_EVENT]);
	if (rc == 0)
		rc = watch(l->fds[XSHIM_LOCAL_BELL], l->fds[XSHIM_LOCAL_BELL_IN]);
	return rc;
}

static int xen_create(struct xshim_local *l, const struct xshim_party *with, unsigned int order, uint64_t nonce)
{
	int rc;

	memset(l, 0, sizeof(*l));
	for (int i = 0; i < XSHIM_LOCAL_FDS; i++)
		l->fds[i] = -1;
	if (!with || with->domid >= DOMID_END || !xen_map_is_order(order))
		return -EINVAL;
	if (sysconf(_SC_PAGESIZE) != XEN_MAP_PAGE)
		return -ENODEV;
	l->order = order;
	l->nonce = nonce;
	l->domid = with->domid;
	rc = open_channel(l, with);
	if (rc == 0)
		rc = make_pages(l);
	if (rc == 0)
		rc = make_bell(l);
	if (rc < 0)
		xen_destroy(l);
	return rc;
}

/* ---- the two together ---- */

/* The ticket's, and as many of the others as can be had. */
static int bind_channel(struct xshim_local *l, const struct xshim_remote *r, uint32_t remote_port)
{
	struct ioctl_evtchn_bind_interdomain bind = { .remote_domain = l->domid };
	const volatile uint32_t *more = r->region->more_ports;	/* the peer's word: loaded once */
	int rc;

	do {
		bind.remote_port = l->ports ? more[l->ports - 1] : remote_port;
		if (!bind.remote_port)
			break;
		rc = sys_ioctl(l->fds[XSHIM_LOCAL_EVENT], IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind);
		if (rc < 0 && !l->ports)
			return rc == -EINVAL || rc == -ESRCH ? -EPIPE : rc;	/* no such port, or not for us; no such domain */
	} while (rc >= 0 && add_port(l, (uint32_t)rc));
	/* bound /then/ said */
	atomic_store_explicit(&l->region->ports, l->ports, memory_order_seq_cst);
	return 0;
}

static int xen_attach(struct xshim_remote *r, struct xshim_local *l, const struct xshim_ticket *t, int *fds)
{
	struct xshim_remote want = {
		.order = t->order, .nonce = t->nonce, .bell = -1, .life = -1, .domid = t->domid, .gref = t->gref,
	};
	int rc;

	(void)fds;
	/* One event channel for both: who offered has it, who claimed binds to it. */
	if (!xen_map_is_order(t->order) || t->domid != l->domid || !t->gref || !t->port == !l->port)
		return -EPROTO;
	rc = xen_map_peer(&want);
	if (rc < 0)
		return rc;
	if (!l->port) {
		rc = bind_channel(l, &want, t->port);
		if (rc < 0) {
			xen_map_drop(&want);
			return rc;
		}
	}
	*r = want;
	return 0;
}

static int xen_forked(struct xshim_local *l, struct xshim_remote *r)
{
	atomic_store_explicit(&l->shared, true, memory_order_relaxed);
	return xen_map_forked(r);
}

/* ---- ringing ---- */

static int xen_ring(const struct xshim_local *l, const struct xshim_remote *r)
{
	int rc;

	if (!xen_map_is_alive(r->region))
		return -EPIPE;		/* the kernel would say nothing */
	rc = notify(l, atomic_load_explicit(&r->region->port_at, memory_order_seq_cst));
	return rc < 0 ? rc : 0;
}

static int xen_ring_self(const struct xshim_local *l)
{
	ssize_t rc;

	do
		rc = sys_send(l->fds[XSHIM_LOCAL_BELL_OUT], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (rc == -EINTR);
	return rc >= 0 || rc == -EAGAIN ? 0 : (int)rc;
}

/* Ports that have spoken speak again. */
static void write_back(const struct xshim_local *l, const uint32_t *ports, size_t n)
{
	(void)sys_write(l->fds[XSHIM_LOCAL_EVENT], ports, n * sizeof(*ports));
}

static void write_back_all(const struct xshim_local *l)
{
	uint32_t all[XSHIM_REGION_PORTS];

	for (uint32_t i = 0; i < l->ports; i++)
		all[i] = port_of(l, i);
	if (l->ports)
		write_back(l, all, l->ports);
}

/* How many both ends have. */
static uint32_t common_ports(const struct xshim_local *l, const struct xshim_remote *r)
{
	uint32_t its = r->region ? atomic_load_explicit(&r->region->ports, memory_order_seq_cst) : 0;

	return its < l->ports ? its : l->ports;
}

/*
 * n ports have spoken. The one that was asked for makes room for the next, the last one for the first, when all are written back. Others were
 * rung by who had read what was asked for before (region.h, "Ports").
 */
static void next_port(const struct xshim_local *l, const struct xshim_remote *r, const uint32_t *spoken, size_t n)
{
	uint32_t at = atomic_load_explicit(&l->region->port_at, memory_order_relaxed), asked = port_of(l, at), late[SPOKEN_MAX];
	size_t lates = 0;

	for (size_t i = 0; i < n; i++)
		if (spoken[i] != asked)
			late[lates++] = spoken[i];
	if (lates < n && ++at >= common_ports(l, r)) {
		write_back_all(l);
		at = 0;
	} else if (lates) {
		write_back(l, late, lates);
	}
	/* they can be heard /then/ the next one is asked for; our own word, which nobody else can write */
	if (lates < n)
		atomic_store_explicit(&l->region->port_at, at, memory_order_seq_cst);
}

/*
 * Take what the channel has to say and let it speak again. What was there on entry is gone when this returns, what comes after it
 * makes the bell readable anew. Where others share the channel all ports are written back in any case: somebody may have been killed
 * between the two. True: the channel had spoken.
 */
static bool hush_channel(const struct xshim_local *l, const struct xshim_remote *r)
{
	uint32_t ports[SPOKEN_MAX];
	ssize_t rc;

	rc = sys_read(l->fds[XSHIM_LOCAL_EVENT], ports, sizeof(ports));
	if (rc == -EFBIG)		/* more than it can note, which so few ports cannot bring about */
		(void)sys_ioctl(l->fds[XSHIM_LOCAL_EVENT], IOCTL_EVTCHN_RESET, NULL);
	if (rc > 0 && l->region && !atomic_load_explicit(&l->shared, memory_order_relaxed))
		next_port(l, r, ports, (size_t)rc / sizeof(*ports));
	else
		write_back_all(l);
	return rc > 0;
}

static void hush_socket(const struct xshim_local *l)
{
	char sink[256];

	/* No room for control data is given, so descriptors that come along are dropped by the kernel. */
	for (int i = 0; i < HUSH_ROUNDS; i++) {
		ssize_t rc = sys_recv(l->fds[XSHIM_LOCAL_BELL_IN], sink, sizeof(sink), MSG_DONTWAIT);

		if (rc == 0 || (rc < 0 && rc != -EINTR))
			return;
		if (rc > 0 && (size_t)rc < sizeof(sink))
			return;		/* that was all, or what came since rings again */
	}
}

static int xen_hush(const struct xshim_local *l, const struct xshim_remote *r)
{
	/*
	 * Hardly ever have both rung, and a system call of a PV guest goes by way of Xen. If they have, the bell stays readable and the
	 * next call sees to the socket.
	 */
	if (!hush_channel(l, r))
		hush_socket(l);
	return r->region && xen_map_is_alive(r->region) ? 0 : -EPIPE;
}

const struct xshim_backend xshim_backend_xen = {
	.name = "xen",
	.kind = XSHIM_BACKEND_XEN,
	.create = xen_create,
	.bye = xen_bye,
	.destroy = xen_destroy,
	.attach = xen_attach,
	.detach = xen_map_drop,
	.ring = xen_ring,
	.hush = xen_hush,
	.ring_self = xen_ring_self,
	.forked = xen_forked,
	.forsake = xen_map_forsake,
};
