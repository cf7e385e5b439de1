/* SPDX-License-Identifier: MIT */
/* buffers.c - payload whose bytes tell connection, direction and offset; addresses that are no memory. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "player.h"

#define AREA ((size_t)4 << 20)
#define PAGE ((size_t)65536)
#define MARK 0xee
#define HUGE_LENGTH ((size_t)1 << 33)
#define VECTORS 2048

static uint8_t *area;

uint8_t pattern(int conn, int side, uint64_t at)
{
	return (uint8_t)(((at + 1) * 2654435761u >> 11) + (unsigned int)conn * 31 + (unsigned int)side * 101);
}

uint32_t sum_of(uint32_t sum, const void *bytes, size_t n)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < n; i++)
		sum = (sum ^ b[i]) * 16777619u + 1;
	return sum;
}

/* AREA bytes of memory, then one page that is none. Made once, so that no case changes the address space. */
static uint8_t *memory(void)
{
	if (area)
		return area;
	area = mmap(NULL, AREA + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || mprotect(area + AREA, PAGE, PROT_NONE) < 0)
		die("no memory for payload");
	return area;
}

static void add(struct payload *p, void *base, size_t len)
{
	if (p->n == VECTORS)
		die("more than %d parts", VECTORS);
	p->v[p->n++] = (struct iovec){ base, len };
}

void payload_make(struct payload *p, const char *list)
{
	char copy[LINE], *word, *save = NULL, *end;
	uint8_t *at = memory();
	size_t len, more;

	*p = (struct payload){ .v = calloc(VECTORS, sizeof(struct iovec)) };
	if (!p->v)
		die("no memory");
	snprintf(copy, sizeof(copy), "%s", list);
	for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (!strcmp(word, "huge")) {
			/* as much as the area has, and a length beyond it */
			add(p, at, HUGE_LENGTH);
			p->total += HUGE_LENGTH;
			continue;
		}
		if (!strcmp(word, "none"))
			continue;
		len = strtoul(word, &end, 10);
		more = 1;
		if (*end == '?') {	/* in the page of NULL */
			add(p, (void *)(uintptr_t)64, len);
			p->bad = true;
			p->total += len;
			continue;
		}
		if (*end == '!') {
			add(p, area + AREA + 64, len);
			p->bad = true;
			p->total += len;
			continue;
		}
		if (*end == '~') {
			more = strtoul(end + 1, &end, 10);
			add(p, area + AREA - len, len + more);
			p->bad = true;
			p->total += len + more;
			continue;
		}
		if (*end == '*')
			more = strtoul(end + 1, &end, 10);
		if (*end || at + len * more > area + AREA / 2)
			die("'%s' is no length", word);
		for (; more; more--) {
			add(p, at, len);
			at += len;
			p->total += len;
		}
	}
}

/* The parts of it that are memory. */
static size_t usable(const struct iovec *v)
{
	uint8_t *base = v->iov_base;

	if (base < area || base >= area + AREA)
		return 0;
	return v->iov_len < (size_t)(area + AREA - base) ? v->iov_len : (size_t)(area + AREA - base);
}

void payload_fill(struct payload *p, int conn, uint64_t at)
{
	for (int i = 0; i < p->n; i++) {
		uint8_t *to = p->v[i].iov_base;

		for (size_t k = 0, n = usable(&p->v[i]); k < n; k++)
			to[k] = pattern(conn, me.side, at++);
	}
}

void payload_clear(struct payload *p)
{
	for (int i = 0; i < p->n; i++)
		memset(p->v[i].iov_base, MARK, usable(&p->v[i]));
}

void payload_check(struct payload *p, int conn, uint64_t at, size_t n, bool discards)
{
	size_t right = 0, left = 0, other = 0, behind = 0, seen = 0;
	uint32_t sum = 0;

	for (int i = 0; i < p->n; i++) {
		const uint8_t *b = p->v[i].iov_base;

		for (size_t k = 0, len = usable(&p->v[i]); k < len; k++, seen++) {
			bool marked = b[k] == MARK;

			if (seen >= n) {
				behind += !marked;
				continue;
			}
			/* by accident a byte of the pattern may be the mark */
			left += marked;
			sum = sum_of(sum, &b[k], 1);
			if (b[k] == pattern(conn, !me.side, at + seen))
				right++;
			else if (!marked)
				other++;
		}
	}
	if (left == n && (discards || right != n))
		put(" untouched");
	else if (right == n && !other)
		put(" right");
	else
		put(" WRONG %08x", sum);
	if (behind && !p->bad)
		put(" OVERRUN");
}

void payload_free(struct payload *p)
{
	free(p->v);
}
