#!/bin/bash
# SPDX-License-Identifier: MIT
#
# dialogue.sh - a client that talks until the script ends its input. To be sourced, in place of netns.sh.
#
#   held_start NAME a|b CMD...   as ns_start (netns.sh); its input is open and empty until held_end
#   held_end                     the input says "end", and ends
#   job_ok NAME SECONDS WHAT     wait for its end, which must be with status 0
#   wait_ring BYTES              until more than so many have gone by ring since $WORK/before.json
#   $ECHO_ONE                    a server in python, with its address and port as arguments: gives one client back what it sends
#   $ROUND_TRIP                  for clients in python: round_trip(socket), is_over() when the input has ended
#
# One at a time: the script holds the other end of its input as descriptor 9.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

ECHO_ONE='
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
c, _ = s.accept()
while (data := c.recv(1000)):
    c.sendall(data)
'
ROUND_TRIP='
import os, select, sys
def round_trip(s):
    s.sendall(b"x" * 100)
    got = 0
    while got < 100:
        data = s.recv(100 - got)
        if not data:
            print("the server has closed", file=sys.stderr)
            os._exit(1)	# all threads
        got += len(data)
def is_over():
    return select.select([0], [], [], 0)[0]
'

held_start() {
	local name=$1
	shift
	rm -f "$WORK/input"
	mkfifo "$WORK/input" || fail "mkfifo"
	exec 9<>"$WORK/input"
	build_cmd "$@"
	: >"$WORK/$name.out" 2>"$WORK/$name.err"	# as in netns.sh
	"${CMD[@]}" <"$WORK/input" >"$WORK/$name.out" 2>"$WORK/$name.err" 9>&- &
	JOB_PID[$name]=$!
}

held_end() {
	echo end >&9
	exec 9>&-
}

job_ok() {
	job_wait "$1" "$2"
	[ "$STATUS" = 0 ] || { cat "$WORK"/{client,server}.{out,err} >&2; fail "$3: the $1 ended with status $STATUS"; }
}

wait_ring() { wait_for 20 "bytes by ring" eval '[ "$(since "$WORK/before.json" .bytes.ring_tx)" -gt '"$1"' ]'; }
