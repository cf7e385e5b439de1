#!/bin/bash
# SPDX-License-Identifier: MIT
# Node.js: its HTTP server and client over kept connections, and streams with back-pressure through an echo.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need node

APP_CASES="http streams"
APP_MODES="both nodaemon oneend killed"

count() {
	case $MODE,$1 in
	killed,*) echo 3000 ;;
	plain,* | both,*) if full; then echo 4000; else echo 1000; fi ;;
	*) echo 150 ;;
	esac
}

app_server() {
	ns_start server b "$1" node "$TESTS_DIR/apps/node.js" server "$IP_B" $PORT
	wait_listen b $PORT
	wait_listen b $((PORT + 1000))
}

app_client() { ns_run a "$1" node "$TESTS_DIR/apps/node.js" "$2" "$IP_B" $PORT "$(count "$2")"; }

app_check() {
	local kept
	kept=$WORK/sums.$1.$(count "$1")
	check_eq "$RUN: sums" "$(grep -c '^[0-9a-f]\{64\}$' "$WORK/client.out")" 4
	# the same in each run of the same length
	[ -e "$kept" ] || cp "$WORK/client.out" "$kept"
	cmp -s "$WORK/client.out" "$kept" || fail "$RUN: what came is not as over plain TCP"
	[ "$1" = http ] && APP_BYTES=$(($(count http) * 4 * 68620)) || APP_BYTES=$(($(count streams) * 4 * 65536 * 2))
}

app_label() { echo "$1, 4 connections"; }
# a stream fills the buffers of TCP at once
app_share() { [ "$1" = streams ] && echo 90 || echo 99; }
app_half() { echo 10000000; }

app_main "$@"
