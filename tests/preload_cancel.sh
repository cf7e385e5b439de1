#!/bin/bash
# SPDX-License-Identifier: MIT
# threads that are cancelled inside calls: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
# As of a jump, the thread sanitizer does not hear of an end inside a call that it has wrapped.
if [ -x "$BEHAVE" ] && ldd "$BEHAVE" | grep -q libtsan; then
	skip "the thread sanitizer is in the program"
fi
behave_main cancel "$@"
