#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Busy waits (include/xshim/spin.h): who waits for answers that come within a far one makes them, after some waits, and sleeps no more;
# who waits for slower ones, or had learned and waits for slower ones now, does not, nor who shares a processor with the other end, nor
# anybody where XSHIM_SPIN_US is 0. Shown by what the kernel counts of the client: how often it has slept and how long it has worked.
# And who waits for something else of a connection whose bytes another has not fetched sleeps beside them (preload/ready.h).
#
#   preload_spin.sh [learns|slow|turns_slow|one|none|beside]
. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

PORT=7980
need taskset

# Near 200 us, far 1 ms. q: at once; f: after 400 us, asleep; w: so, at work; s: after 5 ms
export XSHIM_SPIN_US=200
SERVER='
import socket, sys, time
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
def work(us):
    end = time.monotonic_ns() + us * 1000
    while time.monotonic_ns() < end:
        pass
c, _ = s.accept()
while (data := c.recv(100)):
    for what in data[:1]:
        if what == 102: time.sleep(0.0004)
        if what == 115: time.sleep(0.005)
        if what == 119: work(400)
    c.sendall(data)
'
# ADDRESS PORT recv|epoll: then lines "WHAT TRIPS" on its input; answers "trips sleeps work_us late", late: round trips longer than a far wait
CLIENT='
import resource, select, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
ep = None
def trip(what):
    s.sendall(what)
    if ep:
        ep.poll()
    return s.recv(100) or sys.exit("the server has closed")
def state():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return [u.ru_nvcsw, int((u.ru_utime + u.ru_stime) * 1e6)]
if sys.argv[3] == "epoll":
    ep = select.epoll()
    ep.register(s, select.EPOLLIN)
print("ready", flush=True)
for line in sys.stdin:
    if line == "end\n":
        break
    what, trips = line.split()
    before, late = state(), 0
    for i in range(int(trips)):
        began = time.monotonic_ns()
        trip(what.encode())
        late += time.monotonic_ns() - began > 1000000
    print(trips, *[a - b for a, b in zip(state(), before)], late, flush=True)
'

LINES=0
said() { [ "$(wc -l <"$WORK/client.out")" -ge "$1" ] || job_ended client; }
# ask WHAT TRIPS: sets TRIPS SLEPT WORKED LATE
ask() {
	printf '%s %s\n' "$1" "$2" >&9
	LINES=$((LINES + 1))
	wait_for 60 "the client's answer" said $LINES
	job_alive client || { cat "$WORK/client.err" >&2; fail "the client has ended"; }
	read -r TRIPS SLEPT WORKED LATE < <(tail -n 1 "$WORK/client.out")
}

are_on_ring() {
	ask q 20
	[ "$("$XSHIM_TOOL" stat --json | jq .connections.on_ring)" -ge 2 ]
}

# The first two processors that are ours
read -r CPU OTHER < <("$PYTHON" -c 'import os; print(*sorted(os.sched_getaffinity(0))[:2])')

# ends HOW [apart|together]: both, on rings; where they run is the kernel's choice, or what is said. Left to itself it may have both on one
# for as long as they sleep, and there nobody learns.
ends() {
	local how=$1 client=() server=()
	case ${2:-} in
	apart) client=(taskset -c "$CPU") server=(taskset -c "$OTHER") ;;
	together) client=(taskset -c "$CPU") server=(taskset -c "$CPU") ;;
	esac
	LINES=1
	snapshot "$WORK/before.json"
	ns_start server b "${server[@]}" env "${PRELOADED[@]}" "$PYTHON" -c "$SERVER" "$IP_B" $PORT
	wait_listen b $PORT
	held_start client a "${client[@]}" env "${PRELOADED[@]}" "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$how"
	wait_for 20 "the client to be ready" said 1
	wait_for 20 "both ends to be on the ring" are_on_ring
}

ends_over() {
	held_end
	job_ok client 20 "$1"
	job_wait server 20
	PORT=$((PORT + 1))
	check_gt "$1: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 100
}

# Busy time of all processors, in microseconds
busy_us() {
	awk -v hz="$(getconf CLK_TCK)" '$1 == "cpu" { printf "%.0f\n", ($2 + $3 + $4 + $7 + $8 + $9) * 1000000 / hz; exit }' /proc/stat
}

# Until it has. Not shown: others were at work, half of a processor's time or more beside what the two ends take. There nobody is to wait
# busily, whose processor is wanted, and a server that waits for one is late.
learn() {
	local blocks slept=0 late=0 worked=0 before busy=$(busy_us) began=${EPOCHREALTIME/./} took
	for ((blocks = 1; blocks <= 60; blocks++)); do
		before=$(since "$WORK/before.json" .counters.sleeps)
		ask f 100
		if [ "$SLEPT" -lt 60 ]; then
			# the server's own are a hundred
			check_ge "$1: sleeps of both in 100 round trips" 170 $(($(since "$WORK/before.json" .counters.sleeps) - before))
			note "ok $1: after $((blocks * 100 - 100)) round trips, $SLEPT sleeps in $TRIPS"
			return 0
		fi
		slept=$((slept + SLEPT)) late=$((late + LATE)) worked=$((worked + WORKED))
	done
	took=$((${EPOCHREALTIME/./} - began)) busy=$(($(busy_us) - busy - 2 * worked))
	[ $busy -gt $((took / 2)) ] ||
		fail "$1: it has slept $slept times in 6000 waits, $late of them longer than a far one, and not learned"
	note "not shown: $1: others have had $busy us of processors in $took us"
}

