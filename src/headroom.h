/* SPDX-License-Identifier: MIT */
/*
 * headroom.h - how much memory may be taken before a memory cgroup ends the process for it.
 *
 * Such a limit does not fail: who touches, or allocates, the page that is too much is killed. So whoever is about to take much asks first.
 * Others in the cgroup may take what was left meanwhile; hence HEADROOM_LEFT.
 *
 * Threads: any. Signals: not from handlers. errno is left alone. Descriptors: one at a time, for a moment.
 */
#ifndef XSHIM_SRC_HEADROOM_H
#define XSHIM_SRC_HEADROOM_H
#include <stddef.h>
#include <stdint.h>

#define HEADROOM_LEFT ((uint64_t)1 << 20)	/* for everything else */

/*
 * Octets that the process' cgroup and those above it leave, what the kernel can take back from files counted in; UINT64_MAX: no limit, or
 * none that can be seen (no cgroups, other mounts, a chroot). need: more than that is not looked for. list: /proc/self/cgroup;
 * mount: /sys/fs/cgroup.
 */
uint64_t headroom_bytes(const char *list, const char *mount, uint64_t need);

#endif
