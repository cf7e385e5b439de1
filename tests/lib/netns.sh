#!/bin/bash
# SPDX-License-Identifier: MIT
#
# netns.sh - for tests that need two network namespaces, a daemon and its counters. To be sourced.
#
#   ns_up                      two namespaces, a and b, joined by veth; sets IP_A IP_B IP6_A IP6_B
#   ns_run a|b CMD...          run in one; `ns_run a shim CMD` with the preload library
#   ns_start NAME a|b CMD...   same in the background; output in $WORK/NAME.out and NAME.err
#   job_wait NAME [SECONDS]    wait for its end; sets STATUS
#   job_stop NAME              SIGTERM, then SIGKILL
#   wait_listen a|b PORT       until somebody listens there
#   daemon_start / daemon_stop / daemon_kill
#   snapshot FILE              `xshim stat --json` into FILE
#   since FILE .path           how much a number of the report has grown since FILE
#   ring_share_since FILE      per cent of the payload sent since FILE that went by ring
#   fail, skip, note, check_eq, check_ge, check_gt
#
# All the files are in $WORK, which goes away at the end, as do the namespaces and everything that still
# runs in them, however the script ends.
#
# Environment: XSHIM_PRELOAD, the library (may be preceded by a sanitizer's and a colon); XSHIM_BUILD, the
# build directory, where xshimd, xshim and tests/prog/ are (default: the working directory);
# XSHIM_TEST_SLOW, a factor on every deadline (default 1).

set -u

XSHIM_BUILD=${XSHIM_BUILD:-$PWD}
XSHIM_PRELOAD=${XSHIM_PRELOAD:-$XSHIM_BUILD/.libs/libxshim.so}
XSHIMD=${XSHIMD:-$XSHIM_BUILD/xshimd}
XSHIM_TOOL=${XSHIM_TOOL:-$XSHIM_BUILD/xshim}
XSHIM_PROG=${XSHIM_PROG:-$XSHIM_BUILD/tests/prog}
SLOW=${XSHIM_TEST_SLOW:-1}
unset LD_PRELOAD XSHIM_LOG XSHIM_DISABLE
# The distribution's own: a wrapper script in PATH would be a second program under the preload.
PYTHON=/usr/bin/python3
[ -x $PYTHON ] || PYTHON=python3

WORK=
NS_A= NS_B=
declare -A JOB_PID=()
STATUS=0
CLEAN_UP_DONE=

note() { printf '%s\n' "$*"; }
fail() { printf 'FAIL: %s\n' "$*" >&2; exit 1; }
skip() { printf 'skipped: %s\n' "$*"; exit 77; }

need() {
	local c
	for c in "$@"; do
		command -v "$c" >/dev/null || [ -x "/usr/sbin/$c" ] || skip "$c is not installed"
	done
}

# need_under CMD...: where the preload has a sanitizer's library before it, this must end well under that library alone
need_under() {
	[[ $XSHIM_PRELOAD != *:* ]] ||
		timeout 20 env "LD_PRELOAD=${XSHIM_PRELOAD%%:*}" ASAN_OPTIONS=detect_leaks=0 "$@" >/dev/null 2>&1 ||
		skip "$1 does not run under $(basename "${XSHIM_PRELOAD%%:*}"), without xshim"
}

need_root() {
	[ "$(id -u)" = 0 ] || skip "only root may make network namespaces"
	need ip ss nsenter jq
}

need_product() {
	[ -e "${XSHIM_PRELOAD##*:}" ] || skip "no library at ${XSHIM_PRELOAD##*:} (XSHIM_PRELOAD)"
	[ -x "$XSHIMD" ] || skip "no daemon at $XSHIMD (XSHIMD)"
	[ -x "$XSHIM_TOOL" ] || skip "no command at $XSHIM_TOOL (XSHIM_TOOL)"
}

# ---- the end of the script ----

clean_up() {
	local status=$? pid ns
	[ -n "$CLEAN_UP_DONE" ] && return
	CLEAN_UP_DONE=1
	trap '' INT TERM HUP
	exec 2>/dev/null
	for pid in "${JOB_PID[@]}"; do
		kill -KILL "$pid"
	done
	for ns in $NS_A $NS_B; do	# children of servers; nobody else lives in there
		for pid in $(ip netns pids "$ns"); do
			kill -KILL "$pid"
		done
		ip netns del "$ns"
	done
	wait
	[ -n "$WORK" ] && rm -rf "$WORK"
	exit "$status"
}

