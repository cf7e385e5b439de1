/* SPDX-License-Identifier: MIT */
/*
 * op_queue.c - whole streams, what is queued, and data that comes from or goes to files and pipes.
 *
 *   drain [on NAME]            receive until nothing is left; says how it ended, and if all came
 *   take N [on NAME]           receive exactly N bytes, however long it takes
 *   fill [on NAME]             send until the kernel and whoever else take no more
 *   flood N [on NAME]          the same, to no more than N bytes: says only whether that was reached
 *   ping N, pong N             N times one byte there and back
 *   inq, outq, atmark          FIONREAD, TIOCOUTQ (once it no longer changes), SIOCATMARK
 *   sockatmark                 the C library's call
 *   file NAME LENGTH           a file whose bytes go on with the connection's pattern
 *   pipe READ WRITE [NONBLOCK] a pipe; `feed NAME N [for CONN]` writes N bytes of the pattern into it
 *   sendfile N FROM [at OFFSET] [on NAME]; splice FROM TO N [FLAGS as numbers]; tee FROM TO N
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "player.h"

#define CHUNK 65536

static __thread char buf[CHUNK];

/* The name after "on". */
static const char *target(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "on"))
			return argv[i + 1];
	return "s";
}

static bool check(int conn, uint64_t at, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)b[i] != pattern(conn, !me.side, at + i))
			return false;
	return true;
}

/* What was received: is it the pattern? If not, a sum over all of it. */
struct seen {
	bool wrong;
	uint32_t sum;
};

static void see(struct seen *s, int conn, uint64_t at, const char *b, size_t n)
{
	s->wrong = s->wrong || !check(conn, at, b, n);
	s->sum = sum_of(s->sum, b, n);
}

static void put_seen(const struct seen *s)
{
	if (s->wrong)
		put(" WRONG %08x", s->sum);
}

static void op_drain(int argc, char **argv)
{
	const char *on = target(argc, argv);
	int fd = fd_of(on), conn = conn_of(on);
	uint64_t *got = &me.shared->conn[conn].got[me.side];
	const uint64_t *sent = &me.shared->conn[conn].sent[!me.side];
	uint64_t *less = &me.shared->conn[conn].less[me.side];
	/* where there was urgent data some may never come, and all that is under way has been waited for */
	bool urgent = me.shared->conn[conn].urgent[!me.side];
	int64_t limit = urgent ? 1 : patience(3000), deadline = now_ms() + limit;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct seen all = { 0 };
	ssize_t n;

	for (;;) {
		before_call();
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			see(&all, conn, *got, buf, (size_t)n);
			*got += (uint64_t)n;
			deadline = now_ms() + limit;
			continue;
		}
		/* less than was sent is on its way; more: the sender has not returned from the call yet, and counts then */
		if (n < 0 && errno == EAGAIN && *got + *less != *sent && now_ms() < deadline) {
			poll(&p, 1, 20);
			continue;
		}
		break;
	}
	if (urgent)
		*less = *sent - *got;
	put("%s", *got == *sent ? "all" : "not all");
	put_seen(&all);
	put(", then");
	put_result(n);
}

static void op_take(int argc, char **argv)
{
	const char *on = target(argc, argv);
	int fd = fd_of(on), conn = conn_of(on);
	uint64_t *got = &me.shared->conn[conn].got[me.side];
	size_t left = strtoul(argv[1], NULL, 10);
	int64_t deadline = now_ms() + patience(5000);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct seen all = { 0 };
	ssize_t n;

	while (left && now_ms() < deadline) {
		n = recv(fd, buf, left < sizeof(buf) ? left : sizeof(buf), MSG_DONTWAIT);
		if (n <= 0 && (n == 0 || errno != EAGAIN))
			break;
		if (n < 0) {
			poll(&p, 1, 20);
			continue;
		}
		see(&all, conn, *got, buf, (size_t)n);
		*got += (uint64_t)n;
		left -= (size_t)n;
	}
	put("%s", left ? "not all" : "all");
	put_seen(&all);
}

