/* SPDX-License-Identifier: MIT */
/*
 * options.h - what xshimd can be told: limits and times, from the configuration file and the command line.
 *
 * Errors: 0, or -EINVAL after a line for each mistake has been written; *o then is as it was.
 */
#ifndef XSHIMD_OPTIONS_H
#define XSHIMD_OPTIONS_H
#include <stdbool.h>
#include <stdint.h>
#include <xshim/log.h>

#define XSHIMD_CONFIG "/etc/xshim/xshimd.conf"
#define XSHIMD_CONFIG_MAX 65536		/* bytes; a configuration has a dozen lines */

enum xshimd_cross {			/* rings between network namespaces */
	XSHIMD_CROSS_OFF,		/* never */
	XSHIMD_CROSS_OWNED,		/* see probe.h: who owns the namespaces matters */
	XSHIMD_CROSS_ANY,		/* whoever passes the probe */
};

enum xshimd_trust {			/* addresses of other guests */
	XSHIMD_TRUST_CLAIM,		/* also those that a guest only claims */
	XSHIMD_TRUST_VIF,		/* those in the configuration of its network interfaces */
};

struct xshimd_options {
	char socket[108];		/* as long as sun_path */
	uint32_t log_level;		/* enum xshim_log_level */
	uint32_t role;			/* enum xshimd_role */
	uint32_t cross_netns;		/* enum xshimd_cross */
	uint32_t xen_trust;		/* enum xshimd_trust */
	uint32_t xen_gntalloc_limit;	/* pages; 0: left as it is */
	/* limits for one user */
	uint32_t max_connections;	/* control connections */
	uint32_t max_offers;		/* offers and claims that wait */
	uint32_t max_endpoints;		/* registrations, over all clients */
	uint32_t max_arenas;
	uint32_t max_rings;		/* connections on a ring, as the arenas show them */
	/* and for a ring */
	uint32_t max_ring_size;		/* bytes; a power of two */
	/* seconds */
	uint32_t hello_timeout;
	uint32_t offer_timeout;
	uint32_t probe_timeout;
	uint32_t probe_cache;		/* a positive answer of a probe */
	uint32_t probe_retry;		/* a negative one */
	uint32_t xen_drain_timeout;	/* for connections to leave their rings */
	uint32_t xen_drain_hold;	/* no new rings after a drain */
};

void xshimd_options_default(struct xshimd_options *o);

/*
 * Read a file over *o. A file that is not there is an error only if `must_exist`. Keys in `fixed` (set on the
 * command line) are checked but not taken.
 */
#define XSHIMD_FIXED_SOCKET	(1u << 0)
#define XSHIMD_FIXED_LOG	(1u << 1)
#define XSHIMD_FIXED_ROLE	(1u << 2)
int xshimd_options_read(struct xshimd_options *o, const char *path, bool must_exist, unsigned int fixed,
			const struct xshim_log *log);

#endif
