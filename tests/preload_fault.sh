#!/bin/bash
# SPDX-License-Identifier: MIT
# bad addresses in calls, and the program's own handlers for SIGSEGV and SIGBUS: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
[ "$(uname -m)" = x86_64 ] || skip "bad addresses are answered with EFAULT on x86-64 only"
if ldd "$BEHAVE" | grep -q -E 'lib(a|t)san'; then
	skip "the sanitizer's runtime looks at the arguments before the shim, and has handlers of its own"
fi
# Before there is any ring there is no scene to play: the program alone, with a daemon and without.
wild() {
	local what
	[ -n "$NS_A" ] || ns_up
	for what in wild wild-threads; do
		ns_run a env "$BEHAVE" $what >"$WORK/wild.plain" 2>&1
		echo "status $?" >>"$WORK/wild.plain"
		ns_run a shim "$BEHAVE" $what >"$WORK/wild.shim" 2>&1
		echo "status $?" >>"$WORK/wild.shim"
		grep -q 'status 0' "$WORK/wild.plain" || fail "$what does not work over plain TCP: $(tail -n 3 "$WORK/wild.plain")"
		diff -U2 "$WORK/wild.plain" "$WORK/wild.shim" >&2 || fail "$what: plain TCP (-) and the preload (+) differ"
		note "ok $what"
	done
}

case ${1:-} in
wild) wild ;;
bad_places | endless_times) behave_main wild "$1" ;;
?*) behave_main fault "$@" ;;
*)
	wild
	behave_main fault
	behave_main wild
	wild
	;;
esac
