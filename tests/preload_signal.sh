#!/bin/bash
# SPDX-License-Identifier: MIT
# signals that come while a call sleeps: EINTR and restarts: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
if ldd "$BEHAVE" | grep -q libtsan; then
	skip "ThreadSanitizer runs handlers late, so no call is interrupted when it should be"
fi
behave_main signal "$@"
# and of one that sleeps by a descriptor of the channel's own (doze.h)
if [ $# = 0 ]; then
	export XSHIM_DOZE_AFTER=0
	behave_main signal receive_restarts receive_is_interrupted receive_is_stopped two_at_once_and_restart two_at_once_and_interrupt
	XSHIM_SPIN_US=1000 behave_main signal busy_wait_is_interrupted
fi
