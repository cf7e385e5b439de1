#!/bin/bash
# SPDX-License-Identifier: MIT
#
# covered.sh - do the cases that a table names exist, and does `make check` play them? To be sourced, by a script that then calls
# check_table FILE; the lines have three parts, the last of which is a list of cases (features.txt says of what kinds).
#
#   LINES CASES   what there was in it
#   FIRSTS        the first part of each line
#   complain WHAT a mistake in the present line; end_table ends the script

src=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd)
behave=${XSHIM_PROG:-${XSHIM_BUILD:-$PWD}/tests/prog}/behave
BAD=0 LINES=0 CASES=0 FIRSTS=()

complain() { echo "${TABLE##*/}:$number: $*" >&2; BAD=1; }

declare -A known=()
remember() {	# KIND: names on standard input
	local name
	while read -r name; do
		known[$1:$name]=1
	done
}

gather() {
	local group
	# one that is known to differ shows nothing
	remember diff < <(awk '/^case / { if (name) print name; name = $2 } /^  known / { name = "" } END { if (name) print name }' \
		"$src"/tests/diff/cases/*.txt)
	remember unit < <(sed -n 's/^START_TEST(\(.*\))$/\1/p' "$src"/tests/test_*.c)
	remember start < <(sed -n '/^STARTS=(/,/)/p' "$src/tests/preload_load.sh" | tr -d '()' | sed 's/STARTS=//' | tr -s ' \t' '\n\n' | grep .)
	# a scene counts when some script plays its group
	for group in $(sed -n 's/.*behave_main \([a-z]*\).*/\1/p' "$src"/tests/preload_*.sh | sort -u); do
		[ -x "$behave" ] || { echo "skipped: $behave is not built"; exit 77; }
		remember scene < <("$behave" list "$group")
	done
	# what the makefile plays
	played=$(sed -n '/^dist_check_SCRIPTS/,/[^\\]$/p; /^APP_TESTS/,/[^\\]$/p' "$src/Makefile.am")
}

check_table() {
	local where what names rest line name
	TABLE=$1
	gather
	number=0
	while IFS= read -r line; do
		number=$((number + 1))
		case $line in
		'' | '#'*) continue ;;
		esac
		LINES=$((LINES + 1))
		IFS='|' read -r where what names rest <<<"$line"
		[ -n "${where// /}" ] && [ -n "${what// /}" ] && [ -n "${names// /}" ] && [ -z "$rest" ] ||
			complain "not three parts"
		FIRSTS+=("${where// /}")
		for name in $names; do
			CASES=$((CASES + 1))
			case $name in
			script:*) grep -qF "tests/${name#script:}" <<<"$played" || complain "$name is not played by make check" ;;
			app:*) grep -qF "tests/apps/${name#app:}.sh" <<<"$played" || complain "$name is not played by make check" ;;
			long:*) [ -e "$src/tests/${name#long:}" ] || complain "there is no $name" ;;
			*) [ -n "${known[$name]:-}" ] || complain "there is no $name" ;;
			esac
		done
		case " $names" in
		*" long:"*) [[ $names =~ (diff|scene|start|unit|app|script): ]] || complain "nothing of it is in make check" ;;
		esac
	done <"$TABLE"
}

end_table() {	# WHAT
	[ $BAD = 0 ] || exit 1
	echo "$LINES $1, $CASES cases named, all there"
}
