#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A connection that is kept from the ring by what its process does says why: io_uring made by number or by liburing, asynchronous input and
# output, a stream, signal-driven input and output, a seccomp filter, kernel TLS, a descriptor that is passed on, Multipath TCP. Without that the same connection goes by ring. One that is to
# return to TCP while the other end is busy elsewhere does so when both come together again. And a number that was a TCP listener's when
# a stretch of numbers was closed is none any more: what is accepted by it later is no connection to show.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

SERVER='
import socket, sys, time
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
c, _ = s.accept()
while (data := c.recv(1000)):
    if data == b"busy":
        time.sleep(1.5)
    c.sendall(data)
'
# client ADDRESS PORT WHAT: does it, then sends to and fro until its input ends
CLIENT=$ROUND_TRIP'
import ctypes, fcntl, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
what = sys.argv[3]
early = socket.socket(proto=262 if what == "mptcp" else 0)
if what == "io-uring":
    number = libc.syscall(425, 4, ctypes.create_string_buffer(120))
    if number < 0 and ctypes.get_errno() not in (1, 38):
        sys.exit("io_uring_setup: errno %d" % ctypes.get_errno())
if what in ("liburing", "liburing-local"):
    ctypes.CDLL("liburing.so.2", mode=ctypes.RTLD_LOCAL if what == "liburing-local" else ctypes.RTLD_GLOBAL)
    # as a part of the program would find it
    rc = ctypes.CDLL(None).io_uring_queue_init(4, ctypes.create_string_buffer(1024), 0)
    if rc not in (0, -1):
        sys.exit("io_uring_queue_init: %d" % rc)
if what == "stdio":
    libc.fdopen.restype = ctypes.c_void_p
    if not libc.fdopen(early.fileno(), b"r+"):
        sys.exit("fdopen")
if what == "sigio":
    fcntl.fcntl(early, fcntl.F_SETFL, os.O_ASYNC)
early.connect((sys.argv[1], int(sys.argv[2])))
if what == "aio":
    control = ctypes.create_string_buffer(168)
    ctypes.c_int.from_buffer(control).value = early.fileno()
    libc.aio_read(control)
    while libc.aio_error(control) == 115:
        time.sleep(0.001)
if what == "ulp":
    try:
        early.setsockopt(socket.IPPROTO_TCP, 31, b"tls")
    except FileNotFoundError:   # a kernel without it
        pass
if what == "fd-passed":
    a, b = socket.socketpair()
    socket.send_fds(a, [b"x"], [early.fileno()])
if what == "seccomp":
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, struct.pack("HxxxxxxP", 1, ctypes.addressof(allow))):
        sys.exit("seccomp: errno %d" % ctypes.get_errno())
while not is_over():
    if what == "busy" and os.path.exists(sys.argv[4]):
        os.unlink(sys.argv[4])
        early.sendall(b"busy")
        early.setsockopt(socket.SOL_SOCKET, 29, 1)
        print("set", early.recv(100), flush=True)
        continue
    round_trip(early)
    time.sleep(0.001)
'

need python3
ns_up
daemon_start
PORT=7800

# shown REASON [WHO [HOW-MANY]]: the client's connection has it
shown() {
	"$XSHIM_TOOL" ss --json --pid="${JOB_PID[${2:-client}]}" |
		jq -e --arg r "$1" --argjson n "${3:-1}" '[.connections[] | select(.reason == $r)] | length == $n' >/dev/null
}

# both_ends WHAT: begin
both_ends() {
	ns_start server b shim "$PYTHON" -c "$SERVER" "$IP_B" $PORT
	wait_listen b $PORT
	held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$1" "$WORK/now"
	snapshot "$WORK/before.json"
}

ends_finish() {
	held_end
	job_ok client 20 "$1"
	job_wait server 20
	note "ok $1"
	PORT=$((PORT + 1))
}

export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
for what in ring io-uring liburing liburing-local stdio sigio aio seccomp ulp fd-passed mptcp; do
	why=$what
	case $what in
	liburing*)
		why=io-uring
		"$PYTHON" -c 'import ctypes; ctypes.CDLL("liburing.so.2")' 2>/dev/null ||
			{ note "$what: no liburing.so.2 (package liburing-dev)"; continue; }
		;;
	esac
	[ $what != mptcp ] || "$PYTHON" -c 'import socket; socket.socket(proto=262)' 2>/dev/null ||
		{ note "mptcp: not with this kernel"; continue; }
	both_ends $what
	wait_for 20 "the connection to show reason $why" shown $why
	wait_for 20 "more bytes" eval '[ "$(since "$WORK/before.json" .bytes.tcp_tx .bytes.ring_tx)" -gt 5000 ]'
	[ $what = ring ] || check_eq "$what: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
	shown $why || fail "the reason is not $why any more"
	ends_finish $what
done

# An echo server on liburing, whose first connection was on a ring before (tests/load/uring_echo.c).
TALKS='
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while not os.path.exists(sys.argv[3]):
    data, got = os.urandom(1000), b""
    s.sendall(data)
    while len(got) < 1000:
        more = s.recv(1000)
        if not more:
            sys.exit("the server has closed")
        got += more
    if got != data:
        sys.exit("what came back is not what was sent")
    time.sleep(0.001)
