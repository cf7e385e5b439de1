#!/bin/bash
# SPDX-License-Identifier: MIT
# threads that are cancelled inside calls: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
# The thread sanitizer does not hear of an end inside a call that it has wrapped, and the address sanitizer stops over the stack of such a
# thread (asan_thread.cpp), also over plain TCP.
if [ -x "$BEHAVE" ] && ldd "$BEHAVE" | grep -q 'lib[at]san'; then
	skip "a sanitizer is in the program that does not know of cancelled threads"
fi
behave_main cancel "$@"
# and while they sleep by a descriptor of the channel's own, which tells things once (doze.h)
if [ $# = 0 ]; then
	export XSHIM_DOZE_AFTER=0
	behave_main cancel cancelled_asleep cancelled_anywhere cancelled_with_the_end_in_hand
fi
