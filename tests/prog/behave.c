/* SPDX-License-Identifier: MIT */
/*
 * behave.c - small scenes on a TCP connection, printed; see behave.h.
 *
 *   behave server|client CASE ADDRESS PORT STEP-SOCKET GO-FILE
 *   behave list call|cancel|end|fault|io|leave|load|fd|epoll|fork|net|others|pass|sandbox|signal|thread|wild
 *   behave take FD		gets a connection over the unix socket FD, and answers on it
 *   behave wild|wild-threads	bad addresses before there is any ring
 *
 * Each end warms a connection up by exchanging single bytes until GO-FILE exists, then plays CASE. When the
 * client makes a connection it removes GO-FILE and says in GO-FILE.want how many ends are open then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "behave.h"

static const char *go_file;
static int say_fd = 1;
static bool standard_are_closed;

_Noreturn void die(const char *what)
{
	fprintf(stderr, "behave: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Unbuffered: what was printed before a kill must be seen. */
void say(const char *fmt, ...)
{
	char line[400];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(say_fd, line, (size_t)n) != n)
		exit(1);
}

const char *errno_name(int err)
{
	const char *name = strerrorname_np(err);

	return name ? name : "?";
}

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool barrier(struct scene *s)
{
	char c = 'b';

	if (send(s->step, &c, 1, MSG_NOSIGNAL) != 1)
		return false;
	return recv(s->step, &c, 1, 0) == 1;
}

uint8_t pattern(size_t offset)
{
	return (uint8_t)((offset * 2654435761u) >> 13);
}

void send_part(int fd, size_t from, size_t len)
{
	uint8_t buf[65536];
	size_t done = 0, i, n;
	ssize_t rc;

	while (done < len) {
		n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		for (i = 0; i < n; i++)
			buf[i] = pattern(from + done + i);
		rc = send(fd, buf, n, MSG_NOSIGNAL);
		if (rc <= 0)
			die("send");
		done += (size_t)rc;
	}
}

void recv_part(int fd, size_t from, size_t len)
{
	uint8_t buf[65536];
	size_t done = 0, n;
	ssize_t rc, i;

	while (done < len) {
		n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		rc = recv(fd, buf, n, 0);
		if (rc <= 0) {
			fprintf(stderr, "behave: %zu bytes of %zu came, then recv returned %zd\n", done, len, rc);
			exit(1);
		}
		for (i = 0; i < rc; i++) {
			if (buf[i] != pattern(from + done + (size_t)i)) {
				fprintf(stderr, "behave: byte %zu of %zu is wrong\n", done + (size_t)i, len);
				exit(1);
			}
		}
		done += (size_t)rc;
	}
}

void send_exactly(int fd, size_t len) { send_part(fd, 0, len); }
void recv_exactly(int fd, size_t len) { recv_part(fd, 0, len); }

void echo(struct scene *s, int fd, size_t len)
{
	if (s->is_server) {
		recv_exactly(fd, len);
		send_exactly(fd, len);
	} else {
		send_exactly(fd, len);
		recv_exactly(fd, len);
	}
}

static void poll_words(short bits, char *out, size_t room)
{
	static const struct { short bit; const char *word; } words[] = {
		{ POLLIN, "IN " }, { POLLPRI, "PRI " }, { POLLOUT, "OUT " }, { POLLRDHUP, "RDHUP " },
		{ POLLERR, "ERR " }, { POLLHUP, "HUP " }, { POLLNVAL, "NVAL " },
	};
	size_t i;

	out[0] = 0;
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (bits & words[i].bit)
			strncat(out, words[i].word, room - strlen(out) - 1);
	}
}

void say_poll(const char *when, int fd, short until)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP, .revents = -1 };
	struct pollfd only = { .fd = fd, .events = until & (POLLIN | POLLRDHUP | POLLPRI | POLLOUT) };
	int64_t deadline = now_ms() + 10000;
	char text[80];
	short before;

	while (until) {
		if (poll(&only, 1, 100) < 0)
			die("poll");
		if ((only.revents & until) || now_ms() > deadline)
			break;
	}
	/* The kernel sets the bits of a reset one after the other: two looks must agree. */
	do {
		before = p.revents;
		if (poll(&p, 1, 0) < 0 || poll(NULL, 0, 1) < 0)
			die("poll");
	} while (p.revents != before && now_ms() < deadline);
	poll_words(p.revents, text, sizeof(text));
	say("%s: poll: %s", when, text[0] ? text : "nothing");
}

