#!/bin/bash
# SPDX-License-Identifier: MIT
#
# redis's own test suite, which is in its source package and in Tcl, with the redis-server that is installed: `external`, whose server is
# in the other namespace, and `own`, where the suite starts a server for each group of tests, several where it is about replication; `evicted`
# is one such group. Both ends are preloaded, and every test must end as it does over plain TCP.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/source.sh"
need redis-server redis-cli redis-benchmark tclsh

APP_CASES="external own evicted"
APP_MODES="both nodaemon restarted"

# All that takes a second or two; XSHIM_TEST_SIZE=full plays every one.
EXTERNAL="unit/auth unit/protocol unit/keyspace unit/scan unit/type/string unit/type/incr unit/type/list-2 unit/type/list-3 unit/type/set
	unit/type/zset unit/type/hash unit/sort unit/quit unit/acl unit/pubsub unit/slowlog unit/scripting unit/functions
	unit/bitops unit/tracking unit/replybufsize"
OWN="unit/networking unit/wait unit/cluster/links integration/failover integration/psync2-master-restart"
EVICTED=unit/client-eviction

# - In the other namespace its server is not on the host of the suite, which this one presumes: it takes a port there first.
# - Asks by one connection whether what was written to another has been read, and does not wait for it: over plain TCP one of 40 runs failed.
SKIPPED=(--skiptest "CONFIG SET rollback on apply error" --skiptest "client evicted due to percentage of maxmemory")

app_prepare() {
	local program
	source_of redis-server
	# of its own, since it writes there
	cp -a "$SOURCE" "$WORK/redis" || fail "cannot copy $SOURCE"
	for program in redis-server redis-cli redis-benchmark redis-check-aof redis-check-rdb redis-sentinel; do
		ln -sf "/usr/bin/$program" "$WORK/redis/src/$program"
	done
}

app_server() {
	[ "$2" = external ] || { : >"$WORK/server.err"; return; }
	rm -rf "$WORK/server.data" && mkdir "$WORK/server.data" || fail "cannot make $WORK/server.data"
	ns_start server b "$1" redis-server --port $PORT --bind "$IP_B" --protected-mode no --save "" --enable-debug-command yes \
		--dir "$WORK/server.data" --logfile "$WORK/server.log"
	wait_listen b $PORT
}

app_server_end() { [ "$CASE" != external ] || job_stop server; }

# suite P WORDS: its lines without colours
suite() {
	local p=$1
	shift
	build_cmd a "$p" env -C "$WORK/redis" tclsh tests/test_helper.tcl --tags -slow "${SKIPPED[@]}" "$@"
	"${CMD[@]}" | sed -u 's/\x1b\[[0-9;]*m//g'
	return "${PIPESTATUS[0]}"
}

app_client() {
	local list units=() unit
	case $2 in
	external) list=$EXTERNAL ;;
	own) list=$OWN ;;
	evicted) list=$EVICTED ;;
	esac
	[ "$2" != evicted ] && full && list=
	for unit in $list; do
		units+=(--single "$unit")
	done
	if [ "$2" = external ]; then
		suite "$1" --clients 1 --host "$IP_B" --port $PORT "${units[@]}"
	else
		suite "$1" --clients 2 "${units[@]}"
	fi
	case $? in
	0) ;;
	# a test that failed is a result
	1) grep -q 'The following tests failed' "$WORK/client.out" ;;
	*) false ;;
	esac && return
	tail -n 20 "$WORK/client.out" >&2
	return 1
}

# The result of each test; how long it took is no matter.
app_check() {
	local out=$WORK/$MODE.$1.results all
	sed -n '/^\[\(ok\|err\|ignore\|skip\)\]: /s/ ([0-9]* ms)$//p' "$WORK/client.out" | sort >"$out"
	if [ "$MODE" != plain ] && ! diff "$WORK/plain.$1.results" "$out" >&2; then
		grep -A 3 '^\[err\]' "$WORK/client.out" >&2
		fail "$RUN: results over plain TCP (<) and now (>)"
	fi
	APP_VALUE=$(grep -c '^\[ok\]' "$out") APP_UNIT=tests
	all=$((APP_VALUE + $(grep -c '^\[err\]' "$out")))
	check_gt "$RUN: tests done" "$all" "$([ "$1" = evicted ] && echo 10 || echo 20)"
	check_ge "$RUN: tests that came out well, in per cent" $((APP_VALUE * 100 / all)) 99
}

# own: many short connections. evicted: each writes 10 MB in its first moments, and TCP's buffers have room for nearly all of it.
app_share() {
	case $1 in
	external) echo 95 ;;
	own) echo 60 ;;
	evicted) echo 0 ;;
	esac
}
app_half() { [ "$1" = external ] && echo 20000000 || echo 1000000; }
# The others are too short to be without a daemon for a part of it.
app_plays() { [ "$1" != restarted ] || [ "$2" = external ]; }
app_label() { :; }

APP_LIMIT=$(full && echo 1500 || echo 120)
app_main "$@"
