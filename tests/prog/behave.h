/* SPDX-License-Identifier: MIT */
/*
 * behave.h - parts of "behave": two processes act out small scenes on one TCP connection and print what
 * the socket calls return. The prints of a run over plain TCP are what every other run must print.
 *
 * The two processes keep step by a unix socket ("barrier"), which is no part of what is tested.
 */
#ifndef BEHAVE_H
#define BEHAVE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct scene {
	int fd;			/* the connection; warmed up, so that it is on a ring if it ever will be */
	int step;		/* the unix socket */
	bool is_server;
	int listener;		/* server only */
	const char *address, *port;
	unsigned int connections;
};

/* A case is one function, run by both ends at the same time; is_server tells which one it is. */
struct scene_case {
	const char *name;
	void (*run)(struct scene *s);
};
extern const struct scene_case scenes_buffers[], scenes_call[], scenes_cancel[], scenes_end[], scenes_fault[], scenes_io[], scenes_leave[], scenes_load[], scenes_fd[], scenes_epoll[], scenes_fork[], scenes_net[], scenes_others[], scenes_pass[], scenes_sandbox[], scenes_signal[], scenes_thread[],
	scenes_wild[];

/* behave_pass.c: another program that a connection is passed to */
int behave_take(const char *from);
/* behave_wild.c: no scenes, one process */
int behave_wild(void);
int behave_wild_threads(void);

_Noreturn void die(const char *what);
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Wait until the other process is here too. False: it is gone. */
bool barrier(struct scene *s);
/* One end says that its next call will sleep; the other goes on when that can be seen of it, to send it a signal or to die. */
void about_to_sleep(struct scene *s);
pid_t other_sleeps(struct scene *s);
/* Another connection between the two, fresh or warmed up. */
int young_connection(struct scene *s);
int another_connection(struct scene *s);
/* One that takes the place of the first, which is closed; says whether it has its number, and is used. */
void connection_instead(struct scene *s);
/* Only the client sends, byte by byte, until the script says that both ends have been introduced. */
void introduce(struct scene *s, int fd);
/* One that is introduced while len bytes of the server's lie unread; the client has read nothing. */
int unread_connection(struct scene *s, size_t len);
/* Exchange single bytes until the script says that the connection is where it should be. */
void warm_up(struct scene *s, int fd);

/* Blocking: all of it, or die. Bytes follow from their offset. */
void send_exactly(int fd, size_t len);
void recv_exactly(int fd, size_t len);
/* The part of a longer pattern that begins at `from`. */
void send_part(int fd, size_t from, size_t len);
void recv_part(int fd, size_t from, size_t len);
/* The client sends, the server gives it back. */
void echo(struct scene *s, int fd, size_t len);
uint8_t pattern(size_t offset);

/* Print poll's answer as words once one of `until` has come, or after 10 s whatever there is then. */
void say_poll(const char *when, int fd, short until);
/* recv until it no longer gives data; print the sum, and how it ended, and what two more calls say. */
void say_recv_all(const char *when, int fd);
void say_send(const char *when, int fd, size_t len);
void say_so_error(const char *when, int fd);
const char *errno_name(int err);
int64_t now_ms(void);
/* 0, too, if it cannot be read. */
int lines_of(const char *path);
/* A child's end, printed. */
void reap(pid_t pid);
/* Until /proc says of the process, or thread, twice, some time apart: S, asleep; T, stopped. */
void await_state(pid_t id, char state);

#endif
