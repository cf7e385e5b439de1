/* SPDX-License-Identifier: MIT */
/* procs.c - the ends as processes: begin, ask, end (stage.h). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stage.h"

struct proc *proc_named(struct stage *st, const char *name)
{
	for (int i = 0; i < PROCS; i++)
		if (!strcmp(st->procs[i].name, name))
			return &st->procs[i];
	return NULL;
}

void proc_gone(struct proc *p)
{
	if (p->sock >= 0)
		close(p->sock);
	free(p->early);
	*p = (struct proc){ .sock = -1 };
}

struct proc *proc_accept(struct stage *st, int ms)
{
	struct pollfd pfd = { .fd = st->listener, .events = POLLIN };
	char hello[64] = "";
	int pid, process;

	for (int i = 0; i < PROCS; i++) {
		struct proc *p = &st->procs[i];

		if (p->name[0])
			continue;
		if (poll(&pfd, 1, ms) != 1)
			return NULL;
		p->sock = accept4(st->listener, NULL, NULL, SOCK_CLOEXEC);
		if (p->sock < 0 || recv(p->sock, hello, sizeof(hello) - 1, 0) <= 0 ||
		    sscanf(hello, "%7s %d %d", p->name, &pid, &process) != 3) {
			proc_gone(p);
			return NULL;
		}
		p->pid = pid;
		p->process = process;
		p->side = p->name[0] == 'b';
		p->pending = false;
		return p;
	}
	return NULL;
}

static void spawn(struct stage *st, int side)
{
	const struct stage_setup *s = st->setup;
	char run[300], port[16], self[300], *words[WORDS];
	ssize_t len;
	int n;

	sigset_t none;

	if (fork())
		return;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snprintf(run, sizeof(run), "%s", s->run[side]);
	snprintf(port, sizeof(port), "%d", s->port);
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (len < 0)
		_exit(126);
	self[len] = 0;
	n = split(run, words, WORDS - 12);
	if (s->preload) {
		static char preload[400];

		snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", s->preload);
		words[n++] = (char *)(uintptr_t)"env";
		words[n++] = preload;
		for (int i = 0; s->environment[i]; i++)
			words[n++] = (char *)(uintptr_t)s->environment[i];
	}
	words[n++] = self;
	words[n++] = (char *)(uintptr_t)"end";
	words[n++] = (char *)(uintptr_t)(side ? "b" : "a");
	words[n++] = st->control;
	words[n++] = st->memory;
	words[n++] = (char *)(uintptr_t)s->address[0];
	words[n++] = (char *)(uintptr_t)s->address[1];
	words[n++] = port;
	words[n] = NULL;
	execvp(words[0], words);
	_exit(127);
}

void procs_end(struct stage *st)
{
	for (int i = 0; i < PROCS; i++) {
		if (!st->procs[i].name[0])
			continue;
		kill(st->procs[i].pid, SIGKILL);
		waitpid(st->procs[i].pid, NULL, 0);
		proc_gone(&st->procs[i]);
	}
}

void procs_begin(struct stage *st)
{
	struct proc *late;

	procs_end(st);
	while ((late = proc_accept(st, 0)))	/* a child that came after its end */
		procs_end(st);
	spawn(st, 1);
	if (!proc_accept(st, 10000))
		die("%s: end b does not come", st->name);
	spawn(st, 0);
	if (!proc_accept(st, 10000))
		die("%s: end a does not come", st->name);
	st->broken = false;
}

