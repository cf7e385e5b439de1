#!/bin/bash
# SPDX-License-Identifier: MIT
#
# PostgreSQL's own regression tests, from its source package: a psql for each, up to twenty at a time, as its schedule says, to a server
# in the other namespace. Both ends are preloaded, and what each psql prints must be what it prints over plain TCP.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/postgres.sh"
. "$TESTS_DIR/lib/source.sh"

APP_CASES="regress"
APP_MODES="both nodaemon restarted"
APP_LIMIT=$(full && echo 900 || echo 120)
APP_GAP=8

# Those that say most with statements and rows, cancel, notify, reconnect or copy, and what these rest on, in a third of the time of all;
# XSHIM_TEST_SIZE=full plays all.
TESTS="test_setup boolean char name varchar text int2 int4 int8 oid float4 float8 bit numeric rangetypes strings date time timetz timestamp
	timestamptz interval inet multirangetypes horology regex expressions unicode database copy copyselect copydml insert insert_conflict
	create_misc create_operator create_procedure create_table create_schema create_index create_view create_am constraints inherit
	updatable_views errors select_distinct subselect union case transactions portals arrays update delete namespace rowsecurity
	create_table_like async tsrf tid psql psql_crosstab guc combocid window json jsonb jsonb_jsonpath plancache limit plpgsql copy2 temp
	domain rangefuncs prepare truncate sequence polymorphism rowtypes returning largeobject with xml partition_join explain"

app_prepare() {
	source_of postgresql-"$(basename "$(dirname "$PG")")"
	# where the user postgres may read it
	cp -a "$SOURCE/src/test/regress" "$WORK/regress" && chmod -R a+rX "$WORK/regress" || fail "cannot copy $SOURCE/src/test/regress"
	# the server says what happens to connections and not that a test provokes errors
	pg_make "$WORK/pg.new" -U postgres --locale=C -E UTF8 <<-CONF
		log_min_messages = log
	CONF
}

app_server() {
	rm -rf "$WORK/pg" "$WORK/results"
	cp -a "$WORK/pg.new" "$WORK/pg" || fail "cannot copy the new cluster"
	mkdir "$WORK/results" "$WORK/results/results" && chmod 777 "$WORK/results" "$WORK/results/results"
	pg_start "$WORK/pg" "$1"
}

# In no order, since the tests of a group run at once, and without the memory that one of them asks about.
app_normalise() { pg_normalise | grep -v -e '^LOG:  level: [0-9]*; ' -e '^LOG:  Grand total: ' | sort; }

# play P TEST: its name and whether it printed what PostgreSQL expects; if not, what it printed instead must be the same every time
play() {
	local out=$WORK/results/results/$2.out expected
	psql_in regression "$1" -a -v HIDE_TABLEAM=on -v HIDE_TOAST_COMPRESSION=on <"$WORK/regress/sql/$2.sql" >"$out" 2>&1
	for expected in "$WORK/regress/expected/$2.out" "$WORK/regress/expected/$2"_[0-9].out; do
		[ ! -e "$expected" ] || ! cmp -s "$expected" "$out" || { echo "$2 ok"; return; }
	done
	echo "$2 $(sha256sum <"$out")"
}

psql_in() {
	local database=$1 p=$2
	shift 2
	ns_run a "$p" "$PG/psql" -X -q -h "$IP_B" -p $PORT -U postgres -d "$database" "$@"
}

chosen() {
	local t
	for t in "$@"; do
		full || [[ " ${TESTS//[$'\n\t']/ } " = *" $t "* ]] && echo "$t"
	done
}

app_client() {
	local group t
	# what pg_regress sets
	export LANG=C LC_MESSAGES=C PGTZ=America/Los_Angeles PGDATESTYLE="Postgres, MDY" PGOPTIONS="-c intervalstyle=postgres_verbose" \
		PGAPPNAME=pg_regress PG_ABS_SRCDIR=$WORK/regress PG_ABS_BUILDDIR=$WORK/results PG_LIBDIR=$WORK/results PG_DLSUFFIX=.so
	unset LANGUAGE LC_ALL
	psql_in postgres "$1" -c 'create database regression template template0' -c "alter database regression set lc_messages to 'C'" \
		-c "alter database regression set timezone_abbreviations to 'Default'" || return
	sed -n 's/^test: //p' "$WORK/regress/parallel_schedule" | while read -r group; do
		# shellcheck disable=SC2086
		for t in $(chosen $group); do
			play "$1" "$t" &
		done
		wait
	done
}

app_check() {
	local out=$WORK/$MODE.results
	sort "$WORK/client.out" >"$out"
	if [ "$MODE" = plain ]; then
		cp -a "$WORK/results/results" "$WORK/plain.outputs"
	elif ! diff "$WORK/plain.results" "$out" >&2; then
		diff -r "$WORK/plain.outputs" "$WORK/results/results" | head -n 60 >&2
		fail "$RUN: results over plain TCP (<) and now (>)"
	fi
	APP_VALUE=$(grep -c ' ok$' "$out") APP_UNIT=tests
	# the tests that want functions in C, which are not built here, and few more
	check_ge "$RUN: tests that printed what PostgreSQL expects, in per cent" $((APP_VALUE * 100 / $(wc -l <"$out"))) 85
}

app_share() { echo 95; }
app_half() { echo 2000000; }
app_label() { :; }

app_main "$@"
