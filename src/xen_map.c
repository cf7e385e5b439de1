/* SPDX-License-Identifier: MIT */
/*
 * Each mapping is told to gntdev anew and struck off its list when it is mapped, so that nothing but the mapping holds the grants,
 * and unmapping gives them back also where the kernel would keep them (guests other than PV). The peer's table of grants is copied
 * once. The header is mapped alone first, because it holds the table; then all pages in one piece, over it.
 */
#include "xen_map.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xshim/backend.h>
#include "sys.h"

/* The kernel's header uses Xen's names without defining them. */
typedef uint16_t domid_t;
typedef uint32_t grant_ref_t;
#include <xen/gntdev.h>

#define COPY_FROM_GRANT 1		/* Xen's own name for it, and for the status, is in no header of the kernel's */
#define COPY_DONE 0
#define PIECE ((size_t)2 << 20)		/* address space that one page of a page table speaks for */

static _Atomic int kept_gntdev = -1;	/* see gntdev(); mapping is by one at a time */
static dev_t gntdev_is;

int xen_map_at(void **out, void *at, size_t bytes, int prot, int flags, int fd, uint64_t offset)
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
 * gntdev says of a mapping that cannot be had no more than that. Of a page that is granted to us Xen copies a byte for us, and that needs
 * nothing that can be used up; so this tells what the peer has taken back or never given from what we lack.
 */
static bool is_granted(int dev, uint32_t domid, uint32_t ref)
{
	uint8_t byte;
	struct gntdev_grant_copy_segment seg = {
		.source.foreign = { .ref = ref, .domid = (domid_t)domid },
		.dest.virt = &byte,
		.len = 1,
		.flags = COPY_FROM_GRANT,
	};
	struct ioctl_gntdev_grant_copy op = { .count = 1, .segments = &seg };

	return sys_ioctl(dev, IOCTL_GNTDEV_GRANT_COPY, &op) == 0 && seg.status == COPY_DONE;
}

/*
 * how: MAP_FIXED or MAP_FIXED_NOREPLACE. op: room for so many. -EPIPE: not granted to us, or not any more: that of an end that has just
 * gone is taken back. -ENOSPC: granted, but Xen has no room left to note one more mapping of ours.
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
	rc = xen_map_at(&at, at, (size_t)pages * XEN_MAP_PAGE, PROT_READ, MAP_SHARED | how, dev, op->index);
	/* Off gntdev's list: from here on the mapping alone holds the grants. */
	(void)sys_ioctl(dev, IOCTL_GNTDEV_UNMAP_GRANT_REF, &off);
	if (rc != -EINVAL)
		return rc;
	for (unsigned int i = 0; i < pages; i++)
		if (!is_granted(dev, domid, refs[i]))
			return -EPIPE;
	return -ENOSPC;
}

struct scratch {			/* too much for a small stack */
	uint32_t refs[XEN_MAP_PAGES_MAX];
	union {
		struct ioctl_gntdev_map_grant_ref op;
		uint8_t room[sizeof(struct ioctl_gntdev_map_grant_ref) +
			     XEN_MAP_PAGES_MAX * sizeof(struct ioctl_gntdev_grant_ref)];
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
	if (!xen_map_is_alive(hdr))
		return -EPIPE;
	refs[0] = want->gref;
	for (unsigned int i = 1; i < xen_map_pages(want->order); i++)
		refs[i] = table[i - 1];
	return 0;
}

/*
 * Map the region that `want` describes at `at`, where MAP_NONE lies (how: MAP_FIXED) or nothing does (MAP_FIXED_NOREPLACE). When it
 * fails nothing lies there.
 */
static int map_region(void *at, int how, const struct xshim_remote *want)
{
	unsigned int pages = xen_map_pages(want->order);
	struct scratch *s;
	void *p;
	int rc;

	rc = xen_map_at(&p, NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (rc < 0)
		return rc;
	s = p;
	rc = map_grants(at, how, &s->map.op, want->domid, &want->gref, 1);
	if (rc == 0) {
		rc = read_header(s->refs, at, want);
		/* The place must be free, not only ours, for MAP_FIXED_NOREPLACE. */
		if (rc < 0 || how != MAP_FIXED)
			munmap(at, XEN_MAP_PAGE);
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

	rc = xen_map_at(&p, NULL, bytes + PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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

int xen_map_peer(struct xshim_remote *r)
{
	size_t bytes = xshim_region_bytes(r->order);
	void *at;
	int rc;

	rc = reserve(&at, r->order);
	if (rc < 0)
		return rc;
	rc = map_region(at, MAP_FIXED, r);
	if (rc < 0) {
		/* What was to be the region is nobody's now, or somebody else's. */
		munmap((uint8_t *)at + bytes, piece(r->order) - bytes);
		return rc;
	}
	r->region = at;
	return 0;
}

void xen_map_drop(struct xshim_remote *r)
{
	if (r->region)
		munmap((void *)(uintptr_t)r->region, piece(r->order));
	r->region = NULL;
}

/* how: MAP_FIXED, or MAP_FIXED_NOREPLACE. */
static int zeros_at(const struct xshim_remote *r, int how)
{
	void *at = (void *)(uintptr_t)r->region;

	return xen_map_at(&at, at, xshim_region_bytes(r->order), PROT_READ,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0);
}

/* As much address space as the drop will give back. */
static int zeros_elsewhere(struct xshim_remote *r)
{
	void *at;
	int rc;

	rc = reserve(&at, r->order);
	if (rc < 0)
		return rc;
	r->region = at;
	return zeros_at(r, MAP_FIXED);
}

void xen_map_forsake(struct xshim_remote *r)
{
	if (r->region)
		(void)zeros_at(r, MAP_FIXED);
}

/* The child has what the parent has mapped. */
static bool is_mapped(const struct xshim_remote *r)
{
	unsigned char vec[XEN_MAP_PAGES_MAX];
	int saved = errno;
	bool all = mincore((void *)(uintptr_t)r->region, xshim_region_bytes(r->order), vec) == 0;

	errno = saved;
	return all;
}

int xen_map_forked(struct xshim_remote *r)
{
	struct xshim_remote want = *r;
	void *at = (void *)(uintptr_t)r->region;
	int rc;

	if (!at || is_mapped(r))
		return 0;
	rc = map_region(at, MAP_FIXED_NOREPLACE, &want);
	if (rc == 0)
		return 0;
	/* Not to be mistaken for memory: the address may be somebody else's soon. */
	if (zeros_at(r, MAP_FIXED_NOREPLACE) < 0 && zeros_elsewhere(r) < 0)
		r->region = NULL;
	return rc;
}
