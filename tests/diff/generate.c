/* SPDX-License-Identifier: MIT */
/*
 * generate.c - random sequences of operations, from a seed. None of them can block for ever, and none does what is known
 * to differ in cases/: edges where a switch may come in between.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"

static uint64_t state;

unsigned int below(unsigned int n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned int)((state >> 16) % n);
}

const char *one_of(const char *const *list, unsigned int n)
{
	return list[below(n)];
}

void add(struct making *m, const char *fmt, ...)
{
	char line[LINE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	case_add_line(m->c, line);
}

const char *some_end(const struct making *m, int side)
{
	if (m->threads && below(2))
		return side ? "b9" : "a9";
	if (m->child[side] && below(2))
		return side ? "b2" : "a2";
	return side ? "b" : "a";
}

enum holder holder_by(const char *end)
{
	return (enum holder)((end[0] == 'b') + (end[1] == '2' ? A_CHILD : A));
}

const char *holder_of(const struct making *m, int side, const char *on)
{
	const char *end = some_end(m, side);
	int conn = on[0] == 't';

	if (m->shut[conn])
		return NULL;
	if (!m->closed[holder_by(end)][conn])
		return end;
	if (!m->closed[side][conn])
		return side ? "b" : "a";
	if (m->child[side] && !m->closed[A_CHILD + side][conn])
		return side ? "b2" : "a2";
	return NULL;
}

const char *size(void)
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

void data(struct making *m, const char *end, const char *on)
{
	static const char *const sends[] = { "0", "0", "DONTWAIT", "NOSIGNAL", "DONTWAIT,NOSIGNAL" };
	static const char *const recvs[] = { "DONTWAIT", "DONTWAIT", "DONTWAIT", "DONTWAIT,PEEK", "DONTWAIT,TRUNC",
					     "DONTWAIT,WAITALL", "DONTWAIT,PEEK,TRUNC" };
	char list[48];

	lengths(list);
	switch (below(14)) {
	case 0: case 1: case 2:
		add(m, "%s send %s %s on %s", end, size(), ONE_OF(sends), on);
		break;
	case 3:
		add(m, "%s write %s on %s", end, size(), on);
		break;
	case 4:
		add(m, "%s writev %s on %s", end, list, on);
		break;
	case 5:
		add(m, "%s sendmsg %s %s on %s", end, list, ONE_OF(sends), on);
		break;
	case 6:
		add(m, "%s sendmmsg %s,%s DONTWAIT on %s", end, size(), size(), on);
		break;
	case 7: case 8: case 9:
		add(m, "%s recv %s %s on %s", end, size(), ONE_OF(recvs), on);
		break;
	case 10:
		add(m, "%s recvmsg %s %s on %s", end, list, ONE_OF(recvs), on);
		break;
	case 11:
		add(m, "%s recvfrom %s DONTWAIT on %s", end, size(), on);
		break;
	case 12:
		add(m, "%s preadv2 %s DONTWAIT on %s", end, list, on);
		break;
	default:
		add(m, "%s recvmmsg %s,%s DONTWAIT on %s", end, size(), size(), on);
		break;
	}
}

static void ready(struct making *m, const char *end, const char *on)
{
	bool edges = m->phase == IDLE || m->phase == BUSY;
	static const char *const events[] = { "IN", "OUT", "IN,OUT", "IN,OUT,RDHUP", "IN,ONESHOT", "IN,OUT,ONESHOT",
					      "RDHUP", "IN,ET", "IN,RDHUP,ET" };
	unsigned int kinds = sizeof(events) / sizeof(events[0]) - (edges && on[0] == 's' ? 0 : 2);

	switch (below(8)) {
	case 0:
		add(m, "%s poll %s=IN,PRI,OUT,RDHUP", end, on);
		break;
	case 1:
		add(m, "%s poll s=IN,OUT t=IN,OUT,RDHUP", end);
		break;
	case 2:
		add(m, "%s select s=r,w,e t=r,w,e", end);
		break;
	case 3:
		add(m, "%s add e %s=%s", end, on, one_of(events, kinds));
		break;
	case 4:
		add(m, "%s mod e %s=%s", end, on, one_of(events, kinds));
		break;
	case 5:
		add(m, "%s %s e %s", end, below(3) ? "mod" : "del", on);
		break;
	default:
		add(m, "%s ewait e", end);
		break;
	}
}

static void others(struct making *m, const char *end, const char *on)
{
	static const char *const hows[] = { "WR", "WR", "RD", "RDWR" };

	int conn = on[0] == 't';

	switch (below(20)) {
	case 0:
		if (m->closed[holder_by(end)][conn])
			break;
		add(m, "%s shutdown %s on %s", end, ONE_OF(hows), on);
		m->shut[conn] = true;
		break;
	case 1:
		if (m->closed[A][0] + m->closed[A][1] + m->closed[B][0] + m->closed[B][1])
			break;
		add(m, "%s del e %s", end, on);
		add(m, "+ %s close %s", end, on);
		m->closed[holder_by(end)][conn] = true;
		break;
	case 2:
		add(m, "%s get SO_ERROR on %s", end, on);
		break;
	case 3: case 4:
		add(m, "%s %s on %s", end, below(2) ? "counts" : "inq", on);
		break;
	case 5:
		add(m, "%s %s", end, below(2) ? "close d" : "close g");
		break;
	case 6: case 7:
		switch (below(6)) {
		case 0: add(m, "%s dup %s d", end, on); break;
		case 1: add(m, "%s dupfd %s d %u", end, on, below(40)); break;
		case 2: add(m, "%s dupfdx %s d %u", end, on, below(40)); break;
		case 3: add(m, "%s dup2 %s g", end, on); break;
		case 4: add(m, "%s dup2 %s d", end, on); break;
		default: add(m, "%s dup3 %s g%s", end, on, below(2) ? " CLOEXEC" : ""); break;
		}
		break;
	case 8: case 9:
		data(m, end, below(3) ? "d" : "g");
		break;
	case 10:
		add(m, "%s set SO_KEEPALIVE %u on %s", end, below(2), on);
		break;
	case 11:
		add(m, "%s blocking %s%s on %s", end, below(2) ? "on" : "off", below(2) ? " ioctl" : "", on);
		break;
	case 12:
		add(m, "%s names on %s", end, on);
		break;
	case 13:
		add(m, "%s kind %s", end, on);
		break;
	case 14:
		add(m, "%s linger 1 0 on %s", end, on);
		break;
	case 15:
		add(m, "%s file f 3000", end);
		add(m, "%s sendfile %s f", end, size());	/* its bytes go on where s is */
		break;
	case 16:
		add(m, "%s lowest", end);
		break;
	case 17:
		add(m, "%s atmark on %s", end, on);
		break;
	default:
		add(m, "%s flags on %s", end, on);
		break;
	}
}

