/* SPDX-License-Identifier: MIT */
/*
 * mortal.c - one of two ends dies, or is stopped, after so many instructions, or system calls; what does the other one see?
 *
 *   mortal watch ADDRESS PORT WAY ROLE step|call kill|both|stop FIRST STRIDE MOST
 *
 * starts both ends, again and again, with MORTAL_PRELOAD as their LD_PRELOAD, and lets the mortal one (ROLE: connect or accept) come as far
 * as FIRST instructions (or stops at system calls), FIRST + STRIDE and so on, until it gets to its end alive, MOST times at most.
 * WAY is what it does from there on where it is counted: send, recv, both. The end it comes to: it is killed; it is killed and the other
 * one with it; or it is stopped for a while, and goes on. Prints how often, or what was wrong, with status 1.
 *
 * What must be so, over plain TCP as well: the survivor gets each octet of which the mortal one knows that it was accepted, unless the
 * connection was reset, which it is only with something unread; none that was not offered, and none that is wrong. It
 * hears of the end. Who is stopped keeps up the other one for no longer than the limit of time that that one has set, and loses nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MORTAL, SURVIVOR };
enum way { SEND, RECV, BOTH };

#define LIMIT_MS 40		/* of the survivor's calls while the other one is stopped */
#define HOLD_MS 100
#define SLACK_MS 400		/* what a busy machine may add */
#define HANG_MS 15000

struct end {
	_Atomic uint64_t tried, sent;	/* before a send, after it */
	_Atomic uint64_t asked, got;	/* likewise of receives */
	_Atomic int ended_by;		/* 0: the end of the stream; errno; -1: it has got what was due */
	_Atomic unsigned int longest_ms;
};

static struct shared {
	struct end end[2];
	_Atomic int warm, listens, plain;
} *shared;

static _Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "mortal: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* From here on, what the stream has at an offset; made beforehand, because its instructions would be counted, too. */
#define PERIOD 4099u		/* no multiple of it is near one of a ring's size */
#define LONGEST 9000u
static unsigned char stream[PERIOD + LONGEST];

static void make_stream(void)
{
	for (unsigned int i = 0; i < sizeof(stream); i++)
		stream[i] = (unsigned char)((i % PERIOD * 2654435761u) >> 13 ^ i % PERIOD >> 7);
}

static const unsigned char *pattern(uint64_t n)
{
	return stream + n % PERIOD;
}

/* ---- an end ---- */

static int fd;
static struct end *me;

static void took(int64_t since)
{
	unsigned int ms = (unsigned int)(now_ms() - since);

	if (ms > me->longest_ms)
		me->longest_ms = ms;
}

/* One call. False: it has ended, or not now. */
static bool put(size_t n)
{
	int64_t began = now_ms();
	uint64_t from = me->sent;
	ssize_t k;

	me->tried = from + n;
	k = send(fd, pattern(from), n, MSG_NOSIGNAL);
	if (k > 0)
		me->sent = from + (uint64_t)k;
	took(began);
	if (k < 0 && errno != EAGAIN)
		me->ended_by = errno;
	return k > 0;
}

static bool get(size_t n)
{
	unsigned char buf[LONGEST];
	int64_t began = now_ms();
	uint64_t from = me->got;
	ssize_t k;

	me->asked = from + n;
	k = recv(fd, buf, n, 0);
	if (k > 0 && memcmp(buf, pattern(from), (size_t)k))
		fail("of %zd octets from %llu on one is wrong", k, (unsigned long long)from);
	if (k > 0)
		me->got = from + (uint64_t)k;
	took(began);
	if (k == 0 || (k < 0 && errno != EAGAIN))
		me->ended_by = k ? errno : 0;
	return k > 0;
}

/* What both ends have to do, so that it can be done to the end: each octet that one sends the other receives. */
#define TOTAL 24000u

static size_t piece(uint64_t done)
{
	static const size_t sizes[] = { 1, 30, 700, 5000, 8999, 300 };
	uint64_t left = TOTAL - done;
	size_t n = sizes[done % 6];

	return n < left ? n : (size_t)left;
}

static void talk(bool sends, bool receives)
{
	struct pollfd p = { .fd = fd };

	me->ended_by = -1;
	if (sends && receives)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	while (me->ended_by == -1) {
		bool out = sends && me->sent < TOTAL, in = receives && me->got < TOTAL;

		if (!out && !in)
			break;
		if (out && in) {
			int64_t began = now_ms();

			p.events = POLLIN | POLLOUT;
			(void)poll(&p, 1, LIMIT_MS);
			took(began);
		}
		if (out)
			(void)put(piece(me->sent));
		if (in && me->ended_by == -1)
			(void)get(piece(me->got));
	}
}

/* The survivor goes on until it hears of the end. */
static void outlive(void)
{
	fcntl(fd, F_SETFL, 0);
	while (me->ended_by == -1)
		(void)get(5000);
	/* an error of a send leaves something to read */
	if (me->ended_by == EPIPE || me->ended_by == ECONNRESET) {
		int why = me->ended_by;

		me->ended_by = -1;
		while (me->ended_by == -1)
			(void)get(5000);
		me->ended_by = why;
	}
}

