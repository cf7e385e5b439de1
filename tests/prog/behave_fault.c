/* SPDX-License-Identifier: MIT */
/* behave_fault.c - bad addresses in calls, and the program's own handlers for faults beside them. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "behave.h"

extern char **environ;

#define AREA ((size_t)1 << 20)

static char *area;		/* AREA bytes of memory, then a page that is none */
static char *bus_page;		/* beyond the end of a file: SIGBUS */

static void make_memory(void)
{
	int fd = memfd_create("short", 0);

	area = mmap(NULL, AREA + 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bus_page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (area == MAP_FAILED || bus_page == MAP_FAILED || mprotect(area + AREA, 65536, PROT_NONE) < 0)
		die("memory");
	close(fd);
}

/* Bad addresses of all kinds; the compiler must not know them. */
static void *bad_address(int i)
{
	void *volatile all[] = { (void *)64, area + AREA, bus_page, (void *)0x0000900000000000,
				 (void *)0xffff900000000000 };

	return all[i];
}
static const char *const bad_name[] = { "null", "no memory", "beyond a file", "not canonical", "the kernel's" };
#define BAD ((int)(sizeof(bad_name) / sizeof(bad_name[0])))

static void say_call(const char *what, ssize_t n)
{
	say("%s: %zd %s", what, n, n < 0 ? errno_name(errno) : "");
}

/* ---- handlers of the program's ---- */

static sigjmp_buf back;
static volatile sig_atomic_t faults, seen_sig, seen_code, seen_here, seen_context, on_alternate;
static void *volatile expected;
static sigset_t seen_blocked;
static char alternate[65536];

static void note(int sig, siginfo_t *info, void *context)
{
	char here;

	faults++;
	seen_sig = sig;
	seen_code = info->si_code;
	seen_here = info->si_addr == expected;
#if defined(__x86_64__)
	seen_context = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] != 0 &&
		       ((ucontext_t *)context)->uc_mcontext.gregs[REG_CR2] == (greg_t)(uintptr_t)expected;
#else
	seen_context = context != NULL;
#endif
	on_alternate = &here >= alternate && &here < alternate + sizeof(alternate);
	sigprocmask(SIG_BLOCK, NULL, &seen_blocked);
}

static void jump_out(int sig, siginfo_t *info, void *context)
{
	note(sig, info, context);
	siglongjmp(back, 1);
}

static void mend_page(int sig, siginfo_t *info, void *context)
{
	note(sig, info, context);
	if (mprotect(area + AREA, 4096, PROT_READ | PROT_WRITE) < 0)
		_exit(9);
}

static void simple(int sig)
{
	faults++;
	seen_sig = sig;
	siglongjmp(back, 1);
}

static void set_handler(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = fn, .sa_flags = flags | SA_SIGINFO };

	sigaddset(&sa.sa_mask, SIGUSR1);
	if (sigaction(sig, &sa, NULL) < 0)
		die("sigaction");
}

static void say_action(const char *when, int sig)
{
	struct sigaction sa;

	memset(&sa, 0xee, sizeof(sa));
	if (sigaction(sig, NULL, &sa) < 0)
		die("sigaction");
	say("%s: %s, flags %x, mask%s%s%s", when,
	    sa.sa_handler == SIG_DFL ? "default" :
	    sa.sa_handler == SIG_IGN ? "ignored" :
	    sa.sa_sigaction == jump_out || sa.sa_sigaction == mend_page || sa.sa_handler == simple ? "its own" :
												      "somebody else's",
	    (unsigned int)sa.sa_flags, sigismember(&sa.sa_mask, sig) ? " itself" : "",
	    sigismember(&sa.sa_mask, SIGUSR1) ? " USR1" : "", sigismember(&sa.sa_mask, SIGUSR2) ? " USR2" : "");
}

static void say_seen(const char *what)
{
	say("%s: %d faults, the last %d code %d, %s address, %s context, blocked%s%s%s, %s stack", what, (int)faults,
	    (int)seen_sig, (int)seen_code, seen_here ? "right" : "wrong", seen_context ? "right" : "wrong",
	    sigismember(&seen_blocked, SIGSEGV) ? " SEGV" : "", sigismember(&seen_blocked, SIGBUS) ? " BUS" : "",
	    sigismember(&seen_blocked, SIGUSR1) ? " USR1" : "", on_alternate ? "alternate" : "its own");
}

