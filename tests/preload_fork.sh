#!/bin/bash
# SPDX-License-Identifier: MIT
# a connection that a fork has given to two processes: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main fork "$@"
