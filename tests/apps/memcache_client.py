#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""memcache_client.py HOST PORT THREADS ROUNDS: each thread stores, reads back, swaps and counts over a connection of
its own, one request at a time and many at once; all add to one counter. Prints what each thread read, as a sum, and the counter."""
import hashlib
import random
import socket
import sys
import threading


class Conn:
    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb", buffering=65536)

    def ask(self, data):
        self.sock.sendall(data)
        return self.line()

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server has closed the connection")
        return line[:-2]

    def values(self):
        """the answer to get or gets: name, version and data of each"""
        while (line := self.line()) != b"END":
            word = line.split()
            data = self.file.read(int(word[3]) + 2)[:-2]
            yield word[1], word[4] if len(word) > 4 else b"", data


def want(got, expected, what):
    if got != expected:
        raise AssertionError(f"{what}: {got[:60]!r} instead of {expected[:60]!r}")


def work(number, host, port, rounds, results):
    rng = random.Random(number)
    conn = Conn(host, port)
    total = hashlib.sha256()
    for r in range(rounds):
        kept = {}
        for k in range(20):
            key = b"t%d-%d" % (number, k)
            kept[key] = rng.randbytes(rng.choice((1, 100, 2000, 30000)) if k or not r else 500000)
            want(conn.ask(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(kept[key]), kept[key])), b"STORED", "set")
        conn.sock.sendall(b"gets %s\r\n" % b" ".join(kept))
        version = {}
        for key, unique, data in conn.values():
            want(data, kept[key], "gets")
            version[key] = unique
            total.update(data)
        want(b"%d" % len(version), b"20", "values found")
        key = b"t%d-3" % number
        want(conn.ask(b"cas %s 0 0 3 %s\r\nnew\r\n" % (key, version[key])), b"STORED", "cas")
        want(conn.ask(b"cas %s 0 0 3 %s\r\nold\r\n" % (key, version[key])), b"EXISTS", "a second cas")
        # many requests under way at once, some of which are not answered
        conn.sock.sendall(b"".join(b"set p%d-%d 0 0 4 noreply\r\n%04d\r\nget p%d-%d\r\nincr all 1\r\n"
                                   % (number, i, i, number, i) for i in range(200)))
        for i in range(200):
            found = list(conn.values())
            want(found[0][2], b"%04d" % i, "a value just stored")
            total.update(found[0][2])
            int(conn.line())
    conn.sock.close()
    results[number] = total.hexdigest()


def main():
    host, port, threads, rounds = sys.argv[1], *map(int, sys.argv[2:])
    conn = Conn(host, port)
    want(conn.ask(b"set all 0 0 1\r\n0\r\n"), b"STORED", "set")
    results = {}
    workers = [threading.Thread(target=work, args=(n, host, port, rounds, results)) for n in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for n in range(threads):
        print(results[n])
    conn.sock.sendall(b"get all\r\n")
    print(int(list(conn.values())[0][2]))


main()
