#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The stress program must see what it is there to see: a relay between its two ends loses, doubles, changes or
# swaps bytes, or cuts the stream short, and each time an end must fail and say so. Without shim or daemon.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/netns.sh"

[ -x "$XSHIM_PROG/stream" ] || skip "$XSHIM_PROG/stream is not built"
begin
cat >"$WORK/relay.py" <<'PY'
import socket, sys, threading
fault, target = sys.argv[1], int(sys.argv[2])
AT = 700001

def damage(data):
    if fault == "lose":
        return data[:AT] + data[AT + 40:]
    if fault == "double":
        return data[:AT + 40] + data[AT:]
    if fault == "change":
        return data[:AT] + bytes([data[AT] ^ 1]) + data[AT + 1:]
    if fault == "swap":
        return data[:AT] + data[AT + 64:AT + 128] + data[AT:AT + 64] + data[AT + 128:]
    if fault == "cut":
        return data[:AT]
    return data

def pump(src, dst, whole):
    kept = b""
    while True:
        data = src.recv(65536)
        if whole:
            kept += data
            if data and len(kept) < AT + 1000:
                continue
            data, whole, kept = damage(kept), False, b""
            dst.sendall(data)
            if fault == "cut":
                break
            continue
        if not data:
            break
        dst.sendall(data)
    dst.shutdown(socket.SHUT_WR)

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
a = listener.accept()[0]
b = socket.create_connection(("127.0.0.1", target))
for args in ((a, b, False), (b, a, True)):
    threading.Thread(target=pump, args=args).start()
PY

free_port() { "$PYTHON" -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'; }

# run FAULT WORDS: WORDS must stand on the client's stderr; none: the client must succeed
run() {
	local port relay
	port=$(free_port)
	start server "$XSHIM_PROG/stream" server -s threads -t 20 127.0.0.1 "$port"
	wait_for 10 "the server" listens "$port"
	start relay "$PYTHON" "$WORK/relay.py" "$1" "$port"
	wait_for 10 "the relay" test -s "$WORK/relay.out"
	read -r relay <"$WORK/relay.out"
	start client "$XSHIM_PROG/stream" client -s threads -b 2000000 -t 20 127.0.0.1 "$relay"
	job_wait client 30
	if [ -z "$2" ]; then
		check_eq "$1: status ($(cat "$WORK/client.err"))" "$STATUS" 0
	else
		check_eq "$1: status" "$STATUS" 1
		grep -q "$2" "$WORK/client.err" || fail "$1: the client says: $(cat "$WORK/client.err")"
	fi
	job_wait server 30
	job_wait relay 30
	note "ok $1: $(tail -n 1 "$WORK/client.err")"
}

listens() { ss -Hltn "sport = :$1" | grep -q LISTEN; }

need ss
run nothing ""
run lose "offset 700041: 40 bytes lost"
run double "offset 700001: 40 bytes doubled"
run change "byte 700001 is"
run swap "offset 700065: 64 bytes lost"
run cut "\(ended\|returned\) early"
