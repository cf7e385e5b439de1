#!/bin/bash
# SPDX-License-Identifier: MIT
#
# redis with io-threads; under load while BGSAVE forks the server; a replica, preloaded as well, that takes the whole
# set and then follows what is written; and clients that subscribe, block and pipeline.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need redis-server redis-benchmark redis-cli

APP_CASES="threads save replica pubsub"
APP_MODES="both nodaemon oneend killed"
VALUES=10000		# of 1000 bytes; the first copy may go by TCP and is a small part then

# Where the ring's share counts the connections live long: what they send before the move is a small part then.
requests() {
	case $MODE,$CASE in
	both,*) if full; then echo 600000; else echo 200000; fi ;;
	killed,save) echo 500000 ;;
	killed,*) echo 1500000 ;;
	oneend,* | nodaemon,*) echo 20000 ;;
	*) if full; then echo 600000; else echo 60000; fi ;;
	esac
}

server() {
	local name=$1 ns=$2 address=$3 prefix=$4
	shift 4
	mkdir -p "$WORK/$name.data"
	rm -f "$WORK/$name.data"/*
	ns_start "$name" "$ns" "$prefix" redis-server --port $PORT --bind "$address" --protected-mode no --save "" \
		--enable-debug-command yes --appendonly no --dir "$WORK/$name.data" --loglevel warning "$@"
	wait_listen "$ns" $PORT
}

app_server() {
	if [ "$2" = threads ]; then
		# they spin: three would be too many for two processors
		server server b "$IP_B" "$1" --io-threads 2 --io-threads-do-reads yes
	else
		server server b "$IP_B" "$1"
	fi
	[ "$2" != replica ] || cli env debug populate $VALUES value 1000 >/dev/null || fail "no values can be made"
}

# cli P WORDS: a client in namespace a
cli() {
	local p=$1
	shift
	ns_run a "$p" redis-cli -h "$IP_B" -p $PORT "$@"
}

saved() { [ "$(ns_run a env redis-cli -h "$IP_B" -p $PORT info persistence | tr -d '\r' | sed -n 's/^rdb_bgsave_in_progress://p')" = 0 ]; }

# A connection that a fork has doubled is not introduced while the child lives.
moved() { [ "$(since "$WORK/before.json" .counters.attaches)" -ge $((2 * $1)) ]; }

digest() { ns_run a env redis-cli -h "$1" -p $PORT debug digest | grep -E '^[0-9a-f]{40}$'; }
copied() { ns_run a env redis-cli -h "$IP_A" -p $PORT info replication | grep -q '^master_link_status:up'; }
# what is in the replica is what is in its master
followed() {
	local one
	one=$(digest "$IP_A") && [ "$one" = "$(digest "$IP_B")" ]
}

app_client() {
	local i
	case $2 in
	threads)
		ns_run a "$1" redis-benchmark -h "$IP_B" -p $PORT -t set,get -c 20 --threads 2 -n $(($(requests) / 20)) --csv ;;
	save)
		ns_run a "$1" redis-benchmark -h "$IP_B" -p $PORT -t set -r 20000 -d 500 -c 20 --threads 2 -n "$(requests)" --csv &
		[ "$MODE" != both ] || [ "$1" != shim ] || wait_for 30 "twenty connections to be on rings" moved 20
		for ((i = 0; i < 3; i++)); do
			wait_for 30 "the last BGSAVE" saved
			cli "$1" bgsave >/dev/null || return
		done
		wait $! || return
		wait_for 30 "the last BGSAVE" saved
		cli "$1" bgsave >/dev/null || return
		wait_for 30 "the last BGSAVE" saved
		cli "$1" info persistence | tr -d '\r' | grep '^rdb_last_bgsave_status'
		echo "digest $(cli "$1" debug digest)"
		;;
	replica)
		server replica a "$IP_A" "$1" --replicaof "$IP_B $PORT"
		# the master forks for the first copy, and what a fork has doubled stays on TCP while the child lives
		wait_for 60 "the replica to have the first copy" copied
		wait_for 60 "the child that wrote it to end" saved
		ns_run a "$1" redis-benchmark -h "$IP_B" -p $PORT -t set,incr,lpush -r 2000 -d 400 -c 10 -P 4 -n "$(requests)" --csv || return
		wait_for 60 "the replica to have what its master has" followed
		redis_says "$IP_A" connected_slaves master_link_status
		redis_says "$IP_B" connected_slaves sync_full sync_partial_ok
		job_stop replica
		cat "$WORK/replica.err" >&2
		return "$STATUS"
		;;
	pubsub)
		ns_run a "$1" "$PYTHON" "$TESTS_DIR/apps/redis_client.py" "$IP_B" $PORT $(($(requests) / 20))
		;;
	esac
}

redis_says() {
	local address=$1 f
	shift
	for f in "$@"; do
		ns_run a env redis-cli -h "$address" -p $PORT info | tr -d '\r' | grep "^$f:"
	done
}

app_check() {
	case $1 in
	threads) check_eq "$RUN: lines of figures" "$(grep -c '^"[SG]ET","[1-9]' "$WORK/client.out")" 2 ;;
	save)
		check_eq "$RUN: the last BGSAVE" "$(grep '^rdb' "$WORK/client.out")" rdb_last_bgsave_status:ok
		grep -q '^digest [0-9a-f]\{40\}$' "$WORK/client.out" || fail "$RUN: the server does not tell the digest"
		# what is in the file is what was in the server
		redis_reads_back
		APP_VALUE=$(sed -n 's/^"SET","\([0-9]*\).*/\1/p' "$WORK/client.out")
		APP_UNIT=SET/s ;;
	replica)
		check_eq "$RUN: what the two servers say" "$(grep -v '^"' "$WORK/client.out" | xargs)" \
			"connected_slaves:0 master_link_status:up connected_slaves:1 sync_full:1 sync_partial_ok:0" ;;
	pubsub)
		check_eq "$RUN: what the client counted" "$(cat "$WORK/client.out")" \
			"messages $(($(requests) / 20)) popped $(($(requests) / 20)) pipelined 2000" ;;
	esac
}

# The dump, read by a server that never saw a socket of ours, has the digest the first one told.
redis_reads_back() {
	cp "$WORK/server.data/dump.rdb" "$WORK/dump.rdb" || fail "$RUN: there is no dump"
	ns_start reader b env redis-server --port $((PORT + 1000)) --bind "$IP_B" --protected-mode no --save "" \
		--enable-debug-command yes --dir "$WORK" --loglevel warning
	wait_listen b $((PORT + 1000))
	wait_for 20 "the reader to have loaded the dump" loaded
	check_eq "$RUN: digest of the dump" "$(ns_run a env redis-cli -h "$IP_B" -p $((PORT + 1000)) debug digest)" \
		"$(sed -n 's/^digest //p' "$WORK/client.out")"
	job_stop reader
}

loaded() { [ "$(ns_run a env redis-cli -h "$IP_B" -p $((PORT + 1000)) info persistence | tr -d '\r' | sed -n 's/^loading://p')" = 0 ]; }

app_label() { [ "$1" = save ] && echo "SET during BGSAVE"; }
# connections of a few hundred requests each
app_share() {
	case $1 in
	threads) echo 90 ;;
	pubsub) echo 98 ;;
	*) echo 99 ;;
	esac
}
app_half() { [ "$1" = pubsub ] && echo 200000 || echo 3000000; }

app_main "$@"
