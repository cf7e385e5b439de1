#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Faults that need little to be played, one after the other; each is a word for the command line.
#
#   exits     F06 F07: a program ends right behind its last send, by exit and by another thread's exit, with 1 octet to more than a ring:
#             all that was accepted comes
#   quits     a program ends by _exit in a handler, wherever the signal has interrupted it, maybe after a last send: it does end
#   ticks     a handler sends all the time on a connection that goes onto its ring and leaves it, while the program waits for it by epoll
#   stopped   F23: xshimd is stopped, with many requests under way; connections are made and used without waiting for it, and when
#             their program is killed the other end hears of it
#   allocator F33: the library itself asks the program's allocator for nothing while connections are made and used
#   limits    F35: small limits of file size, locked memory and address space, and a /dev/shm that is full or not there
#   places    F43: no unix sockets at all, and nothing that can be written
#   full      F56: xshimd has no descriptor left: connections stay on TCP, and it serves again when there are some
#   crowded   F57: more that runs than processors, with the other end at a low priority: it goes on, and waits do not spin
. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

need python3
ns_up
daemon_start
preload_for "$PYTHON"
PORT=7960
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
case $XSHIM_PRELOAD in *:*) SANITIZER=1 ;; *) SANITIZER= ;; esac

ECHO='
import socket, sys, threading
def echo(c):
    try:
        while (data := c.recv(65536)):
            c.sendall(data)
    except OSError:
        pass
    print("ended\n", end="", flush=True)	# in one piece: other threads write, too
    c.close()
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=200)
print("ready", flush=True)
while True:
    threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
'
echo_server() {	# WORDS before python
	ns_start server b "${@:-shim}" "$PYTHON" -u -c "$ECHO" "$IP_B" $PORT
	wait_listen b $PORT
}
echo_ends() {
	kill -KILL "${JOB_PID[server]}"
	job_wait_quiet server 10
	PORT=$((PORT + 1))
}

# ---- F06, F07 ----

# ends ADDRESS PORT: for each of the sizes and manners a connection, which is warmed up; its octets, after how many they must have been
LAST_SERVER='
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=100)
while True:
    c = s.accept()[0]
    head = c.recv(16, socket.MSG_WAITALL)
    if not head:
        continue
    if head == b"." * 16:
        break
    want, kind = int(head[:8]), head[8:].decode().strip()
    for i in range(400):
        c.sendall(c.recv(1))
    got = bytearray()
    why = "end"
    try:
        while (data := c.recv(100000)):
            got += data
    except ConnectionResetError:
        why = "reset"
    right = got == bytes(i * 7 % 251 for i in range(len(got)))
    print(kind, "right" if right and why == "end" and (len(got) == want or kind == "thread") else "wrong %s %d of %d" % (why, len(got), want), flush=True)
    if kind == "thread":
        print("came", len(got), flush=True)
'
LAST_CLIENT='
import os, socket, sys, threading
want, kind = int(sys.argv[3]), sys.argv[4]
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"%8d%8s" % (want, kind.encode()))
for i in range(400):
    s.sendall(b"w")
    s.recv(1)
data = bytes(i * 7 % 251 for i in range(want))
if kind == "thread":
    # what was accepted is known to a page that the process does not take with it
    def send():
        done = 0
        while done < want:
            done += s.send(data[done:done + 3000])
            os.pwrite(1, b"sent %8d\n" % done, 0)
        os._exit(0)
    threading.Thread(target=send).start()
    import time
    time.sleep(want / 1e8)
    os._exit(0)
s.sendall(data)
os._exit(0)
'
play_exits() {
	local size kind n=0 times=1 accepted came
	[ -z "${XSHIM_LONG:-}" ] || times=200
	snapshot "$WORK/before.json"
	ns_start server b shim "$PYTHON" -u -c "$LAST_SERVER" "$IP_B" $PORT
	wait_listen b $PORT
	for ((i = 0; i < times; i++)); do
		for kind in exit thread; do
			for size in 1 4096 262143 262144 1000000; do
				ns_start client a shim "$PYTHON" -c "$LAST_CLIENT" "$IP_B" $PORT $size $kind
				job_ok client 20 "exits $size $kind"
				n=$((n + 1))
				wait_for 10 "the verdict on $size, $kind" eval '[ "$(grep -cE "^(exit|thread)" "$WORK/server.out")" -ge '$n' ]'
				[ $kind = thread ] || continue
				wait_for 10 "the count" grep -q '^came' "$WORK/server.out"
				accepted=$(sed -n 's/^sent *//p' "$WORK/client.out")
				came=$(sed -n 's/^came //p' "$WORK/server.out" | tail -n 1)
				check_ge "$size, exit by another thread: octets that came" "$came" "${accepted:-0}"
			done
		done
	done
	! grep wrong "$WORK/server.out" >&2 || fail "exits: as above"
	check_gt "exits: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 1000000
	job_stop server
	PORT=$((PORT + 1))
	note "ok F06 F07: $n programs that ended behind their last send"
}