static void rounds(bool first)
{
	char c = 'w';

	for (int after = 0; c != 'x';) {
		if (first) {
			after += shared->warm;
			c = after > 30 ? 'x' : 'w';
			if (send(fd, &c, 1, MSG_NOSIGNAL) != 1 || recv(fd, &c, 1, 0) != 1)
				fail("warming up: %s", strerror(errno));
		} else if (recv(fd, &c, 1, 0) != 1 || send(fd, &c, 1, MSG_NOSIGNAL) != 1) {
			fail("warming up: %s", strerror(errno));
		}
	}
}

static int open_connection(bool listens, const char *address, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1, c;

	inet_pton(AF_INET, address, &to.sin_addr);
	if (listens) {
		setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(s, (struct sockaddr *)&to, sizeof(to)) < 0 || listen(s, 1) < 0)
			fail("listening: %s", strerror(errno));
		shared->listens = 1;
		c = accept(s, NULL, NULL);
		close(s);
		return c;
	}
	while (!shared->listens)
		usleep(200);
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		fail("connecting: %s", strerror(errno));
	return s;
}

static int be_end(int who, bool listens, const char *address, const char *port, enum way way, bool limits)
{
	struct timeval tv = { .tv_usec = LIMIT_MS * 1000 };
	bool sends = (who == MORTAL) == (way == SEND) || way == BOTH, receives = (who == MORTAL) == (way == RECV) || way == BOTH;

	alarm(60);
	make_stream();
	me = &shared->end[who];
	fd = open_connection(listens, address, port);
	if (fd < 0)
		fail("no connection: %s", strerror(errno));
	/* what was sent has come, when send returns */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	rounds(!listens);
	if (who == MORTAL) {
		raise(SIGSTOP);		/* here the counting begins */
		talk(sends, receives);
		return 0;
	}
	if (limits) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	}
	talk(sends, receives);
	outlive();
	return 0;
}

/* ---- the watch ---- */

static const char *self;
static pid_t pids[2];

static void clean_up(void)
{
	for (int i = 0; i < 2; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
}

static pid_t start(int who, char **argv, bool listens)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (who == MORTAL && ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
		_exit(1);
	if (getenv("MORTAL_PRELOAD"))
		setenv("LD_PRELOAD", getenv("MORTAL_PRELOAD"), 1);
	execl(self, "mortal", who == MORTAL ? "mortal" : "survivor", listens ? "accept" : "connect", argv[2], argv[3], argv[4], argv[7],
	      NULL);
	_exit(1);
}

/* The memory of a ring, its own and the other's, is mapped. */
static bool has_ring(pid_t pid)
{
	char name[40], line[400];
	int n = 0;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/maps", (int)pid);
	f = fopen(name, "r");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:xshim-ring") != NULL;
	if (f)
		fclose(f);
	return n >= 2;
}

static int wait_for(int who, int64_t deadline)
{
	int status;
	pid_t got;

	while ((got = waitpid(pids[who], &status, WNOHANG)) == 0) {
		if (now_ms() > deadline)
			return -1;
		if (!shared->warm)
			shared->warm = shared->plain || (has_ring(pids[MORTAL]) && has_ring(pids[SURVIVOR]));
		usleep(200);
	}
	if (got < 0)
		fail("waitpid: %s", strerror(errno));
	if (WIFEXITED(status) || WIFSIGNALED(status))
		pids[who] = 0;
	return status;
}

static void resume(int how, int sig)
{
	if (ptrace(how, pids[MORTAL], 0, (void *)(intptr_t)sig) < 0)
		fail("ptrace: %s", strerror(errno));
}

/* Up to the place where counting begins. */
static void lead_there(void)
{
	int status = wait_for(MORTAL, now_ms() + HANG_MS);

	while (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP) {
		resume(PTRACE_CONT, WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status));
		status = wait_for(MORTAL, now_ms() + HANG_MS);
	}
	if (status == -1 || !WIFSTOPPED(status))
		fail("the mortal end never gets there");
}

/* False: it has come to its end alive. */
static bool advance(int how, long n)
{
	int64_t deadline = now_ms() + HANG_MS;
	int status, sig = 0;
	long i;

	for (i = 0; i < n; i++) {
		resume(how, sig);
		if (waitpid(pids[MORTAL], &status, how == PTRACE_SINGLESTEP ? 0 : WNOHANG) == 0) {
			status = wait_for(MORTAL, deadline);
			if (status == -1)
				fail("after %ld of %ld it goes no further", i, n);
		} else if (WIFEXITED(status) || WIFSIGNALED(status)) {
			pids[MORTAL] = 0;
		}
		if (!pids[MORTAL]) {
			if (status)
				fail("the mortal end has ended by itself, with status 0x%x", (unsigned int)status);
			return false;
		}
		sig = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
	}
	return true;
}

#define N(x) ((unsigned long long)(x))

