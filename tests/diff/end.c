/* SPDX-License-Identifier: MIT */
/*
 * end.c - one end: takes an operation from the control socket, carries it out, says what came of it. It keeps
 * names of descriptors, and touches connections in no other way than the operations say.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "player.h"

#define NAMES 128
#define NO_ERROR 4242	/* errno before a call; still there after one that succeeds */
#define CONTROL_FD 900

__thread struct end me;
static struct name names[NAMES];	/* of all threads: the conductor lets one of them change them at a time */
static const char *control_path;
static __thread char result[TEXT];
static __thread volatile sig_atomic_t pipes, users;

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

int patience(int ms)
{
	const char *slow = getenv("XSHIM_TEST_SLOW");
	int times = slow ? atoi(slow) : 1;

	return times > 1 ? times * ms : ms;
}

/* ---- names ---- */

struct name *name_at(int i)
{
	for (int k = 0; k < NAMES; k++)
		if (names[k].text[0] && i-- == 0)
			return &names[k];
	return NULL;
}

struct name *name_find(const char *text)
{
	for (int i = 0; i < NAMES; i++)
		if (!strcmp(names[i].text, text))
			return &names[i];
	return NULL;
}

int fd_of(const char *text)
{
	struct name *n = name_find(text);

	return n ? n->fd : -1;
}

/* Operations on a descriptor that is no connection count as connection z. */
int conn_of(const char *text)
{
	struct name *n = name_find(text);

	return n && n->conn >= 0 ? n->conn : CONNS - 1;
}

void name_forget(const char *text)
{
	struct name *n = name_find(text);

	if (n)
		n->text[0] = 0;
}

void name_drop_fd(int fd)
{
	for (int i = 0; i < NAMES; i++)
		if (names[i].text[0] && names[i].fd == fd)
			names[i].text[0] = 0;
}

void name_set(const char *text, int fd, int conn)
{
	name_forget(text);
	if (fd < 0)
		return;
	for (int i = 0; i < NAMES; i++) {
		if (names[i].text[0])
			continue;
		snprintf(names[i].text, sizeof(names[i].text), "%s", text);
		names[i].fd = fd;
		names[i].conn = conn;
		return;
	}
	die("too many names");
}

const char *name_of_fd(int fd)
{
	for (int i = 0; i < NAMES; i++)
		if (names[i].text[0] && names[i].fd == fd)
			return names[i].text;
	return "?";
}

/* ---- results ---- */

void put(const char *fmt, ...)
{
	size_t used = strlen(result);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(result + used, sizeof(result) - used, fmt, ap);
	va_end(ap);
}

void before_call(void)
{
	pipes = users = 0;
	errno = NO_ERROR;
}

void put_result(ssize_t rc)
{
	int err = errno;

	put("%s%zd", result[0] ? " " : "", rc);
	if (rc < 0)
		put(" %s", errno_word(err));
	else if (err != NO_ERROR)
		put(" (errno changed to %s)", errno_word(err));
	if (pipes)
		put(" SIGPIPE*%d", (int)pipes);
	if (users)
		put(" SIGUSR1*%d", (int)users);
	pipes = users = 0;
}

void put_time(int64_t since, int64_t wanted)
{
	int64_t took = now_ms() - since;

	if (took < wanted - 5)
		put(" too-soon");
	else if (took > wanted + 900)
		put(" too-late");
}

static void on_signal(int sig)
{
	if (sig == SIGPIPE)
		pipes++;
	else
		users++;
}

static void op_handler(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };

	if (argc > 1 && (!strcmp(argv[1], "restart") || !strcmp(argv[1], "restart-once")))
		sa.sa_flags = SA_RESTART;
	if (argc > 1 && strstr(argv[1], "once"))
		sa.sa_flags |= (int)SA_RESETHAND;
	sigaction(SIGUSR1, &sa, NULL);
	put("set");
}

/* What the kernel says, which is not what the preload says: by the instruction. */
static int kernel_info(int fd, struct tcp_info *ti)
{
	socklen_t len = sizeof(*ti);
#if defined(__x86_64__)
	register void *value __asm__("r10") = ti;
	register socklen_t *length __asm__("r8") = &len;
	long rc = SYS_getsockopt;

	__asm__ volatile("syscall"
			 : "+a"(rc)
			 : "D"((long)fd), "S"((long)IPPROTO_TCP), "d"((long)TCP_INFO), "r"(value), "r"(length)
			 : "rcx", "r11", "memory");
	return (int)rc;
#elif defined(__aarch64__)
	register long a0 __asm__("x0") = fd, a1 __asm__("x1") = IPPROTO_TCP, a2 __asm__("x2") = TCP_INFO;
	register void *value __asm__("x3") = ti;
	register socklen_t *length __asm__("x4") = &len;
	register long number __asm__("x8") = SYS_getsockopt;

	__asm__ volatile("svc 0" : "+r"(a0) : "r"(a1), "r"(a2), "r"(value), "r"(length), "r"(number) : "memory");
	return (int)a0;
#else
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ti, &len);
#endif
}

