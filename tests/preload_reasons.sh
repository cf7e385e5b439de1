#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A connection that is kept from the ring by what its process does says why: io_uring made by number, asynchronous input and
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

# shown REASON: the client's connection has it
shown() {
	"$XSHIM_TOOL" ss --json --pid="${JOB_PID[client]}" |
		jq -e --arg r "$1" '[.connections[] | select(.reason == $r)] | length == 1' >/dev/null
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
for what in ring io-uring stdio sigio aio seccomp ulp fd-passed mptcp; do
	[ $what != mptcp ] || "$PYTHON" -c 'import socket; socket.socket(proto=262)' 2>/dev/null ||
		{ note "mptcp: not with this kernel"; continue; }
	both_ends $what
	wait_for 20 "the connection to show reason $what" shown $what
	wait_for 20 "more bytes" eval '[ "$(since "$WORK/before.json" .bytes.tcp_tx .bytes.ring_tx)" -gt 5000 ]'
	[ $what = ring ] || check_eq "$what: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
	shown $what || fail "the reason is not $what any more"
	ends_finish $what
done

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
