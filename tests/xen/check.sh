#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh - runs the cases of tests/xen/cases in guests of a real Xen, under QEMU; `make check-xen`.
#
#   check.sh [-l] [-c | -s] [-b SECONDS] [CASE...]
#                      all, or these; -l lists them by boot and ends; -c: of them, what a line "ci:" names; -s: what says "short:";
#                      -b: the whole takes no longer, by the wall clock
#
# The whole takes most of an hour on two processors that others use, too; that is `make check-xen`. With -c (`make check-xen-ci`)
# the cases run that are worth it after each change, with the kinds of guest that their line "ci:" has: what
# a release would be stopped for, in 20 minutes at most. Left out are what is there once more in another case (backend_saved, shim_drain),
# what is about the lab alone (come_and_go, plain, preload_alone, local_ring), and most of PVH, which goes through the same code.
#
# With -s (`make check-xen-short`, and in the end of `./quickstart check`) it is one boot of two PV guests: the backend alone, programs with
# the daemons and the library, and an end that goes at the wrong moment.
#
# What has come to no verdict when the time of -b is over is named and does not fail the run: a busy machine is no fault of ours, and
# within a case time is virtual, so that one that hangs comes to its own limit and fails. If nothing has come to one: 77.
#
# Cases that want the same kind of machine share a boot (format: cases/README). Prints `ok CASE` or
# `not ok CASE` and the output of what went wrong, the time of each boot, and in the end the sum. Status 0: all
# well; 1: not; 77: it cannot run here, with the reason.
#
# XSHIM_XEN_LOGS: keep the logs of each boot below this directory.
# XSHIM_XEN_CLOCK: real or virtual, for all cases, whatever they say.
# XSHIM_XEN_TYPE: pv or pvh, only what the cases have for guests of this kind.
#
# Time of a whole boot, measured on two shared processors without KVM, wall clock: two PV guests with nothing to
# do 18 s by the real clock, 33 s by the virtual one (at load 1; by then 11 and 8 s have passed in the lab); two PVH
# guests 25 and 40 s; three PV guests with iperf3, redis and python 25 and 50 s. The boot of come_and_go, local_ring,
# plain and preload_alone took 114 s at load 2 and 174 s at load 7, where the virtual clock showed the same 27 s.
# The set of -s: 123 s of one processor (24 s by the virtual clock), which took 688 s at load 25; the images before it 5 s, once.
# The set of -c: 537 s for its PV boot at load 7 (200 s by the virtual clock), 212 s for daemon_moved with PV at load 4, 286 s
# with PVH at load 12. What is idle costs next to nothing by the virtual clock; a stream at full speed costs three to five
# seconds for each of its own.
. "$(dirname "$0")/common.sh"

skip() { say "skipped: $*"; exit 77; }

LIST= CHOICE= BUDGET=
while getopts lcsb: opt; do
	case $opt in
	l) LIST=1 ;;
	c) CHOICE=ci ;;
	s) CHOICE=short ;;
	b) BUDGET=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

missing=$(lab_missing)
[ -z "$missing" ] || [ -n "$LIST" ] || skip "$missing"
case ${XSHIM_PRELOAD:-} in
*:*) skip "not with a sanitizer, whose memory a guest does not have" ;;
esac

header() { sed -n "s/^# $2: *//p" "$LAB_SOURCE/cases/$1" | head -n 1; }

