#!/bin/bash
# SPDX-License-Identifier: MIT
#
# System calls that fail, and an xshimd that dies in one, one by one: each in turn by check-long, some of them otherwise.
#
#   F31 F32  each call by which an end gets descriptors, memory or word to xshimd fails, once, or from there on for good; the programs
#            say what they say over plain TCP, and if it is for good all stays on TCP
#   F24      xshimd is killed at each of its system calls while two ends are introduced: they go on; to the next xshimd they are
#            introduced
. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

TALK=$XSHIM_PROG/talk
[ -x "$TALK" ] || skip "$TALK is not built"
case $XSHIM_PRELOAD in *:*) skip "a sanitizer makes calls of its own, and does not live with their failure" ;; esac
need strace
ns_up
strace -o /dev/null true 2>/dev/null || skip "strace cannot trace here"
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
PORT=7950
printf '%s\n' "rounds 1500" "send 400000" "recv 300000" half eof end >"$WORK/in.server"
printf '%s\n' "rounds 1500" "recv 400000" "send 300000" half eof end >"$WORK/in.client"
for who in server client; do
	sed -n '/^end$/!s/^/ok /p' "$WORK/in.$who" >"$WORK/want.$who"
done
declare -A BY=()	# strace's options for an end, or nothing

begin_end() {	# WHO NS listen|connect
	if [ -n "${BY[$1]:-}" ]; then
		# shellcheck disable=SC2086
		build_cmd "$2" strace -f -E "LD_PRELOAD=$XSHIM_PRELOAD" -o "$WORK/trace.$1" ${BY[$1]} "$TALK" "$3" "$IP_B" $PORT
	else
		build_cmd "$2" shim "$TALK" "$3" "$IP_B" $PORT
	fi
	"${CMD[@]}" <"$WORK/in.$1" >"$WORK/$1.out" 2>"$WORK/$1.err" &
	JOB_PID[$1]=$!
}

# What both say is what they say over plain TCP.
pair() {	# WHAT
	local who
	begin_end server b listen
	begin_end client a connect
	for who in client server; do
		job_wait_quiet $who 30 || { "$XSHIM_TOOL" ss >&2; cat "$WORK"/{client,server}.out >&2; fail "$1: the $who hangs"; }
		[ "$STATUS" = 0 ] && cmp -s "$WORK/$who.out" "$WORK/want.$who" && [ ! -s "$WORK/$who.err" ] && continue
		cat "$WORK/$who.out" "$WORK/$who.err" >&2
		fail "$1: the $who, status $STATUS"
	done
	PORT=$((PORT + 1))
}

# calls NAME TRACE MARK: how many there are of it before the first line with MARK, and in all
calls() {
	awk -v name="$1" -v mark="$3" '
		index($0, mark) { seen = 1 }
		$2 ~ "^" name "\\(" { n++; if (!seen) before++ }
		END { print before + 0, n + 0 }' "$2"
}

# some FIRST LAST: the numbers between, all of them, or few
some() {
	if [ -n "${XSHIM_LONG:-}" ]; then seq "$1" "$2"; elif [ "$1" -le "$2" ]; then echo "$1"; fi
}

# ---- F31, F32 ----

FAULTS="memfd_create:EMFILE memfd_create:ENOMEM ftruncate:ENOMEM fallocate:ENOMEM fallocate:ENOSPC mmap:ENOMEM mremap:ENOMEM
	socketpair:EMFILE socketpair:ENFILE socket:EMFILE epoll_create1:EMFILE eventfd2:EMFILE openat:EMFILE fcntl:EMFILE
	fcntl:EINVAL sendmsg:ENOBUFS getsockopt:ENOBUFS timerfd_create:EMFILE timerfd_settime:EPERM timerfd_gettime:EPERM"
[ -n "${XSHIM_LONG:-}" ] || FAULTS="memfd_create:EMFILE fallocate:ENOMEM sendmsg:ENOBUFS"

faults() {	# WHO
	local who=$1 fault name error before all n runs=0 failures=0
	BY=([$who]="-e trace=all")
	pair "$who traced"
	cp "$WORK/trace.$who" "$WORK/base.$who"
	for fault in $FAULTS; do
		name=${fault%:*} error=${fault#*:}
		read -r before all < <(calls "$name" "$WORK/base.$who" 'socket(AF_INET')
		# the program's own come first
		[ "$name" != socket ] || before=$((before + 1))
		for n in $(some $((before + 1)) "$all") forever; do
			# from the first one on that is ours
			[ "$n" != forever ] || n=$((before + 1))+
			[ $((before)) -lt "$all" ] || continue
			snapshot "$WORK/before.json"
			BY=([$who]="-e trace=$name -e inject=$name:error=$error:when=$n")
			pair "$who, $name fails with $error at $n"
			case $n in
			*+) case $name in memfd_create | fallocate | socketpair | timerfd_*)
				grep -q INJECTED "$WORK/trace.$who" || fail "$who, $name at $n: nothing has failed"
				check_eq "$who, $name always fails with $error: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0 ;;
			    esac ;;
			esac
			failures=$((failures + $(grep -c INJECTED "$WORK/trace.$who")))
			runs=$((runs + 1))
		done
	done
	BY=()
	check_ge "$who: calls that have failed, in $runs runs," $failures $((runs / 2))
	note "ok F31 F32: $who, $failures calls failed in $runs runs"
}

