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
 *
 * Between guests of one Xen host (backend xen, match_xen.c) the two are of different kernels. Each xshimd asks its own kernel about its
 * own end, and takes nothing that is not of its own network namespace, as that alone has the guest's addresses. Whose the other
 * address is says the host's list. The claim belongs to the one offer that came from that domain for the mirrored addresses and is
 * younger than what is claimed (xen_peer.h); with two of them, to none. Nobody else can put himself between: a grant and an event
 * channel are made out to a domain.
 */
#ifndef XSHIMD_MATCH_H
#define XSHIMD_MATCH_H
#include <xshim/proto.h>

struct xshimd;
struct xshimd_conn;

/* OFFER or CLAIM with its descriptors, all of which are taken over. */
void xshimd_match_channel(struct xshimd_conn *c, const union xshim_msg *m, int *fds, unsigned int nfds);
/* Take an offer's share of the client's quota; 0, or a reason to decline. */
uint32_t xshimd_match_quota(struct xshimd_conn *c);
/* Since when what is claimed has been there, or longer; the message came at seen_ns. */
uint64_t xshimd_match_since(const union xshim_msg *m, uint64_t seen_ns);
void xshimd_match_withdraw(struct xshimd_conn *c, uint32_t id);
/* Look at every claim that waits. */
void xshimd_match_all(struct xshimd *d);

#endif
