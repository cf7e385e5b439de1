#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh [long] [MODEL...] - check the models of the ring protocol with spin, and that each of their mutants is caught.
#
# The head of each model lists what is run: "RUN: flags" always, "LONG: flags" with the argument `long`,
# and "MUTANT flags: NAME..." the faults that -DNAME puts in. A run must be complete and without an error,
# a mutant must end in one. Exit status: 0, 1, 2 for wrong usage, or 77 when spin or the compiler is missing.

set -u

here=$(cd "$(dirname "$0")" && pwd) || exit 1
cc=${CC:-gcc}
limit=600		# seconds for one search: against one without an end, not against a slow machine
depth=100000
long=no
models=

for arg; do
	case $arg in
	long) long=yes; limit=1800 ;;
	ring_sleep|bell_edge|port_turn|switch|leave) models="$models $arg" ;;
	*) echo "usage: run.sh [long] [ring_sleep|bell_edge|port_turn|switch|leave]..." >&2; exit 2 ;;
	esac
done
[ -n "$models" ] || models='ring_sleep bell_edge port_turn switch leave'

for tool in spin "${cc%% *}"; do
	if ! command -v "$tool" >/dev/null 2>&1; then
		echo "models: $tool is not installed, skipped"
		exit 77
	fi
done

tmp=$(mktemp -d "${TMPDIR:-/tmp}/xshim-models.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$tmp/work" && cd "$tmp/work" || exit 1

failures=0
states_total=0
mutants=0
caught=0

# search MODEL OPTIMISE FLAGS...: sets errors, states, why; errors is empty if the search came to no end.
search()
{
	model=$1
	opt=$2
	shift 2
	rm -rf ./*
	errors= states=0 why=
	if ! spin "$@" -a "$here/$model.pml" >spin.out 2>&1 || [ ! -f pan.c ]; then
		why="spin: $(head -n 1 spin.out)"
		return
	fi
	if ! $cc "$opt" -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=6000 -o pan pan.c >cc.out 2>&1; then
		why="cc: $(head -n 1 cc.out)"
		return
	fi
	timeout "$limit" ./pan -m$depth -w22 >pan.out 2>&1
	rc=$?
	if [ $rc -eq 124 ]; then
		why="not finished in $limit s"
		return
	fi
	errors=$(sed -n 's/.*errors: \([0-9][0-9]*\)$/\1/p' pan.out | head -n 1)
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out | head -n 1)
	why=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' pan.out | head -n 1)
	if grep -q 'max search depth too small\|out of memory\|memory bound\|reached -DMEMLIM' pan.out; then
		why='search cut short by depth or memory'
		[ "${errors:-0}" = 0 ] && errors=
	fi
}

list()		# list KEYWORD MODEL: the lines of the model's head that begin with it
{
	sed -n "s/^ \* $1//p" "$here/$2.pml"
}

printf '%-58s %12s %7s  %s\n' 'model and flags' 'states' 'errors' 'verdict'
for m in $models; do
	{
		list 'RUN:' "$m"
		[ $long = yes ] && list 'LONG:' "$m"
	} >"$tmp/runs"
	while read -r flags; do
		# shellcheck disable=SC2086 # flags are words
		search "$m" -O2 $flags </dev/null
		verdict=ok
		if [ "$errors" != 0 ]; then
			verdict="FAIL: ${why:-no result}"
			failures=$((failures + 1))
		fi
		states_total=$(awk -v a="$states_total" -v b="${states:-0}" 'BEGIN { printf "%.0f", a + b }')
		printf '%-58s %12s %7s  %s\n' "$m $flags" "${states:-?}" "${errors:-?}" "$verdict"
	done <"$tmp/runs"
	rm -f "$tmp/runs"
done
for m in $models; do
	list 'MUTANT' "$m" >"$tmp/runs"
	while IFS=: read -r flags names; do
		for name in $names; do
			# shellcheck disable=SC2086
			search "$m" -O0 $flags "-D$name" </dev/null
			mutants=$((mutants + 1))
			if [ -n "$errors" ] && [ "$errors" != 0 ]; then
				verdict="caught: $why"
				caught=$((caught + 1))
			else
				verdict="FAIL: not caught${why:+, $why}"
				failures=$((failures + 1))
			fi
			printf '%-58s %12s %7s  %s\n' "$m$flags -D$name" "${states:-?}" "${errors:-?}" "$verdict"
		done
	done <"$tmp/runs"
	rm -f "$tmp/runs"
done
echo "models: $states_total states without an error, $caught of $mutants mutants caught, $failures failures"
[ $failures -eq 0 ]
