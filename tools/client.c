/* SPDX-License-Identifier: MIT */
#include "client.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char start_it[] =
	"start xshimd (systemctl start xshimd) or name its socket with --socket or XSHIM_SOCKET";
static const char same_release[] = "install xshim and xshimd of the same release, restart xshimd";
static const char not_xshimd[] = "check which program listens there";

__attribute__((format(printf, 5, 6)))
static int fail(struct xshim_client *c, enum xshim_client_fault fault, int rc, const char *advice,
		const char *fmt, ...)
{
	int n = snprintf(c->cause, sizeof(c->cause), "%s: ", c->path);
	va_list ap;

	va_start(ap, fmt);
	if (n >= 0 && (size_t)n < sizeof(c->cause))
		vsnprintf(c->cause + n, sizeof(c->cause) - (size_t)n, fmt, ap);
	va_end(ap);
	c->fault = fault;
	c->advice = advice;
	return rc;
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* The state letter of /proc/PID/stat; 0 when it cannot be had. The name before it may hold anything, ')' too. */
static char process_state(pid_t pid)
{
	char path[32], text[256], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' ? end[2] : 0;
}

static int fail_silent(struct xshim_client *c)
{
	char state = c->has_server && c->server.pid > 0 ? process_state(c->server.pid) : 0;

	if (state == 'T' || state == 't')
		return fail(c, XSHIM_CLIENT_SILENT, -ETIMEDOUT, "continue it with kill -CONT, or restart it",
			    "xshimd (pid %d) is stopped", (int)c->server.pid);
	if (state)
		return fail(c, XSHIM_CLIENT_SILENT, -ETIMEDOUT, "look at its log, restart it",
			    "pid %d listens but does not answer within %d ms", (int)c->server.pid,
			    XSHIM_CLIENT_DEADLINE_MS);
	return fail(c, XSHIM_CLIENT_SILENT, -ETIMEDOUT, "see whether xshimd is stopped or overloaded",
		    "somebody listens but does not answer within %d ms", XSHIM_CLIENT_DEADLINE_MS);
}

static int fail_connect(struct xshim_client *c, int err)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		return fail(c, XSHIM_CLIENT_ABSENT, -err, start_it, "there is no socket: xshimd is not running here");
	case ECONNREFUSED:
		return fail(c, XSHIM_CLIENT_ABSENT, -err, start_it, "nobody listens on it: xshimd has gone, or it is not a socket");
	case EACCES:
	case EPERM:
		return fail(c, XSHIM_CLIENT_DENIED, -err, "check the modes of the socket and of its directories",
			    "cannot connect: %s", strerror(err));
	case EPROTOTYPE:
		return fail(c, XSHIM_CLIENT_BROKEN, -err, not_xshimd, "the socket there is of another type than xshimd's");
	case EAGAIN:
		return fail_silent(c);
	default:
		return fail(c, XSHIM_CLIENT_ABSENT, -err, start_it, "cannot connect: %s", strerror(err));
	}
}

