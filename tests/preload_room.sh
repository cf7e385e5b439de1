#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Descriptors that rings take and the program needs (preload/privfd.h): many connections have rings, up to three quarters of what the limit
# allows; and a program that then uses up all numbers gets as many as without us, but for the few that we keep for the process, because
# connections that are idle leave their rings. They work on, by TCP, and come back to none while there is no room.
#
#   preload_room.sh [many|used_up|shrinks]
. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

PORT=7990
LIMIT=1024
CONNECTIONS=200
KEPT=10		# of ours that do not go: to xshimd, its map, where the counters are, the log, what is on its way

SERVER='
import resource, select, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]),) * 2)
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=1000)
ep = select.epoll()
ep.register(s, select.EPOLLIN)
all = {}
while True:
    for fd, what in ep.poll():
        if fd == s.fileno():
            c, _ = s.accept()
            all[c.fileno()] = c
            ep.register(c, select.EPOLLIN)
            continue
        data = all[fd].recv(1000)
        if not data:
            all.pop(fd).close()
            if not all:
                sys.exit(0)
        else:
            all[fd].sendall(data)
'
# Lines on its input: trips N | sockets | dups | accepts | free | limit N; an answer each
CLIENT='
import os, resource, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
def limit(n):
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, most))
limit(int(sys.argv[3]))
all = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for i in range(int(sys.argv[4]))]
more = []
def until_none(make):
    n = 0
    try:
        while True:
            more.append(make())
            n += 1
    except OSError as e:
        return n, e.strerror
def trips(n):
    for k in range(n):
        for i, s in enumerate(all):
            s.sendall(b"%3d%2d" % (i % 1000, k % 100))
        for i, s in enumerate(all):
            got = b""
            while len(got) < 5:
                part = s.recv(5 - len(got))
                if not part:
                    sys.exit("the server has closed")
                got += part
            if got != b"%3d%2d" % (i % 1000, k % 100):
                sys.exit(f"{i}: {got}")
listener = socket.create_server(("127.0.0.1", 0), backlog=2000)
def accepted():
    s = socket.socket()
    s.connect(listener.getsockname())
    more.append(s)
    return listener.accept()[0]
print("ready", flush=True)
for line in sys.stdin:
    what, *args = line.split()
    if what == "end":
        break
    if what == "trips":
        print(trips(int(args[0])), flush=True)
    if what == "sockets":
        print(*until_none(socket.socket), flush=True)
    if what == "dups":
        print(*until_none(lambda: socket.socket(fileno=os.dup(all[0].fileno()))), flush=True)
    if what == "accepts":
        print(*until_none(accepted), flush=True)
    if what == "free":
        for s in more:
            s.close()
        more.clear()
        print("ok", flush=True)
    if what == "limit":
        limit(int(args[0]))
        print("ok", flush=True)
'

LINES=0
said() { [ "$(wc -l <"$WORK/client.out")" -ge "$1" ] || job_ended client; }
ask() {
	echo "$*" >&9
	LINES=$((LINES + 1))
	wait_for 60 "the client's answer to $*" said $LINES
	job_alive client || { cat "$WORK/client.err" >&2; fail "the client has ended"; }
	ANSWER=$(tail -n 1 "$WORK/client.out")
}

# ends env|shim
ends() {
	LINES=1
	snapshot "$WORK/before.json"
	ns_start server b "$1" "$PYTHON" -c "$SERVER" "$IP_B" $PORT $LIMIT
	wait_listen b $PORT
	held_start client a "$1" "$PYTHON" -c "$CLIENT" "$IP_B" $PORT $LIMIT $CONNECTIONS
	wait_for 20 "the client to be ready" said 1
}
ends_over() {
	held_end
	job_ok client 20 "$1"
	job_ok server 20 "$1"
	PORT=$((PORT + 1))
}

on_ring() { "$XSHIM_TOOL" stat --json | jq .connections.on_ring; }
are_on_ring() {
	ask trips 20
	[ "$(on_ring)" -ge "$1" ]
}

play_many() {
	ends shim
	wait_for 30 "all $CONNECTIONS connections to be on rings" are_on_ring $((CONNECTIONS * 2))
	ends_over many
	note "ok many: $CONNECTIONS connections on rings with a limit of $LIMIT"
}

# Of the client's ends. They do not come back: the program has needed all of its numbers, and may again
say_why() {
	ask trips 20
	[ "$("$XSHIM_TOOL" stat --json | jq '.reasons["fd-limit"].open // 0')" -ge $((CONNECTIONS / 2)) ]
}

play_used_up() {
	local how plain text got left
	for how in sockets dups accepts; do
		ends env
		ask $how
		read -r plain text <<<"$ANSWER"
		ends_over "used_up, $how"
		ends shim
		wait_for 30 "connections to be on rings" are_on_ring $CONNECTIONS
		ask $how
		got=${ANSWER%% *}
		check_eq "used_up, $how: how it ends" "${ANSWER#* }" "$text"
		check_ge "used_up, $how: numbers that the program got, of $plain" "$got" $((plain - KEPT))
		left=$(since "$WORK/before.json" .counters.leaves)
		check_gt "used_up, $how: rings that were left" "$left" 50
		ask trips 50
		ask free
		wait_for 20 "the reason fd-limit" say_why
		ask trips 50
		ends_over "used_up, $how"
		note "ok used_up, $how: $plain numbers without us, $got with, $left rings left"
	done
}

# The limit goes below what is open, and the program asks for more: that fails, as it does without us, and with room again all goes on
play_shrinks() {
	local was
	ends shim
	wait_for 30 "connections to be on rings" are_on_ring $CONNECTIONS
	ask limit $((CONNECTIONS / 2))
	ask sockets
	check_eq "shrinks: sockets beyond the limit" "$ANSWER" "0 Too many open files"
	ask trips 20
	ask limit $LIMIT
	ask sockets
	check_gt "shrinks: sockets with room again" "${ANSWER%% *}" 700
	ask free
	ask trips 20
	ends_over shrinks
	note "ok shrinks"
}

ns_up
daemon_start
for what in ${*:-many used_up shrinks}; do
	"play_$what"
done
