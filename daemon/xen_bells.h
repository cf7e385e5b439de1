/* SPDX-License-Identifier: MIT */
/*
 * xen_bells.h - role guest: bells that are not needed any more, closed when it is certain that this may be done.
 *
 * After a save or a move a bell must not be closed (xen_keeper.h). A program may notice the move before we do, and say LEFT, so the
 * bell waits until our domain's number has been read once more: some 100 ms, for all that have come together by then.
 */
#ifndef XSHIMD_XEN_BELLS_H
#define XSHIMD_XEN_BELLS_H
#include <stdint.h>

struct xshimd;

struct xshimd_bells {
	int *fd;
	uint32_t n, room;
	uint32_t asked;			/* of these, those that were there when the job began */
	uint64_t due_ms;
};

/* Takes fd over; -1 is passed by. */
void xshimd_bell_close(struct xshimd *d, int fd);
/* A job begins that reads our domain's number. */
void xshimd_bells_ask(struct xshimd_bells *b);
/* It is what it was. */
void xshimd_bells_answered(struct xshimd_bells *b, uint64_t now_ms);
/* It is another one: to the keeper with all of them. */
void xshimd_bells_keep(struct xshimd_bells *b);
/* We end: as the kernel would. */
void xshimd_bells_free(struct xshimd_bells *b);

#endif
