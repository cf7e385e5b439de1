/* SPDX-License-Identifier: MIT */
#include "bounded.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#define ALARM_US 10000

static void on_alarm(int sig)
{
	(void)sig;	/* its only effect is EINTR */
}

int xshimd_bounded_init(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_alarm;	/* no SA_RESTART */
	return sigaction(SIGALRM, &sa, NULL) < 0 ? -errno : 0;
}

/* Repeats: an alarm that came just before the call was entered would otherwise be the only one. */
static void set_alarm(int us)
{
	struct itimerval it = { { 0, us }, { 0, us } };

	setitimer(ITIMER_REAL, &it, NULL);
}

static void make_patient(int fd, int option)
{
	struct timeval tv = { 0, 1000 };
	int on = 1;

	ioctl(fd, FIONBIO, &on);
	setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

int xshimd_bounded_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	int rc;

	make_patient(fd, SO_SNDTIMEO);
	set_alarm(ALARM_US);
	rc = connect(fd, sa, len) < 0 ? -errno : 0;
	set_alarm(0);
	return rc == -EINTR || rc == -EALREADY || rc == -EAGAIN ? -EINPROGRESS : rc;
}

int xshimd_bounded_accept(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int rc;

	if (poll(&p, 1, 0) != 1)
		return -EAGAIN;
	make_patient(fd, SO_RCVTIMEO);
	set_alarm(ALARM_US);
	rc = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (rc < 0)
		rc = -errno;
	set_alarm(0);
	return rc == -EINTR ? -EAGAIN : rc;
}

void xshimd_bounded_close(int fd)
{
	set_alarm(ALARM_US);
	close(fd);
	set_alarm(0);
}
