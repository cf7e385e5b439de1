#!/bin/bash
# SPDX-License-Identifier: MIT
#
# app.sh - runs a real program's server and client in two namespaces, once over plain TCP and then in
# each of these modes, and wants the same results, exit status and stderr:
#
#   both      daemon up, both ends preloaded: the bytes must have gone by ring
#   nodaemon  both preloaded, nobody at the daemon's socket
#   oneend    daemon up, only the client preloaded, then only the server
#   killed    both preloaded, the daemon is killed with SIGKILL while the client is at work
#   restarted the same, and another is started when the client has gone on for a while: connections made then go by ring again
#   version   both preloaded, a daemon that refuses, one that is newer, one that never answers
#
# To be sourced by tests/apps/NAME.sh, which defines
#
#   APP_CASES               words, each a way to use the program
#   app_prepare             data and configuration, in $WORK
#   app_server P CASE       start job "server" in namespace b; P is `shim` or `env`
#   app_client P CASE       be the client in namespace a; prints its results; its status is compared
#   app_check CASE          are the results in $WORK/client.out right?
#   app_share CASE          least ring share in per cent in mode `both`; 0: any bytes at all; none: not even that, but both
#                           paths together have some
#   app_half CASE           bytes by ring after which `killed` and `restarted` kill; where the share is none, by both paths and at both ends
#   app_normalise           a filter that makes what may differ on stderr equal (default: none)
#   app_excuses FILE        what differs in FILE has been seen over plain TCP, too, where the program does it now and then (default: never)
#   app_lost_race CASE      the share is too small, and what the shim says of the connections shows that the program did first what keeps
#                           one of them on TCP, APP_LOST; who is first is a matter of the machine's load, so it is played again, up to
#                           three times (default: never)
#   app_server_end          default: SIGTERM
#
#   APP_MODES               the modes that are run if none is named (default: all but restarted)
#   APP_LIMIT               seconds that a client may take (default: 120)
#   APP_GAP                 lines that the client prints in mode `restarted` while there is no daemon (default: 20)
#   app_plays MODE CASE     false: not in this mode (default: always)
#   app_label CASE          what is measured, for the table (default: the case's name; empty: no line there)
#
# app_check may set APP_VALUE to a number and APP_UNIT to its unit; else APP_BYTES gives MB/s.
# XSHIM_TEST_SIZE=full makes the transfers large. XSHIM_TABLE: a file to which mode `both` adds a line per
# case: program, measure, unit, plain, xshim, ring share (with tabs).

. "${srcdir:-$(dirname "$0")/../..}/tests/lib/netns.sh"

SIZE=${XSHIM_TEST_SIZE:-small}
TESTS_DIR=${srcdir:-$(dirname "$0")/../..}/tests
PORT=7300
declare -A PLAIN_VALUE=()

full() { [ "$SIZE" = full ]; }
app_normalise() { cat; }
app_excuses() { false; }
app_lost_race() { false; }
app_server_end() { job_stop server; }
app_share() { echo 99; }
app_half() { echo 1; }
app_prepare() { :; }
app_plays() { :; }
app_label() { echo "$1"; }

# random_file NAME MEGABYTES: in $WORK, with its sum in NAME.sha256
random_file() {
	head -c "${2}M" /dev/urandom >"$WORK/$1" || fail "cannot write $WORK/$1"
	sha256sum <"$WORK/$1" | cut -d' ' -f1 >"$WORK/$1.sha256"
}

# What is compared with the plain run, in files $1.*
keep() {
	echo "$CLIENT_STATUS" >"$WORK/$1.client.status"
	echo "$STATUS" >"$WORK/$1.server.status"
	app_normalise <"$WORK/client.err" >"$WORK/$1.client.err"
	app_normalise <"$WORK/server.err" >"$WORK/$1.server.err"
}

