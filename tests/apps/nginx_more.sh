#!/bin/bash
# SPDX-License-Identifier: MIT
#
# nginx with several workers: under wrk while it is told again and again to reload, with TLS by curl, and with files of
# other sizes sent up by PUT. Workers that are replaced serve on what they have and then end.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/nginx.sh"
need nginx wrk curl openssl

APP_CASES="reload tls put"
APP_MODES="both nodaemon oneend killed"

app_prepare() {
	nginx_configure
	sed -i 's/worker_processes 1/worker_processes 3/; s/keepalive_requests 100000000/keepalive_requests 5000/' "$WORK/nginx.conf"
	head -c 4096 /dev/urandom >"$WORK/www/4K"
	random_file www/64MB 64
	mkdir "$WORK/www/up" && chmod 777 "$WORK/www/up"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$IP_B" \
		-addext "subjectAltName=IP:$IP_B" -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>"$WORK/openssl.err" ||
		{ cat "$WORK/openssl.err" >&2; fail "openssl cannot make a certificate"; }
	# not every nginx knows WebDAV's PUT
	nginx -V 2>&1 | grep -q http_dav_module && DAV="dav_methods PUT;" || APP_CASES="reload tls"
}

DAV=
app_server() {
	cat >"$WORK/listen.conf" <<-CONF
		server { listen $IP_B:$PORT; root $WORK/www; client_max_body_size 0; $DAV }
		server {
			listen $IP_B:$((PORT + 1000)) ssl;
			root $WORK/www;
			ssl_certificate $WORK/cert.pem;
			ssl_certificate_key $WORK/key.pem;
		}
	CONF
	: >"$WORK/nginx.log"
	ns_start server b "$1" nginx -e "$WORK/nginx.log" -c "$WORK/nginx.conf"
	wait_listen b $PORT
	wait_for 10 "nginx to say who it is" test -s "$WORK/nginx.pid"	# it listens before that
}

workers() { pgrep -P "$(cat "$WORK/nginx.pid")" 2>/dev/null | sort | xargs; }
# three workers, none of them of the last generation
replaced() {
	local now p
	now=$(workers)
	[ "$(echo "$now" | wc -w)" -ge 3 ] || return
	for p in $1; do
		case " $now " in *" $p "*) ;; *) return 0 ;; esac
	done
	return 1
}

times() { [ "$MODE" = killed ] && echo 6 || echo 2; }

app_client() {
	local i old url seconds=1
	case $2 in
	reload)
		[ "$MODE" = killed ] && seconds=3
		full && seconds=5
		ns_run a "$1" wrk -t 2 -c 16 -d ${seconds}s "http://$IP_B:$PORT/4K" &
		for i in 1 2 3; do
			old=$(workers)
			kill -HUP "$(cat "$WORK/nginx.pid")"
			wait_for 20 "workers to be replaced" replaced "$old"
			echo "reloaded $i"
		done
		wait $!
		;;
	tls)
		for ((i = 0; i < $(times); i++)); do
			url=https://$IP_B:$((PORT + 1000))/64MB
			ns_run a "$1" curl -sS --cacert "$WORK/cert.pem" "$url" "$url" | sha256sum || return
			ns_run a "$1" curl -sS --http2 --cacert "$WORK/cert.pem" -o "$WORK/got" -w '%{http_code}\n' "$url" || return
			sha256sum <"$WORK/got"
		done ;;
	put)
		rm -f "$WORK/www/up"/*
		for ((i = 0; i < $(times); i++)); do
			ns_run a "$1" curl -sS -T "$WORK/www/64MB" "http://$IP_B:$PORT/up/$i" -w '%{http_code}\n' || return
			sha256sum <"$WORK/www/up/$i"
		done ;;
	esac
}

app_check() {
	local sum want i
	sum=$(cat "$WORK/www/64MB.sha256")
	case $1 in
	reload)
		grep -q 'Non-2xx' "$WORK/client.out" && { cat "$WORK/client.out" >&2; fail "$RUN: wrk saw errors"; }
		check_eq "$RUN: reloads" "$(grep -c '^reloaded' "$WORK/client.out")" 3
		# a worker that ends closes what is idle; a request that crosses that is lost, which wrk counts, also over plain TCP
		check_ge "$RUN: requests" "$(awk '/requests in/ { print $1 }' "$WORK/client.out")" 1000
		APP_VALUE=$(awk '/Requests\/sec/ { print int($2) }' "$WORK/client.out")
		APP_UNIT=req/s ;;
	tls)
		want=$(cat "$WORK/www/64MB" "$WORK/www/64MB" | sha256sum | cut -d' ' -f1)
		for ((i = 0; i < $(times); i++)); do
			echo "$want - 200 $sum -"
		done >"$WORK/want"
		check_eq "$RUN: sums" "$(xargs <"$WORK/client.out")" "$(xargs <"$WORK/want")" ;;
	put)
		check_eq "$RUN: sums" "$(sort -u "$WORK/client.out" | xargs)" "$(printf '%s\n' 201 "$sum  -" | sort | xargs)" ;;
	esac
	nginx_check_log
}

app_label() {
	case $1 in
	reload) echo "4K, 3 workers, 3 reloads" ;;
	tls) ;;
	*) echo "$1" ;;
	esac
}
# 64 MB a connection, or what passes between two reloads
app_share() { [ "$1" = reload ] && echo 97 || echo 90; }
app_half() { [ "$1" = reload ] && echo 3000000 || echo 40000000; }

app_main "$@"