# One end may make no bell that ticks, or not ring one: the other's is of no use to it, and it says why.
KEPT_OFF=0
one_may_not() {	# CALL
	snapshot "$WORK/before.json"
	BY=([client]="-e trace=$1 -e inject=$1:error=EPERM:when=1+")
	pair "no $1"
	BY=()
	check_eq "no $1: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
	check_eq "no $1: connections that a filter has kept off" "$("$XSHIM_TOOL" stat --json | jq .reasons.seccomp.ended)" $((++KEPT_OFF))
	note "ok: one end may not call $1"
}

daemon_start
for call in timerfd_create timerfd_settime timerfd_gettime; do
	one_may_not $call
done
# An epoll server whose kernel has no room for what a ring adds to its set: added before the ring, which is given up, or after, where it is
# looked at now and then.
cat >"$WORK/echo.py" <<'EOF'
import select, socket, sys
what, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if what == "client":
    s = socket.create_connection((address, port), timeout=20)
    for i in range(100):
        s.sendall(b"%03d" % i)
        if s.recv(3, socket.MSG_WAITALL) != b"%03d" % i:
            sys.exit("something else has come back")
    s.close()
    sys.exit(0)
listener = socket.create_server((address, port))
print("listening", flush=True)
s, _ = listener.accept()
for i in range(50 if what == "late" else 0):
    s.sendall(s.recv(3, socket.MSG_WAITALL))
ep = select.epoll()
ep.register(s.fileno(), select.EPOLLIN)
while True:
    for fd, events in ep.poll():
        d = s.recv(1000)
        if not d:
            sys.exit(0)
        s.sendall(d)
EOF
no_room_in_set() {	# early|late
	local n who
	for n in 2 3; do
		snapshot "$WORK/before.json"
		ns_start server b strace -f -E "LD_PRELOAD=$XSHIM_PRELOAD" -o "$WORK/trace.server" -e trace=epoll_ctl \
			-e "inject=epoll_ctl:error=ENOSPC:when=$n" python3 "$WORK/echo.py" "$1" "$IP_B" $PORT
		wait_for 20 "the server to listen" eval 'job_ended server || grep -q listening "$WORK/server.out"'
		ns_start client a shim python3 "$WORK/echo.py" client "$IP_B" $PORT
		for who in client server; do
			job_wait_quiet $who 30 || { "$XSHIM_TOOL" ss >&2; fail "$1, epoll_ctl $n fails: the $who hangs"; }
			[ "$STATUS" = 0 ] || { cat "$WORK/$who.err" >&2; fail "$1, epoll_ctl $n fails: the $who, status $STATUS"; }
		done
		grep -q INJECTED "$WORK/trace.server" || fail "$1, epoll_ctl $n: nothing has failed"
		[ "$1" = early ] || check_ge "late, epoll_ctl $n: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 300
		PORT=$((PORT + 1))
	done
	note "ok: a set without room for a bell, $1"
}
# While a ring is put in place no handler is to run, but ours of faults is: with a fault blocked, that of another guest's memory is the end.
BY=([client]="-e trace=rt_sigprocmask")
pair "signals are blocked"
BY=()
grep -q 'SIG_BLOCK, ~\[[^]]*BUS[^]]*SEGV' "$WORK/trace.client" || fail "faults are blocked, or nothing is, while a ring is put in place"
note "ok: faults are not blocked while a ring is put in place"

if command -v python3 >/dev/null; then
	no_room_in_set early
	no_room_in_set late
fi
faults client
faults server
snapshot "$WORK/before.json"
pair "afterwards"
check_ge "afterwards: ends attached to a ring" "$(since "$WORK/before.json" .counters.attaches)" 2
daemon_stop

# ---- F24 ----

# traced OPTIONS...: xshimd under strace; XSHIMD_PID is its own number
traced() {
	rm -f "$XSHIM_SOCKET"
	start daemon strace -f -o "$WORK/trace.daemon" "$@" "$XSHIMD" --socket="$XSHIM_SOCKET"
	wait_for 10 "xshimd to listen" eval 'job_ended daemon || [ -S "$XSHIM_SOCKET" ]'
}

traced -e trace=all
wait_for 10 "xshimd to say so" grep -q ': version' "$WORK/daemon.err"
pair "xshimd traced"
kill -TERM "$(head -n 1 "$WORK/trace.daemon" | cut -d' ' -f1)"
job_wait daemon 10
cp "$WORK/trace.daemon" "$WORK/base.daemon"
NAMES=$(awk '/listen\(/ { seen = 1 } seen && match($2, /^[a-z0-9_]+\(/) { print substr($2, 1, RLENGTH - 1) }' "$WORK/base.daemon" |
	sort -u | grep -v -E '^(exit|exit_group|kill|rt_sigreturn)$')
[ -n "${XSHIM_LONG:-}" ] || NAMES="recvmsg sendmsg epoll_wait"
runs=0 died=0
for name in $NAMES; do
	read -r before all < <(calls "$name" "$WORK/base.daemon" 'listen(')
	for n in $(some $((before + 1)) "$all"); do
		traced -e "trace=$name" -e "inject=$name:signal=SIGKILL:when=$n"
		pair "xshimd is killed at $name $n"
		if job_ended daemon || ! daemon_answers; then
			died=$((died + 1))
			job_wait daemon 10
		else
			kill -KILL "$(pgrep -P "${JOB_PID[daemon]}")"
			job_wait daemon 10
		fi
		runs=$((runs + 1))
	done
	daemon_start
	snapshot "$WORK/before.json"
	pair "after xshimd was killed at $name"
	check_ge "after xshimd was killed at $name: ends attached to a ring" "$(since "$WORK/before.json" .counters.attaches)" 2
	daemon_stop
done
check_ge "xshimds that were killed, of $runs" $((died * 2)) $runs
note "ok F24: xshimd died in $died of $runs calls"
