#!/bin/bash
# SPDX-License-Identifier: MIT
# epoll sets as wholes: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
# The thread sanitizer complains of each fork in a handler, over plain TCP, too.
if [ $# = 0 ] && ldd "$BEHAVE" | grep -q libtsan; then
	note "forked_by_a_handler: not with the thread sanitizer in the program"
	# shellcheck disable=SC2046
	set -- $("$BEHAVE" list epoll | grep -vx forked_by_a_handler)
fi
behave_main epoll "$@"
