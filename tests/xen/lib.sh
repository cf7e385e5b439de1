#!/bin/busybox sh
# SPDX-License-Identifier: MIT
#
# lib.sh - what cases of the Xen lab may call, in the guests and in dom0; runs one part of a case as
# `sh lib.sh CASE FUNCTION`. The shell is busybox's. See cases/README for the format.
#
# Environment of a part: N, number of this guest (0 in dom0); $W, an own directory, empty at the start.

N=${N:-0}
W=${W:-/tmp} CASE=${CASE:-shell}	# by hand, at a prompt
CASE_DIR=/lab/cases
SHIM=/opt/xshim/libxshim.so
XSHIM_SOCKET=/run/xshim/xshimd.sock
export N XSHIM_SOCKET

uptime_s() { cut -d. -f1 /proc/uptime; }
note() { printf '%s\n' "$*"; }

# ---- what init asks about cases ----

case_has() { grep -q "^$2()" "$CASE_DIR/$1"; }
# seconds, from the line "# limit: N"
case_limit() { sed -n 's/^# limit: *//p' "$CASE_DIR/$1" | grep . || echo 60; }

# ---- results ----

fail() {
	local f
	note "FAIL: $*"
	for f in "$W"/*.err "$W"/*.out; do
		[ -s "$f" ] && { note "  last lines of ${f##*/}:"; tail -n 15 "$f" | sed 's/^/  | /'; }
	done
	exit 1
} >&2
check_eq() { [ "$2" = "$3" ] || fail "$1 is $2, must be $3"; }
check_ge() { [ "$2" -ge "$3" ] || fail "$1 is $2, must be at least $3"; }
check_gt() { [ "$2" -gt "$3" ] || fail "$1 is $2, must be more than $3"; }
check_same() { cmp -s "$2" "$3" || { diff "$2" "$3"; fail "$1 differ"; }; }

# wait_for SECONDS WHAT CMD...: until CMD succeeds
wait_for() {
	local end=$(($(uptime_s) + $1)) what=$2
	shift 2
	until "$@"; do
		[ "$(uptime_s)" -lt "$end" ] || fail "waited in vain for $what"
		sleep 0.1
	done
}

# ---- the other domains ----

ip_of() { echo "10.77.0.1$1"; }
domid_of() { if [ "$1" = 0 ]; then echo 0; else xenstore-read "/lab/domid/$1"; fi; }
say_dir() {
	case $1 in
	0) echo "/lab/say" ;;
	*) echo "/local/domain/$(domid_of "$1")/data/lab/say" ;;
	esac
}
# tell WORD [VALUE]: to all who hear it; of letters, digits, - and _
tell() {
	if [ "$N" = 0 ]; then
		xenstore-write "/lab/say/$CASE/$1" "${2:-1}"
	else
		xenstore-write "data/lab/say/$CASE/$1" "${2:-1}" &&
			xenstore-chmod "data/lab/say/$CASE/$1" "r$(xenstore-read domid)"
	fi || fail "xenstore takes no $1"
}
# hear WHO WORD [SECONDS]: waits until guest WHO (0: dom0) has told WORD, prints its value
hear() {
	local end=$(($(uptime_s) + ${3:-60}))
	# not in one piece: the other's domain number may change meanwhile
	until xswait 2 "$(say_dir "$1")/$CASE/$2" && xenstore-read "$(say_dir "$1")/$CASE/$2" 2>/dev/null; do
		[ "$(uptime_s)" -lt "$end" ] || fail "guest $1 has not told $2 within ${3:-60} s"
		sleep 0.1
	done
}
# meet WORD WHO...: go on when all of them have come here
meet() {
	local word=$1 who
	shift
	tell "$word"
	for who in "$@"; do
		[ "$who" = "$N" ] || hear "$who" "$word" >/dev/null || exit 1
	done
}

# ---- programs ----

shim() { LD_PRELOAD=$SHIM "$@"; }
# as_user NAME CMD...: as a user without privilege (lab is of group xshim, other is not)
as_user() {
	local user=$1 a words=
	shift
	for a in "$@"; do
		words="$words '$(printf %s "$a" | sed "s/'/'\\\\''/g")'"
	done
	su -p -s /bin/sh "$user" -c "exec $words"
}

# start NAME CMD...: in the background, output in $W/NAME.out and $W/NAME.err
start() {
	local name=$1
	shift
	"$@" >"$W/$name.out" 2>"$W/$name.err" </dev/null &
	echo $! >"$W/$name.pid"
}
pid_of() { cat "$W/$1.pid"; }
job_alive() { kill -0 "$(pid_of "$1")" 2>/dev/null; }
job_ended() { ! job_alive "$1"; }
# job_wait NAME [SECONDS]: sets STATUS
job_wait() {
	wait_for "${2:-60}" "the end of $1" job_ended "$1"
	wait "$(pid_of "$1")"
	STATUS=$?
}
job_kill() { kill "-${2:-KILL}" "$(pid_of "$1")" && job_wait "$1" 20; }
# job_ok NAME [SECONDS]
job_ok() {
	job_wait "$@"
	[ "$STATUS" = 0 ] || fail "$1 ended with status $STATUS"
}

