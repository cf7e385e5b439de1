/* SPDX-License-Identifier: MIT */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>

struct xshimd_watch {
	uv_poll_t poll;
	xshimd_watch_fn fn;	/* NULL: closed, waiting for libuv */
	void *owner;
};

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
	struct xshimd_watch *w = calloc(1, sizeof(*w));
	int rc;

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
