#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The first connections of a process, made by several threads at once, all come onto the ring: none is left without a place
# in the counters, and so without a ring for life, because another thread is at making that place.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

THREADS=8
ROUNDS=10

SERVER='
import socket, sys, threading
def echo(c):
    while (data := c.recv(1000)):
        c.sendall(data)
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=100)
while True:
    threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
'
# client ADDRESS PORT THREADS: each makes a connection when all are ready, and sends to and fro until the input ends
CLIENT=$ROUND_TRIP'
import socket, sys, threading
ready = threading.Barrier(int(sys.argv[3]))
end = threading.Event()
def work():
    s = socket.socket()
    ready.wait()
    s.connect((sys.argv[1], int(sys.argv[2])))
    while not end.wait(0.001):
        round_trip(s)
threads = [threading.Thread(target=work) for _ in range(int(sys.argv[3]))]
for t in threads:
    t.start()
sys.stdin.read()
end.set()
for t in threads:
    t.join()
'

# all of the connections of the client are known and on the ring
all_on_ring() {
	"$XSHIM_TOOL" ss --json --pid="${JOB_PID[client]}" |
		jq -e --argjson n $THREADS '[.connections[] | select(.reason == "ring")] | length == $n' >/dev/null
}

need python3
ns_up
daemon_start
PORT=7850
ns_start server b shim "$PYTHON" -c "$SERVER" "$IP_B" $PORT
wait_listen b $PORT
for ((round = 0; round < ROUNDS; round++)); do
	held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT $THREADS
	wait_for 20 "all connections to be on the ring" all_on_ring
	held_end
	job_ok client 20 "round $round"
done
note "ok first connections of $THREADS threads, $ROUNDS times"

# ---- a connection that ends young pays one system call more at each end ----

YOUNG=400
YOUNG_SERVER='
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=100)
for _ in range(int(sys.argv[3])):
    c = s.accept()[0]
    c.sendall(c.recv(100))
    c.close()
'
YOUNG_CLIENT='
import socket, sys
for _ in range(int(sys.argv[3])):
    s = socket.socket()
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.sendall(b"x" * 100)
    while s.recv(100):
        pass
    s.close()
'

calls_of() { awk '$NF == "total" { print $4 }' "$WORK/$1.trace"; }

# young [shim]: CALLS_server and CALLS_client, all system calls of such a pair, and TENTHS, for how many tenths of a second both ran
young() {
	local end begin=${EPOCHREALTIME/./}
	PORT=$((PORT + 1))
	ns_start server b strace -f -c -o "$WORK/server.trace" "$@" "$PYTHON" -S -c "$YOUNG_SERVER" "$IP_B" $PORT $YOUNG
	wait_listen b $PORT
	ns_start client a strace -f -c -o "$WORK/client.trace" "$@" "$PYTHON" -S -c "$YOUNG_CLIENT" "$IP_B" $PORT $YOUNG
	for end in client server; do
		job_ok $end 60 "connections that end young"
		printf -v "CALLS_$end" %d "$(calls_of $end)"
		check_gt "system calls of the $end" $((CALLS_$end)) $((5 * YOUNG))
	done
	TENTHS=$(((${EPOCHREALTIME/./} - begin) / 100000))
}

if ! command -v strace >/dev/null || ! strace -o /dev/null true 2>/dev/null; then
	note "not played: strace is not installed, or cannot trace here"
	exit 0
fi
case $XSHIM_PRELOAD in *:*) note "not played: a sanitizer makes calls of its own"; exit 0 ;; esac
young
PLAIN_server=$CALLS_server PLAIN_client=$CALLS_client
preload_for "$PYTHON"

# few_more LIMIT WORDS: beside one for each connection, and those of each process: the library, its memory, its signals, xshimd
few_more() {
	local end plain all more limit=$1
	shift
	young env "${PRELOADED[@]}"
	for end in server client; do
		plain=PLAIN_$end all=CALLS_$end
		more=$((${!all} - ${!plain}))
		check_gt "what the library alone makes in the $end" $more 50
		[ $more -le $((YOUNG + 400 + limit * TENTHS)) ] ||
			fail "$YOUNG young connections$*: the $end made $more more calls than without the preload"
		note "ok $YOUNG young connections$*: the $end made $more more calls than without the preload"
	done
}
few_more 1			# ten times a second: is xshimd there still?
# before xshimd has said WELCOME the question is asked once in a tick of the coarse clock (6)
kill -STOP "${JOB_PID[daemon]}"
few_more "$("$PYTHON" -S -c 'import time; print(round(0.1 / time.clock_getres(6)))')" " and an xshimd that says nothing"
kill -CONT "${JOB_PID[daemon]}"

# ---- a long send by ring asks the kernel nothing of the socket, and what it thinks of flags only once ----

LONG=200
LONG_SERVER='
import socket, sys
c = socket.create_server((sys.argv[1], int(sys.argv[2]))).accept()[0]
while (got := c.recv(1)):
    left = 400000 - 1
    while left:
        left -= len(c.recv(left))
    c.sendall(got)
'
# every other one from a file; what counts begins when GO is taken away
LONG_CLIENT='
import os, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
data = bytes(400000)
file = os.open(sys.argv[4], os.O_RDWR | os.O_CREAT, 0o600)
os.write(file, data)
while not os.path.exists(sys.argv[5]):
    s.sendall(data)
    s.recv(1)
os.unlink(sys.argv[5])
for i in range(int(sys.argv[3])):
    if i % 2:
        s.sendall(data)
    else:
        done = 0
        while done < len(data):
            done += os.sendfile(s.fileno(), file, done, len(data) - done)
    s.recv(1)
    try:
        os.preadv(s.fileno(), [bytearray(1)], -1, 0x40000000)
    except OSError:
        pass
'
PORT=$((PORT + 1))
snapshot "$WORK/long.json"
ns_start server b shim "$PYTHON" -S -c "$LONG_SERVER" "$IP_B" $PORT
wait_listen b $PORT
ns_start client a strace -f -e trace=getsockopt,socketpair,unlinkat,?unlink -o "$WORK/long.trace" env "${PRELOADED[@]}" \
	"$PYTHON" -S -c "$LONG_CLIENT" "$IP_B" $PORT $LONG "$WORK/file" "$WORK/go"
wait_for 20 "long sends by ring" eval '[ "$(since "$WORK/long.json" .bytes.ring_tx)" -gt 1000000 ]'
: >"$WORK/go"
job_ok client 60 "long sends"
job_wait server 20
check_gt "bytes by ring" "$(since "$WORK/long.json" .bytes.ring_tx)" $((LONG * 300000))
sed -i "1,\\:unlink.*$WORK/go:d" "$WORK/long.trace"
asked=$(grep -c SO_SNDTIMEO "$WORK/long.trace")
[ "$asked" -lt $((LONG / 4)) ] || fail "$LONG long sends by ring: SO_SNDTIMEO was asked for $asked times"
pairs=$(grep -c socketpair "$WORK/long.trace")
[ "$pairs" -lt $((LONG / 4)) ] || fail "$LONG receives with unknown flags: the kernel was asked $pairs times"
note "ok $LONG long sends by ring: SO_SNDTIMEO was asked for $asked times"
