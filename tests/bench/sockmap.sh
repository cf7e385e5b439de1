#!/bin/bash
# SPDX-License-Identifier: MIT
#
# sockmap.sh - the column sockmap of bench.sh: an eBPF redirect between the sockets of a cgroup. To be
# sourced by it. Nothing of it is built or needed otherwise.
#
#   sockmap_up      false: it cannot be had here, SOCKMAP_WHY says why
#   SOCKMAP_RUN     words before a command that is to take part

SOCKMAP_WHY=
SOCKMAP_RUN=()
SOCKMAP_CGROUP=

sockmap_is_ready() { job_ended sockmap || grep -q ready "$WORK/sockmap.out"; }

sockmap_up() {
	local mount
	SOCKMAP_WHY="clang is not installed"
	command -v clang >/dev/null || return
	SOCKMAP_WHY="libbpf's headers are not installed (libbpf-dev)"
	[ -e /usr/include/bpf/libbpf.h ] || return
	SOCKMAP_WHY="it cannot be built here"
	clang -O2 -g -target bpf -I"/usr/include/$(uname -m)-linux-gnu" -c "$HERE/sockmap.bpf.c" -o "$WORK/sockmap.o" \
		2>"$WORK/sockmap.why" && clang -O2 "$HERE/sockmap_load.c" -o "$WORK/sockmap_load" -lbpf 2>>"$WORK/sockmap.why" ||
		return
	SOCKMAP_WHY="there is no cgroup2 mounted"
	mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	[ -n "$mount" ] || return
	SOCKMAP_WHY="no cgroup can be made in $mount"
	mkdir "$mount/xshim-bench-$$" 2>/dev/null || return
	SOCKMAP_CGROUP=$mount/xshim-bench-$$
	start sockmap "$WORK/sockmap_load" "$WORK/sockmap.o" "$SOCKMAP_CGROUP"
	wait_for 10 "the sockmap to be loaded" sockmap_is_ready
	SOCKMAP_WHY="$(tail -n 1 "$WORK/sockmap.err")"
	job_alive sockmap || return
	SOCKMAP_RUN=(sh -c "echo \$\$ >$SOCKMAP_CGROUP/cgroup.procs && exec \"\$@\"" sh)
}

sockmap_down() {
	local pid
	[ -n "$SOCKMAP_CGROUP" ] || return 0
	while read -r pid; do
		kill -KILL "$pid"
	done <"$SOCKMAP_CGROUP/cgroup.procs"
	while ! rmdir "$SOCKMAP_CGROUP" && [ -s "$SOCKMAP_CGROUP/cgroup.procs" ]; do
		sleep 0.05
	done
	SOCKMAP_CGROUP=
}
