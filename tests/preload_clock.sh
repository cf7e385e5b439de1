#!/bin/bash
# SPDX-License-Identifier: MIT
#
# F46: no deadline hangs on the time of day, and none of what two processes tell each other on their clocks. The library and xshimd
# ask for no time of day but for the name of an arena; with one that jumps by a day whenever it is asked for, in both ends and in xshimd, and
# with a client whose monotonic clock is ten days ahead of (or behind) the server's and xshimd's (a time namespace), limits of time run out
# when they do over plain TCP, and rings are made and used.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"

SCENES=(load_exchange receive_timeout send_timeout receive_with_time_limit receive_all_restarts cut_off_for_a_moment)
OURS=${XSHIM_PRELOAD##*:}
JUMP=$XSHIM_BUILD/tests/load/.libs/clock_jump.so

# Who asks for the time of day, or waits until one.
need nm
asks() {
	nm -D --undefined-only "$1" | grep -wE 'gettimeofday|time|ftime|timespec_get|localtime_r|gmtime_r|sem_timedwait|timer_create|timerfd_create|pthread_(cond_timedwait|mutex_timedlock|timedjoin_np)|mq_timed(send|receive)'
}
for file in "$OURS" "$XSHIMD"; do
	# libtool's is a script for the one beside it
	[ "$(head -c 2 "$file")" != '#!' ] || file=${file%/*}/.libs/${file##*/}
	found=$(asks "$file")
	[ -z "$found" ] || fail "$file asks for the time of day: $found"
done
SRC=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd)
found=$(grep -rlE 'CLOCK_(REALTIME|TAI)|TFD_TIMER_ABSTIME|FUTEX_CLOCK_REALTIME' "$SRC"/{src,preload,daemon,include} --include='*.[ch]' | sed "s,^$SRC/,," | sort | tr '\n' ' ')
check_eq "files that name the time of day" "$found" "include/xshim/arena.h src/arena.c "

ns_up
SANITIZER=
case $XSHIM_PRELOAD in *:*) SANITIZER=1 ;; esac

# jumping: everything is started with the library of the jumps, plain TCP as well
jumping() {
	: >"$WORK/jumps"
	chmod 666 "$WORK/jumps"
	export CLOCK_JUMPS=$WORK/jumps
	[ -e "$JUMP" ] || fail "there is no $JUMP"
	start daemon env "LD_PRELOAD=$JUMP" "$XSHIMD" --socket="$XSHIM_SOCKET"
	wait_for 10 "xshimd to answer" daemon_up_or_dead
	job_alive daemon || { cat "$WORK/daemon.err" >&2; fail "xshimd has ended at once"; }
	XSHIM_PRELOAD=$JUMP:$OURS behave_main "$1" "${@:2}"
	# both ends of each scene have made an arena
	check_ge "jumps of the clock" "$(wc -c <"$WORK/jumps")" $((2 * ($# - 1)))
	daemon_stop
	unset CLOCK_JUMPS
	note "ok a clock that jumps"
}

elsewhen() {
	unshare --time --fork --monotonic "$1" true 2>/dev/null || { note "not played: no time namespaces here"; return; }
	CLIENT_BY=(unshare --time --fork --monotonic "$1")
	behave_main "${@:2}"
	CLIENT_BY=()
	note "ok a client whose clock is off by $1 s"
}

if [ -n "$SANITIZER" ]; then
	note "not played, a clock that jumps: a sanitizer comes first"
else
	jumping load "${SCENES[@]}"
fi
elsewhen 864000 load load_exchange receive_timeout receive_with_time_limit
if [ -n "${XSHIM_LONG:-}" ]; then
	elsewhen 864000 load "${SCENES[@]}"
	# not below zero
	elsewhen -$(($(cut -d. -f1 /proc/uptime) - 5)) load "${SCENES[@]}"
fi
