#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A connection is handed to another program while something of its other end's lies unread on the ring, and that end makes no call: what
# is unread comes to who reads, whoever that is, as over plain TCP. It may come late, with the other end's next call; a program that
# has only started another one reads at once, as ever.
#
# preload_unread.sh [CASE...]

. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

LEN=50000
# server ADDRESS PORT SENT GO THEN: round trips until "stop"; then LEN bytes, and no call on a socket before GO is there
SERVER='
import ctypes, os, signal, socket, sys, time
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
c, _ = s.accept()
while (data := c.recv(1000)) != b"stop":
    c.sendall(data)
c.sendall(bytes(i * 7 % 251 for i in range('$LEN')))
then = sys.argv[5]
open(sys.argv[3], "w").close()
while not os.path.exists(sys.argv[4]):
    time.sleep(0.001)
if then == "more":
    c.sendall(b"more")
if then == "half":
    c.shutdown(socket.SHUT_WR)
    print("answer:", c.recv(100), c.recv(100))
if then == "exec":
    os.execv("/bin/true", ["true"])
if then == "exit":
    ctypes.CDLL(None).exit(0)
if then == "_exit":
    os._exit(3)
if then == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
c.close()
'
# client ADDRESS PORT SENT BEGIN READY GO WHAT
CLIENT=$ROUND_TRIP'
import array, fcntl, hashlib, os, select, socket, sys, termios, time
s = socket.socket()
s.connect((sys.argv[1], int(sys.argv[2])))
sent, begin, ready, go, what = sys.argv[3:]
who, bare = what.split("-")[0], what.endswith("-bare")
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.001)
def made(name):
    open(name, "w").close()
env = dict(os.environ)
if bare:
    env.pop("LD_PRELOAD", None)
while not is_over():
    round_trip(s)
s.sendall(b"stop")
wait_for(begin)
fd = s.fileno()
# the other program: says that it is there, reads to the end, and answers, which only one that has half-closed still hears
reads = ["sh", "-c", ": >" + ready + "; cat; echo answer >&0"]
reads_fd = ["sh", "-c", ": >%s; cat <&%d; echo answer >&%d" % (ready, fd, fd)]
def here(how):
    s.settimeout(20)
    rest = b""
    if how == "part":
        rest += s.recv(1000)
        made(ready)
    while len(rest) < '$LEN':
        rest += s.recv(100000)
    if how != "part":
        made(ready)
    while (data := s.recv(100000)):
        rest += data
    sys.stdout.buffer.write(rest)
    try:
        s.sendall(b"answer\n")
    except OSError:
        pass
if who == "exec":
    s.set_inheritable(True)
    os.execve("/bin/sh", reads_fd, env)
elif who == "stdin":
    os.dup2(fd, 0)
    s.close()
    os.execve("/bin/sh", reads, env)
elif who == "fork":
    if os.fork() == 0:
        os.dup2(fd, 0)
        os.execve("/bin/sh", reads, env)
    s.close()
    os.wait()
elif who == "spawn":
    pid = os.posix_spawn("/bin/sh", reads, env, file_actions=[(os.POSIX_SPAWN_DUP2, fd, 0)])
    s.close()
    os.waitpid(pid, 0)
elif who == "system":
    s.set_inheritable(True)
    if bare:
        os.unsetenv("LD_PRELOAD")
    os.system(reads_fd[2])
elif who == "pass":
    here_, there = socket.socketpair()
    there.set_inheritable(True)
    code = """
import os, socket, sys
fd = socket.recv_fds(socket.socket(fileno=%d), 1, 1)[1][0]
os.dup2(fd, 0)
os.close(fd)
os.execv("/bin/sh", %r)
""" % (there.fileno(), reads)
    # forked before anything is passed, and without the connection
    pid = os.fork()
    if pid == 0:
        s.close()
        os.execve(sys.executable, [sys.executable, "-c", code], env)
    there.close()
    socket.send_fds(here_, [b"f"], [fd])
    s.close()
    os.waitpid(pid, 0)