compare() {
	local f
	keep now
	for f in client.status server.status client.err server.err; do
		cmp -s "$WORK/plain.$CASE.$f" "$WORK/now.$f" && continue
		app_excuses "$f" && continue
		diff -u "$WORK/plain.$CASE.$f" "$WORK/now.$f" | head -n 20 >&2
		fail "$RUN: $f is not as over plain TCP"
	done
}

client_begin() {
	BEGAN=${EPOCHREALTIME/./}
	start client app_client "$1" "$CASE"
}

client_end() {
	job_wait client "${APP_LIMIT:-120}"
	CLIENT_STATUS=$STATUS
	[ "$CLIENT_STATUS" = 0 ] || { cat "$WORK/client.err" >&2; fail "$RUN: the client ended with status $CLIENT_STATUS"; }
	local took=$((${EPOCHREALTIME/./} - BEGAN))
	APP_VALUE= APP_UNIT= APP_BYTES=
	app_check "$CASE"
	[ -z "$APP_BYTES" ] || { APP_VALUE=$((APP_BYTES / took)) APP_UNIT=MB/s; }
}

# transfer SERVER-PREFIX CLIENT-PREFIX: a whole run
transfer() {
	app_server "$1" "$CASE"
	client_begin "$2"
	client_end
	app_server_end
	PORT=$((PORT + 1))
}

said() { note "ok $RUN${APP_VALUE:+: $APP_VALUE $APP_UNIT}${1:+, $1}"; }

plain() {
	local MODE=plain
	RUN="$APP $CASE plain"
	transfer env env
	keep "plain.$CASE"
	PLAIN_VALUE[$CASE]=$APP_VALUE
	said
}

mode_both() {
	local ring share least seen lost=0
	least=$(app_share "$CASE")
	while :; do
		snapshot "$WORK/before.json"
		transfer shim shim
		compare
		ring=$(since "$WORK/before.json" .bytes.ring_tx)
		share=$(ring_share_since "$WORK/before.json")
		[ "$least" != none ] && awk "BEGIN { exit !($share < $least) }" && [ $((lost++)) -lt 3 ] && app_lost_race "$CASE" || break
		note "$RUN: ring share $share %: $APP_LOST; once more"
	done
	if [ "$least" = none ]; then
		seen=$(since "$WORK/before.json" .bytes.tcp_tx .bytes.tcp_rx .bytes.ring_tx .bytes.ring_rx)
		check_gt "$RUN: bytes that the preloaded ends counted" "$seen" 0
	else
		check_gt "$RUN: bytes by ring" "$ring" 0
		check_ge "$RUN: ring share in per cent" "$share" "$least"
	fi
	said "ring share $share %"
	[ -z "${XSHIM_TABLE:-}" ] || [ -z "$(app_label "$CASE")" ] ||
		printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$APP" "$(app_label "$CASE")" "$APP_UNIT" "${PLAIN_VALUE[$CASE]}" \
			"$APP_VALUE" "$share" >>"$XSHIM_TABLE"
}

mode_nodaemon() {
	transfer shim shim
	compare
	said
}

mode_oneend() {
	local ends seen
	for ends in "env shim" "shim env"; do
		RUN="$APP $CASE oneend ($([ "$ends" = "env shim" ] && echo client || echo server))"
		snapshot "$WORK/before.json"
		# shellcheck disable=SC2086
		transfer $ends
		compare
		check_eq "$RUN: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx .bytes.ring_rx)" 0
		seen=$(since "$WORK/before.json" .bytes.tcp_tx .bytes.tcp_rx)
		check_gt "$RUN: bytes over TCP that the preloaded end counted" "$seen" 0
		said
	done
}

half_done() {
	local n paths=(.bytes.ring_tx)
	job_alive client || return 0
	[ "$(app_share "$CASE")" != none ] || paths=(.bytes.ring_tx .bytes.ring_rx .bytes.tcp_tx .bytes.tcp_rx)
	n=$(since "$WORK/before.json" "${paths[@]}")
	[ "$n" -ge "$(app_half "$CASE")" ]
}

