/* SPDX-License-Identifier: MIT */
#include "watch.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

struct xshimd_watch {
	uv_poll_t poll;
	xshimd_watch_fn fn;	/* NULL: closed, waiting for libuv */
	void *owner;
};

/*
 * libuv ends the program when its table of descriptors cannot grow. So room for that is had before a descriptor is given to it,
 * and goes to the table if the allocator fails there.
 */
static void *spare;
static size_t spare_bytes;

static void *grow(void *old, size_t bytes)
{
	void *fresh = realloc(old, bytes);
	size_t had;

	if (fresh || !bytes || bytes > spare_bytes)
		return fresh;
	fresh = spare;
	spare = NULL;
	spare_bytes = 0;
	if (old) {
		had = malloc_usable_size(old);
		memcpy(fresh, old, had < bytes ? had : bytes);
		free(old);
	}
	return fresh;
}

/* As libuv makes it: a power of two, two of which are its own. */
static int room_for(unsigned int fd)
{
	size_t n = 64, bytes;
	void *more;

	while (n < (size_t)fd + 3)
		n *= 2;
	bytes = n * sizeof(void *);
	if (bytes <= spare_bytes)
		return 0;
	more = malloc(bytes);
	if (!more)
		return -ENOMEM;
	free(spare);
	spare = more;
	spare_bytes = bytes;
	return 0;
}

int xshimd_watch_init(void)
{
	int rc = room_for(0);

	return rc < 0 ? rc : uv_replace_allocator(malloc, grow, calloc, free);
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct xshimd_watch *w = poll->data;

	if (w->fn)
		w->fn(w->owner, status < 0 ? 0 : events);
}

int xshimd_watch_open(struct xshimd_watch **out, uv_loop_t *loop, int fd, int events, xshimd_watch_fn fn,
		      void *owner)
{
	struct xshimd_watch *w;
	int rc;

	if ((unsigned int)fd >= loop->nwatchers) {
		rc = room_for((unsigned int)fd);
		if (rc < 0)
			return rc;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	rc = uv_poll_init(loop, &w->poll, fd);
	if (rc < 0) {
		free(w);
		return rc;
	}
	w->poll.data = w;
	w->fn = fn;
	w->owner = owner;
	rc = uv_poll_start(&w->poll, events, on_poll);
	if (rc < 0) {
		w->fn = NULL;
		uv_close((uv_handle_t *)&w->poll, on_closed);
		return rc;
	}
	*out = w;
	return 0;
}

void xshimd_watch_close(struct xshimd_watch **w)
{
	if (!*w)
		return;
	(*w)->fn = NULL;
	uv_close((uv_handle_t *)&(*w)->poll, on_closed);
	*w = NULL;
}