void say_recv_all(const char *when, int fd)
{
	char buf[65536];
	size_t sum = 0;
	ssize_t n;
	int i;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		sum += (size_t)n;
	say("%s: recv: %zu bytes, then %s", when, sum, n ? errno_name(errno) : "0");
	for (i = 0; i < 2; i++) {
		n = recv(fd, buf, sizeof(buf), 0);
		say("%s: recv again: %zd %s", when, n, n < 0 ? errno_name(errno) : "");
	}
}

int lines_of(const char *path)
{
	FILE *f = fopen(path, "r");
	int n = 0, c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

void say_send(const char *when, int fd, size_t len)
{
	char buf[4096] = { 0 };
	ssize_t n = send(fd, buf, len < sizeof(buf) ? len : sizeof(buf), MSG_NOSIGNAL);

	say("%s: send: %zd %s", when, n, n < 0 ? errno_name(errno) : "");
}

void say_so_error(const char *when, int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		die("getsockopt(SO_ERROR)");
	say("%s: SO_ERROR: %s", when, err ? errno_name(err) : "0");
}

void await_state(pid_t id, char state)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	char name[40], line[200] = "", *p;
	int seen = 0;

	snprintf(name, sizeof(name), "/proc/%d/stat", (int)id);
	while (seen < 2) {
		FILE *f = fopen(name, "r");

		if (!f || !fgets(line, sizeof(line), f) || !(p = strrchr(line, ')')))
			die(name);
		fclose(f);
		seen = p[2] == state ? seen + 1 : 0;
		nanosleep(&pause, NULL);
	}
}

void about_to_sleep(struct scene *s)
{
	pid_t pid = getpid();

	if (write(s->step, &pid, sizeof(pid)) != sizeof(pid))
		die("the step socket");
}

pid_t other_sleeps(struct scene *s)
{
	pid_t pid;

	if (recv(s->step, &pid, sizeof(pid), MSG_WAITALL) != sizeof(pid))
		die("the other's pid");
	await_state(pid, 'S');
	return pid;
}

void reap(pid_t pid)
{
	int status;

	if (pid < 0)
		die("no child");
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	say("child: status 0x%x", status);
}

/* state: "ring", or "attached": introduced, whatever path the bytes are on. */
static void ask_to_wait(unsigned int ends, const char *state)
{
	char name[256];
	FILE *f;

	/* first: the answer to the wish may come at once */
	unlink(go_file);
	snprintf(name, sizeof(name), "%s.want", go_file);
	f = fopen(name, "w");
	if (!f || fprintf(f, "%u %s\n", ends, state) < 0 || fclose(f))
		die(name);
}

/* Byte by byte, because a ring is only offered to connections that live. */
void warm_up(struct scene *s, int fd)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	char c = 'w';

	if (s->is_server) {
		do {
			if (recv(fd, &c, 1, 0) != 1 || send(fd, &c, 1, MSG_NOSIGNAL) != 1)
				die("warming up");
		} while (c != 'x');
		return;
	}
	ask_to_wait(2 * s->connections, "ring");
	while (c != 'x') {
		nanosleep(&pause, NULL);
		c = access(go_file, F_OK) == 0 ? 'x' : 'w';
		if (send(fd, &c, 1, MSG_NOSIGNAL) != 1 || recv(fd, &c, 1, 0) != 1)
			die("warming up");
	}
}

static void resolve(const char *address, const char *port, struct sockaddr_storage *ss, socklen_t *len)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *ai;

	if (getaddrinfo(address, port, &hints, &ai))
		die("getaddrinfo");
	memcpy(ss, ai->ai_addr, ai->ai_addrlen);
	*len = ai->ai_addrlen;
	freeaddrinfo(ai);
}

static int listen_at(const char *address, const char *port)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd, one = 1;

	resolve(address, port, &ss, &len);
	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 16) < 0)
		die("listen");
	return fd;
}

/* Where 0, 1 and 2 are free: to a number that streams do not use. */
static int raised(int fd)
{
	int high;

	if (!standard_are_closed || fd > 2)
		return fd;
	high = fcntl(fd, F_DUPFD, 10);
	close(fd);
	return high;
}

int young_connection(struct scene *s)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd, one = 1;

	if (s->is_server) {
		fd = raised(accept(s->listener, NULL, NULL));
	} else {
		resolve(s->address, s->port, &ss, &len);
		fd = socket(ss.ss_family, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len) < 0)
			die("connect");
		fd = raised(fd);
	}
	if (fd < 0)
		die("accept");
	/* no small message waits for an acknowledgement */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