static void touch(char *at)
{
	expected = at;
	if (sigsetjmp(back, 1) == 0)
		*(volatile char *)at = 1;
}

static void no_core(void)
{
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
}

static void say_child(const char *what, pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	if (WIFSIGNALED(status))
		say("%s: killed by %s", what, sigabbrev_np(WTERMSIG(status)));
	else
		say("%s: exit %d", what, WEXITSTATUS(status));
}

#define IN_CHILD(what, ...)                                                                        \
	do {                                                                                       \
		pid_t pid_ = fork();                                                               \
                                                                                                   \
		if (pid_ == 0) {                                                                   \
			no_core();                                                                 \
			__VA_ARGS__;                                                               \
			_exit(7);                                                                  \
		}                                                                                  \
		say_child(what, pid_);                                                             \
	} while (0)

/* What the client does alone; afterwards a byte goes each way. */
static void alone(struct scene *s, void (*fn)(struct scene *s))
{
	char c = 'c';

	make_memory();
	barrier(s);
	if (!s->is_server)
		fn(s);
	barrier(s);
	if (send(s->fd, &c, 1, MSG_NOSIGNAL) != 1 || recv(s->fd, &c, 1, 0) != 1)
		die("the byte in the end");
	barrier(s);
}

/* ---- bad addresses ---- */

static void sends(struct scene *s)
{
	for (int i = 0; i < BAD; i++) {
		void *bad = bad_address(i);
		struct iovec v[2] = { { area, 5 }, { bad, 5 } };
		struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
		struct mmsghdr two[2] = { { .msg_hdr = { .msg_iov = v, .msg_iovlen = 1 } },
					  { .msg_hdr = { .msg_iov = v + 1, .msg_iovlen = 1 } } };

		say("%s", bad_name[i]);
		say_call("send", send(s->fd, bad, 5, MSG_NOSIGNAL));
		say_call("send nothing", send(s->fd, bad, 0, MSG_NOSIGNAL));
		say_call("write", write(s->fd, bad, 5));
		say_call("writev", writev(s->fd, v, 2));
		say_call("writev array", writev(s->fd, bad, 1));
		say_call("sendmsg", sendmsg(s->fd, &m, 0));
		say_call("sendmsg header", sendmsg(s->fd, bad, 0));
		m.msg_iov = bad;
		say_call("sendmsg array", sendmsg(s->fd, &m, 0));
		m = (struct msghdr){ .msg_iov = v, .msg_iovlen = 1, .msg_name = bad, .msg_namelen = 16 };
		say_call("sendmsg name", sendmsg(s->fd, &m, 0));
		say_call("sendto name", sendto(s->fd, area, 5, 0, bad, 16));
		say_call("sendto long name", sendto(s->fd, area, 5, 0, (struct sockaddr *)area, 1000));
		say_call("sendmmsg headers", sendmmsg(s->fd, bad, 2, 0));
		say_call("sendmmsg, the second", sendmmsg(s->fd, two, 2, 0));	/* 5 bytes */
		say_call("sendto, name of no length", sendto(s->fd, area, 5, 0, bad, 0));	/* 5 bytes */
	}
}

