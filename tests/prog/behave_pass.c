/* SPDX-License-Identifier: MIT */
/*
 * behave_pass.c - a connection that goes to another process by other ways than fork: passed over a unix socket, inherited by what is
 * spawned; and a process that becomes another by itself: without its root directory, without its rights, by abort.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "behave.h"

extern char **environ;

/* ---- passed on ---- */

static void pass(int to, int fd)
{
	union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } u = { { 0 } };
	struct iovec v = { (char[]){ 'f' }, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof(u.room) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&m);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	if (sendmsg(to, &m, 0) != 1)
		die("passing the descriptor");
}

static int passed(int from)
{
	union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } u;
	char c;
	struct iovec v = { &c, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof(u.room) };
	int fd;

	if (recvmsg(from, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		die("no descriptor was passed");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

#define TALK 300000

/* What gets the connection: reads and writes it, and leaves the rest to who passed it. */
static int take(int from)
{
	int fd = passed(from);

	recv_exactly(fd, TALK);
	send_exactly(fd, TALK);
	return 0;
}

int behave_take(const char *from)
{
	return take(atoi(from));
}

enum who { CHILD, SHIMMED, BARE };

/*
 * The one who takes is there before the connection is passed, and knows nothing of it. A new image that inherits the first connection would
 * keep that on TCP, and the second is played when both are on rings.
 */
static pid_t begin_taker(const struct scene *s, enum who who, int pair[2])
{
	char number[12];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || (pid = fork()) < 0)
		die("the taker");
	if (pid)
		return pid;
	close(pair[0]);
	if (who == CHILD)
		_exit(take(pair[1]));
	close(s->fd);
	snprintf(number, sizeof(number), "%d", pair[1]);
	if (who == BARE)
		unsetenv("LD_PRELOAD");
	execl("/proc/self/exe", "behave", "take", number, (char *)NULL);
	_exit(9);
}

static void passed_to(struct scene *s, enum who who, bool and_closed)
{
	int pair[2], fd;
	pid_t pid = 0;

	if (!s->is_server)
		pid = begin_taker(s, who, pair);
	fd = another_connection(s);
	if (s->is_server) {
		echo(s, fd, 20000);
		/* until here a ring's bytes; what follows is for who takes it, and some of it is there before that */
		send_exactly(fd, TALK);
		recv_exactly(fd, TALK);
		if (!and_closed)
			echo(s, fd, 20000);
		say_recv_all("the end", fd);
	} else {
		echo(s, fd, 20000);
		pass(pair[0], fd);
		if (and_closed)
			close(fd);
		reap(pid);
		if (!and_closed) {
			echo(s, fd, 20000);
			close(fd);
		}
	}
	barrier(s);
	echo(s, s->fd, 20000);
	barrier(s);
}

static void passed_to_child(struct scene *s) { passed_to(s, CHILD, false); }
static void passed_to_child_and_closed(struct scene *s) { passed_to(s, CHILD, true); }
static void passed_to_another_program(struct scene *s) { passed_to(s, SHIMMED, false); }
static void passed_and_closed(struct scene *s) { passed_to(s, SHIMMED, true); }
static void passed_to_one_without_shim(struct scene *s) { passed_to(s, BARE, false); }
static void passed_to_one_without_shim_and_closed(struct scene *s) { passed_to(s, BARE, true); }

/* ---- spawned ---- */

#define WORDS "words for it\n"
#define WORDS_LEN 13

static void take_words(const char *how, FILE *f)
{
	char line[40];

	if (!f)
		die(how);
	say("%s: %s", how, fgets(line, sizeof(line), f) ? line : "nothing");
}

static void say_status(const char *how, int status)
{
	say("%s: status 0x%x", how, (unsigned int)status);
}

/* Those that are started read the connection, or do not touch it; the program goes on with it afterwards. */
static void spawns(struct scene *s)
{
	char command[60], *argv[] = { (char *)"sh", (char *)"-c", command, NULL };
	posix_spawn_file_actions_t acts;
	int status;
	pid_t pid;
	FILE *f;

	if (s->is_server) {
		for (int i = 0; i < 5; i++) {
			echo(s, s->fd, 20000);
			send(s->fd, WORDS, WORDS_LEN, 0);
		}
		echo(s, s->fd, 20000);
		say_recv_all("the end", s->fd);
		barrier(s);
		return;
	}
	echo(s, s->fd, 20000);
	snprintf(command, sizeof(command), "head -c 13 <&%d", s->fd);
	f = popen(command, "r");
	take_words("popen", f);
	say_status("pclose", pclose(f));

	echo(s, s->fd, 20000);
	snprintf(command, sizeof(command), "test \"$(head -c 13 <&%d)\" = 'words for it'", s->fd);
	say_status("system", system(command));

	echo(s, s->fd, 20000);
	if (fcntl(s->fd, F_SETFD, FD_CLOEXEC) < 0 || posix_spawn_file_actions_init(&acts) ||
	    posix_spawn_file_actions_adddup2(&acts, s->fd, 0))
		die("file actions");
	strcpy(command, "test \"$(head -c 13)\" = 'words for it'");
	if (posix_spawn(&pid, "/bin/sh", &acts, NULL, argv, environ))
		die("posix_spawn");
	posix_spawn_file_actions_destroy(&acts);
	waitpid(pid, &status, 0);
	say_status("posix_spawn", status);

	echo(s, s->fd, 20000);
	fcntl(s->fd, F_SETFD, 0);
	snprintf(command, sizeof(command), "test \"$(head -c 13 <&%d)\" = 'words for it'", s->fd);
	pid = vfork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(9);
	}
	waitpid(pid, &status, 0);
	say_status("vfork", status);

	/* not touched, and not inherited */
	echo(s, s->fd, 20000);
	fcntl(s->fd, F_SETFD, FD_CLOEXEC);
	say_status("system", system("exit 3"));
	recv(s->fd, command, WORDS_LEN, MSG_WAITALL);
	echo(s, s->fd, 20000);
	close(s->fd);
	barrier(s);
}

