/* SPDX-License-Identifier: MIT */
#include "publish.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

int xshimd_publish_open(struct xshimd_publish *p)
{
	uint64_t instance;
	int rc;

	do {
		if (getrandom(&instance, sizeof(instance), 0) != sizeof(instance))
			return -errno;
	} while (!instance);
	rc = xshim_map_create(&p->map, &p->fd, instance);
	if (rc < 0)
		return rc;
	/* Slot 0 comes off the stack first. */
	for (uint32_t i = 0; i < XSHIM_MAP_MAIL; i++)
		p->mail_free[i] = XSHIM_MAP_MAIL - 1 - i;
	p->mail_frees = XSHIM_MAP_MAIL;
	return 0;
}

void xshimd_publish_close(struct xshimd_publish *p)
{
	struct xshimd_print *e, *tmp;

	if (!p->map)
		return;
	/* Pairs with the shims' acquire: they see it on their next look and come back to a later xshimd. */
	atomic_store_explicit(&p->map->closing, 1, memory_order_release);
	HASH_ITER(hh, p->endpoints, e, tmp) {
		HASH_DEL(p->endpoints, e);
		free(e);
	}
	HASH_ITER(hh, p->offers, e, tmp) {
		HASH_DEL(p->offers, e);
		free(e);
	}
	munmap(p->map, sizeof(*p->map));
	close(p->fd);
	p->map = NULL;
}

static int add(struct xshimd_print **table, _Atomic uint64_t *set, size_t size, uint64_t hash)
{
	struct xshimd_print *e;
	int rc;

	HASH_FIND(hh, *table, &hash, sizeof(hash), e);
	if (e) {
		e->refs++;
		return 0;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	rc = xshim_map_set_add(set, size, hash);
	if (rc < 0) {
		free(e);
		return rc;
	}
	e->hash = hash;
	e->refs = 1;
	HASH_ADD(hh, *table, hash, sizeof(e->hash), e);
	if (!XSHIMD_ADDED(hh, e)) {
		xshim_map_set_del(set, size, hash);
		free(e);
		return -ENOMEM;
	}
	return 0;
}

static void del(struct xshimd_print **table, _Atomic uint64_t *set, size_t size, uint64_t hash)
{
	struct xshimd_print *e;

	HASH_FIND(hh, *table, &hash, sizeof(hash), e);
	assert(e);
	if (--e->refs)
		return;
	xshim_map_set_del(set, size, hash);
	HASH_DEL(*table, e);
	free(e);
}

/* The set /then/ its generation: who reads the new generation finds what it announces. */
static void bump(_Atomic uint64_t *generation)
{
	atomic_fetch_add_explicit(generation, 1, memory_order_release);
}

int xshimd_publish_endpoint(struct xshimd_publish *p, uint64_t hash)
{
	int rc = add(&p->endpoints, p->map->endpoints, XSHIM_MAP_ENDPOINTS, hash);

	if (rc == 0)
		bump(&p->map->generation);
	return rc;
}

void xshimd_withdraw_endpoint(struct xshimd_publish *p, uint64_t hash)
{
	del(&p->endpoints, p->map->endpoints, XSHIM_MAP_ENDPOINTS, hash);
	bump(&p->map->generation);
}

int xshimd_publish_offer(struct xshimd_publish *p, uint64_t hash)
{
	int rc = add(&p->offers, p->map->offers, XSHIM_MAP_OFFERS, hash);

	if (rc == 0)
		bump(&p->map->offers_gen);
	return rc;
}

void xshimd_withdraw_offer(struct xshimd_publish *p, uint64_t hash)
{
	del(&p->offers, p->map->offers, XSHIM_MAP_OFFERS, hash);
}

int xshimd_mail_take(struct xshimd_publish *p)
{
	if (!p->mail_frees)
		return -ENOSPC;
	return (int)p->mail_free[--p->mail_frees];
}

void xshimd_mail_give(struct xshimd_publish *p, uint32_t slot)
{
	assert(p->mail_frees < XSHIM_MAP_MAIL);
	p->mail_free[p->mail_frees++] = slot;
}

void xshimd_mail_ring(struct xshimd_publish *p, uint32_t slot)
{
	/* After sendmsg; pairs with the client's acquire before its recvmsg. */
	atomic_fetch_add_explicit(&p->map->mail[slot].seq, 1, memory_order_release);
}
