/* SPDX-License-Identifier: MIT */
/*
 * quits.c - a program that ends by _exit() in a handler of a signal, which comes at any time in its sends and receives.
 *
 *   quits ADDRESS PORT TIMES SEED
 *
 * Connects to who sends back what comes, TIMES times, each in a process of its own, which makes round trips until its alarm. In each
 * second one the handler sends on the connection before. Prints how many have ended; one that has not after ten seconds is killed, and
 * the status is 1.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS 7
#define LIMIT_MS 10000
#define LONGEST_US 30000

static int last_words_to = -1;

static void quit(int sig)
{
	(void)sig;
	if (last_words_to >= 0)
		(void)!write(last_words_to, "last", 4);
	_exit(STATUS);
}

static void talk(const struct sockaddr_in *to, long us, int speaks)
{
	struct itimerval at = { .it_value.tv_usec = us };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char byte = 'x';

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		_exit(2);
	if (speaks)
		last_words_to = fd;
	signal(SIGALRM, quit);
	setitimer(ITIMER_REAL, &at, NULL);
	while (send(fd, &byte, 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1)
		;
	_exit(3);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int ended = 0, times = argc > 3 ? atoi(argv[3]) : 0;

	if (argc < 5 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
		fprintf(stderr, "usage: quits ADDRESS PORT TIMES SEED\n");
		return 2;
	}
	to.sin_port = htons((unsigned short)atoi(argv[2]));
	srand((unsigned int)atoi(argv[4]));
	for (int i = 0; i < times; i++) {
		long us = 500 + rand() % LONGEST_US;
		pid_t pid = fork();
		int status, waited = 0;

		if (!pid)
			talk(&to, us, i % 2);
		while (!waitpid(pid, &status, WNOHANG) && waited < LIMIT_MS) {
			poll(NULL, 0, 1);
			waited++;
		}
		if (waited == LIMIT_MS) {
			printf("%d of %d have ended, and this one has not, seed %s\n", ended, times, argv[4]);
			kill(pid, SIGKILL);
			return 1;
		}
		if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS) {
			printf("after %d: status 0x%x, seed %s\n", ended, (unsigned int)status, argv[4]);
			return 1;
		}
		ended++;
	}
	printf("%d of %d have ended\n", ended, times);
	return 0;
}
