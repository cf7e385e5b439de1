/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif
#include <xshim/proto.h>

#include "bounded.h"
#include "xshimd.h"

#define ACCEPTS 64	/* before the loop goes on with the others */

static int fail(struct xshimd *d, int rc, const char *what)
{
	xshim_log(&d->journal.log, XSHIM_LOG_ERROR, "socket=%s: %s: %s", d->opt.socket, what, strerror(-rc));
	return rc;
}

static int fill(struct sockaddr_un *un, const char *path)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(un->sun_path))
		return -ENAMETOOLONG;
	strcpy(un->sun_path, path);
	return 0;
}

static int already(struct xshimd *d, pid_t pid)
{
	xshim_log(&d->journal.log, XSHIM_LOG_ERROR, "socket=%s: already running (pid %d)", d->opt.socket, pid);
	return -EADDRINUSE;
}

static int make_directory(struct xshimd *d)
{
	char path[sizeof(d->opt.socket)];
	const char *dir;
	struct stat st;

	strcpy(path, d->opt.socket);
	dir = dirname(path);
	if (mkdir(dir, 0755) == 0)
		return chmod(dir, 0755) < 0 ? fail(d, -errno, "directory") : 0;
	if (errno != EEXIST)
		return fail(d, -errno, "directory cannot be made");
	if (stat(dir, &st) < 0)
		return fail(d, -errno, "directory");
	if (!S_ISDIR(st.st_mode))
		return fail(d, -ENOTDIR, "directory");
	/* Who may write there can put a socket of his own in the place of ours. */
	if ((st.st_mode & (S_IWOTH | S_IWGRP)) && !(st.st_mode & S_ISVTX))
		xshim_log(&d->journal.log, XSHIM_LOG_WARN, "socket=%s: others may write to its directory (mode %c%c%c)",
			  d->opt.socket, '0' + (st.st_mode >> 6 & 7), '0' + (st.st_mode >> 3 & 7),
			  '0' + (st.st_mode & 7));
	return 0;
}

static int take_lock(struct xshimd *d)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[sizeof(d->opt.socket) + 8];

	snprintf(path, sizeof(path), "%s.lock", d->opt.socket);
	d->server.lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (d->server.lock < 0)
		return fail(d, -errno, "lock file");
	if (fcntl(d->server.lock, F_SETLK, &fl) == 0)
		return 0;
	if (fcntl(d->server.lock, F_GETLK, &fl) < 0 || fl.l_type == F_UNLCK)
		fl.l_pid = 0;
	return already(d, fl.l_pid);
}

