/* SPDX-License-Identifier: MIT */
/*
 * log.c - format one line into a buffer on the stack and write it with one write(2).
 *
 * A program must not be hurt by our writing: SIGPIPE from a pipe that nobody reads any more, and SIGXFSZ from a file that may not grow, are held
 * back, errno is kept, and nothing is written when the descriptor has become another file.
 */
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <xshim/log.h>
#include "sys.h"

#define LINE_BYTES 512	/* below PIPE_BUF: lines of several processes do not mix */

static const char *const level_name[] = {
	[XSHIM_LOG_ERROR] = "error",
	[XSHIM_LOG_WARN] = "warn",
	[XSHIM_LOG_INFO] = "info",
	[XSHIM_LOG_DEBUG] = "debug",
};

struct line {
	char text[LINE_BYTES];
	size_t len;
};

int xshim_log_level_from_name(const char *name, unsigned long len)
{
	for (int i = XSHIM_LOG_ERROR; i <= XSHIM_LOG_DEBUG; i++)
		if (strlen(level_name[i]) == len && memcmp(level_name[i], name, len) == 0)
			return i;
	return 0;
}

/* Strings may come from others, such as a command name: what would end or bend the line is replaced. */
static void put_char(struct line *l, char c)
{
	if (l->len < sizeof(l->text) - 1)	/* the last one is for the newline */
		l->text[l->len++] = (unsigned char)c < ' ' || c == 0x7f ? '?' : c;
}

static void put_string(struct line *l, const char *s)
{
	if (!s)
		s = "(null)";
	while (*s)
		put_char(l, *s++);
}

static void put_number(struct line *l, unsigned long long v, unsigned int base)
{
	char digits[24];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		put_char(l, digits[--n]);
}

static void put_signed(struct line *l, int v)
{
	if (v < 0)
		put_char(l, '-');
	put_number(l, v < 0 ? 0ull - (unsigned long long)v : (unsigned long long)v, 10);
}

static bool begins_with(const char *f, const char *what)
{
	return strncmp(f, what, strlen(what)) == 0;
}

__attribute__((format(printf, 2, 0)))
static void put_format(struct line *l, const char *f, va_list ap)
{
	for (; *f; f++) {
		if (*f != '%') {
			put_char(l, *f);
			continue;
		}
		f++;
		if (*f == 's') {
			put_string(l, va_arg(ap, const char *));
		} else if (*f == 'd') {
			put_signed(l, va_arg(ap, int));
		} else if (*f == 'u') {
			put_number(l, va_arg(ap, unsigned int), 10);
		} else if (*f == 'x') {
			put_number(l, va_arg(ap, unsigned int), 16);
		} else if (*f == 'c') {
			put_char(l, (char)va_arg(ap, int));
		} else if (*f == '%') {
			put_char(l, '%');
		} else if (begins_with(f, "llu")) {
			put_number(l, va_arg(ap, unsigned long long), 10);
			f += 2;
		} else if (begins_with(f, "zu")) {
			put_number(l, va_arg(ap, size_t), 10);
			f += 1;
		} else {
			/* Not one of ours, so its argument's size is unknown: show the rest as it stands. */
			put_char(l, '%');
			put_string(l, f);
			return;
		}
	}
}

/* The descriptor still is the file that was opened, not one that took its number. */
static bool is_ours(const struct xshim_log *log)
{
	struct stat st;

	if (!log->dev && !log->ino)
		return true;
	return fstat(log->fd, &st) == 0 && st.st_dev == log->dev && st.st_ino == log->ino;
}

/* One write; a SIGPIPE, or where files may not grow (ulimit -f) a SIGXFSZ, that it raises in this thread is taken back before anybody sees it. */
static void write_quietly(int fd, const char *text, size_t len)
{
	const uint64_t sigpipe = 1ull << (SIGPIPE - 1), sigxfsz = 1ull << (SIGXFSZ - 1), both = sigpipe | sigxfsz;
	const struct timespec now = { 0, 0 };
	uint64_t old = 0, pending = 0, raised;
	ssize_t n;

	sys_call(SYS_rt_sigpending, &pending, sizeof(pending), 0, 0, 0, 0);
	sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &both, &old, sizeof(old), 0, 0);
	do
		n = sys_write(fd, text, len);
	while (n == -EINTR);
	raised = n == -EPIPE ? sigpipe : n == -EFBIG ? sigxfsz : 0;
	if (raised & ~pending)
		sys_call(SYS_rt_sigtimedwait, &raised, 0, &now, sizeof(raised), 0, 0);
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &old, 0, sizeof(old), 0, 0);
}

void xshim_log(const struct xshim_log *log, enum xshim_log_level level, const char *fmt, ...)
{
	struct line l = { .len = 0 };
	int saved = errno;
	va_list ap;

	if (log->fd < 0 || level < XSHIM_LOG_ERROR || level > log->level || level > XSHIM_LOG_DEBUG)
		return;
	put_string(&l, log->who);
	if (log->pid) {
		put_char(&l, '[');
		put_signed(&l, (int)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0));
		put_char(&l, ']');
	}
	put_string(&l, ": ");
	put_string(&l, level_name[level]);
	put_string(&l, ": ");
	va_start(ap, fmt);
	put_format(&l, fmt, ap);
	va_end(ap);
	l.text[l.len++] = '\n';
	if (is_ours(log))
		write_quietly(log->fd, l.text, l.len);
	errno = saved;
}