play_quits() {
	local times=600
	[ -z "${XSHIM_LONG:-}" ] || times=6000
	echo_server env "${PRELOADED[@]}" XSHIM_FORCE_LEAVE=1
	snapshot "$WORK/before.json"
	ns_start client a env "${PRELOADED[@]}" XSHIM_FORCE_LEAVE=1 "$XSHIM_PROG/quits" "$IP_B" $PORT "$times" $RANDOM
	job_wait_quiet client 200
	[ "$STATUS" = 0 ] || fail "quits: $(cat "$WORK/client.out")"
	check_gt "quits: ends that got a ring" "$(since "$WORK/before.json" .counters.attaches)" 300
	echo_ends
	note "ok quits: $(cat "$WORK/client.out")"
}

play_ticks() {
	local rounds=20000
	[ -z "${XSHIM_LONG:-}" ] || rounds=400000
	echo_server env "${PRELOADED[@]}" XSHIM_FORCE_LEAVE=1
	snapshot "$WORK/before.json"
	ns_start client a env "${PRELOADED[@]}" XSHIM_FORCE_LEAVE=1 "$XSHIM_PROG/ticks" "$IP_B" $PORT "$rounds"
	job_wait_quiet client 200 || fail "ticks: the client hangs"
	[ "$STATUS" = 0 ] || fail "ticks: status $STATUS, $(cat "$WORK/client.out")"
	check_gt "ticks: ends that got a ring" "$(since "$WORK/before.json" .counters.attaches)" 10
	echo_ends
	note "ok ticks: $(cat "$WORK/client.out")"
}

# ---- F23 ----

STOPPED='
import socket, sys, time
worst, all = 0, []
for i in range(40):
    began = time.monotonic()
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    all.append(s)
    worst = max(worst, time.monotonic() - began)
    for k in range(20):
        began = time.monotonic()
        s.sendall(b"x" * 100)
        got = 0
        while got < 100:
            got += len(s.recv(100))
        worst = max(worst, time.monotonic() - began)
print("%d" % (worst * 1000), flush=True)
time.sleep(60)
'
play_stopped() {
	local took
	echo_server
	# it has been spoken to before, and is not just now
	held_start client a shim "$PYTHON" -c "$ROUND_TRIP
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while not is_over(): round_trip(s)" "$IP_B" $PORT
	snapshot "$WORK/before.json"
	wait_ring 5000
	held_end
	job_ok client 20 "stopped, before"
	wait_for 10 "the first connection's end" grep -q ended "$WORK/server.out"
	kill -STOP "${JOB_PID[daemon]}"
	ns_start client a shim "$PYTHON" -c "$STOPPED" "$IP_B" $PORT
	wait_for 20 "stopped: the times" eval '[ -s "$WORK/client.out" ] || job_ended client'
	took=$(cat "$WORK/client.out")
	check_ge "the longest of 50 ms (and 150 for a busy machine), against what a call took:" $((200 * SLOW)) "${took:-9999}"
	kill -KILL "${JOB_PID[client]}"
	took=${EPOCHREALTIME/./}
	job_wait_quiet client 10
	wait_for 10 "the ends of 40 connections" eval '[ "$(grep -c ended "$WORK/server.out")" = 41 ]'
	took=$(((${EPOCHREALTIME/./} - took) / 1000))
	check_ge "a second for the ends to be heard, against" $((1000 * SLOW)) $took
	kill -CONT "${JOB_PID[daemon]}"
	wait_for 10 "xshimd to answer again" daemon_answers
	echo_ends
	note "ok F23: xshimd stopped; ends heard after $took ms"
}

# ---- F33 ----