begin() {
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/xshim-test.XXXXXX") || fail "mktemp"
	chmod 755 "$WORK"
	XSHIM_SOCKET=$WORK/xshimd.sock
	export XSHIM_SOCKET
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

# ---- namespaces ----

ns_up() {
	local x=$(($$ % 250 + 1)) ns n=
	need_root
	[ -n "$WORK" ] || begin
	IP_A=10.77.$x.1 IP_B=10.77.$x.2 IP6_A=fd77::1 IP6_B=fd77::2
	# a run that was killed may have left some, and its number may come again
	while [ -e "/run/netns/xshim-$$-a$n" ] || [ -e "/run/netns/xshim-$$-b$n" ]; do
		n=$((n + 1))
	done
	ip netns add "xshim-$$-a$n" || skip "network namespaces cannot be made here"
	NS_A=xshim-$$-a$n
	ip netns add "xshim-$$-b$n" || fail "ip netns add"
	NS_B=xshim-$$-b$n
	ip link add v0 netns "$NS_A" type veth peer name v0 netns "$NS_B" || fail "ip link add type veth"
	ip -n "$NS_A" addr add "$IP_A/24" dev v0 && ip -n "$NS_A" addr add "$IP6_A/64" dev v0 nodad &&
	ip -n "$NS_B" addr add "$IP_B/24" dev v0 && ip -n "$NS_B" addr add "$IP6_B/64" dev v0 nodad ||
		fail "addresses cannot be set"
	for ns in "$NS_A" "$NS_B"; do
		ip -n "$ns" link set lo up && ip -n "$ns" link set v0 up || fail "ip link set up"
	done
	wait_for 10 "the veth pair to carry IPv6" ns_run a ping_once
}

# bash's own, so that no ping program is needed: a refused connection shows that the way is there.
ping_once() {
	bash -c 'exec 3<>"/dev/tcp/'"$IP6_B"'/9"' 2>&1 | grep -q refused
}

ns_name() {
	case $1 in
	a) echo "$NS_A" ;;
	b) echo "$NS_B" ;;
	*) fail "no namespace is called $1" ;;
	esac
}

# The preload for COMMAND..., in PRELOADED. A sanitizer looks for leaks in our own programs only.
PRELOADED=()
preload_for() {
	PRELOADED=("LD_PRELOAD=$XSHIM_PRELOAD")
	case "$XSHIM_PRELOAD: $*" in
	*": $XSHIM_BUILD/"* | *": $XSHIM_PROG/"*) ;;
	*libasan*:*) PRELOADED+=("ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0") ;;
	esac
}

# The words of a command line for namespace $1, in CMD; a leading `shim` becomes the preload.
CMD=()
build_cmd() {
	local ns
	ns=$(ns_name "$1") || exit 1
	shift
	CMD=(nsenter "--net=/run/netns/$ns" --)
	if [ "$1" = shim ]; then
		shift
		preload_for "$@"
		CMD+=(env "${PRELOADED[@]}")
	fi
	CMD+=("$@")
}

ns_run() {
	if [ "$2" = ping_once ]; then
		nsenter "--net=/run/netns/$(ns_name "$1")" -- \
			bash -c "$(declare -f ping_once); IP6_B=$IP6_B; ping_once"
		return
	fi
	build_cmd "$@"
	"${CMD[@]}"
}

shim() { preload_for "$@"; env "${PRELOADED[@]}" "$@"; }

# ---- jobs ----

START_BY=()	# words before each command that `start` starts, such as setsid
start() {
	local name=$1
	shift
	# here and not only in the child: nobody may see what an earlier job of this name has printed
	: >"$WORK/$name.out" 2>"$WORK/$name.err"
	"${START_BY[@]}" "$@" >"$WORK/$name.out" 2>"$WORK/$name.err" </dev/null &
	JOB_PID[$name]=$!
}

ns_start() {
	local name=$1
	shift
	build_cmd "$@"
	start "$name" "${CMD[@]}"
}

job_alive() { [ -n "${JOB_PID[$1]:-}" ] && kill -0 "${JOB_PID[$1]}" 2>/dev/null; }
job_ended() { ! job_alive "$1"; }

