/* SPDX-License-Identifier: MIT */
/*
 * early.c - a library that uses sockets whenever it can: in its constructor, which may run before or after that of another
 * preloaded library, when it is called, and in its destructor. Made by tests/preload_load.sh.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int pair[2] = { -1, -1 }, set = -1;

static void complain(const char *what)
{
	const char *why = strerror(errno);

	(void)!write(1, what, strlen(what));
	(void)!write(1, ": ", 2);
	(void)!write(1, why, strlen(why));
	(void)!write(1, "\n", 1);
	_exit(7);
}

#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what))                                                                       \
			complain(#what);                                                           \
	} while (0)

/* What makes a descriptor, in several ways: the mode is there, or is not. */
static void open_and_close(void)
{
	int fds[2], fd = open("/dev/null", O_RDWR);
	FILE *f = fopen("/dev/null", "r");
	DIR *d = opendir("/");
	struct stat st;

	MUST(fd >= 0 && f && d && closedir(d) == 0 && fclose(f) == 0 && close(fd) == 0);
	fd = open("/tmp", O_RDWR | O_TMPFILE, 0640);
	MUST(fd < 0 ? errno == EOPNOTSUPP || errno == EACCES : fstat(fd, &st) == 0 && (st.st_mode & 0777 & ~0640) == 0 && close(fd) == 0);
	MUST(pipe(fds) == 0 && close(fds[0]) == 0 && close(fds[1]) == 0);
	fd = eventfd(0, EFD_CLOEXEC);
	MUST(fd >= 0 && close(fd) == 0);
}

static void connect_to_itself(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(listener >= 0 && pair[0] >= 0);
	MUST(bind(listener, (struct sockaddr *)&at, len) == 0);
	MUST(listen(listener, 1) == 0);
	MUST(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
	MUST(connect(pair[0], (struct sockaddr *)&at, len) == 0);
	pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	MUST(pair[1] >= 0);
	MUST(close(listener) == 0);
	MUST(close(listener) < 0);
	/* out of the way of the program's numbers */
	for (int i = 0; i < 2; i++) {
		int high = fcntl(pair[i], F_DUPFD_CLOEXEC, 200);

		MUST(high >= 200);
		MUST(close(pair[i]) == 0);
		pair[i] = high;
	}
}

/* Every kind of call, over and over. */
static void exchange(int rounds)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = 5 };
	struct pollfd p = { .fd = pair[1], .events = POLLIN };
	struct iovec v = { .iov_len = 3 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	char buf[20];
	fd_set r;

	v.iov_base = buf;
	for (int i = 0; i < rounds; i++) {
		MUST(send(pair[0], "abc", 3, MSG_NOSIGNAL) == 3);
		MUST(poll(&p, 1, -1) == 1 && (p.revents & POLLIN));
		FD_ZERO(&r);
		FD_SET(pair[1], &r);
		MUST(select(pair[1] + 1, &r, NULL, NULL, NULL) == 1);
		if (set >= 0)
			MUST(epoll_wait(set, &ev, 1, -1) == 1 && ev.data.fd == 5);
		MUST(read(pair[1], buf, 3) == 3 && !memcmp(buf, "abc", 3));
		MUST(writev(pair[1], &v, 1) == 3);
		MUST(recvmsg(pair[0], &m, 0) == 3);
		MUST(recv(pair[0], buf, 3, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	}
}

__attribute__((constructor)) static void begin(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = 5 };

	open_and_close();
	connect_to_itself();
	exchange(5);
	set = fcntl(epoll_create1(EPOLL_CLOEXEC), F_DUPFD_CLOEXEC, 200);
	MUST(set >= 0);
	for (int fd = 3; fd < 20; fd++)		/* the number that the set had */
		if (fcntl(fd, F_GETFD) >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, pair[1], &ev) == 0) {
			MUST(close(fd) == 0);
			break;
		}
	exchange(50);
	(void)!write(1, "it began before the program\n", 28);
}

__attribute__((destructor)) static void end(void)
{
	if (pair[0] < 0 || fcntl(pair[0], F_GETFD) < 0)
		return;
	exchange(50);
	MUST(shutdown(pair[0], SHUT_WR) == 0);
	MUST(recv(pair[1], &(char){ 0 }, 1, 0) == 0);
	MUST(close(pair[0]) == 0 && close(pair[1]) == 0 && close(set) == 0);
	(void)!write(1, "it ended after the program\n", 27);
}

/* For a program that has opened us: len bytes to and fro over its connection. */
int early_talk(int fd, size_t len);
int early_talk(int fd, size_t len)
{
	char *buf = malloc(len);
	size_t done = 0;

	exchange(20);
	memset(buf, 'e', len);
	if (send(fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		return -1;
	memset(buf, 0, len);
	while (done < len) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, -1) != 1)
			return -2;
		n = recv(fd, buf + done, len - done, 0);
		if (n <= 0)
			return -3;
		done += (size_t)n;
	}
	for (size_t i = 0; i < len; i++)
		if (buf[i] != 'e')
			return -4;
	free(buf);
	return 0;
}
