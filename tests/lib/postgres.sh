#!/bin/bash
# SPDX-License-Identifier: MIT
#
# postgres.sh - a PostgreSQL server of the test's own, run by the user postgres. To be sourced after app.sh; skips where it is not installed.
#
#   PG                        where its programs are
#   pg_make DIR WORDS...      a database cluster by `initdb WORDS...`, with the settings from stdin besides those that all tests want
#   pg_start DIR P            job "server" in namespace b at $PORT; P is `shim` or `env`
#   pg_normalise              what it writes to stderr, without what names times and ports

PG=$(echo /usr/lib/postgresql/*/bin | tr ' ' '\n' | sort -V | tail -n 1)
[ -x "$PG/postgres" ] && [ -x "$PG/initdb" ] && [ -x "$PG/psql" ] || skip "PostgreSQL's server is not installed"
getent passwd postgres >/dev/null || skip "there is no user postgres"
need setpriv
AS=(setpriv --reuid=postgres --regid=postgres --clear-groups env -C /)

pg_make() {
	local dir=$1
	shift
	mkdir "$dir" && chown postgres:postgres "$dir" || fail "cannot make $dir"
	"${AS[@]}" "$PG/initdb" -D "$dir" -A trust --no-sync "$@" >"$WORK/initdb.out" 2>&1 ||
		{ cat "$WORK/initdb.out" >&2; fail "initdb"; }
	echo "host all all ${IP_A%.*}.0/24 trust" >>"$dir/pg_hba.conf"
	cat >>"$dir/postgresql.conf"
	cat >>"$dir/postgresql.conf" <<-CONF
		listen_addresses = '$IP_B'
		unix_socket_directories = ''
		fsync = off
		full_page_writes = off
		log_checkpoints = off
		log_line_prefix = ''
		max_connections = 40
	CONF
}

pg_start() {
	ns_start server b "$2" "${AS[@]}" "$PG/postgres" -D "$1" -p $PORT
	wait_for 20 "PostgreSQL" grep -q 'ready to accept' "$WORK/server.err"
}

pg_normalise() {
	grep -v -e '^LOG:  starting PostgreSQL' -e '^LOG:  listening on' -e '^LOG:  database system ' \
		-e '^LOG:  background worker ' -e '^LOG:  shutting down' -e '^LOG:  received smart shutdown' || :
}