# wait_for SECONDS WHAT CMD...: poll until CMD succeeds.
wait_for() {
	local deadline=$((${EPOCHREALTIME/./} + $1 * SLOW * 1000000)) what=$2
	shift 2
	until "$@"; do
		[ "${EPOCHREALTIME/./}" -lt "$deadline" ] || fail "waited in vain for $what"
		sleep 0.02
	done
}

job_wait() {
	local name=$1
	if ! job_wait_quiet "$name" "${2:-60}"; then
		tail -n 20 "$WORK/$name.err" >&2
		fail "$name has not ended within ${2:-60} seconds"
	fi
}

# Without stderr, because the shell would report there that a job was killed.
job_wait_quiet() {
	local deadline=$((${EPOCHREALTIME/./} + $2 * SLOW * 1000000))
	while job_alive "$1"; do
		[ "${EPOCHREALTIME/./}" -lt "$deadline" ] || return 1
		sleep 0.02
	done
	wait "${JOB_PID[$1]}"
	STATUS=$?
	unset "JOB_PID[$1]"
} 2>/dev/null

job_stop() {
	local name=$1
	[ -n "${JOB_PID[$name]:-}" ] || return 0
	kill -TERM "${JOB_PID[$name]}" 2>/dev/null
	if ! job_wait_quiet "$name" 10; then
		kill -KILL "${JOB_PID[$name]}" 2>/dev/null
		job_wait_quiet "$name" 10
		fail "$name did not end at SIGTERM"
	fi
}

is_listening() {
	ip netns exec "$(ns_name "$1")" ss -Hltn "sport = :$2" | grep -q LISTEN
}

wait_listen() { wait_for 20 "a listener at port $2 of namespace $1" is_listening "$1" "$2"; }

# ---- the daemon and its counters ----

daemon_answers() { "$XSHIM_TOOL" stat --json >/dev/null 2>&1; }

daemon_start() {
	need_product
	rm -f "$XSHIM_SOCKET"
	# as its unit has it: introductions are made while busy programs compete for the processors
	start daemon nice -n -10 "$XSHIMD" --socket="$XSHIM_SOCKET" "$@"
	wait_for 10 "xshimd to answer" daemon_up_or_dead
	job_alive daemon || { cat "$WORK/daemon.err" >&2; fail "xshimd has ended at once"; }
	chmod 666 "$XSHIM_SOCKET" 2>/dev/null || :
}

daemon_up_or_dead() { job_ended daemon || daemon_answers; }

daemon_stop() { job_stop daemon; [ "$STATUS" = 0 ] || fail "xshimd ended with status $STATUS"; }

daemon_kill() {
	kill -KILL "${JOB_PID[daemon]}" || fail "xshimd was not running any more"
	job_wait daemon 10
}

snapshot() {
	"$XSHIM_TOOL" stat --json >"$1" || fail "xshim stat --json does not work"
}

# since FILE PATH...: growth of the sum of the numbers at these paths
since() {
	local old=$1 IFS=+
	shift
	snapshot "$WORK/since.json"
	jq -n --slurpfile o "$old" --slurpfile n "$WORK/since.json" \
		"(\$n[0] | $*) - (\$o[0] | $*)" || fail "the report lacks $*"
}

# What both ends sent; what they received is the same payload again.
ring_share_since() {
	snapshot "$WORK/share.json"
	jq -nr --slurpfile o "$1" --slurpfile n "$WORK/share.json" '
		($n[0].bytes.ring_tx - $o[0].bytes.ring_tx) as $ring |
		($n[0].bytes.tcp_tx - $o[0].bytes.tcp_tx) as $tcp |
		if $ring + $tcp == 0 then "0.00"
		else ($ring * 10000 / ($ring + $tcp) | floor | . / 100 | tostring) end' ||
		fail "the report lacks bytes.ring_tx or bytes.tcp_tx"
}

# ---- assertions ----

check_eq() { [ "$2" = "$3" ] || fail "$1 is $2, must be $3"; }
check_ge() { awk "BEGIN { exit !($2 >= $3) }" || fail "$1 is $2, must be at least $3"; }
check_gt() { awk "BEGIN { exit !($2 > $3) }" || fail "$1 is $2, must be more than $3"; }
check_empty() { [ ! -s "$2" ] || fail "$1 must be empty and says: $(head -n 5 "$2")"; }
