#!/bin/bash
# SPDX-License-Identifier: MIT
# git daemon, which starts a program for each connection and hands it over as 0 and 1: clone, fetch and push.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need git

APP_CASES="daemon"
APP_MODES="both nodaemon oneend killed"
export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_CONFIG_KEY_1=core.compression GIT_CONFIG_VALUE_1=0

app_prepare() {
	mkdir -p "$WORK/origin"
	random_file origin/large 12
	git init -q -b main "$WORK/origin" && git -C "$WORK/origin" add large && git -C "$WORK/origin" commit -q -m one ||
		fail "git cannot make a repository"
}

app_server() {
	rm -rf "$WORK/srv" "$WORK/copy"
	mkdir "$WORK/srv"
	git -C "$WORK/origin" branch -q -D two 2>/dev/null
	git clone -q --bare "$WORK/origin" "$WORK/srv/r.git" || fail "git clone"
	ns_start server b "$1" git daemon --reuseaddr --listen="$IP_B" --port=$PORT --base-path="$WORK/srv" --export-all \
		--enable=receive-pack "$WORK/srv"
	wait_listen b $PORT
}

app_client() {
	local url=git://$IP_B:$PORT/r.git
	ns_run a "$1" git clone -q "$url" "$WORK/copy" || return
	sha256sum <"$WORK/copy/large"
	head -c 8M /dev/urandom >"$WORK/copy/second"
	git -C "$WORK/copy" add second && git -C "$WORK/copy" commit -q -m two || return
	ns_run a "$1" git -C "$WORK/copy" push -q origin main || return
	ns_run a "$1" git -C "$WORK/copy" ls-remote -q | cut -c 1-40 | sort -u
	git -C "$WORK/copy" rev-parse HEAD
	ns_run a "$1" git -C "$WORK/origin" fetch -q "$url" main:two -f || return
	git -C "$WORK/origin" rev-parse two
	git -C "$WORK/srv/r.git" fsck --no-progress --no-dangling
}

app_check() {
	check_eq "$RUN: SHA-256 of the file cloned" "$(head -n 1 "$WORK/client.out" | cut -d' ' -f1)" "$(cat "$WORK/origin/large.sha256")"
	check_eq "$RUN: names of the commit pushed, listed, and fetched" "$(sed 1d "$WORK/client.out" | sort | uniq -c | awk '{ print $1 }')" 3
}

app_label() { :; }
# the connection is the standard input and output of the program that git daemon starts
app_share() { echo none; }
app_half() { echo 1000000; }

app_main "$@"
