/* SPDX-License-Identifier: MIT */
/*
 * xen_peer.h - the connection to the xshimd of another guest: messages, states, bounds (normative).
 *
 * The carrier is a byte channel in order, both ways, between exactly two domains (xen_wire.h; a fake in tests); both are on one
 * machine, numbers are in its byte order. Every message has 256 bytes:
 *
 *   0       4         6      8        12         16                    256
 *   +-------+---------+------+--------+----------+------//--------------+
 *   | magic | version | type | number | reserved | body, zero behind it |
 *   +-------+---------+------+--------+----------+------//--------------+
 *
 * type          number       body                     meaning
 * HELLO                      instance of the sender   first from each end, once; must be the one that the host names
 * ENDPOINT_ADD               endpoint                 a preloaded program accepts there; the address is the sender's guest's
 * ENDPOINT_DEL               endpoint                 no longer
 * OFFER         of the offer tuple, order, gref,      a connection that the sender's guest made, as the receiver sees it; its end of
 *                            port, nonce, heard_ns    the channel; the last time_ns that had come when its socket was looked at
 * WITHDRAW      of the offer                          it is off
 * CLAIMED       of the offer order, gref, nonce       the receiver of the offer has found its end; the offer is settled
 * DECLINED      of the offer reason                   there will be none; the offer is settled
 * OLDER         of the offer time_ns                  it is older than what is claimed, and settled; it may be made anew, with this number
 * GONE          of the offer mine: the sender made it  a channel that came of it is apart at the sender's end
 * PING          any                                   answered by PONG of the same number
 * PONG          of the PING  time_ns                  when it is made, by the sender's clock; so in OLDER
 *
 *     CLOSED --attach--> GREETING --HELLO with the right instance--> UP
 *        ^                  |  anything else, or 5 s                  |  a breach of these rules, a queue that is full, no PONG in 5 s,
 *        +------------------+-----------------------------------------+  an event storm, detach
 *
 * On the way to CLOSED everything that came from the peer is withdrawn, and our own offers to it are declined. The owner makes a
 * new carrier later. Bounds: 1,024 endpoints and 256 offers from a peer, 256 offers to it, 2,048 messages to be sent.
 *
 * Who offers sees the socket once. Its connection may be over since, by RST without a word, and the next one between these ports may be
 * somebody else's. The clocks of two guests cannot be compared, so the one who claims judges by its own alone:
 *
 *   offers                                claims
 *   PING                        ------->
 *                               <-------  PONG time_ns
 *   looks at the socket
 *   OFFER heard_ns = time_ns    ------->
 *                                         looks at the socket of a claim
 *
 * What was offered was there at a moment after heard_ns and before the OFFER came. The claim is seen after that; if its end was there before
 * heard_ns (age_us, proto.h), both had these addresses at that moment, and are the two ends of one connection. If it was
 * not, the connection was accepted late, or is another one. The socket that was offered is looked at again then, after OLDER; if it
 * is still there, it is offered with the new time, once.
 *
 * A peer can lie about its own guest only: addresses are checked against the host's list by the owner, and a grant is bound to
 * its domain by the hypervisor. With a wrong heard_ns it can pass off a connection that its guest has had for one that the same guest
 * has; a wrong time_ns comes back to who sent it, and means nothing to anybody else.
 *
 * Threads: one. Nothing blocks. Errors: 0 or -errno.
 */
#ifndef XSHIMD_XEN_PEER_H
#define XSHIMD_XEN_PEER_H
#include <stdbool.h>
#include <stdint.h>
#include <xshim/endpoint.h>

#include "table.h"

#define XSHIMD_PEER_MAGIC 0x58534850u	/* "XSHP" */
#define XSHIMD_PEER_VERSION 2
#define XSHIMD_PEER_MSG 256
#define XSHIMD_PEER_ENDPOINTS 1024
#define XSHIMD_PEER_OFFERS 256
#define XSHIMD_PEER_QUEUE 2048
#define XSHIMD_PEER_PATIENCE_MS 5000
#define XSHIMD_PEER_STORM 5000		/* events in a second that brought nothing */

