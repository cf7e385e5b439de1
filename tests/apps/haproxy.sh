#!/bin/bash
# SPDX-License-Identifier: MIT
#
# haproxy, preloaded as well, in front of nginx: in TCP mode (where it splices) and in HTTP mode, with two threads, told
# to reload by its master while wrk is at work, and with clients that stop reading what they have asked for, which must hold up
# nobody else. The client is in one namespace, proxy and nginx are in the other.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/nginx.sh"
need haproxy nginx wrk curl

APP_CASES="http tcp file reload stuck"
APP_MODES="both nodaemon oneend killed"

app_prepare() {
	nginx_configure
	head -c 4096 /dev/urandom >"$WORK/www/4K"
	random_file www/64MB 64
}

# nginx at PORT + 1000; haproxy at PORT in HTTP mode and at PORT + 2000 in TCP mode
app_server() {
	echo "server { listen $IP_B:$((PORT + 1000)); root $WORK/www; }" >"$WORK/listen.conf"
	: >"$WORK/nginx.log"
	# where only one end is to have the preload, haproxy is that end towards both
	ns_start nginx b "$([ "$MODE" = oneend ] && echo env || echo "$1")" nginx -e "$WORK/nginx.log" -c "$WORK/nginx.conf"
	wait_listen b $((PORT + 1000))
	cat >"$WORK/haproxy.cfg" <<-CONF
		global
			nbthread 2
			maxconn 500
			pidfile $WORK/haproxy.pid
			stats socket $WORK/haproxy.sock level admin expose-fd listeners
		defaults
			timeout connect 10s
			timeout client 60s
			timeout server 60s
			option splice-request
			option splice-response
			http-reuse always
		frontend http
			bind $IP_B:$PORT
			mode http
			default_backend http
		backend http
			mode http
			server nginx $IP_B:$((PORT + 1000))
		frontend tcp
			bind $IP_B:$((PORT + 2000))
			mode tcp
			default_backend tcp
		backend tcp
			mode tcp
			server nginx $IP_B:$((PORT + 1000))
	CONF
	ns_start server b "$1" haproxy -W -S "$WORK/master.sock" -f "$WORK/haproxy.cfg"
	wait_listen b $PORT
	wait_for 20 "haproxy's master" test -S "$WORK/master.sock"
}

# haproxy's end is what a SIGTERM to it makes: status 143
app_server_end() {
	local status
	job_stop server
	status=$STATUS
	job_stop nginx
	check_eq "$RUN: nginx's status" "$STATUS" 0
	STATUS=$status
	rm -f "$WORK/master.sock" "$WORK/haproxy.sock"
}

# Its notices name processes and times.
app_normalise() { sed -E 's/([FB]E: )[0-9]+/\1N/g; s/\([0-9]+\)|[0-9]{4,}/N/g; s/^\[NOTICE\] *//' | sort -u; }

# An old worker of 2.6.12 dies now and then at its end, in _fd_delete_orphan() (haproxy's issue 2114). No difference if that is seen over plain TCP, too.
DIES='exited with code 139'
app_excuses() {
	local i RUN="$APP $CASE, over plain TCP once more"
	[ "$CASE,$1" = reload,server.err ] || return
	cmp -s <(grep -v "$DIES" "$WORK/plain.$CASE.$1") <(grep -v "$DIES" "$WORK/now.$1") || return
	for ((i = 0; i < 20; i++)); do
		! grep -q "$DIES" "$WORK/plain.$CASE.$1" || return 0
		PORT=$((PORT + 1))
		transfer env env
		app_normalise <"$WORK/server.err" >"$WORK/again"
		! grep -q "$DIES" "$WORK/again" || { note "# $RUN: a worker has died there, too"; return 0; }
	done
	return 1
}

# The workers of haproxy, by the command line of its master
workers() { pgrep -P "${JOB_PID[server]}" 2>/dev/null | sort | xargs; }
replaced() {
	local p now
	now=$(workers)
	[ -n "$now" ] || return
	for p in $1; do
		case " $now " in *" $p "*) ;; *) return 0 ;; esac
	done
	[ "$(echo "$now" | wc -w)" -gt "$(echo "$1" | wc -w)" ]
}

# A SIGUSR2 is lost on a master that has not come back to its loop, over plain TCP, too (42 of 100 that were sent when the new worker was there).
master_listens() {
	"$PYTHON" -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(2)
try:
    s.connect(sys.argv[1])
    s.sendall(b"show proc\n")
    sys.exit(b"master" not in s.recv(1000))
except OSError:
    sys.exit(1)' "$WORK/master.sock"
}

