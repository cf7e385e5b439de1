#!/bin/bash
# SPDX-License-Identifier: MIT
# nginx under wrk: small answers and 16 KiB ones over kept connections.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/nginx.sh"
need nginx wrk

APP_CASES="64B 16K"

app_prepare() {
	nginx_configure
	head -c 64 /dev/urandom >"$WORK/www/64B"
	head -c 16384 /dev/urandom >"$WORK/www/16K"
}

app_server() { nginx_start "$1" $PORT; }

app_client() {
	local seconds=1
	[ "$MODE" = killed ] && seconds=3
	full && seconds=4
	ns_run a "$1" wrk -t 1 -c 10 -d ${seconds}s "http://$IP_B:$PORT/$2"
}

app_check() {
	grep -q 'Socket errors\|Non-2xx' "$WORK/client.out" && { cat "$WORK/client.out" >&2; fail "$RUN: wrk saw errors"; }
	APP_VALUE=$(awk '/Requests\/sec/ { print int($2) }' "$WORK/client.out")
	APP_UNIT=req/s
	check_gt "$RUN: requests per second" "$APP_VALUE" 100
	nginx_check_log
}

app_label() { echo "$1 answers, 10 connections"; }
app_half() { echo 3000000; }

app_main "$@"
