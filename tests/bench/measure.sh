#!/bin/bash
# SPDX-License-Identifier: MIT
#
# measure.sh - one measurement of bench.sh, and who else was at work meanwhile. To be sourced by it.

SERVER_CPU=0 CLIENT_CPU=1
[ "$(nproc)" -gt 1 ] || CLIENT_CPU=0
CLIENT_PREFIX=()
OTHERS= SHARE= FAILED=
PENDING=()
LOAD_BEFORE=$(cut -d' ' -f1-3 /proc/loadavg)
export LOAD_BEFORE
: >"$WORK/samples"
: >"$WORK/failures"
# Connections by the ten thousand, one after the other, leave as many ports behind for a minute.
ns_run a sh -c 'echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range'

progress() { [ -t 2 ] && printf '\r\033[K%s' "$*" >&2; }

# ---- precedence ----

PRECEDENCE=none
AUTOGROUP_BEFORE=
if [ -n "$WANT_PRECEDENCE" ]; then
	AUTOGROUP_BEFORE=$(sed -n 's/.* nice //p' /proc/self/autogroup 2>/dev/null)
	if [ -n "$AUTOGROUP_BEFORE" ] && echo -20 2>/dev/null >/proc/self/autogroup; then
		PRECEDENCE="autogroup at nice -20"
	else
		AUTOGROUP_BEFORE=
		note "bench.sh: this kernel does not give precedence to a session" >&2
	fi
fi
export PRECEDENCE

# What else has to be undone; netns.sh does the rest, and needs the status.
bench_end() {
	[ -z "$AUTOGROUP_BEFORE" ] || echo "$AUTOGROUP_BEFORE" >/proc/self/autogroup
	sockmap_down
	return "$1"
} 2>/dev/null
trap 'bench_end $?; clean_up' EXIT

daemon_start

# The daemon of "another machine", for the row off.
OTHER_SOCKET=$WORK/other.sock
other_daemon_start() {
	[ -z "${JOB_PID[other]:-}" ] || return 0
	start other "$XSHIMD" --socket="$OTHER_SOCKET"
	wait_for 10 "the second xshimd to answer" other_answers
}
other_answers() { XSHIM_SOCKET=$OTHER_SOCKET "$XSHIM_TOOL" stat --json >/dev/null 2>&1; }

# ---- samples, and what others took of the processors ----

# Busy time of all processors in ticks, stolen time included.
busy_ticks() {
	local name user nice system idle iowait irq softirq steal rest
	read -r name user nice system idle iowait irq softirq steal rest </proc/stat
	BUSY=$((user + nice + system + irq + softirq + steal))
}

# CPU time of this shell, of its children that have ended, and of the daemons, in milliseconds
our_ms() {
	times >"$WORK/times"
	OURS=$(cat "$WORK/times" /proc/"${JOB_PID[daemon]}"/schedstat /proc/"${JOB_PID[other]:-0}"/schedstat 2>/dev/null | awk '
		/m/ { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); n += t[1] * 60000 + t[2] * 1000 } next }
		{ n += $1 / 1e6 }
		END { printf "%d", n }')
}

begin_others() {
	PENDING=() SHARE=
	our_ms
	OURS_BEFORE=$OURS
	busy_ticks
	BUSY_BEFORE=$BUSY
	BEGAN=${EPOCHREALTIME/./}
}

TICKS=$(getconf CLK_TCK)
end_others() {
	local p us=$((${EPOCHREALTIME/./} - BEGAN))
	busy_ticks
	our_ms
	OTHERS=$(awk "BEGIN {
		n = (($BUSY - $BUSY_BEFORE) * 1000 / $TICKS - ($OURS - $OURS_BEFORE)) * 100000 / $us / $(nproc)
		printf \"%.1f\", n < 0 ? 0 : n }")
	for p in "${PENDING[@]}"; do
		printf '%s\t%s\n' "$p" "$OTHERS" >>"$WORK/samples"
	done
}

# sample KEY COLUMN REPEAT VALUE; of a measurement that has failed, why
sample() {
	[ -n "$4$FAILED" ] || FAILED="there is no figure in what the client has printed"
	if [ -n "$FAILED" ]; then
		printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$FAILED" >>"$WORK/failures"
		return
	fi
	PENDING+=("$1"$'\t'"$2"$'\t'"$3"$'\t'"$4"$'\t'"$SHARE")
}

of() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$WORK/client.out"; }

# ---- one measurement ----

is_ready() { grep -q listening "$WORK/server.out" || job_ended server; }

