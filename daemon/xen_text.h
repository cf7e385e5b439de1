/* SPDX-License-Identifier: MIT */
/*
 * xen_text.h - the values that xshimd reads and writes in xenstore, as text (normative).
 *
 * Guest G writes, below /local/domain/G/data/xshim (readable by dom0 and, where it says so, by others):
 *
 *   version           "1"
 *   instance          16 hexadecimal digits, other ones for each start of xshimd and each move of the guest; everybody
 *                     may read it: its going is the sign that the domain has gone
 *   addr              "10.77.0.11 fd00::11", at most 16 addresses
 *   drain             "done NUMBER LEFT", the answer to a request
 *   peer/P/offer      "GREF PORT NONCE", G below P: our half of a connection to guest P's xshimd (xen_wire.h), for P alone to
 *                     read; GREF of its first page, PORT an event channel that waits for P, NONCE 16 hexadecimal digits. Or ""
 *   peer/P/claim      "GREF NONCE NONCE-OF-THE-OFFER", G above P: the other half, for P alone to read
 *
 * The host writes into each guest that takes part, below /local/domain/G/xshim (of dom0, G may read), all in one transaction:
 *
 *   life              16 hexadecimal digits, made once in the life of a domain: tells two domains of one number apart
 *   self              "DOMID INSTANCE LIFE ADDR,ADDR" or "-" for no address: what the host believes of G
 *   guest/N           "DOMID INSTANCE LIFE TRUST ADDR,ADDR", one for each other guest that takes part. TRUST: vif (the
 *                     address stands in the configuration of its network interface) or claim (the guest says so)
 *   drain             "" or "request NUMBER DOMID" or "request NUMBER all": leave the rings with DOMID
 *   generation        decimal, written last, another one after each change
 *
 * Whatever is read may be hostile. A value is of at most 1,024 bytes, has no NUL, and is taken whole or not at all.
 *
 * Pure: no system call, no allocation. Errors: 0, or -EINVAL and *why says what is wrong.
 */
#ifndef XSHIMD_XEN_TEXT_H
#define XSHIMD_XEN_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xshim/endpoint.h>

#define XSHIMD_XEN_VERSION "1"
#define XSHIMD_XEN_VALUE_MAX 1024
#define XSHIMD_XEN_ADDRS 16
#define XSHIMD_XEN_DOMID_MAX 32751u	/* numbers above are not those of domains */

struct xshimd_xen_addrs {
	uint32_t n;
	struct xshim_endpoint a[XSHIMD_XEN_ADDRS];	/* port 0 */
};

struct xshimd_xen_guest {
	uint32_t domid;
	bool by_vif;			/* not in `self` */
	uint64_t instance, life;
	struct xshimd_xen_addrs addrs;
};

struct xshimd_xen_half {		/* offer or claim of a connection between two daemons */
	uint32_t gref;
	uint32_t port;			/* offer; else 0 */
	uint64_t nonce;
	uint64_t to;			/* claim: nonce of the offer */
};

struct xshimd_xen_drain {
	bool asked;
	uint32_t number;
	uint32_t domid;			/* XSHIM_DOMID_ALL: every one */
};

/* Digits and nothing else, no leading zero. */
int xshimd_xen_number(const char *s, size_t len, uint64_t max, uint64_t *out, const char **why);
/* 16 lower-case hexadecimal digits, not all zero. */
int xshimd_xen_hex(const char *s, size_t len, uint64_t *out, const char **why);
/*
 * Addresses between single separators. with_prefix: "/LENGTH" may follow one, and is passed over. Refused: loopback,
 * unspecified, link-local and multicast ones, one that is there twice, more than 16.
 */
int xshimd_xen_addrs_parse(const char *s, size_t len, char separator, bool with_prefix, struct xshimd_xen_addrs *out,
			   const char **why);
int xshimd_xen_guest_parse(const char *s, size_t len, bool self, struct xshimd_xen_guest *out, const char **why);
int xshimd_xen_drain_parse(const char *s, size_t len, struct xshimd_xen_drain *out, const char **why);
int xshimd_xen_answer_parse(const char *s, size_t len, uint32_t *number, uint32_t *left, const char **why);

int xshimd_xen_half_parse(const char *s, size_t len, bool offer, struct xshimd_xen_half *out, const char **why);

#define XSHIMD_XEN_HALF_TEXT 64
void xshimd_xen_half_format(char buf[XSHIMD_XEN_HALF_TEXT], bool offer, const struct xshimd_xen_half *h);
/* Terminated; the length, or -ENOSPC. */
int xshimd_xen_addrs_format(char *buf, size_t size, char separator, const struct xshimd_xen_addrs *a);
int xshimd_xen_guest_format(char *buf, size_t size, bool self, const struct xshimd_xen_guest *g);

bool xshimd_xen_addrs_have(const struct xshimd_xen_addrs *a, const struct xshim_endpoint *ep);	/* whatever its port */
bool xshimd_xen_addrs_equal(const struct xshimd_xen_addrs *a, const struct xshimd_xen_addrs *b);

#endif
