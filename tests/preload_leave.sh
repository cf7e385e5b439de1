#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What a return to TCP takes. Two ends send small pieces to and fro, and leave the ring again and again: no return waits for the
# kernel's delayed acknowledgement, which comes after 40 ms, though TCP_NODELAY is not set. And a program executes another one, with
# the preload and without, while the other end of its connection is busy elsewhere: the connection goes on, and by ring again where
# the new program is preloaded, too; its epoll sets are not those of the program before. And urgent data is sent while
# the other end's LEAVE is late: it goes when that has come.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

# client ADDRESS PORT: round trips until its input ends, then how many there were of 35 ms or more
CLIENT=$ROUND_TRIP'
import socket, sys, time
s = socket.socket()
s.connect((sys.argv[1], int(sys.argv[2])))
slow = 0
while not is_over():
    began = time.monotonic()
    round_trip(s)
    slow += time.monotonic() - began >= 0.035
print(slow)
'

need python3
ns_up
daemon_start
PORT=7850
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1

# How long a round trip takes is for a quiet machine to say: only by check-long.
round_trips() {
	local leaves slow
	export XSHIM_FORCE_LEAVE=500
	ns_start server b shim "$PYTHON" -c "$ECHO_ONE" "$IP_B" $PORT
	wait_listen b $PORT
	held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT
	snapshot "$WORK/before.json"
	# both ends count
	wait_for 60 "100 returns to TCP" eval '[ "$(since "$WORK/before.json" .counters.leaves)" -ge 200 ]'
	held_end
	job_ok client 20 "small pieces"
	job_wait server 20
	leaves=$(($(since "$WORK/before.json" .counters.leaves) / 2))
	slow=$(<"$WORK/client.out")
	# a busy machine has such round trips, too; each return had one
	[ "$slow" -lt $((leaves / 3)) ] || fail "$slow round trips of 35 ms or more among $leaves returns to TCP"
	note "ok $leaves returns to TCP, $slow round trips of 35 ms or more"
}
[ -z "${XSHIM_LONG:-}" ] || round_trips

# ---- exec, while the other end makes no call ----

SERVER='
import os, socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
c, _ = s.accept()
while (data := c.recv(1000)):
    if data == b"exec":
        os.dup2(c.fileno(), int(sys.argv[3]))
        os.set_inheritable(int(sys.argv[3]), True)
        if sys.argv[4] == "bare":
            del os.environ["LD_PRELOAD"]
        os.execvp("sh", ["sh", "-c", ": >\"$1\"; exec cat <&$2 >&$2", "sh", sys.argv[5], sys.argv[3]])
    c.sendall(data)
'
# client ADDRESS PORT FILE: round trips until its input ends, then "exec"; when FILE is there, a round trip with what was executed
CLIENT=$ROUND_TRIP'
import os, socket, sys, time
s = socket.socket()
s.connect((sys.argv[1], int(sys.argv[2])))
def echo(data):
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        got += s.recv(100)
    return got == data
while not is_over():
    round_trip(s)
s.sendall(b"exec")
while not os.path.exists(sys.argv[3]):
    time.sleep(0.01)
print(echo(b"one"), echo(b"two"))
'
unset XSHIM_FORCE_LEAVE
for fd in 0 7; do
	for how in shim bare; do
		PORT=$((PORT + 1))
		rm -f "$WORK/executed"
		snapshot "$WORK/before.json"
		ns_start server b shim "$PYTHON" -c "$SERVER" "$IP_B" $PORT $fd $how "$WORK/executed"
		wait_listen b $PORT
		held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$WORK/executed"
		wait_ring 5000
		held_end
		job_ok client 20 "exec as $fd, $how"
		job_wait server 20
		check_eq "exec as $fd, $how: what came back" "$(<"$WORK/client.out")" "True True"
		note "ok exec as $fd, $how"
	done
done

# ---- exec, and the ring again ----

# server ADDRESS PORT FILE [NUMBER]: NUMBER, the connection as it has been left by itself; says so in FILE
SELF='
import os, socket, sys
if len(sys.argv) > 4:
    c = socket.socket(fileno=int(sys.argv[4]))
    open(sys.argv[3], "w").close()
else:
    s = socket.create_server((sys.argv[1], int(sys.argv[2])))
    c, _ = s.accept()
while (data := c.recv(1000)):
    c.sendall(data)
    if data == b"exec":
        c.set_inheritable(True)
        os.execv(sys.executable, [sys.executable, "-c", os.environ["SELF"], *sys.argv[1:4], str(c.fileno())])
