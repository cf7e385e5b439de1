#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A connection that is closed while xshimd has not read yet what it was sent of it, a descriptor of its socket: it ends at once, by FIN or
# RST as over plain TCP, and not when xshimd comes to it; and it does not end as long as somebody else has it open. So does one whose
# program ends, by _exit, by exit or by a return from main(), after all that it still sends on the way. xshimd is stopped just before the
# offer. Whether the offer was still sent is counted, since a xshimd that has not been heard for 100 ms gets none.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

PORT=7800

# server ADDRESS PORT: the first connection is told how each other one ends, or that it has not within a second
SERVER='
import select, socket, sys
def end_of(c):
    c.settimeout(1)
    got = b""
    while True:
        try:
            data = c.recv(100)
        except socket.timeout:
            return "%s, then nothing for a second" % got
        except OSError as e:
            return "%s, then %s" % (got, e.strerror)
        if not data:
            return "%s, then the end" % got
        if data == b"send":
            c.sendall(b"unread")
            continue
        got += data
        if got.endswith(b"still"):
            return "%s, still open" % got
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
first, _ = listener.accept()
while True:
    word = first.recv(10)
    if not word:
        break
    first.sendall(word)
    if word != b"go":
        continue
    c = listener.accept()[0]
    end = end_of(c)
    print(end, flush=True)
    try:
        first.sendall(end.encode())
        word = first.recv(10)
    except OSError:
        break
    if word == b"more":
        first.sendall(end_of(c).encode())
    c.close()
'
# client ADDRESS PORT HOW XSHIMD: 0 when there is none
CLIENT='
import array, ctypes, os, select, signal, socket, struct, sys, time
address, how, daemon = (sys.argv[1], int(sys.argv[2])), sys.argv[3], int(sys.argv[4])
def is_on_ring():
    return any(" r--s " in line and "xshim-ring" in line for line in open("/proc/self/maps"))
first = socket.create_connection(address)
until = time.monotonic() + 20
while daemon and not is_on_ring() and time.monotonic() < until:
    first.sendall(b"ping")
    first.recv(10)
# xshimd has been heard just now
first.sendall(b"go")
first.recv(10)
if daemon:
    os.kill(daemon, signal.SIGSTOP)
try:
    c = socket.create_connection(address)
    if how.endswith("unread"):
        c.sendall(b"send")
        select.select([c], [], [], 10)
    elif how.endswith("linger"):
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if not how.endswith("unread"):
        c.sendall(b"bytes")
    child = 0
    go, tell = os.pipe()
    if how == "fork":
        child = os.fork()
        if not child:
            os.read(go, 1)
            c.sendall(b"still")
            os._exit(0)
    elif how == "passed":
        here, there = socket.socketpair()
        here.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [c.fileno()]))])
    elif how in ("dup", "exit-dup"):
        kept = c.dup()
    elif how == "child-exit":
        child = os.fork()
        if not child:
            os.read(go, 1)
            os._exit(0)
        c.close()
        os.write(tell, b"x")
        os.waitpid(child, 0)
    libc = ctypes.CDLL(None)
    if how.endswith("handler"):
        # sends from a handler of the program, which is to be called last of all
        late = ctypes.CFUNCTYPE(None)(lambda: c.sendall(b" late"))
        libc.__cxa_atexit(late, None, None)
    elif how.endswith("stdout"):
        # what is in its buffer goes when that is flushed
        out = os.dup(1)
        os.dup2(c.fileno(), 1)
        c.close()
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        room = ctypes.create_string_buffer(4096)
        libc.setvbuf(stdout, room, 0, 4096)	# _IOFBF
        libc.printf(b" late")
    if how == "fclose-stdout":
        closed = libc.fclose(stdout)
        os.write(out, b"%d " % closed + first.recv(100))
        os._exit(3)
    if how.startswith("return"):
        libc.exit(3)		# as from main()
    if how.startswith("quick"):
        libc.quick_exit(3)
    if how.startswith("exit"):
        if how.endswith("syscall"):
            ctypes.CDLL(None).syscall(231 if os.uname().machine == "x86_64" else 94, 3)	# exit_group
        os._exit(3)
    c.close()
    if how in ("fork", "passed", "dup"):
        print(first.recv(100).decode())
        first.sendall(b"more")
        if how == "fork":
            os.write(tell, b"x")
            os.waitpid(child, 0)
        elif how == "passed":
            fds = array.array("i")
            _, anc, _, _ = there.recvmsg(1, 100)
            fds.frombytes(anc[0][2])
            socket.socket(fileno=fds[0]).sendall(b"still")
        else:
            kept.sendall(b"still")
    print(first.recv(100).decode())
finally:
    if daemon:
        os.kill(daemon, signal.SIGCONT)
'

# play P HOW DAEMON KEPT
play() {
	ns_start server b "$1" "$PYTHON" -c "$SERVER" "$IP_B" $PORT
	wait_listen b $PORT
	ns_start client a "$1" "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$2" "$3"
	job_wait_quiet client 30
	echo "status $STATUS" >"$WORK/$4"
	cat "$WORK"/client.{out,err} >>"$WORK/$4"
	job_wait server 30
	cat "$WORK"/server.{out,err} >>"$WORK/$4"
	[ "$3" = 0 ] || kill -CONT "$3"		# who ended by _exit has not
	PORT=$((PORT + 1))
}

ns_up
daemon_start
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
# a checker of threads makes one of its own, and a program with threads does not end its connections itself at exit
case $XSHIM_PRELOAD in *libtsan*) RETURNS= ;; *) RETURNS='return return-unread return-linger return-handler return-stdout quick-exit' ;; esac
for how in ${*:-plain unread linger fork passed dup exit exit-unread exit-linger exit-dup exit-syscall child-exit fclose-stdout $RETURNS}; do
	play env "$how" 0 plain
	for ((try = 0; ; try++)); do
		[ $try -lt 30 ] || fail "$how: xshimd was sent nothing in 30 attempts"
		snapshot "$WORK/before.json"
		play shim "$how" "${JOB_PID[daemon]}" ring
		diff -U1 "$WORK/plain" "$WORK/ring" >&2 || fail "$how: plain TCP (-) and while xshimd holds the descriptor (+)"
		[ "$(since "$WORK/before.json" .daemon.offers)" -lt 2 ] || break
	done
	note "ok $how: $(xargs <"$WORK/plain")"
done
