/* SPDX-License-Identifier: MIT */
/*
 * proto.h - messages between a shim (C), the command (C) and xshimd (D) (normative).
 *
 * Transport: SOCK_SEQPACKET at /run/xshim/xshimd.sock; one message a packet, fixed size per type, native
 * byte order (one host). Descriptors ride with SCM_RIGHTS. Nobody ever blocks on it: xshimd drops a
 * client whose queue is full, a shim that gets EAGAIN tries at a later call.
 *
 *   0       4         6      8        12    16
 *   +-------+---------+------+--------+-----+------//
 *   | magic | version | type | length | id  | body
 *   +-------+---------+------+--------+-----+------//
 *
 * length is of the whole message. id names a connection of this client: (slot generation << 16 | slot
 * index) mod 2^32 by convention, opaque to xshimd; 0 where no connection is meant. Numbers are never
 * used again; a change bumps the version. Reserved fields are zero.
 *
 * type       from  state     descriptors                     answer
 * HELLO      C     new       0..4 arenas, own first          WELCOME + map, or REFUSED and the end
 * WELCOME    D               map
 * REFUSED    D                                               (connection is closed by D)
 * PING       C     greeted                                   PONG: D lives; asked before a TCP fd is sent, because
 *                                                            a TCP fd in flight to a stopped D keeps the connection open
 * PONG       D
 * ENDPOINT   C     greeted   an accepted TCP socket          none
 * OFFER      C     greeted   tcp, region, bell, life [, probe]  MATCHED, DECLINED or PROBE_WANTED, at any later time
 * CLAIM      C     greeted   tcp, region, bell, life [, probe]  MATCHED, DECLINED or PROBE_WANTED
 * WITHDRAW   C     greeted                                   none; a MATCHED may be under way
 * MATCHED    D               the peer's region, bell, life
 * DECLINED   D
 * PROBE_WANTED D                                             PROBE
 * PROBE      C     greeted   a TCP socket, see below         none
 * LOOK_WANTED D              xen: of an OFFER                LOOK
 * LOOK       C     greeted   tcp, that of the OFFER          MATCHED or DECLINED, as it was to OFFER
 * REPORT_ASK C     greeted                                   REPORT
 * REPORT     D               a memfd with JSON text
 * LEAVE      D               xen: return to TCP, then say LEFT; D rings the bell it was given, too
 * FORSAKE    D               xen: the peer's guest is gone; let go of its memory, the connection is reset
 * LEFT       C     greeted   xen: the channel of connection id is taken apart, for whatever reason
 * RESUME     C     greeted   BELL_OUT                        none; xen: the channel of connection id, with a process of domain `domid`,
 *                                                            was introduced by a D before this one and goes on
 * NUDGE      D               xen: ring the other end of each channel with that domain
 * DRAIN_ASK  C     greeted   (the command) DRAINED, when all have left or after drain_timeout
 * DRAINED    D
 *
 * Over xen OFFER and CLAIM carry two descriptors, the TCP socket and BELL_OUT (backend.h), which D keeps until LEFT
 * to wake a process that sleeps when there is LEAVE or FORSAKE for it; MATCHED carries none. Both TCP sockets must be in
 * D's own network namespace, whose addresses are the guest's.
 *
 * A D that is started anew knows of no channels. Each shim, when it has been greeted, names those that it has by RESUME, and
 * D treats them like those that it has introduced itself: it keeps BELL_OUT, counts them and waits for LEFT. Processes that
 * share a channel may each name it; D knows it by its bell and keeps it once. A process that sleeps notices nothing of a new D. So
 * a D that finds another guest's D started anew sends NUDGE to its shims; what they ring wakes the sleepers over there, who then look.
 *
 * OFFER is sent by the end that connected, CLAIM by the one that accepted when it finds the connection's
 * fingerprint in the map's offers. D takes addresses, cookies and the netns from the TCP descriptor and
 * closes it at once; `cookie` in the body must be that socket's. The region must be a memfd
 * with seals SHRINK|GROW|FUTURE_WRITE|SEAL of exactly xshim_region_bytes(order). The bell must be a timerfd or one half of a
 * unix SOCK_STREAM pair, life such a half (backend_shm.c). D passes the three on to the matched end and keeps nothing.
 *
 * So a copy of the socket is under way for a moment, and keeps the connection open if C ends then (the kernel drops the last of ours, FIN or
 * RST wait for D). C makes them go itself where it ends a connection, or the process, by a call. Without a copy D would have no proof that C
 * has the socket: sock_diag tells that there is one, and whose user made it; to take it from C (pidfd_getfd) needs the right to trace C.
 *
 * D sees a socket once, and who sent it may have closed it since: by RST its ports are free at once, for a connection of somebody else's.
 * So an offer and a claim are matched only if the connection that is claimed was there (age_us) when the offer's socket was seen, and
 * was seen after that: at that moment both had these addresses, and they are the two ends of one connection. An offer that is
 * older is DECLINED, and so is the claim if there is no other; both ends may try again. A lie about age_us costs the
 * liar the peer that it takes for its own.
 *
 * Over xen the D of the other guest sees the claim, and it has its own clock. So D asks that one for the time first (xen_peer.h), and
 * looks at the socket of the OFFER once more when it has the answer (LOOK_WANTED): then alone the offer is made over there.
 *
 * Probe. Two ends in different network namespaces are matched only if a TCP connection made by D shows
 * that one reaches the other at those addresses. The offering end supplies `probe`: a TCP socket of its
 * namespace, not connected, bound to (its local address, port 0), O_NONBLOCK; the claiming end supplies a listening socket of its
 * namespace bound to (its local address, port 0). D checks family, state, address and SO_NETNS_COOKIE,
 * connects the one to the other, sends a nonce, compares, and remembers the answer for
 * (netns, address, netns, address). Ends send no probe at first; D asks with PROBE_WANTED when it lacks one.
 *
 * A bad message (size, magic, unknown type, wrong state, reserved not zero, wrong number or kind of descriptors) gets
 * one log line at D and the end of that control connection; the client's connections stay where they are. What is well formed
 * but not allowed (quota, not co-resident, somebody else's socket) is DECLINED with a reason.
 */
