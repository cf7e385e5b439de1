/* SPDX-License-Identifier: MIT */
/*
 * ring.c - the one place that copies payload in and out of a ring.
 */
#include <limits.h>
#include <xshim/ring.h>
#include <xshim/ucopy.h>

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Step over entries that have nothing (left) in them. */
static void settle(struct xshim_iov *it)
{
	while (it->index < it->count && it->offset == it->v[it->index].iov_len) {
		it->index++;
		it->offset = 0;
	}
}

void xshim_iov_init(struct xshim_iov *it, const struct iovec *v, size_t count)
{
	it->v = v;
	it->count = count;
	it->index = 0;
	it->offset = 0;
}

size_t xshim_iov_left(const struct xshim_iov *it)
{
	size_t offset = it->offset;
	size_t left = 0;

	for (size_t i = it->index; i < it->count; i++) {
		size_t n = it->v[i].iov_len - offset;

		if (n > (size_t)SSIZE_MAX - left)
			return SSIZE_MAX;
		left += n;
		offset = 0;
	}
	return left;
}

void xshim_iov_skip(struct xshim_iov *it, size_t n)
{
	for (settle(it); n && it->index < it->count; settle(it)) {
		size_t step = smaller(n, it->v[it->index].iov_len - it->offset);

		it->offset += step;
		n -= step;
	}
}

size_t xshim_iov_slice(const struct xshim_iov *it, size_t max, struct iovec *out, size_t cap)
{
	struct xshim_iov at = *it;
	size_t used = 0;

	for (settle(&at); max && used < cap && at.index < at.count; settle(&at)) {
		const struct iovec *v = &at.v[at.index];
		size_t n = smaller(max, v->iov_len - at.offset);

		out[used].iov_base = (uint8_t *)v->iov_base + at.offset;
		out[used].iov_len = n;
		used++;
		at.offset += n;
		max -= n;
	}
	return used;
}

int xshim_ring_stretch(const uint8_t *data, unsigned int order, uint64_t pos, size_t n, struct iovec v[2])
{
	size_t size = (size_t)1 << order;
	size_t at = (size_t)(pos & (size - 1));
	size_t first = smaller(n, size - at);

	if (n == 0)
		return 0;
	v[0].iov_base = (uint8_t *)(uintptr_t)(data + at);
	v[0].iov_len = first;
	if (first == n)
		return 1;
	v[1].iov_base = (uint8_t *)(uintptr_t)data;
	v[1].iov_len = n - first;
	return 2;
}

/*
 * Bytes that were copied; fewer than n: a bad address was met, or there was less in the iovec. step: what is
 * copied at a time.
 */
static size_t copy(uint8_t *data, unsigned int order, uint64_t pos, struct xshim_iov *it, size_t n, bool in, size_t step)
{
	struct iovec part[2];
	int parts = xshim_ring_stretch(data, order, pos, n, part);
	size_t done = 0;

	for (int i = 0; i < parts; i++) {
		uint8_t *ring = part[i].iov_base;
		size_t left = part[i].iov_len;

		for (settle(it); left && it->index < it->count; settle(it)) {
			const struct iovec *v = &it->v[it->index];
			uint8_t *user = (uint8_t *)v->iov_base + it->offset;
			size_t now = smaller(smaller(left, v->iov_len - it->offset), step - done % step);

			if (in ? xshim_ucopy(ring, user, now) : xshim_ucopy(user, ring, now))
				return done;
			it->offset += now;
			ring += now;
			left -= now;
			done += now;
		}
	}
	return done;
}

static size_t copy_grains(uint8_t *data, unsigned int order, uint64_t pos, struct xshim_iov *it, size_t n, bool in)
{
	struct xshim_iov begin = *it;
	size_t done = copy(data, order, pos, it, n, in, SIZE_MAX);

	if (done == n)
		return n;
	/* once more, to know how far it is good */
	*it = begin;
	done = copy(data, order, pos, it, n, in, XSHIM_RING_GRAIN);
	done -= done % XSHIM_RING_GRAIN;
	*it = begin;
	xshim_iov_skip(it, done);
	return done;
}

size_t xshim_ring_copy_in(uint8_t *data, unsigned int order, uint64_t pos, struct xshim_iov *it, size_t n)
{
	return copy_grains(data, order, pos, it, n, true);
}

size_t xshim_ring_copy_out(const uint8_t *data, unsigned int order, uint64_t pos, struct xshim_iov *it, size_t n)
{
	if (!it)
		return n;
	return copy_grains((uint8_t *)(uintptr_t)data, order, pos, it, n, false);
}