struct test_case *case_random(uint64_t seed, enum phase p)
{
	struct making m = { .c = calloc(1, sizeof(*m.c)), .phase = p, .threads = seed % 4 == 3 };
	const char *end, *on;
	int n, side;

	if (!m.c)
		die("no memory");
	state = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	for (int i = 0; i < 8; i++)
		below(2);
	snprintf(m.c->name, sizeof(m.c->name), "seed %llu", (unsigned long long)seed);
	n = 5 + (int)below(14);
	add(&m, "open t");
	add(&m, "a epoll e");
	add(&m, "b epoll e");
	/* in every fourth sequence some other thread of the end makes half of the calls */
	if (m.threads) {
		add(&m, "a thread a9");
		add(&m, "b thread b9");
	}
	for (int i = 0; i < n; i++) {
		side = (int)below(2);
		end = some_end(&m, side);
		on = below(4) ? "s" : "t";
		switch (below(20)) {
		case 0: case 1: case 2: case 3: case 4:
			ready(&m, end, on);
			break;
		case 5: case 6:
			others(&m, end, on);
			break;
		case 7: case 8:
			scene(&m, side, on);
			break;
		default:
			data(&m, end, on);
			break;
		}
	}
	scene_last(&m);
	for (int i = 0; i < 4; i++) {
		add(&m, "%s drain on %s", i & 1 ? "b" : "a", i & 2 ? "t" : "s");
		add(&m, "%s poll", i & 1 ? "b" : "a");
	}
	return m.c;
}
