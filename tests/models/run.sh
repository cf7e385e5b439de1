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
	ring_sleep|bell_edge|port_turn|switch|leave|anew) models="$models $arg" ;;
	*) echo "usage: run.sh [long] [ring_sleep|bell_edge|port_turn|switch|leave|anew]..." >&2; exit 2 ;;
	esac
done
[ -n "$models" ] || models='ring_sleep bell_edge port_turn switch leave anew'

for tool in spin "${cc%% *}"; do
	if ! command -v "$tool" >/dev/null 2>&1; then
		echo "models: $tool is not installed, skipped"
		exit 77
	fi
done

tmp=$(mktemp -d "${TMPDIR:-/tmp}/xshim-models.XXXXXX") || exit 1
pids=
# shellcheck disable=SC2086 # a word for each
trap '[ -z "$pids" ] || kill $pids 2>/dev/null; wait; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

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

# worker N: every search of the list whose number is N, modulo $workers. A line of each into $tmp/done.N: states, run or mutant, ok or FAIL.
worker()
{
	mkdir "$tmp/work.$1" && cd "$tmp/work.$1" || exit 1
	awk -v n="$1" -v of="$workers" 'NR % of == n' "$tmp/list" >"$tmp/list.$1"
	while IFS=: read -r kind m opt flags; do
		# shellcheck disable=SC2086 # flags are words
		search "$m" "$opt" $flags </dev/null
		result=ok verdict=ok
		if [ "$kind" = run ]; then
			[ "$errors" = 0 ] || { result=FAIL verdict="FAIL: ${why:-no result}"; }
		elif [ -n "$errors" ] && [ "$errors" != 0 ]; then
			verdict="caught: $why"
		else
			result=FAIL verdict="FAIL: not caught${why:+, $why}"
		fi
		printf '%-58s %12s %7s  %s\n' "$m $flags" "${states:-?}" "${errors:-?}" "$verdict"
		echo "${states:-0} $kind $result" >>"$tmp/done.$1"
	done <"$tmp/list.$1"
}

for m in $models; do
	{
		list 'RUN:' "$m"
		[ $long = yes ] && list 'LONG:' "$m"
	} | while read -r flags; do
		echo "run:$m:-O2:$flags"
	done
	list 'MUTANT' "$m" | while IFS=: read -r flags names; do
		for name in $names; do
			echo "mutant:$m:-O0:${flags:+${flags# } }-D$name"
		done
	done
done >"$tmp/list"

workers=$(nproc)
printf '%-58s %12s %7s  %s\n' 'model and flags' 'states' 'errors' 'verdict'
n=0
while [ $n -lt "$workers" ]; do
	worker $n &
	pids="$pids $!"
	n=$((n + 1))
done
wait
pids=
cat "$tmp"/done.* 2>/dev/null | awk -v all="$(wc -l <"$tmp/list")" '
	$2 == "run" && $3 == "ok" { states += $1 }
	$2 == "mutant" { mutants++; caught += $3 == "ok" }
	$3 != "ok" { failures++ }
	END {
		printf "models: %.0f states without an error, %d of %d mutants caught, %d failures\n", states, caught, mutants, failures
		if (NR != all) print "models: " all - NR " of " all " searches have not ended"
		exit failures || NR != all
	}'