#ifndef XSHIM_PROTO_H
#define XSHIM_PROTO_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <xshim/reason.h>

#define XSHIM_PROTO_MAGIC 0x58534843u	/* "XSHC" */
#define XSHIM_PROTO_VERSION 8
#define XSHIM_PROTO_MAX 128		/* no message is longer */
#define XSHIM_PROTO_MAX_FDS 5
#define XSHIM_DEFAULT_SOCKET "/run/xshim/xshimd.sock"

enum xshim_msg_type {
	XSHIM_MSG_HELLO = 1,
	XSHIM_MSG_WELCOME = 2,
	XSHIM_MSG_REFUSED = 3,
	XSHIM_MSG_PING = 4,
	XSHIM_MSG_PONG = 5,
	XSHIM_MSG_ENDPOINT = 6,
	XSHIM_MSG_OFFER = 7,
	XSHIM_MSG_CLAIM = 8,
	XSHIM_MSG_WITHDRAW = 9,
	XSHIM_MSG_MATCHED = 10,
	XSHIM_MSG_DECLINED = 11,
	XSHIM_MSG_PROBE_WANTED = 12,
	XSHIM_MSG_PROBE = 13,
	XSHIM_MSG_REPORT_ASK = 14,
	XSHIM_MSG_REPORT = 15,
	XSHIM_MSG_LEAVE = 16,
	XSHIM_MSG_FORSAKE = 17,
	XSHIM_MSG_LEFT = 18,
	XSHIM_MSG_DRAIN_ASK = 19,
	XSHIM_MSG_DRAINED = 20,
	XSHIM_MSG_RESUME = 21,
	XSHIM_MSG_NUDGE = 22,
	XSHIM_MSG_LOOK_WANTED = 23,
	XSHIM_MSG_LOOK = 24,
};

struct xshim_msg_hdr {
	uint32_t magic;
	uint16_t version;	/* of the sender; HELLO is understood in any version */
	uint16_t type;
	uint32_t length;
	uint32_t id;
};

struct xshim_msg_hello {
	struct xshim_msg_hdr h;
	uint32_t pid;			/* in the client's own pid namespace; shown, not trusted */
	uint32_t kind;			/* XSHIM_CLIENT_* */
	char comm[16];
	char build[32];			/* version text of the client, for messages */
};
#define XSHIM_CLIENT_SHIM 1
#define XSHIM_CLIENT_TOOL 2

struct xshim_msg_welcome {
	struct xshim_msg_hdr h;
	uint32_t mail;			/* index into map->mail */
	uint32_t reserved;
	uint64_t instance;		/* equals map->instance */
	char build[32];			/* version text of xshimd */
};

struct xshim_msg_refused {		/* also DECLINED: h.id says which connection */
	struct xshim_msg_hdr h;
	uint32_t reason;		/* enum xshim_reason */
	uint16_t version_min, version_max; /* what D speaks */
};

struct xshim_msg_channel {		/* OFFER, CLAIM */
	struct xshim_msg_hdr h;
	uint64_t cookie;		/* SO_COOKIE of the TCP socket sent along */
	uint32_t order;			/* ring size of the region */
	uint32_t backend;		/* enum xshim_backend_kind */
	uint64_t nonce;			/* of the region */
	/* xen, else 0 */
	uint32_t domid;			/* to whom the region is granted */
	uint32_t gref;			/* of its first page */
	uint32_t port;			/* OFFER: the event channel that waits for domid; CLAIM: 0 */
	uint32_t age_us;		/* CLAIM: for how long the accepted connection has been there, or longer; OFFER: 0 */
};

