/* SPDX-License-Identifier: MIT */
/*
 * op_process.c - fork, exit, and descriptors passed to others.
 *
 *   fork NAME      the child is an end called NAME (a2, b2, ...), which has all the descriptors too
 *   thread NAME    a thread is an end called NAME (b9, ...), which has the same descriptors
 *   exit           _exit; only for a child. The conductor kills ends with "kill NAME".
 *   reap           wait for a child
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "player.h"

static void op_fork(int argc, char **argv)
{
	char name[16];
	pid_t pid;

	if (argc < 2)
		die("fork: no name");
	snprintf(name, sizeof(name), "%s", argv[1]);
	before_call();
	pid = fork();
	if (pid == 0) {
		end_become(name);
		me.out[0] = 0;
		put("hello");
		return;
	}
	put_result(pid < 0 ? pid : 0);
}

static void op_thread(int argc, char **argv)
{
	if (argc < 2)
		die("thread: no name");
	end_thread(argv[1]);
	put("begun");
}

static void op_exit(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	_exit(0);
}

static void op_reap(int argc, char **argv)
{
	int status = 0;
	pid_t pid;

	(void)argc;
	(void)argv;
	before_call();
	pid = waitpid(-1, &status, 0);
	put_result(pid < 0 ? pid : 0);
	if (pid > 0)
		put(WIFEXITED(status) ? " exited" : " killed");
}

const struct op process_ops[] = {
	{ "fork", op_fork }, { "thread", op_thread }, { "exit", op_exit }, { "reap", op_reap }, { NULL, NULL },
};
