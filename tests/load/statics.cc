// SPDX-License-Identifier: MIT
//
// statics.cc - a C++ program whose static objects connect before main() and talk on after it. STATICS in the environment:
// "server|client ADDRESS PORT GO-FILE". The client sends single bytes to and fro until GO-FILE exists.
#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <netinet/tcp.h>
#include <sstream>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

static void must(bool good, const char *what)
{
	if (!good) {
		perror(what);
		_exit(3);
	}
}

class talker {
public:
	talker()
	{
		std::istringstream words(getenv("STATICS") ? getenv("STATICS") : "");
		std::string role, address, go;
		sockaddr_in at = {};
		int port, one = 1;

		must(bool(words >> role >> address >> port >> go), "STATICS");
		server = role == "server";
		at.sin_family = AF_INET;
		at.sin_port = htons(uint16_t(port));
		must(inet_pton(AF_INET, address.c_str(), &at.sin_addr) == 1, "address");
		int s = socket(AF_INET, SOCK_STREAM, 0);
		if (server) {
			setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
			must(bind(s, reinterpret_cast<sockaddr *>(&at), sizeof(at)) == 0 && listen(s, 1) == 0, "listen");
			fd = accept(s, nullptr, nullptr);
			close(s);
		} else {
			must(connect(s, reinterpret_cast<sockaddr *>(&at), sizeof(at)) == 0, "connect");
			fd = s;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		warm_up(go);
		talk("before main");
	}

	~talker()
	{
		talk("after main");
		close(fd);
		std::cout << "closed" << std::endl;
	}

	void talk(const char *when)
	{
		if (server) {
			get(50000, 'c');
			put(50000, 's');
		} else {
			put(50000, 'c');
			get(50000, 's');
		}
		std::cout << when << ": talked" << std::endl;
	}

private:
	void warm_up(const std::string &go)
	{
		char c = 'w';

		while (c != 'x') {
			if (!server) {
				usleep(1000);
				c = access(go.c_str(), F_OK) ? 'w' : 'x';
				must(send(fd, &c, 1, 0) == 1, "send");
			}
			char got = 0;
			must(recv(fd, &got, 1, 0) == 1, "recv");
			if (server) {
				c = got;
				must(send(fd, &c, 1, 0) == 1, "send");
			}
		}
	}

	void put(size_t n, char c)
	{
		std::string s(n, c);
		must(send(fd, s.data(), n, 0) == ssize_t(n), "send");
	}

	void get(size_t n, char c)
	{
		std::vector<char> buf(n);
		for (size_t done = 0; done < n;) {
			ssize_t k = recv(fd, buf.data(), n - done, 0);
			must(k > 0, "recv");
			for (ssize_t i = 0; i < k; i++)
				must(buf[size_t(i)] == c, "a byte");
			done += size_t(k);
		}
	}

	int fd;
	bool server;
};

static talker before_and_after;

int main()
{
	before_and_after.talk("in main");
	return 0;
}
