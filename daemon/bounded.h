/* SPDX-License-Identifier: MIT */
/*
 * bounded.h - connect, accept and close of a socket that somebody else holds too, without ever hanging in them.
 *
 * O_NONBLOCK, SO_SNDTIMEO and SO_RCVTIMEO belong to the open socket, not to our descriptor: a client that
 * kept a duplicate can clear them between our setting them and our call, and a blocking connect to an address
 * that swallows packets takes two minutes. So they are set, for the ordinary case, and a repeating
 * alarm interrupts the call for the hostile one. (send and recv have MSG_DONTWAIT, which nobody can take away.)
 *
 * Needs SIGALRM for itself. Errors: -errno; -EINPROGRESS for a connect that goes on, however it was left.
 */
#ifndef XSHIMD_BOUNDED_H
#define XSHIMD_BOUNDED_H
#include <sys/socket.h>

int xshimd_bounded_init(void);
int xshimd_bounded_connect(int fd, const struct sockaddr *sa, socklen_t len);
/*
 * The last close of a TCP socket waits until what is unsent is acknowledged if SO_LINGER says so, which is the socket's, too. Interrupted, it goes
 * on without us. That may be the last close of a connection to a client, too, because of what lies unread in that.
 */
void xshimd_bounded_close(int fd);
/* The accepted socket, close-on-exec and non-blocking. */
int xshimd_bounded_accept(int fd);

#endif