# ended NAME SECONDS: with status 0 and in that time. Else FAILED says what happened, and it is no more.
ended() {
	[ -n "${JOB_PID[$1]:-}" ] || return
	if ! job_wait_quiet "$1" "$2"; then
		FAILED="the $1 has not ended within $2 seconds"
		kill -KILL "${JOB_PID[$1]}" 2>/dev/null
		job_wait_quiet "$1" 10
		return 1
	fi
	[ "$STATUS" != 0 ] || return 0
	FAILED="the $1 ended with status $STATUS: $(tail -n 1 "$WORK/$1.err" | tr '\t' ' ')"
	return 1
}

# Neither is there any more, whatever has happened; which is the measurement's status, too.
both_ended() {
	if ! ended client "$1"; then
		[ -z "${JOB_PID[server]:-}" ] || kill -KILL "${JOB_PID[server]}" 2>/dev/null
		job_wait_quiet server 10
		return 1
	fi
	ended server 20
}

# measure COLUMN KIND SIZE SECONDS [CONNECTIONS]: the client's JSON in $WORK/client.out, the share in SHARE
measure() {
	local column=$1 kind=$2 size=$3 seconds=$4 connections=${5:-1} server=() client=() to=$IP_B
	SHARE= FAILED=
	if [ "$column" = ring ]; then
		measure_alone plain "$BENCH_BIN/ringbench" "$kind" "$size" "$seconds" $SERVER_CPU $CLIENT_CPU
		return
	fi
	PORT=$((PORT + 1))
	case $column in
	xshim | apart)
		preload_for "$SOCKBENCH"
		server=(env "${PRELOADED[@]}") client=("${server[@]}")
		[ "$column" = xshim ] || server+=("XSHIM_SOCKET=$OTHER_SOCKET")
		snapshot "$WORK/before.json" ;;
	unix) to=$WORK/bench.$PORT.sock ;;
	sockmap) server=("${SOCKMAP_RUN[@]}") client=("${SOCKMAP_RUN[@]}") ;;
	esac
	ns_start server b taskset -c $SERVER_CPU "${server[@]}" "$SOCKBENCH" server "$kind" "$size" "$to" $PORT
	wait_for 20 "the server of $kind" is_ready
	ns_start client a taskset -c $CLIENT_CPU "${CLIENT_PREFIX[@]}" "${client[@]}" \
		"$SOCKBENCH" client "$kind" "$size" "$to" $PORT "$seconds" "$connections"
	[ "$kind" = idle ] && watch_idle "$seconds" "$connections"
	both_ended 40 || return
	case $column in
	xshim | apart) SHARE=$(ring_share_since "$WORK/before.json") ;;
	esac
}

# measure_alone plain|xshim PROGRAM...: one program, without a network
measure_alone() {
	local prefix=env
	[ "$1" = xshim ] && prefix=shim
	SHARE= FAILED=
	start client $prefix "${@:2}"
	ended client 40
}

# ---- idle connections ----

# CPU time of all threads of these processes, in microseconds
cpu_us() {
	local pid
	for pid in "$@"; do
		cat /proc/"$pid"/task/*/schedstat 2>/dev/null
	done | awk '{ n += $1 } END { printf "%d\n", n / 1000 }'
}

# What these processes hold, memory they share counted once, in KiB. Of shared memory, all that the machine has: a ring has its pages before
# somebody has touched them, and nobody's tables show those.
memory_kib() {
	local pid
	{
		for pid in "$@"; do
			cat /proc/"$pid"/smaps_rollup 2>/dev/null
		done
		cat /proc/meminfo
	} | awk '$1 == "Pss_Anon:" || $1 == "Pss_File:" || $1 == "Shmem:" { n += $2 } END { print n + 0 }'
}

is_idle() { grep -q idle "$WORK/client.out" || job_ended client; }

# watch_idle SECONDS CONNECTIONS: IDLE_US_PER_S over two seconds less, IDLE_KIB
watch_idle() {
	local pids=("${JOB_PID[server]}" "${JOB_PID[client]}" "${JOB_PID[daemon]}") before began us
	wait_for 60 "$2 connections" is_idle
	sleep 0.3	# not to synchronise: the client has yet to go to sleep, and that is not idle time
	IDLE_KIB=$(memory_kib "${pids[@]}")
	before=$(cpu_us "${pids[@]}")
	began=${EPOCHREALTIME/./}
	sleep $(($1 - 2))
	us=$(($(cpu_us "${pids[@]}") - before))
	IDLE_US_PER_S=$((us * 1000000 / (${EPOCHREALTIME/./} - began)))
	job_alive client || FAILED="the client had ended before it could be looked at"
}
