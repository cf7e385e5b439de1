#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The manual's lists say what the tables in the source say: every XSHIM_* variable of preload/options.def with
# its default, range, unit and help, and every reason of include/xshim/reasons.def with number, name and text,
# in the same order; and man finds nothing to complain about in any manual page.

src=${srcdir:-$(dirname "$0")/..}
manual=$src/preload/xshim.7
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failed=0

fail() {
	echo "FAIL: $*"
	failed=1
}

# One line an entry; an entry that is not on one line of its own would be missed, so they are counted too.
from_options() {
	sed -nE \
		-e 's/^XSHIM_OPTION_NUM\([a-z_]+, "([A-Z_]+)", ([0-9]+), ([0-9]+), ([0-9]+), "([^"]*)", "([^"]*)"\)$/\1|\2|\5|\3|\4|\6/p' \
		-e 's/^XSHIM_OPTION_STR\([a-z_]+, "([A-Z_]+)", "([^"]*)", "([^"]*)"\)$/\1|\2||||\3/p' "$1"
}

from_reasons() {
	sed -nE 's/^XSHIM_REASON\(([0-9]+), [A-Z_]+, "([^"]*)", "([^"]*)"\)$/\1|\2|\3/p' "$1"
}

section() {
	sed -e 's/\\-/-/g' "$manual" | awk -v want=".SH $1" '/^\.SH /{ on = $0 == want; next } on'
}

# .TP, .B NAME, help, .br, "Default 1 bytes, from 0 to 2." or "Default: text."
options_of_manual() {
	section ENVIRONMENT | awk '
		/^\.TP$/ { if ((getline) <= 0) exit; name = $2; if ((getline help) <= 0) exit; next }
		/^Default: / {
			sub(/^Default: /, ""); sub(/\.$/, "")
			printf "%s|%s||||%s\n", name, $0 == "unset" ? "" : $0, help
		}
		/^Default [0-9]/ {
			unit = ""
			value = $2
			if ($3 != "from") { unit = $3; sub(/,$/, "", unit) }
			sub(/,$/, "", value); sub(/\.$/, "")
			printf "%s|%s|%s|%s|%s|%s\n", name, value, unit, $(NF - 2), $NF, help
		}'
}

# .TP, .BR NAME " (NUMBER)", text
reasons_of_manual() {
	section REASONS | awk '
		/^\.TP$/ {
			if ((getline) <= 0) exit
			name = $2; number = $3 $4
			gsub(/[^0-9]/, "", number)
			if ((getline text) <= 0) exit
			printf "%s|%s|%s\n", number, name, text
		}'
}

# compare WHAT TABLE: $work/WHAT.def and $work/WHAT.man; entries of TABLE counted with the pattern $3
compare() {
	entries=$(grep -cE "$3" "$2")
	lines=$(wc -l <"$work/$1.def")
	[ "$entries" -gt 0 ] || fail "$2: no entry found"
	[ "$entries" -eq "$lines" ] || fail "$2: $entries entries, $lines of them on a line of the usual form"
	if ! diff -u "$work/$1.def" "$work/$1.man"; then
		fail "$manual: the list of $1 (+) is not that of $2 (-)"
	fi
}

from_options "$src/preload/options.def" >"$work/options.def"
options_of_manual >"$work/options.man"
compare options "$src/preload/options.def" '^XSHIM_OPTION_(NUM|STR)\('

from_reasons "$src/include/xshim/reasons.def" >"$work/reasons.def"
reasons_of_manual >"$work/reasons.man"
compare reasons "$src/include/xshim/reasons.def" '^XSHIM_REASON\('

if command -v man >/dev/null && man --version >/dev/null 2>&1; then
	for page in "$src/preload/xshim.7" "$src/tools/xshim.1" "$src/daemon/xshimd.8"; do
		man --warnings -E UTF-8 -l -Tutf8 -Z "$page" >/dev/null 2>"$work/complaints"
		[ -s "$work/complaints" ] || continue
		cat "$work/complaints"
		fail "$page: man complains"
	done
else
	echo "note: no man-db here, the pages are not formatted"
fi
exit $failed
