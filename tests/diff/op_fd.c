/* SPDX-License-Identifier: MIT */
/*
 * op_fd.c - descriptor numbers: close and dup in all their forms. Numbers are shown relative to what is lowest
 * free, because the two runs have other files open below.
 *
 *   close NAME; close_range FIRST LAST [cloexec]; dup NAME NEW; dup2 NAME OTHER; dup3 NAME OTHER [CLOEXEC]
 *   dupfd NAME NEW MIN; dupfdx NAME NEW MIN     F_DUPFD and F_DUPFD_CLOEXEC
 *   lowest                     whether the next new descriptor gets the lowest free number
 *   event NAME COUNT           an eventfd
 *   timer NAME MS              a timerfd that runs out once, after so long
 *   signals NAME               a signalfd of SIGUSR1, which is blocked from then on
 *   mask block|open            SIGUSR1, for the thread
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "player.h"

static void op_close(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "s";
	int fd = fd_of(what), rc, err;

	before_call();
	rc = close(fd);
	err = errno;
	name_forget(what);
	errno = err;
	put_result(rc);
}

static void op_close_range(int argc, char **argv)
{
	int first = fd_of(argv[1]), last = fd_of(argv[2]), rc, err;
	bool mark = argc > 3;

	before_call();
	rc = close_range((unsigned int)first, (unsigned int)last, mark ? CLOSE_RANGE_CLOEXEC : 0);
	err = errno;
	for (int fd = first; !rc && !mark && fd <= last; fd++)
		name_drop_fd(fd);
	errno = err;
	put_result(rc);
}

/* The lowest number that is free from `min` on. */
static int lowest(int min)
{
	while (fcntl(min, F_GETFD) >= 0)
		min++;
	return min;
}

static void made(const struct name *from, const char *to, int rc, int wanted)
{
	int err = errno;

	if (rc >= 0) {
		put("%s", rc == wanted ? "as expected" : "ANOTHER NUMBER");
		name_drop_fd(rc);
		name_set(to, rc, from ? from->conn : -1);
	}
	errno = err;
	put_result(rc < 0 ? rc : 0);
}

static void op_dup(int argc, char **argv)
{
	struct name *n = name_find(argv[1]);
	int fd = fd_of(argv[1]), min = argc > 3 ? atoi(argv[3]) : 0, wanted = lowest(min), rc;

	before_call();
	if (!strcmp(argv[0], "dup"))
		rc = dup(fd);
	else
		rc = fcntl(fd, strcmp(argv[0], "dupfd") ? F_DUPFD_CLOEXEC : F_DUPFD, min);
	made(n, argv[2], rc, wanted);
}

static void op_dup_onto(int argc, char **argv)
{
	struct name *n = name_find(argv[1]), copy = { .conn = -1 };
	int fd = fd_of(argv[1]), to = fd_of(argv[2]), rc;

	if (n)
		copy = *n;	/* the table moves when the target's name goes */
	if (to < 0 && strcmp(argv[2], "bad"))
		to = 700;
	before_call();
	if (!strcmp(argv[0], "dup2"))
		rc = dup2(fd, to);
	else
		rc = dup3(fd, to, argc > 3 ? (strcmp(argv[3], "CLOEXEC") ? 1 : O_CLOEXEC) : 0);
	if (rc == fd) {
		put_result(rc < 0 ? rc : 0);
		return;
	}
	made(&copy, argv[2], rc, to);
}

static void op_lowest(int argc, char **argv)
{
	int wanted = lowest(0), fd = open("/dev/null", O_RDONLY);

	(void)argc;
	(void)argv;
	put(fd == wanted ? "yes" : "NO");
	close(fd);
}

static void op_event(int argc, char **argv)
{
	int fd = eventfd((unsigned int)(argc > 2 ? atoi(argv[2]) : 0), EFD_NONBLOCK);

	name_set(argv[1], fd, -1);
	put("made");
}

static void op_kind(int argc, char **argv)
{
	struct stat st;
	int fd = fd_of(argc > 1 ? argv[1] : "s"), rc;

	before_call();
	rc = fstat(fd, &st);
	put_result(rc);
	if (!rc)
		put(" %s", S_ISSOCK(st.st_mode) ? "socket" : "no socket");
}

static void op_timer(int argc, char **argv)
{
	long ms = argc > 2 ? atol(argv[2]) : 1;
	struct itimerspec its = { .it_value = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	if (fd < 0 || timerfd_settime(fd, 0, &its, NULL) < 0)
		die("timerfd: %s", errno_word(errno));
	name_set(argv[1], fd, -1);
	put("made");
}

static void op_mask(int argc, char **argv)
{
	bool own = !strcmp(argv[0], "signals");
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(!own && argc > 1 && !strcmp(argv[1], "open") ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
	if (own) {
		fd = signalfd(-1, &set, SFD_NONBLOCK);
		if (fd < 0)
			die("signalfd: %s", errno_word(errno));
		name_set(argv[1], fd, -1);
	}
	put("done");
}

const struct op fd_ops[] = {
	{ "close", op_close }, { "close_range", op_close_range }, { "dup", op_dup }, { "dupfd", op_dup },
	{ "dupfdx", op_dup }, { "dup2", op_dup_onto }, { "dup3", op_dup_onto }, { "lowest", op_lowest },
	{ "event", op_event }, { "timer", op_timer }, { "signals", op_mask }, { "mask", op_mask }, { "kind", op_kind }, { NULL, NULL },
};