app_client() {
	local i fd old url seconds=1 times=1 pids=()
	[ "$MODE" = killed ] && seconds=3 times=6
	full && seconds=4
	case $2 in
	http) ns_run a "$1" wrk -t 2 -c 10 -d ${seconds}s "http://$IP_B:$PORT/4K" ;;
	tcp) ns_run a "$1" wrk -t 2 -c 10 -d ${seconds}s "http://$IP_B:$((PORT + 2000))/4K" ;;
	file)
		for ((i = 0; i < times; i++)); do
			for url in "http://$IP_B:$PORT/64MB" "http://$IP_B:$((PORT + 2000))/64MB"; do
				ns_run a "$1" curl -sS "$url" | sha256sum || return
			done
		done ;;
	stuck)
		rm -f "$WORK"/stuck*
		for i in 1 2 3 4; do
			mkfifo "$WORK/stuck$i"
			# for both ends, so that nobody waits to open it; what is read brings the connection to the ring
			exec {fd}<>"$WORK/stuck$i"
			ns_start curl$i a "$1" curl -sS -o "$WORK/stuck$i" "http://$IP_B:$((PORT + 2000))/64MB"
			head -c 16M <&$fd >/dev/null
		done
		ns_run a "$1" curl -sS "http://$IP_B:$((PORT + 2000))/64MB" | sha256sum || return
		for ((i = 0; i < 20; i++)); do
			ns_run a "$1" curl -sS "http://$IP_B:$((PORT + 2000))/4K" | sha256sum || return
		done
		for i in 1 2 3 4; do
			kill "${JOB_PID[curl$i]}"
			job_wait curl$i 10
		done ;;
	reload)
		for url in "http://$IP_B:$PORT/4K" "http://$IP_B:$((PORT + 2000))/4K"; do
			ns_run a "$1" wrk -t 1 -c 6 -d $((seconds + 1))s "$url" &
			pids+=($!)
		done
		for i in 1 2; do
			wait_for 20 "haproxy's master" master_listens
			old=$(workers)
			kill -USR2 "${JOB_PID[server]}"
			wait_for 20 "a new worker of haproxy" replaced "$old"
			wait_for 20 "haproxy to listen again" is_listening b $PORT
			echo "reloaded $i"
		done
		wait "${pids[0]}" && wait "${pids[1]}" ;;
	esac
}

app_check() {
	if [ "$1" = file ]; then
		check_eq "$RUN: sums" "$(cut -d' ' -f1 "$WORK/client.out" | sort -u)" "$(cat "$WORK/www/64MB.sha256")"
		return
	fi
	if [ "$1" = stuck ]; then
		check_eq "$RUN: sums" "$(cut -d' ' -f1 "$WORK/client.out" | uniq -c | xargs)" \
			"1 $(cat "$WORK/www/64MB.sha256") 20 $(sha256sum <"$WORK/www/4K" | cut -d' ' -f1)"
		return
	fi
	grep -q 'Non-2xx' "$WORK/client.out" && { cat "$WORK/client.out" >&2; fail "$RUN: wrk saw errors"; }
	if [ "$1" = reload ]; then
		# what is idle is closed by a process that ends, which may cross with a request
		check_eq "$RUN: reloads" "$(grep -c '^reloaded' "$WORK/client.out")" 2
	else
		grep -q 'Socket errors' "$WORK/client.out" && { cat "$WORK/client.out" >&2; fail "$RUN: wrk saw errors"; }
	fi
	APP_VALUE=$(awk '/Requests\/sec/ { n += $2 } END { print int(n) }' "$WORK/client.out")
	check_eq "$RUN: loads" "$(grep -c '^Requests/sec' "$WORK/client.out")" "$([ "$1" = reload ] && echo 2 || echo 1)"
	APP_UNIT=req/s
	check_gt "$RUN: requests per second" "$APP_VALUE" 100
	nginx_check_log
}

app_label() {
	case $1 in
	http) echo "HTTP mode, 4K answers" ;;
	tcp) echo "TCP mode, 4K answers" ;;
	reload) echo "both modes, reloads" ;;
	esac
}
app_half() { echo 3000000; }
app_share() {
	case $1 in
	# a connection each: megabytes pass before a busy machine has introduced the ends
	file) echo 50 ;;
	stuck) echo 0 ;;
	*) echo 95 ;;
	esac
}
app_plays() {
	case $1,$2 in
	killed,file | killed,stuck) return 1 ;;
	esac
}

app_main "$@"
