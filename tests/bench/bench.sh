#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench.sh [OPTION...] [ROW...]
#
# Plain TCP over veth against xshim, side by side with a unix socket, a bare ring of two processes and,
# where clang and libbpf are there, a sockmap; one after the other in each repeat. Server on processor 0,
# client on 1. Prints a table; asserts nothing about the figures. Status 1: a measurement could not be made.
#
#   --columns A,B    of plain xshim unix ring sockmap (default: all that can be had here)
#   --repeats N      5
#   --seconds S      of one measurement: 0.3
#   --json           print JSON instead of the table
#   --save FILE      write the JSON, for tests/bench/table.py FILE --markdown
#   --plot DIR       draw latency, throughput and operations/s (gnuplot: PNG and SVG); measures the row `size` for it
#   --precedence     ask the scheduler to prefer us over others' sessions (autogroup, nice -20): for a machine that is not quiet
#   --list           the rows, and what is asked of each
#
# Rows: rr paced onecpu epoll many stream crr redis nginx idle off fd steps; and size (default: all but size).
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/netns.sh"

HERE=${srcdir:-$(dirname "$0")/../..}/tests/bench
BENCH_BIN=${BENCH_BIN:-$XSHIM_BUILD/tests/bench}
SOCKBENCH=$BENCH_BIN/sockbench
export PYTHONDONTWRITEBYTECODE=1
ALL_ROWS=(rr paced onecpu epoll many stream crr redis nginx idle off fd steps)
REPEATS=5 SECONDS_EACH=0.3 IDLE_SECONDS=5 JSON= SAVE= PLOT= WANT_PRECEDENCE= ROWS=() COLUMNS_WANTED=()
CHOSEN=

usage() { echo "bench.sh: $*; see the top of tests/bench/bench.sh" >&2; exit 2; }

while [ $# -gt 0 ]; do
	case $1 in
	--json) JSON=--json ;;
	--precedence) WANT_PRECEDENCE=1 ;;
	--columns | --repeats | --seconds | --save | --plot)
		[ $# -gt 1 ] || usage "$1 needs a word after it"
		case $1 in
		--columns) IFS=, read -ra COLUMNS_WANTED <<<"$2"; CHOSEN=1 ;;
		--repeats) REPEATS=$2 ;;
		--seconds) SECONDS_EACH=$2 ;;
		--save) SAVE=$2 ;;
		--plot) PLOT=$2 ;;
		esac
		shift ;;
	--list) exec "$PYTHON" "$HERE/table.py" --list ;;
	rr | paced | onecpu | epoll | many | stream | crr | redis | nginx | idle | off | fd | steps | size) ROWS+=("$1") ;;
	*) usage "unknown word $1" ;;
	esac
	shift
done
[ ${#ROWS[@]} -gt 0 ] || ROWS=("${ALL_ROWS[@]}")
[ ${#COLUMNS_WANTED[@]} -gt 0 ] || COLUMNS_WANTED=(plain xshim unix ring sockmap)
[[ $REPEATS =~ ^[1-9][0-9]*$ ]] || usage "--repeats $REPEATS is no number"
[[ $SECONDS_EACH =~ ^[0-9]*\.?[0-9]+$ ]] || usage "--seconds $SECONDS_EACH is no number"
if [ -n "$PLOT" ]; then
	need gnuplot
	mkdir -p "$PLOT" && PLOT=$(cd "$PLOT" && pwd) || fail "$PLOT cannot be made"
	case " ${ROWS[*]} " in *" size "*) ;; *) ROWS+=(size) ;; esac
fi
PORT=7700
for program in sockbench ringbench fdcost stepcount; do
	[ -x "$BENCH_BIN/$program" ] || skip "$BENCH_BIN/$program is not built"
done
need taskset
need_product
ns_up
# shellcheck source=/dev/null
. "$HERE/measure.sh"
. "$HERE/apps.sh"
. "$HERE/sockmap.sh"

# ---- the columns ----

ABSENT=
absent() { ABSENT="$ABSENT${ABSENT:+;}$1"; }

COLUMNS=()
for column in "${COLUMNS_WANTED[@]}"; do
	case $column in
	plain | xshim | unix | ring) COLUMNS+=("$column") ;;
	sockmap)
		if sockmap_up; then
			COLUMNS+=(sockmap)
		else
			absent "sockmap: $SOCKMAP_WHY"
			[ -z "$CHOSEN" ] || note "bench.sh: sockmap: $SOCKMAP_WHY" >&2
		fi ;;
	*) usage "there is no column $column" ;;
	esac
done

