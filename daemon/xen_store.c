/* SPDX-License-Identifier: MIT */
#include "xen_store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenstore.h>
#include <xenstore_lib.h>

struct xshimd_store {
	struct xs_handle *xs;
	xs_transaction_t t;
};

/*
 * Where xenstored has its socket it is reached by that alone. libxenstore would go on to the kernel's device when nobody answers
 * there, but at its other end is the same xenstored; and the kernel lets go of no process that has a watch there, not even of
 * one that is killed, until it has answered. XS_OPEN_SOCKETONLY says that, but 4.17 does not look at it, so it is tried here first.
 * 0: somebody answers, or there is no socket, as in a guest.
 */
static int try_socket(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const char *path = xs_daemon_socket();
	int fd, rc = 0;

	if (access(path, F_OK) < 0)
		return 0;
	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int xshimd_store_open(struct xshimd_store **out)
{
	struct xshimd_store *s;
	int rc;

	rc = try_socket();
	if (rc < 0)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->xs = xs_open(0);
	if (!s->xs) {
		rc = errno ? -errno : -ENOENT;
		free(s);
		return rc;
	}
	s->t = XBT_NULL;
	*out = s;
	return 0;
}

void xshimd_store_close(struct xshimd_store **s)
{
	if (!*s)
		return;
	xs_close((*s)->xs);
	free(*s);
	*s = NULL;
}

/* What libxenstore's errors mean to us: all that is not about the node is the end of the connection. */
static int failed(void)
{
	switch (errno) {
	case ENOENT:
	case EACCES:
	case EAGAIN:
	case E2BIG:
	case ENOSPC:
	case EEXIST:
	case EINVAL:
	case EPERM:
	case ENOMEM:
		return -errno;
	default:
		return -EPIPE;
	}
}

__attribute__((format(printf, 2, 0))) static int make_path(char path[XSHIMD_STORE_PATH], const char *fmt,
							   va_list ap)
{
	int n = vsnprintf(path, XSHIMD_STORE_PATH, fmt, ap);

	return n > 0 && n < XSHIMD_STORE_PATH ? 0 : -ENAMETOOLONG;
}

#define MAKE_PATH(path, fmt)						\
	do {								\
		va_list ap;						\
		va_start(ap, fmt);					\
		rc = make_path(path, fmt, ap);				\
		va_end(ap);						\
	} while (0)

int xshimd_store_read(struct xshimd_store *s, struct xshimd_store_value *v, const char *fmt, ...)
{
	char path[XSHIMD_STORE_PATH];
	unsigned int len = 0;
	char *text;
	int rc;

	v->len = 0;
	v->text[0] = '\0';
	MAKE_PATH(path, fmt);
	if (rc < 0)
		return rc;
	errno = 0;
	text = xs_read(s->xs, s->t, path, &len);
	if (!text)
		return failed();
	if (len > XSHIMD_XEN_VALUE_MAX) {
		rc = -E2BIG;
	} else {
		memcpy(v->text, text, len);
		v->text[len] = '\0';
		v->len = len;
	}
	free(text);
	return rc;
}

int xshimd_store_write(struct xshimd_store *s, uint32_t owner, uint32_t reader, const char *text, const char *fmt, ...)
{
	char path[XSHIMD_STORE_PATH];
	struct xs_permissions perms[2] = { { .id = owner, .perms = XS_PERM_NONE }, { .id = reader, .perms = XS_PERM_READ } };
	size_t len = strlen(text);
	int rc;

	MAKE_PATH(path, fmt);
	if (rc < 0)
		return rc;
	if (len > XSHIMD_XEN_VALUE_MAX)
		return -E2BIG;
	errno = 0;
	if (!xs_write(s->xs, s->t, path, text, (unsigned int)len))
		return failed();
	if (reader == XSHIMD_STORE_OWN)
		return 0;
	if (reader == XSHIMD_STORE_ALL)
		perms[0].perms = XS_PERM_READ;
	if (!xs_set_permissions(s->xs, s->t, path, perms, reader == XSHIMD_STORE_ALL ? 1 : 2))
		return failed();
	return 0;
}

int xshimd_store_remove(struct xshimd_store *s, const char *fmt, ...)
{
	char path[XSHIMD_STORE_PATH];
	int rc;

	MAKE_PATH(path, fmt);
	if (rc < 0)
		return rc;
	errno = 0;
	if (xs_rm(s->xs, s->t, path))
		return 0;
	rc = failed();
	return rc == -ENOENT ? 0 : rc;
}

int xshimd_store_numbers(struct xshimd_store *s, uint32_t *out, uint32_t room, const char *fmt, ...)
{
	char path[XSHIMD_STORE_PATH];
	unsigned int count = 0;
	const char *why;
	uint32_t n = 0;
	uint64_t v;
	char **list;
	int rc;

	MAKE_PATH(path, fmt);
	if (rc < 0)
		return rc;
	errno = 0;
	list = xs_directory(s->xs, s->t, path, &count);
	if (!list)
		return failed();
	for (unsigned int i = 0; i < count && i < XSHIMD_STORE_LIST && n < room; i++)
		if (xshimd_xen_number(list[i], strlen(list[i]), XSHIMD_XEN_DOMID_MAX, &v, &why) == 0)
			out[n++] = (uint32_t)v;
	free(list);
	return (int)n;
}

int xshimd_store_watch(struct xshimd_store *s, const char *fmt, ...)
{
	char path[XSHIMD_STORE_PATH];
	int rc;

	MAKE_PATH(path, fmt);
	if (rc < 0)
		return rc;
	errno = 0;
	if (xs_watch(s->xs, path, path) || errno == EEXIST)
		return 0;
	return failed();
}

void xshimd_store_unwatch(struct xshimd_store *s, const char *fmt, ...)
{
	char path[XSHIMD_STORE_PATH];
	int rc;

	MAKE_PATH(path, fmt);
	if (rc == 0)
		xs_unwatch(s->xs, path, path);
}

bool xshimd_store_is_domain(struct xshimd_store *s, uint32_t domid)
{
	return xs_is_domain_introduced(s->xs, domid);
}

int xshimd_store_begin(struct xshimd_store *s)
{
	errno = 0;
	s->t = xs_transaction_start(s->xs);
	return s->t == XBT_NULL ? failed() : 0;
}

int xshimd_store_commit(struct xshimd_store *s)
{
	xs_transaction_t t = s->t;

	s->t = XBT_NULL;
	errno = 0;
	return xs_transaction_end(s->xs, t, false) ? 0 : failed();
}

void xshimd_store_abandon(struct xshimd_store *s)
{
	if (s->t != XBT_NULL)
		xs_transaction_end(s->xs, s->t, true);
	s->t = XBT_NULL;
}

int xshimd_store_fd(struct xshimd_store *s)
{
	return xs_fileno(s->xs);
}

bool xshimd_store_fired(struct xshimd_store *s, char path[XSHIMD_STORE_PATH])
{
	char **w = xs_check_watch(s->xs);

	if (!w)
		return false;
	snprintf(path, XSHIMD_STORE_PATH, "%s", w[XS_WATCH_PATH]);
	free(w);
	return true;
}
