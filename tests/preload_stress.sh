#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Byte-exact streams both ways while the connections are driven from TCP to the ring and back every few
# kilobytes. Fails on a lost, doubled or displaced byte, on a hang, when the ring was not used, or
# when the styles together made fewer than 100,000 switches.
#
#   preload_stress.sh [STYLE...]	XSHIM_STRESS_SCALE=N: N times as much of everything
#					XSHIM_STRESS_PLAIN=1: without preload and daemon
. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

STYLES=(threads lockstep poll select epoll-lt epoll-et)
[ $# -gt 0 ] && STYLES=("$@")
SCALE=${XSHIM_STRESS_SCALE:-1}
CONNS=3
PORT=7200
EACH=16700		# switches of each style; six of them are more than 100,000
ROUNDS=30		# at most so many runs to get there
PLAIN=${XSHIM_STRESS_PLAIN:-}

[ -x "$XSHIM_PROG/stream" ] || skip "$XSHIM_PROG/stream is not built"
[ -n "$PLAIN" ] || need_product
ns_up
[ -n "$PLAIN" ] || daemon_start

SHIM=shim
[ -n "$PLAIN" ] && SHIM=env

# pair NAME ROLE STYLE ADDRESS-TO-LISTEN ADDRESS-TO-CONNECT LEAVE SPILL MAX-MESSAGE MEGABYTES [-x]
pair() {
	local name=$1 role=$2 style=$3 at=$4 to=$5 client switches ring limit=$((60 * SLOW))
	export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1 XSHIM_FORCE_LEAVE=$6 XSHIM_FORCE_SPILL=$7

	[ -n "$PLAIN" ] || snapshot "$WORK/before.json"
	ns_start server b $SHIM "$XSHIM_PROG/stream" "$role" -s "$style" -n $CONNS -t $limit ${10:-} "$at" $PORT
	wait_listen b $PORT
	ns_start client a $SHIM "$XSHIM_PROG/stream" client -s "$style" -n $CONNS -m "$8" -b $(($9 * SCALE * 1000000)) \
		-t $limit ${10:-} "$to" $PORT
	job_wait client 70
	client=$STATUS
	job_wait server 70
	if [ "$client" != 0 ] || [ "$STATUS" != 0 ]; then
		cat "$WORK/client.err" "$WORK/server.err" >&2
		fail "$name: client status $client, server status $STATUS"
	fi
	check_empty "$name: client's stderr" "$WORK/client.err"
	check_empty "$name: server's stderr" "$WORK/server.err"
	grep -q 'every byte right' "$WORK/client.out" || fail "$name: the client printed no verdict"
	PORT=$((PORT + 1))
	[ -n "$PLAIN" ] && { note "$name: plain TCP, $(cut -d' ' -f5 "$WORK/client.out")"; return; }
	ring=$(since "$WORK/before.json" .bytes.ring_tx)
	switches=$(since "$WORK/before.json" .counters.switches)
	check_gt "$name: bytes by ring" "$ring" 0
	check_gt "$name: switches" "$switches" 0
	OF_STYLE=$((OF_STYLE + switches))
	note "$name: $switches switches, $ring bytes by ring, $(cut -d' ' -f5 "$WORK/client.out")"
}

SWITCHES=0
for style in "${STYLES[@]}"; do
	OF_STYLE=0
	pair "$style, leave" server "$style" "$IP_B" "$IP_B" 4096 0 50000 8
	pair "$style, leave, large" server "$style" :: "$IP6_B" 16384 0 4194304 40
	pair "$style, spill, large" server "$style" :: "$IP6_B" 0 3000 4194304 40
	pair "$style, both, v4-mapped" server "$style" :: "::ffff:$IP_B" 16384 5000 20000 8
	pair "$style, forking server" fork "$style" "$IP_B" "$IP_B" 8192 3000 200000 40
	# nothing forced: each readiness that is told must be true, as many programs rely on
	pair "$style, steady" server "$style" "$IP_B" "$IP_B" 0 0 100000 60 -x
	for ((round = 1; round <= ROUNDS && (round == 1 || OF_STYLE < EACH * SCALE); round++)); do
		pair "$style, spill ($round)" server "$style" "$IP_B" "$IP_B" 0 3000 4000 15
		[ -n "$PLAIN" ] && break
	done
	[ -n "$PLAIN" ] || check_ge "$style: the number of switches" "$OF_STYLE" $((EACH * SCALE))
	SWITCHES=$((SWITCHES + OF_STYLE))
done
note "$SWITCHES switches in all, no difference"