/* Remove a socket that nobody answers at; anything else in its place is an error. */
static int remove_stale(struct xshimd *d, const struct sockaddr_un *un)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	struct stat st;
	int fd, rc;

	if (lstat(un->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : fail(d, -errno, "cannot be looked at");
	if (!S_ISSOCK(st.st_mode))
		return fail(d, -EEXIST, "something that is not a socket");
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(d, -errno, "socket");
	rc = connect(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 ? -errno : 0;
	/* EAGAIN: its queue is full, so there is one. */
	if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		cred.pid = 0;
	close(fd);
	if (rc == 0 || rc == -EAGAIN)
		return already(d, cred.pid);
	if (rc == -EPROTOTYPE)
		return fail(d, rc, "another program's socket");
	return unlink(un->sun_path) < 0 ? fail(d, -errno, "stale, and cannot be removed") : 0;
}

static int listen_at(struct xshimd *d)
{
	struct xshimd_server *s = &d->server;
	struct sockaddr_un un;
	struct stat st;
	int rc;

	rc = fill(&un, d->opt.socket);
	if (rc < 0)
		return fail(d, rc, "path");
	rc = make_directory(d);
	if (rc == 0)
		rc = take_lock(d);
	if (rc == 0)
		rc = remove_stale(d, &un);
	if (rc < 0)
		return rc;
	s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return fail(d, -errno, "socket");
	if (bind(s->fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return fail(d, -errno, "cannot be bound");
	strcpy(s->path, d->opt.socket);
	/* Nobody can connect before listen, so the mode is right from the first. Everybody may ask; SO_PEERCRED tells who. */
	if (chmod(s->path, 0666) < 0 || lstat(s->path, &st) < 0)
		return fail(d, -errno, "mode");
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return listen(s->fd, SOMAXCONN) < 0 ? fail(d, -errno, "cannot listen") : 0;
}

/* 1: taken over, 0: none was passed. */
static int take_passed(struct xshimd *d)
{
#ifdef HAVE_LIBSYSTEMD
	int n = sd_listen_fds(1);

	if (n <= 0)
		return n;
	if (n > 1 || sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_SEQPACKET, 1, NULL, 0) <= 0)
		return fail(d, -EINVAL, "the service manager's must be one listening SOCK_SEQPACKET socket");
	d->server.fd = SD_LISTEN_FDS_START;
	fcntl(d->server.fd, F_SETFL, fcntl(d->server.fd, F_GETFL) | O_NONBLOCK);
	return 1;
#else
	(void)d;
	return 0;
#endif
}

/* As many descriptors as the hard limit allows: they are what offers consist of. */
static uint32_t raise_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return 1024;
	if (rl.rlim_cur < rl.rlim_max) {
		struct rlimit up = { rl.rlim_max, rl.rlim_max };

		if (setrlimit(RLIMIT_NOFILE, &up) == 0)
			rl = up;
	}
	return rl.rlim_cur > INT32_MAX ? INT32_MAX : (uint32_t)rl.rlim_cur;
}

/* A word to one who is turned away at the door; nobody waits for him to read it. */
static void turn_away(struct xshimd *d, int fd, const struct ucred *cred, uint32_t reason, const char *cause,
		      uint32_t limit)
{
	union xshim_msg m;
	uint32_t left_out;

	xshim_msg_init(&m, XSHIM_MSG_REFUSED, 0);
	m.refused.reason = reason;
	m.refused.version_min = m.refused.version_max = XSHIM_PROTO_VERSION;
	xshim_msg_send(fd, &m, NULL, 0);
	if (xshimd_journal_due(&d->journal, cause, cred->uid, uv_now(&d->loop), &left_out))
		xshim_log(&d->journal.log, XSHIM_LOG_WARN, "uid %u pid %d: %s=%u: no more can be had; refused (%s)",
			  cred->uid, cred->pid, cause, limit, xshim_reason_name(reason));
}

static void greet(struct xshimd *d, int fd)
{
	socklen_t len = sizeof(struct ucred);
	struct ucred cred;
	uint32_t limit;
	int rc;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		xshimd_bounded_close(fd);
		return;
	}
	if (!xshimd_has_room(d)) {
		turn_away(d, fd, &cred, XSHIM_R_FD_LIMIT, "descriptors", d->server.fd_limit);
		xshimd_bounded_close(fd);
		return;
	}
	rc = xshimd_quota_take(&d->quota, &d->opt, cred.uid, XSHIMD_CONNECTIONS, &limit);
	if (rc < 0) {
		turn_away(d, fd, &cred, rc == -EDQUOT ? XSHIM_R_QUOTA : XSHIM_R_MEMORY,
			  xshimd_thing_name(XSHIMD_CONNECTIONS), limit);
		xshimd_bounded_close(fd);
		return;
	}
	rc = xshimd_conn_open(d, fd, &cred);
	if (rc < 0) {
		xshimd_quota_give(&d->quota, cred.uid, XSHIMD_CONNECTIONS);
		turn_away(d, fd, &cred, XSHIM_R_MEMORY, "memory", 0);
		xshimd_bounded_close(fd);
	}
}

static void on_client(void *owner, int events)
{
	struct xshimd *d = owner;
	struct xshimd_server *s = &d->server;
	uint32_t left_out;
	int fd;

	(void)events;
	for (int i = 0; i < ACCEPTS; i++) {
		fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			greet(d, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno != EMFILE && errno != ENFILE)
			break;
		/* Left in the queue it would wake us for ever: let it in with the spare one, and out again. */
		close(s->spare);
		fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			xshimd_bounded_close(fd);
		s->spare = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
		if (xshimd_journal_due(&d->journal, "emfile", 0, uv_now(&d->loop), &left_out))
			xshim_log(&d->journal.log, XSHIM_LOG_ERROR,
				  "descriptors=%u: all in use; clients are turned away", s->fd_limit);
		if (fd < 0)
			break;
	}
	xshimd_settle(d);
}

int xshimd_server_open(struct xshimd *d)
{
	struct xshimd_server *s = &d->server;
	int rc;

	s->fd = s->lock = s->spare = -1;
	s->fd_limit = raise_limit();
	rc = take_passed(d);
	if (rc == 0)
		rc = listen_at(d);
	if (rc < 0)
		return rc;
	s->spare = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
	rc = s->spare < 0 ? -errno : xshimd_watch_open(&s->watch, &d->loop, s->fd, UV_READABLE, on_client, d);
	return rc < 0 ? fail(d, rc, "cannot be watched") : 0;
}

void xshimd_server_close(struct xshimd *d)
{
	struct xshimd_server *s = &d->server;
	struct stat st;

	xshimd_watch_close(&s->watch);
	/* Only the one we made: another may have been put in its place. */
	if (s->path[0] && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	s->path[0] = '\0';
	if (s->fd >= 0)
		close(s->fd);
	if (s->spare >= 0)
		close(s->spare);
	if (s->lock >= 0)
		close(s->lock);
	s->fd = s->spare = s->lock = -1;
}
