#!/bin/bash
# SPDX-License-Identifier: MIT
# iperf3: one stream, four, both directions at once, and the server as sender.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need iperf3

APP_CASES="P1 P4 bidir reverse"

# Bytes that the buffers of all streams can hold, both ends together.
in_buffers() {
	local streams=1 rmem wmem
	[ "$1" = P4 ] && streams=4
	[ "$1" = bidir ] && streams=2
	rmem=$(awk '{print $3}' /proc/sys/net/ipv4/tcp_rmem)
	wmem=$(awk '{print $3}' /proc/sys/net/ipv4/tcp_wmem)
	echo $((streams * (rmem + wmem)))
}

# amount CASE: bytes per run. The one that is interrupted must last long enough to be interrupted. Where the ring's share counts, it is that
# of a long-lived connection: a reader that does not run while the move is prepared lets TCP's buffers fill, and they are half a
# per cent of the whole then.
amount() {
	local n=2000000000
	full && n=8000000000
	case $MODE in
	killed) n=6000000000 ;;
	both) [ $((200 * $(in_buffers "$1"))) -gt $n ] && n=$((200 * $(in_buffers "$1"))) ;;
	esac
	echo $n
}

app_server() { ns_start server b "$1" iperf3 -s -p $PORT; wait_listen b $PORT; }

app_client() {
	local opts
	case $2 in
	P1) opts="-P 1" ;;
	P4) opts="-P 4" ;;
	bidir) opts="--bidir" ;;
	reverse) opts="-R" ;;
	esac
	# shellcheck disable=SC2086
	ns_run a "$1" iperf3 -c "$IP_B" -p $PORT -n "$(amount "$2")" $opts -J
}

app_check() {
	local sent received
	jq -e '.error == null' "$WORK/client.out" >/dev/null ||
		fail "$RUN: iperf3 says $(jq .error "$WORK/client.out")"
	# with --bidir both directions together: it ends when either has reached the amount
	sent=$(jq '.end.sum_sent.bytes + (.end.sum_sent_bidir_reverse.bytes // 0)' "$WORK/client.out")
	received=$(jq '.end.sum_received.bytes + (.end.sum_received_bidir_reverse.bytes // 0)' "$WORK/client.out")
	check_ge "$RUN: bytes sent" "$sent" "$(amount "$1")"
	# the receiver stops to count when the sender says that it is done
	check_ge "$RUN: bytes received" "$received" $((sent - $(in_buffers "$1")))
	check_ge "$RUN: bytes sent, against those received" "$sent" "$received"
	APP_VALUE=$(jq '[.end.sum_received, .end.sum_received_bidir_reverse // {bits_per_second: 0}] |
		map(.bits_per_second) | add / 1e9 * 100 | floor | . / 100' "$WORK/client.out")
	APP_UNIT=Gbit/s
}

app_label() {
	case $1 in
	P1) echo "one stream" ;;
	P4) echo "four streams" ;;
	bidir) echo "both ways together" ;;
	reverse) echo "server sends" ;;
	esac
}

app_half() { echo 500000000; }

app_main "$@"
