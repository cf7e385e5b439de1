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
 * The binding end gets one event at once, which makes good for what was rung before there was anybody.
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
 * Address space. A PV guest that is saved while it has foreign pages mapped loses the whole page of its page table in which they
 * stand (measured: neighbours read as zeros after the restore). So they lie alone in pieces of 2 MiB.
 *
 * Mapping. The descriptor of gntdev is one for the process. Each mapping is told to the kernel anew and struck off gntdev's
 * list when it is mapped, so that nothing but the mapping holds the grants, and unmapping gives them back also where the kernel
 * would keep them (guests other than PV). The peer's table of grants is copied once. The header is mapped alone first, because it
 * holds the table; then all pages in one piece, over it.
 *
 * Fork. In a PV guest the child has no mapping of the peer's pages: forked() makes it again at the same address, if nothing else
 * has come to lie there. In others it is there already. If it cannot be had, zeros lie there.
 *
 * Forsake. Zeros take the place of the peer's pages in one step; who reads at that moment sees pages or zeros, but waits and does
 * not fault in between. `alive` is the last to be read (xshim_region_is_whole), so zeros are not taken for bytes.
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xshim/backend.h>
#include "sys.h"

/* The kernel's headers use Xen's names without defining them. */
typedef uint16_t domid_t;
typedef uint32_t grant_ref_t;
#include <xen/evtchn.h>
#include <xen/gntalloc.h>
#include <xen/gntdev.h>

#define PAGE 4096u
#define ORDER_MAX 21			/* 2 MiB: what the table of grants has room for */
#define PAGES_MAX (1 + (1u << ORDER_MAX) / PAGE)
#define PIECE ((size_t)2 << 20)		/* address space that one page of a page table speaks for */
#define DOMID_END 0x7ff0u		/* the first that names no guest */
#define HUSH_ROUNDS 16
_Static_assert((1u << ORDER_MAX) / PAGE <= XSHIM_REGION_GREFS, "the grants of the largest ring fit the header");
_Static_assert(XSHIM_REGION_HDR == PAGE, "the header is one page");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "XSHIM_REGION_GONE: the first byte is the lowest");

static _Atomic int kept_gntdev = -1;	/* see gntdev(); attach and forked() are by one at a time */
static dev_t gntdev_is;

static unsigned int pages_of(unsigned int order)
{
	return 1 + (1u << order) / PAGE;
}

static bool is_order(unsigned int order)
{
	return order >= XSHIM_RING_ORDER_MIN && order <= ORDER_MAX;
}

static bool is_alive(const struct xshim_region_hdr *r)
{
	return atomic_load_explicit(&r->alive, memory_order_acquire) == XSHIM_REGION_ALIVE;
}

/* mmap with -errno; MAP_FAILED is never returned. */
static int map_at(void **out, void *at, size_t bytes, int prot, int flags, int fd, uint64_t offset)
{
	int saved = errno, rc = 0;
	void *got;

	got = mmap(at, bytes, prot, flags, fd, (off_t)offset);
	if (got == MAP_FAILED) {
		rc = -errno;
	} else if (at && got != at) {	/* an old kernel takes MAP_FIXED_NOREPLACE for a wish */
		munmap(got, bytes);
		rc = -EEXIST;
	} else {
		*out = got;
	}
	errno = saved;
	return rc;
}

/* ---- our own half ---- */

