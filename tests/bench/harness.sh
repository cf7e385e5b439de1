#!/bin/bash
# SPDX-License-Identifier: MIT
# Does bench.sh measure and print what it says? Never what the figures are: those depend on the machine.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/netns.sh"

HERE=${srcdir:-$(dirname "$0")/../..}/tests/bench
case $XSHIM_PRELOAD in *:*) skip "nothing is measured under a sanitizer" ;; esac
need_root
begin

# Almost a second on the connection, so that the ends are introduced also on a machine that has much else to do.
"$HERE/bench.sh" --repeats 1 --seconds 0.8 --columns plain,xshim,ring --save "$WORK/result.json" rr fd >"$WORK/table" 2>"$WORK/err"
STATUS=$?
[ $STATUS != 77 ] || skip "$(cat "$WORK/table")"
[ $STATUS = 0 ] || { cat "$WORK/table" "$WORK/err" >&2; fail "bench.sh: status $STATUS"; }
check_empty "stderr of bench.sh" "$WORK/err"

value() { jq -er "$1" "$WORK/result.json" || fail "the result has no $1"; }

check_eq "keys of the rows" "$(value '[.rows[].key] | join(" ")')" "rr.p50 rr.p99 fd.pipe fd.file"
check_eq "columns of rr.p50" "$(value '.rows[0].columns | keys | join(" ")')" "plain ring xshim"
check_eq "columns of fd.pipe" "$(value '.rows[2].columns | keys | join(" ")')" "plain xshim"
check_eq "figures that are no positive number" \
	"$(value '[.rows[].columns[].median | select(type != "number" or . <= 0)] | length')" 0
check_eq "what is asked of rr.p50" "$(value '[.rows[0].checks[].what] | join(" ")')" "ratio of_ring"
check_gt "share of the bytes of rr that went by ring" "$(value .rows[0].columns.xshim.ring_share_percent)" 0
check_eq "a repeat alone is doubted" "$(value '.rows[0].doubts | map(select(test("only 1 repeat"))) | length')" 1

for word in "64 B round trip, p50" "64 B round trip, p99" "of a pipe" "of a file" "asked" "Load average" "others"; do
	grep -qF "$word" "$WORK/table" || { cat "$WORK/table" >&2; fail "the table lacks '$word'"; }
done
"$PYTHON" -B "$HERE/table.py" "$WORK/result.json" --json >"$WORK/again.json" || fail "--json"
cmp -s "$WORK/result.json" "$WORK/again.json" || fail "--json does not give back what was saved"
"$PYTHON" -B "$HERE/table.py" "$WORK/result.json" --markdown >"$WORK/table.md" || fail "--markdown"
check_eq "lines of the table in Markdown" "$(grep -c '^|' "$WORK/table.md")" 6
if "$HERE/bench.sh" --columns nothing rr >"$WORK/out" 2>&1; then
	fail "a column that there is not is taken"
fi