play_learns() {
	local how
	for how in recv epoll; do
		ends $how apart
		learn "learns, $how"
		ends_over "learns, $how"
	done
}

# What the round trips of a client that slept in each wait would have taken at most, and a fifth of what busy waits would have
bounded() {
	local each=$2 far=$3
	check_ge "$1: microseconds of work of $TRIPS round trips" $((TRIPS * each + TRIPS * far / 5)) "$WORKED"
	note "ok $1: $((WORKED / TRIPS)) us of work for a round trip, $SLEPT sleeps in $TRIPS"
}

play_slow() {
	local how
	for how in recv epoll; do
		ends $how
		ask s 400
		check_ge "slow, $how: sleeps" "$SLEPT" 380
		bounded "slow, $how" 250 1000
		ends_over "slow, $how"
	done
}

play_turns_slow() {
	local how
	for how in recv epoll; do
		ends $how apart
		learn "turns_slow, $how, at first"
		ask s 400
		check_ge "turns_slow, $how: sleeps" "$SLEPT" 380
		bounded "turns_slow, $how" 250 1000
		ends_over "turns_slow, $how"
	done
}

play_one() {
	ends recv together
	ask q 20000
	check_ge "one: microseconds of work of $TRIPS round trips" $((TRIPS * 60)) "$WORKED"
	ask w 2000
	bounded one 100 200
	ends_over one
}

play_none() {
	XSHIM_SPIN_US=0 ends recv
	ask f 1000
	check_ge "none: sleeps" "$SLEPT" 990
	ends_over none
	note "ok none"
}

# Another process, or thread, has the connection in a set, and is busy when bytes come that it will read later: ADDRESS PORT
# process|thread HOW FILE. Both ends talk until there is that file, and go on when it has gone.
BESIDE='
import os, select, socket, sys, threading, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while not os.path.exists(sys.argv[5]):
    s.sendall(b"q" * 50)
    s.recv(100)
print("quiet", flush=True)
while os.path.exists(sys.argv[5]):
    time.sleep(0.01)
ready, over = os.pipe(), os.pipe()
def busy():
    ep = select.epoll()
    ep.register(s, select.EPOLLIN)
    print(ep.poll(0), flush=True)
    os.write(ready[1], b".")
    os.read(over[0], 1)
    print(len(ep.poll(0)), s.recv(100), flush=True)
if sys.argv[3] == "process":
    other = os.fork()
    if not other:
        busy()
        os._exit(0)
else:
    other = threading.Thread(target=busy)
    other.start()
os.read(ready[0], 1)
s.sendall(b"f")
if sys.argv[4] == "select":
    print(select.select([], [], [s], 1)[2], flush=True)
else:
    p = select.epoll() if sys.argv[4] == "epoll" else select.poll()
    p.register(s, select.EPOLLRDHUP if sys.argv[4] == "epoll" else select.POLLRDHUP)
    print(p.poll(1 if sys.argv[4] == "epoll" else 1000), flush=True)
os.write(over[1], b".")
os.waitpid(other, 0) if sys.argv[3] == "process" else other.join()
'

both_on_ring() { [ "$("$XSHIM_TOOL" stat --json | jq .connections.on_ring)" -ge 2 ] || job_ended client; }

play_beside() {
	local who how sleeps
	for who in process thread; do
		for how in poll select epoll; do
			snapshot "$WORK/before.json"
			ns_start server b env "${PRELOADED[@]}" "$PYTHON" -c "$SERVER" "$IP_B" $PORT
			wait_listen b $PORT
			ns_start client a env "${PRELOADED[@]}" "$PYTHON" -c "$BESIDE" "$IP_B" $PORT $who $how "$WORK/go.$PORT"
			wait_for 20 "both ends to be on the ring" both_on_ring
			: >"$WORK/go.$PORT"
			wait_for 20 "the client to be quiet" said 1
			sleeps=$(since "$WORK/before.json" .counters.sleeps)
			rm "$WORK/go.$PORT"
			job_ok client 20 "beside, $who, $how"
			job_wait server 20
			PORT=$((PORT + 1))
			check_eq "beside, $who, $how: what both saw" "$(xargs <"$WORK/client.out")" "quiet [] [] 1 bf"
			check_gt "beside, $who, $how: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
			# a look each 16 ms for a second; 800,000 when each look rang for itself
			check_ge "beside, $who, $how: sleeps of both" 600 $(($(since "$WORK/before.json" .counters.sleeps) - sleeps))
		done
	done
	note "ok beside"
}

ns_up
daemon_start
preload_for "$PYTHON"
if [ $# = 0 ] && [ -z "${OTHER:-}" ]; then
	note "learns, turns_slow: only where there are two processors"
	set -- slow one none beside
fi
for what in ${*:-learns slow turns_slow one none beside}; do
	"play_$what"
done
