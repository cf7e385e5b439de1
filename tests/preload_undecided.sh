#!/bin/bash
# SPDX-License-Identifier: MIT
#
# An end that is stopped in the middle of its decision whether it leaves alone (region.h), or says so for ever. Played by one that
# writes the word into its own region and makes no call. Meanwhile the other end's sends wait, and its half-close goes, because nothing
# before it is concerned: they neither hold up a program that does not want to be held up, nor spin; and when the decision is made all
# goes on, with nothing lost.

. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

# server ADDRESS PORT STOPPED GO [REFUSED]: round trips until "stop"; stopped until GO is there; then the rest until the end. REFUSED: the
# other end has shut both ways, so what is sent to it is refused sooner or later
SERVER='
import ctypes, hashlib, os, socket, struct, sys, time
def leave_word():
    for line in open("/proc/self/maps"):
        span, mode = line.split()[:2]
        at = int(span.split("-")[0], 16)
        if mode == "rw-s" and "memfd:" in line and ctypes.string_at(at, 4) == struct.pack("<I", 0x58534852):
            return ctypes.c_uint32.from_address(at + 260)
    sys.exit("no region")
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
c, _ = s.accept()
c.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
while (data := c.recv(1000)) != b"stop":
    c.sendall(data)
word = leave_word()
word.value = 3
open(sys.argv[3], "w").close()
while not os.path.exists(sys.argv[4]):
    time.sleep(0.001)
word.value = 0
c.sendall(b"now")
rest = b""
while (data := c.recv(100000)):
    rest += data
print(len(rest), hashlib.md5(rest).hexdigest())
if len(sys.argv) > 5:
    refused = False
    until = time.monotonic() + 10
    while not refused and time.monotonic() < until:
        try:
            c.send(b"x")
            time.sleep(0.001)
        except OSError:
            refused = True
    print("refused:", refused, file=sys.stderr)
    open(sys.argv[5], "w").close()
'
# client ADDRESS PORT STOPPED GO WHAT REFUSED
CLIENT=$ROUND_TRIP'
import hashlib, os, select, socket, sys, threading, time
s = socket.socket()
s.connect((sys.argv[1], int(sys.argv[2])))
what = sys.argv[5]
while not is_over():
    round_trip(s)
s.sendall(b"stop")
while not os.path.exists(sys.argv[3]):
    time.sleep(0.001)
sent = b""
began = time.monotonic()
if what == "send":
    refused = 0
    s.setblocking(False)
    for i in range(40):
        try:
            sent += b"y" * s.send(b"y" * 10)
        except BlockingIOError:
            refused += 1
    print("at once:", time.monotonic() - began < 2)
    print("writable:", bool(refused) == (not select.select([], [s], [], 0)[1]))
    s.setblocking(True)
def later():
    global sent
    if what == "urgent":
        s.send(b"!", socket.MSG_OOB)
        sent += b"!"
    if what not in ("shutdown", "quiet", "both", "after"):
        s.sendall(b"z" * 1000)
        sent += b"z" * 1000
    s.shutdown(socket.SHUT_RDWR if what == "both" else socket.SHUT_WR)
    if what == "after":
        try:
            print("too late:", not s.send(b"!"))
        except BrokenPipeError:
            pass
port = "%04X" % s.getsockname()[1]
def s_state():
    for line in open("/proc/net/tcp"):
        word = line.split()
        if word[1].endswith(":" + port):
            return word[3]
def sleeps():
    try:
        for line in open("/proc/self/task/%d/status" % thread.native_id):
            if line.startswith("voluntary"):
                return int(line.split()[1])
    except OSError:
        pass
thread = threading.Thread(target=later)
thread.start()
before = time.process_time()
thread.join(0.7)
print("idle:", time.process_time() - before < 0.2)
# where it has no processor for itself, that says little; but what spins does not sleep either
if what == "quiet":
    # makes no call any more that could send the FIN later
    thread.join()
    until = time.monotonic() + 5
    while (state := s_state()) == "01" and time.monotonic() < until:
        time.sleep(0.01)
    print("FIN sent:", state != "01")
until = time.monotonic() + 10
while (n := sleeps()) is not None and n < 20 and time.monotonic() < until:
    time.sleep(0.01)
print("asleep:", n is None or n >= 20)
open(sys.argv[4], "w").close()
got = b""
while (data := s.recv(100)):
    got += data
thread.join()
# the half-close that waits is made in a call
while what == "both" and not os.path.exists(sys.argv[6]):
    select.select([s], [], [], 0)
    time.sleep(0.001)
print("answer:", got)
print(len(sent), hashlib.md5(sent).hexdigest(), file=sys.stderr)
'

need python3
ns_up
daemon_start
PORT=7870
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
for what in ${*:-send block urgent shutdown quiet both after}; do
	rm -f "$WORK"/{stopped,now,refused}
	REFUSED=() answer="b'now'"
	[ $what != both ] || REFUSED=("$WORK/refused") answer="b''"
	snapshot "$WORK/before.json"
	ns_start server b shim "$PYTHON" -c "$SERVER" "$IP_B" $PORT "$WORK/stopped" "$WORK/now" "${REFUSED[@]}"
	wait_listen b $PORT
	held_start client a shim "$PYTHON" -c "$CLIENT" "$IP_B" $PORT "$WORK/stopped" "$WORK/now" "$what" "${REFUSED[@]}"
	wait_ring 5000
	held_end
	job_ok client 20 "$what"
	job_wait server 20
	! grep -q False "$WORK"/{client.out,server.err} || { cat "$WORK"/{client.out,server.err} >&2; fail "$what: as above"; }
	check_eq "$what: what came back" "$(sed -n 's/^answer: //p' "$WORK/client.out")" "$answer"
	check_eq "$what: what came there" "$(<"$WORK/server.out")" "$(<"$WORK/client.err")"
	PORT=$((PORT + 1))
	note "ok $what"
done