'
# client ADDRESS PORT FILE: round trips until its input ends; one of them is "exec", once FILE is there
CLIENT=$ROUND_TRIP'
import os, socket, sys
s = socket.socket()
s.connect((sys.argv[1], int(sys.argv[2])))
told = False
while not is_over():
    round_trip(s)
    if not told and os.path.exists(sys.argv[3]):
        told = True
        s.sendall(b"exec")
        print(s.recv(4, socket.MSG_WAITALL))
'
again() {
	PORT=$((PORT + 1))
	rm -f "$WORK/executed"
	snapshot "$WORK/before.json"
	SELF=$SELF ns_start server b shim "$PYTHON" -c "$SELF" "$IP_B" $PORT "$WORK/executed"
	wait_listen b $PORT
	held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$WORK/now"
	wait_ring 5000
	: >"$WORK/now"
	wait_for 20 "the server to have executed itself" [ -e "$WORK/executed" ]
	snapshot "$WORK/before.json"
	wait_ring 5000
	held_end
	job_ok client 20 "exec, and the ring again"
	job_wait server 20
	check_eq "exec, and the ring again: what came back" "$(<"$WORK/client.out")" "b'exec'"
	check_empty "exec, and the ring again: the server's stderr" "$WORK/server.err"
	note "ok exec, and the ring again"
}
again

# ---- exec, and epoll sets that a fork has shared before and after ----

# The same; each image has a set of its own, and a child that is no more. It says which numbers the set of the second one has told of.
SELF='
import os, select, socket, sys
def forked(number):
    e = select.epoll()
    if number:
        e.register(number, select.EPOLLIN | select.EPOLLET)
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return e
if len(sys.argv) > 4:
    c = socket.socket(fileno=int(sys.argv[4]))
    e = forked(None)
    e.register(c.fileno(), select.EPOLLIN)
    open(sys.argv[3], "w").close()
else:
    s = socket.create_server((sys.argv[1], int(sys.argv[2])))
    c, _ = s.accept()
    e = None
told = set()
while True:
    if e:
        told.update("connection" if fd == c.fileno() else fd for fd, _ in e.poll())
    data = c.recv(1000)
    if not data:
        break
    c.sendall(data)
    if data == b"exec":
        os.dup2(c.fileno(), 200, inheritable=False)
        old = forked(200)
        c.set_inheritable(True)
        os.execv(sys.executable, [sys.executable, "-c", os.environ["SELF"], *sys.argv[1:4], str(c.fileno())])
print(told)
'
again
check_eq "exec, and sets that were shared: what was told of" "$(<"$WORK/server.out")" "{'connection'}"

# ---- urgent data while the other end's LEAVE is late ----

# It is asked for, and is lost on its way until the send of urgent data sleeps, because neither direction can be moved any more.
# server ADDRESS PORT DIRECTORY
SERVER='
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
c, _ = s.accept()
while (data := c.recv(1000)) != b"wait":
    c.sendall(data)
open(sys.argv[3] + "/waits", "w").close()
print(c.recv(30, socket.MSG_WAITALL), c.recv(1, socket.MSG_OOB))
'
# client ADDRESS PORT DIRECTORY; it goes on when held, which comes after the server has "wait" for itself
CLIENT=$ROUND_TRIP'
import os, socket, sys, time
s = socket.socket()
s.connect((sys.argv[1], int(sys.argv[2])))
while not is_over():
    round_trip(s)
s.sendall(b"wait")
while not os.path.exists(sys.argv[3] + "/held"):
    time.sleep(0.01)
s.sendall(b"some")
s.setsockopt(socket.SOL_SOCKET, 29, 0)	# SO_TIMESTAMP: it leaves
open(sys.argv[3] + "/asked", "w").close()
print(s.send(b"!", socket.MSG_OOB))
'
urgent() {
	PORT=$((PORT + 1))
	snapshot "$WORK/before.json"
	ns_start server b shim "$PYTHON" -c "$SERVER" "$IP_B" $PORT "$WORK"
	wait_listen b $PORT
	held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$WORK"
	wait_ring 5000
	held_end
	wait_for 20 "the server to wait" [ -e "$WORK/waits" ]
	# less than the smallest packet: nothing passes
	ns_run b tc qdisc add dev v0 root tbf rate 8kbit burst 20 limit 20 || { note "no queue that drops can be had (tc)"; return; }
	: >"$WORK/held"
	wait_for 20 "the return to TCP to be given up" eval '[ -e "$WORK/asked" ] || job_ended client'
	ns_run b tc qdisc del dev v0 root
	job_ok client 30 "urgent data"
	check_eq "urgent octets sent" "$(<"$WORK/client.out")" 1
	job_wait server 30
	[ "$STATUS" = 0 ] || { cat "$WORK/server.err" >&2; fail "the server that gets urgent data ended with status $STATUS"; }
	check_eq "what came" "$(<"$WORK/server.out")" "b'some' b'!'"
	note "ok urgent data while a LEAVE is late"
}
urgent
