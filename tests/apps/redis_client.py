#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""redis_client.py HOST PORT COUNT: a subscriber that gets COUNT messages from another connection, a thread that pops
COUNT values, blocking, which another pushes, and a pipeline of 2000 requests; prints how many came, in order."""
import socket
import sys
import threading


class Conn:
    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port), timeout=60)
        self.file = self.sock.makefile("rb")

    def send(self, *words):
        self.sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        raise AssertionError(f"the server says {line!r}")


def subscribe(conn, count, got):
    for i in range(count):
        kind, _, data = conn.reply()
        assert kind == b"message" and data == b"m%d" % i, (kind, data, i)
        got["messages"] = i + 1


def pop(conn, count, got):
    for i in range(count):
        conn.send(b"BLPOP", b"list", b"30")
        _, data = conn.reply()
        assert data == b"v%d" % i, (data, i)
        got["popped"] = i + 1


def main():
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    got = {"messages": 0, "popped": 0}
    subscriber, popper, writer = (Conn(host, port) for _ in range(3))
    subscriber.send(b"SUBSCRIBE", b"news")
    subscriber.reply()
    threads = [threading.Thread(target=subscribe, args=(subscriber, count, got)),
               threading.Thread(target=pop, args=(popper, count, got))]
    for t in threads:
        t.start()
    for i in range(count):
        writer.send(b"PUBLISH", b"news", b"m%d" % i)
        assert writer.reply() == 1
        writer.send(b"RPUSH", b"list", b"v%d" % i)
        writer.reply()
    for t in threads:
        t.join()
    for i in range(2000):
        writer.send(b"ECHO", b"%d" % i)
    pipelined = sum(writer.reply() == b"%d" % i for i in range(2000))
    print(f"messages {got['messages']} popped {got['popped']} pipelined {pipelined}")


main()