/* there: what had come for the mortal one when it died */
static void judge(long at, bool alive, enum way way, uint64_t there)
{
	const struct end *m = &shared->end[MORTAL], *s = &shared->end[SURVIVOR];
	bool unread = there > m->asked, reset = s->ended_by == ECONNRESET || s->ended_by == EPIPE;

	if (s->ended_by != 0 && !reset)
		fail("at %ld: the survivor's connection ended with %s", at, s->ended_by < 0 ? "nothing" : strerror(s->ended_by));
	if (s->got > m->tried)
		fail("at %ld: %llu octets came of %llu that were offered", at, N(s->got), N(m->tried));
	if (!reset && s->got < m->sent)
		fail("at %ld: %llu octets came of %llu that were accepted", at, N(s->got), N(m->sent));
	if (m->got > s->tried)
		fail("at %ld: more octets came than there were", at);
	/* what it had not asked for it cannot have read; what it had asked for, perhaps */
	if (unread && !reset)
		fail("at %ld: %llu octets were unread, and the survivor (sent %llu, got %llu) heard of no reset (%d)", at, N(there - m->asked), N(s->sent), N(s->got), s->ended_by);
	if (reset && way == SEND)
		fail("at %ld: reset, and nothing was unread", at);
	if (alive && (way != SEND && m->got != TOTAL))
		fail("alive to the end it has got %llu octets", N(m->got));
	if (alive && way != RECV && s->got != TOTAL)
		fail("from one that was alive to the end %llu octets came", N(s->got));
}

static int watch(int argc, char **argv)
{
	bool listens, kills, both, steps, alive = false;
	long first, stride, most, times = 0, at;
	enum way way;

	if (argc != 11)
		return 2;
	way = !strcmp(argv[4], "send") ? SEND : !strcmp(argv[4], "recv") ? RECV : BOTH;
	listens = !strcmp(argv[5], "accept");
	steps = !strcmp(argv[6], "step");
	both = !strcmp(argv[7], "both");
	kills = both || !strcmp(argv[7], "kill");
	first = atol(argv[8]);
	stride = atol(argv[9]);
	most = atol(argv[10]);
	atexit(clean_up);
	for (at = first; !alive && times < most; at += stride, times++) {
		int how = steps ? PTRACE_SINGLESTEP : PTRACE_SYSCALL, status;
		uint64_t there = 0;

		memset(shared, 0, sizeof(*shared));
		shared->plain = !getenv("MORTAL_PRELOAD");
		pids[SURVIVOR] = start(SURVIVOR, argv, !listens);
		pids[MORTAL] = start(MORTAL, argv, listens);
		lead_there();
		alive = !advance(how, at);
		if (!alive && kills) {
			there = shared->end[SURVIVOR].sent;
			kill(pids[MORTAL], SIGKILL);
			if (both)
				kill(pids[SURVIVOR], SIGKILL);
			while (pids[MORTAL])
				(void)wait_for(MORTAL, now_ms() + HANG_MS);
		} else if (!alive) {
			usleep(HOLD_MS * 1000);
			resume(PTRACE_DETACH, 0);
			while (pids[MORTAL])
				if (wait_for(MORTAL, now_ms() + HANG_MS) == -1)
					fail("stopped at %ld, it does not come to its end", at);
			alive = false;
		}
		status = wait_for(SURVIVOR, now_ms() + HANG_MS);
		if (both)
			continue;
		if (status == -1)
			fail("at %ld: the survivor hangs; it has got %llu and sent %llu", at, N(shared->end[SURVIVOR].got),
			     N(shared->end[SURVIVOR].sent));
		if (status)
			fail("at %ld: the survivor ended with status 0x%x", at, (unsigned int)status);
		judge(at, alive || !kills, way, there);
		if (!kills && shared->end[SURVIVOR].longest_ms > LIMIT_MS + SLACK_MS && way != BOTH)
			fail("at %ld: with a limit of %d ms a call took %u ms", at, LIMIT_MS, shared->end[SURVIVOR].longest_ms);
	}
	printf("%ld times, at %ld to %ld%s\n", times, first, at - stride, alive ? ", which is the end" : "");
	return 0;
}

int main(int argc, char **argv)
{
	const char *file = getenv("MORTAL_FILE");
	int f = file ? open(file, O_RDWR | O_CREAT, 0600) : -1;

	if (f < 0 || ftruncate(f, sizeof(*shared)) < 0)
		fail("MORTAL_FILE");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	if (shared == MAP_FAILED)
		fail("mmap");
	close(f);
	self = "/proc/self/exe";
	if (argc > 1 && !strcmp(argv[1], "watch")) {
		static char path[4096];

		if (readlink(self, path, sizeof(path) - 1) < 0)
			fail("readlink");
		self = path;
		return watch(argc, argv);
	}
	if (argc != 7)
		return 2;
	return be_end(!strcmp(argv[1], "survivor"), !strcmp(argv[2], "accept"), argv[3], argv[4],
		      !strcmp(argv[5], "send") ? SEND : !strcmp(argv[5], "recv") ? RECV : BOTH, !strcmp(argv[6], "stop"));
}
