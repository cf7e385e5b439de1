#!/bin/bash
# SPDX-License-Identifier: MIT
# OpenSSH: a stream there and back through `ssh cat`, and a file by scp. sshd and clients are preloaded.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/sshd.sh"
need sshd ssh scp ssh-keygen

APP_CASES="cat scp"
MEGABYTES=200

app_prepare() {
	random_file file "$MEGABYTES"
	sshd_configure
}

app_server() { sshd_start "$1" $PORT; }

app_client() {
	local i
	if [ "$2" = cat ]; then
		ns_run a "$1" ssh "${SSH_OPTIONS[@]}" -i "$WORK/key" -p $PORT "root@$IP_B" cat <"$WORK/file" | sha256sum
		return "${PIPESTATUS[0]}"
	fi
	rm -f "$WORK/copy"
	for ((i = 0; i < $([ "$MODE" = killed ] && echo 3 || echo 1); i++)); do
		ns_run a "$1" scp -q "${SSH_OPTIONS[@]}" -i "$WORK/key" -P $PORT "$WORK/file" "root@$IP_B:$WORK/copy" || return
	done
	sha256sum <"$WORK/copy"
}

app_check() {
	APP_BYTES=$((MEGABYTES * 1048576))
	check_eq "$RUN: SHA-256" "$(cut -d' ' -f1 "$WORK/client.out")" "$(cat "$WORK/file.sha256")"
}

app_half() { echo 20000000; }

app_main "$@"
