#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Each line of features.txt names cases that are there and that are played by `make check`.

src=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd)
table=$src/tests/features.txt
behave=${XSHIM_PROG:-${XSHIM_BUILD:-$PWD}/tests/prog}/behave
bad=0
lines=0
cases=0

complain() { echo "features.txt:$number: $*" >&2; bad=1; }

declare -A known=()
remember() {	# KIND: names on standard input
	local name
	while read -r name; do
		known[$1:$name]=1
	done
}

remember diff < <(sed -n 's/^case //p' "$src"/tests/diff/cases/*.txt)
remember unit < <(sed -n 's/^START_TEST(\(.*\))$/\1/p' "$src"/tests/test_*.c)
remember start < <(sed -n '/^STARTS=(/,/)/p' "$src/tests/preload_load.sh" | tr -d '()' | sed 's/STARTS=//' | tr -s ' \t' '\n\n' | grep .)
# a scene counts when some script plays its group
for group in $(sed -n 's/.*behave_main \([a-z]*\).*/\1/p' "$src"/tests/preload_*.sh | sort -u); do
	[ -x "$behave" ] || { echo "skipped: $behave is not built"; exit 77; }
	remember scene < <("$behave" list "$group")
done
# what the makefile plays
played=$(sed -n '/^dist_check_SCRIPTS/,/[^\\]$/p; /^APP_TESTS/,/[^\\]$/p' "$src/Makefile.am")

number=0
while IFS= read -r line; do
	number=$((number + 1))
	case $line in
	'' | '#'*) continue ;;
	esac
	lines=$((lines + 1))
	IFS='|' read -r where what names rest <<<"$line"
	[ -n "${where// /}" ] && [ -n "${what// /}" ] && [ -n "${names// /}" ] && [ -z "$rest" ] ||
		complain "not three parts"
	for name in $names; do
		cases=$((cases + 1))
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
done <"$table"
[ $lines -gt 50 ] || { echo "features.txt has $lines lines, which cannot be all" >&2; exit 1; }
[ $bad = 0 ] || exit 1
echo "$lines findings, $cases cases named, all there"
