#!/bin/bash
# SPDX-License-Identifier: MIT
#
# rsync over ssh, there and back and once more with little changed; and rsync's own daemon, which forks.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
. "$TESTS_DIR/lib/sshd.sh"
need rsync sshd ssh ssh-keygen

APP_CASES="ssh daemon"
APP_MODES="both nodaemon oneend killed"

app_prepare() {
	local i
	sshd_configure
	mkdir -p "$WORK/tree/sub"
	random_file tree/zlarge 80	# behind the small ones: both ends may be at the ring by then
	for ((i = 0; i < 300; i++)); do
		head -c $((i * 61)) /dev/urandom >"$WORK/tree/sub/$i"
	done
	cat >"$WORK/rsyncd.conf" <<-CONF
		use chroot = no
		uid = root
		gid = root
		log file = $WORK/rsyncd.log
		[tree]
		path = $WORK/there
		read only = no
	CONF
}

app_server() {
	unset XSHIM_LOG
	[ "$2" = ssh ] || export XSHIM_LOG=debug:$WORK/shim.log
	if [ "$2" = ssh ]; then
		sshd_start "$1" $PORT
	else
		: >"$WORK/rsyncd.log"
		: >"$WORK/shim.log"
		ns_start server b "$1" rsync --daemon --no-detach --config="$WORK/rsyncd.conf" --address="$IP_B" --port=$PORT
		wait_listen b $PORT
	fi
}

app_client() {
	local there=rsync://$IP_B:$PORT/tree how=()
	rm -rf "$WORK/there" "$WORK/back"
	mkdir "$WORK/there"
	if [ "$2" = ssh ]; then
		there=root@$IP_B:$WORK/there
		how=(-e "ssh ${SSH_OPTIONS[*]} -i $WORK/key -p $PORT")
	fi
	rm -f "$WORK/tree/more"
	ns_run a "$1" rsync -a "${how[@]}" "$WORK/tree/" "$there/" || return
	echo more >"$WORK/tree/more"
	# the sums of all files travel, and of the large one some blocks
	dd if=/dev/zero of="$WORK/there/zlarge" bs=1000 seek=3000 count=1 conv=notrunc 2>/dev/null || return
	ns_run a "$1" rsync -a --no-whole-file --checksum "${how[@]}" "$WORK/tree/" "$there/" || return
	ns_run a "$1" rsync -a "${how[@]}" "$there/" "$WORK/back/"
}

app_check() {
	diff -r "$WORK/tree" "$WORK/there" >&2 || fail "$RUN: what arrived is not what was sent"
	diff -r "$WORK/tree" "$WORK/back" >&2 || fail "$RUN: what came back is not what was sent"
	[ "$1" = ssh ] || check_eq "$RUN: errors in rsyncd's log" "$(grep -c error "$WORK/rsyncd.log")" 0
	APP_BYTES=$((2 * 80 * 1048576))
}

# Two processes of an end use the connection from some message on: the list of files. If that comes before the ring, it stays on TCP.
# Who says so and has attached it after that had it for himself again.
app_lost_race() {
	APP_LOST="one of the ends forked before the ring was there"
	[ "$1" = daemon ] && awk '
		/: connection [0-9]+: stays on TCP as long as other processes have it/ { shared[$1, $4] = 1 }
		/: connection [0-9]+: channel attached/ { delete shared[$1, $4] }
		END { for (i in shared) exit 0; exit 1 }' "$WORK/shim.log"
}

app_label() { [ "$1" = ssh ] && echo "over ssh"; }
# three connections, of which the second carries little
app_share() { echo 90; }
app_half() { echo 20000000; }

app_main "$@"