/* A receive that the kernel would have given something to. */
static void receives(struct scene *s, int i)
{
	void *bad = bad_address(i);
	char buf[100];
	struct iovec v[2] = { { buf, 5 }, { bad, 5 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
	struct mmsghdr two[2] = { { .msg_hdr = { .msg_iov = v, .msg_iovlen = 1 } },
				  { .msg_hdr = { .msg_iov = v + 1, .msg_iovlen = 1 } } };
	struct sockaddr_storage ss;
	socklen_t len = (socklen_t)-5;

	say("%s", bad_name[i]);
	say_call("recv", recv(s->fd, bad, 5, 0));
	say_call("recv nothing", recv(s->fd, bad, 0, 0));
	say_call("read", read(s->fd, bad, 5));
	say_call("peek", recv(s->fd, bad, 5, MSG_PEEK));
	say_call("recv all", recv(s->fd, bad, 5, MSG_WAITALL));
	say_call("discard", recv(s->fd, bad, 2, MSG_TRUNC));
	say_call("readv", readv(s->fd, v, 2));
	say_call("readv array", readv(s->fd, bad, 1));
	say_call("recvmsg", recvmsg(s->fd, &m, 0));
	say_call("recvmsg header", recvmsg(s->fd, bad, 0));
	m.msg_iov = bad;
	say_call("recvmsg array", recvmsg(s->fd, &m, 0));
	m = (struct msghdr){ .msg_iov = v, .msg_iovlen = 1, .msg_name = area, .msg_namelen = (socklen_t)-1 };
	say_call("recvmsg length of name", recvmsg(s->fd, &m, 0));
	m = (struct msghdr){ .msg_iov = v, .msg_iovlen = 1, .msg_namelen = 7, .msg_flags = 0x55 };
	say_call("recvmsg", recvmsg(s->fd, &m, 0));
	say("no name: length %u, flags %x", m.msg_namelen, (unsigned int)m.msg_flags);
	m = (struct msghdr){ .msg_iov = v, .msg_iovlen = 1, .msg_name = bad, .msg_namelen = 16, .msg_control = bad,
			     .msg_controllen = 100 };
	say_call("recvmsg bad name and control", recvmsg(s->fd, &m, 0));
	say("length of name %u, of control %zu", m.msg_namelen, m.msg_controllen);
	say_call("recvfrom bad length", recvfrom(s->fd, buf, 5, 0, (struct sockaddr *)&ss, bad));
	say_call("recvfrom negative length", recvfrom(s->fd, buf, 5, 0, (struct sockaddr *)&ss, &len));
	len = sizeof(ss);
	say_call("recvfrom bad name", recvfrom(s->fd, buf, 5, 0, bad, &len));
	say("length of name %u", len);
	say_call("recvmmsg headers", recvmmsg(s->fd, bad, 2, 0, NULL));
	say_call("recvmmsg time", recvmmsg(s->fd, two, 1, 0, bad));
	say_call("recvmmsg, the second", recvmmsg(s->fd, two, 2, 0, NULL));
	say_call("the error of that", recv(s->fd, buf, 1, 0));
	say_call("the rest", recv(s->fd, buf, sizeof(buf), 0));
	say_call("of nothing", recv(s->fd, bad, 5, MSG_DONTWAIT));
}

static void bad_sends(struct scene *s)
{
	make_memory();
	barrier(s);
	if (!s->is_server)
		sends(s);
	barrier(s);
	if (s->is_server) {
		char buf[1000];
		size_t sum = 0;
		ssize_t n;

		while ((n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
			sum += (size_t)n;
		say("%zu bytes have come", sum);
	}
	barrier(s);
}

static void bad_receives(struct scene *s)
{
	make_memory();
	for (int i = 0; i < BAD; i++) {
		if (s->is_server)
			send_exactly(s->fd, 50);
		barrier(s);
		if (!s->is_server)
			receives(s, i);
		barrier(s);
	}
}

/* What can be read and not be written. */
static void bad_results(struct scene *s)
{
	char buf[10];
	struct iovec v = { buf, 5 };
	struct mmsghdr *m = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	socklen_t *len = (socklen_t *)((char *)m + 1024);
	struct sockaddr_storage ss;

	m[0].msg_hdr = m[1].msg_hdr = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1 };
	*len = sizeof(ss);
	mprotect(m, 65536, PROT_READ);
	if (s->is_server)
		send_exactly(s->fd, 50);
	barrier(s);
	if (!s->is_server) {
		say_call("recvmsg", recvmsg(s->fd, &m[0].msg_hdr, 0));
		say_call("recvfrom", recvfrom(s->fd, buf, 5, 0, (struct sockaddr *)&ss, len));
		say_call("recvmmsg", recvmmsg(s->fd, m, 2, 0, NULL));
		say_call("sendmmsg", sendmmsg(s->fd, m, 2, 0));
		say_call("the rest", recv(s->fd, area = malloc(100), 100, 0));
	}
	barrier(s);
	if (s->is_server)
		say_call("from sendmmsg", recv(s->fd, buf, sizeof(buf), 0));
	barrier(s);
}

/* Much, of which the end is bad: some of it goes, and the other end has exactly that. How much is the kernel's affair. */
static void bad_end_of_much(struct scene *s)
{
	size_t good = 200000;
	char *from;
	ssize_t n, got = 0, more;

	make_memory();
	from = area + AREA - good;
	for (size_t i = 0; i < good; i++)
		from[i] = (char)pattern(i);
	barrier(s);
	if (!s->is_server) {
		n = send(s->fd, from, good + 5000, MSG_DONTWAIT);
		say("send: %s", n > 30000 && n <= (ssize_t)good ? "a part of the good" : errno_name(errno));
		if (write(s->step, &n, sizeof(n)) != sizeof(n) || shutdown(s->fd, SHUT_WR) < 0)
			die("telling");
	} else {
		if (read(s->step, &n, sizeof(n)) != sizeof(n))
			die("hearing");
		/* here, too, the end is bad */
		while (got < n - 2000) {
			more = recv(s->fd, area + AREA - 1000, (size_t)n, 0);
			say("recv into 1000 bytes: %s", more < 0 ? errno_name(errno) : "some");
			break;
		}
		while ((more = recv(s->fd, area + got, AREA - (size_t)got, 0)) > 0)
			got += more;
		for (ssize_t i = 0; i < got; i++)
			if (area[i] != (char)pattern((size_t)i))
				die("a byte is wrong");
		say("%s have come", got == n ? "just these" : "other amounts");
	}
	barrier(s);
}

static void *receive_badly(void *arg)
{
	struct scene *s = arg;

	say_call("recv in a thread", recv(s->fd, area + AREA, 5, 0));
	return NULL;
}

/* A receive sleeps, and what comes cannot be stored; another thread makes faults of its own. */
static void bad_receive_in_thread(struct scene *s)
{
	pthread_t t;

	make_memory();
	barrier(s);
	if (s->is_server) {
		char c;

		if (recv(s->step, &c, 1, 0) != 1)
			die("go");
		send_exactly(s->fd, 10);
	} else {
		set_handler(SIGSEGV, jump_out, 0);
		if (pthread_create(&t, NULL, receive_badly, s))
			die("pthread_create");
		for (int i = 0; i < 100; i++)
			touch(area + AREA + i);
		if (send(s->step, "g", 1, 0) != 1)
			die("go");
		pthread_join(t, NULL);
		say_seen("meanwhile");
		recv_exactly(s->fd, 10);
	}
	barrier(s);
}

/* ---- faults of the program's own ---- */

static void own_faults(struct scene *s)
{
	say_action("before", SIGSEGV);
	set_handler(SIGSEGV, jump_out, 0);
	say_action("set", SIGSEGV);
	touch(area + AREA + 5);
	say_seen("no memory");
	touch((char *)64);
	say_seen("null");
	set_handler(SIGBUS, jump_out, SA_NODEFER);
	say_action("set", SIGBUS);
	touch(bus_page);
	say_seen("beyond the file");
	set_handler(SIGSEGV, jump_out, SA_NODEFER | SA_RESTART);
	touch(area + AREA);
	say_seen("with SA_NODEFER");
	set_handler(SIGSEGV, mend_page, 0);
	touch(area + AREA + 3);
	say_seen("mended");
	say("it is %d", area[AREA + 3]);
	mprotect(area + AREA, 65536, PROT_NONE);
	say_call("send", send(s->fd, area + AREA, 5, MSG_NOSIGNAL));
	say_seen("after a call");
	signal(SIGSEGV, simple);
	say_action("by signal()", SIGSEGV);
	touch(area + AREA);
	say("%d faults", (int)faults);
}

static void own_stack(struct scene *s)
{
	stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate) };

	if (sigaltstack(&st, NULL) < 0)
		die("sigaltstack");
	set_handler(SIGSEGV, jump_out, 0);
	touch(area + AREA);
	say_seen("on its own");
	set_handler(SIGSEGV, jump_out, SA_ONSTACK);
	touch(area + AREA);
	say_seen("on the alternate");
	say_call("send", send(s->fd, area + AREA, 5, MSG_NOSIGNAL));
	say_seen("after a call");
}

static volatile int deep = 1;

static int dig(volatile char *above)
{
	volatile char here[4096];

	here[0] = *above;
	return deep ? dig(here) + here[0] : 0;
}

static void on_overflow(int sig)
{
	_exit(sig == SIGSEGV ? 42 : 43);
}

static void stack_overflow(struct scene *s)
{
	stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	struct sigaction sa = { .sa_handler = on_overflow, .sa_flags = SA_ONSTACK };
	volatile char top = 0;

	(void)s;
	sigaltstack(&st, NULL);
	IN_CHILD("with an alternate stack", sigaction(SIGSEGV, &sa, NULL); dig(&top));
	sa.sa_flags = 0;
	IN_CHILD("without", sigaction(SIGSEGV, &sa, NULL); dig(&top));
	IN_CHILD("without a handler", dig(&top));
}

static void own_end(struct scene *s)
{
	(void)s;
	for (int i = 0; i < 2; i++) {
		int sig = i ? SIGBUS : SIGSEGV;

		IN_CHILD("a fault", *(volatile char *)(i ? bus_page : area + AREA) = 1);
		IN_CHILD("raise", raise(sig));
		IN_CHILD("kill", kill(getpid(), sig));
		IN_CHILD("ignored, raise", signal(sig, SIG_IGN); raise(sig));
		IN_CHILD("ignored, fault", signal(sig, SIG_IGN); *(volatile char *)(i ? bus_page : area + AREA) = 1);
		IN_CHILD("a handler, then default", set_handler(sig, jump_out, 0); touch(i ? bus_page : area + AREA);
			 signal(sig, SIG_DFL); touch(i ? bus_page : area + AREA));
		IN_CHILD("blocked", sigset_t b; sigemptyset(&b); sigaddset(&b, sig); sigprocmask(SIG_BLOCK, &b, NULL);
			 raise(sig); *(volatile char *)(i ? bus_page : area + AREA) = 1);
	}
}

static void once_only(struct scene *s)
{
	(void)s;
	set_handler(SIGSEGV, jump_out, (int)SA_RESETHAND);
	say_action("set", SIGSEGV);
	touch(area + AREA);
	say_seen("once");
	say_action("after it", SIGSEGV);
	IN_CHILD("twice", touch(area + AREA));
	IN_CHILD("twice by sysv_signal", sysv_signal(SIGSEGV, simple); touch(area + AREA); touch(area + AREA));
}

static const char *name_of(sighandler_t h)
{
	return h == SIG_DFL ? "default" : h == SIG_IGN ? "ignored" : h == SIG_HOLD ? "held" : h == SIG_ERR ? "error" :
	       h == simple ? "its own" : "somebody else's";
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void old_calls(struct scene *s)
{
	(void)s;
	say("signal: %s", name_of(signal(SIGSEGV, simple)));
	say_action("signal", SIGSEGV);
	say("again: %s", name_of(ssignal(SIGSEGV, SIG_IGN)));
	say("error: %s", name_of(signal(SIGSEGV, SIG_ERR)));
	say("sysv_signal: %s", name_of(sysv_signal(SIGSEGV, simple)));
	say_action("sysv_signal", SIGSEGV);
	say("siginterrupt: %d", siginterrupt(SIGSEGV, 1));
	say_action("siginterrupt", SIGSEGV);
	signal(SIGSEGV, simple);
	say_action("signal after it", SIGSEGV);
	say("siginterrupt: %d", siginterrupt(SIGSEGV, 0));
	say_action("siginterrupt", SIGSEGV);
	say("sigset: %s", name_of(sigset(SIGSEGV, SIG_HOLD)));
	say("sigset: %s", name_of(sigset(SIGSEGV, SIG_HOLD)));
	say("sigset: %s", name_of(sigset(SIGSEGV, simple)));
	say_action("sigset", SIGSEGV);
	say("sigset: %s", name_of(sigset(SIGSEGV, SIG_DFL)));
	say("sigignore: %d", sigignore(SIGSEGV));
	say_action("sigignore", SIGSEGV);
	say("sigaction of no signal: %d", sigaction(0, NULL, NULL));
	say("sigaction of SIGKILL: %d", sigaction(SIGKILL, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL));
}

/* rt_sigaction by its number */
static void by_number(struct scene *s)
{
	struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } raw = { 0 };
	struct sigaction sa = { .sa_handler = SIG_DFL };

	(void)s;
	set_handler(SIGSEGV, jump_out, SA_ONSTACK);
	say("asked: %ld", syscall(SYS_rt_sigaction, SIGSEGV, NULL, &raw, 8));
	say("%s, flags %lx, mask %lx", raw.handler == (void *)jump_out ? "its own" : "another", raw.flags,
	    (unsigned long)raw.mask);
	say_action("asked", SIGSEGV);
	sigaction(SIGSEGV, &sa, NULL);
	say("set: %ld", syscall(SYS_rt_sigaction, SIGSEGV, &raw, NULL, 8));
	say_action("set", SIGSEGV);
	touch(area + AREA);
	say_seen("caught");
	say("bad size: %ld %s", syscall(SYS_rt_sigaction, SIGSEGV, NULL, &raw, 4), errno_name(errno));
	say("bad address: %ld %s", syscall(SYS_rt_sigaction, SIGSEGV, NULL, bad_address(1), 8), errno_name(errno));
	say("bad address: %ld %s", syscall(SYS_rt_sigaction, SIGSEGV, bad_address(0), NULL, 8), errno_name(errno));
}

static void sent_ones(struct scene *s)
{
	union sigval v = { .sival_int = 77 };

	(void)s;
	set_handler(SIGSEGV, note, 0);
	expected = NULL;
	if (raise(SIGSEGV))
		die("raise");
	say("raise: %d, code %d", (int)faults, (int)seen_code);
	if (sigqueue(getpid(), SIGSEGV, v) < 0)
		die("sigqueue");
	say("sigqueue: %d, code %d", (int)faults, (int)seen_code);
}

/* ---- processes ---- */

static void run_shell(const char *what)
{
	char sh[] = "sh", option[] = "-c", command[] = "ulimit -c 0; kill -SEGV $$; exit 5";
	char *argv[] = { sh, option, command, NULL };
	pid_t pid;
	int status;

	say("%s", what);
	IN_CHILD("exec", execv("/bin/sh", argv));
	if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ))
		die("posix_spawn");
	say_child("posix_spawn", pid);
	status = system(command);
	say("system: %s", WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "survives");
	status = pclose(popen(command, "r"));
	say("popen: %s", WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "survives");
	say_action("afterwards", SIGSEGV);
}

