#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A daemon that cannot be worked with: fake_daemon.py SOCKET refuse|newer|silent|close

refuse  answers HELLO with REFUSED, because it speaks version 3 only
newer   answers HELLO with a WELCOME of version 3, longer than ours and without a map
silent  accepts and reads, and never answers
close   closes each connection as soon as HELLO has come

Prints one line for each HELLO it gets, so that a test can see that somebody asked.
"""
import selectors
import socket
import struct
import sys

MAGIC = 0x58534843
HELLO, WELCOME, REFUSED = 1, 2, 3
REASON_VERSION = 3
THEIR_VERSION = 9


def header(kind, length):
    return struct.pack("=IHHII", MAGIC, THEIR_VERSION, kind, length, 0)


def answer(mode, conn):
    if mode == "refuse":
        conn.send(header(REFUSED, 24) + struct.pack("=IHH", REASON_VERSION, THEIR_VERSION, THEIR_VERSION))
    elif mode == "newer":
        conn.send(header(WELCOME, 96) + bytes(80))
    return mode == "silent"


def main():
    path, mode = sys.argv[1:3]
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(path)
    server.listen(64)
    sel = selectors.DefaultSelector()
    sel.register(server, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in sel.select():
            if key.fileobj is server:
                sel.register(server.accept()[0], selectors.EVENT_READ)
                continue
            conn = key.fileobj
            try:
                data, _, _, _ = socket.recv_fds(conn, 4096, 8)
                if len(data) >= 8 and struct.unpack("=IHH", data[:8])[2] == HELLO:
                    print("hello", flush=True)
                keep = data and answer(mode, conn)
            except OSError:
                keep = False
            if not keep:
                sel.unregister(conn)
                conn.close()


main()
