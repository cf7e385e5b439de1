#!/bin/bash
# SPDX-License-Identifier: MIT
# a connection that a fork has given to two processes: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main fork "$@"
# and what it has left behind does not spoil the next ring
[ $# -gt 0 ] || XSHIM_FORCE_LEAVE=100000 behave_main fork child_killed_in_a_send
