#!/bin/bash
# SPDX-License-Identifier: MIT
# system calls by number, second names, what the C library does by itself: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
# A sanitizer's runtime does not see children made by the bare call, nor expects two processes on one memory: those die over plain TCP, too.
if [ $# = 0 ] && ldd "$BEHAVE" | grep -q 'lib[at]san'; then
	note "numbers_clone3, clone_shares_memory: not with a sanitizer in the program"
	# shellcheck disable=SC2046
	set -- $("$BEHAVE" list call | grep -vx -e numbers_clone3 -e clone_shares_memory)
fi
behave_main call "$@"
