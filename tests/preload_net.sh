#!/bin/bash
# SPDX-License-Identifier: MIT
# the network below a connection goes, or the connection is destroyed by another hand: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
need ip ss
behave_main net "$@"
