/* SPDX-License-Identifier: MIT */
/*
 * op_ready.c - poll, select, epoll. Sets of descriptors are words NAME=IN,OUT; answers are printed in the order
 * of names, because the kernel leaves the order between descriptors open.
 *
 *   poll|ppoll [NAME=EVENTS...] [for MS]        without a set: s=IN,PRI,OUT,RDHUP
 *   select|pselect [NAME=r,w,e...] [for MS]
 *   ppoll, pselect, pwait and pwait2 with a word `unmasked`: no signal is blocked meanwhile
 *   epoll NAME; add|mod|del SET NAME[=EVENTS]; ewait SET [max N] [for MS] [by pwait|pwait2]
 *   until EVENTS [on NAME]                      poll until there are these events, at most 2 s
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#include "player.h"

#define FDS 16

struct set {
	int n, ms;
	bool unmasked;
	char names[FDS][16], events[FDS][64];
};

static void set_read(struct set *s, int argc, char **argv, const char *all)
{
	char *equals;

	*s = (struct set){ 0 };
	for (int i = 1; i < argc && s->n < FDS; i++) {
		if (!strcmp(argv[i], "for") && i + 1 < argc) {
			s->ms = atoi(argv[++i]);
			continue;
		}
		if (!strcmp(argv[i], "unmasked")) {
			s->unmasked = true;
			continue;
		}
		equals = strchr(argv[i], '=');
		if (!equals)
			die("%s: '%s' is not NAME=EVENTS", argv[0], argv[i]);
		snprintf(s->names[s->n], 16, "%.*s", (int)(equals - argv[i]), argv[i]);
		snprintf(s->events[s->n++], 64, "%s", equals + 1);
	}
	if (s->n)
		return;
	strcpy(s->names[0], "s");
	strcpy(s->events[0], all);
	s->n = 1;
}

static const sigset_t *no_signal(bool wanted)
{
	static const sigset_t none;

	return wanted ? &none : NULL;
}

static void op_poll(int argc, char **argv)
{
	struct pollfd p[FDS];
	struct timespec ts;
	char text[80];
	struct set s;
	int64_t t;
	int rc;

	set_read(&s, argc, argv, "IN,PRI,OUT,RDHUP");
	for (int i = 0; i < s.n; i++)
		p[i] = (struct pollfd){ .fd = fd_of(s.names[i]), .events = (short)bits_from(POLL_BITS, s.events[i]) };
	for (int i = 0; i < s.n; i++)
		if (!strcmp(s.names[i], "closed"))
			p[i].fd = 777;
	ts = (struct timespec){ .tv_sec = s.ms / 1000, .tv_nsec = s.ms % 1000 * 1000000 };
	t = now_ms();
	before_call();
	rc = !strcmp(argv[0], "poll") ? poll(p, (nfds_t)s.n, s.ms) :
					ppoll(p, (nfds_t)s.n, s.ms < 0 ? NULL : &ts, no_signal(s.unmasked));
	put_result(rc);
	if (rc == 0)
		put_time(t, s.ms);
	for (int i = 0; rc >= 0 && i < s.n; i++) {
		bits_to(POLL_BITS, (unsigned short)p[i].revents, text, sizeof(text));
		put(" %s=%s", s.names[i], text);
	}
}

static void op_until(int argc, char **argv)
{
	int64_t deadline = now_ms() + patience(2000);
	struct pollfd p = { .fd = fd_of(argc > 3 ? argv[3] : "s"), .events = (short)bits_from(POLL_BITS, argv[1]) };

	do {
		poll(&p, 1, 50);
	} while (!(p.revents & p.events) && now_ms() < deadline);
	put(p.revents & p.events ? "yes" : "NO");
}

static void op_select(int argc, char **argv)
{
	fd_set sets[3];
	struct timespec ts;
	struct timeval tv;
	int highest = -1, rc;
	struct set s;
	int64_t t;

	set_read(&s, argc, argv, "r,w,e");
	for (int k = 0; k < 3; k++)
		FD_ZERO(&sets[k]);
	for (int i = 0; i < s.n; i++) {
		int fd = fd_of(s.names[i]);

		if (fd < 0)
			fd = 1000;
		for (int k = 0; k < 3; k++)
			if (strchr(s.events[i], "rwe"[k]))
				FD_SET(fd, &sets[k]);
		highest = fd > highest ? fd : highest;
	}
	tv = (struct timeval){ .tv_sec = s.ms / 1000, .tv_usec = s.ms % 1000 * 1000 };
	ts = (struct timespec){ .tv_sec = s.ms / 1000, .tv_nsec = s.ms % 1000 * 1000000 };
	t = now_ms();
	before_call();
	rc = !strcmp(argv[0], "select") ?
		     select(highest + 1, &sets[0], &sets[1], &sets[2], s.ms < 0 ? NULL : &tv) :
		     pselect(highest + 1, &sets[0], &sets[1], &sets[2], s.ms < 0 ? NULL : &ts,
			     no_signal(s.unmasked));
	put_result(rc);
	if (rc == 0)
		put_time(t, s.ms);
	if (rc == 0 && s.ms > 0 && !strcmp(argv[0], "select"))
		put(" left=%ld.%06ld", (long)tv.tv_sec, (long)tv.tv_usec);
	for (int i = 0; rc >= 0 && i < s.n; i++) {
		put(" %s=", s.names[i]);
		for (int k = 0; k < 3; k++)
			if (FD_ISSET(fd_of(s.names[i]), &sets[k]))
				put("%c", "rwe"[k]);
	}
}

static void op_epoll(int argc, char **argv)
{
	int fd = epoll_create1(argc > 2 && !strcmp(argv[2], "CLOEXEC") ? EPOLL_CLOEXEC : 0);

	if (fd < 0)
		die("epoll_create1: %s", errno_word(errno));
	name_set(argv[1], fd, -1);
	put("made");
}

/* The datum of an entry is its name: the first eight letters of it. */
static uint64_t datum(const char *name)
{
	uint64_t d = 0;

	memcpy(&d, name, strlen(name) < 8 ? strlen(name) : 8);
	return d;
}

