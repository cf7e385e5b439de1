/* SPDX-License-Identifier: MIT */
/*
 * stream.h - send and receive on a connection with a channel; every call of the io_*.c ends here.
 *
 * Threads: any; one send and one receive at a time do work, the others wait for the lock, which is never held while blocking.
 * Returns bytes, 0 at the end of the stream, or -errno. XSHIM_PLAIN: the channel has gone meanwhile, nothing was moved,
 * and fd is the connection's still: make the kernel's call instead. With a number that was closed in a sleep they make it themselves.
 */
#ifndef XSHIM_STREAM_H
#define XSHIM_STREAM_H
#include "channel.h"

#include <errno.h>
#include <sys/uio.h>
#include <xshim/ring.h>

#define XSHIM_PLAIN ((ssize_t)-4096)

/*
 * Whether a call blocks is decided when it begins, as the kernel does: an O_NONBLOCK that another thread sets while it sleeps is for the
 * next one. begun: it has slept, or is to sleep, as one that blocks; kept by the caller until the end of the program's call.
 */
ssize_t xshim_stream_recv(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags, bool *begun);
/* The same after a sleep (nap.h) in a call that was made with fd, which may name something else by now. */
ssize_t xshim_stream_recv_on(struct xshim_conn *c, int fd, void *buf, size_t n, int flags);
ssize_t xshim_stream_send(struct xshim_conn *c, int fd, const struct iovec *v, size_t n, int flags, bool begun);
/*
 * Like sendfile(2): in_fd is read straight into the ring, and what there is no room for stays where it is. pipe: flags of splice(2), with
 * SPLICE_F_NONBLOCK, if in_fd is one: it is not waited for. XSHIM_EMPTY: there is nothing in it now.
 */
#define XSHIM_EMPTY ((ssize_t)-4099)
/* Of a sendfile with an offset: nothing moved, and xshim_stream_is_file() says no. The kernel knows why it cannot be. */
#define XSHIM_NO_FILE ((ssize_t)-4100)
bool xshim_stream_is_file(int fd);
ssize_t xshim_stream_sendfile(struct xshim_conn *c, int fd, int in_fd, off64_t *offset, size_t count, unsigned int pipe);
/* What TCP_INQ tells after a receive: as FIONREAD, and one more if the end of the stream has come. */
int xshim_stream_inq_hint(struct xshim_conn *c, int fd);
/* FIONREAD and TIOCOUTQ. */
int xshim_stream_inq(struct xshim_conn *c, int fd, int *bytes);
int xshim_stream_outq(struct xshim_conn *c, int fd, int *bytes);
/*
 * Of what lies unread on our ring, the kernel would have had so much acknowledged: half the room is the other end's receive buffer. And so much
 * not, that is what TIOCOUTQ counts and a close with SO_LINGER waits for. tx_lock.
 */
static inline uint64_t xshim_stream_takes(struct xshim_slot *s, struct xshim_chan *ch)
{
	(void)xshim_tx_space(&s->link, ch->remote.region);	/* the sizes of buffers as they are now */
	return s->link.tx.room / 2;
}
uint64_t xshim_stream_unacked(struct xshim_slot *s, struct xshim_chan *ch);
/* shutdown(2) on a connection with a channel. */
int xshim_stream_shutdown(struct xshim_conn *c, int fd, int how);
/* The last descriptor of the connection is about to be closed: make close reset if data is unread. */
void xshim_stream_closing(struct xshim_conn *c, int fd);

/* ---- among the stream_*.c; io_send.c sleeps as they do ---- */

#define XSHIM_STREAM_SLICES 64	/* parts of one call to the kernel */

/*
 * A call that has moved bytes reports these; the error that ended it is for the next call, as in TCP. It is not taken, or put back under the
 * lock it was taken under: a detach in between would not know of it. rc: what ended it; XSHIM_NEXT: it is owed now.
 */
#define XSHIM_NEXT ((ssize_t)-4098)
ssize_t xshim_stream_keep(struct xshim_conn *c, struct xshim_chan *ch, ssize_t rc);
/*
 * The program's answer: what a handler cannot do because of the call below it, which has the lock, would block for ever. It is told to try
 * again later.
 */
static inline ssize_t xshim_stream_told(ssize_t rc)
{
	return rc == -EDEADLK ? -EAGAIN : rc;
}
/* SO_RCVTIMEO or SO_SNDTIMEO as a deadline; asked for only when we are about to sleep, and if any was ever set. */
uint64_t xshim_stream_deadline(const struct xshim_conn *c, int fd, int option);
/*
 * Sleep in a blocking call whose channel has gone meanwhile. Not in the kernel's own where bytes have been moved: that one has moved
 * nothing yet, and after a handler with SA_RESTART would be begun anew, where the program is to be told what was moved; nor where the
 * socket does not block any more. -EINTR, or -EAGAIN at the deadline, ends the call. 0: look again, perhaps in vain.
 */
int xshim_stream_sleep_plain(int fd, short events, uint64_t deadline_ns);
/* A call that has begun as one that blocks is to go on as such, and the kernel's own would not. */
static inline bool xshim_stream_must_block(const struct xshim_conn *c, bool nonblock)
{
	return !nonblock && xshim_conn_flag(c, XSHIM_SLOT_NONBLOCK);
}
/*
 * What TCP has for a receive that has a part already. Such a one ends at an error, which is the next call's: it has to stay in the socket,
 * from where any call that finds no data takes it. So none is made unless there is data, or the end.
 */
enum xshim_tcp_next {
	XSHIM_TCP_NOTHING,
	XSHIM_TCP_DATA,
	XSHIM_TCP_END,
	XSHIM_TCP_ERROR,
};
enum xshim_tcp_next xshim_stream_tcp_next(int fd);
/*
 * The channel went in the middle of a receive that is to have `want` bytes and has `total`, or whose number was closed, or which has to
 * block where the socket does not any more: the kernel goes on with it, but does not sleep in it once something is there.
 */
ssize_t xshim_stream_recv_rest(struct xshim_conn *c, int fd, struct xshim_iov *it, int flags, bool nonblock, size_t total, size_t want,
			       uint64_t deadline);
/* The channel, or NULL once the connection has left it. */
static inline struct xshim_chan *xshim_stream_still_there(struct xshim_conn *c)
{
	if (atomic_load_explicit(&c->detach_due, memory_order_acquire))
		xshim_chan_detach(c);
	return xshim_conn_chan(c);
}

#endif
