/* SPDX-License-Identifier: MIT */
/*
 * uring_echo.c - sends back what comes, at first by ordinary calls, then by an io_uring of liburing's.
 *
 *   uring_echo ADDRESS PORT FILE
 *
 * The first connection is served by recv() and send() until FILE is there; then the io_uring is made, and serves that one and two more, of
 * which the kernel accepts the last. Ends when all three have.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS 3

struct echo {
	int fd;
	bool sends;
	size_t has, sent;
	char buf[4096];
};

static struct io_uring ring;
static struct echo echoes[CONNECTIONS];
static int listener;

static void die(const char *what, int err)
{
	fprintf(stderr, "uring_echo: %s: %s\n", what, strerror(err));
	exit(1);
}

static struct io_uring_sqe *ask(struct echo *e)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe)
		die("no entry", EBUSY);
	io_uring_sqe_set_data(sqe, e);
	return sqe;
}

/* The next of what is to be done for it: the rest of an answer, or the next message. */
static void go_on(struct echo *e)
{
	struct io_uring_sqe *sqe = ask(e);

	e->sends = e->sent < e->has;
	if (e->sends)
		io_uring_prep_send(sqe, e->fd, e->buf + e->sent, e->has - e->sent, MSG_NOSIGNAL);
	else
		io_uring_prep_recv(sqe, e->fd, e->buf, sizeof(e->buf), 0);
	io_uring_sqe_set_data(sqe, e);
}

static void next_one(int n)
{
	struct io_uring_sqe *sqe = ask(NULL);

	if (n == CONNECTIONS - 1)
		io_uring_prep_accept(sqe, listener, NULL, NULL, 0);
	else
		io_uring_prep_poll_add(sqe, listener, POLLIN);
	io_uring_sqe_set_data(sqe, NULL);
}

/* False: it has ended. */
static bool done(struct echo *e, int rc)
{
	if (rc < 0)
		die(e->sends ? "send" : "recv", -rc);
	if (!e->sends && !rc) {
		close(e->fd);
		return false;
	}
	if (e->sends) {
		e->sent += (size_t)rc;
	} else {
		e->has = (size_t)rc;
		e->sent = 0;
	}
	go_on(e);
	return true;
}

static void serve(void)
{
	int n = 1, open = 1, rc = io_uring_queue_init(16, &ring, 0);
	struct io_uring_cqe *cqe;
	struct echo *e;

	if (rc < 0)
		die("io_uring_queue_init", -rc);
	go_on(&echoes[0]);
	next_one(n);
	while (open || n < CONNECTIONS) {
		rc = io_uring_submit_and_wait(&ring, 1);
		if (rc < 0 && rc != -EINTR)
			die("io_uring_submit_and_wait", -rc);
		while (io_uring_peek_cqe(&ring, &cqe) == 0) {
			e = io_uring_cqe_get_data(cqe);
			rc = cqe->res;
			io_uring_cqe_seen(&ring, cqe);
			if (e) {
				open -= !done(e, rc);
				continue;
			}
			if (rc < 0)
				die("the listener", -rc);
			echoes[n].fd = n == CONNECTIONS - 1 ? rc : accept(listener, NULL, NULL);
			if (echoes[n].fd < 0)
				die("accept", errno);
			go_on(&echoes[n]);
			open++;
			if (++n < CONNECTIONS)
				next_one(n);
		}
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	struct echo *e = &echoes[0];
	ssize_t n;
	int one = 1;

	if (argc < 4 || inet_pton(AF_INET, argv[1], &at.sin_addr) != 1) {
		fprintf(stderr, "usage: uring_echo ADDRESS PORT FILE\n");
		return 2;
	}
	at.sin_port = htons((unsigned short)atoi(argv[2]));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 8) < 0)
		die("listen", errno);
	e->fd = accept(listener, NULL, NULL);
	while (access(argv[3], F_OK) < 0) {
		n = recv(e->fd, e->buf, sizeof(e->buf), 0);
		if (n <= 0 || send(e->fd, e->buf, (size_t)n, MSG_NOSIGNAL) != n)
			die("by ordinary calls", n < 0 ? errno : EPIPE);
	}
	serve();
	return 0;
}
