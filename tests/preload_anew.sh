#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What carries little at a time, and is read soon, keeps to the beginning of its ring (region.h, "Beginning anew"): a dialogue that has
# gone by ring several times the ring's size has touched the first pages of it only, at both ends. One with so much under way that the ring is
# never empty goes round.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

TALK=$ROUND_TRIP'
import socket
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
ahead = int(sys.argv[3])
s.sendall(b"x" * ahead)		# stays under way, so that there is always something unread
while not is_over():
    round_trip(s)
s.shutdown(socket.SHUT_WR)
left = ahead
while left:
    left -= len(s.recv(65536)) or sys.exit("the server has closed")
'
# The most of a ring that a process has touched, in KiB, of its own and its peer'"'"'s
touched() {
	awk '/memfd:xshim-ring/ { ring = 1 } ring && $1 == "Rss:" { if ($2 > most) most = $2; ring = 0; n++ }
		END { if (n < 2) print "no ring is mapped"; else print most }' "/proc/$1/smaps"
}

need python3
ns_up
daemon_start
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1 XSHIM_RING_SIZE=131072
PORT=7890

# one AHEAD NAME
one() {
	snapshot "$WORK/before.json"
	ns_start server b shim "$PYTHON" -c "$ECHO_ONE" "$IP_B" $PORT
	wait_listen b $PORT
	held_start client a shim "$PYTHON" -c "$TALK" "$IP_B" $PORT "$1"
	wait_ring $((2 * 4 * 131072))	# both ways
	AT_CLIENT=$(touched "${JOB_PID[client]}") AT_SERVER=$(touched "${JOB_PID[server]}")
	held_end
	job_ok client 20 "$2"
	job_wait server 20
	PORT=$((PORT + 1))
}

one 0 "a dialogue"
check_ge "a dialogue: of 132 KiB, what the client has not touched" $((132 - AT_CLIENT)) 112
check_ge "a dialogue: of 132 KiB, what the server has not touched" $((132 - AT_SERVER)) 112
note "ok: a dialogue, $AT_CLIENT and $AT_SERVER KiB of 132"
one 5000 "with more under way"
check_eq "with more under way: touched by the client, in KiB" "$AT_CLIENT" 132
check_eq "with more under way: touched by the server, in KiB" "$AT_SERVER" 132
note "ok: with more under way, all of it"
daemon_stop
