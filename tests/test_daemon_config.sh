#!/bin/sh
# SPDX-License-Identifier: MIT
#
# xshimd's command line and configuration: every mistake is named with file, line, key and value, exit 2;
# what goes wrong at run time exits 1; a reload with a mistake changes nothing.

xshimd=${XSHIMD:-./xshimd}
work=$(mktemp -d /tmp/xshimd-config-XXXXXX) || exit 99
conf=$work/x.conf
failed=0
pid=
trap 'test -z "$pid" || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
	echo "FAIL: $*"
	failed=1
}

# status NUMBER TEXT -- ARGS: xshimd ARGS ends with that status and says TEXT in one line
status() {
	want=$1 text=$2
	shift 3
	timeout 20 "$xshimd" "$@" >"$work/out" 2>&1
	got=$?
	[ "$got" -eq "$want" ] || fail "$*: status $got, expected $want: $(cat "$work/out")"
	n=$(grep -cF -- "$text" "$work/out")
	[ "$n" -eq 1 ] || fail "$*: \"$text\" in $n lines: $(cat "$work/out")"
}

# bad LINE TEXT: the file holds LINE (printf format) and --check says TEXT
bad() {
	# shellcheck disable=SC2059
	printf "$1" >"$conf"
	status 2 "$2" -- --check --config "$conf"
}

good() {
	# shellcheck disable=SC2059
	printf "$1" >"$conf"
	status 0 "$conf: good" -- --check --config "$conf"
}

# wait_for TEXT FILE
wait_for() {
	tries=0
	until grep -qF -- "$1" "$2" 2>/dev/null; do
		tries=$((tries + 1))
		if [ $tries -gt 1200 ]; then
			fail "never said: $1; but $(cat "$2")"
			return 1
		fi
		sleep 0.05
	done
}

good ''
good '# nothing\n; here\n\n'
good 'max_offers = 7\n'
good 'max_offers=7\r\nlog = debug\r\n'
good '\357\273\277max_offers=7\n'
good '[xshimd]\nmax_ring_size = 65536\ncross_netns = any\nsocket = /tmp/a/b\nrole = auto\n'
good 'max_offers = 7 ; a remark\n'
good 'max_rings = 0\n'

bad '\n\n\n\n\n\n\n\n\n\n\nmax_ring_size=5000\n' "$conf:12: max_ring_size=5000: a power of two from 4096 to 16777216"
bad 'max_ring_size=2048\n' "$conf:1: max_ring_size=2048: a power of two"
bad 'max_ring_size=33554432\n' "$conf:1: max_ring_size=33554432: a power of two"
for n in 0 -1 +5 010 0x10 1e3 10M 10MB 5x '' '"7"' 16385 4294967296 4294967297 18446744073709551617 99999999999999999999; do
	bad "max_offers=$n\n" "$conf:1: max_offers=$n: a number from 1 to 16384"
done
bad 'max_offers\n' "$conf:1: not of the form key = value"
bad 'max_offers=1\n\nmax_offers=2\n' "$conf:3: max_offers=2: given before, in line 1"
bad 'max_offer=1\n' "$conf:1: max_offer=1: unknown key"
bad 'Max_offers=1\n' "$conf:1: Max_offers=1: unknown key"
bad 'max_offers=1\n  max_offers=2\n' "$conf:2: max_offers="
bad '[other]\nlog=info\n' "$conf:2: [other]: unknown section"
bad 'log=loud\n' "$conf:1: log=loud: one of error warn info debug"
bad 'role=dom0\n' "$conf:1: role=dom0: one of local guest host auto"
bad 'xen_trust=all\n' "$conf:1: xen_trust=all: claim or vif"
bad 'xen_drain_timeout=0\n' "$conf:1: xen_drain_timeout=0: seconds from 1 to 300"
good 'role=local\nxen_trust=vif\nxen_gntalloc_limit=0\nxen_drain_hold=60\n'
bad 'cross_netns=yes\n' "$conf:1: cross_netns=yes: one of off owned any"
bad 'socket=relative/path\n' "$conf:1: socket=relative/path: an absolute path of at most 107 bytes"
bad "socket=/$(printf %0108d 0)\n" ": an absolute path of at most 107 bytes"
bad "# $(printf %0300d 0)\n" "$conf:1: line of 303 bytes: at most"
bad 'max_offers=1\000\n' "$conf:1: a NUL byte: this is not a text file"
bad 'max_offers=1\nlog=loud\n\nrole=dom0\n' "$conf:4: role=dom0"
grep -qF "$conf:2: log=loud" "$work/out" || fail "the first of two mistakes is not named"

