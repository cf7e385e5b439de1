/* SPDX-License-Identifier: MIT */
/*
 * match.h - which offer belongs to which claim.
 *
 * Both must speak of the same connection: one's addresses are the other's mirrored. That alone proves nothing,
 * as anybody can make a private network namespace with the same addresses and ports. So:
 *
 * - Same namespace (SO_NETNS_COOKIE): the kernel has only one such connection there; matched, before all others.
 * - Different namespaces: neither address a loopback one, and a probe (probe.h) has shown that the offering
 *   end reaches the claiming end's namespace at these addresses. Exactly one offer must pass, and no rival
 *   claim for it; more than one is ambiguous, and everything stays on TCP.
 * - Both from one control connection: no ring; the process would talk to itself through us.
 */
#ifndef XSHIMD_MATCH_H
#define XSHIMD_MATCH_H
#include <xshim/proto.h>

struct xshimd;
struct xshimd_conn;

/* OFFER or CLAIM with its descriptors, all of which are taken over. */
void xshimd_match_channel(struct xshimd_conn *c, const union xshim_msg *m, int *fds, unsigned int nfds);
void xshimd_match_withdraw(struct xshimd_conn *c, uint32_t id);
/* Look at every claim that waits. */
void xshimd_match_all(struct xshimd *d);

#endif
