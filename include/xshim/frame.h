/* SPDX-License-Identifier: MIT */
/*
 * frame.h - the one message that travels on the TCP stream: LEAVE (normative).
 *
 * It may only be sent while the outgoing stream goes by ring and the peer has acknowledged that switch,
 * because only then does the peer know that what comes on TCP is a frame (see link.h).
 *
 *   0       4      6      8         16        24        32       40
 *   +-------+------+------+---------+---------+---------+--------+
 *   | magic | type | zero | nonce   | upto    | head    | check  |
 *   +-------+------+------+---------+---------+---------+--------+
 *
 * All fields little-endian. nonce: of the receiver's own region, so a frame of another channel is
 * refused. upto: the sender has consumed the receiver's stream below it. head: end of the sender's own stream
 * on the ring; it sends again on TCP what the receiver's LEAVE says is missing below head, then goes on.
 * check: a 64-bit mix of the other fields, against accidents only.
 */
#ifndef XSHIM_FRAME_H
#define XSHIM_FRAME_H
#include <stdint.h>

#define XSHIM_FRAME_BYTES 40
#define XSHIM_FRAME_LEAVE 1

struct xshim_frame {
	uint16_t type;
	uint64_t nonce;
	uint64_t upto;
	uint64_t head;
};

void xshim_frame_encode(const struct xshim_frame *f, uint8_t out[XSHIM_FRAME_BYTES]);
/* 0, or -EPROTO when it is no frame. */
int xshim_frame_decode(struct xshim_frame *f, const uint8_t in[XSHIM_FRAME_BYTES]);

#endif