void introduce(struct scene *s, int fd)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	char c = 'w';

	s->connections++;
	if (s->is_server) {
		while (c != 'x') {
			if (recv(fd, &c, 1, 0) != 1)
				die("introducing");
		}
		return;
	}
	ask_to_wait(2 * s->connections, "attached");
	while (c != 'x') {
		nanosleep(&pause, NULL);
		c = access(go_file, F_OK) == 0 ? 'x' : 'w';
		if (send(fd, &c, 1, MSG_NOSIGNAL) != 1)
			die("introducing");
	}
}

int unread_connection(struct scene *s, size_t len)
{
	int fd = young_connection(s);

	if (s->is_server)
		send_exactly(fd, len);
	introduce(s, fd);
	return fd;
}

int another_connection(struct scene *s)
{
	int fd = young_connection(s);

	s->connections++;
	warm_up(s, fd);
	return fd;
}

void connection_instead(struct scene *s)
{
	int was = s->fd;

	s->connections = 0;
	s->fd = another_connection(s);
	say("the same number: %d", s->fd == was);
	echo(s, s->fd, 100000);
	barrier(s);
}

static int step_socket(const char *path, bool is_server)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), conn;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s%s", path, is_server ? ".new" : "");
	if (!is_server) {
		if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
			die("connecting the step socket");
		return fd;
	}
	/* the script starts the client once the name is there: somebody must listen by then */
	unlink(un.sun_path);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, 1) < 0 || rename(un.sun_path, path) < 0)
		die("the step socket");
	conn = accept(fd, NULL, NULL);
	close(fd);
	unlink(path);
	return conn;
}

static const struct {
	const char *name;
	const struct scene_case *cases;
} groups[] = {
	{ "buffers", scenes_buffers }, { "call", scenes_call }, { "cancel", scenes_cancel }, { "end", scenes_end }, { "fault", scenes_fault }, { "io", scenes_io }, { "leave", scenes_leave }, { "load", scenes_load }, { "fd", scenes_fd }, { "epoll", scenes_epoll },
	{ "fork", scenes_fork }, { "net", scenes_net }, { "others", scenes_others }, { "pass", scenes_pass }, { "sandbox", scenes_sandbox }, { "signal", scenes_signal },
	{ "thread", scenes_thread }, { "wild", scenes_wild },
};
#define GROUPS (sizeof(groups) / sizeof(groups[0]))

static const struct scene_case *find_case(const char *name)
{
	const struct scene_case *c;
	size_t i;

	for (i = 0; i < GROUPS; i++) {
		for (c = groups[i].cases; c->name; c++) {
			if (!strcmp(c->name, name))
				return c;
		}
	}
	return NULL;
}

static int list(const char *group)
{
	const struct scene_case *c;
	size_t i;

	for (i = 0; i < GROUPS; i++) {
		if (strcmp(groups[i].name, group))
			continue;
		for (c = groups[i].cases; c->name; c++)
			printf("%s\n", c->name);
		return 0;
	}
	fprintf(stderr, "behave: there is no group %s\n", group);
	return 2;
}

/* BEHAVE_OUT: the file for what is said, because the standard descriptors are closed. */
static void find_out(void)
{
	const char *path = getenv("BEHAVE_OUT");
	int low = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;

	if (low < 0)
		return;
	say_fd = fcntl(low, F_DUPFD, 60);
	close(low);
	standard_are_closed = true;
}

int main(int argc, char **argv)
{
	struct scene s = { .listener = -1 };
	const struct scene_case *c;

	if (argc == 2 && !strcmp(argv[1], "wild"))
		return behave_wild();
	if (argc == 2 && !strcmp(argv[1], "wild-threads"))
		return behave_wild_threads();
	if (argc == 3 && !strcmp(argv[1], "take"))
		return behave_take(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "list"))
		return list(argv[2]);
	c = argc == 7 ? find_case(argv[2]) : NULL;
	if (!c) {
		fprintf(stderr, "usage: behave server|client CASE ADDRESS PORT STEP-SOCKET GO-FILE\n       behave list GROUP\n");
		return 2;
	}
	find_out();
	alarm(150);	/* against a hang */
	s.is_server = !strcmp(argv[1], "server");
	s.address = argv[3];
	s.port = argv[4];
	go_file = argv[6];
	if (s.is_server)
		s.listener = listen_at(s.address, s.port);
	s.step = step_socket(argv[5], s.is_server);
	s.fd = another_connection(&s);
	barrier(&s);
	c->run(&s);
	say("end of %s", c->name);
	return 0;
}
