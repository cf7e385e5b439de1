#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""python_server.py KIND HOST PORT: forking, threading and asyncio answer each line "N" with N random-looking bytes that
follow from N and the connection's number of lines; manager is a multiprocessing manager that keeps a dictionary and a queue.
python_server.py KIND client HOST PORT COUNT: asks COUNT times on each of four connections; prints the sum of the answers."""
import asyncio
import hashlib
import multiprocessing
import multiprocessing.managers
import os
import queue
import signal
import socket
import socketserver
import struct
import sys
import threading

CLIENTS = 4
SIZES = (1, 10, 300, 5000, 70000)


def answer(n, line):
    return hashlib.shake_128(struct.pack("<II", n, line)).digest(n)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line, text in enumerate(self.rfile):
            self.wfile.write(answer(int(text), line))


class Forking(socketserver.ForkingTCPServer):
    allow_reuse_address = True


class Threading(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


async def stream(reader, writer):
    line = 0
    while text := await reader.readline():
        writer.write(answer(int(text), line))
        await writer.drain()
        line += 1
    writer.close()
    await writer.wait_closed()


async def serve_asyncio(host, port):
    server = await asyncio.start_server(stream, host, port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    try:
        async with server:
            await server.serve_forever()
    except asyncio.CancelledError:
        pass


class Manager(multiprocessing.managers.BaseManager):
    pass


def serve_manager(host, port):
    table, things = {}, queue.Queue()
    Manager.register("table", callable=lambda: table, proxytype=multiprocessing.managers.DictProxy)
    Manager.register("things", callable=lambda: things)
    Manager((host, port), b"key").get_server().serve_forever()


def serve(kind, host, port):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if kind == "asyncio":
        asyncio.run(serve_asyncio(host, port))
    elif kind == "manager":
        serve_manager(host, port)
    else:
        with {"forking": Forking, "threading": Threading}[kind]((host, port), Handler) as server:
            server.serve_forever()


def check(number, line, data, total):
    if data != answer(SIZES[(line + number) % len(SIZES)], line):
        raise AssertionError(f"line {line} of connection {number}: not what was asked for")
    total.update(data)


async def ask_asyncio(number, host, port, count, sums):
    total = hashlib.sha256()
    reader, writer = await asyncio.open_connection(host, port)
    for line in range(count):
        n = SIZES[(line + number) % len(SIZES)]
        writer.write(b"%d\n" % n)
        check(number, line, await reader.readexactly(n), total)
    writer.write_eof()
    if await reader.read():
        raise AssertionError("bytes after the last answer")
    writer.close()
    await writer.wait_closed()
    sums[number] = total.hexdigest()


def ask(number, host, port, count, sums):
    total = hashlib.sha256()
    with socket.create_connection((host, port), timeout=60) as sock, sock.makefile("rb") as file:
        for line in range(count):
            n = SIZES[(line + number) % len(SIZES)]
            sock.sendall(b"%d\n" % n)
            check(number, line, file.read(n), total)
        sock.shutdown(socket.SHUT_WR)
        if file.read():
            raise AssertionError("bytes after the last answer")
    sums[number] = total.hexdigest()


def put(number, host, port, count):
    manager = Manager((host, port), b"key")
    manager.connect()
    table, things = manager.table(), manager.things()
    for line in range(count):
        n = SIZES[(line + number) % len(SIZES)]
        table.update({(number, line % 50): answer(n, line)})
        things.put(n)


def use_manager(host, port, count):
    Manager.register("table", proxytype=multiprocessing.managers.DictProxy)
    Manager.register("things")
    workers = [multiprocessing.Process(target=put, args=(n, host, port, count)) for n in range(CLIENTS)]
    for w in workers:
        w.start()
    manager = Manager((host, port), b"key")
    manager.connect()
    table, things = manager.table(), manager.things()
    print("taken", sum(things.get() for _ in range(CLIENTS * count)))
    for w in workers:
        w.join()
    print("ended", [w.exitcode for w in workers])
    total = hashlib.sha256()
    for key in sorted(table.keys()):
        total.update(table.get(key))
    print("sum", total.hexdigest())


def client(kind, host, port, count):
    sums = {}
    if kind == "manager":
        use_manager(host, port, count)
        return
    if kind == "asyncio":
        async def everybody():
            await asyncio.gather(*(ask_asyncio(n, host, port, count, sums) for n in range(CLIENTS)))
        asyncio.run(everybody())
    else:
        threads = [threading.Thread(target=ask, args=(n, host, port, count, sums)) for n in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    for n in range(CLIENTS):
        print(sums[n])


if sys.argv[2] == "client":
    client(sys.argv[1], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
