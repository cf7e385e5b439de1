#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The first connections of a process, made by several threads at once, all come onto the ring: none is left without a place
# in the counters, and so without a ring for life, because another thread is at making that place.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

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
CLIENT='
import select, socket, sys, threading
ready = threading.Barrier(int(sys.argv[3]))
end = threading.Event()
def work():
    s = socket.socket()
    ready.wait()
    s.connect((sys.argv[1], int(sys.argv[2])))
    while not end.wait(0.001):
        s.sendall(b"x" * 100)
        got = 0
        while got < 100:
            got += len(s.recv(100 - got))
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
	rm -f "$WORK/input"
	mkfifo "$WORK/input"
	exec 9<>"$WORK/input"
	build_cmd a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT $THREADS
	"${CMD[@]}" <"$WORK/input" >"$WORK/client.out" 2>"$WORK/client.err" 9>&- &
	JOB_PID[client]=$!
	exec 8>"$WORK/input" 9>&-
	wait_for 20 "all connections to be on the ring" all_on_ring
	exec 8>&-
	job_wait client 20
	[ "$STATUS" = 0 ] || { cat "$WORK/client.err" >&2; fail "the client ended with status $STATUS"; }
done
note "ok first connections of $THREADS threads, $ROUNDS times"
