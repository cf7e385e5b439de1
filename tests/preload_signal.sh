#!/bin/bash
# SPDX-License-Identifier: MIT
# signals that come while a call sleeps: EINTR and restarts: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
if ldd "$BEHAVE" | grep -q libtsan; then
	skip "ThreadSanitizer runs handlers late, so no call is interrupted when it should be"
fi
behave_main signal "$@"
