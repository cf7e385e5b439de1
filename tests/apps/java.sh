#!/bin/bash
# SPDX-License-Identifier: MIT
# Java: a server of one NIO Selector, a client of another, and blocking sockets in as many threads.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need java javac

APP_CASES="nio"
APP_MODES="both nodaemon oneend killed"
CONNECTIONS=4
# no file in /tmp that other processes look for
JAVA=(java -XX:-UsePerfData -XX:TieredStopAtLevel=1 -Xshare:auto -Xmx256m)

rounds() {
	case $MODE in
	killed) echo 2500 ;;
	plain | both) if full; then echo 5000; else echo 1000; fi ;;
	*) echo 150 ;;
	esac
}

app_prepare() { javac -d "$WORK" "$TESTS_DIR/apps/Nio.java" || fail "javac"; }

app_server() {
	ns_start server b "$1" "${JAVA[@]}" -cp "$WORK" Nio server "$IP_B" $PORT
	wait_listen b $PORT
}

app_client() { ns_run a "$1" "${JAVA[@]}" -cp "$WORK" Nio client "$IP_B" $PORT $CONNECTIONS "$(rounds)"; }

app_check() {
	local kept
	kept=$WORK/sums.$(rounds)
	# of the selector and of the threads, which send the same
	check_eq "$RUN: pairs of sums" "$(awk '$1 == $2 && length($1) == 64' "$WORK/client.out" | wc -l)" $CONNECTIONS
	[ -e "$kept" ] || cp "$WORK/client.out" "$kept"
	cmp -s "$WORK/client.out" "$kept" || fail "$RUN: what came is not as over plain TCP"
	APP_BYTES=$(($(rounds) * CONNECTIONS * 2 * 2 * 32375))
}

app_label() { echo "NIO and threads, 8 connections"; }
app_half() { echo 10000000; }

app_main "$@"