enum xshimd_peer_type {
	XSHIMD_PEER_HELLO = 1,
	XSHIMD_PEER_ENDPOINT_ADD = 2,
	XSHIMD_PEER_ENDPOINT_DEL = 3,
	XSHIMD_PEER_OFFER = 4,
	XSHIMD_PEER_WITHDRAW = 5,
	XSHIMD_PEER_CLAIMED = 6,
	XSHIMD_PEER_DECLINED = 7,
	XSHIMD_PEER_GONE = 8,
	XSHIMD_PEER_PING = 9,
	XSHIMD_PEER_PONG = 10,
	XSHIMD_PEER_OLDER = 11,
};

struct xshimd_peer_half {		/* one end of a channel, as far as the other domain has to know it */
	uint32_t order, gref;
	uint32_t port;			/* OFFER; else 0 */
	uint32_t reserved;
	uint64_t nonce;
};

struct xshimd_peer_msg {
	uint32_t magic;
	uint16_t version, type;
	uint32_t number, reserved;
	union {
		uint64_t instance;
		struct xshim_endpoint endpoint;
		struct {
			struct xshim_tuple tuple;
			struct xshimd_peer_half half;
			uint64_t heard_ns;
		} channel;		/* OFFER; CLAIMED: tuple and heard_ns are zero */
		uint64_t time_ns;	/* PONG, OLDER */
		uint32_t reason;
		uint32_t mine;		/* GONE */
		uint8_t raw[XSHIMD_PEER_MSG - 16];
	} u;
};
_Static_assert(sizeof(struct xshimd_peer_msg) == XSHIMD_PEER_MSG, "peer ABI");

struct xshimd_carrier {
	/* A whole message or nothing: 1, 0 (no room, or nothing there, now), -errno (closed; -EPROTO: it lies). */
	int (*send)(void *carrier, const struct xshimd_peer_msg *m);
	int (*recv)(void *carrier, struct xshimd_peer_msg *m);
};

struct xshimd_peer_endpoint {
	struct xshim_endpoint ep;
	bool published;			/* allowed by the host's list, and told to the owner */
	UT_hash_handle hh;
};

struct xshimd_peer_offer {		/* from the peer */
	uint32_t number;
	struct xshim_tuple tuple;	/* as our end sees it */
	struct xshimd_peer_half half;
	uint64_t heard_ns;		/* its socket was there later than this, by our clock */
	uint64_t until_ms;
	struct xshimd_peer_offer *prev, *next;
};

struct xshimd_peer;

/* What the owner does. None may detach or free the peer; all may send. */
struct xshimd_peer_ops {
	void (*up)(struct xshimd_peer *p);	/* send ENDPOINT_ADDs now */
	bool (*is_theirs)(struct xshimd_peer *p, const struct xshim_endpoint *ep); /* the host's list gives the peer this address */
	bool (*is_ours)(struct xshimd_peer *p, const struct xshim_endpoint *ep);
	int (*endpoint)(struct xshimd_peer *p, const struct xshim_endpoint *ep, bool add);
	int (*offer)(struct xshimd_peer *p, const struct xshimd_peer_offer *o, bool add);
	/* Answers to an offer of ours: half NULL: declined with the reason. */
	void (*answer)(struct xshimd_peer *p, uint32_t number, const struct xshimd_peer_half *half, uint32_t reason);
	void (*gone)(struct xshimd_peer *p, uint32_t number, bool ours); /* ours: the offer was */
	/* The answer to xshimd_peer_ask(), or to an offer of ours: sockets that are looked at from now on may be offered. */
	void (*heard)(struct xshimd_peer *p, uint32_t ask);
	void (*older)(struct xshimd_peer *p, uint32_t number);
	uint64_t (*clock_ns)(void);	/* never goes back */
	/* It is CLOSED now; why is a static text, NULL for an ordinary end. */
	void (*down)(struct xshimd_peer *p, const char *why);
};

