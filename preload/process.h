/* SPDX-License-Identifier: MIT */
/* process.h - start-up, and the pieces of sock.c, process.c and inherit.c that other files call. */
#ifndef XSHIM_PROCESS_H
#define XSHIM_PROCESS_H
#include <stdbool.h>

/* Set by the constructor when all is ready; false: pass everything through. Const afterwards. */
extern bool xshim_active;

/* process.c: fork handlers. */
void xshim_process_init(void);
/* inherit.c: adopt the connections that came over exec. */
void xshim_process_inherit(void);
/*
 * inherit.c: the environment for a new image, which names the arenas; out has room for all of env and three
 * more, text for 96 characters. on: let the descriptors cross exec, or not.
 */
char *const *xshim_inherit_env(char *const *env, char **out, char text[96]);
void xshim_inherit_cross(bool on);

/* sock.c: fcntl's F_DUPFD and F_DUPFD_CLOEXEC. */
int xshim_sock_dup(int fd, int cmd, int min);

#endif
