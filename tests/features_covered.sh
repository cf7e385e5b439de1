#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Each line of features.txt names cases that are there and that are played by `make check`.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/covered.sh"

check_table "$src/tests/features.txt"
[ $LINES -gt 50 ] || { echo "features.txt has $LINES lines, which cannot be all" >&2; exit 1; }
end_table findings