struct xshim_msg_matched {
	struct xshim_msg_hdr h;
	uint32_t order;			/* of the peer's region */
	uint32_t peer_pid;		/* as xshimd sees it, for display */
	uint64_t nonce;			/* of the peer's region */
	uint32_t backend;		/* as in OFFER or CLAIM */
	/* xen, else 0: of the peer's half */
	uint32_t domid, gref, port;
};

struct xshim_msg_leave {		/* also FORSAKE, NUDGE */
	struct xshim_msg_hdr h;		/* id 0: every channel of that domain */
	uint32_t domid;
	uint32_t reason;		/* enum xshim_reason; NUDGE: 0 */
};

struct xshim_msg_resume {
	struct xshim_msg_hdr h;
	uint32_t domid;			/* of the other end */
	uint32_t reserved;
};

struct xshim_msg_drain_ask {		/* also DRAINED */
	struct xshim_msg_hdr h;
	uint32_t domid;			/* XSHIM_DOMID_ALL: every one */
	uint32_t left;			/* DRAINED: connections that have not left yet; DRAIN_ASK: 0, or 1: the drain is over */
};
#define XSHIM_DOMID_ALL UINT32_MAX

struct xshim_msg_plain {		/* PING, PONG, ENDPOINT, WITHDRAW, PROBE_WANTED, PROBE, REPORT, LEFT, LOOK_WANTED, LOOK */
	struct xshim_msg_hdr h;
};

struct xshim_msg_report_ask {
	struct xshim_msg_hdr h;
	uint32_t what;			/* XSHIM_REPORT_* */
	uint32_t reserved;
};
#define XSHIM_REPORT_CONNECTIONS 1	/* for `xshim ss` */
#define XSHIM_REPORT_TOTALS 2		/* for `xshim stat` */

union xshim_msg {
	struct xshim_msg_hdr h;
	struct xshim_msg_hello hello;
	struct xshim_msg_welcome welcome;
	struct xshim_msg_refused refused;
	struct xshim_msg_channel channel;
	struct xshim_msg_matched matched;
	struct xshim_msg_plain plain;
	struct xshim_msg_report_ask report_ask;
	struct xshim_msg_leave leave;
	struct xshim_msg_resume resume;
	struct xshim_msg_drain_ask drain;
	uint8_t raw[XSHIM_PROTO_MAX];
};
_Static_assert(sizeof(struct xshim_msg_hdr) == 16, "proto ABI");
_Static_assert(sizeof(struct xshim_msg_hello) == 72, "proto ABI");
_Static_assert(sizeof(struct xshim_msg_welcome) == 64, "proto ABI");
_Static_assert(sizeof(struct xshim_msg_refused) == 24, "proto ABI");
_Static_assert(sizeof(struct xshim_msg_channel) == 56, "proto ABI");
_Static_assert(sizeof(struct xshim_msg_matched) == 48, "proto ABI");

/* Fill the header; the caller fills the body. Returns the length to send. The message is zeroed first. */
size_t xshim_msg_init(union xshim_msg *m, enum xshim_msg_type type, uint32_t id);
/* Size that a type has, 0 for an unknown one. */
size_t xshim_msg_size(uint32_t type);
const char *xshim_msg_name(uint32_t type);

/*
 * Check a received packet: magic, version, known type, exact length, reserved zero, strings terminated,
 * number of descriptors possible for the type. 0 or -EPROTO (-EPROTONOSUPPORT: other version); *why then
 * is a static text that names the field, and *value its value.
 */
int xshim_msg_check(const union xshim_msg *m, size_t len, unsigned int nfds, const char **why,
		    unsigned long long *value);

/* One sendmsg(MSG_DONTWAIT|MSG_NOSIGNAL). 0 or -errno. The descriptors stay the caller's. */
int xshim_msg_send(int sock, const union xshim_msg *m, const int *fds, unsigned int nfds);
/*
 * One recvmsg(MSG_DONTWAIT|MSG_CMSG_CLOEXEC). Length, 0 at the end, or -errno (-EAGAIN: nothing; -EMSGSIZE: longer
 * than any message, or its descriptors were cut). The descriptors are the caller's, also those that came with an error or an empty packet:
 * they may be of any kind, and to close one may take for ever (daemon/closer.h). fds has room for XSHIM_PROTO_MAX_FDS.
 */
ssize_t xshim_msg_recv(int sock, union xshim_msg *m, int *fds, unsigned int *nfds);

#endif