'
talker() {	# NAME
	ns_start "$1" a shim "$PYTHON" -c "$TALKS" "$IP_B" $PORT "$WORK/enough"
}
# more BYTES, from now on: none of them by ring
more_by_tcp() {
	snapshot "$WORK/before.json"
	wait_for 20 "bytes by TCP" eval '[ "$(since "$WORK/before.json" .bytes.tcp_tx)" -gt 20000 ]'
	check_eq "liburing: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
}
uring_server() {
	local cc who
	cc=$(command -v cc || command -v gcc) || { note "liburing, a server: no compiler"; return; }
	"$cc" -O2 -D_GNU_SOURCE -o "$WORK/uring_echo" "${srcdir:-$(dirname "$0")/..}/tests/load/uring_echo.c" -luring 2>"$WORK/cc.err" ||
		{ note "liburing, a server: cannot be built, no package liburing-dev: $(head -n 1 "$WORK/cc.err")"; return; }
	"$PYTHON" -c 'import ctypes, sys
sys.exit(ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120)) < 0)' ||
		{ note "liburing, a server: no io_uring to be had here"; return; }
	rm -f "$WORK/now" "$WORK/enough"
	ns_start server b shim "$WORK/uring_echo" "$IP_B" $PORT "$WORK/now"
	wait_listen b $PORT
	snapshot "$WORK/before.json"
	talker first
	wait_for 20 "the first to be on the ring" shown ring first
	wait_ring 5000
	: >"$WORK/now"
	wait_for 20 "the first to show reason io-uring" shown io-uring server
	wait_for 20 "the first to return to TCP" eval '[ "$("$XSHIM_TOOL" stat --json | jq .connections.on_ring)" = 0 ]'
	more_by_tcp
	talker second
	wait_for 20 "the second to show reason io-uring" shown io-uring server 2
	more_by_tcp
	# the kernel accepts it: there is nothing to show here, and no harm
	talker third
	wait_for 20 "the third" eval '[ "$("$XSHIM_TOOL" ss --json --pid="${JOB_PID[third]}" | jq ".connections | length")" = 1 ]'
	more_by_tcp
	: >"$WORK/enough"
	for who in first second third server; do
		job_ok $who 20 "liburing, the $who"
	done
	rm -f "$WORK/now"
	note "ok liburing, a server"
	PORT=$((PORT + 1))
}
uring_server

both_ends busy
wait_for 20 "the connection to be on the ring" shown ring
: >"$WORK/now"
wait_for 20 "the option to be set" grep -q "^set b'busy'" "$WORK/client.out"
snapshot "$WORK/before.json"
wait_for 20 "bytes by TCP" eval '[ "$(since "$WORK/before.json" .bytes.tcp_tx)" -gt 5000 ]'
shown oob || fail "the reason is not oob"
ends_finish busy

# NUMBERS CALL: a unix listener gets the number of a TCP one that CALL has closed; one comes in by it; then waits for its input's end
NUMBERS='
import ctypes, os, socket, sys
libc = ctypes.CDLL(None)
local = socket.socket(socket.AF_UNIX)
local.bind("\0" + sys.argv[1] + str(os.getpid()))
local.listen()
a, b = socket.socketpair()
n = socket.create_server(("127.0.0.1", 0)).detach()
if sys.argv[1] == "closefrom":
    libc.closefrom(n)
else:
    libc.close_range(n, n, 0)
socket.send_fds(a, [b"x"], [local.fileno()])
fds = socket.recv_fds(b, 1, 1)[1]
if fds != [n]:
    sys.exit("%s instead of %d" % (fds, n))
listener, there = socket.socket(fileno=n), socket.socket(socket.AF_UNIX)
there.connect(local.getsockname())
here = listener.accept()
print("accepted", flush=True)
sys.stdin.readline()
'
for how in close_range closefrom; do
	held_start client a shim "$PYTHON" -c "$NUMBERS" $how
	wait_for 20 "the unix connection" grep -qx accepted "$WORK/client.out"
	wait_for 10 "$how: no connection to be open" eval '[ "$("$XSHIM_TOOL" stat --json | jq .connections.open)" = 0 ]'
	held_end
	job_ok client 20 "$how"
	note "ok $how"
done

# Turned away at the door: a process of a user with as many control connections as he may have. Its parent has one, and shows both.
TURNED_AWAY=$ROUND_TRIP'
import os, socket, sys, time
os.setresuid(65534, 65534, 65534)
def talk():
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    while not is_over():
        round_trip(s)
        time.sleep(0.001)
first = socket.create_connection((sys.argv[1], int(sys.argv[2])))
child = os.fork()
if not child:
    first.close()
    talk()
    os._exit(0)
print(child, flush=True)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
'
TWO='
import os, socket, sys, threading
os.setresuid(65533, 65533, 65533)
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
def echo(c):
    while (data := c.recv(1000)):
        c.sendall(data)
all = [threading.Thread(target=echo, args=(s.accept()[0],)) for i in (1, 2)]
for t in all: t.start()
for t in all: t.join()
'
daemon_stop
printf 'max_connections = 1\n' >"$WORK/xshimd.conf"
daemon_start --config="$WORK/xshimd.conf"
ns_start server b shim "$PYTHON" -c "$TWO" "$IP_B" $PORT
wait_listen b $PORT
held_start client a shim "$PYTHON" -c "$TURNED_AWAY" "$IP_B" $PORT
wait_for 20 "the child" test -s "$WORK/client.out"
says() {
	"$XSHIM_TOOL" ss --json --pid="$(cat "$WORK/client.out")" |
		jq -e --arg r "$1" '[.connections[] | select(.reason == $r)] | length == 1' >/dev/null
}
wait_for 20 "the child's connection to show reason quota" says quota
ends_finish quota
