#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Connections that go from TCP to the ring and back on a link that drops at the sender: the kernel tries such a segment again, and
# counts it each time as sent. Every byte arrives, and the ring was used.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

[ -x "$XSHIM_PROG/stream" ] || skip "$XSHIM_PROG/stream is not built"
need tc
ns_up
daemon_start
for side in a b; do
	ns_run $side tc qdisc add dev v0 root tbf rate 40mbit burst 3000 limit 6000 ||
		skip "no queue that drops can be had (tc qdisc, tbf)"
done
drops() { ns_run a tc -s qdisc show dev v0 | sed -n 's/.*(dropped \([0-9]*\),.*/\1/p'; }

snapshot "$WORK/before.json"
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1 XSHIM_FORCE_SPILL=20000
ns_start server b shim "$XSHIM_PROG/stream" server -s epoll-lt -n 3 -t 60 "$IP_B" 7300
wait_listen b 7300
ns_start client a shim "$XSHIM_PROG/stream" client -s epoll-lt -n 3 -m 60000 -b 6000000 -t 60 "$IP_B" 7300
job_wait client 70
client=$STATUS
job_wait server 70
[ "$client" = 0 ] && [ "$STATUS" = 0 ] || {
	cat "$WORK/client.err" "$WORK/server.err" >&2
	fail "client status $client, server status $STATUS"
}
grep -q 'every byte right' "$WORK/client.out" || fail "the client printed no verdict"
check_gt "segments dropped at the sender" "$(drops)" 0
check_gt "switches" "$(since "$WORK/before.json" .counters.switches)" 20
check_gt "bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
note "ok $(drops) segments dropped, $(since "$WORK/before.json" .counters.switches) switches"
