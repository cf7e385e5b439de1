#!/bin/bash
# SPDX-License-Identifier: MIT
# epoll sets as wholes: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main epoll "$@"
