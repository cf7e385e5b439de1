# SPDX-License-Identifier: MIT
"""The rows of the table: what bench.sh measures under a key, in which unit, and what is asked of it.

ratio       xshim against plain TCP, at least; above 1 is better, whichever way the unit goes
of_ring     against the bare ring: at most so many times its time, or at least this part of its rate
at_most     the figure itself
added       xshim less plain, at most
by_ring     how much of the bytes are meant to go by ring, in per cent; 0: none; None: it does not matter.
            Where there are many connections or few round trips, the first of each go by TCP.
"""
import collections

Row = collections.namedtuple("Row", "key label unit better ratio of_ring at_most added by_ring",
                             defaults=(None, None, None, None, 97))


def size(text, key, ratio):
    return Row("stream." + key, f"stream of {text} messages", "MB/s", "high", ratio=ratio, of_ring=0.7)


ROWS = [
    Row("rr.p50", "64 B round trip, p50", "us", "low", ratio=20, of_ring=1.5),
    Row("rr.p99", "64 B round trip, p99", "us", "low"),
    Row("paced.p50", "one each millisecond, p50", "us", "low", ratio=1.25, by_ring=90),
    Row("paced.p99", "one each millisecond, p99", "us", "low", ratio=1, by_ring=90),
    Row("onecpu.p50", "both ends on one processor, p50", "us", "low", ratio=2.2),
    Row("epoll.p50", "through epoll, 1 connection, p50", "us", "low", ratio=15),
    Row("many.1", "epoll server, 1 connection", "K/s", "high"),
    Row("many.16", "epoll server, 16 connections", "K/s", "high", ratio=3),
    Row("many.256", "epoll server, 256 connections", "K/s", "high", ratio=3, by_ring=90),
    Row("many.4096", "epoll server, 4096 connections", "K/s", "high", ratio=3, by_ring=50),
    Row("many.flat", "  most to least of these three", "x", "low", at_most=1.25),
    size("64 B", "64", 10),
    size("1 KiB", "1024", 25),
    size("16 KiB", "16384", 6),
    size("64 KiB", "65536", 2.2),
    size("1 MiB", "1048576", 2.3),
    Row("crr", "connect, request, reply, close", "1/s", "high", ratio=0.97, by_ring=None),
    Row("redis.1", "redis GET, 1 client", "K/s", "high", ratio=3),
    Row("redis.50", "redis GET, 50 clients", "K/s", "high", ratio=3),
    Row("redis.50p16", "redis GET, 50 clients, 16 at once", "K/s", "high", ratio=1.1),
    Row("nginx.64", "nginx and wrk, 64 B", "K/s", "high", ratio=1.8),
    Row("nginx.16384", "nginx and wrk, 16 KiB", "K/s", "high", ratio=2.5),
    Row("nginx.1048576", "nginx and wrk, 1 MiB (sendfile)", "K/s", "high", ratio=1),
    Row("nginx.close", "nginx and wrk, 64 B, then closed", "K/s", "high", ratio=0.97, by_ring=None),
    Row("idle.cpu", "1,000 idle connections, processor", "us/s", "low", at_most=100, by_ring=None),
    Row("idle.mem", "  memory of one of them, both ends", "KiB", "low", by_ring=70),
    Row("off.rr", "not on this machine: 64 B round trip", "us", "low", ratio=0.98, by_ring=0),
    Row("off.stream", "not on this machine: 1 KiB stream", "MB/s", "high", ratio=0.98, by_ring=0),
    Row("off.crr", "not on this machine: connections", "1/s", "high", ratio=0.98, by_ring=0),
    Row("fd.pipe", "64 B read or write of a pipe", "ns", "low", added=10, by_ring=None),
    Row("fd.file", "64 B read or write of a file", "ns", "low", added=10, by_ring=None),
    Row("steps.send", "instructions of a 64 B send", "", "low", by_ring=50),
    Row("steps.recv", "instructions of a 64 B recv", "", "low", by_ring=50),
    Row("steps.sum", "instructions of both", "", "low", at_most=250, by_ring=50),
    Row("size.64", "round trip of 64 B", "us", "low"),
    Row("size.1024", "round trip of 1 KiB", "us", "low"),
    Row("size.16384", "round trip of 16 KiB", "us", "low"),
    Row("size.65536", "round trip of 64 KiB", "us", "low"),
    Row("size.1048576", "round trip of 1 MiB", "us", "low"),
]

COLUMNS = ["plain", "xshim", "unix", "ring", "sockmap"]
COLUMN_NAMES = {
    "plain": "TCP over veth", "xshim": "xshim", "unix": "unix socket", "ring": "bare ring", "sockmap": "sockmap",
}
