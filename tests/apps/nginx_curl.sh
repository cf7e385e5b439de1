#!/bin/bash
# SPDX-License-Identifier: MIT
# A large file from nginx (sendfile) by curl, compared by its SHA-256.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/nginx.sh"
need nginx curl
need_under curl --version

# In memory if there is plenty: the disk is not what is measured.
memory_kb=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
shm_kb=$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)
[ "$memory_kb" -gt 8000000 ] && [ "${shm_kb:-0}" -gt 4000000 ] && TMPDIR=/dev/shm

APP_CASES="1GiB 400MB"

app_prepare() {
	nginx_configure
	random_file www/1GiB 1024
	random_file www/400MB 400
	head -c 100 /dev/urandom >"$WORK/www/100B"
}

app_server() { nginx_start "$1" $PORT; }

# The large one once over the ring; the other ways to do it are tried with the small one.
app_plays() { [ "$2" = 400MB ] || [ "$1" = both ]; }

app_client() {
	local url=http://$IP_B:$PORT/$2
	rm -f "$WORK"/got*
	# Over one connection, twice: what fills TCP's buffers before the move counts less. And after much that is small: both ends are at
	# the ring by then, also where the daemon must wait for a processor.
	ns_run a "$1" curl -sS -o /dev/null -o "$WORK/got" -o "$WORK/got2" -w '%{speed_download}\n' \
		"http://$IP_B:$PORT/100B?[1-2000]" "$url" "$url"
}

app_check() {
	check_eq "$RUN: SHA-256 of what came" "$(sha256sum <"$WORK/got" | cut -d' ' -f1)" "$(cat "$WORK/www/$1.sha256")"
	check_eq "$RUN: SHA-256 of the second" "$(sha256sum <"$WORK/got2" | cut -d' ' -f1)" "$(cat "$WORK/www/$1.sha256")"
	APP_VALUE=$(awk 'END { printf "%d", $1 / 1e6 }' "$WORK/client.out")
	APP_UNIT=MB/s
	nginx_check_log
}

app_label() { [ "$1" = 400MB ] || echo "a file of $1"; }
app_share() { [ "$1" = 1GiB ] && echo 99 || echo 98; }
app_half() { echo 50000000; }

app_main "$@"
