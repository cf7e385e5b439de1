# SPDX-License-Identifier: MIT
#
# lib.sh - what run.sh and random.sh have in common: namespaces, a daemon, several players at a time, and the proof
# from the daemon's counters that rings were used. To be sourced.

DIFF_DIR=${srcdir:-$(dirname "$0")/../..}/tests/diff
. "$DIFF_DIR/../lib/netns.sh"
PLAYER=$XSHIM_BUILD/tests/diff/player
ENOUGH=100		# random sequences, that some of them leave their rings
JOBS=${XSHIM_DIFF_JOBS:-6}	# most of their time they wait

diff_begin() {
	[ -x "$PLAYER" ] || skip "$PLAYER is not built"
	ns_up
	daemon_start
	snapshot "$WORK/before.json"
}

# diff_play WORDS...: the players share the work; each has ports and ends of its own.
diff_play() {
	local i options=()
	[ -n "${XSHIM_DIFF_CASE:-}" ] && options+=(--only "$XSHIM_DIFF_CASE") && JOBS=1
	[ -n "${XSHIM_DIFF_PHASES:-}" ] && options+=(--phases "$XSHIM_DIFF_PHASES")
	[ -n "${XSHIM_DIFF_VERBOSE:-}" ] && options+=(--verbose)
	for ((i = 0; i < JOBS; i++)); do
		start "player$i" "$PLAYER" compare --run-a "nsenter --net=/run/netns/$NS_A --" \
			--run-b "nsenter --net=/run/netns/$NS_B --" --address-a "$IP_A" --address-b "$IP_B" \
			--preload "$XSHIM_PRELOAD" --tool "$XSHIM_TOOL" --directory "$WORK" --port $((7800 + 10 * i)) \
			--part "$i/$JOBS" "${options[@]}" "$@"
	done
}

# Takes each player's status when it ends, whatever the others do: the shell forgets one when a later child has the same number,
# which comes within a minute where many processes are made.
ENDED=()
players_ended() {
	local i going=0
	for ((i = 0; i < JOBS; i++)); do
		[ -z "${ENDED[$i]:-}" ] || continue
		if job_ended "player$i"; then
			job_wait "player$i" 1
			ENDED[$i]=$STATUS
		else
			going=1
		fi
	done
	[ $going = 0 ]
}

# They play the sequence they are at to its end.
players_tell() {
	local i
	for ((i = 0; i < JOBS; i++)); do
		job_alive "player$i" && kill -TERM "${JOB_PID[player$i]}"
	done
}

# Until the players are told to stop, whatever that takes; one that has found something ends by itself, and so do the others then.
players_wait() {
	local i told=
	trap players_tell INT TERM
	until players_ended; do
		for ((i = 0; i < JOBS; i++)); do
			[ -n "$told" ] || [ "${ENDED[$i]:-0}" = 0 ] || { told=1 && players_tell; }
		done
		sleep 0.2
	done
}

diff_end() {
	local i failed=0
	[ -n "${ENDED[*]:-}" ] || wait_for "${LIMIT:-600}" "the players' ends" players_ended
	for ((i = 0; i < JOBS; i++)); do
		cat "$WORK/player$i.out" "$WORK/player$i.err"
		[ "${ENDED[$i]}" = 0 ] || failed=1
	done
	if [ -z "${XSHIM_DIFF_PHASES:-}${XSHIM_DIFF_CASE:-}" ] && [ "${COUNT:-$ENOUGH}" -ge $ENOUGH ]; then
		check_gt "bytes that went by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 1000
		check_gt "ends that left their ring" "$(since "$WORK/before.json" .counters.leaves)" 10
	fi
	note "$(since "$WORK/before.json" .counters.attaches) ends attached to a ring," \
		"$(since "$WORK/before.json" .counters.switches) switches," \
		"$(since "$WORK/before.json" .bytes.ring_tx) bytes by ring"
	[ $failed = 0 ] || fail "results differ from plain TCP"
}
