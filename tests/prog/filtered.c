/* SPDX-License-Identifier: MIT */
/*
 * filtered.c - runs a program under a filter of system calls, as service managers and containers set it from outside.
 *
 *   filtered memfd PROGRAM [ARGUMENT...]   memfd_create() is not allowed: EPERM
 *   filtered unix PROGRAM [ARGUMENT...]    sockets of no family but the Internet's: EAFNOSUPPORT for AF_UNIX
 *
 * Status 99: the filter cannot be set; 98: the program cannot be run; 2: wrong usage.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEN(a) (unsigned short)(sizeof(a) / sizeof((a)[0]))

static struct sock_filter no_memfd[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static struct sock_filter no_unix[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 0, 2),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
};

static const struct {
	const char *name;
	struct sock_fprog program;
} filters[] = {
	{ "memfd", { LEN(no_memfd), no_memfd } },
	{ "unix", { LEN(no_unix), no_unix } },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 2 && i < LEN(filters); i++) {
		if (strcmp(argv[1], filters[i].name))
			continue;
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filters[i].program))
			return 99;
		execvp(argv[2], argv + 2);
		return 98;
	}
	fprintf(stderr, "usage: filtered memfd|unix PROGRAM [ARGUMENT...]\n");
	return 2;
}
