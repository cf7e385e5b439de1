#!/bin/bash
# SPDX-License-Identifier: MIT
# bad addresses in calls, and the program's own handlers for SIGSEGV and SIGBUS: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
[ "$(uname -m)" = x86_64 ] || skip "bad addresses are answered with EFAULT on x86-64 only"
if ldd "$BEHAVE" | grep -q -E 'lib(a|t)san'; then
	skip "the sanitizer's runtime looks at the arguments before the shim, and has handlers of its own"
fi
behave_main fault "$@"