/* ---- another root, another user ---- */

static bool without_proc;

/* A sanitizer asks before it looks for leaks, for which it needs /proc. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return without_proc; }

static void root_and_user_change(struct scene *s)
{
	int fd;

	echo(s, s->fd, 20000);
	if (!s->is_server) {
		without_proc = true;
		say("chroot: %d", chroot("/proc/self/fdinfo"));
		say("chdir: %d", chdir("/"));
		say("setgid: %d, setuid: %d", setresgid(65534, 65534, 65534), setresuid(65534, 65534, 65534));
	}
	echo(s, s->fd, 300000);
	barrier(s);
	fd = young_connection(s);
	for (int i = 0; i < 100; i++)
		echo(s, fd, 1000);
	barrier(s);
}

/* ---- abort ---- */

static void aborts_with_unread(struct scene *s)
{
	const struct rlimit none = { 0, 0 };

	if (s->is_server) {
		barrier(s);
		barrier(s);	/* false: it is dead */
		recv_exactly(s->fd, 100000);
		say_recv_all("after abort", s->fd);
		return;
	}
	setrlimit(RLIMIT_CORE, &none);
	send_exactly(s->fd, 100000);
	barrier(s);
	abort();
}

/* ---- a stream that is opened anew on the connection's number ---- */

static void stream_reopened(struct scene *s)
{
	int fd = s->fd;
	char line[40];
	FILE *f;

	if (s->is_server) {
		send(s->fd, WORDS, WORDS_LEN, 0);
		say_recv_all("the end", s->fd);
	} else {
		f = fdopen(fd, "r");
		take_words("by stream", f);
		f = freopen("/dev/null", "r", f);
		say("then %s, the same number: %d", fgets(line, sizeof(line), f) ? line : "nothing", fileno(f) == fd);
		fclose(f);
	}
	barrier(s);
	if (s->is_server)
		close(fd);
	connection_instead(s);
}

/* ---- select with a set of more than FD_SETSIZE, as the C library lets it ---- */

static void select_above_1024(struct scene *s)
{
	static union { fd_set set; unsigned long words[4096 / 64]; } in, out;
	struct rlimit rl;
	int high, n;

	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max < 4096 ? rl.rlim_max : 4096;
	setrlimit(RLIMIT_NOFILE, &rl);
	high = fcntl(s->fd, F_DUPFD, 3000);
	if (high != 3000)
		die("F_DUPFD");
	echo(s, high, 20000);
	if (!s->is_server) {
		in.words[3000 / 64] = out.words[3000 / 64] = 1ul << 3000 % 64;
		n = select(3001, &in.set, &out.set, NULL, &(struct timeval){ 0 });
		say("nothing: %d, %lx %lx", n, in.words[3000 / 64], out.words[3000 / 64]);
		barrier(s);
		in.words[3000 / 64] = 1ul << 3000 % 64;
		n = select(3001, &in.set, NULL, NULL, NULL);
		say("something: %d, %lx", n, in.words[3000 / 64]);
		out.words[3000 / 64] = 1ul << 3000 % 64;
		n = pselect(3001, &in.set, &out.set, NULL, NULL, NULL);
		say("both: %d, %lx %lx", n, in.words[3000 / 64], out.words[3000 / 64]);
		recv_exactly(high, 100);
	} else {
		barrier(s);
		send_exactly(high, 100);
	}
	barrier(s);
}

const struct scene_case scenes_pass[] = {
	{ "passed_to_child", passed_to_child },
	{ "passed_to_child_and_closed", passed_to_child_and_closed },
	{ "passed_to_another_program", passed_to_another_program },
	{ "passed_and_closed", passed_and_closed },
	{ "passed_to_one_without_shim", passed_to_one_without_shim },
	{ "passed_to_one_without_shim_and_closed", passed_to_one_without_shim_and_closed },
	{ "spawns", spawns },
	{ "root_and_user_change", root_and_user_change },
	{ "aborts_with_unread", aborts_with_unread },
	{ "stream_reopened", stream_reopened },
	{ "select_above_1024", select_above_1024 },
	{ NULL, NULL },
};
