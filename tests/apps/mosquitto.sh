#!/bin/bash
# SPDX-License-Identifier: MIT
# mosquitto: small messages of each quality of service to two subscribers, and large ones, through the broker.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need mosquitto mosquitto_pub mosquitto_sub

APP_CASES="small large"
APP_MODES="both nodaemon oneend killed"

messages() {
	case $MODE,$1 in
	killed,small) echo 60000 ;;
	plain,small | both,small) if full; then echo 100000; else echo 20000; fi ;;
	*,small) echo 2000 ;;
	*) echo 15 ;;
	esac
}

app_prepare() { random_file large 2; }

app_server() {
	cat >"$WORK/mosquitto.conf" <<-CONF
		listener $PORT $IP_B
		allow_anonymous true
		persistence false
		max_queued_messages 0
		max_inflight_messages 100
		log_type error
		log_type warning
		log_dest stderr
		user nobody
	CONF
	ns_start server b "$1" mosquitto -c "$WORK/mosquitto.conf"
	wait_listen b $PORT
}

app_normalise() { sed 's/^[0-9]*: //'; }

subscribe() {
	ns_start "$1" a "$2" mosquitto_sub -h "$IP_B" -p $PORT -t t/# -q 2 "${@:3}"
	wait_for 20 "a subscription" subscribed "$1"
}

# The broker answers a subscriber's probe, which comes until it is there.
subscribed() {
	ns_run a env mosquitto_pub -h "$IP_B" -p $PORT -t t/ready -m ready && grep -q -a ready "$WORK/$1.out"
}

app_client() {
	local i n
	n=$(messages "$2")
	if [ "$2" = small ]; then
		for i in 1 2; do
			subscribe sub$i "$1" -F '%t %p'
		done
		for i in 0 1 2; do
			seq 1 $((n / (i + 1))) | ns_run a "$1" mosquitto_pub -h "$IP_B" -p $PORT -t t/$i -q $i -l || return
		done
		for i in 1 2; do
			wait_for 60 "the subscriber to have all" has_all sub$i $((n + n / 2 + n / 3))
			job_stop_quiet sub$i
			# the order is that of each topic
			grep -v ready "$WORK/sub$i.out" | LC_ALL=C sort -s -k1,1 | sha256sum
		done
		return
	fi
	subscribe sub1 "$1"
	for ((i = 0; i < n; i++)); do
		ns_run a "$1" mosquitto_pub -h "$IP_B" -p $PORT -t t/large -q 1 -f "$WORK/large" || return
	done
	wait_for 60 "the subscriber to have all" has_bytes $((n * 2 * 1048576))
	job_stop_quiet sub1
	# without the probes, which came before the rest
	tail -c +$(($(grep -a -c '^ready$' "$WORK/sub1.out") * 6 + 1)) "$WORK/sub1.out" | sha256sum
}

# a subscriber ends at SIGTERM by that signal
job_stop_quiet() {
	kill -TERM "${JOB_PID[$1]}"
	job_wait "$1" 10
}
has_all() { [ "$(grep -v -c ready "$WORK/$1.out")" -ge "$2" ]; }
has_bytes() { [ "$(stat -c %s "$WORK/sub1.out")" -ge "$1" ]; }

app_check() {
	local n i
	n=$(messages "$1")
	if [ "$1" = small ]; then
		check_eq "$RUN: sums" "$(cut -d' ' -f1 "$WORK/client.out" | xargs)" \
			"$(for i in 1 2; do { seq -f 't/0 %.0f' 1 "$n"; seq -f 't/1 %.0f' 1 $((n / 2)); seq -f 't/2 %.0f' 1 $((n / 3)); } | sha256sum | cut -d' ' -f1; done | xargs)"
		return
	fi
	check_eq "$RUN: sum" "$(cut -d' ' -f1 "$WORK/client.out")" \
		"$(for ((i = 0; i < n; i++)); do cat "$WORK/large"; echo; done | sha256sum | cut -d' ' -f1)"
}

app_label() { [ "$1" = large ] && echo "messages of 2 MB" || echo "small messages, 2 subscribers"; }
# a connection for each large message that is published
app_share() { [ "$1" = large ] && echo 40 || echo 90; }
app_half() { echo 1000000; }

app_main "$@"
