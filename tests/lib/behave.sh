#!/bin/bash
# SPDX-License-Identifier: MIT
#
# behave.sh - plays the scenes of tests/prog/behave, first over plain TCP and then over a ring, and wants
# the same words from both ends. Before a scene begins, the counters must show that both ends are on the
# ring. To be sourced by tests/preload_GROUP.sh, which calls: behave_main GROUP [SCENE...]
#
# XSHIM_BEHAVE_PLAIN=1 plays each scene twice over plain TCP: are the scenes themselves repeatable?

. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"
BEHAVE=$XSHIM_PROG/behave
PORT=7500
PLAIN=${XSHIM_BEHAVE_PLAIN:-}
CLIENT_BY=()	# words before the client's command line
INERT=		# set: the client does not get on the ring

# ends STATE: how many ends are on the ring, or were attached since the scene began
ends() {
	if [ "$1" = attached ]; then
		since "$WORK/before.json" .counters.attaches
	else
		"$XSHIM_TOOL" stat --json | jq .connections.on_ring
	fi
}

# Gives the go for each connection when it is where it should be.
watch_scene() {
	local prefix=$1 want state deadline=$((${EPOCHREALTIME/./} + 60 * SLOW * 1000000))
	while job_alive client || job_alive server; do
		[ "${EPOCHREALTIME/./}" -lt $deadline ] || return 1
		if [ -e "$WORK/go.want" ] && [ ! -e "$WORK/go" ]; then
			read -r want state <"$WORK/go.want" || continue
			if [ "$prefix$INERT" != shim ] || [ "$(ends "$state")" -ge "$want" ]; then
				rm -f "$WORK/go.want"
				: >"$WORK/go"
			fi
		fi
		sleep 0.01
	done
} 2>/dev/null	# where the shell reports that a job was killed

# play PREFIX SCENE KEPT: output to $WORK/KEPT.client and $WORK/KEPT.server
play() {
	local prefix=$1 scene=$2 kept=$3 who
	rm -f "$WORK/go" "$WORK/go.want" "$WORK/step"
	ns_start server b "$prefix" "$BEHAVE" server "$scene" "$IP_B" $PORT "$WORK/step" "$WORK/go"
	wait_for 10 "the scene's server" test -S "$WORK/step"
	ns_start client a "$prefix" "${CLIENT_BY[@]}" "${BEHAVE_CLIENT:-$BEHAVE}" client "$scene" "$IP_B" $PORT "$WORK/step" "$WORK/go"
	if ! watch_scene "$prefix"; then
		"$XSHIM_TOOL" ss >&2
		cat "$WORK"/{client,server}.{out,err} >&2
		fail "$scene ($kept) hangs"
	fi
	for who in client server; do
		job_wait $who 10
		[ "$who.$scene" = server.parent_exits ] &&
			wait_for 20 "the child's end" grep -q '^end of' "$WORK/server.out"
		{ cat "$WORK/$who.out"; sed 's/^/stderr: /' "$WORK/$who.err"; echo "status $STATUS"; } >"$WORK/$kept.$who"
	done
	PORT=$((PORT + 1))
}

behave_main() {
	local group=$1 scene who attaches failed=0 scenes
	shift
	[ -x "$BEHAVE" ] || skip "$BEHAVE is not built"
	scenes=$*
	[ -n "$scenes" ] || scenes=$("$BEHAVE" list "$group") || fail "no scenes"
	[ -n "$NS_A" ] || ns_up
	[ -n "$PLAIN" ] || { [ -n "${JOB_PID[daemon]:-}" ] || daemon_start; export XSHIM_TEST_DAEMON=${JOB_PID[daemon]}; }
	export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
	for scene in $scenes; do
		play env "$scene" plain
		# a scene that cannot be played proves nothing, however alike it fails
		! grep -h '^stderr: behave: ' "$WORK"/plain.* >&2 || fail "$scene does not work over plain TCP"
		if [ -n "$PLAIN" ]; then
			play env "$scene" ring
		else
			snapshot "$WORK/before.json"
			play shim "$scene" ring
		fi
		for who in client server; do
			if ! cmp -s "$WORK/plain.$who" "$WORK/ring.$who"; then
				note "not ok $scene: the $who, over plain TCP (-) and over the ring (+):"
				diff -U1 "$WORK/plain.$who" "$WORK/ring.$who" | tail -n +3
				failed=$((failed + 1))
				continue 2
			fi
		done
		[ -n "$PLAIN" ] && { note "ok $scene"; continue; }
		attaches=$(since "$WORK/before.json" .counters.attaches)
		[ "$attaches" -ge 2 ] && [ "$(since "$WORK/before.json" .bytes.ring_tx)" -gt 0 ] ||
			fail "$scene: $attaches ends were attached to a ring, must be at least 2"
		note "ok $scene"
	done
	[ $failed = 0 ] || fail "$failed scenes differ"
}
