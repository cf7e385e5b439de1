/* SPDX-License-Identifier: MIT */
/*
 * server.h - the listening socket: one xshimd a path, and a fair door.
 *
 * Who may listen is settled by a record lock on PATH.lock, which the kernel drops with its holder: two that
 * start at once cannot both take a stale socket for their own. The file is left in place.
 */
#ifndef XSHIMD_SERVER_H
#define XSHIMD_SERVER_H
#include <stdint.h>
#include <sys/types.h>

struct xshimd;
struct xshimd_watch;

struct xshimd_server {
	int fd;
	int lock;		/* -1: socket came from the service manager */
	int spare;		/* given up for a moment when there are no descriptors left */
	struct xshimd_watch *watch;
	char path[108];		/* "": not ours to remove */
	dev_t dev;
	ino_t ino;
	uint32_t fd_limit;
};

/* Takes the service manager's socket if there is one, else makes its own. 0, or -errno after a line in the log. */
int xshimd_server_open(struct xshimd *d);
void xshimd_server_close(struct xshimd *d);

#endif
