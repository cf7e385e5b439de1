/* SPDX-License-Identifier: MIT */
/*
 * client.h - the command's side of the daemon protocol: greet, ask for a report, each within a deadline.
 *
 * What goes wrong is kept in the client as a fault, a cause (one line, names the socket) and an advice, so
 * that ss and stat print it and doctor judges it. Nothing received is trusted: the report's memory
 * is checked, copied, and parsed from the copy.
 *
 * Threads: one. Errors: 0 or -errno, and fault, cause and advice are set.
 */
#ifndef XSHIM_CLIENT_H
#define XSHIM_CLIENT_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <xshim/proto.h>

#define XSHIM_CLIENT_DEADLINE_MS 2000
#define XSHIM_CLIENT_REPORT_MAX (64u << 20)	/* about 150,000 connections */
#define XSHIM_CLIENT_REPORT_VERSION 1

enum xshim_client_fault {
	XSHIM_CLIENT_FINE = 0,
	XSHIM_CLIENT_ABSENT,		/* nobody listens there */
	XSHIM_CLIENT_DENIED,		/* we may not connect */
	XSHIM_CLIENT_SILENT,		/* somebody listens, and does not answer in time */
	XSHIM_CLIENT_OTHER_VERSION,
	XSHIM_CLIENT_REFUSED,
	XSHIM_CLIENT_BROKEN,		/* the answer is not one that xshimd gives */
};

struct xshim_client {
	const char *path;
	int fd;
	int map_fd;			/* the co-residency map of WELCOME */
	bool has_server;
	struct ucred server;		/* who listens: pid 0 when it lives in another pid namespace */
	struct xshim_msg_welcome welcome;
	enum xshim_client_fault fault;
	char cause[384];
	const char *advice;
};

/* Connect and greet. Close it in either case. path must outlive the client. */
int xshim_client_open(struct xshim_client *c, const char *path);
/* Ask for XSHIM_REPORT_*; the caller owns *out. */
int xshim_client_report(struct xshim_client *c, uint32_t what, json_t **out);
/* DRAIN_ASK: begin, or end; *left connections are on rings still. */
int xshim_client_drain(struct xshim_client *c, uint32_t domid, bool end, int timeout_ms, uint32_t *left);
void xshim_client_close(struct xshim_client *c);

/* "xshim: CAUSE; ADVICE" on stderr. */
void xshim_client_complain(const struct xshim_client *c);

/* Open, ask, close; complains when it fails. */
int xshim_client_fetch(const char *path, uint32_t what, json_t **out);

#endif