enum xshimd_peer_state { XSHIMD_PEER_CLOSED, XSHIMD_PEER_GREETING, XSHIMD_PEER_UP };

struct xshimd_peer {
	const struct xshimd_peer_ops *ops;
	void *owner;
	uint32_t offer_timeout_s;
	uint64_t instance, peer_instance;
	const struct xshimd_carrier *carrier;
	void *carried;
	enum xshimd_peer_state state;
	uint64_t deadline_ms;		/* GREETING: for HELLO; UP: for PONG; UINT64_MAX: none */
	uint64_t second_ms;
	uint32_t empty_events;
	uint32_t ping;
	bool ask_again;			/* somebody has asked since that PING was sent */
	uint64_t ping_due_ms, pinged_ms; /* UINT64_MAX: none is due */
	uint64_t heard_ns;		/* the last time_ns, by the peer's clock; 0: none has come */
	bool more;			/* messages are left in the carrier; the sweep takes them */
	struct xshimd_peer_endpoint *endpoints;
	struct xshimd_peer_offer *offers;
	uint32_t offers_n;
	uint32_t queue_at, queue_n;
	struct xshimd_peer_msg *queue;	/* XSHIMD_PEER_QUEUE of them, while attached */
};

void xshimd_peer_init(struct xshimd_peer *p, const struct xshimd_peer_ops *ops, void *owner, uint32_t offer_timeout_s);
/* A fresh carrier; HELLO goes out. */
int xshimd_peer_attach(struct xshimd_peer *p, const struct xshimd_carrier *carrier, void *carried, uint64_t instance,
		       uint64_t peer_instance, uint64_t now_ms);
/* To CLOSED, if it is not; ops->down is called. */
void xshimd_peer_detach(struct xshimd_peer *p, const char *why);

/*
 * Something has happened on the carrier: send what waits, take what came, a bounded amount of it; `more` is set when there may be
 * more, which the next sweep, due at once, takes. False: it is CLOSED now.
 */
bool xshimd_peer_event(struct xshimd_peer *p, uint64_t now_ms);
/* Deadlines of the peer and of its offers; the next one, or UINT64_MAX. */
uint64_t xshimd_peer_sweep(struct xshimd_peer *p, uint64_t now_ms);
/* The host's list or our own addresses have changed. */
void xshimd_peer_recheck(struct xshimd_peer *p);

/* -ENOTCONN: not UP. A full queue closes the peer: -ENOBUFS. */
int xshimd_peer_endpoint(struct xshimd_peer *p, const struct xshim_endpoint *ep, bool add);
/*
 * Ask for the peer's time; *ask is what ops->heard will be called with. One PING is under way at a time, so those who ask meanwhile share
 * the next one.
 */
int xshimd_peer_ask(struct xshimd_peer *p, uint64_t now_ms, uint32_t *ask);
/* Of a socket that was looked at after the last ops->heard or ops->older. */
int xshimd_peer_offer(struct xshimd_peer *p, uint32_t number, const struct xshim_tuple *tuple,
		      const struct xshimd_peer_half *half);
int xshimd_peer_withdraw(struct xshimd_peer *p, uint32_t number);
int xshimd_peer_gone(struct xshimd_peer *p, uint32_t number, bool ours);
/*
 * Our end of a connection to that guest is here, and has been since since_ns, by our clock: the one offer for it, which is settled by
 * this. -ENOENT: none, those that are older are settled by OLDER; -EEXIST: more than one, all of which are declined.
 */
int xshimd_peer_claim(struct xshimd_peer *p, const struct xshim_tuple *tuple, uint64_t since_ns,
		      const struct xshimd_peer_half *half, struct xshimd_peer_offer *out);

#endif
