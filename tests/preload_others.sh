#!/bin/bash
# SPDX-License-Identifier: MIT
# what other libraries of this kind got wrong: the same as over plain TCP (tests/features.txt).
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
behave_main others "$@"
