#!/bin/bash
# SPDX-License-Identifier: MIT
#
# F34: a program in a memory cgroup that is nearly full. What is too much there is not refused but ends the program, so no ring is
# made: the connection stays on TCP, says why, and gets its ring when there is room. The same with either end in the cgroup.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

CLIENT=$ROUND_TRIP'
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
while not os.path.exists(sys.argv[3]):
    time.sleep(0.01)
while not is_over():
    round_trip(s)
    time.sleep(0.001)
'

GROUP=
# A cgroup of our own below the one we are in, of either version; GROUP LIMIT USED KILLS are set.
make_group() {
	local line at
	while IFS= read -r line; do
		case $line in
		0::*) at=/sys/fs/cgroup${line#0::} LIMIT=memory.max USED=memory.current KILLS=memory.events
			grep -qw memory "$at/cgroup.controllers" 2>/dev/null || continue
			grep -qw memory "$at/cgroup.subtree_control" || echo +memory >"$at/cgroup.subtree_control" || continue ;;
		*:memory:* | *:memory,*:* | *,memory:* | *,memory,*)
			at=/sys/fs/cgroup/memory${line#*:*:} LIMIT=memory.limit_in_bytes USED=memory.usage_in_bytes KILLS=memory.oom_control ;;
		*) continue ;;
		esac
		at=${at%/}/xshim-test-$$
		mkdir "$at" && GROUP=$at
		[ -z "$GROUP" ] || [ ! -w "$GROUP/$LIMIT" ] || return 0
	done </proc/self/cgroup
	return 1
} 2>/dev/null

need python3
ns_up
make_group || skip "F34: no memory cgroup can be made here"
# clean_up ends what runs in it, and the script
rmdir_when_empty() {
	local i
	for ((i = 0; i < 100; i++)); do
		rmdir "$GROUP" 2>/dev/null && return
		sleep 0.05
	done
}
trap 'status=$?; exec 2>/dev/null; for pid in "${JOB_PID[@]}"; do kill -KILL "$pid"; done; rmdir_when_empty; (exit $status); clean_up' EXIT

daemon_start
# a ring larger than what is left, so that making it would be the end
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1 XSHIM_RING_SIZE=4194304
PORT=7880

reason() { "$XSHIM_TOOL" ss --json --pid="$1" | jq -r '.connections[0].reason'; }
reason_is() { [ "$(reason "$1")" = "$2" ]; }
kills() { sed -n 's/^oom_kill //p' "$GROUP/$KILLS"; }
used() { cat "$GROUP/$USED"; }

for who in client server; do
	rm -f "$WORK/now"
	ns_start server b shim "$PYTHON" -c "$ECHO_ONE" "$IP_B" $PORT
	wait_listen b $PORT
	held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$WORK/now"
	# what the interpreter takes to start is not to be counted
	wait_for 20 "the connection" grep -q connected "$WORK/client.out"
	pid=${JOB_PID[$who]}
	echo "$pid" >"$GROUP/cgroup.procs" || fail "the $who cannot be moved into the cgroup"
	before=$(kills)
	echo $(($(used) + 1048576)) >"$GROUP/$LIMIT" || fail "no limit can be set"
	snapshot "$WORK/before.json"
	: >"$WORK/now"
	wait_for 20 "$who: bytes over TCP" eval '[ "$(since "$WORK/before.json" .bytes.tcp_tx)" -gt 100000 ] || job_ended $who'
	job_alive $who || fail "the $who has ended in its cgroup ($(kills) kills)"
	wait_for 10 "$who: reason memory" reason_is "$pid" memory
	check_eq "$who: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
	echo $(($(used) + 33554432)) >"$GROUP/$LIMIT"
	wait_ring 10000
	reason_is "$pid" ring || fail "$who: there is room now, and the reason is $(reason "$pid")"
	held_end
	job_ok client 20 "$who"
	job_wait server 20
	check_eq "$who: processes that were killed for the limit" "$(kills)" "$before"
	PORT=$((PORT + 1))
	note "ok the $who in a cgroup that is nearly full"
done