static void over_exec(struct scene *s)
{
	char name[] = "none", *none[] = { name, NULL };

	fcntl(s->fd, F_SETFD, FD_CLOEXEC);	/* it stays where it is */
	run_shell("default");
	signal(SIGSEGV, SIG_IGN);
	run_shell("ignored");
	say("no such program: %d", execv("/nonexistent/program", none));
	say_action("after exec has failed", SIGSEGV);
	say_call("send", send(s->fd, area + AREA, 5, MSG_NOSIGNAL));
	set_handler(SIGSEGV, jump_out, 0);
	run_shell("a handler");
}

static void over_fork(struct scene *s)
{
	set_handler(SIGSEGV, jump_out, 0);
	IN_CHILD("a child", touch(area + AREA); say_seen("in the child"); say_action("in the child", SIGSEGV);
		 say_call("send", send(s->fd, area + AREA, 5, MSG_NOSIGNAL)));
	say_call("send", send(s->fd, area + AREA, 5, MSG_NOSIGNAL));
}

static void own_handler_has_its_faults(struct scene *s) { alone(s, own_faults); }
static void own_handler_has_its_stack(struct scene *s) { alone(s, own_stack); }
static void own_handler_sees_a_stack_overflow(struct scene *s) { alone(s, stack_overflow); }
static void own_handler_runs_once(struct scene *s) { alone(s, once_only); }
static void a_fault_ends_the_program(struct scene *s) { alone(s, own_end); }
static void old_calls_for_signals(struct scene *s) { alone(s, old_calls); }
static void sigaction_by_number(struct scene *s) { alone(s, by_number); }
static void signals_that_were_sent(struct scene *s) { alone(s, sent_ones); }
static void dispositions_over_exec(struct scene *s) { alone(s, over_exec); }
static void dispositions_over_fork(struct scene *s) { alone(s, over_fork); }

const struct scene_case scenes_fault[] = {
	{ "bad_sends", bad_sends },
	{ "bad_receives", bad_receives },
	{ "bad_results", bad_results },
	{ "bad_end_of_much", bad_end_of_much },
	{ "bad_receive_in_thread", bad_receive_in_thread },
	{ "own_handler_has_its_faults", own_handler_has_its_faults },
	{ "own_handler_has_its_stack", own_handler_has_its_stack },
	{ "own_handler_sees_a_stack_overflow", own_handler_sees_a_stack_overflow },
	{ "own_handler_runs_once", own_handler_runs_once },
	{ "a_fault_ends_the_program", a_fault_ends_the_program },
	{ "old_calls_for_signals", old_calls_for_signals },
	{ "sigaction_by_number", sigaction_by_number },
	{ "signals_that_were_sent", signals_that_were_sent },
	{ "dispositions_over_exec", dispositions_over_exec },
	{ "dispositions_over_fork", dispositions_over_fork },
	{ NULL, NULL },
};
