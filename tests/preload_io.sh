#!/bin/bash
# SPDX-License-Identifier: MIT
# flags, time limits, non-blocking calls, FIONREAD and the like, sendfile: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"

# A time limit is for the whole of a long send, also of one whose other end takes some in time, again and again. There is no ring to come.
SERVER='
import socket, sys, time
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
c, _ = s.accept()
while c.recv(65536):
    time.sleep(0.02)
'
CLIENT='
import os, socket, struct, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 500000))
s.connect((sys.argv[1], int(sys.argv[2])))
print("all" if os.write(s.fileno(), bytes(8 << 20)) == 8 << 20 else "some")
'
much_in_time() {
	local how
	need python3
	[ -n "$NS_A" ] || ns_up
	for how in env shim; do
		ns_start server b "$PYTHON" -c "$SERVER" "$IP_B" $PORT
		wait_listen b $PORT
		check_eq "much_in_time, $how" "$(ns_run a $how "$PYTHON" -c "$CLIENT" "$IP_B" $PORT)" some
		job_wait server 20
		PORT=$((PORT + 1))
	done
	note "ok much_in_time"
}

case ${1:-} in
much_in_time) much_in_time ;;
?*) behave_main io "$@" ;;
*)
	much_in_time
	behave_main io
	;;
esac
