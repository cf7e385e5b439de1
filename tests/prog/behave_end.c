/* SPDX-License-Identifier: MIT */
/* behave_end.c - how connections end: half-closes, closes, resets, deaths. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "behave.h"

/* One end half-closes with data under way; the other still delivers, then closes too. */
static void half_close(struct scene *s, bool i_am_first)
{
	if (i_am_first) {
		send_exactly(s->fd, 1000);
		if (shutdown(s->fd, SHUT_WR) < 0)
			die("shutdown");
		say_send("after my shutdown", s->fd, 10);
		barrier(s);
		recv_exactly(s->fd, 500);
		say("after my shutdown: 500 bytes came");
		say_poll("the other has shut down too", s->fd, POLLHUP);
		say_recv_all("at the end", s->fd);
	} else {
		barrier(s);
		say_poll("the other has shut down", s->fd, POLLRDHUP);
		say_recv_all("after the other's shutdown", s->fd);
		send_exactly(s->fd, 500);
		if (shutdown(s->fd, SHUT_WR) < 0)
			die("shutdown");
		say_poll("both have shut down", s->fd, POLLHUP);
		say_send("after both shutdowns", s->fd, 10);
	}
	barrier(s);
}

static void shutdown_server_first(struct scene *s) { half_close(s, s->is_server); }
static void shutdown_client_first(struct scene *s) { half_close(s, !s->is_server); }

static void shutdown_read(struct scene *s)
{
	if (s->is_server) {
		if (shutdown(s->fd, SHUT_RD) < 0)
			die("shutdown");
		say_poll("after my shutdown(RD)", s->fd, 0);
		barrier(s);
		barrier(s);
	} else {
		barrier(s);
		say_poll("the other has shut down reading", s->fd, 0);
		say_send("to one that has shut down reading", s->fd, 100);
		barrier(s);
	}
}

static void shutdown_both_at_once(struct scene *s)
{
	if (s->is_server) {
		if (shutdown(s->fd, SHUT_RDWR) < 0)
			die("shutdown");
		say_poll("after my shutdown(RDWR)", s->fd, 0);
		say_recv_all("after my shutdown(RDWR)", s->fd);
		say_send("after my shutdown(RDWR)", s->fd, 10);
		barrier(s);
	} else {
		barrier(s);
		say_poll("the other is shut", s->fd, POLLRDHUP);
		say_recv_all("the other is shut", s->fd);
	}
	barrier(s);
}

/* What the survivor sees; the other ends in the manner given, having sent 1000 bytes. */
enum ending { BY_KILL, BY_EXIT, BY_CLOSE, BY_RESET };

static void end_me(struct scene *s, enum ending how)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	switch (how) {
	case BY_KILL:
		raise(SIGKILL);
		break;
	case BY_EXIT:
		_exit(0);
	case BY_RESET:
		if (setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0)
			die("setsockopt(SO_LINGER)");
		/* fallthrough */
	case BY_CLOSE:
		if (close(s->fd) < 0)
			die("close");
		break;
	}
	barrier(s);
}

static void death(struct scene *s, bool i_die, bool leave_unread, enum ending how)
{
	bool reset = leave_unread || how == BY_RESET;

	if (i_die) {
		send_exactly(s->fd, 1000);
		if (!leave_unread)
			recv_exactly(s->fd, 700);
		barrier(s);
		barrier(s);
		end_me(s, how);
		return;
	}
	send_exactly(s->fd, 700);
	barrier(s);
	barrier(s);
	say_poll("the other is gone", s->fd, reset ? POLLERR : POLLRDHUP);
	say_recv_all("the other is gone", s->fd);
	say_send("first", s->fd, 10);
	if (!reset)	/* that one brings the reset */
		say_poll("after a send to nobody", s->fd, POLLERR);
	say_send("second", s->fd, 10);
	say_so_error("in the end", s->fd);
	barrier(s);
}

