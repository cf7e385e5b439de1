#!/bin/bash
# SPDX-License-Identifier: MIT
#
# calls.def, with uring.c, exports.map and the built library name the same calls, no more and no fewer; each is a call
# of the C library, or of liburing; and the library needs the C library alone.

src=${srcdir:-$(dirname "$0")/..}
lib=${abs_builddir:-.}/.libs/libxshim.so
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }

[ -e "$lib" ] || { echo "SKIP: $lib is not built"; exit 77; }
for tool in nm readelf; do
	command -v $tool >/dev/null || { echo "SKIP: no $tool (package binutils)"; exit 77; }
done

sed -n 's/^CALL([^,]*, *\([A-Za-z_0-9]*\), .*/\1/p' "$src/preload/calls.def" | sort >"$work/calls"
sed -n 's/^\t\([A-Za-z_0-9]*\);$/\1/p' "$src/preload/exports.map" | sort >"$work/map"
nm -D --defined-only "$lib" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort >"$work/built"
[ "$(wc -l <"$work/calls")" -gt 60 ] || fail "only $(wc -l <"$work/calls") calls found in calls.def"
sed -n 's/^MAKES_RING(\([a-z_]*\), .*/\1/p' "$src/preload/uring.c" | sort >"$work/uring"
[ -s "$work/uring" ] || fail "no calls found in uring.c"
sort "$work/calls" "$work/uring" >"$work/all"
diff -u "$work/all" "$work/map" || fail "calls.def and uring.c, and exports.map, differ"
diff -u "$work/all" "$work/built" || fail "calls.def and uring.c, and what the library exports, differ"

libc=$(ldd /bin/sh | awk '$1 == "libc.so.6" { print $3 }')
nm -D --defined-only "$libc" | awk '{ print $3 }' | sed 's/@.*//' | sort -u >"$work/libc"
unknown=$(comm -23 "$work/calls" "$work/libc")
[ -z "$unknown" ] || fail "not calls of $libc: $unknown"

# what else would make one: the next release may have another function for it
uring=$(ldconfig -p 2>/dev/null | awk '$1 == "liburing.so.2" { print $NF; exit }')
if [ -n "$uring" ]; then
	nm -D --defined-only "$uring" | awk '{ print $3 }' | sed 's/@.*//' | sort -u |
		grep -E '^io_uring_(setup|queue_init.*)$' >"$work/liburing"
	unknown=$(comm -13 "$work/uring" "$work/liburing")
	[ -z "$unknown" ] || fail "calls of $uring that are not taken over: $unknown"
else
	echo "note: no liburing.so.2 (package liburing-dev) to compare with"
fi

# a sanitizer's runtime is the build's own wish
needed=$(readelf -d "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -E '^lib(asan|ubsan|tsan|gcc_s)\.so')
[ "$needed" = libc.so.6 ] || fail "the library needs more than the C library: $needed"
echo "ok $(wc -l <"$work/all") calls in calls.def and uring.c, exports.map and the library"