elif who == "reads":
    # the program that is started does not touch it
    s.set_inheritable(True)
    os.system("exit 3")
    here("all")
elif who == "part":
    s.set_inheritable(True)
    os.system("exit 3")
    here("part")
elif who == "late":
    # when the other end has gone
    s.set_inheritable(True)
    os.system("exit 3")
    made(ready)
    p = select.poll()
    p.register(s, select.POLLRDHUP)
    print("end:", bool(p.poll(20000)), file=sys.stderr)
    here("all")
elif who == "failed":
    s.set_inheritable(True)
    try:
        os.execv("/nonexistent", ["nonexistent"])
    except FileNotFoundError:
        pass
    here("all")
elif who == "polls":
    s.set_inheritable(True)
    os.system("exit 3")
    s.setblocking(False)
    print("readable:", bool(select.select([s], [], [], 0)[0]), file=sys.stderr)
    e = select.epoll()
    e.register(s, select.EPOLLIN)
    print("told:", bool(e.poll(0)), file=sys.stderr)
    n = array.array("i", [0])
    fcntl.ioctl(s, termios.FIONREAD, n)
    print("queued:", n[0], file=sys.stderr)
    print("peeked:", len(s.recv(100, socket.MSG_PEEK)), file=sys.stderr)
    os.system("exit 3")
    here("all")
'

# begin with a dash: over plain TCP; else over a ring
play() {
	local how=$1 who=${2%:*} then=${2#*:} unread
	rm -f "$WORK"/{sent,begin,ready,go}
	[ "$how" = env ] || snapshot "$WORK/before.json"
	ns_start server b "$how" "$PYTHON" -c "$SERVER" "$IP_B" $PORT "$WORK/sent" "$WORK/go" "$then"
	wait_listen b $PORT
	held_start client a "$how" "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$WORK/sent" "$WORK/begin" "$WORK/ready" "$WORK/go" "$who"
	[ "$how" = env ] || wait_ring 5000
	held_end
	wait_for 20 "what is to be read" test -e "$WORK/sent"
	if [ "$how" != env ]; then
		unread=$(($(since "$WORK/before.json" .bytes.ring_tx) - $(since "$WORK/before.json" .bytes.ring_rx)))
		check_eq "$2: bytes unread on the ring" "$unread" $LEN
	fi
	: >"$WORK/begin"
	wait_for 20 "the reader" test -e "$WORK/ready"
	: >"$WORK/go"
	job_wait client 20
	echo "status $STATUS" >>"$WORK/client.err"
	job_wait_quiet server 20
	echo "status $STATUS" >>"$WORK/server.err"
	PORT=$((PORT + 1))
}

need python3
ns_up
daemon_start
PORT=7900
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
CASES="exec-bare:more exec-shim:more stdin-shim:more fork-bare:more system-bare:more pass-bare:more spawn-shim:half exec-bare:exit
	exec-bare:_exit part:more failed:close polls:half late:more"
# each waits for two seconds
[ -z "${XSHIM_LONG:-}" ] || CASES="$CASES stdin-bare:more fork-shim:close spawn-bare:more system-shim:more exec-bare:close exec-bare:half
	exec-bare:exec reads:more reads:kill late:kill late:exit"
for what in ${*:-$CASES}; do
	play env "$what"
	for f in client.out client.err server.out server.err; do
		cp "$WORK/$f" "$WORK/plain.$f"
	done
	check_ge "$what: bytes over plain TCP" "$(wc -c <"$WORK/client.out")" $LEN
	play shim "$what"
	for f in client.out client.err server.out server.err; do
		cmp "$WORK/plain.$f" "$WORK/$f" && continue
		head -c 2000 "$WORK/client.err" "$WORK/server.err" >&2
		fail "$what: $f is not as over plain TCP ($(wc -c <"$WORK/plain.client.out") bytes there, $(wc -c <"$WORK/client.out") here)"
	done
	note "ok $what"
done
