#!/bin/bash
# SPDX-License-Identifier: MIT
# sshd.sh - an sshd of our own in namespace b, and a key for it. To be sourced after app.sh.

SSHD=$(command -v sshd || echo /usr/sbin/sshd)
SSH_OPTIONS=(-F none -o StrictHostKeyChecking=no -o LogLevel=ERROR -o BatchMode=yes -o IdentitiesOnly=yes
	-o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null)

sshd_configure() {
	local pam=no
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

# sshd_start P PORT
sshd_start() {
	ns_start server b "$1" "$SSHD" -D -e -f "$WORK/sshd_config" -p "$2" -o "ListenAddress $IP_B"
	wait_listen b "$2"
}
