#!/bin/bash
# SPDX-License-Identifier: MIT
# OpenSSH: a stream there and back through `ssh cat`, and a file by scp. sshd and clients are preloaded.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need sshd ssh scp ssh-keygen

APP_CASES="cat scp"
MEGABYTES=200
SSHD=$(command -v sshd || echo /usr/sbin/sshd)

app_prepare() {
	local pam=no
	random_file file "$MEGABYTES"
	ssh-keygen -q -t ed25519 -N "" -f "$WORK/host_key" && ssh-keygen -q -t ed25519 -N "" -f "$WORK/key" ||
		fail "ssh-keygen"
	chmod 600 "$WORK/key.pub"
	# Without PAM sshd lets nobody in whose password is locked.
	case $(getent shadow root | cut -d: -f2) in '!'*) pam=yes ;; esac
	cat >"$WORK/sshd_config" <<-CONF
		HostKey $WORK/host_key
		AuthorizedKeysFile $WORK/key.pub
		StrictModes no
		PermitRootLogin prohibit-password
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		UsePAM $pam
		UseDNS no
		PidFile none
		PrintMotd no
		LogLevel ERROR
		Subsystem sftp internal-sftp
	CONF
	mkdir -p /run/sshd
}

app_server() {
	ns_start server b "$1" "$SSHD" -D -e -f "$WORK/sshd_config" -p $PORT -o "ListenAddress $IP_B"
	wait_listen b $PORT
}

OPTIONS=(-F none -o StrictHostKeyChecking=no -o LogLevel=ERROR -o BatchMode=yes -o IdentitiesOnly=yes
	-o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null)

app_client() {
	local i
	if [ "$2" = cat ]; then
		ns_run a "$1" ssh "${OPTIONS[@]}" -i "$WORK/key" -p $PORT "root@$IP_B" cat <"$WORK/file" | sha256sum
		return "${PIPESTATUS[0]}"
	fi
	rm -f "$WORK/copy"
	for ((i = 0; i < $([ "$MODE" = killed ] && echo 3 || echo 1); i++)); do
		ns_run a "$1" scp -q "${OPTIONS[@]}" -i "$WORK/key" -P $PORT "$WORK/file" "root@$IP_B:$WORK/copy" || return
	done
	sha256sum <"$WORK/copy"
}

app_check() {
	APP_BYTES=$((MEGABYTES * 1048576))
	check_eq "$RUN: SHA-256" "$(cut -d' ' -f1 "$WORK/client.out")" "$(cat "$WORK/file.sha256")"
}

app_half() { echo 20000000; }

app_main "$@"
