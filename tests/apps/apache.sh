#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Apache with the prefork module, whose children take turns at accepting, as user nobody: ab with kept connections and with
# one a request, a large file by curl, and a graceful restart under load.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need apache2 ab curl
MODULES=/usr/lib/apache2/modules
[ -e $MODULES/mod_mpm_prefork.so ] || skip "Apache's module mpm_prefork is not installed"

APP_CASES="kept single file graceful"
APP_MODES="both nodaemon oneend killed"

app_prepare() {
	mkdir -p "$WORK/www" "$WORK/run"
	chmod 755 "$WORK/www"
	head -c 4096 /dev/urandom >"$WORK/www/4K"
	random_file www/64MB 64
}

app_server() {
	cat >"$WORK/apache.conf" <<-CONF
		ServerRoot $WORK/run
		ServerName $IP_B
		PidFile $WORK/run/apache.pid
		DefaultRuntimeDir $WORK/run
		ErrorLog $WORK/apache.log
		LogLevel warn
		Listen $IP_B:$PORT
		LoadModule mpm_prefork_module $MODULES/mod_mpm_prefork.so
		LoadModule authz_core_module $MODULES/mod_authz_core.so
		User nobody
		Group nogroup
		StartServers 10
		MinSpareServers 8
		MaxSpareServers 12
		MaxRequestWorkers 20
		KeepAlive On
		MaxKeepAliveRequests 0
		KeepAliveTimeout 5
		GracefulShutdownTimeout 1
		DocumentRoot $WORK/www
	CONF
	: >"$WORK/apache.log"
	# it signals its whole process group
	ns_start server b "$1" setsid "$(command -v apache2 || echo /usr/sbin/apache2)" -D FOREGROUND -f "$WORK/apache.conf"
	wait_listen b $PORT
	# it listens before it has its handlers of signals: SIGUSR1 would end it
	wait_for 20 "Apache to have begun" begun 1
}

# begun N: for the Nth time
begun() { [ "$(grep -c 'resuming normal operations' "$WORK/apache.log")" -ge "$1" ]; }

requests() {
	case $MODE,$1 in
	killed,*) echo 50000 ;;
	*,single) echo 300 ;;
	nodaemon,* | oneend,*) echo 5000 ;;
	*) full && echo 100000 || echo 30000 ;;
	esac
}

app_client() {
	case $2 in
	kept) ns_run a "$1" ab -q -k -c 8 -n "$(requests kept)" "http://$IP_B:$PORT/4K" ;;
	single) ns_run a "$1" ab -q -c 4 -n "$(requests single)" "http://$IP_B:$PORT/4K" ;;
	file) ns_run a "$1" curl -sS "http://$IP_B:$PORT/64MB" "http://$IP_B:$PORT/64MB" | sha256sum ;;
	graceful)
		ns_run a "$1" ab -q -r -k -c 8 -n "$(requests kept)" "http://$IP_B:$PORT/4K" &
		kill -USR1 "${JOB_PID[server]}"
		wait_for 20 "a graceful restart" begun 2
		wait $! ;;
	esac
}

app_check() {
	local out=$WORK/client.out
	case $1 in
	file)
		check_eq "$RUN: sum" "$(cut -d' ' -f1 "$out")" \
			"$(cat "$WORK/www/64MB" "$WORK/www/64MB" | sha256sum | cut -d' ' -f1)"
		return ;;
	graceful) ;;
	*)
		check_eq "$RUN: failed requests" "$(sed -n 's/^Failed requests: *//p' "$out")" 0
		check_eq "$RUN: bytes of the answers" "$(sed -n 's/^HTML transferred: *\([0-9]*\).*/\1/p' "$out")" \
			$(($(requests "$1") * 4096))
		# which says each time that it starts and ends
		check_eq "$RUN: worth a line in Apache's log" "$(grep -c -v -e ':notice\]' "$WORK/apache.log")" 0 ;;
	esac
	check_eq "$RUN: requests" "$(sed -n 's/^Complete requests: *//p' "$out")" "$(requests "$1")"
	APP_VALUE=$(sed -n 's/^Requests per second: *\([0-9]*\).*/\1/p' "$out")
	APP_UNIT=req/s
}

app_label() {
	case $1 in
	kept) echo "prefork, 4K, 8 clients" ;;
	*) ;;
	esac
}
app_half() { echo 3000000; }
# a connection for each request has nothing to do on a ring
app_share() {
	case $1 in
	kept) echo 99 ;;
	graceful) echo 95 ;;
	single) echo none ;;
	*) echo 0 ;;
	esac
}
app_plays() {
	case $1,$2 in
	# no half of it goes by ring
	killed,single) return 1 ;;
	esac
}

app_main "$@"