struct stage *stage_new(const struct stage_setup *s, const char *name)
{
	struct stage *st = calloc(1, sizeof(*st));
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (!st)
		die("no memory");
	st->setup = s;
	st->name = name;
	snprintf(st->control, sizeof(st->control), "%s/%s.%d.sock", s->directory, name, (int)getpid());
	snprintf(st->memory, sizeof(st->memory), "%s/%s.%d.mem", s->directory, name, (int)getpid());
	memcpy(un.sun_path, st->control, sizeof(st->control));
	st->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (st->listener < 0 || bind(st->listener, (struct sockaddr *)&un, sizeof(un)) < 0 ||
	    listen(st->listener, 8) < 0)
		die("%s: %s", st->control, errno_word(errno));
	fd = open(st->memory, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(struct shared)) < 0)
		die("%s: %s", st->memory, errno_word(errno));
	st->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (st->shared == MAP_FAILED)
		die("mmap: %s", errno_word(errno));
	close(fd);
	for (int i = 0; i < PROCS; i++)
		st->procs[i].sock = -1;
	st->broken = true;
	return st;
}

void stage_free(struct stage *st)
{
	if (!st)
		return;
	procs_end(st);
	close(st->listener);
	unlink(st->control);
	unlink(st->memory);
	munmap(st->shared, sizeof(struct shared));
	free(st);
}

/* ---- asking an end ---- */

bool proc_tell(struct stage *st, struct proc *p, const char *line)
{
	if (send(p->sock, line, strlen(line), MSG_NOSIGNAL) > 0)
		return true;
	st->broken = true;
	return false;
}

bool proc_answered(struct proc *p, int ms)
{
	struct pollfd pfd = { .fd = p->sock, .events = POLLIN };
	char text[TEXT];

	while (poll(&pfd, 1, ms) == 1) {
		if (!p->late || recv(p->sock, text, sizeof(text), 0) <= 0)
			return true;
		p->late--;
	}
	return false;
}

static void pump(struct stage *st, struct proc *waiting);

/* False: it has died or hangs; answer says which. */
bool proc_answer(struct stage *st, struct proc *p, char *text, int ms)
{
	int64_t deadline = now_ms() + ms;
	int status = 0;
	ssize_t n;

	if (p->early) {
		snprintf(text, TEXT, "%s", p->early);
		free(p->early);
		p->early = NULL;
		return true;
	}
	while (st->pumps && !proc_answered(p, 5) && now_ms() < deadline)
		pump(st, p);
	if (!proc_answered(p, st->pumps ? 0 : ms)) {
		snprintf(text, TEXT, "HANGS");
		st->broken = st->hung = true;
		return false;
	}
	n = recv(p->sock, text, TEXT - 1, 0);
	if (n > 0) {
		text[n] = 0;
		return true;
	}
	st->broken = true;
	if (waitpid(p->pid, &status, 0) == p->pid && WIFSIGNALED(status))
		snprintf(text, TEXT, "DIES: %s", strsignal(WTERMSIG(status)));
	else
		snprintf(text, TEXT, "EXITS %d", WEXITSTATUS(status));
	proc_gone(p);
	return false;
}

static void pump(struct stage *st, struct proc *waiting)
{
	char text[TEXT];

	for (int i = 0; i < PROCS; i++) {
		struct proc *p = &st->procs[i];

		if (p == waiting || !p->name[0] || p->pending || p->side == waiting->side)
			continue;
		if (p->busy && proc_answered(p, 0) && recv(p->sock, text, sizeof(text), 0) > 0) {
			p->early = strdup(text);
			p->busy = false;
		}
		if (p->late)
			(void)proc_answered(p, 0);
		if (p->busy || p->late || send(p->sock, LOOK_ALL, strlen(LOOK_ALL), MSG_NOSIGNAL) <= 0)
			continue;
		/* one that comes later must not be taken for what the next question is answered */
		if (!proc_answered(p, 1000))
			p->late++;
		else
			(void)recv(p->sock, text, sizeof(text), 0);
	}
}

bool proc_ask(struct stage *st, const char *who, char *text, const char *fmt, ...)
{
	struct proc *p = proc_named(st, who);
	char line[LINE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (!p) {
		snprintf(text, TEXT, "there is no end %s", who);
		return false;
	}
	return proc_tell(st, p, line) && proc_answer(st, p, text, ANSWER_MS);
}