play_allocator() {
	local how count=() nth=$XSHIM_BUILD/tests/load/.libs/nth_malloc.so
	[ -z "$SANITIZER" ] || { note "not played: allocator: a sanitizer has its own"; return; }
	[ -e "$nth" ] || fail "there is no $nth"
	for how in plain shim; do
		head -c 24 /dev/zero >"$WORK/nth"
		printf '%s\n' "rounds 1500" "send 400000" half eof end >"$WORK/in.server"
		printf '%s\n' "rounds 1500" "recv 400000" half eof end >"$WORK/in.client"
		snapshot "$WORK/before.json"
		if [ $how = shim ]; then build_cmd b shim "$XSHIM_PROG/talk" listen "$IP_B" $PORT; else
			build_cmd b "$XSHIM_PROG/talk" listen "$IP_B" $PORT; fi
		"${CMD[@]}" <"$WORK/in.server" >"$WORK/server.out" 2>"$WORK/server.err" &
		JOB_PID[server]=$!
		[ $how = shim ] && how=$XSHIM_PRELOAD:$nth || how=$nth
		build_cmd a env "NTH_MALLOC=$WORK/nth" "LD_PRELOAD=$how" "$XSHIM_PROG/talk" connect "$IP_B" $PORT
		"${CMD[@]}" <"$WORK/in.client" >"$WORK/client.out" 2>"$WORK/client.err" &
		JOB_PID[client]=$!
		job_ok client 20 allocator
		job_ok server 20 allocator
		count+=("$(od -An -tu8 -N8 "$WORK/nth" | tr -d ' ')")
		PORT=$((PORT + 1))
	done
	check_gt "allocator: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 400000
	check_gt "allocations over plain TCP" "${count[0]}" 0
	check_eq "allocations with the library, on a ring" "${count[1]}" "${count[0]}"
	note "ok F33: ${count[1]} allocations, with the library and without"
}

# ---- F35, F43 ----

TALKS=$ROUND_TRIP'
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
while not is_over():
    round_trip(s)
    time.sleep(0.0002)
'
# received LEAST: octets that the server's kernel has had
received() {
	local n
	n=$(ns_run b ss -Htin "sport = :$PORT" | sed -n 's/.*bytes_received:\([0-9]*\).*/\1/p' | head -n 1)
	job_ended client || [ "${n:-0}" -gt "$1" ]
}
# under WHAT ring|tcp WORDS: the client is started by WORDS; it works, and its bytes go that way
under() {
	local what=$1 way=$2
	shift 2
	echo_server
	snapshot "$WORK/before.json"
	held_start client a "$@" env "${PRELOADED[@]}" "$PYTHON" -c "$TALKS" "$IP_B" $PORT
	if [ "$way" = ring ]; then
		wait_ring 20000
	else
		wait_for 20 "$what: bytes over TCP" received 20000
		check_eq "$what: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
	fi
	held_end
	job_ok client 20 "$what"
	check_empty "$what: stderr" "$WORK/client.err"
	echo_ends
	note "ok $what, by $way"
}

play_limits() {
	under "F35: no file larger than 8 MiB" ring prlimit --fsize=8388608
	under "F35: no file larger than a page" tcp prlimit --fsize=4096
	under "F35: no locked memory" ring prlimit --memlock=0
	[ -n "$SANITIZER" ] || under "F35: an address space with little room" ring prlimit --as=400000000
	unshare -m true 2>/dev/null || { note "not played: /dev/shm: no mount namespaces here"; return; }
	under "F35: /dev/shm is full" ring unshare -m sh -c 'mount -t tmpfs -o size=4k none /dev/shm && head -c 4096 /dev/zero >/dev/shm/x; exec "$@"' sh
	under "F35: no /dev/shm, and /tmp noexec and full" ring unshare -m sh -c 'umount -l /dev/shm; mount -t tmpfs -o size=4k,noexec none /mnt; exec "$@"' sh
}

play_places() {
	unshare -m true 2>/dev/null || { note "not played: places: no mount namespaces here"; return; }
	under "F43: nothing can be written" ring unshare -m sh -c 'mount --make-rprivate / && mount -o remount,bind,ro / && ! (: >/etc/x) 2>/dev/null && exec "$@"' sh
	under "F43: pid, ipc and uts namespaces of its own" ring unshare --pid --ipc --uts --fork --mount-proc
	under "F43: no unix sockets" tcp "$XSHIM_PROG/filtered" unix
}

# ---- F56 ----

