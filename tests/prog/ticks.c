/* SPDX-License-Identifier: MIT */
/*
 * ticks.c - a program whose handler of a signal, which comes all the time, sends on the connection that the program waits for.
 *
 *   ticks ADDRESS PORT ROUNDS
 *
 * Connects to who sends back what comes, and makes round trips; it waits by epoll_wait(), in a set that it changes each time. What was sent,
 * by the handler, too, has to come back, no more and no less. Prints how often the handler has sent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define EACH_US 50

static volatile sig_atomic_t ticks;
static int fd;

static void tick(int sig)
{
	int saved = errno;

	(void)sig;
	if (send(fd, "t", 1, MSG_DONTWAIT) == 1)
		ticks = ticks + 1;
	errno = saved;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = tick, .sa_flags = SA_RESTART };
	struct itimerval each = { { 0, EACH_US }, { 0, EACH_US } }, never = { { 0, 0 }, { 0, 0 } };
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct epoll_event ev = { .events = EPOLLIN };
	long rounds = argc > 3 ? atol(argv[3]) : 0, sent = 0, got = 0;
	char buf[1000];
	ssize_t n;
	int set;

	if (argc < 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
		fprintf(stderr, "usage: ticks ADDRESS PORT ROUNDS\n");
		return 2;
	}
	to.sin_port = htons((unsigned short)atoi(argv[2]));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	set = epoll_create1(0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("connect");
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &each, NULL);
	while (sent < rounds || got < sent + ticks) {
		if (sent == rounds)
			setitimer(ITIMER_REAL, &never, NULL);
		if (sent < rounds) {
			n = send(fd, "r", 1, 0);
			if (n < 0 && errno != EAGAIN)
				die("send");
			sent += n > 0;
		}
		ev = (struct epoll_event){ .events = sent % 2 ? EPOLLIN : EPOLLIN | EPOLLRDHUP };
		if (epoll_ctl(set, EPOLL_CTL_MOD, fd, &ev) < 0)
			die("epoll_ctl");
		n = epoll_wait(set, &ev, 1, 10000);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1) {
			printf("nothing comes: %ld and %ld sent, %ld have come\n", sent, (long)ticks, got);
			return 1;
		}
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			die("recv");
		got += n > 0 ? n : 0;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	if (got != sent + ticks) {
		printf("%ld and %ld sent, %ld have come\n", sent, (long)ticks, got);
		return 1;
	}
	printf("%ld ticks in %ld rounds\n", (long)ticks, sent);
	return 0;
}