/* As op_fill(), or up to `most` bytes: how many were taken. */
static size_t fill(int argc, char **argv, size_t most)
{
	const char *on = target(argc, argv);
	int fd = fd_of(on), conn = conn_of(on);
	uint64_t *sent = &me.shared->conn[conn].sent[me.side];
	int64_t since = now_ms();	/* when something was taken last */
	size_t size = most < 16384 ? 1000 : 16384, done = 0;
	ssize_t n;

	while (done < most) {
		for (size_t i = 0; i < size; i++)
			buf[i] = (char)pattern(conn, me.side, *sent + i);
		n = send(fd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			*sent += (uint64_t)n;
			done += (size_t)n;
			since = now_ms();
			continue;
		}
		/* the last acknowledgements and a probe of the window make room after a while */
		if (n >= 0 || errno != EAGAIN || now_ms() - since > 300)
			break;
		poll(NULL, 0, 5);
		size = 1000;
	}
	return done;
}

static void op_fill(int argc, char **argv)
{
	(void)fill(argc, argv, SIZE_MAX);
	put("then %s", errno_word(errno));
}

static void op_flood(int argc, char **argv)
{
	size_t most = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, done = fill(argc, argv, most);

	put(done < most ? "less" : "as much");
}

/* How often depends on when the ends come on the ring, so the pattern goes on without these bytes. */
static void op_ping(int argc, char **argv)
{
	const char *on = argc > 2 ? argv[2] : "s";
	int fd = fd_of(on), n = argc > 1 ? atoi(argv[1]) : 1;
	bool first = !strcmp(argv[0], "ping");
	char byte;

	for (int i = 0; i < 2 * n; i++) {
		byte = (char)('A' + me.side);
		if ((i & 1) == !first && send(fd, &byte, 1, MSG_NOSIGNAL) != 1) {
			put("send failed");
			return;
		}
		if ((i & 1) == first && (recv(fd, &byte, 1, 0) != 1 || byte != 'A' + !me.side)) {
			put("recv failed");
			return;
		}
	}
	put("done");
}

static void op_queued(int argc, char **argv)
{
	int fd = fd_of(target(argc, argv)), n = -7, rc, last;
	unsigned long request = !strcmp(argv[0], "inq") ? FIONREAD : !strcmp(argv[0], "outq") ? TIOCOUTQ : SIOCATMARK;
	int64_t deadline = now_ms() + 250;

	before_call();
	rc = ioctl(fd, request, &n);
	/* acknowledgements are under way */
	while (rc == 0 && request == TIOCOUTQ && n && now_ms() < deadline) {
		last = n;
		poll(NULL, 0, 5);
		before_call();
		rc = ioctl(fd, request, &n);
		if (rc < 0 || n > last)
			break;
	}
	put_result(rc);
	if (rc == 0)
		put(" %d", n);
}

static void op_sockatmark(int argc, char **argv)
{
	int fd = fd_of(target(argc, argv));

	before_call();
	put_result(sockatmark(fd));
}

static void op_file(int argc, char **argv)
{
	size_t len = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	int fd = memfd_create("case", 0);
	uint64_t at = me.shared->conn['s' - 'a'].sent[me.side];

	for (size_t i = 0; i < len; i += CHUNK) {
		size_t n = len - i < CHUNK ? len - i : CHUNK;

		for (size_t k = 0; k < n; k++)
			buf[k] = (char)pattern('s' - 'a', me.side, at + i + k);
		if (write(fd, buf, n) != (ssize_t)n)
			die("file: %s", errno_word(errno));
	}
	lseek(fd, 0, SEEK_SET);
	name_set(argv[1], fd, -1);
	put("made");
}

static void op_pipe(int argc, char **argv)
{
	int fds[2];

	if (argc < 3 || pipe2(fds, argc > 3 ? O_NONBLOCK : 0) < 0)
		die("pipe");
	name_set(argv[1], fds[0], -1);
	name_set(argv[2], fds[1], -1);
	put("made");
}

/* The bytes continue what is still unsent in pipes and files: `ahead` counts them. */
static void op_feed(int argc, char **argv)
{
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0, ahead = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	uint64_t at = me.shared->conn['s' - 'a'].sent[me.side] + ahead;

	if (n > CHUNK)
		die("feed: at most %d", CHUNK);
	for (size_t k = 0; k < n; k++)
		buf[k] = (char)pattern('s' - 'a', me.side, at + k);
	before_call();
	put_result(write(fd_of(argv[1]), buf, n));
}

