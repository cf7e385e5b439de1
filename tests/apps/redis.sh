#!/bin/bash
# SPDX-License-Identifier: MIT
# redis-server with redis-benchmark, plain and pipelined, and a large value there and back.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need redis-server redis-benchmark redis-cli

APP_CASES="plain pipeline value"

# Where the ring's share counts the connections live long: what they send before the move is a small part then.
requests() {
	case $MODE,$1 in
	killed,pipeline | both,pipeline) echo 3000000 ;;
	killed,*) echo 300000 ;;
	both,*) echo 400000 ;;
	*,pipeline) if full; then echo 2000000; else echo 500000; fi ;;
	*) if full; then echo 400000; else echo 100000; fi ;;
	esac
}

app_prepare() { random_file value 32; }

app_server() {
	ns_start server b "$1" redis-server --port $PORT --bind "$IP_B" --protected-mode no --save "" \
		--appendonly no --dir "$WORK" --loglevel warning
	wait_listen b $PORT
}

app_client() {
	local i gets=2
	case $2 in
	plain) ns_run a "$1" redis-benchmark -h "$IP_B" -p $PORT -t set,get -c 10 -n "$(requests plain)" --csv ;;
	pipeline) ns_run a "$1" redis-benchmark -h "$IP_B" -p $PORT -t set,get -c 10 -P 16 \
		-n "$(requests pipeline)" --csv ;;
	value)
		ns_run a "$1" redis-cli -h "$IP_B" -p $PORT -x set value <"$WORK/value" || return
		[ "$MODE" = killed ] && gets=30
		for ((i = 0; i < gets; i++)); do
			ns_run a "$1" redis-cli -h "$IP_B" -p $PORT --raw get value | head -c 32M | sha256sum ||
				return
		done ;;
	esac
}

app_check() {
	if [ "$1" = value ]; then
		check_eq "$RUN: answer to SET" "$(head -n 1 "$WORK/client.out")" OK
		check_eq "$RUN: sums of the values read" "$(tail -n +2 "$WORK/client.out" | cut -d' ' -f1 | uniq)" \
			"$(cat "$WORK/value.sha256")"
		APP_BYTES=$((32000000 * $(wc -l <"$WORK/client.out")))
		return
	fi
	check_eq "$RUN: lines of figures" "$(grep -c '^"[SG]ET","[1-9]' "$WORK/client.out")" 2
	APP_VALUE=$(sed -n 's/^"GET","\([0-9]*\).*/\1/p' "$WORK/client.out")
	APP_UNIT=GET/s
}

app_label() {
	case $1 in
	plain) echo "10 clients" ;;
	pipeline) echo "10 clients, 16 at once" ;;
	esac
}

# A connection per value lives too shortly for a figure: its first megabytes are in the kernel's buffers
# before the two ends have been introduced.
app_share() { [ "$1" = value ] && echo 0 || echo 99; }
app_half() { [ "$1" = value ] && echo 40000000 || echo 2000000; }

app_main "$@"
