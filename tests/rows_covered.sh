#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Each fault from F01 to F58 has one line in rows.txt, which names cases that are there and that are played by `make check`; and a
# test that says that it is about a fault is named in the line of that fault.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/covered.sh"

check_table "$src/tests/rows.txt"
number=
for ((i = 1; i <= 58; i++)); do
	printf -v row F%02d $i
	[ "$(printf '%s\n' "${FIRSTS[@]}" | grep -cx "$row")" = 1 ] || complain "$row has not one line"
done
[ $LINES = 58 ] || complain "$LINES lines"
while IFS=: read -r file row; do
	name=${file##*/}
	case $name in
	preload_*.sh | test_*.sh | tool_*.sh) want=script:$name ;;
	*) continue ;;		# a unit or a scene, of which the name is the case's
	esac
	grep "^$row " "$TABLE" | grep -qF "$want" || complain "$name says that it is about $row, whose line does not name it"
done < <(grep -oHE '\bF[0-5][0-9]\b' "$src"/tests/*.sh | sort -u)
end_table faults
