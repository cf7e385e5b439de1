#!/bin/bash
# SPDX-License-Identifier: MIT
#
# apps.sh - redis and nginx as rows of bench.sh. To be sourced by it.

# prefixed COLUMN PROGRAM: the words before the command, in PREFIX
prefixed() {
	PREFIX=()
	[ "$1" = xshim ] || return 0
	preload_for "$2"
	PREFIX=(env "${PRELOADED[@]}")
}

# app_client COLUMN COMMAND...: its output in $WORK/client.out, the share in SHARE
app_client() {
	local column=$1
	shift
	SHARE= FAILED=
	[ "$column" = xshim ] && snapshot "$WORK/before.json"
	ns_start client a taskset -c $CLIENT_CPU "${PREFIX[@]}" "$@"
	ended client 40
	[ "$column" = xshim ] && SHARE=$(ring_share_since "$WORK/before.json")
	return 0
}

# requests PER_SECOND: as many as take about the time of a measurement over plain TCP, and a little more
requests() { awk "BEGIN { n = int($1 * $SECONDS_EACH * 2); print n < 1000 ? 1000 : n }"; }

redis_get() {
	local key=$1 column=$2 repeat=$3 to=(-h "$IP_B" -p $PORT)
	shift 3
	[ "$column" = unix ] && to=(-s "$WORK/redis.sock")
	app_client "$column" redis-benchmark "${to[@]}" -t get --csv "$@"
	sample "$key" "$column" "$repeat" \
		"$(sed -n 's/^"GET","\([0-9.]*\)".*/\1/p' "$WORK/client.out" | awk '{ print $1 / 1000 }')"
}

redis_runs() {
	PORT=$((PORT + 1))
	prefixed "$1" redis-server
	ns_start server b taskset -c $SERVER_CPU "${PREFIX[@]}" redis-server --port $PORT --bind "$IP_B" --protected-mode no \
		--unixsocket "$WORK/redis.sock" --save "" --appendonly no --dir "$WORK" --loglevel warning
	wait_listen b $PORT
	redis_get redis.1 "$1" "$2" -c 1 -n "$(requests 28000)"
	redis_get redis.50 "$1" "$2" -c 50 -n "$(requests 80000)"
	redis_get redis.50p16 "$1" "$2" -c 50 -P 16 -n "$(requests 900000)"
	job_stop server
}

nginx_conf() {
	[ -d "$WORK/www" ] && return
	. "${srcdir:-$(dirname "$0")/../..}/tests/lib/nginx.sh"
	nginx_configure
	head -c 64 /dev/urandom >"$WORK/www/64"
	head -c 16384 /dev/urandom >"$WORK/www/16384"
	head -c 1048576 /dev/urandom >"$WORK/www/1048576"
}

# wrk knows whole seconds only.
nginx_get() {
	local key=$1 column=$2 repeat=$3 file=$4
	shift 4
	app_client "$column" wrk -t 1 -c 10 -d 1s "$@" "http://$IP_B:$PORT/$file"
	! grep -q 'Socket errors\|Non-2xx' "$WORK/client.out" || FAILED="wrk saw errors: $(grep 'Socket errors\|Non-2xx' "$WORK/client.out")"
	sample "$key" "$column" "$repeat" "$(awk '/Requests\/sec/ { print $2 / 1000 }' "$WORK/client.out")"
}

nginx_runs() {
	local size
	PORT=$((PORT + 1))
	nginx_conf
	prefixed "$1" nginx
	echo "server { listen $IP_B:$PORT; root $WORK/www; }" >"$WORK/listen.conf"
	ns_start server b taskset -c $SERVER_CPU "${PREFIX[@]}" nginx -e "$WORK/nginx.log" -c "$WORK/nginx.conf"
	wait_listen b $PORT
	for size in 64 16384 1048576; do
		nginx_get nginx.$size "$1" "$2" $size
	done
	nginx_get nginx.close "$1" "$2" 64 -H "Connection: close"
	job_stop server
}
