/* SPDX-License-Identifier: MIT */
#include "xen_bells.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xen_guest.h"
#include "xen_keeper.h"
#include "xshimd.h"

#define WAIT_MS 100

void xshimd_bell_close(struct xshimd *d, int fd)
{
	struct xshimd_bells *b = d->guest ? &d->guest->bells : NULL;
	int *more;

	if (fd < 0)
		return;
	if (!b || d->guest->sync.stopped) {
		close(fd);
		return;
	}
	if (b->n == b->room) {
		more = realloc(b->fd, (b->room + 64) * sizeof(*more));
		if (!more)
			return;		/* it stays open */
		b->fd = more;
		b->room += 64;
	}
	if (!b->n)
		b->due_ms = uv_now(&d->loop) + WAIT_MS;
	b->fd[b->n++] = fd;
	xshimd_timer_by(d, xshimd_has_room(d) ? b->due_ms : uv_now(&d->loop));
}

void xshimd_bells_ask(struct xshimd_bells *b)
{
	b->asked = b->n;
}

void xshimd_bells_answered(struct xshimd_bells *b, uint64_t now_ms)
{
	for (uint32_t i = 0; i < b->asked; i++)
		close(b->fd[i]);
	b->n -= b->asked;
	if (b->n)
		memmove(b->fd, b->fd + b->asked, b->n * sizeof(*b->fd));
	b->asked = 0;
	b->due_ms = now_ms + WAIT_MS;	/* of those that have come meanwhile */
}

void xshimd_bells_keep(struct xshimd_bells *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		xshimd_keeper_hold(b->fd[i]);
	b->n = b->asked = 0;
}

void xshimd_bells_free(struct xshimd_bells *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		close(b->fd[i]);
	free(b->fd);
	memset(b, 0, sizeof(*b));
}
