#!/bin/bash
# SPDX-License-Identifier: MIT
# threads that use one connection together: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main thread "$@"