/* What the kernel says of a connection, for the conductor. */
static void op_info(int argc, char **argv)
{
	struct tcp_info ti;

	for (int k = 1; k < argc; k++) {
		int conn = argv[k][0] - 'a';
		bool found = false;

		for (int i = 0; i < NAMES && !found; i++) {
			if (!names[i].text[0] || names[i].conn != conn)
				continue;
			memset(&ti, 0, sizeof(ti));
			if (kernel_info(names[i].fd, &ti) < 0)
				continue;
			found = true;
			put("%llu %llu %u %u %u ", (unsigned long long)(ti.tcpi_bytes_sent - ti.tcpi_bytes_retrans),
			    (unsigned long long)ti.tcpi_bytes_received, ti.tcpi_notsent_bytes, ti.tcpi_state,
			    ti.tcpi_unacked);
		}
		if (!found)
			put("- - - - - ");
	}
}

/* Between two cases: nothing is left open, nothing is set. */
static void op_clean(int argc, char **argv)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	struct sigaction sa = { .sa_handler = on_signal };
	struct pollfd p = { .fd = fd_of("l"), .events = POLLIN };
	sigset_t usr1;

	(void)argc;
	(void)argv;
	for (int i = 0; i < NAMES; i++) {
		if (!names[i].text[0] || !strcmp(names[i].text, "l"))
			continue;
		setsockopt(names[i].fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(names[i].fd);
		names[i].text[0] = 0;
	}
	pipe_forget();
	counts_forget();
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &usr1, NULL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	while (poll(&p, 1, 0) == 1 && p.revents == POLLIN)	/* connections that nobody has accepted */
		close(accept(p.fd, NULL, NULL));
	put("clean");
}

static const struct op own_ops[] = {
	{ "handler", op_handler }, { "info", op_info }, { "clean", op_clean }, { NULL, NULL },
};

static void run(char *line)
{
	static const struct op *const tables[] = { own_ops, data_ops, queue_ops, sock_ops, fd_ops, ready_ops, process_ops, odd_ops };
	char *words[WORDS];
	int n = split(line, words, WORDS);

	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
		for (const struct op *o = tables[t]; o->name; o++) {
			if (strcmp(o->name, words[0]))
				continue;
			o->run(n, words);
			return;
		}
	}
	die("there is no operation '%s'", words[0]);
}

/* ---- control ---- */

static void report_to(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char hello[64];
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", control_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		die("connect to %s: %s", control_path, errno_word(errno));
	/* out of the way: programs get the lowest numbers */
	me.control = fcntl(fd, F_DUPFD, CONTROL_FD);
	close(fd);
	snprintf(hello, sizeof(hello), "%s %d %d", name, (int)gettid(), (int)getpid());
	if (me.control < 0 || send(me.control, hello, strlen(hello), 0) < 0)
		die("hello");
}

void end_become(const char *name)
{
	close(me.control);
	report_to(name);
}

static void listen_here(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons((uint16_t)me.port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(fd, 16) < 0)
		die("listen at port %d: %s", me.port, errno_word(errno));
	name_set("l", fd, -1);
}

static struct shared *shared_memory(const char *path)
{
	int fd = open(path, O_RDWR);
	void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd < 0 || p == MAP_FAILED)
		die("%s: %s", path, errno_word(errno));
	close(fd);
	return p;
}

/*
 * Threads keep step by the conductor, another process, which a checker of threads cannot see: each operation comes after those
 * that had been answered when it began.
 */
static _Atomic unsigned int operations;

static void serve(void)
{
	char line[LINE];
	ssize_t n;

	for (;;) {
		n = recv(me.control, line, sizeof(line) - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		line[n] = 0;
		result[0] = 0;
		atomic_fetch_add(&operations, 1);
		run(line);
		atomic_fetch_add(&operations, 1);
		if (send(me.control, result, strlen(result) + 1, MSG_NOSIGNAL) < 0)
			return;
	}
}

struct thread {
	struct end end;
	char name[8];
};

static void *thread_main(void *p)
{
	struct thread *t = p;

	me = t->end;
	me.out = result;
	report_to(t->name);
	free(t);
	serve();
	close(me.control);
	return NULL;
}

void end_thread(const char *name)
{
	struct thread *t = malloc(sizeof(*t));
	pthread_t id;

	if (!t)
		die("no memory");
	t->end = me;
	snprintf(t->name, sizeof(t->name), "%s", name);
	if (pthread_create(&id, NULL, thread_main, t))
		die("pthread_create");
	pthread_detach(id);
}

int end_main(int argc, char **argv)
{
	if (argc != 8)
		die("usage: player end a|b CONTROL SHARED ADDRESS-A ADDRESS-B PORT");
	me.side = argv[2][0] == 'b';
	control_path = argv[3];
	me.shared = shared_memory(argv[4]);
	me.address[0] = argv[5];
	me.address[1] = argv[6];
	me.port = atoi(argv[7]);
	me.out = result;
	signal(SIGPIPE, on_signal);
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = on_signal }, NULL);	/* it interrupts, as after each case */
	if (me.side)
		listen_here();
	report_to(argv[2]);
	serve();
	return 0;
}
