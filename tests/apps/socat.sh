#!/bin/bash
# SPDX-License-Identifier: MIT
#
# socat as a server that forks for each connection, several at once: a relay in the middle, which has a ring at either side;
# a file that it takes; and one that a program behind socat reads and sends back.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need socat

APP_CASES="relay take exec"
APP_MODES="both nodaemon oneend killed"
MEGABYTES=60
CLIENTS=3

app_prepare() { random_file file $MEGABYTES; }

app_server() {
	case $2 in
	take) ns_start server b "$1" socat -u "TCP-LISTEN:$PORT,bind=$IP_B,reuseaddr,fork" "OPEN:$WORK/taken,creat,append" ;;
	relay)
		ns_start origin b "$1" socat "TCP-LISTEN:$((PORT + 1000)),bind=$IP_B,reuseaddr,fork" "OPEN:$WORK/file,rdonly"
		wait_listen b $((PORT + 1000))
		# where only one end is to have the preload, this is the other
		ns_start server b "$([ "$MODE" = oneend ] && echo env || echo "$1")" \
			socat "TCP-LISTEN:$PORT,bind=$IP_B,reuseaddr,fork" "TCP:$IP_B:$((PORT + 1000))" ;;
	exec) ns_start server b "$1" socat "TCP-LISTEN:$PORT,bind=$IP_B,reuseaddr,fork" EXEC:cat ;;
	esac
	wait_listen b $PORT
}

# socat ends with 143 at SIGTERM
app_server_end() {
	local status
	job_stop server
	status=$STATUS
	[ -z "${JOB_PID[origin]:-}" ] || job_stop origin
	STATUS=$status
}

app_client() {
	local i pids=()
	rm -f "$WORK/taken"
	if [ "$2" = take ]; then
		ns_run a "$1" socat -u "OPEN:$WORK/file,rdonly" "TCP:$IP_B:$PORT" || return
		wait_for 30 "the whole file to be taken" taken
		sha256sum <"$WORK/taken"
		return
	fi
	for ((i = 0; i < CLIENTS; i++)); do
		if [ "$2" = exec ]; then
			ns_run a "$1" socat -t 60 - "TCP:$IP_B:$PORT" <"$WORK/file" | sha256sum &
		else
			ns_run a "$1" socat -u "TCP:$IP_B:$PORT" - | sha256sum &
		fi
		pids+=($!)
	done
	wait "${pids[@]}"
}

taken() { [ "$(stat -c %s "$WORK/taken")" -ge $((MEGABYTES * 1048576)) ]; }

app_check() {
	local n=$CLIENTS
	[ "$1" = take ] && n=1
	APP_BYTES=$((MEGABYTES * 1048576 * n))
	check_eq "$RUN: sums" "$(cut -d' ' -f1 "$WORK/client.out" | uniq -c | xargs)" "$n $(cat "$WORK/file.sha256")"
}

app_label() { [ "$1" = relay ] && echo "relay, 60 MB, 3 clients"; }
# The program that is started holds the connection until its exec closes it, which nobody is told: TCP, as long as it runs.
app_share() { [ "$1" = exec ] && echo none || echo 90; }

app_half() { echo 20000000; }

app_main "$@"