static void op_ctl(int argc, char **argv)
{
	int op = !strcmp(argv[0], "add") ? EPOLL_CTL_ADD : !strcmp(argv[0], "mod") ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	struct epoll_event ev = { 0 };
	char name[16], *equals;

	if (argc < 3)
		die("%s: needs a set and a name", argv[0]);
	snprintf(name, sizeof(name), "%s", argv[2]);
	equals = strchr(name, '=');
	if (equals)
		*equals = 0;
	equals = strchr(argv[2], '=');
	ev.events = equals ? bits_from(EPOLL_BITS, equals + 1) : 0;
	ev.data.u64 = datum(argc > 4 && !strcmp(argv[3], "as") ? argv[4] : name);
	before_call();
	put_result(epoll_ctl(fd_of(argv[1]), op, fd_of(name), argc > 3 && !strcmp(argv[3], "null") ? NULL : &ev));
}

static int by_datum(const void *a, const void *b)
{
	const struct epoll_event *x = a, *y = b;
	int c = memcmp(&x->data, &y->data, sizeof(x->data));

	return c ? c : x->events < y->events ? -1 : x->events > y->events;
}

static void op_ewait(int argc, char **argv)
{
	struct epoll_event ev[FDS];
	const char *by = "wait";
	int max = FDS, ms = 0, fd = fd_of(argv[1]), rc;
	const sigset_t *mask;
	struct timespec ts;
	char text[96];
	int64_t t;

	for (int i = 2; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "max"))
			max = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "for"))
			ms = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "by"))
			by = argv[i + 1];
	}
	ts = (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	mask = no_signal(!strcmp(argv[argc - 1], "unmasked"));
	t = now_ms();
	before_call();
	rc = !strcmp(by, "pwait") ? epoll_pwait(fd, ev, max, ms, mask) :
	     !strcmp(by, "pwait2") ? epoll_pwait2(fd, ev, max, ms < 0 ? NULL : &ts, mask) :
				     epoll_wait(fd, ev, max, ms);
	put_result(rc);
	if (rc == 0)
		put_time(t, ms);
	if (rc > 1)
		qsort(ev, (size_t)rc, sizeof(ev[0]), by_datum);
	for (int i = 0; i < rc; i++) {
		bits_to(EPOLL_BITS, ev[i].events, text, sizeof(text));
		put(" %.8s=%s", (char *)&ev[i].data, text);
	}
}

const struct op ready_ops[] = {
	{ "poll", op_poll }, { "ppoll", op_poll }, { "until", op_until }, { "select", op_select },
	{ "pselect", op_select }, { "epoll", op_epoll }, { "add", op_ctl }, { "mod", op_ctl }, { "del", op_ctl },
	{ "ewait", op_ewait }, { NULL, NULL },
};
