#!/bin/bash
# SPDX-License-Identifier: MIT
#
# One end is killed, or stopped, at many points of its way through send, receive and poll on a ring of one page, also while the
# connection goes from TCP to the ring and back: what the other end sees is what tests/prog/mortal.c demands, over plain TCP as well.
#
#   F01 F02 F03  killed after so many instructions, or at so many system calls: by check-long at each of the latter
#   F04          both killed at once: nothing of them is left in xshimd, no descriptor and no connection, after 2 seconds
#   F20 F21      stopped there for a while: no reset, no loss, and the other end's limits of time hold
. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

MORTAL=$XSHIM_PROG/mortal
[ -x "$MORTAL" ] || skip "$MORTAL is not built"
case $XSHIM_PRELOAD in *:*) skip "a sanitizer makes too many steps of its own" ;; esac
ns_up
daemon_start
PORT=7900
export MORTAL_FILE=$WORK/mortal MORTAL_PRELOAD=$XSHIM_PRELOAD
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1 XSHIM_RING_SIZE=4096

[ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" -lt 3 ] || skip "nobody may be traced here"

fds() { find "/proc/${JOB_PID[daemon]}/fd" -mindepth 1 | wc -l; }
nothing_left() { [ "$(fds)" -le "$BASE" ] && [ "$("$XSHIM_TOOL" stat --json | jq '.connections.open')" = 0 ]; }
# the command's own connection counts
BASE=$(fds)

# watch WAY ROLE step|call kill|both|stop FIRST STRIDE MOST
watch() {
	local times
	snapshot "$WORK/before.json"
	ns_run b "$MORTAL" watch "$IP_B" $PORT "$@" >"$WORK/out" 2>"$WORK/err" || { cat "$WORK/err" >&2; fail "$WHAT: $*"; }
	check_empty "$WHAT: $*: stderr" "$WORK/err"
	times=$(cut -d' ' -f1 "$WORK/out")
	check_ge "$WHAT: $*: ends attached to a ring" "$(since "$WORK/before.json" .counters.attaches)" $((2 * times))
	check_gt "$WHAT: $*: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
	wait_for 2 "$WHAT: $*: xshimd to have nothing left of it ($(fds) descriptors, $BASE at first)" nothing_left
	note "ok $WHAT: $*: $(cat "$WORK/out")"
	PORT=$((PORT + 1))
}

# each SPILL WAY ROLE
each() {
	export XSHIM_FORCE_SPILL=$1
	WHAT="ring"
	[ "$1" = 0 ] || WHAT="to the ring and back"
	shift
	watch "$@" call kill "${CALLS[@]}"
	watch "$@" step kill "${STEPS[@]}"
	watch "$@" call stop "${STOPS[@]}"
}

# Strides are prime, so that other points are met in each way; a point that all go through is met by check-long.
if [ -n "${XSHIM_LONG:-}" ]; then
	CALLS=(1 1 600) STEPS=(1 41 300) STOPS=(1 5 40)
	for spill in 0 3000; do
		each $spill send connect
		each $spill recv accept
		each $spill both connect
		watch both accept call both 1 7 60
		watch both connect step stop 103 1999 20
	done
else
	CALLS=(2 31 4) STEPS=(3 1999 5) STOPS=(5 37 2)
	each 0 send connect
	each 3000 recv accept
	each 3000 both connect
	watch both accept call both 3 29 2
	watch both connect step stop 103 1999 2
fi
