/* SPDX-License-Identifier: MIT */
/*
 * inherit.c - connections over exec. The old image leaves the arenas open and names their descriptors in
 * XSHIM_ARENA=pid:fd[:fd...]; the new image's constructor maps them and finds by socket cookie which of its
 * descriptors are connections, with their roles, holders and offsets.
 */
#include "conn.h"
#include "privfd.h"
#include "process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_VAR "XSHIM_ARENA="

/*
 * The environment for the new image: as given, and which descriptors are arenas. room: entries at out; text: for the
 * variable. Returns out, or env when there is nothing to hand over.
 */
char *const *xshim_inherit_env(char *const *env, char **out, char text[96])
{
	size_t n = 0, used;

	used = (size_t)snprintf(text, 96, ARENA_VAR "%d:%d", (int)getpid(), xshim_own_arena_fd);
	for (int i = 0; i < XSHIM_ARENAS_MAX - 1; i++)
		if (xshim_old_arena_fds[i] >= 0 && used < 80)
			used += (size_t)snprintf(text + used, 96 - used, ":%d", xshim_old_arena_fds[i]);
	for (; env && *env; env++)
		if (strncmp(*env, ARENA_VAR, sizeof(ARENA_VAR) - 1))
			out[n++] = *env;
	out[n++] = text;
	out[n] = NULL;
	return out;
}

void xshim_inherit_cross(bool on)
{
	int flags = on ? 0 : FD_CLOEXEC;

	libc.fcntl(xshim_own_arena_fd, F_SETFD, flags);
	for (int i = 0; i < XSHIM_ARENAS_MAX - 1; i++)
		if (xshim_old_arena_fds[i] >= 0)
			libc.fcntl(xshim_old_arena_fds[i], F_SETFD, flags);
}

/* The slot of this arena that holds the socket and that this process shares, or NULL. */
static struct xshim_slot *slot_of_cookie(const struct xshim_arena *a, uint64_t cookie)
{
	uint32_t top = atomic_load_explicit(&a->hdr->high_water, memory_order_acquire);

	for (uint32_t i = 0; i < top && i < XSHIM_ARENA_SLOTS; i++) {
		struct xshim_slot *s = xshim_slot_at(a, i);

		if (atomic_load_explicit(&s->state, memory_order_acquire) != XSHIM_SLOT_USED ||
		    !atomic_load_explicit(&s->named, memory_order_acquire) || s->cookie != cookie)
			continue;
		for (int k = 0; k < XSHIM_ARENA_SHARERS; k++)
			if (atomic_load_explicit(&s->sharers[k], memory_order_relaxed) ==
			    (uint32_t)getpid())
				return s;
	}
	return NULL;
}

/* One socket under several numbers is one connection. */
static struct xshim_conn *conn_of_slot(const struct xshim_slot *s)
{
	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		struct xshim_conn *c = (struct xshim_conn *)xshim_obj_at(XSHIM_OBJ_CONN, i);

		if (c && c->slot == s)
			return c;
	}
	return NULL;
}

static void adopt_fds(const struct xshim_arena *a)
{
	for (int fd = 0; fd < 1024; fd++) {
		struct xshim_slot *s;
		struct xshim_conn *c;
		uint64_t cookie;
		socklen_t len = sizeof(cookie);

		if (xshim_fd_peek(fd) || libc.getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
			continue;
		s = slot_of_cookie(a, cookie);
		if (!s)
			continue;
		c = conn_of_slot(s);
		if (c)
			xshim_fd_set(fd, &c->obj);
		else
			xshim_conn_adopt(fd, a, s);
	}
}

void xshim_process_inherit(void)
{
	const char *text = getenv("XSHIM_ARENA");
	struct xshim_arena a;
	int pid, fd, used, k = 0;

	if (!text)
		return;
	/* meant for this process alone: a child that inherits the variable by another way must not believe it */
	if (sscanf(text, "%d%n", &pid, &used) == 1 && pid == getpid()) {
		for (text += used; k < XSHIM_ARENAS_MAX - 1 && sscanf(text, ":%d%n", &fd, &used) == 1;
		     text += used) {
			if (fd < 3 || xshim_arena_map(&a, fd, true) < 0)
				continue;
			xshim_privfd_adopt(fd);
			libc.fcntl(fd, F_SETFD, FD_CLOEXEC);
			xshim_old_arenas[k] = a;
			xshim_old_arena_fds[k++] = fd;
			adopt_fds(&a);
		}
	}
	unsetenv("XSHIM_ARENA");
}
