#!/bin/bash
# SPDX-License-Identifier: MIT
# threads that use one connection together: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
# ThreadSanitizer's own poll and select, which call ours, switch its view of atomic operations off, but not that of
# plain accesses: it would see races that are none.
if [ $# = 0 ] && ldd "$BEHAVE" | grep -q libtsan; then
	set -- reader_in_recv
fi
behave_main thread "$@"
# and while one sleeps by a descriptor of the channel's own (doze.h)
if [ $# = 0 ]; then
	export XSHIM_DOZE_AFTER=0
	behave_main thread closed_under_a_receive number_goes_to_a_connection number_goes_to_a_pair
fi
# and where it takes a while from a look at a pipe to what is done about it
if [ $# = 0 ] && [[ $XSHIM_PRELOAD != *:* ]]; then
	if strace -o /dev/null true 2>/dev/null; then
		CLIENT_BY=(strace -f -qq -o /dev/null -e trace=ioctl,poll -e inject=ioctl,poll:delay_exit=300)
		behave_main thread splice_from_a_common_pipe
	else
		note "splice_from_a_common_pipe, slowly: no strace, or it cannot trace here"
	fi
fi
