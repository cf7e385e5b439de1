/* SPDX-License-Identifier: MIT */
/* words.c - flags, masks, options and errors by their names. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "player.h"

struct word {
	const char *text;
	unsigned int bit;
};

static const struct word message_flags[] = {
	{ "OOB", MSG_OOB }, { "PEEK", MSG_PEEK }, { "DONTROUTE", MSG_DONTROUTE }, { "CTRUNC", MSG_CTRUNC },
	{ "TRUNC", MSG_TRUNC }, { "DONTWAIT", MSG_DONTWAIT }, { "EOR", MSG_EOR }, { "WAITALL", MSG_WAITALL },
	{ "CONFIRM", MSG_CONFIRM }, { "ERRQUEUE", MSG_ERRQUEUE }, { "NOSIGNAL", MSG_NOSIGNAL },
	{ "MORE", MSG_MORE }, { "WAITFORONE", MSG_WAITFORONE }, { "CMSG_CLOEXEC", MSG_CMSG_CLOEXEC },
	{ "ZEROCOPY", MSG_ZEROCOPY }, { "FASTOPEN", MSG_FASTOPEN }, { "UNKNOWN", 0x800000 },
	{ "COMPAT", 0x80000000u }, { NULL, 0 },
};
static const struct word poll_bits[] = {
	{ "IN", POLLIN }, { "PRI", POLLPRI }, { "OUT", POLLOUT }, { "RDHUP", POLLRDHUP }, { "ERR", POLLERR },
	{ "HUP", POLLHUP }, { "NVAL", POLLNVAL }, { "RDNORM", POLLRDNORM }, { "RDBAND", POLLRDBAND },
	{ "WRNORM", POLLWRNORM }, { "WRBAND", POLLWRBAND }, { NULL, 0 },
};
static const struct word epoll_bits[] = {
	{ "IN", EPOLLIN }, { "PRI", EPOLLPRI }, { "OUT", EPOLLOUT }, { "RDHUP", EPOLLRDHUP },
	{ "ERR", EPOLLERR }, { "HUP", EPOLLHUP }, { "RDNORM", EPOLLRDNORM }, { "RDBAND", EPOLLRDBAND },
	{ "WRNORM", EPOLLWRNORM }, { "WRBAND", EPOLLWRBAND }, { "ET", EPOLLET },
	{ "ONESHOT", EPOLLONESHOT }, { "EXCLUSIVE", EPOLLEXCLUSIVE }, { "WAKEUP", EPOLLWAKEUP }, { NULL, 0 },
};
static const struct word open_flags[] = {
	{ "NONBLOCK", SOCK_NONBLOCK }, { "CLOEXEC", SOCK_CLOEXEC }, { "UNKNOWN", 0x4 }, { NULL, 0 },
};
static const struct word *const tables[] = {
	[MESSAGE_FLAGS] = message_flags, [POLL_BITS] = poll_bits, [EPOLL_BITS] = epoll_bits, [OPEN_FLAGS] = open_flags,
};

unsigned int bits_from(enum table t, const char *list)
{
	char copy[LINE], *word, *save = NULL;
	unsigned int bits = 0;
	const struct word *w;

	snprintf(copy, sizeof(copy), "%s", list);
	for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (!strcmp(word, "0") || !strcmp(word, "-"))
			continue;
		for (w = tables[t]; w->text && strcmp(w->text, word); w++)
			;
		if (!w->text)
			die("'%s' is no flag here", word);
		bits |= w->bit;
	}
	return bits;
}

void bits_to(enum table t, unsigned int bits, char *out, size_t room)
{
	const struct word *w;
	size_t used = 0;

	out[0] = 0;
	for (w = tables[t]; w->text; w++) {
		if (!(bits & w->bit))
			continue;
		bits &= ~w->bit;
		used += (size_t)snprintf(out + used, room - used, "%s%s", used ? "," : "", w->text);
		if (used >= room)
			return;
	}
	if (bits)
		snprintf(out + used, room - used, "%s%#x", used ? "," : "", bits);
	else if (!used)
		snprintf(out, room, "0");
}

const char *errno_word(int err)
{
	const char *name = strerrorname_np(err);

	return name ? name : "unknown error";
}

const char *state_word(unsigned int s)
{
	static const char *const names[] = { "0", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1",
					     "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
					     "LISTEN", "CLOSING" };

	return s < sizeof(names) / sizeof(names[0]) ? names[s] : "?";
}

bool option_named(const char *name, int *level, int *number)
{
	static const struct {
		const char *text;
		int level, number;
	} options[] = {
		{ "SO_ERROR", SOL_SOCKET, SO_ERROR }, { "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT },
		{ "SO_SNDLOWAT", SOL_SOCKET, SO_SNDLOWAT }, { "SO_TYPE", SOL_SOCKET, SO_TYPE },
		{ "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE }, { "SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR },
		{ "SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE }, { "SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN },
		{ "SO_SNDBUF", SOL_SOCKET, SO_SNDBUF }, { "SO_RCVBUF", SOL_SOCKET, SO_RCVBUF },
		{ "SO_DOMAIN", SOL_SOCKET, SO_DOMAIN }, { "SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL },
		{ "SO_PRIORITY", SOL_SOCKET, SO_PRIORITY }, { "SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY },
		{ "SO_BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL }, { "SO_PEEK_OFF", SOL_SOCKET, SO_PEEK_OFF },
		{ "SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP }, { "SO_BROADCAST", SOL_SOCKET, SO_BROADCAST },
		{ "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY }, { "TCP_CORK", IPPROTO_TCP, TCP_CORK },
		{ "TCP_QUICKACK", IPPROTO_TCP, TCP_QUICKACK }, { "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE },
		{ "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT }, { "TCP_INQ", IPPROTO_TCP, TCP_INQ },
		{ "TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT },
		{ "TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN }, { "TCP_FASTOPEN_CONNECT", IPPROTO_TCP, TCP_FASTOPEN_CONNECT },
		{ "TCP_ULP", IPPROTO_TCP, TCP_ULP }, { "TCP_REPAIR", IPPROTO_TCP, TCP_REPAIR }, { "SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT },
		{ "TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG }, { "TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2 },
		{ "TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT }, { "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL },
		{ "TCP_WINDOW_CLAMP", IPPROTO_TCP, TCP_WINDOW_CLAMP }, { "SO_INCOMING_CPU", SOL_SOCKET, SO_INCOMING_CPU },
		{ "SO_MARK", SOL_SOCKET, SO_MARK }, { "SO_DONTROUTE", SOL_SOCKET, SO_DONTROUTE }, { "IP_TTL", IPPROTO_IP, IP_TTL },
		{ "IP_RECVERR", IPPROTO_IP, IP_RECVERR }, { "SO_ATTACH_FILTER", SOL_SOCKET, SO_ATTACH_FILTER },
		{ "TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT }, { "IP_TOS", IPPROTO_IP, IP_TOS },
		{ "UNKNOWN", SOL_SOCKET, 12345 },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (strcmp(options[i].text, name))
			continue;
		*level = options[i].level;
		*number = options[i].number;
		return true;
	}
	return false;
}
