#!/bin/bash
# SPDX-License-Identifier: MIT
#
# netcat: a file from the client to the server, ended by a half-close, and one the other way.
#
# Not both at once: this netcat drops what it has not yet read when the connection is half-closed from
# both ends (seen over plain TCP, about one run in four). The program "stream" does that instead.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need nc.openbsd

APP_CASES="up down"
NC=$(command -v nc.openbsd)

# The file of 100 MB again and again, so that a long run needs no long file.
times() {
	case $MODE in
	killed) echo 5 ;;
	both) echo 6 ;;	# what fills TCP's buffers before the move is a small part then
	*) full && echo 4 || echo 2 ;;
	esac
}

app_prepare() { random_file file 100; }

repeat() {
	local i n
	n=$(times)
	for ((i = 0; i < n; i++)); do
		cat "$WORK/file"
	done
}

want() {
	[ -s "$WORK/want.$(times)" ] || repeat | sha256sum | cut -d' ' -f1 >"$WORK/want.$(times)"
	cat "$WORK/want.$(times)"
}

serve() {
	if [ "$2" = up ]; then
		ns_run b "$1" "$NC" -d -l "$IP_B" $PORT | sha256sum
		return "${PIPESTATUS[0]}"
	fi
	repeat | ns_run b "$1" "$NC" -N -l "$IP_B" $PORT
}

app_server() { start server serve "$1" "$2"; wait_listen b $PORT; }
app_server_end() { job_wait server 30; }

app_client() {
	if [ "$2" = down ]; then
		ns_run a "$1" "$NC" -d "$IP_B" $PORT | sha256sum
		return "${PIPESTATUS[0]}"
	fi
	repeat | ns_run a "$1" "$NC" -N "$IP_B" $PORT
}

app_check() {
	local who=client
	[ "$1" = up ] && who=server
	wait_for 20 "the receiver's sum" test -s "$WORK/$who.out"
	APP_BYTES=$(($(times) * 100 * 1048576))
	check_eq "$RUN: SHA-256 of what the $who got" "$(cut -d' ' -f1 "$WORK/$who.out")" "$(want)"
}

app_half() { echo 50000000; }

app_main "$@"
