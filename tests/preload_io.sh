#!/bin/bash
# SPDX-License-Identifier: MIT
# flags, time limits, non-blocking calls, FIONREAD and the like, sendfile: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main io "$@"
