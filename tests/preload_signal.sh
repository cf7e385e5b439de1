#!/bin/bash
# SPDX-License-Identifier: MIT
# signals that come while a call sleeps: EINTR and restarts: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main signal "$@"