play_full() {
	local fds
	daemon_stop
	rm -f "$XSHIM_SOCKET"
	# xshimd keeps some 128 for itself
	start daemon prlimit --nofile=140:140 "$XSHIMD" --socket="$XSHIM_SOCKET"
	wait_for 10 "xshimd to answer" daemon_up_or_dead
	fds=$(find "/proc/${JOB_PID[daemon]}/fd" -mindepth 1 | wc -l)
	echo_server
	ns_start many a shim "$PYTHON" -c '
import os, socket, sys, time
# a connection to xshimd for each process
kids = []
for i in range(30):
    pid = os.fork()
    if not pid:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        for k in range(600):
            s.sendall(b"x" * 100)
            got = 0
            while got < 100:
                more = s.recv(100)
                if not more:
                    os._exit(3)
                got += len(more)
            time.sleep(0.002)
        os._exit(0)
    kids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in kids])
' "$IP_B" $PORT
	job_wait many 60
	check_eq "full: status of 30 programs" "$(cat "$WORK/many.out")" "[$(yes 0, | head -n 29 | tr '\n' ' ')0]"
	check_gt "full: those that xshimd turned away, in its log" "$(grep -cE 'descriptors|no more can be had|nearly all' "$WORK/daemon.err")" 0
	job_alive daemon || fail "full: xshimd has ended"
	echo_ends
	wait_for 10 "xshimd to have its descriptors back" eval '[ "$(find "/proc/${JOB_PID[daemon]}/fd" -mindepth 1 | wc -l)" -le '"$fds"' ]'
	under "F56: afterwards" ring env
	daemon_stop
	daemon_start
	note "ok F56"
}

# ---- killed, while the other end only sends ----

# asleep: all threads of the server
asleep() { ! cut -d" " -f3 "/proc/${JOB_PID[server]}"/task/*/stat | grep -qv S; }

play_killed() {
	local how
	for how in "" shim; do
		[ -z "$how" ] || snapshot "$WORK/before.json"
		ns_start server b $how "$PYTHON" -u -c "$ECHO" "$IP_B" $PORT
		wait_listen b $PORT
		rm -f "$WORK/ready" "$WORK/killed"
		held_start client a $how "$PYTHON" -c "$ROUND_TRIP
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while not is_over(): round_trip(s)
open(sys.argv[3], 'w').close()
while not os.path.exists(sys.argv[4]): time.sleep(0.001)
n = 0
try:
    while n < 100:
        s.send(b'line\\n')
        n += 1
except OSError:
    pass
print(n)" "$IP_B" $PORT "$WORK/ready" "$WORK/killed"
		[ -z "$how" ] || wait_ring 5000
		held_end
		wait_for 10 "killed: the last round trip" test -e "$WORK/ready"
		wait_for 10 "killed: the server to sleep" asleep
		echo_ends
		touch "$WORK/killed"
		job_ok client 20 "killed, ${how:-plain}"
		check_eq "killed, ${how:-plain}: lines that went to nobody" "$(cat "$WORK/client.out")" 1
	done
	note "ok: killed while the other end only sends"
}

# ---- F57 ----

play_crowded() {
	local spinners=() i used
	need taskset nice
	for ((i = 0; i < 4; i++)); do
		taskset -c 0 sh -c 'while :; do :; done' &
		spinners+=($!)
	done
	JOB_PID[spinners]=$!
	echo_server taskset -c 0 nice -n 10 env "${PRELOADED[@]}"
	snapshot "$WORK/before.json"
	held_start client a taskset -c 0 env "${PRELOADED[@]}" "$PYTHON" -c "$ROUND_TRIP
import resource, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
n = 0
while not is_over():
    round_trip(s)
    n += 1
u = resource.getrusage(resource.RUSAGE_SELF)
print(n, int((u.ru_utime + u.ru_stime) * 1e6))" "$IP_B" $PORT
	SLOW=$((SLOW * 3)) wait_for 20 "crowded: bytes by ring" eval '[ "$(since "$WORK/before.json" .bytes.ring_tx)" -gt 10000 ]'
	held_end
	SLOW=$((SLOW * 3)) job_ok client 20 crowded
	kill -KILL "${spinners[@]}"
	wait "${spinners[@]}" 2>/dev/null
	unset "JOB_PID[spinners]"
	read -r n used <"$WORK/client.out"
	# a round trip of python's takes some 30 us by itself, and its start 50 ms; a wait may spin for 50
	check_ge "crowded: microseconds that $n round trips may take" $((300 * n + 400000)) "$used"
	echo_ends
	note "ok F57: $n round trips among 4 that spin, $used us of work"
}

for what in ${*:-exits quits ticks stopped allocator limits places full killed crowded}; do
	"play_$what"
done