# has COLUMN WORD...: one of the words
has() { case " ${*:2} " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# ---- the rows: run_ROW COLUMN REPEAT [ARGUMENT] ----

STREAM_SIZES=(64 1024 16384 65536 1048576)

run_rr() {
	measure "$1" rr 64 "$SECONDS_EACH"
	sample rr.p50 "$1" "$2" "$(of p50_us)"
	sample rr.p99 "$1" "$2" "$(of p99_us)"
}

run_paced() {
	measure "$1" paced 64 "$SECONDS_EACH"
	sample paced.p50 "$1" "$2" "$(of p50_us)"
	sample paced.p99 "$1" "$2" "$(of p99_us)"
}

run_onecpu() {
	SERVER_CPU=$CLIENT_CPU measure "$1" rr 64 "$SECONDS_EACH"
	sample onecpu.p50 "$1" "$2" "$(of p50_us)"
}

run_epoll() {
	measure "$1" epoll 64 "$SECONDS_EACH"
	sample epoll.p50 "$1" "$2" "$(of p50_us)"
}

run_many() {
	measure "$1" many 64 "$SECONDS_EACH" "$3"
	sample "many.$3" "$1" "$2" "$(of per_s | awk '{ print $1 / 1000 }')"
}

run_stream() {
	measure "$1" stream "$3" "$SECONDS_EACH"
	sample "stream.$3" "$1" "$2" "$(of bytes_per_s | awk '{ print $1 / 1e6 }')"
}

run_size() {
	measure "$1" rr "$3" "$SECONDS_EACH"
	sample "size.$3" "$1" "$2" "$(of p50_us)"
}

run_crr() {
	measure "$1" crr 64 "$SECONDS_EACH"
	sample crr "$1" "$2" "$(of per_s)"
}

# Preloaded, but with a daemon that has never heard of the server's: as on two machines.
run_off() {
	local column=$1
	[ "$column" = plain ] || column=apart
	case $3 in
	rr) measure $column rr 64 "$SECONDS_EACH"; sample off.rr "$1" "$2" "$(of p50_us)" ;;
	stream) measure $column stream 1024 "$SECONDS_EACH"
		sample off.stream "$1" "$2" "$(of bytes_per_s | awk '{ print $1 / 1e6 }')" ;;
	crr) measure $column crr 64 "$SECONDS_EACH"; sample off.crr "$1" "$2" "$(of per_s)" ;;
	esac
}

run_idle() {
	local one many n=1000
	measure "$1" idle 64 2 1
	one=$IDLE_KIB
	[ -n "$FAILED" ] || measure "$1" idle 64 $IDLE_SECONDS $n
	many=$IDLE_KIB
	sample idle.cpu "$1" "$2" "$IDLE_US_PER_S"
	sample idle.mem "$1" "$2" "$(awk "BEGIN { print ($many - $one) / ($n - 1) }")"
}

run_fd() {
	measure_alone "$1" "$BENCH_BIN/fdcost" "$SECONDS_EACH" "$WORK"
	sample fd.pipe "$1" "$2" "$(of pipe_ns)"
	sample fd.file "$1" "$2" "$(of file_ns)"
}

run_steps() {
	CLIENT_PREFIX=("$BENCH_BIN/stepcount" "$WORK/$1.profile")
	measure "$1" step 64 1
	CLIENT_PREFIX=()
	sample steps.send "$1" "$2" "$(of send)"
	sample steps.recv "$1" "$2" "$(of recv)"
	sample steps.sum "$1" "$2" "$(of sum)"
}

run_redis() { redis_runs "$1" "$2"; }
run_nginx() { nginx_runs "$1" "$2"; }

# each ROW REPEATS "COLUMN..." [ARGUMENT]: of the columns only those that are wanted
each() {
	local i column
	for ((i = 0; i < $2; i++)); do
		for column in "${COLUMNS[@]}"; do
			has "$column" $3 || continue
			progress "$1 ${4:-} $((i + 1))/$2 $column"
			begin_others
			"run_$1" "$column" "$i" "${4:-}"
			end_others
		done
	done
}

for row in "${ROWS[@]}"; do
	has "$row" steps && [ "$(uname -m)" != x86_64 ] && { absent "steps: stepcount knows only x86-64"; continue; }
	has "$row" redis && ! command -v redis-benchmark >/dev/null && { absent "redis: it is not installed"; continue; }
	has "$row" nginx && ! { [ -x /usr/sbin/nginx ] && command -v wrk >/dev/null; } && { absent "nginx, wrk: not installed"; continue; }
	[ "$row" = off ] && has xshim "${COLUMNS[@]}" && other_daemon_start
	case $row in
	rr | paced) each $row "$REPEATS" "plain xshim unix ring sockmap" ;;
	onecpu) each onecpu "$REPEATS" "plain xshim unix ring" ;;
	epoll) each epoll "$REPEATS" "plain xshim unix" ;;
	crr) each crr "$REPEATS" "plain xshim unix" ;;
	many)
		for n in ${PLOT:+1} 16 256 4096; do
			each many "$REPEATS" "plain xshim unix" "$n"
		done ;;
	stream)
		for n in "${STREAM_SIZES[@]}"; do
			each stream "$REPEATS" "plain xshim unix ring sockmap" "$n"
		done ;;
	size)
		for n in "${STREAM_SIZES[@]}"; do
			each size "$REPEATS" "plain xshim unix ring" "$n"
		done ;;
	off)
		for kind in rr stream crr; do
			each off "$REPEATS" "plain xshim" $kind
		done ;;
	redis) each redis "$REPEATS" "plain xshim unix" ;;
	nginx) each nginx "$REPEATS" "plain xshim" ;;
	idle) each idle $(((REPEATS + 2) / 3)) "plain xshim" ;;
	fd) each fd "$REPEATS" "plain xshim" ;;
	steps) each steps 1 "plain xshim" ;;
	esac
done
progress ""
BENCH_TOOK=$SECONDS PROFILE=$WORK/xshim.profile
export ABSENT BENCH_TOOK PROFILE
FAILURES=$WORK/failures "$PYTHON" "$HERE/table.py" "$WORK/samples" $JSON --save "$WORK/result.json" || fail "no table"
[ -z "$SAVE" ] || cp "$WORK/result.json" "$SAVE" || fail "$SAVE cannot be written"
[ -z "$PLOT" ] || "$PYTHON" "$HERE/plot.py" "$WORK/result.json" "$PLOT" || fail "no plots"
# What only the sockmap could not do is no failure of ours (it is said in the table).
[ "$(cut -f 2 "$WORK/failures" | grep -vc sockmap)" = 0 ] || exit 1
