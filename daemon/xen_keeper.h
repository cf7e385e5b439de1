/* SPDX-License-Identifier: MIT */
/*
 * xen_keeper.h - descriptors that must not be closed as long as this guest runs.
 *
 * Of a guest that was saved and restored, or moved, the kernel has forgotten which interrupt belongs to the event channels that user
 * space had bound, and it has a BUG() where the descriptor of such a one is closed, be it by the end of a process (evtchn_release,
 * Linux 6.1, PV and PVH). Every BELL_OUT has a reference to its event channel inside (backend_xen.c). So the bells that were here at a
 * move are handed to a process that does nothing but hold them: xshimd may be stopped and started again after that.
 *
 * The keeper is forked off when there is something to keep. It has no other descriptor of ours, takes no signal that can be
 * blocked, and ends with the guest. Where it cannot be had the descriptors stay open here.
 *
 * Threads: any.
 */
#ifndef XSHIMD_XEN_KEEPER_H
#define XSHIMD_XEN_KEEPER_H

/* Takes fd over; negative ones are passed by. */
void xshimd_keeper_hold(int fd);

#endif
