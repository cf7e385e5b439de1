#!/bin/bash
# SPDX-License-Identifier: MIT
# how connections end: half-closes, closes, resets, deaths of either end: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main end "$@"