static void kill_server(struct scene *s) { death(s, s->is_server, false, BY_KILL); }
static void kill_client(struct scene *s) { death(s, !s->is_server, false, BY_KILL); }
static void kill_server_unread(struct scene *s) { death(s, s->is_server, true, BY_KILL); }
static void kill_client_unread(struct scene *s) { death(s, !s->is_server, true, BY_KILL); }
static void exit_unread(struct scene *s) { death(s, s->is_server, true, BY_EXIT); }
static void close_read(struct scene *s) { death(s, s->is_server, false, BY_CLOSE); }
static void close_unread(struct scene *s) { death(s, s->is_server, true, BY_CLOSE); }
static void close_unread_client(struct scene *s) { death(s, !s->is_server, true, BY_CLOSE); }
static void linger_reset(struct scene *s) { death(s, s->is_server, false, BY_RESET); }
static void linger_reset_client(struct scene *s) { death(s, !s->is_server, false, BY_RESET); }

/* A pending error is told once, by getsockopt, and then recv knows only the end. */
static void reset_so_error(struct scene *s)
{
	if (s->is_server) {
		barrier(s);
		end_me(s, BY_RESET);
		return;
	}
	barrier(s);
	say_poll("reset", s->fd, POLLERR);
	say_so_error("first", s->fd);
	say_so_error("second", s->fd);
	say_recv_all("afterwards", s->fd);
	barrier(s);
}

/* exit at once after the last send: what was accepted is delivered */
static void exit_after_send(struct scene *s)
{
	if (s->is_server) {
		send_exactly(s->fd, 200000);
		_exit(0);
	}
	recv_exactly(s->fd, 200000);
	say_recv_all("after 200000 bytes", s->fd);
}

static void killed_while_other_receives(struct scene *s)
{
	if (s->is_server) {
		barrier(s);
		raise(SIGKILL);
	}
	barrier(s);
	say_recv_all("blocked", s->fd);
}

/* The writer fills everything there is and blocks; then the reader, who has read nothing, is killed. */
static void killed_while_other_sends(struct scene *s)
{
	static char buf[65536];
	ssize_t n;

	if (s->is_server) {
		recv_exactly(s->fd, 1000);
		other_sleeps(s);
		raise(SIGKILL);
	}
	send_exactly(s->fd, 1000);
	about_to_sleep(s);
	do {
		n = send(s->fd, buf, sizeof(buf), MSG_NOSIGNAL);
	} while (n > 0);
	say("blocked send ended: %zd %s", n, errno_name(errno));
	say_send("afterwards", s->fd, 10);
	say_poll("afterwards", s->fd, POLLHUP);
}

static volatile sig_atomic_t pipe_signals;
static void count_signal(int sig) { (void)sig; pipe_signals++; }

static void sigpipe_once_per_send(struct scene *s)
{
	char c = 0;
	int i;
	ssize_t n;

	if (s->is_server) {
		barrier(s);
		end_me(s, BY_RESET);
		return;
	}
	signal(SIGPIPE, count_signal);
	barrier(s);
	say_poll("reset", s->fd, POLLERR);
	say_so_error("reset", s->fd);
	for (i = 0; i < 3; i++) {
		n = write(s->fd, &c, 1);
		say("write: %zd %s, signals %d", n, n < 0 ? errno_name(errno) : "", (int)pipe_signals);
		n = send(s->fd, &c, 1, MSG_NOSIGNAL);
		say("send(NOSIGNAL): %zd %s, signals %d", n, n < 0 ? errno_name(errno) : "", (int)pipe_signals);
	}
	barrier(s);
}

static int tcp_state(int fd)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) < 0)
		die("getsockopt(TCP_INFO)");
	return ti.tcpi_state;
}

/*
 * The client has read next to nothing when both ends have shut down and its socket is in TCP_CLOSE: what lies
 * in the socket and what lies beyond it, in a ring if there is one, is all there, in order.
 */
