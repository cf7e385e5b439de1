/* SPDX-License-Identifier: MIT */
/*
 * map.h - the co-residency map: what xshimd lets every shim look up without a system call (normative).
 *
 * One memfd, made by xshimd, sealed F_SEAL_SHRINK|GROW|FUTURE_WRITE|SEAL after xshimd mapped it; every
 * shim gets the descriptor in WELCOME and maps it read-only. A new xshimd makes a new map.
 *
 *   0        4096                  +64 KiB             +128 KiB          +64 KiB          +16 KiB
 *   +--------+---------------------+-------------------+-----------------+----------------+
 *   | header | endpoints (8,192)   | offers (16,384)   | mail (4,096)    | guests (1,024) |
 *   +--------+---------------------+-------------------+-----------------+----------------+
 *
 * endpoints: fingerprints (xshim_endpoint_hash) of local addresses and ports at which a shimmed program
 *            has accepted a connection. "Is the peer's address on this host?" is: is it in this set.
 * offers:    fingerprints (xshim_tuple_hash, as the accepting end sees the connection) of offers that wait.
 * mail:      one word per control connection; xshimd adds 1 after it has queued messages for it.
 * guests:    role guest: the addresses of other guests of this Xen host, and their domains. An endpoint whose address
 *            stands here is another guest's; every other one is on this kernel.
 *
 * Both sets are open addressed with linear probing, at most XSHIM_MAP_PROBES steps; 0 is empty, 1 deleted.
 * Single 64-bit stores, so nothing can be torn and no lock or sequence is needed. A wrong hit costs an
 * offer that nobody claims; a wrong miss leaves a connection on TCP. The map decides nothing: xshimd
 * checks every OFFER and CLAIM with the kernel.
 *
 *   field         written by       order                          read by
 *   sets          xshimd           release                        shims, acquire
 *   guests        xshimd           domid, then hash, release      shims: hash acquire, domid, hash again
 *   generation    xshimd           release, after an endpoint     shims, acquire, before looking
 *   offers_gen    xshimd           release, after an offer        shims, acquire, before looking
 *   mail[i]       xshimd           release, after sendmsg         the client of slot i, acquire, before recvmsg
 *   closing       xshimd           release, at exit               shims: reconnect later
 */
#ifndef XSHIM_MAP_H
#define XSHIM_MAP_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xshim/endpoint.h>

#define XSHIM_MAP_MAGIC 0x5853484du	/* "XSHM" */
#define XSHIM_MAP_VERSION 2
#define XSHIM_MAP_ENDPOINTS 8192
#define XSHIM_MAP_OFFERS 16384
#define XSHIM_MAP_MAIL 4096
#define XSHIM_MAP_GUESTS 1024
#define XSHIM_MAP_PROBES 64

struct xshim_map_mail {
	_Atomic uint32_t seq;
	uint32_t pad[3];
};

struct xshim_map_guest {
	_Atomic uint64_t hash;		/* xshim_endpoint_hash of the address with port 0; 0 empty, 1 deleted */
	_Atomic uint32_t domid;		/* stored before hash */
	uint32_t pad;
};

struct xshim_map {
	uint32_t magic;
	uint16_t version;
	uint16_t pad0;
	uint64_t instance;		/* random, one per run of xshimd */
	uint8_t pad1[48];
	_Atomic uint64_t generation;	/* 64 */
	_Atomic uint64_t offers_gen;
	_Atomic uint32_t closing;
	uint8_t pad2[4096 - 84];
	_Atomic uint64_t endpoints[XSHIM_MAP_ENDPOINTS];
	_Atomic uint64_t offers[XSHIM_MAP_OFFERS];
	struct xshim_map_mail mail[XSHIM_MAP_MAIL];
	struct xshim_map_guest guests[XSHIM_MAP_GUESTS];
};
_Static_assert(offsetof(struct xshim_map, generation) == 64, "map ABI");
_Static_assert(offsetof(struct xshim_map, endpoints) == 4096, "map ABI");
_Static_assert(sizeof(struct xshim_map) == 4096 + 8 * 8192 + 8 * 16384 + 16 * 4096 + 16 * 1024, "map ABI");

/* Reader: map it read-only and check size, seals and header. -EPROTO when it is not a map. */
int xshim_map_open(const struct xshim_map **out, int fd);
void xshim_map_close(const struct xshim_map *m);
bool xshim_map_has_endpoint(const struct xshim_map *m, uint64_t hash);
bool xshim_map_has_offer(const struct xshim_map *m, uint64_t hash);

/* The domain of the other guest that has this address (ports do not matter); false: none has. */
bool xshim_map_guest_of(const struct xshim_map *m, const struct xshim_endpoint *ep, uint32_t *domid);

/* Writer (xshimd): *fd is the caller's, sealed; the mapping is writable and stays so. */
int xshim_map_create(struct xshim_map **out, int *fd, uint64_t instance);
/* Sets of fingerprints. add: -ENOSPC when the probe limit is reached; adding one twice keeps one. */
int xshim_map_set_add(_Atomic uint64_t *set, size_t size, uint64_t hash);
void xshim_map_set_del(_Atomic uint64_t *set, size_t size, uint64_t hash);
/* Guests, likewise. add: another domain for an address that is there takes its place. */
int xshim_map_guest_add(struct xshim_map *m, const struct xshim_endpoint *ep, uint32_t domid);
void xshim_map_guest_del(struct xshim_map *m, const struct xshim_endpoint *ep);
bool xshim_map_set_has(const _Atomic uint64_t *set, size_t size, uint64_t hash);

#endif
