#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Every function of the C library has its line in preload/audit.def, and the lines are true of the library that was
# built; no function that the headers declare with a descriptor is dismissed; and the check itself finds what it is for.

src=${srcdir:-$(dirname "$0")/..}
lib=${abs_builddir:-.}/.libs/libxshim.so
table=$src/preload/audit.def
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }
skip() { echo "skipped: $*"; exit 77; }

[ -e "$lib" ] || skip "$lib is not built"
for tool in nm awk ldd; do
	command -v $tool >/dev/null || skip "no $tool"
done
libc=$(ldd /bin/sh | awk '$1 == "libc.so.6" { print $3 }')
[ -e "$libc" ] || skip "the C library is not to be found; ldd /bin/sh says nothing of libc.so.6"

audit() { "$src/preload/audit.sh" "$1" "$libc" "$lib" >"$work/said" 2>&1; }

audit "$table" || fail "$table: $(cat "$work/said")"
cat "$work/said"

# ---- what is said to be none has no descriptor and no stream in its declaration ----

if command -v "${CC:-gcc}" >/dev/null; then
	for h in aio arpa/inet dirent err error execinfo fcntl fts ftw glob grp gshadow ifaddrs mntent mqueue netdb poll pty pwd \
		resolv sched semaphore shadow signal spawn stdio stdio_ext stdlib string sys/epoll sys/eventfd sys/fanotify \
		sys/file sys/inotify sys/ioctl sys/mman sys/mount sys/pidfd sys/random sys/resource sys/select sys/sendfile \
		sys/signalfd sys/socket sys/stat sys/statfs sys/statvfs sys/syscall sys/time sys/timerfd sys/uio sys/wait \
		sys/xattr termios threads time unistd utmp utmpx wchar wordexp; do
		printf '#if __has_include(<%s.h>)\n#include <%s.h>\n#endif\n' "$h" "$h"
	done >"$work/all.c"
	"${CC:-gcc}" -E -P -O2 -D_GNU_SOURCE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 "$work/all.c" 2>/dev/null |
		tr '\n' ' ' | tr ';' '\n' | grep -oE '[A-Za-z_0-9]+ ?\([^(].*' |
		grep -E '\b_*[a-z]*_?fds?[0-9]*\b|\bFILE\b|\baiocb(64)?\b|\bfd_set\b|\bpollfd\b|\bmqd_t\b' |
		grep -oE '^[A-Za-z_0-9]+' | sort -u >"$work/declared"
	[ "$(wc -l <"$work/declared")" -gt 200 ] || fail "only $(wc -l <"$work/declared") declarations with a descriptor found"
	# without the streams and without the rest of none, those must be missed
	awk '/^[a-z-]*:/ { none = $1 == "none:" } !none' "$table" >"$work/fewer"
	"$src/preload/audit.sh" "$work/fewer" "$libc" >"$work/dismissed"
	awk '/^[a-z-]*:/ { on = $0 == "none: streams" } on && /^\t/ { for (i = 1; i <= NF; i++) print $i }' "$table" >"$work/streams"
	for name in $(awk '/has no verdict$/ { print $1 }' "$work/dismissed" | sort | comm -12 - "$work/declared"); do
		grep -qxF -- "$name" "$work/streams" || case $name in
		_IO_*) ;;	# the pattern among the streams
		*) fail "$name is said to be none, and is declared with a descriptor or a stream" ;;
		esac
	done
else
	echo "no C compiler: the declarations were not looked at"
fi

# ---- the check finds what it is for ----

# finds WHAT TEXT: the table in $work/changed must be refused with a line that contains TEXT
finds() {
	! audit "$work/changed" || fail "$1 is not noticed"
	grep -qF -- "$2" "$work/said" || fail "$1: it says $(cat "$work/said")"
}

sed 's/^taken: sock.c$/other: sock.c/' "$table" >"$work/changed"
finds "the C library's as another's" "accept (other) is a function of the C library"
sed 's/ io_uring_setup$//' "$table" >"$work/changed"
finds "another library's export that is not in the table" "io_uring_setup is exported by the shim and not said to be taken over"
sed 's/^\tsplice$/\t/; s/ splice$//' "$table" >"$work/changed"
finds "a function without a verdict" "splice is exported by the C library and has no verdict"
finds "an export that is not in the table" "splice is exported by the shim and not said to be taken over"
sed 's/ getpeername / /; s/^taken: sock.c$/&\n\tgetpeername/' "$table" >"$work/changed"
finds "a call that is not taken over" "getpeername is said to be taken over, and the shim does not export it"
sed 's/^taken: sock.c$/&\n\tno_such_call/' "$table" >"$work/changed"
finds "a call that does not exist" "no_such_call (taken) is not a function of the C library"
sed 's/^none: memory$/&\n\tno_such_*/' "$table" >"$work/changed"
finds "a pattern that fits nothing" "the pattern no_such_* fits nothing"
sed 's/^none: memory$/&\n\trecv/' "$table" >"$work/changed"
finds "two verdicts" "recv has two verdicts"
echo "ok the table is complete and true"