# A run as far as the daemon's death half-way
kill_half_way() {
	snapshot "$WORK/before.json"
	app_server shim "$CASE"
	client_begin shim
	wait_for 100 "$(app_half "$CASE") bytes to go" half_done
	job_alive client || fail "$RUN: the client had ended before the daemon could be killed; make it longer"
	daemon_kill
}

mode_killed() {
	kill_half_way
	client_end
	app_server_end
	compare
	PORT=$((PORT + 1))
	said
	# there is no daemon any more, so it need not be longer than where there was none
	local MODE=nodaemon
	RUN="$RUN, afterwards"
	transfer shim shim
	compare
	said
}

has_printed() { job_ended client || [ "$(wc -l <"$WORK/client.out")" -ge "$1" ]; }

mode_restarted() {
	kill_half_way
	wait_for 60 "the client to go on without a daemon" has_printed $(($(wc -l <"$WORK/client.out") + ${APP_GAP:-20}))
	job_alive client || fail "$RUN: the client had ended before there was a daemon again; make it longer"
	daemon_start
	client_end
	app_server_end
	compare
	PORT=$((PORT + 1))
	check_gt "$RUN: connections that the second xshimd has put on rings" "$("$XSHIM_TOOL" stat --json | jq .daemon.matched)" 0
	said
}

# The daemons that a case meets: the first one all, each other one the next in turn, so that short runs have each of them with each program.
daemons_for() {
	local all=(refuse newer silent close) n=0 word
	for word in $APP_CASES; do
		[ "$word" = "$1" ] && break
		n=$((n + 1))
	done
	if full || [ $n = 0 ]; then
		echo "${all[@]}"
	else
		echo "${all[$((n % 4))]}"
	fi
}

mode_version() {
	local how
	for how in $(daemons_for "$CASE"); do
		RUN="$APP $CASE version ($how)"
		start fake "$PYTHON" "$TESTS_DIR/lib/fake_daemon.py" "$XSHIM_SOCKET" $how
		wait_for 10 "the fake daemon" grep -q ready "$WORK/fake.out"
		chmod 666 "$XSHIM_SOCKET"
		transfer shim shim
		compare
		grep -q hello "$WORK/fake.out" || fail "$RUN: nobody has spoken to the daemon"
		kill "${JOB_PID[fake]}"
		job_wait fake 10
		rm -f "$XSHIM_SOCKET"
		said
	done
}

# app_main MODE...
app_main() {
	local mode
	APP=$(basename "$0" .sh)
	# shellcheck disable=SC2086
	[ $# -gt 0 ] || set -- ${APP_MODES:-both nodaemon oneend killed version}
	ns_up
	[ "$*" = plain ] || need_product
	app_prepare
	for CASE in $APP_CASES; do
		for mode in "$@"; do
			if [ "$mode" = plain ] || app_plays "$mode" "$CASE"; then
				plain
				break
			fi
		done
	done
	for mode in "$@"; do
		MODE=$mode
		case $mode in
		plain) continue ;;
		both | oneend | killed | restarted | nodaemon | version) ;;
		*) fail "no mode is called $mode (plain both nodaemon oneend killed restarted version)" ;;
		esac
		for CASE in $APP_CASES; do
			app_plays "$mode" "$CASE" || continue
			case $mode in
			both | oneend) [ -n "${JOB_PID[daemon]:-}" ] || daemon_start ;;
			killed | restarted) [ -n "${JOB_PID[daemon]:-}" ] && daemon_stop; daemon_start ;;
			*) [ -n "${JOB_PID[daemon]:-}" ] && daemon_stop; rm -f "$XSHIM_SOCKET" ;;
			esac
			RUN="$APP $CASE $mode"
			"mode_$mode"
		done
	done
}
