/* SPDX-License-Identifier: MIT */
/*
 * frame.c - encode and decode LEAVE.
 */
#include <errno.h>
#include <xshim/frame.h>

#define FRAME_MAGIC 0x58534c56u		/* "XSLV" */

static void put_le(uint8_t *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	for (int i = bytes - 1; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

/* Over the first 32 octets. A changed field changes it; somebody who means harm can compute it. */
static uint64_t check_of(const uint8_t *frame)
{
	uint64_t h = 0x6c656176652d7368u;

	for (int i = 0; i < 32; i += 8) {
		h ^= get_le(frame + i, 8);
		h *= 0xa0761d6478bd642fu;
		h ^= h >> 31;
		h *= 0xd6e8feb86659fd93u;
		h ^= h >> 29;
	}
	return h;
}

void xshim_frame_encode(const struct xshim_frame *f, uint8_t out[XSHIM_FRAME_BYTES])
{
	put_le(out, FRAME_MAGIC, 4);
	put_le(out + 4, f->type, 2);
	put_le(out + 6, 0, 2);
	put_le(out + 8, f->nonce, 8);
	put_le(out + 16, f->upto, 8);
	put_le(out + 24, f->head, 8);
	put_le(out + 32, check_of(out), 8);
}

int xshim_frame_decode(struct xshim_frame *f, const uint8_t in[XSHIM_FRAME_BYTES])
{
	if (get_le(in, 4) != FRAME_MAGIC || get_le(in + 4, 2) != XSHIM_FRAME_LEAVE || get_le(in + 6, 2) != 0)
		return -EPROTO;
	if (get_le(in + 32, 8) != check_of(in))
		return -EPROTO;
	f->type = (uint16_t)get_le(in + 4, 2);
	f->nonce = get_le(in + 8, 8);
	f->upto = get_le(in + 16, 8);
	f->head = get_le(in + 24, 8);
	return 0;
}