# talk_start NAME listen|connect PORT: the program talk with the shim, to be moved by `talk_say NAME COMMAND`
talk_start() {
	mkfifo "$W/$1.in"
	start "$1" env LD_PRELOAD="$SHIM" sh -c 'exec talk "$@" <"$0"' "$W/$1.in" "$2" "$(ip_of 1)" "$3"
	eval "exec $((10 + TALKS))>$W/$1.in"
	eval "TALK_$1=$((10 + TALKS))"
	TALKS=$((TALKS + 1))
}
TALKS=0
talk_say() { eval "echo '$2' >&\$TALK_$1"; }
talk_said() { grep -q "ok $2" "$W/$1.out"; }
# talk_do NAME COMMAND [SECONDS]: and wait until it is done; each command once for each NAME
talk_do() {
	talk_say "$1" "$2"
	talk_ok "$@"
}
talk_ok() {
	wait_for "${3:-30}" "$1: $2" talk_said "$1" "$2"
	grep -q "^ok $2" "$W/$1.out" || fail "$1: $(grep "ok $2" "$W/$1.out")"
}
# not by the end of its input: those that were started after it have that open, too
talk_end() {
	talk_say "$1" end
	eval "exec $(eval "echo \$TALK_$1")>&-"
}

is_listening() { netstat -ltn | grep -q "[:.]$1 "; }
wait_listen() { wait_for 30 "a listener at port $1" is_listening "$1"; }

# ---- the daemon and its counters ----

# xshimd_start ROLE [OPTION...]
xshimd_start() {
	local role=$1
	shift
	mkdir -p "${XSHIM_SOCKET%/*}"
	start xshimd xshimd --role="$role" --socket="$XSHIM_SOCKET" "$@"
	wait_for 30 "xshimd to answer" xshimd_up_or_dead
	job_alive xshimd || fail "xshimd ended at once"
}
xshimd_answers() { xshim stat --json >/dev/null 2>&1; }
xshimd_up_or_dead() { job_ended xshimd || xshimd_answers; }
xshimd_kill() { job_kill xshimd KILL; }
xshimd_stop() {
	job_kill xshimd TERM
	check_eq "the status of xshimd" "$STATUS" 0
}

snapshot() { xshim stat --json >"$1" || fail "xshim stat --json does not work"; }
# stat_get PATH: a number of the report now
stat_get() { xshim stat --json | jq "$1"; }
# since FILE PATH...: how much the sum of these numbers has grown since that snapshot
since() {
	local old=$1 sum=$2
	shift 2
	while [ $# -gt 0 ]; do
		sum="$sum + $1"
		shift
	done
	snapshot "$W/since.json"
	jq -n --slurpfile o "$old" --slurpfile n "$W/since.json" "(\$n[0] | $sum) - (\$o[0] | $sum)" ||
		fail "the report lacks $sum"
}
# stat_is PATH OPERATOR NUMBER: for wait_for, e.g. stat_is .connections.on_ring -ge 2
stat_is() { [ "$(stat_get "$1")" "$2" "$3" ]; }

# ---- in dom0: guests come and go ----

# guest_create N [SEQ]: waits not for its start. In a case it gets to run guestN_again, if there is one. GUEST_MORE: more lines of its
# configuration, e.g. limits.
guest_create() {
	local n=$1 again= seq=${2:-}
	[ -n "$seq" ] || { seq=$(cat /run/lab/seq); again=" lab.again=1"; }
	cat >"/run/g$n.cfg" <<-X
		name = "g$n"
		type = "$TYPE"
		kernel = "/boot/vmlinux"
		ramdisk = "/boot/guest.cpio"
		extra = "console=hvc0 quiet panic=-1 lab.n=$n lab.seq=$seq$again lab.mode=$MODE $KERNEL_OPTIONS"
		memory = $MEMORY
		vcpus = $VCPUS
		vif = [ "mac=00:16:3e:00:00:0$n,bridge=xenbr0,ip=10.77.0.1$n,script=vif-lab,type=vif" ]
		on_poweroff = "destroy"
		on_reboot = "destroy"
		on_crash = "destroy"
		${GUEST_MORE:-}
	X
	xl create -q "/run/g$n.cfg" || return
	guest_domid "$n"
}
# guest_domid N: makes the domain number known to all, again after it has changed
guest_domid() { xenstore-write "/lab/domid/$1" "$(xl domid "g$1")"; }
guest_destroy() { xl destroy "g$1" || fail "xl destroy g$1"; }
guest_save() { xl save "g$1" "/run/g$1.save" >"$W/save.out" 2>&1 || fail "xl save g$1"; }
guest_restore() {
	xl restore "/run/g$1.save" >"$W/restore.out" 2>&1 || fail "xl restore g$1"
	rm -f "/run/g$1.save"
	guest_domid "$1"
}
# PVH only: a PV guest wants shadow page tables, which Debian's hypervisor lacks
guest_migrate() {
	xl migrate -s '' "g$1" 'xl migrate-receive' >"$W/migrate.out" 2>&1 || fail "xl migrate g$1"
	guest_domid "$1"
}
is_zombie_free() { ! xl list | grep -q '^(null)'; }

# ---- as a program: one part of a case ----

if [ "${0##*/}" = lib.sh ]; then
	CASE=$1
	W=/tmp/case.$CASE
	export CASE W
	mkdir -p "$W" /run/lab
	echo $$ >/run/lab/session
	. /lab/conf
	. "$CASE_DIR/$CASE"
	cd "$W" || exit 1
	"$2"
	exit
fi