static void read_after_both_fins(struct scene *s)
{
	int fd = unread_connection(s, 1000);

	barrier(s);
	if (s->is_server) {
		barrier(s);
		send_part(fd, 1000, 1000);
		if (shutdown(fd, SHUT_WR) < 0)
			die("shutdown");
		barrier(s);
		say_recv_all("the server", fd);
	} else {
		recv_exactly(fd, 1);
		barrier(s);
		barrier(s);
		if (shutdown(fd, SHUT_WR) < 0)
			die("shutdown");
		while (tcp_state(fd) != TCP_CLOSE)
			usleep(1000);
		recv_part(fd, 1, 1999);
		say("2000 bytes were right");
		say_recv_all("the client", fd);
	}
	barrier(s);
}

const struct scene_case scenes_end[] = {
	{ "shutdown_server_first", shutdown_server_first },
	{ "shutdown_client_first", shutdown_client_first },
	{ "shutdown_read", shutdown_read },
	{ "shutdown_both_at_once", shutdown_both_at_once },
	{ "kill_server", kill_server },
	{ "kill_client", kill_client },
	{ "kill_server_unread", kill_server_unread },
	{ "kill_client_unread", kill_client_unread },
	{ "exit_unread", exit_unread },
	{ "close_read", close_read },
	{ "close_unread", close_unread },
	{ "close_unread_client", close_unread_client },
	{ "linger_reset", linger_reset },
	{ "linger_reset_client", linger_reset_client },
	{ "reset_so_error", reset_so_error },
	{ "exit_after_send", exit_after_send },
	{ "killed_while_other_receives", killed_while_other_receives },
	{ "killed_while_other_sends", killed_while_other_sends },
	{ "sigpipe_once_per_send", sigpipe_once_per_send },
	{ "read_after_both_fins", read_after_both_fins },
	{ NULL, NULL },
};

/*
 * With XSHIM_FORCE_LEAVE=100000 the server asks to leave the ring, and the client begins to. Before the server has seen that, it
 * half-closes, which calls it off; then the client closes. What it had sent to begin with still lies in front of its FIN.
 */
static void leave_called_off(struct scene *s, bool shuts)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	if (s->is_server) {
		send_exactly(s->fd, 150000);
		barrier(s);
		barrier(s);
		if (shutdown(s->fd, SHUT_WR) < 0)
			die("shutdown");
		barrier(s);
		barrier(s);
		say_poll("the other is gone", s->fd, POLLRDHUP);
		say_recv_all("the other is gone", s->fd);
		say_so_error("in the end", s->fd);
	} else {
		barrier(s);
		recv_exactly(s->fd, 150000);
		say("nothing more: %d", poll(&p, 1, 0));
		barrier(s);
		barrier(s);
		say_recv_all("the end", s->fd);
		if (shuts ? shutdown(s->fd, SHUT_RDWR) : close(s->fd))
			die("close");
		barrier(s);
	}
	barrier(s);
}

static void leave_called_off_and_closed(struct scene *s) { leave_called_off(s, false); }
static void leave_called_off_and_shut(struct scene *s) { leave_called_off(s, true); }

/*
 * The server asks to leave, and the client begins to. The server answers, sends again what is unread on its ring, and more, and resets
 * the connection. All that lies in front of the RST.
 */
static void leave_answered_then_reset(struct scene *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	int left = 1;

	if (s->is_server) {
		send_exactly(s->fd, 150000);
		barrier(s);
		barrier(s);
		say("nothing: %d", poll(&p, 1, 0));
		send_part(s->fd, 150000, 1000);
		while (ioctl(s->fd, TIOCOUTQ, &left) == 0 && left)
			usleep(1000);
		if (setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) < 0)
			die("SO_LINGER");
		close(s->fd);
		barrier(s);
	} else {
		barrier(s);
		recv_exactly(s->fd, 145000);
		(void)poll(&p, 1, 0);
		barrier(s);
		barrier(s);
		recv_part(s->fd, 145000, 6000);
		say("all that was sent");
		say_recv_all("the other is gone", s->fd);
	}
	barrier(s);
}

const struct scene_case scenes_leave[] = {
	{ "leave_answered_then_reset", leave_answered_then_reset },
	{ "leave_called_off_and_closed", leave_called_off_and_closed },
	{ "leave_called_off_and_shut", leave_called_off_and_shut },
	{ NULL, NULL },
};
