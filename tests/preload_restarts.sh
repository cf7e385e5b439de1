#!/bin/bash
# SPDX-License-Identifier: MIT
#
# F25: xshimd is killed and started again, 12 times (1,000 by check-long), under load that is not quiet for it: one connection, on a
# ring since before the first restart, carries a checked stream all the time, and another thread makes connection after connection, so that
# the kill comes while something is offered, claimed or written into the map. After each restart the ring of old is told to the new
# xshimd, and a fresh connection gets a ring. No call of the programs fails, and in the end each has as many descriptors and as much
# mapped as after the first restart.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

RESTARTS=12
[ -z "${XSHIM_LONG:-}" ] || RESTARTS=1000

SERVER='
import socket, sys, threading
def echo(c):
    while (data := c.recv(20000)):
        c.sendall(data)
    c.close()
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=100)
while True:
    threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
'
# client ADDRESS PORT: a thread each for the old connection and for those that end young. "fresh" makes one more, which goes to and fro
# until "done"; between "quiet" and "loud" there are no young ones; "end" ends all
CLIENT='
import os, random, socket, sys, threading, time, traceback
def failed(args):
    traceback.print_exception(args.exc_type, args.exc_value, args.exc_traceback)
    os._exit(1)
threading.excepthook = failed
def say(line):
    os.write(1, line.encode() + b"\n")	# all of it at once, whichever thread
def connect():
    return socket.create_connection((sys.argv[1], int(sys.argv[2])))
def exchange(s, data):
    s.sendall(data)
    got = bytearray()
    while len(got) < len(data):
        more = s.recv(len(data) - len(got))
        if not more:
            raise EOFError("after %d of %d" % (len(got), len(data)))
        got += more
    if got != data:
        raise ValueError("other bytes came back")
    return len(data)
over, quiet, still, done = (threading.Event() for i in range(4))
moved = made = 0
def stream():
    global moved
    dice = random.Random(25)
    s = connect()
    say("old at %d" % s.getsockname()[1])
    while not over.wait(0.0005):
        moved += exchange(s, dice.randbytes(dice.randrange(1, 20000)))
    s.close()
def young():
    global made
    while not over.is_set():
        if quiet.is_set():
            still.set()
            time.sleep(0.001)
            continue
        s = connect()
        for i in range(1 + made % 30):
            exchange(s, b"young")
            time.sleep(0.0005)
        s.close()
        made += 1
def fresh():
    s = connect()
    say("fresh at %d" % s.getsockname()[1])
    while not done.is_set():
        exchange(s, b"fresh")
        time.sleep(0.001)
    s.close()
workers = [threading.Thread(target=stream), threading.Thread(target=young)]
for t in workers: t.start()
for line in sys.stdin:
    word = line.strip()
    if word == "fresh":
        done.clear()
        one = threading.Thread(target=fresh)
        one.start()
    elif word == "done":
        done.set()
        one.join()
    elif word == "quiet":
        still.clear()
        quiet.set()
        still.wait()
    elif word == "loud":
        quiet.clear()
    else:
        break
    say(word)
over.set()
for t in workers: t.join()
say("%d bytes of the old connection right, %d young ones" % (moved, made))
'

# tell WORD: and wait until the client has done it
tell() {
	local n
	n=$(grep -c "^$1\$" "$WORK/client.out")
	echo "$1" >&9
	wait_for 20 "the client to answer $1" answered "$1" "$n"
	alive "$1"
}
answered() { job_ended client || [ "$(grep -c "^$1\$" "$WORK/client.out")" -gt "$2" ]; }
alive() {
	job_alive client && job_alive server && return
	cat "$WORK"/{client,server}.err >&2
	fail "restart $restart, $1: an end has ended"
}

# What both hold when only the old connection is open: descriptors, and mappings of shared memory with their pages. Each of their threads
# that slept at the same time as others, on a connection that was not on a ring yet, has left an eventfd for the next (kick.h).
held() {
	local who pid n pages from to
	tell quiet
	wait_for 20 "the other connections to be gone" ends_are 2
	for who in client server; do
		pid=${JOB_PID[$who]} n=0 pages=0
		while read -r from to; do
			n=$((n + 1)) pages=$((pages + (0x$to - 0x$from) / 4096))
		done < <(sed -n 's/^\([0-9a-f]*\)-\([0-9a-f]*\) .*memfd:.*/\1 \2/p' "/proc/$pid/maps")
		check_ge "4 eventfds are enough for the $who, but" 4 "$(find "/proc/$pid/fd" -lname '*eventfd*' | wc -l)"
		echo "$who: $(find "/proc/$pid/fd" -mindepth 1 ! -lname '*eventfd*' | wc -l) descriptors, $n mappings, $pages pages"
	done
	tell loud
}

# ring_of PORT: xshimd knows both ends of the client's connection from there, each with bytes by ring
ring_of() {
	[ "$("$XSHIM_TOOL" ss --json 2>/dev/null | jq --arg p ":$1" '[.connections[] | select(.reason == "ring" and .ring_tx > 0) |
		.local, .remote | select(endswith($p))] | length')" = 2 ]
}
ends_are() { [ "$("$XSHIM_TOOL" stat --json | jq .connections.open)" = "$1" ]; }
port_of() { sed -n "s/^$1 at //p" "$WORK/client.out" | tail -n 1; }

need python3
ns_up
restart=0
daemon_start
# without the descriptor that a busy sleeper gets sooner or later (doze.h), as descriptors are counted
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1 XSHIM_DOZE_AFTER=1000000
ns_start server b shim "$PYTHON" -c "$SERVER" "$IP_B" 7860
wait_listen b 7860
held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" 7860
wait_for 20 "the old connection" grep -q '^old at' "$WORK/client.out"
old=$(port_of old)
wait_for 20 "the old connection to be on the ring" ring_of "$old"

RANDOM=25
for ((restart = 1; restart <= RESTARTS; restart++)); do
	# anywhere in what goes on, and not only when all is settled
	sleep 0.0$((RANDOM % 30 + 10))
	daemon_kill
	alive "no xshimd"
	start daemon "$XSHIMD" --socket="$XSHIM_SOCKET"
	wait_for 10 "xshimd to answer" daemon_up_or_dead
	job_alive daemon || { cat "$WORK/daemon.err" >&2; fail "restart $restart: xshimd has ended at once"; }
	tell fresh
	wait_for 20 "restart $restart: the fresh connection" grep -q '^fresh at' "$WORK/client.out"
	wait_for 20 "restart $restart: the old ring to be known" ring_of "$old"
	wait_for 20 "restart $restart: the fresh connection to be on the ring" ring_of "$(port_of fresh)"
	tell done
	[ $restart != 2 ] || held >"$WORK/early"
done
restart=$RESTARTS
snapshot "$WORK/before.json"
wait_ring 100000
held >"$WORK/late"
diff "$WORK/early" "$WORK/late" >&2 || fail "after $RESTARTS restarts (>) the programs hold other than after 2 (<)"
held_end
job_ok client 30 "the end"
job_stop server
check_eq "errors" "$(cat "$WORK"/{client,server}.err | wc -c)" 0
note "ok $RESTARTS restarts, $(tail -n 1 "$WORK/client.out"); $(tr '\n' ' ' <"$WORK/late")"
