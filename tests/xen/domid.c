/* SPDX-License-Identifier: MIT */
/*
 * domid.c - preloaded into xl: the domain that it makes gets the number $LAB_DOMID.
 *
 * Xen gives a number anew only after some 32,000 others, which no test can wait for, but takes one that is asked for if it is free.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <xenctrl.h>

int xc_domain_create(xc_interface *xch, uint32_t *pdomid, struct xen_domctl_createdomain *config)
{
	int (*create)(xc_interface *, uint32_t *, struct xen_domctl_createdomain *);
	const char *wanted = getenv("LAB_DOMID");

	*(void **)&create = dlsym(RTLD_NEXT, "xc_domain_create");
	if (!create)
		abort();
	if (wanted)
		*pdomid = (uint32_t)strtoul(wanted, NULL, 10);
	return create(xch, pdomid, config);
}
