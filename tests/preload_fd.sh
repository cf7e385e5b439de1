#!/bin/bash
# SPDX-License-Identifier: MIT
# descriptor numbers, dup, programs that close everything: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main fd "$@"
