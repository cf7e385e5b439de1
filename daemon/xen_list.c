/* SPDX-License-Identifier: MIT */
#include "xen_list.h"

#include <string.h>

const struct xshimd_xen_domain *xshimd_xen_list_find(const struct xshimd_xen_list *l, uint32_t domid)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->d[i].domid == domid)
			return &l->d[i];
	return NULL;
}

void xshimd_xen_list_entry(const struct xshimd_xen_domain *d, struct xshimd_xen_guest *out)
{
	memset(out, 0, sizeof(*out));
	out->domid = d->domid;
	out->by_vif = d->has_vif;
	out->instance = d->instance;
	out->life = d->life;
	out->addrs = d->taken;
}

static bool had_it(const struct xshimd_xen_list *before, const struct xshimd_xen_domain *d, const struct xshim_endpoint *ep)
{
	const struct xshimd_xen_domain *old = xshimd_xen_list_find(before, d->domid);

	return old && old->life == d->life && xshimd_xen_addrs_have(&old->taken, ep);
}

/* Why the claim is not believed; NULL: it is. */
static const char *objection(const struct xshimd_xen_list *l, const struct xshimd_xen_list *before,
			     const struct xshimd_xen_domain *d, const struct xshim_endpoint *ep)
{
	for (uint32_t i = 0; i < l->n; i++) {
		const struct xshimd_xen_domain *o = &l->d[i];

		if (o == d)
			continue;
		if (xshimd_xen_addrs_have(&o->vif, ep))
			return "another guest's configuration has it";
		if (!o->takes_part || o->has_vif || !xshimd_xen_addrs_have(&o->claimed, ep))
			continue;
		if (had_it(before, o, ep) || (o->domid < d->domid && !had_it(before, d, ep)))
			return "another guest has it";
	}
	return NULL;
}

static const char *judge(const struct xshimd_xen_list *l, const struct xshimd_xen_list *before,
			 const struct xshimd_xen_domain *d, const struct xshim_endpoint *ep,
			 const struct xshimd_xen_addrs *own, uint32_t own_n, bool vif_only)
{
	for (uint32_t i = 0; i < own_n; i++)
		if (xshimd_xen_addrs_have(&own[i], ep))
			return "this host has it";
	if (d->has_vif) {
		if (!xshimd_xen_addrs_have(&d->vif, ep))
			return "its configuration does not list it";
		for (uint32_t i = 0; i < l->n; i++)
			if (&l->d[i] != d && xshimd_xen_addrs_have(&l->d[i].vif, ep))
				return "another guest's configuration has it, too";
		return NULL;
	}
	return vif_only ? "its configuration lists none" : objection(l, before, d, ep);
}

void xshimd_xen_list_decide(struct xshimd_xen_list *l, const struct xshimd_xen_list *before,
			    const struct xshimd_xen_addrs *own, uint32_t own_n, bool vif_only,
			    xshimd_xen_refused_fn refused, void *arg)
{
	const char *why;

	for (uint32_t i = 0; i < l->n; i++) {
		struct xshimd_xen_domain *d = &l->d[i];

		memset(&d->taken, 0, sizeof(d->taken));
		for (uint32_t k = 0; d->takes_part && k < d->claimed.n; k++) {
			why = judge(l, before, d, &d->claimed.a[k], own, own_n, vif_only);
			if (!why)
				d->taken.a[d->taken.n++] = d->claimed.a[k];
			else
				refused(arg, d, &d->claimed.a[k], why);
		}
	}
}
