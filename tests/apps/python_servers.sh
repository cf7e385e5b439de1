#!/bin/bash
# SPDX-License-Identifier: MIT
# Python: socketserver that forks, that starts threads, asyncio streams, and a multiprocessing manager with worker processes.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need python3

APP_CASES="forking threading asyncio manager"
APP_MODES="both nodaemon oneend killed"

count() {
	case $MODE,$1 in
	killed,*) echo 3000 ;;
	both,* | plain,*) if full; then echo 4000; else echo 1000; fi ;;
	*) echo 200 ;;
	esac
}

app_server() {
	ns_start server b "$1" "$PYTHON" "$TESTS_DIR/apps/python_server.py" "$2" "$IP_B" $PORT
	wait_listen b $PORT
}

app_client() { ns_run a "$1" "$PYTHON" "$TESTS_DIR/apps/python_server.py" "$2" client "$IP_B" $PORT "$(count "$2")"; }

app_check() {
	local kept
	kept=$WORK/sums.$1.$(count "$1")
	check_eq "$RUN: lines" "$(wc -l <"$WORK/client.out")" "$([ "$1" = manager ] && echo 3 || echo 4)"
	[ "$1" != manager ] || check_eq "$RUN: worker processes" "$(sed -n 's/^ended //p' "$WORK/client.out")" "[0, 0, 0, 0]"
	# the same in each run of the same length
	[ -e "$kept" ] || cp "$WORK/client.out" "$kept"
	cmp -s "$WORK/client.out" "$kept" || fail "$RUN: the answers are not as over plain TCP"
	APP_BYTES=$(($(count "$1") * 4 * 15000))
}

app_label() { [ "$1" = manager ] || echo "$1, 4 connections"; }
app_half() { echo 3000000; }
# the manager opens a connection for each proxy, some of which say two words
app_share() { echo 98; }

app_main "$@"
