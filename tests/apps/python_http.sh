#!/bin/bash
# SPDX-License-Identifier: MIT
# Python's http.server with http.client over one kept connection, and urllib with one for each request.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"

APP_CASES="single keepalive"

# Old versions of http.server close after each answer unless told so.
app_prepare() {
	random_file file8 8
	random_file file32 32
	cat >"$WORK/server.py" <<-'PY'
		import http.server, sys
		http.server.SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
		http.server.test(http.server.SimpleHTTPRequestHandler, http.server.ThreadingHTTPServer,
		                 "HTTP/1.1", int(sys.argv[2]), sys.argv[1])
	PY
}

count() {
	case $MODE,$1 in
	killed,keepalive) echo 150 ;;
	killed,*) echo 40 ;;
	*,keepalive) echo 250 ;;
	*) full && echo 8 || echo 4 ;;
	esac
}

megabytes() { [ "$1" = keepalive ] && echo 8 || echo 32; }

app_server() {
	ns_start server b "$1" env -C "$WORK" "$PYTHON" server.py "$IP_B" $PORT
	wait_listen b $PORT
}

app_client() { ns_run a "$1" "$PYTHON" "$TESTS_DIR/apps/http_client.py" "$2" "$(count "$2")" "$IP_B" $PORT \
	"/file$(megabytes "$2")"; }

app_check() {
	check_eq "$RUN: answers" "$(wc -l <"$WORK/client.out")" "$(count "$1")"
	APP_BYTES=$(($(count "$1") * $(megabytes "$1") * 1048576))
	check_eq "$RUN: sums of the answers" "$(sort -u "$WORK/client.out")" "$(cat "$WORK/file$(megabytes "$1").sha256")"
}

# The server's log of requests: equal but for the time, and as many in one mode as in the plain run.
app_normalise() { sed 's/\[[^]]*\]/[time]/' | sort -u; }

app_label() { [ "$1" = keepalive ] && echo "8 MB files, one connection" || echo "32 MB files, one by one"; }

# A single fetch pays its way onto the ring out of 32 MB.
app_share() { [ "$1" = single ] && echo 50 || echo 99; }
app_half() { echo 30000000; }

app_main "$@"
