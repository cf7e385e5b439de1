#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench.sh [--json] [--repeats N] [--seconds S] [ROW...]
#
# Plain TCP over veth against xshim, one after the other in each repeat, server on CPU 0, client on CPU 1.
# Prints a table or JSON; asserts nothing. Rows: rr, stream, crr, idle.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/netns.sh"

HERE=${srcdir:-$(dirname "$0")/../..}/tests/bench
SOCKBENCH=${SOCKBENCH:-$XSHIM_BUILD/tests/bench/sockbench}
REPEATS=5 SECONDS_EACH=0.4 IDLE_SECONDS=3 JSON= ROWS=()
while [ $# -gt 0 ]; do
	case $1 in
	--json) JSON=--json ;;
	--repeats) REPEATS=$2; shift ;;
	--seconds) SECONDS_EACH=$2; shift ;;
	rr | stream | crr | idle) ROWS+=("$1") ;;
	*) echo "bench.sh: unknown word $1 (--json --repeats N --seconds S rr stream crr idle)" >&2; exit 2 ;;
	esac
	shift
done
[ ${#ROWS[@]} -gt 0 ] || ROWS=(rr stream crr idle)
PORT=7700
[ -x "$SOCKBENCH" ] || skip "$SOCKBENCH is not built"
need taskset
need_product
ns_up
daemon_start
LOAD_BEFORE=$(cut -d' ' -f1-3 /proc/loadavg)
export LOAD_BEFORE
SERVER_CPU=0 CLIENT_CPU=1
[ "$(nproc)" -gt 1 ] || CLIENT_CPU=0

progress() { [ -t 2 ] && printf '\r\033[K%s' "$*" >&2; }

# measure KIND SIZE SECONDS CONNECTIONS PATH: the client's JSON in $WORK/client.out, the share in SHARE
measure() {
	local prefix=env
	[ "$5" = xshim ] && prefix=shim
	PORT=$((PORT + 1))
	snapshot "$WORK/before.json"
	ns_start server b $prefix taskset -c $SERVER_CPU "$SOCKBENCH" server "$1" "$2" "$IP_B" $PORT
	wait_listen b $PORT
	ns_start client a $prefix taskset -c $CLIENT_CPU "$SOCKBENCH" client "$1" "$2" "$IP_B" $PORT "$3" "$4"
	[ "$1" = idle ] && watch_idle
	job_wait client 60
	[ "$STATUS" = 0 ] || { cat "$WORK/client.err" >&2; fail "$1 $2 $5: client status $STATUS"; }
	job_wait server 20
	[ "$STATUS" = 0 ] || { cat "$WORK/server.err" >&2; fail "$1 $2 $5: server status $STATUS"; }
	SHARE=
	[ "$5" = plain ] || SHARE=$(ring_share_since "$WORK/before.json")
}

# CPU time of all threads of these processes, in microseconds
cpu_us() {
	local pid
	for pid in "$@"; do
		cat /proc/"$pid"/task/*/schedstat 2>/dev/null
	done | awk '{ n += $1 } END { printf "%d\n", n / 1000 }'
}

watch_idle() {
	local pids=("${JOB_PID[server]}" "${JOB_PID[client]}" "${JOB_PID[daemon]}") before
	wait_for 60 "1,000 connections" grep -q idle "$WORK/client.out"
	sleep 0.3	# not to synchronise: the client has yet to go to sleep, and that is not idle time
	before=$(cpu_us "${pids[@]}")
	sleep "$(awk "BEGIN { print $IDLE_SECONDS - 0.8 }")"
	IDLE_US=$(($(cpu_us "${pids[@]}") - before))
}

# sample ROW UNIT BETTER PATH REPEAT VALUE
sample() { printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$@" "$SHARE" >>"$WORK/samples"; }

of() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$WORK/client.out"; }

STREAM_SIZES=(64 1024 16384 65536 1048576)
STREAM_NAMES=("64 B" "1 KiB" "16 KiB" "64 KiB" "1 MiB")

row_rr() {
	measure rr 64 "$SECONDS_EACH" 1 "$1"
	sample "64 B request and response, p50" us low "$1" "$2" "$(of p50_us)"
	sample "64 B request and response, p99" us low "$1" "$2" "$(of p99_us)"
}

row_stream() {
	measure stream "${STREAM_SIZES[$3]}" "$SECONDS_EACH" 1 "$1"
	sample "stream of ${STREAM_NAMES[$3]}" MB/s high "$1" "$2" "$(of bytes_per_s | awk '{ print $1 / 1e6 }')"
}

row_crr() {
	measure crr 64 "$SECONDS_EACH" 1 "$1"
	SHARE=
	sample "connect, request, response, close" 1/s high "$1" "$2" "$(of per_s)"
}

row_idle() {
	measure idle 64 $IDLE_SECONDS 1000 "$1"
	sample "1,000 connections set up and used" s low "$1" "$2" "$(of setup_s)"
	SHARE=
	sample "1,000 idle connections, CPU" us/s low "$1" "$2" \
		"$(awk "BEGIN { print $IDLE_US / ($IDLE_SECONDS - 0.8) }")"
}

# repeat ROW [ARGUMENT]
repeat() {
	local i path n=$REPEATS
	[ "$1" = idle ] && n=$(((REPEATS + 2) / 3))
	for ((i = 0; i < n; i++)); do
		for path in plain xshim; do
			progress "$1 ${2:+${STREAM_NAMES[$2]} }$((i + 1))/$n $path"
			"row_$1" "$path" "$i" "${2:-}"
		done
	done
}

for row in "${ROWS[@]}"; do
	if [ "$row" = stream ]; then
		for size in "${!STREAM_SIZES[@]}"; do
			repeat stream "$size"
		done
	else
		repeat "$row"
	fi
done
progress ""
"$PYTHON" "$HERE/table.py" "$WORK/samples" $JSON
