#!/bin/bash
# SPDX-License-Identifier: MIT
#
# PostgreSQL, whose postmaster accepts and forks a backend for each connection, as a user of its own: pgbench
# with kept connections and with one for each transaction, COPY both ways, a query cancelled half-way.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"

APP_CASES="pgbench reconnect copy cancel"
APP_MODES="both nodaemon oneend killed"
. "$TESTS_DIR/lib/postgres.sh"
[ -x "$PG/pgbench" ] || skip "pgbench is not installed"
ROWS=450000

app_prepare() {
	pg_make "$WORK/pg" -U tester <<-CONF
		autovacuum = off
	CONF
	# some 36 MB: one connection each way, of which the first megabytes go by TCP on a busy machine
	awk -v n=$ROWS 'BEGIN { for (i = 1; i <= n; i++) printf "%d\trow %d and its text, to be of some length: %x\t%x\n", i, i * 7919 % 104729, i * 65537, i * 40503 }' \
		>"$WORK/rows"
	sha256sum <"$WORK/rows" | cut -d' ' -f1 >"$WORK/rows.sha256"
}

app_server() { pg_start "$WORK/pg" "$1"; }

# The server's ordinary lines name ports and times; everything else it says must be as over plain TCP.
app_normalise() { pg_normalise; }

sql() {
	local p=$1
	shift
	ns_run a "$p" "$PG/psql" -h "$IP_B" -p $PORT -U tester -d postgres -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

bench() {
	local p=$1
	shift
	ns_run a "$p" "$PG/pgbench" -h "$IP_B" -p $PORT -U tester -n "$@" postgres
}

transactions() {
	case $MODE,$1 in
	plain,pgbench | both,pgbench | killed,pgbench) if full; then echo 20000; else echo 6000; fi ;;
	*,pgbench) if full; then echo 20000; else echo 1000; fi ;;
	killed,*) echo 400 ;;
	*) echo 20 ;;
	esac
}

app_client() {
	local i times=1 small=()
	[ "$MODE" = killed ] && times=4
	case $2 in
	pgbench)
		bench env -q -i -s 1 2>/dev/null || return
		bench "$1" -S -c 8 -j 2 -t "$(transactions pgbench)" || return
		bench "$1" -M prepared -c 6 -j 2 -t $(($(transactions pgbench) / 5)) || return
		sql "$1" -c "select count(*) from pgbench_history" -c "select sum(abalance) = sum(delta) from
			(select sum(abalance) abalance from pgbench_accounts) a, (select sum(delta) delta from pgbench_history) h"
		;;
	reconnect)
		bench "$1" -q -i -s 1 2>/dev/null || return
		bench "$1" -S -C -c 2 -t "$(transactions reconnect)"
		;;
	copy)
		sql "$1" -c "drop table if exists t" -c "create table t (i int, w text, h text)" 2>/dev/null || return
		# behind much that is small: both ends are at the ring by then, also where the daemon must wait for a processor
		for ((i = 0; i < 500; i++)); do
			small+=(-c "select 1 where false")
		done
		for ((i = 0; i < times; i++)); do
			sql "$1" "${small[@]}" -c "truncate t" -c "copy t from stdin" <"$WORK/rows" || return
			sql "$1" "${small[@]}" -c "copy t to stdout" | sha256sum || return
		done
		sql "$1" -c "select count(*), sum(i), sum(length(w)) from t"
		;;
	cancel)
		# a statement that the server stops, and one that psql cancels by a connection of its own at SIGINT
		sql "$1" -c "select 1" -c "set statement_timeout = 300" -c "select pg_sleep(100)"
		echo "status $?"
		build_cmd a "$1" "$PG/psql" -h "$IP_B" -p $PORT -U tester -d postgres -X -q -A -t \
			-c "select sum(length(repeat('x', 1000000))) from generate_series(1, 20)" -c "select pg_sleep(100)"
		"${CMD[@]}" &
		wait_for 20 "the statement to be at work" asleep
		kill -INT $!
		wait $!
		echo "status $?"
		;;
	esac
}

asleep() {
	[ "$(sql env -c "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'")" = 1 ]
}

app_check() {
	local out=$WORK/client.out
	case $1 in
	pgbench)
		check_eq "$RUN: transactions done" "$(sed -n 's/^number of transactions actually processed: //p' "$out" | xargs)" \
			"$((8 * $(transactions pgbench)))/$((8 * $(transactions pgbench))) $((6 * ($(transactions pgbench) / 5)))/$((6 * ($(transactions pgbench) / 5)))"
		check_eq "$RUN: failed transactions" "$(grep -c '^number of failed transactions: 0 ' "$out")" 2
		check_eq "$RUN: the books" "$(tail -n 2 "$out" | xargs)" "$((6 * ($(transactions pgbench) / 5))) t"
		APP_VALUE=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' "$out" | head -n 1)
		APP_UNIT=tps ;;
	reconnect)
		check_eq "$RUN: failed transactions" "$(grep -c '^number of failed transactions: 0 ' "$out")" 1
		APP_VALUE=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' "$out")
		APP_UNIT=tps ;;
	copy)
		check_eq "$RUN: sums of what came back" "$(sed '$d' "$out" | cut -d' ' -f1 | sort -u)" "$(cat "$WORK/rows.sha256")"
		check_eq "$RUN: the table" "$(tail -n 1 "$out")" \
			"$(awk -F'\t' '{ n++; i += $1; w += length($2) } END { printf "%d|%.0f|%d", n, i, w }' "$WORK/rows")" ;;
	cancel)
		check_eq "$RUN: what psql said" "$(xargs <"$out")" "1 status 1 20000000 status 1" ;;
	esac
}

# A connection for each transaction stays on TCP, and a cancelled query says little; only the load is asserted there.
app_share() {
	case $1 in
	pgbench) echo 99 ;;
	copy) echo 95 ;;
	*) echo 0 ;;
	esac
}

app_half() { [ "$1" = copy ] && echo 20000000 || echo 1000000; }
app_plays() {
	case $1,$2 in
	killed,reconnect | killed,cancel | oneend,reconnect | oneend,cancel) return 1 ;;
	esac
}
app_label() {
	case $1 in
	pgbench) echo "pgbench -S, 8 clients" ;;
	reconnect) ;;
	*) echo "$1" ;;
	esac
}

# A daemon that lets a user have four clients, the postmaster and three backends: the others stay on TCP, which nobody notices.
quota() {
	printf 'max_connections = 4\n' >"$WORK/xshimd.conf"
	[ -z "${JOB_PID[daemon]:-}" ] || daemon_stop
	rm -f "$XSHIM_SOCKET"
	daemon_start --config="$WORK/xshimd.conf"
	MODE=both CASE=pgbench RUN="$APP pgbench, three backends a user"
	snapshot "$WORK/before.json"
	transfer shim shim
	compare
	check_gt "$RUN: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 100000
	grep -q 'refused (quota)' "$WORK/daemon.err" || { cat "$WORK/daemon.err" >&2; fail "$RUN: xshimd has refused nobody"; }
	daemon_stop
	said
}

app_main "$@"
case " ${*:-both} " in
*" both "*) quota ;;
esac
