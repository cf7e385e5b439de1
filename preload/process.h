/* SPDX-License-Identifier: MIT */
/* process.h - start-up, and the pieces of sock.c, process.c and inherit.c that other files call. */
#ifndef XSHIM_PROCESS_H
#define XSHIM_PROCESS_H
#include <stdbool.h>
#include <sys/types.h>

struct xshim_conn;

/* Set by the constructor when all is ready; false: pass everything through. Cleared for good by a seccomp filter (sandbox.c). */
extern _Atomic bool xshim_active;

/* process.c: what is to be done at the end of the process; in the constructor. */
void xshim_process_ends(void);
/* fork.c: fork handlers, and the same by hand around a fork that runs none; pid: what it returned. */
void xshim_process_init(void);
void xshim_fork_prepare(void);
void xshim_forked(pid_t pid);
/* fork.c: 1: it makes a process that is to be treated as forked, by these flags; 0: it is none of our business. */
int xshim_clone_flags(unsigned long *flags);
/* sandbox.c: a seccomp filter is about to be installed. Afterwards no call is made that plain TCP would not make. */
void xshim_sandbox_enter(void);
/* This process, without asking the kernel when that may be forbidden; 0: a child of a process that had a filter. */
pid_t xshim_sandbox_pid(void);
void xshim_sandbox_fork_child(void);
/* inherit.c: adopt the connections that came over exec. */
void xshim_process_inherit(void);
/*
 * inherit.c: the environment for a new image, which names the arenas; out has room for all of env and three
 * more, text for 96 characters. on: let the descriptors cross exec, or not.
 */
char *const *xshim_inherit_env(char *const *env, char **out, char text[96]);
void xshim_inherit_cross(bool on);

/*
 * sock.c: fd is about to be closed, by us or inside the C library; the connection is to be handed to
 * xshim_sock_forgotten() when that has been done. NULL: it was none.
 */
struct xshim_conn *xshim_sock_forget(int fd);
void xshim_sock_forgotten(struct xshim_conn *c);
/* sock.c: fcntl's F_DUPFD and F_DUPFD_CLOEXEC. */
int xshim_sock_dup(int fd, int cmd, int min);
/* A call that connects, on what was no connection of ours, has returned rc: from now on it is one if that says so. errno is kept. */
void xshim_sock_connected(int fd, ssize_t rc, const struct sockaddr *sa, socklen_t len);

#endif