static int do_connect(struct xshim_client *c)
{
	const struct timeval tv = { .tv_sec = XSHIM_CLIENT_DEADLINE_MS / 1000 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(c->server);

	if (!*c->path || strlen(c->path) >= sizeof(un.sun_path))
		return fail(c, XSHIM_CLIENT_ABSENT, -ENAMETOOLONG, "name another with --socket or XSHIM_SOCKET",
			    "a socket's path has 1 to %zu bytes", sizeof(un.sun_path) - 1);
	memcpy(un.sun_path, c->path, strlen(c->path));
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return fail(c, XSHIM_CLIENT_BROKEN, -errno, "raise the limit that is in the way",
			    "cannot make a socket: %s", strerror(errno));
	/* connect(2) waits while the queue of a stopped daemon is full; it heeds the send timeout. */
	if (setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ||
	    connect(c->fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
		return fail_connect(c, errno);
	c->has_server = getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &c->server, &len) == 0;
	return 0;
}

static void close_all(const int *fds, unsigned int n)
{
	while (n--)
		close(fds[n]);
}

static int fail_version(struct xshim_client *c, const char *what, unsigned int lo, unsigned int hi)
{
	return fail(c, XSHIM_CLIENT_OTHER_VERSION, -EPROTONOSUPPORT, same_release,
		    "%s protocol %u to %u, this command version %u", what, lo, hi, XSHIM_PROTO_VERSION);
}

static int fail_refused(struct xshim_client *c, const struct xshim_msg_refused *r)
{
	if (r->reason == XSHIM_R_VERSION)
		return fail_version(c, "xshimd speaks", r->version_min, r->version_max);
	return fail(c, XSHIM_CLIENT_REFUSED, -ECONNREFUSED, "look at the log of xshimd",
		    "xshimd refused us: %s (%s)", xshim_reason_name(r->reason), xshim_reason_text(r->reason));
}

static int fail_declined(struct xshim_client *c, const struct xshim_msg_refused *r)
{
	switch (r->reason) {
	case XSHIM_R_POLICY:
		return fail(c, XSHIM_CLIENT_REFUSED, -EPERM, "do it as root", "xshimd takes this from root alone");
	case XSHIM_R_NOT_CORESIDENT:
		return fail(c, XSHIM_CLIENT_REFUSED, -ENOTSUP, "start it with --role=guest, or in dom0 with --role=host",
			    "xshimd runs in role local: there are no rings to other guests");
	case XSHIM_R_BUSY:
		return fail(c, XSHIM_CLIENT_REFUSED, -EBUSY, "wait for the others", "other drains are under way");
	default:
		return fail(c, XSHIM_CLIENT_REFUSED, -ECANCELED, "look at the log of xshimd", "xshimd gave it up: %s",
			    xshim_reason_name(r->reason));
	}
}

/* Take one message that must be of this type and carry one descriptor; fd NULL: none. */
static int expect(struct xshim_client *c, enum xshim_msg_type type, long long deadline, union xshim_msg *m, int *fd)
{
	int fds[XSHIM_PROTO_MAX_FDS], rc;
	unsigned int nfds = 0;
	unsigned long long value = 0;
	const char *why = "";
	bool was_reset = false;
	ssize_t n;

	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		long long left = deadline - now_ms();

		n = xshim_msg_recv(c->fd, m, fds, &nfds);
		/* The kernel reports the reset once, before the message that the other end left. */
		if (n == -ECONNRESET && !was_reset) {
			was_reset = true;
			continue;
		}
		if (n != -EAGAIN && n != -EINTR)
			break;
		if (left <= 0)
			return fail_silent(c);
		poll(&p, 1, (int)left);
	}
	if (n <= 0)
		close_all(fds, nfds);
	if (n == 0 || n == -ECONNRESET)
		return fail(c, XSHIM_CLIENT_BROKEN, -ECONNRESET, "look at the log of xshimd",
			    "the connection was closed before %s came", xshim_msg_name(type));
	if (n < 0)
		return fail(c, XSHIM_CLIENT_BROKEN, (int)n, not_xshimd, "cannot read %s: %s",
			    xshim_msg_name(type), strerror((int)-n));
	rc = xshim_msg_check(m, (size_t)n, nfds, &why, &value);
	if (rc < 0) {
		close_all(fds, nfds);
		if (rc == -EPROTONOSUPPORT)
			return fail_version(c, "xshimd speaks", (unsigned int)value, (unsigned int)value);
		return fail(c, XSHIM_CLIENT_BROKEN, rc, not_xshimd, "bad message while %s is due: %s (%llu)",
			    xshim_msg_name(type), why, value);
	}
	if (m->h.type == type && nfds == (fd ? 1 : 0)) {
		if (fd)
			*fd = fds[0];
		return 0;
	}
	close_all(fds, nfds);
	if (m->h.type == XSHIM_MSG_REFUSED)
		return fail_refused(c, &m->refused);
	if (m->h.type == XSHIM_MSG_DECLINED)
		return fail_declined(c, &m->refused);
	return fail(c, XSHIM_CLIENT_BROKEN, -EPROTO, not_xshimd, "%s with %u descriptors came, %s with %d is due",
		    xshim_msg_name(m->h.type), nfds, xshim_msg_name(type), fd ? 1 : 0);
}

static int ask(struct xshim_client *c, const union xshim_msg *m)
{
	int rc = xshim_msg_send(c->fd, m, NULL, 0);

	/* A daemon at its limit may have answered REFUSED and hung up already: the answer says more. */
	if (rc == 0 || rc == -EPIPE || rc == -ECONNRESET)
		return 0;
	return fail(c, XSHIM_CLIENT_BROKEN, rc, "look at the log of xshimd", "cannot send %s: %s",
		    xshim_msg_name(m->h.type), strerror(-rc));
}

int xshim_client_open(struct xshim_client *c, const char *path)
{
	long long deadline = now_ms() + XSHIM_CLIENT_DEADLINE_MS;
	union xshim_msg m;
	int rc;

	*c = (struct xshim_client){ .path = path, .fd = -1, .map_fd = -1, .advice = "" };
	rc = do_connect(c);
	if (rc < 0)
		return rc;
	xshim_msg_init(&m, XSHIM_MSG_HELLO, 0);
	m.hello.pid = (uint32_t)getpid();
	m.hello.kind = XSHIM_CLIENT_TOOL;
	snprintf(m.hello.comm, sizeof(m.hello.comm), "xshim");
	snprintf(m.hello.build, sizeof(m.hello.build), "%s", XSHIM_TOOL_VERSION);
	rc = ask(c, &m);
	if (rc == 0)
		rc = expect(c, XSHIM_MSG_WELCOME, deadline, &m, &c->map_fd);
	if (rc == 0)
		c->welcome = m.welcome;
	return rc;
}

/* A copy of the report's memory, so that nobody can change it while it is parsed. */
static int copy_report(struct xshim_client *c, int fd, char **text, size_t *len)
{
	const int need = F_SEAL_SHRINK | F_SEAL_GROW;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	size_t done = 0;
	ssize_t n;

	if (seals < 0 || (seals & need) != need || !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return fail(c, XSHIM_CLIENT_BROKEN, -EPROTO, not_xshimd, "the report is not sealed memory (seals %#x)",
			    seals < 0 ? 0u : (unsigned int)seals);
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)XSHIM_CLIENT_REPORT_MAX)
		return fail(c, XSHIM_CLIENT_BROKEN, -EPROTO, not_xshimd, "the report has %lld bytes, 1 to %u are allowed",
			    (long long)st.st_size, XSHIM_CLIENT_REPORT_MAX);
	*len = (size_t)st.st_size;
	*text = malloc(*len);
	if (!*text)
		return fail(c, XSHIM_CLIENT_BROKEN, -ENOMEM, "free some memory", "no memory for a report of %zu bytes", *len);
	while (done < *len) {
		n = pread(fd, *text + done, *len - done, (off_t)done);
		if (n > 0) {
			done += (size_t)n;
		} else if (n == 0 || errno != EINTR) {
			free(*text);
			return fail(c, XSHIM_CLIENT_BROKEN, -EIO, not_xshimd, "cannot read the report: %s",
				    n == 0 ? "it ends early" : strerror(errno));
		}
	}
	return 0;
}

