#!/bin/bash
# SPDX-License-Identifier: MIT
# a connection that is passed on, or inherited by what is spawned; another root directory and another user: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main pass "$@"
