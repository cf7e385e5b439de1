/* SPDX-License-Identifier: MIT */
/*
 * xen_list.h - role host: which guest has which addresses, decided from what xenstore says of all domains.
 *
 *   1. A network interface's configuration that lists addresses is the host's own word: the guest may have these and no others.
 *   2. An address that no configuration lists is the guest's if it claims it and nobody else has it: not this host,
 *      not another's configuration, not a guest that had it before; among guests that come at the same time the lower number.
 *   3. With vif_only there is no second rule.
 *
 * A claim is not proof: where guests do not trust one another, give each its addresses in its configuration (ip= of vif).
 *
 * Pure. Threads: any, one at a time for a list.
 */
#ifndef XSHIMD_XEN_LIST_H
#define XSHIMD_XEN_LIST_H
#include "xen_text.h"

#define XSHIMD_XEN_DOMAINS 256

struct xshimd_xen_domain {
	uint32_t domid;
	uint64_t life;
	/* what it says of itself; takes_part false: nothing, or nothing that can be read */
	bool takes_part;
	bool bad;			/* there is something, but it cannot be read */
	uint64_t instance;
	struct xshimd_xen_addrs claimed;
	/* what its network interfaces' configuration says */
	bool has_vif;
	struct xshimd_xen_addrs vif;
	/* decided */
	struct xshimd_xen_addrs taken;
};

struct xshimd_xen_list {
	uint32_t n;
	struct xshimd_xen_domain d[XSHIMD_XEN_DOMAINS];	/* by number */
};

typedef void (*xshimd_xen_refused_fn)(void *arg, const struct xshimd_xen_domain *d, const struct xshim_endpoint *ep,
				      const char *why);

/* Decide `taken` of each. before: the last decision; own: this host's addresses. */
void xshimd_xen_list_decide(struct xshimd_xen_list *l, const struct xshimd_xen_list *before,
			    const struct xshimd_xen_addrs *own, uint32_t own_n, bool vif_only,
			    xshimd_xen_refused_fn refused, void *arg);

const struct xshimd_xen_domain *xshimd_xen_list_find(const struct xshimd_xen_list *l, uint32_t domid);
/* A domain as others are told of it. */
void xshimd_xen_list_entry(const struct xshimd_xen_domain *d, struct xshimd_xen_guest *out);

#endif