/* What came into a pipe from the connection: how much is in there, and where it begins. One pipe at a time, and no child's. */
static __thread size_t piped;
static __thread uint64_t piped_at;

static void pipe_took(int conn, size_t n)
{
	uint64_t *got = &me.shared->conn[conn].got[me.side];

	if (!piped)
		piped_at = *got;
	piped += n;
	*got += n;
}

static void pipe_gave(size_t n)
{
	n = n < piped ? n : piped;
	piped -= n;
	piped_at += n;
}


void pipe_forget(void)
{
	piped = 0;
}

static void op_sip(int argc, char **argv)
{
	struct pollfd p = { .fd = fd_of(argv[1]), .events = POLLIN };
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : CHUNK;
	struct seen all = { 0 };
	ssize_t rc;

	if (poll(&p, 1, 0) == 0) {
		put("empty");
		return;
	}
	before_call();
	rc = read(p.fd, buf, n > CHUNK ? CHUNK : n);
	put_result(rc);
	if (rc > 0) {
		see(&all, 's' - 'a', piped_at, buf, (size_t)rc);
		put(all.wrong ? "" : " right");
		put_seen(&all);
		pipe_gave((size_t)rc);
	}
}

static void op_sendfile(int argc, char **argv)
{
	const char *on = target(argc, argv);
	size_t n = strtoull(argv[1], NULL, 10);
	off_t offset = 0;
	bool at = false;
	int conn = conn_of(on);
	ssize_t rc;

	for (int i = 3; i + 1 < argc; i++)
		if (!strcmp(argv[i], "at")) {
			at = true;
			offset = strtoll(argv[i + 1], NULL, 10);
		}
	before_call();
	rc = sendfile(fd_of(on), fd_of(argv[2]), at ? &offset : NULL, n);
	/* how much of it there is room for is the kernel's affair */
	if (rc > 0 && n > 65536 && (size_t)rc < n) {
		put("some");
		put_result(0);
		me.shared->conn[conn].sent[me.side] += (uint64_t)rc;
		return;
	}
	put_result(rc);
	if (at)
		put(" offset=%lld", (long long)offset);
	else if (lseek(fd_of(argv[2]), 0, SEEK_CUR) >= 0)
		put(" position=%lld", (long long)lseek(fd_of(argv[2]), 0, SEEK_CUR));
	if (rc > 0)
		me.shared->conn[conn].sent[me.side] += (uint64_t)rc;
}

static void op_splice(int argc, char **argv)
{
	struct name *from = name_find(argv[1]), *to = name_find(argv[2]);
	int in = fd_of(argv[1]), out = fd_of(argv[2]);
	size_t n = strtoull(argv[3], NULL, 10);
	unsigned int flags = argc > 4 ? (unsigned int)strtoul(argv[4], NULL, 0) : SPLICE_F_NONBLOCK;
	ssize_t rc;

	before_call();
	rc = !strcmp(argv[0], "tee") ? tee(in, out, n, flags) : splice(in, NULL, out, NULL, n, flags);
	put_result(rc);
	if (rc > 0 && from && from->conn >= 0)
		pipe_took(from->conn, (size_t)rc);
	if (rc > 0 && to && to->conn >= 0) {
		me.shared->conn[to->conn].sent[me.side] += (uint64_t)rc;
		pipe_gave((size_t)rc);
	}
}

const struct op queue_ops[] = {
	{ "drain", op_drain }, { "take", op_take }, { "fill", op_fill }, { "flood", op_flood }, { "ping", op_ping }, { "pong", op_ping },
	{ "inq", op_queued }, { "outq", op_queued }, { "atmark", op_queued },
	{ "sockatmark", op_sockatmark }, { "file", op_file },
	{ "pipe", op_pipe }, { "feed", op_feed }, { "sip", op_sip }, { "sendfile", op_sendfile },
	{ "splice", op_splice }, { "tee", op_splice }, { NULL, NULL },
};
