/* SPDX-License-Identifier: MIT */
/*
 * backend.c - the transports there are.
 */
#include <stddef.h>
#include <string.h>
#include <xshim/backend.h>

int (*xshim_backend_place)(int fd);

static const struct xshim_backend *const backends[] = {
	&xshim_backend_shm,
#ifdef HAVE_XEN_BACKEND
	&xshim_backend_xen,
#endif
};

const struct xshim_backend *xshim_backend_find(const char *name)
{
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i];
	return NULL;
}

const struct xshim_backend *xshim_backend_of(uint32_t kind)
{
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if ((uint32_t)backends[i]->kind == kind)
			return backends[i];
	return NULL;
}