static void xen_bye(struct xshim_local *l)
{
	struct ioctl_evtchn_notify n = { .port = l->port };

	if (!l->region)
		return;
	munmap(l->region, xshim_region_bytes(l->order));
	l->region = NULL;
	if (l->port)
		(void)sys_ioctl(l->fds[XSHIM_LOCAL_EVENT], IOCTL_EVTCHN_NOTIFY, &n);
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
	l->port = 0;
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
	unsigned int pages = pages_of(l->order);
	union {
		struct ioctl_gntalloc_alloc_gref op;
		uint8_t room[sizeof(struct ioctl_gntalloc_alloc_gref) + PAGES_MAX * sizeof(uint32_t)];
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
	rc = map_at(&at, NULL, xshim_region_bytes(l->order), PROT_READ | PROT_WRITE, MAP_SHARED,
		    l->fds[XSHIM_LOCAL_MEMORY], a.op.index);
	if (rc < 0)
		return rc;
	l->region = at;
	l->gref = a.op.gref_ids[0];
	xshim_region_format(l->region, l->order, l->nonce);
	memcpy(l->region->grefs, a.op.gref_ids + 1, (pages - 1) * sizeof(uint32_t));
	return clear_when_gone(l, a.op.index);
}

static int open_channel(struct xshim_local *l, bool offers)
{
	struct ioctl_evtchn_restrict_domid only = { .domid = (domid_t)l->domid };
	struct ioctl_evtchn_bind_unbound_port bind = { .remote_domain = l->domid };
	int fd, rc;

	fd = sys_open("/dev/xen/evtchn", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fd;
	l->fds[XSHIM_LOCAL_EVENT] = fd;
	/* First, because a restricted descriptor makes no port of this kind. */
	if (offers) {
		rc = sys_ioctl(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &bind);
		if (rc < 0)
			return rc;
		l->port = (uint32_t)rc;
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
	if (!with || with->domid >= DOMID_END || !is_order(order))
		return -EINVAL;
	if (sysconf(_SC_PAGESIZE) != PAGE)
		return -ENODEV;
	l->order = order;
	l->nonce = nonce;
	l->domid = with->domid;
	rc = open_channel(l, with->offers);
	if (rc == 0)
		rc = make_pages(l);
	if (rc == 0)
		rc = make_bell(l);
	if (rc < 0)
		xen_destroy(l);
	return rc;
}

/* ---- the peer's half ---- */

static bool is_gntdev(int fd)
{
	struct stat st;
	int saved = errno;
	bool same = fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == gntdev_is;

	errno = saved;
	return same;
}

/* Kept, because a program may change its user or its root and then go on forking and connecting. */
static int gntdev(void)
{
	int fd = atomic_load_explicit(&kept_gntdev, memory_order_relaxed);
	struct stat st;
	int saved = errno, rc;

	if (is_gntdev(fd))
		return fd;
	fd = sys_open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);
	if (fd >= 0 && xshim_backend_place)
		fd = xshim_backend_place(fd);
	if (fd < 0)
		return fd;
	rc = fstat(fd, &st);
	errno = saved;
	if (rc < 0 || !S_ISCHR(st.st_mode)) {
		sys_close(fd);
		return -ENODEV;
	}
	gntdev_is = st.st_rdev;
	atomic_store_explicit(&kept_gntdev, fd, memory_order_relaxed);
	return fd;
}

/*
 * how: MAP_FIXED or MAP_FIXED_NOREPLACE. op: room for so many. -EPIPE: not granted to us. Xen does not say whether it ever was, and
 * that of an end that has just gone is taken back.
 */
static int map_grants(void *at, int how, struct ioctl_gntdev_map_grant_ref *op, uint32_t domid, const uint32_t *refs,
		      unsigned int pages)
{
	struct ioctl_gntdev_unmap_grant_ref off = { .count = pages };
	int dev = gntdev();
	int rc;

	if (dev < 0)
		return dev;
	memset(op, 0, sizeof(*op));
	op->count = pages;
	for (unsigned int i = 0; i < pages; i++) {
		op->refs[i].domid = domid;
		op->refs[i].ref = refs[i];
	}
	rc = sys_ioctl(dev, IOCTL_GNTDEV_MAP_GRANT_REF, op);
	if (rc < 0)
		return rc;
	off.index = op->index;
	rc = map_at(&at, at, (size_t)pages * PAGE, PROT_READ, MAP_SHARED | how, dev, op->index);
	/* Off gntdev's list: from here on the mapping alone holds the grants. */
	(void)sys_ioctl(dev, IOCTL_GNTDEV_UNMAP_GRANT_REF, &off);
	return rc == -EINVAL ? -EPIPE : rc;
}

struct scratch {			/* too much for a small stack */
	uint32_t refs[PAGES_MAX];
	union {
		struct ioctl_gntdev_map_grant_ref op;
		uint8_t room[sizeof(struct ioctl_gntdev_map_grant_ref) +
			     PAGES_MAX * sizeof(struct ioctl_gntdev_grant_ref)];
	} map;
};

/* The table of grants and what the header says, read once. */
static int read_header(uint32_t *refs, const struct xshim_region_hdr *hdr, const struct xshim_remote *want)
{
	const volatile struct xshim_region_hdr *shared = hdr;
	const volatile uint32_t *table = hdr->grefs;
	unsigned int its_order;
	uint64_t its_nonce;
	int rc;

	/* Another page of the same guest's: ours has gone, and its number is that of another grant. */
	if (shared->magic != XSHIM_REGION_MAGIC || shared->nonce != want->nonce)
		return -EPIPE;
	rc = xshim_region_check(hdr, xshim_region_bytes(want->order), &its_order, &its_nonce);
	if (rc < 0 || its_nonce != want->nonce)
		return -EPROTO;
	if (!is_alive(hdr))
		return -EPIPE;
	refs[0] = want->gref;
	for (unsigned int i = 1; i < pages_of(want->order); i++)
		refs[i] = table[i - 1];
	return 0;
}

/*
 * Map the region that `want` describes at `at`, where MAP_NONE lies (how: MAP_FIXED) or nothing does (MAP_FIXED_NOREPLACE). When it
 * fails nothing lies there.
 */
static int map_region(void *at, int how, const struct xshim_remote *want)
{
	unsigned int pages = pages_of(want->order);
	struct scratch *s;
	void *p;
	int rc;

	rc = map_at(&p, NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (rc < 0)
		return rc;
	s = p;
	rc = map_grants(at, how, &s->map.op, want->domid, &want->gref, 1);
	if (rc == 0) {
		rc = read_header(s->refs, at, want);
		/* The place must be free, not only ours, for MAP_FIXED_NOREPLACE. */
		if (rc < 0 || how != MAP_FIXED)
			munmap(at, PAGE);
		if (rc == 0)
			rc = map_grants(at, how, &s->map.op, want->domid, s->refs, pages);
	}
	munmap(s, sizeof(*s));
	return rc;
}

/* Bytes of address space for a region: whole pieces. */
static size_t piece(unsigned int order)
{
	return (xshim_region_bytes(order) + PIECE - 1) / PIECE * PIECE;
}

/* Address space for it, with nothing in it. */
static int reserve(void **out, unsigned int order)
{
	size_t bytes = piece(order), head;
	uint8_t *at;
	void *p;
	int rc;

	rc = map_at(&p, NULL, bytes + PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (rc < 0)
		return rc;
	at = p;
	head = -(uintptr_t)at % PIECE;
	if (head)
		munmap(at, head);
	munmap(at + head + bytes, PIECE - head);
	*out = at + head;
	return 0;
}

static int bind_channel(struct xshim_local *l, uint32_t remote_port)
{
	struct ioctl_evtchn_bind_interdomain bind = { .remote_domain = l->domid, .remote_port = remote_port };
	int rc;

	rc = sys_ioctl(l->fds[XSHIM_LOCAL_EVENT], IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind);
	if (rc < 0)
		return rc == -EINVAL || rc == -ESRCH ? -EPIPE : rc;	/* no such port, or not for us; no such domain */
	l->port = (uint32_t)rc;
	return 0;
}

static int xen_attach(struct xshim_remote *r, struct xshim_local *l, const struct xshim_ticket *t, const int *fds)
{
	struct xshim_remote want = {
		.order = t->order, .nonce = t->nonce, .bell = -1, .domid = t->domid, .gref = t->gref,
	};
	void *at;
	int rc;

	(void)fds;
	/* One event channel for both: who offered has it, who claimed binds to it. */
	if (!is_order(t->order) || t->domid != l->domid || !t->gref || !t->port == !l->port)
		return -EPROTO;
	rc = reserve(&at, t->order);
	if (rc < 0)
		return rc;
	rc = map_region(at, MAP_FIXED, &want);
	if (rc < 0) {
		/* What was to be the region is nobody's now, or somebody else's. */
		munmap((uint8_t *)at + xshim_region_bytes(t->order), piece(t->order) - xshim_region_bytes(t->order));
		return rc;
	}
	if (!l->port) {
		rc = bind_channel(l, t->port);
		if (rc < 0) {
			munmap(at, piece(t->order));
			return rc;
		}
	}
	want.region = at;
	*r = want;
	return 0;
}

static void xen_detach(struct xshim_remote *r)
{
	if (r->region)
		munmap((void *)(uintptr_t)r->region, piece(r->order));
	r->region = NULL;
}

/* how: MAP_FIXED, MAP_FIXED_NOREPLACE, or 0 for anywhere. */
static int zeros_at(struct xshim_remote *r, int how)
{
	void *at = how ? (void *)(uintptr_t)r->region : NULL;
	int rc;

	rc = map_at(&at, at, xshim_region_bytes(r->order), PROT_READ,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0);
	if (rc == 0)
		r->region = at;
	return rc;
}

static void xen_forsake(struct xshim_remote *r)
{
	if (r->region)
		(void)zeros_at(r, MAP_FIXED);
}

/* The child has what the parent has mapped. */
static bool is_mapped(const struct xshim_remote *r)
{
	unsigned char vec[PAGES_MAX];
	int saved = errno;
	bool all = mincore((void *)(uintptr_t)r->region, xshim_region_bytes(r->order), vec) == 0;

	errno = saved;
	return all;
}

static int xen_forked(struct xshim_local *l, struct xshim_remote *r)
{
	struct xshim_remote want = *r;
	void *at = (void *)(uintptr_t)r->region;
	int rc;

	(void)l;
	if (!at || is_mapped(r))
		return 0;
	rc = map_region(at, MAP_FIXED_NOREPLACE, &want);
	if (rc == 0)
		return 0;
	/* Not to be mistaken for memory: the address may be somebody else's soon. */
	if (zeros_at(r, MAP_FIXED_NOREPLACE) < 0 && zeros_at(r, 0) < 0)
		r->region = NULL;
	return rc;
}

/* ---- ringing ---- */

static int xen_ring(const struct xshim_local *l, const struct xshim_remote *r)
{
	struct ioctl_evtchn_notify n = { .port = l->port };
	int rc;

	if (!is_alive(r->region))
		return -EPIPE;		/* the kernel would say nothing */
	rc = sys_ioctl(l->fds[XSHIM_LOCAL_EVENT], IOCTL_EVTCHN_NOTIFY, &n);
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

/*
 * Take what the channel has to say and let it speak again. What was there on entry is gone when this returns, what comes after it
 * makes the bell readable anew. The port is written back in any case: somebody who shares the channel may have been killed
 * between the two. True: the channel had spoken.
 */
static bool hush_channel(const struct xshim_local *l)
{
	int fd = l->fds[XSHIM_LOCAL_EVENT];
	uint32_t ports[16];
	ssize_t rc;

	rc = sys_read(fd, ports, sizeof(ports));
	if (rc == -EFBIG)		/* more than it can note, which one port cannot bring about */
		(void)sys_ioctl(fd, IOCTL_EVTCHN_RESET, NULL);
	if (l->port)
		(void)sys_write(fd, &l->port, sizeof(l->port));
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
	if (!hush_channel(l))
		hush_socket(l);
	return r->region && is_alive(r->region) ? 0 : -EPIPE;
}

const struct xshim_backend xshim_backend_xen = {
	.name = "xen",
	.kind = XSHIM_BACKEND_XEN,
	.create = xen_create,
	.bye = xen_bye,
	.destroy = xen_destroy,
	.attach = xen_attach,
	.detach = xen_detach,
	.ring = xen_ring,
	.hush = xen_hush,
	.ring_self = xen_ring_self,
	.forked = xen_forked,
	.forsake = xen_forsake,
};
