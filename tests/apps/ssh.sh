#!/bin/bash
# SPDX-License-Identifier: MIT
# OpenSSH: a stream there and back through `ssh cat`, and a file by scp. sshd and clients are preloaded.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/sshd.sh"
need sshd ssh scp ssh-keygen

APP_CASES="cat scp"
MEGABYTES=200

# The file so often in one connection. Where the ring's share counts, what fills TCP's buffers before the move is a small part.
times() { [ "$MODE" = both ] && echo 3 || echo 1; }

app_prepare() {
	local i
	random_file file "$MEGABYTES"
	for ((i = 1; i <= 3; i++)); do
		ln "$WORK/file" "$WORK/file$i"
	done
	# before the large ones: both ends are at the ring by then, also where the daemon must wait for a processor
	mkdir "$WORK/small"
	for ((i = 1; i <= 600; i++)); do
		echo "$i" >"$WORK/small/s$i"
	done
	sshd_configure
}

app_server() { sshd_start "$1" $PORT; }

app_client() {
	local i files=()
	for ((i = 1; i <= $(times); i++)); do
		files+=("$WORK/file$i")
	done
	if [ "$2" = cat ]; then
		cat "${files[@]}" | ns_run a "$1" ssh "${SSH_OPTIONS[@]}" -i "$WORK/key" -p $PORT "root@$IP_B" cat | sha256sum
		return "${PIPESTATUS[1]}"
	fi
	rm -rf "$WORK/copies"
	mkdir "$WORK/copies"
	for ((i = 0; i < $([ "$MODE" = killed ] && echo 3 || echo 1); i++)); do
		ns_run a "$1" scp -q "${SSH_OPTIONS[@]}" -i "$WORK/key" -P $PORT "$WORK"/small/* "${files[@]}" "root@$IP_B:$WORK/copies" || return
	done
	cmp <(cat "$WORK"/small/*) <(cat "$WORK"/copies/s*) || return
	cat "$WORK"/copies/file* | sha256sum
}

app_check() {
	local i
	APP_BYTES=$((MEGABYTES * $(times) * 1048576))
	for ((i = 0; i < $(times); i++)); do
		cat "$WORK/file"
	done | sha256sum | cut -d' ' -f1 >"$WORK/want"
	check_eq "$RUN: SHA-256" "$(cut -d' ' -f1 "$WORK/client.out")" "$(cat "$WORK/want")"
}

app_half() { echo 20000000; }

app_main "$@"
