#!/bin/sh
# SPDX-License-Identifier: MIT
#
# audit.sh TABLE LIBC [LIBRARY] - is each function that the C library LIBC exports in TABLE (audit.def), and is each line
# of TABLE true of it, and of the shim, LIBRARY? Prints what is not and exits with 1.
#
# Environment: NM, default nm. AUDIT_LENIENT=1: on another release of the C library than the table was made for,
# functions that the table lacks or has too many are named and do not count. Status 2: it could not be looked at.

table=$1 libc=$2 lib=${3:-}
NM=${NM:-nm}
[ -r "$table" ] && [ -r "$libc" ] || { echo "usage: audit.sh TABLE LIBC [LIBRARY]" >&2; exit 2; }

symbols=$($NM -D --defined-only --with-symbol-versions "$libc") || exit 2
release=$(echo "$symbols" | awk '$2 == "A" && $3 ~ /^GLIBC_2\.[0-9]+@*/ { sub(/@.*/, "", $3); sub(/^GLIBC_2\./, "", $3)
		if ($3 + 0 > m) m = $3 + 0 } END { print "2." m }')
exports=
[ -z "$lib" ] || exports=$($NM -D --defined-only "$lib") || exit 2

{
	# functions only: T, W, i
	echo "$symbols" | awk '$2 ~ /^[TWi]$/ { v = $3; sub(/^[^@]*@*/, "", v); sub(/@.*/, "", $3); print "L", $3, v }'
	echo "$exports" | awk '$2 ~ /^[TWi]$/ { sub(/@.*/, "", $3); print "X", $3 }'
	grep -v '^#' "$table" | sed 's/^/D /'
} | awk -v release="$release" -v lenient="${AUDIT_LENIENT:-}" -v has_lib="$lib" '
function bad(text) { print text; faults++ }
# what differs between releases of the C library
function differs(text) { if (lenient != "" && release != made) { print "note: " text; notes++ } else bad(text) }
function pattern(glob,	r) {
	r = glob
	gsub(/\[!/, "[^", r)
	gsub(/\*/, ".*", r)
	return "^" r "$"
}
$1 == "L" { if ($3 != "") version[$2] = version[$2] " " $3; else version[$2] = version[$2] " none"; next }
$1 == "X" { exported[$2] = 1; next }
/^D $/ || /^D[ \t]*$/ { next }
/^D [a-z-]*: / {
	verdict = $2; sub(/:$/, "", verdict)
	if (verdict == "made-for") made = $3
	else if (verdict !~ /^(taken|other|pass|none|version)$/) bad("no verdict is called " verdict)
	next
}
/^D \t/ {
	for (i = 2; i <= NF; i++) {
		n = $i
		if (verdict == "version") { ignored[n] = 1; continue }
		if (n in said) bad(n " has two verdicts: " said[n] " and " verdict)
		said[n] = verdict
		if (n ~ /[*[]/) {
			if (verdict != "none") bad(n ": patterns are for none alone")
			else globs[++k] = n
		}
	}
	next
}
{ bad("not understood: " $0) }
END {
	for (n in version) {
		v = split(version[n], vs, " "); seen = 0
		for (i = 1; i <= v; i++) if (!(vs[i] in ignored)) seen = 1
		if (seen) libc[n] = 1
	}
	for (i = 1; i <= k; i++) re[i] = pattern(globs[i])
	for (n in libc) {
		total++
		if (n in said) { count[said[n]]++; continue }
		hit = 0
		for (i = 1; i <= k; i++) if (n ~ re[i]) { used[i] = 1; hit = 1 }
		if (hit) count["none"]++
		else differs(n " is exported by the C library and has no verdict")
	}
	for (i = 1; i <= k; i++) if (!used[i]) differs("the pattern " globs[i] " fits nothing")
	for (n in said) if (said[n] == "other" && (n in libc)) bad(n " (other) is a function of the C library")
	for (n in said) if (n !~ /[*[]/ && said[n] != "other" && !(n in libc)) differs(n " (" said[n] ") is not a function of the C library")
	if (has_lib != "") {
		for (n in said) if (said[n] ~ /^(taken|other)$/ && !(n in exported))
			bad(n " is said to be taken over, and the shim does not export it")
		for (n in exported) if (!(n in said) || said[n] !~ /^(taken|other)$/) bad(n " is exported by the shim and not said to be taken over")
	}
	printf "%d functions of C library %s: %d taken over, %d passed through, %d not about descriptors\n", total, release,
		count["taken"], count["pass"], count["none"]
	if (total < 1000) bad("so few functions cannot be all")
	exit faults ? 1 : 0
}'
