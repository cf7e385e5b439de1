/* SPDX-License-Identifier: MIT */
/*
 * generate.c - random sequences of operations, from a seed. None of them can block for ever, and none does what is known
 * to differ in cases/: edges where a switch may come in between.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "player.h"

static uint64_t state;

static unsigned int below(unsigned int n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned int)((state >> 16) % n);
}

static const char *one_of(const char *const *list, unsigned int n)
{
	return list[below(n)];
}
#define ONE_OF(list) one_of(list, sizeof(list) / sizeof(list[0]))

static void add(struct test_case *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct test_case *c, const char *fmt, ...)
{
	char line[LINE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	case_add_line(c, line);
}

static const char *size(void)
{
	static const char *const sizes[] = { "0", "1", "2", "7", "10", "50", "64", "100", "333", "1000", "1460", "4000" };

	return ONE_OF(sizes);
}

static void lengths(char *out)
{
	static const char *const lists[] = { "1,2,3", "0,10,0", "100,0,7", "1*20", "50,50", "0", "500,1", "none" };

	if (below(3))
		strcpy(out, ONE_OF(lists));
	else
		snprintf(out, 40, "%s,%s", size(), size());
}

static void data(struct test_case *c, const char *end, const char *on)
{
	static const char *const sends[] = { "0", "0", "DONTWAIT", "NOSIGNAL", "DONTWAIT,NOSIGNAL" };
	static const char *const recvs[] = { "DONTWAIT", "DONTWAIT", "DONTWAIT", "DONTWAIT,PEEK", "DONTWAIT,TRUNC",
					     "DONTWAIT,WAITALL", "DONTWAIT,PEEK,TRUNC" };
	char list[48];

	lengths(list);
	switch (below(14)) {
	case 0: case 1: case 2:
		add(c, "%s send %s %s on %s", end, size(), ONE_OF(sends), on);
		break;
	case 3:
		add(c, "%s write %s on %s", end, size(), on);
		break;
	case 4:
		add(c, "%s writev %s on %s", end, list, on);
		break;
	case 5:
		add(c, "%s sendmsg %s %s on %s", end, list, ONE_OF(sends), on);
		break;
	case 6:
		add(c, "%s sendmmsg %s,%s DONTWAIT on %s", end, size(), size(), on);
		break;
	case 7: case 8: case 9:
		add(c, "%s recv %s %s on %s", end, size(), ONE_OF(recvs), on);
		break;
	case 10:
		add(c, "%s recvmsg %s %s on %s", end, list, ONE_OF(recvs), on);
		break;
	case 11:
		add(c, "%s recvfrom %s DONTWAIT on %s", end, size(), on);
		break;
	case 12:
		add(c, "%s preadv2 %s DONTWAIT on %s", end, list, on);
		break;
	default:
		add(c, "%s recvmmsg %s,%s DONTWAIT on %s", end, size(), size(), on);
		break;
	}
}

static void ready(struct test_case *c, const char *end, const char *on, bool edges)
{
	static const char *const events[] = { "IN", "OUT", "IN,OUT", "IN,OUT,RDHUP", "IN,ONESHOT", "IN,OUT,ONESHOT",
					      "RDHUP", "IN,ET", "IN,RDHUP,ET" };
	unsigned int kinds = sizeof(events) / sizeof(events[0]) - (edges && on[0] == 's' ? 0 : 2);

	switch (below(8)) {
	case 0:
		add(c, "%s poll %s=IN,PRI,OUT,RDHUP", end, on);
		break;
	case 1:
		add(c, "%s poll s=IN,OUT t=IN,OUT,RDHUP", end);
		break;
	case 2:
		add(c, "%s select s=r,w,e t=r,w,e", end);
		break;
	case 3:
		add(c, "%s add e %s=%s", end, on, one_of(events, kinds));
		break;
	case 4:
		add(c, "%s mod e %s=%s", end, on, one_of(events, kinds));
		break;
	case 5:
		add(c, "%s %s e %s", end, below(3) ? "mod" : "del", on);
		break;
	default:
		add(c, "%s ewait e", end);
		break;
	}
}

static void others(struct test_case *c, const char *end, const char *on, bool *ended)
{
	static const char *const hows[] = { "WR", "WR", "RD", "RDWR" };

	switch (below(16)) {
	case 0:
		if (*ended)
			break;
		add(c, "%s shutdown %s on %s", end, ONE_OF(hows), on);
		break;
	case 1:
		if (*ended)
			break;
		*ended = true;
		add(c, "%s close %s", end, on);
		break;
	case 2:
		add(c, "%s get SO_ERROR on %s", end, on);
		break;
	case 3: case 4:
		add(c, "%s inq on %s", end, on);
		break;
	case 5:
		add(c, "%s dup %s d", end, on);
		break;
	case 6:
		add(c, "%s close d", end);
		break;
	case 7:
		add(c, "%s set SO_KEEPALIVE %d on %s", end, (int)below(2), on);
		break;
	case 8:
		add(c, "%s blocking off%s on %s", end, below(2) ? " ioctl" : "", on);
		break;
	case 9:
		add(c, "%s names on %s", end, on);
		break;
	case 10:
		add(c, "%s kind %s", end, on);
		break;
	case 11:
		add(c, "%s linger 1 0 on %s", end, on);
		break;
	case 12:
		add(c, "%s file f 3000", end);
		add(c, "%s sendfile %s f", end, size());	/* its bytes go on where s is */
		break;
	case 13:
		add(c, "%s dup2 %s g", end, on);
		break;
	default:
		add(c, "%s flags on %s", end, on);
		break;
	}
}

struct test_case *case_random(uint64_t seed, enum phase p)
{
	struct test_case *c = calloc(1, sizeof(*c));
	const char *end, *on;
	bool ended = false, threads = seed % 4 == 3;
	int n;

	if (!c)
		die("no memory");
	state = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	for (int i = 0; i < 8; i++)
		below(2);
	snprintf(c->name, sizeof(c->name), "seed %llu", (unsigned long long)seed);
	n = 6 + (int)below(24);
	add(c, "open t");
	add(c, "a epoll e");
	add(c, "b epoll e");
	/* in every fourth sequence some other thread of the end makes half of the calls */
	if (threads) {
		add(c, "a thread a9");
		add(c, "b thread b9");
	}
	for (int i = 0; i < n; i++) {
		end = below(2) ? "a" : "b";
		if (threads && below(2))
			end = *end == 'a' ? "a9" : "b9";
		on = below(4) ? "s" : "t";
		switch (below(8)) {
		case 0: case 1:
			ready(c, end, on, p == IDLE || p == BUSY);
			break;
		case 2:
			others(c, end, on, &ended);
			break;
		default:
			data(c, end, on);
			break;
		}
	}
	for (int i = 0; i < 4; i++) {
		add(c, "%s drain on %s", i & 1 ? "b" : "a", i & 2 ? "t" : "s");
		add(c, "%s poll", i & 1 ? "b" : "a");
	}
	return c;
}
