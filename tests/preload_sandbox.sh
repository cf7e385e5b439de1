#!/bin/bash
# SPDX-License-Identifier: MIT
# programs that put themselves under a seccomp filter: a connection leaves its ring before, and no call is made that plain TCP
# would not make.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
[ "$(uname -m)" = x86_64 ] || skip "the numbers of the calls are those of x86-64"
if ldd "$BEHAVE" | grep -q -E 'lib(a|t)san'; then
	skip "the sanitizer's runtime makes calls of its own"
fi
behave_main sandbox "$@"
