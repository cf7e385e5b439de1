#!/bin/bash
# SPDX-License-Identifier: MIT
# system calls by number, second names, what the C library does by itself: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main call "$@"