head -c 70000 /dev/zero | tr '\0' '#' >"$conf"
status 2 "$conf: longer than 65536 bytes" -- --check --config "$conf"
truncate -s 1G "$conf"
status 2 "$conf: longer than 65536 bytes" -- --check --config "$conf"
rm -f "$conf"
status 2 "$conf: No such file" -- --check --config "$conf"
status 2 "$work: not a regular file" -- --check --config "$work"
mkfifo "$work/fifo"
status 2 "$work/fifo: not a regular file" -- --check --config "$work/fifo"
: >"$conf"
chmod o+w "$conf"
status 2 "$conf: everybody may write it" -- --check --config "$conf"
chmod o-w "$conf"

status 2 "unrecognized option '--nonsense'" -- --nonsense
status 2 "requires an argument" -- --socket
status 2 "--socket=relative: an absolute path" -- --socket relative
status 2 "--log=loud: one of" -- --log loud
status 2 "--role=dom0: one of local, guest, host, auto" -- --role dom0
status 2 "extra: no argument is expected" -- extra
status 0 "xshimd " -- --version
timeout 20 "$xshimd" --help >"$work/out" 2>&1 || fail "--help: status $?"
grep -q -- --check "$work/out" || fail "--help does not name --check"

# At run time.
: >"$work/file"
status 1 "socket=$work/file: something that is not a socket" -- --config "$conf" --socket "$work/file"
status 1 "socket=$work/file/x: directory: Not a directory" -- --config "$conf" --socket "$work/file/x"
status 1 "directory cannot be made: No such file" -- --config "$conf" --socket "$work/no/such/x"

sock=$work/run/x.sock
"$xshimd" --config "$conf" --socket "$sock" 2>"$work/log" &
pid=$!
wait_for "at $sock" "$work/log"
[ "$(stat -c %a "$work/run")" = 755 ] || fail "mode of the directory: $(stat -c %a "$work/run")"
[ "$(stat -c %a "$sock")" = 666 ] || fail "mode of the socket: $(stat -c %a "$sock")"
status 1 "socket=$sock: already running (pid $pid)" -- --config "$conf" --socket "$sock"
rm -f "$sock.lock"
status 1 "socket=$sock: already running (pid $pid)" -- --config "$conf" --socket "$sock"

# Reload: a mistake changes nothing, and the daemon goes on; then a good one is taken.
echo 'max_offers=none' >"$conf"
kill -HUP $pid
wait_for "$conf:1: max_offers=none" "$work/log"
wait_for "$conf: not taken; everything stays as it was" "$work/log"
printf 'max_offers=5\n' >"$conf"
kill -HUP $pid
wait_for "$conf: read again" "$work/log"
kill -TERM $pid
wait $pid
got=$?
pid=
[ $got -eq 0 ] || fail "SIGTERM: status $got"
[ ! -e "$sock" ] || fail "the socket was left behind"

# Role guest: without Xen's libraries a mistake; with them, and no Xen, it serves its own programs and goes on looking.
"$xshimd" --role guest --config "$conf" --socket "$sock" 2>"$work/log" &
pid=$!
if wait_for "role" "$work/log" && grep -qF "without Xen's libraries" "$work/log"; then
	wait $pid
	got=$?
	pid=
	[ $got -eq 2 ] || fail "--role=guest without libraries: status $got"
elif [ -e /proc/xen/capabilities ] || [ -e /dev/xen/xenbus ]; then
	kill -TERM $pid
	wait $pid
	pid=
else
	wait_for "role guest, at $sock" "$work/log"
	wait_for "xenstore: " "$work/log"
	kill -TERM $pid
	wait $pid
	got=$?
	pid=
	[ $got -eq 0 ] || fail "--role=guest, SIGTERM: status $got"
fi

exit $failed
