#!/bin/bash
# SPDX-License-Identifier: MIT
# what other libraries of this kind got wrong: the same as over plain TCP (tests/features.txt).
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
# The thread sanitizer does not get over a jump out of a call that it has wrapped, and runs handlers late, when what they find is another
# call's: both are wrong over plain TCP, too.
if [ $# = 0 ] && ldd "$BEHAVE" | grep -q libtsan; then
	note "jumps_out_of_calls, handler_makes_calls: not with the thread sanitizer in the program"
	# shellcheck disable=SC2046
	set -- $("$BEHAVE" list others | grep -vxe jumps_out_of_calls -e handler_makes_calls)
fi
behave_main others "$@"
