/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * sockmap.bpf.c - what the kernel itself has to offer for connections within one machine: every connection
 * made in a cgroup goes into a map, and what is sent on one end is put into the receive queue of the other.
 *
 * A connection's key is its addresses and ports as this end sees them, so the peer's has them turned round.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 local_ip, remote_ip, local_port, remote_port;	/* ports in host order */
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct key);
	__type(value, __u64);
} connections SEC(".maps");

SEC("sockops")
int note_connection(struct bpf_sock_ops *s)
{
	struct key k = { s->local_ip4, s->remote_ip4, s->local_port, bpf_ntohl(s->remote_port) };

	if (s->family != 2)	/* AF_INET */
		return 1;
	if (s->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || s->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		bpf_sock_hash_update(s, &connections, &k, BPF_ANY);
	return 1;
}

SEC("sk_msg")
int redirect(struct sk_msg_md *m)
{
	struct key k = { m->remote_ip4, m->local_ip4, bpf_ntohl(m->remote_port), m->local_port };

	if (bpf_msg_redirect_hash(m, &connections, &k, BPF_F_INGRESS) == SK_DROP)
		return SK_PASS;		/* the other end is not in the map */
	return SK_PASS;
}

char programs_license[] SEC("license") = "GPL";
