#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What CPython's own tests say of sockets, of waiting for them, of servers and of TLS: the same without the preload and with it, xshimd at
# work. Most of their connections have both ends in one process, which stay on TCP; so this is about calls and not about rings.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/netns.sh"

TESTS=${*:-test_socket test_selectors test_select test_poll test_epoll test_socketserver test_httpservers test_ssl}
"$PYTHON" -c 'import test.test_socket' 2>/dev/null || skip "CPython's tests are not installed (libpython3.11-testsuite)"
ns_up
daemon_start
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1

# suite PREFIX TEST KEPT: how many tests it had, those that failed, and the verdict. vsock is nobody's here, and may wait for ever.
suite() {
	local more=()
	[ "$2" != test_socketserver ] || more=(-u network)	# it asks for that, and uses 127.0.0.1
	ns_run a "$1" timeout 300 "$PYTHON" -u -m test -v "${more[@]}" -i 'test.test_socket.*VSOCK*' "$2" >"$WORK/$3.all" 2>&1
	echo "status $?" >"$WORK/$3"
	grep -o -E '^(Ran [0-9]+ tests|FAIL: .*|ERROR: .*|OK.*|FAILED.*|Tests result: .*)' "$WORK/$3.all" >>"$WORK/$3"
	grep -q '^Ran' "$WORK/$3"
}

for test in $TESTS; do
	suite env "$test" plain || fail "$test cannot be run: $(tail -n 5 "$WORK/plain.all")"
	suite shim "$test" shim
	diff "$WORK/plain" "$WORK/shim" >&2 || fail "$test: plain TCP (<), under the preload (>): $(tail -n 40 "$WORK/shim.all")"
	note "ok $test, $(grep Ran "$WORK/shim")"
done
check_gt "connections that xshimd has heard of" "$("$XSHIM_TOOL" stat --json | jq .daemon.offers)" 0
