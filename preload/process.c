/* SPDX-License-Identifier: MIT */
/*
 * process.c - exec and its like, and the end of the process.
 *
 * What crosses exec on a ring returns to TCP first; what is unread there, and the peer is too busy to send by TCP in time, is given back
 * to it (link.h), because the new image may know nothing of a ring. What crosses it on TCP keeps its slot: the arena's descriptor is left open
 * and named in the environment (XSHIM_ARENA), and the new image's shim goes on from there.
 */
#include "channel.h"
#include "conn.h"
#include "identity.h"
#include "options.h"
#include "privfd.h"
#include "process.h"
#include "sigact.h"

#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEAVE_MS 2000

/* ---- exec ---- */

static bool crosses(int fd)
{
	int flags = libc.fcntl(fd, F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* The peer gives back what it has not read, and this may be our last call on the connection (link.h). */
static void send_what_is_given(struct xshim_conn *c, int fd)
{
	struct xshim_chan *ch = xshim_conn_chan(c);

	if (ch && atomic_load_explicit(&ch->remote.region->leave, memory_order_seq_cst) == XSHIM_REGION_GIVES)
		xshim_chan_left_alone(c, ch, fd);
}

static void for_each(void (*what)(struct xshim_conn *c, int fd))
{
	for (int chunk = 0; chunk < XSHIM_FDTAB_CHUNKS; chunk++) {
		if (!atomic_load_explicit(&xshim_fdtab[chunk], memory_order_acquire))
			continue;
		for (int i = 0; i < XSHIM_FDTAB_CHUNK; i++) {
			int fd = chunk * XSHIM_FDTAB_CHUNK + i;
			struct xshim_obj *o = xshim_fd_peek(fd) ? xshim_fd_try(fd) : NULL;

			if (!o)
				continue;
			if (o->kind == XSHIM_OBJ_CONN)
				what((struct xshim_conn *)o, fd);
			xshim_obj_put(o);
		}
	}
}

static bool destructors_run;	/* by the thread that ends the process */

/* As exit() ends the process. Destructors of others, and streams that are written out, come after this and may use a connection still. */
__attribute__((destructor)) static void at_exit(void)
{
	destructors_run = true;
	if (xshim_active)
		for_each(send_what_is_given);
}

static bool some_lent;		/* likewise */

static void look_for_lent(struct xshim_conn *c, int fd)
{
	(void)fd;
	some_lent = some_lent || (atomic_load_explicit(&c->lent, memory_order_relaxed) && !xshim_conn_chan(c));
}

static void end_lent(struct xshim_conn *c, int fd)
{
	if (!xshim_conn_chan(c))
		xshim_conn_end(c, fd);
}

/*
 * The last of all handlers, and behind all destructors, because it was the first to be registered: the dynamic linker runs our constructor before it
 * has the start-up code register the destructors. Loaded by dlopen() we would be called too early, and do nothing: the end is told when
 * xshimd has looked. Streams are all that still comes, and what is in their buffers is sent here. Where there are other threads they go on to
 * the last, and what one sends behind our end would be its SIGPIPE: likewise nothing is done.
 */
static bool is_the_last_word(void)
{
	if (!xshim_active || !__libc_single_threaded || getpid() != xshim_pid())
		return false;
	for_each(look_for_lent);
	return some_lent;
}

static void at_end(int status, void *unused)
{
	(void)status;
	(void)unused;
	if (!destructors_run || !is_the_last_word())
		return;
	(void)fflush(NULL);
	for_each(end_lent);
}

/* No destructors are run then, and no stream is written. */
static void at_quick_end(void)
{
	if (is_the_last_word())
		for_each(end_lent);
}

void xshim_process_ends(void)
{
	(void)on_exit(at_end, NULL);
	(void)at_quick_exit(at_quick_end);
}

/* Nothing of the program's comes after this. A child that has our memory with us, and ends, is not us. */
XSHIM_EXPORT void _exit(int status)
{
	if (xshim_active && getpid() == xshim_pid()) {
		for_each(send_what_is_given);
		for_each(end_lent);
	}
	if (libc._exit)
		libc._exit(status);
	for (;;)
		(void)libc.syscall(SYS_exit_group, status);
}
XSHIM_ALIAS(void, _Exit, _exit, (int))

/* Whether some connection crosses, after those on a ring have returned to TCP. */
static bool leave_crossing(bool all)
{
	bool any = false;

	if (!xshim_active)
		return false;
	for (int chunk = 0; chunk < XSHIM_FDTAB_CHUNKS; chunk++) {
		if (!atomic_load_explicit(&xshim_fdtab[chunk], memory_order_acquire))
			continue;
		for (int i = 0; i < XSHIM_FDTAB_CHUNK; i++) {
			int fd = chunk * XSHIM_FDTAB_CHUNK + i;
			struct xshim_conn *c;

			if (!xshim_fd_peek(fd) || !(c = xshim_conn_get(fd)))
				continue;
			if (all || crosses(fd)) {
				any = true;
				/* the new image finds it by its cookie */
				if (c->slot)
					(void)xshim_identity_ask(c, fd);
				if (xshim_conn_chan(c) &&
				    xshim_chan_leave_wait(c, fd, XSHIM_R_EXEC, LEAVE_MS) < 0)
					xlog(WARN, "descriptor %d could not return to TCP before exec%s", fd,
					     c->slot->link.rx.state == XSHIM_RX_GIVEN ? ": what is unread comes late" : "");
			}
			send_what_is_given(c, fd);
			xshim_conn_put(c);
		}
	}
	return any;
}

static size_t count(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

enum how { PATH, SEARCH, BY_FD, AT };

static int do_exec(enum how how, const char *file, int fd, char *const *argv, char *const *env, int flags)
{
	bool hand_over = leave_crossing(false) && xshim_own_arena_fd >= 0, ignores = xshim_sigact_leave();
	char text[96];
	int rc, saved;

	if (hand_over) {
		/* on the stack: after fork in a program with threads the heap may be locked */
		env = xshim_inherit_env(env, alloca((count(env) + 3) * sizeof(char *)), text);
		xshim_inherit_cross(true);
	}
	rc = how == PATH ? libc.execve(file, argv, env) :
	     how == SEARCH ? libc.execvpe(file, argv, env) :
	     how == AT	   ? libc.execveat(fd, file, argv, env, flags) :
			     libc.fexecve(fd, argv, env);
	saved = errno;
	if (ignores)
		xshim_sigact_go_on();
	if (hand_over)
		xshim_inherit_cross(false);
	errno = saved;
	return rc;
}

XSHIM_EXPORT int execve(const char *path, char *const *argv, char *const *env)
{
	return do_exec(PATH, path, -1, argv, env, 0);
}

XSHIM_EXPORT int execv(const char *path, char *const *argv)
{
	return do_exec(PATH, path, -1, argv, environ, 0);
}

XSHIM_EXPORT int execvp(const char *file, char *const *argv)
{
	return do_exec(SEARCH, file, -1, argv, environ, 0);
}

XSHIM_EXPORT int execvpe(const char *file, char *const *argv, char *const *env)
{
	return do_exec(SEARCH, file, -1, argv, env, 0);
}

XSHIM_EXPORT int fexecve(int fd, char *const *argv, char *const *env)
{
	return do_exec(BY_FD, NULL, fd, argv, env, 0);
}

XSHIM_EXPORT int execveat(int dir, const char *path, char *const *argv, char *const *env, int flags)
{
	return do_exec(AT, path, dir, argv, env, flags);
}

/* execl and its like end their list with NULL; ARG_MAX bounds what exec itself takes. */
static size_t listed(va_list ap)
{
	size_t n = 1;

	while (va_arg(ap, char *))
		n++;
	return n;
}

static void fill(char **argv, const char *arg, size_t n, va_list ap)
{
	argv[0] = (char *)(uintptr_t)arg;
	for (size_t i = 1; i <= n; i++)
		argv[i] = va_arg(ap, char *);
}

#define ARGV_FROM(argv, ap, arg)                                                                   \
	va_start(ap, arg);                                                                         \
	n = listed(ap);                                                                            \
	va_end(ap);                                                                                \
	argv = alloca((n + 1) * sizeof(char *));                                                   \
	va_start(ap, arg);                                                                         \
	fill(argv, arg, n, ap)

XSHIM_EXPORT int execl(const char *path, const char *arg, ...)
{
	char **argv;
	va_list ap;
	size_t n;

	ARGV_FROM(argv, ap, arg);
	va_end(ap);
	return execve(path, argv, environ);
}

XSHIM_EXPORT int execlp(const char *file, const char *arg, ...)
{
	char **argv;
	va_list ap;
	size_t n;

	ARGV_FROM(argv, ap, arg);
	va_end(ap);
	return execvpe(file, argv, environ);
}

XSHIM_EXPORT int execle(const char *path, const char *arg, ...)
{
	char **argv, *const *env;
	va_list ap;
	size_t n;

	ARGV_FROM(argv, ap, arg);
	va_end(ap);
	/* the environment is the argument after the NULL */
	va_start(ap, arg);
	(void)listed(ap);
	env = va_arg(ap, char *const *);
	va_end(ap);
	return execve(path, argv, env);
}

/* ---- children that the C library starts by itself: no code of ours runs in them before the exec ---- */

#define RUN(all, type, call)                                                                       \
	do {                                                                                       \
		bool ignores_;                                                                     \
		type rc_;                                                                          \
                                                                                                   \
		leave_crossing(all);                                                               \
		ignores_ = xshim_sigact_leave();                                                   \
		rc_ = call;                                                                        \
		if (ignores_)                                                                      \
			xshim_sigact_go_on();                                                      \
		return rc_;                                                                        \
	} while (0)

XSHIM_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *acts,
			     const posix_spawnattr_t *attr, char *const *argv, char *const *env)
{
	/* file actions may hand over even a close-on-exec descriptor */
	RUN(acts != NULL, int, libc.posix_spawn(pid, path, acts, attr, argv, env));
}

XSHIM_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *acts,
			      const posix_spawnattr_t *attr, char *const *argv, char *const *env)
{
	RUN(acts != NULL, int, libc.posix_spawnp(pid, file, acts, attr, argv, env));
}

XSHIM_EXPORT int system(const char *command)
{
	if (!command)
		return libc.system(command);
	RUN(false, int, libc.system(command));
}

XSHIM_EXPORT FILE *popen(const char *command, const char *mode)
{
	/* the pipe comes first: without one nothing has been started */
	RUN(false, FILE *, xshim_opens_noted(XSHIM_ONCE_MORE(libc.popen(command, mode), NULL, xshim_room_lacking())));
}
XSHIM_ALIAS(FILE *, _IO_popen, popen, (const char *, const char *))

/* $(command) is run by a shell */
XSHIM_EXPORT int wordexp(const char *words, wordexp_t *to, int flags)
{
	if (flags & WRDE_NOCMD)
		return libc.wordexp(words, to, flags);
	RUN(false, int, libc.wordexp(words, to, flags));
}