if [ $# = 0 ]; then
	# shellcheck disable=SC2046
	set -- $(cd "$LAB_SOURCE/cases" && ls | grep -v README)
fi

# Cases by what they want of the machine: "type clock with memory vcpus alone kernel options".
declare -A BOOTS=()
for c in "$@"; do
	[ -r "$LAB_SOURCE/cases/$c" ] || die "there is no case $c"
	for f in $(header "$c" needs); do
		[ -n "$LIST" ] || [ -e "$XSHIM_BUILD/$f" ] || { say "ok $c # skipped: $f is not built"; continue 2; }
	done
	type=$(header "$c" type)
	if [ -n "$CHOICE" ]; then
		type=$(header "$c" "$CHOICE")
		[ -n "$type" ] || continue
	fi
	clock=${XSHIM_XEN_CLOCK:-$(header "$c" clock)}
	with=$(header "$c" with)
	memory=$(header "$c" memory)
	vcpus=$(header "$c" vcpus)
	alone=$([ "$(header "$c" alone)" = yes ] && echo "$c")
	for t in ${type:-pv}; do
		[ "${XSHIM_XEN_TYPE:-$t}" = "$t" ] || continue
		key="$t ${clock:-virtual} ${with:-base} ${memory:-0} ${vcpus:-1} ${alone:--} $(header "$c" kernel)"
		BOOTS[$key]+=" $c"
	done
done

TOTAL=0 FAILED=0 LATE=
WORK=$(mktemp -d "${TMPDIR:-/tmp}/xshim-xen.XXXXXX") || die "mktemp"
RUN=
clean_up() {
	[ -z "$RUN" ] || kill -TERM "$RUN" 2>/dev/null && wait "$RUN" 2>/dev/null
	rm -rf "$WORK"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

result() {
	TOTAL=$((TOTAL + 1))
	if [ "$1" = 0 ]; then
		say "ok $2"
	else
		say "not ok $2"
		FAILED=$((FAILED + 1))
	fi
}

# boot KEY CASE...
boot() {
	local type clock with memory vcpus alone kernel logs c wrong wall=900 label took limit late
	read -r type clock with memory vcpus alone kernel <<<"$1"
	shift
	label="$type, $clock clock$([ "$with" = base ] || echo ", $with")$([ "$vcpus" = 1 ] || echo ", $vcpus processors")$([ "$alone" = - ] || echo ", $alone")"
	logs=$WORK/out
	[ -z "${XSHIM_XEN_LOGS:-}" ] || logs="$XSHIM_XEN_LOGS/$(echo "$label$kernel" | tr -c 'a-z0-9\n' '_')"
	rm -rf "$logs"
	for c in "$@"; do
		limit=$(header "$c" limit)
		wall=$((wall + 4 * ${limit:-60}))
	done
	if [ -n "$BUDGET" ]; then
		# half a minute is less than any boot takes
		[ $((BUDGET - SECONDS)) -ge 30 ] || { LATE="$LATE $*"; return; }
		[ $wall -le $((BUDGET - SECONDS)) ] || wall=$((BUDGET - SECONDS))
	fi
	set -- -t "$type" -k "$clock" -v "$vcpus" -w "$wall" -o "$logs" "$@"
	[ "$memory" = 0 ] || set -- -m "$memory" "$@"
	[ "$with" != apps ] || set -- -a "$@"
	[ -z "$kernel" ] || set -- -e "$kernel" "$@"
	took=${EPOCHREALTIME/./}
	# in the background, so that a signal to this script is served at once
	"$LAB_SOURCE/run.sh" "$@" >"$WORK/report" 2>&1 </dev/null &
	RUN=$!
	wait $RUN
	RUN=
	took=$(((${EPOCHREALTIME/./} - took) / 1000000))
	late=
	if [ -n "$BUDGET" ] && [ $SECONDS -ge "$BUDGET" ] && ! grep -q LAB-DONE "$logs/console.log"; then
		late=1
	fi
	if [ ! -e "$logs/verdicts" ]; then
		tail -n 30 "$WORK/report"
		result 1 "boot ($label)"
		return
	fi
	while IFS=: read -r c wrong; do
		if [ -z "$wrong" ]; then
			result 0 "$c ($type)"
			continue
		fi
		# all that is wrong is that a part has not ended
		if [ -n "$late" ] && ! echo "$wrong" | grep -qE ': ([0-9]|gone)'; then
			LATE="$LATE $c"
			continue
		fi
		result 1 "$c ($type):$wrong"
		for f in "$logs/$c".*.log; do
			[ -s "$f" ] && tail -n 40 "$f" | sed "s/^/    ${f##*/$c.}| /"
		done
	done <"$logs/verdicts"
	if [ -z "$late" ] && ! grep -q LAB-DONE "$logs/console.log"; then
		sed -n '/^the lab did not/,/^=====/p' "$WORK/report" | grep -v =====
		result 1 "end of the boot ($label)"
	fi
	if [ -s "$logs/complaints" ]; then
		sort -u "$logs/complaints" | head -n 20 | sed 's/^/    kernel| /'
		result 1 "quiet kernels ($label)"
	fi
	say "# boot of $label: $took s ($(cat "$logs/times" 2>/dev/null | tr '\n' ';'))"
}

began=$SECONDS
if [ -n "$BUDGET" ] && [ -z "$LIST" ]; then
	"$LAB_SOURCE/build.sh" || die "the lab's images cannot be made"
fi
while IFS= read -r key; do
	if [ -n "$LIST" ]; then
		say "$key:${BOOTS[$key]}"
	else
		# shellcheck disable=SC2086
		boot "$key" ${BOOTS[$key]}
	fi
done < <([ ${#BOOTS[@]} = 0 ] || printf '%s\n' "${!BOOTS[@]}" | sort)
[ -z "$LIST" ] || exit 0
say "# $((TOTAL - FAILED)) of $TOTAL passed; ${#BOOTS[@]} boots, $((SECONDS - began)) s"
[ -z "$LATE" ] || say "# not come to within the $BUDGET s:$LATE"
[ $TOTAL -gt 0 ] || skip "$([ -n "$LATE" ] && echo "no case has come to its end within $BUDGET s" || echo "no case can run")"
[ $FAILED = 0 ]