static int parse_report(struct xshim_client *c, int fd, json_t **out)
{
	json_error_t err;
	json_t *root, *version;
	char *text = NULL;
	size_t len = 0;
	int rc;

	rc = copy_report(c, fd, &text, &len);
	if (rc < 0)
		return rc;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
	free(text);
	if (!json_is_object(root)) {
		json_decref(root);
		return fail(c, XSHIM_CLIENT_BROKEN, -EPROTO, not_xshimd, "the report is not a JSON object: %s",
			    root ? "another type" : err.text);
	}
	version = json_object_get(root, "version");
	if (!json_is_integer(version) || json_integer_value(version) != XSHIM_CLIENT_REPORT_VERSION) {
		fail(c, XSHIM_CLIENT_OTHER_VERSION, 0, same_release, "the report has version %lld, this command knows %d",
		     (long long)json_integer_value(version), XSHIM_CLIENT_REPORT_VERSION);
		json_decref(root);
		return -EPROTONOSUPPORT;
	}
	*out = root;
	return 0;
}

int xshim_client_report(struct xshim_client *c, uint32_t what, json_t **out)
{
	long long deadline = now_ms() + XSHIM_CLIENT_DEADLINE_MS;
	union xshim_msg m;
	int fd = -1, rc;

	xshim_msg_init(&m, XSHIM_MSG_REPORT_ASK, 0);
	m.report_ask.what = what;
	rc = ask(c, &m);
	if (rc == 0)
		rc = expect(c, XSHIM_MSG_REPORT, deadline, &m, &fd);
	if (rc < 0)
		return rc;
	rc = parse_report(c, fd, out);
	close(fd);
	return rc;
}

int xshim_client_drain(struct xshim_client *c, uint32_t domid, bool end, int timeout_ms, uint32_t *left)
{
	long long deadline = now_ms() + timeout_ms;
	union xshim_msg m;
	int rc;

	xshim_msg_init(&m, XSHIM_MSG_DRAIN_ASK, 1);
	m.drain.domid = domid;
	m.drain.left = end;
	rc = ask(c, &m);
	if (rc == 0)
		rc = expect(c, XSHIM_MSG_DRAINED, deadline, &m, NULL);
	if (rc == 0)
		*left = m.drain.left;
	return rc;
}

void xshim_client_close(struct xshim_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->map_fd >= 0)
		close(c->map_fd);
	c->fd = c->map_fd = -1;
}

void xshim_client_complain(const struct xshim_client *c)
{
	fputs("xshim: ", stderr);
	xshim_tool_print_clean(stderr, c->cause);
	fprintf(stderr, "; %s\n", c->advice);
}

int xshim_client_fetch(const char *path, uint32_t what, json_t **out)
{
	struct xshim_client c;
	int rc;

	rc = xshim_client_open(&c, path);
	if (rc == 0)
		rc = xshim_client_report(&c, what, out);
	if (rc < 0)
		xshim_client_complain(&c);
	xshim_client_close(&c);
	return rc;
}
