#!/bin/bash
# SPDX-License-Identifier: MIT
# memcached with four threads, as user nobody: memcslap's load, and a client whose threads check what they read.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need memcached memcslap

APP_CASES="threads slap"
APP_MODES="both nodaemon oneend killed"
THREADS=6

rounds() {
	case $MODE in
	killed) echo 60 ;;
	oneend) echo 4 ;;
	*) if full; then echo 60; else echo 15; fi ;;
	esac
}

gets() {
	case $MODE in
	killed | plain | both) echo 20000 ;;
	*) echo 3000 ;;
	esac
}

app_server() {
	ns_start server b "$1" memcached -u nobody -t 4 -m 256 -l "$IP_B" -p $PORT -U 0
	wait_listen b $PORT
}

app_client() {
	if [ "$2" = slap ]; then
		ns_run a "$1" memcslap --servers="$IP_B:$PORT" --concurrency=4 --execute-number="$(gets)" --test=get
	else
		ns_run a "$1" "$PYTHON" "$TESTS_DIR/apps/memcache_client.py" "$IP_B" $PORT $THREADS "$(rounds)"
	fi
}

app_check() {
	local seconds
	if [ "$1" = slap ]; then
		seconds=$(sed -n 's/^Time to get .*threads: *\([0-9.]*\) seconds.*/\1/p' "$WORK/client.out")
		check_gt "$RUN: memcslap's time" "${seconds:-0}" 0
		APP_VALUE=$(awk "BEGIN { print int(4 * $(gets) / $seconds) }")
		APP_UNIT=get/s
		return
	fi
	check_eq "$RUN: sums" "$(grep -c '^[0-9a-f]\{64\}$' "$WORK/client.out")" $THREADS
	check_eq "$RUN: the counter" "$(tail -n 1 "$WORK/client.out")" $((THREADS * $(rounds) * 200))
	# the same bytes in each run of the same length
	[ -e "$WORK/sums.$(rounds)" ] || cp "$WORK/client.out" "$WORK/sums.$(rounds)"
	cmp -s "$WORK/client.out" "$WORK/sums.$(rounds)" || fail "$RUN: the values read are not as over plain TCP"
}

app_label() { [ "$1" = slap ] && echo "get, 4 clients"; }
app_half() { echo 3000000; }

app_main "$@"
