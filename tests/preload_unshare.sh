#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Somebody without privileges makes a namespace of his own ("the third") with the addresses and ports of a
# connection between two other namespaces ("the victims"), and runs both ends of such a connection with
# the shim. He is never introduced to a victim:
#
#   client   of the victims only the client has the shim, of the third only the server: the two ends that
#            would make a pair by their addresses alone
#   server   the other way round
#   all      all four have it: each gets his own bytes
. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"
need setpriv unshare

[ -x "$XSHIM_PROG/stream" ] || skip "$XSHIM_PROG/stream is not built"
need_product
NOBODY=(setpriv --reuid nobody --regid nogroup --clear-groups --)
"${NOBODY[@]}" unshare -Urn true 2>/dev/null || skip "user nobody cannot make a namespace here"
ns_up
PORT=7600 CLIENT_PORT=41000

# The build tree may be where user nobody cannot go.
cp "$XSHIM_PROG/stream" "$WORK/stream"
cp "${XSHIM_PRELOAD##*:}" "$WORK/libxshim.so"
LIB=$WORK/libxshim.so
[ "$XSHIM_PRELOAD" = "${XSHIM_PRELOAD##*:}" ] || LIB=${XSHIM_PRELOAD%:*}:$LIB
chmod 755 "$WORK/stream" "$WORK/libxshim.so"
mkdir "$WORK/third"
chmod 777 "$WORK/third"

cat >"$WORK/third.sh" <<-'SH'
	# third.sh SERVER-PRELOAD CLIENT-PRELOAD BYTES DEADLINE: both ends in a namespace with copied addresses
	set -e
	ip link set lo up
	ip addr add "$IP_A/32" dev lo
	ip addr add "$IP_B/32" dev lo
	ip route add local "$IP_A" dev lo 2>/dev/null || :
	LD_PRELOAD=$1 ./stream server -s epoll-lt -t "$4" "$IP_B" "$PORT" >third/server.out 2>third/server.err &
	server=$!
	until ss -Hltn "sport = :$PORT" | grep -q LISTEN; do sleep 0.02; done
	# the source address is the victims' client's
	ip route replace local "$IP_B" dev lo src "$IP_A" table local 2>/dev/null || :
	LD_PRELOAD=$2 ./stream client -s lockstep -b "$3" -t "$4" -p "$CLIENT_PORT" "$IP_B" "$PORT" \
		>third/client.out 2>third/client.err
	wait $server
SH
export IP_A IP_B PORT CLIENT_PORT XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1

# run CASE VICTIM-SERVER VICTIM-CLIENT THIRD-SERVER THIRD-CLIENT (each `shim` or `env`)
run() {
	local name=$1 matched ring
	local ts= tc=
	[ "$4" = shim ] && ts=$LIB
	[ "$5" = shim ] && tc=$LIB
	snapshot "$WORK/before.json"
	start third env -C "$WORK" "${NOBODY[@]}" unshare -Urn bash "$WORK/third.sh" "$ts" "$tc" 3000000000 60
	THIRD=${JOB_PID[third]}
	wait_for 10 "the third's connection" third_connected
	ns_start server b "$2" "$WORK/stream" server -s epoll-lt -t 60 "$IP_B" $PORT
	wait_listen b $PORT
	ns_start client a "$3" "$WORK/stream" client -s lockstep -b 200000000 -t 60 -p $CLIENT_PORT "$IP_B" $PORT
	wait_for 10 "the victims' connection" victims_connected
	third_connected || fail "$name: the third's connection has ended too soon to prove anything"
	job_wait client 70
	check_eq "$name: status of the victims' client ($(cat "$WORK/client.err"))" "$STATUS" 0
	job_wait server 70
	check_eq "$name: status of the victims' server ($(cat "$WORK/server.err"))" "$STATUS" 0
	third_connected || fail "$name: the third's connection ended before the victims': $(cat "$WORK"/third/*.err)"
	check_empty "$name: the third's stderr" <(cat "$WORK"/third/*.err "$WORK/third.err")
	matched=$(since "$WORK/before.json" .daemon.matched)
	ring=$(since "$WORK/before.json" .bytes.ring_tx .bytes.ring_rx)
	if [ "$name" = all ]; then
		note "all: $matched introductions, $ring bytes by ring, each its own"
	else
		check_eq "$name: introductions" "$matched" 0
		check_eq "$name: bytes by ring" "$ring" 0
		check_gt "$name: offers made" "$(since "$WORK/before.json" .daemon.offers)" 0
		check_gt "$name: claims made" "$(since "$WORK/before.json" .daemon.claims)" 0
		note "$name: offered and claimed, never introduced"
	fi
	end_third
	# in the victims' namespace the port's last connection lingers
	CLIENT_PORT=$((CLIENT_PORT + 1)) PORT=$((PORT + 1))
}

in_third() { nsenter --target "$THIRD" --user --net --preserve-credentials -- "$@" 2>/dev/null; }
third_connected() {
	in_third ss -Htn "sport = :$CLIENT_PORT and dst = $IP_B" | grep -q ESTAB &&
		in_third ss -Htn "sport = :$CLIENT_PORT and src = $IP_A" | grep -q ESTAB
}
victims_connected() {
	nsenter "--net=/run/netns/$NS_A" -- ss -Htn "sport = :$CLIENT_PORT and dst = $IP_B" | grep -q ESTAB
}

# Its children go with it: they are the only processes of their namespace.
end_third() {
	local inode pid
	inode=$(readlink "/proc/$THIRD/ns/net")
	for pid in /proc/[0-9]*; do
		[ "$(readlink "$pid/ns/net")" = "$inode" ] && kill -KILL "${pid#/proc/}"
	done
	job_wait third 10
} 2>/dev/null

stop_third_at_exit() {
	local status=$?
	[ -n "${JOB_PID[third]:-}" ] && end_third
	(exit $status)		# clean_up ends with the status it finds
	clean_up
}
THIRD=
trap stop_third_at_exit EXIT

daemon_start
run client env shim shim env
run server shim env env shim
run all shim shim shim shim
