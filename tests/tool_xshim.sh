#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The command xshim: what run sets and returns, what ss and stat make of a report and of a daemon that misbehaves in
# each way, what doctor finds, and that its manual names every option and every field of the JSON.
# The daemon of most cases is a fake that answers as it is told; the last part asks the real one.

src=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd)
build=${XSHIM_BUILD:-$PWD}
tool=${XSHIM_TOOL:-$build/xshim}
lib=$build/.libs/libxshim.so
# What stands before the library in XSHIM_PRELOAD is a sanitizer's runtime.
runtime=
case ${XSHIM_PRELOAD:-} in *:*) runtime=${XSHIM_PRELOAD%:*} ;; esac
for v in $(compgen -e XSHIM_); do unset "$v"; done
unset LD_PRELOAD

[ -x "$tool" ] || { echo "skip: $tool is not built"; exit 77; }
[ -f "$lib" ] || { echo "skip: $lib is not built"; exit 77; }
python=/usr/bin/python3
[ -x $python ] || python=$(command -v python3) || { echo "skip: no python3 for the fake daemon"; exit 77; }

work=$(mktemp -d) || exit 99
chmod 755 "$work"
pids=
failed=0
cases=0

finish() {
	local p
	for p in $pids; do
		kill -CONT "$p" 2>/dev/null
		kill -KILL "$p" 2>/dev/null
	done
	wait 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

fail() {
	echo "FAIL: $*"
	sed 's/^/    out: /' "$work/out" | head -n 16
	sed 's/^/    err: /' "$work/err" | head -n 16
	failed=1
}

# try STATUS COMMAND...: runs it, no longer than 10 s
try() {
	local want=$1 status
	shift
	cases=$((cases + 1))
	timeout 10 "$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ $status -eq "$want" ] || fail "'${*##*/}': status $status, expected $want"
}

out_has() { grep -qE -- "$1" "$work/out" || fail "output lacks '$1'"; }
out_lacks() { ! grep -qE -- "$1" "$work/out" || fail "output has '$1'"; }
err_has() { grep -qE -- "$1" "$work/err" || fail "stderr lacks '$1'"; }
err_is_one_line() { [ "$(wc -l <"$work/err")" -eq 1 ] || fail "stderr is not one line"; }

# wait_for CONDITION...: at most a minute
wait_for() {
	local deadline=$((SECONDS + 60))
	while [ $SECONDS -lt $deadline ]; do
		"$@" && return 0
		sleep 0.02
	done
	echo "FAIL: gave up waiting for: $*"
	failed=1
	return 1
}

cat >"$work/report.json" <<'J'
{"version":1,"instance":"00000000000000ab","connections":[
{"netns":1,"local":"10.0.0.1:80","remote":"10.0.0.2:4242","pid":11,"uid":0,"command":"nginx","role":"accept","transport":"ring","backend":"xen","reason":"ring","peer_reason":"ring","ring_tx":1000,"ring_rx":2000,"tcp_tx":3,"tcp_rx":4,"attaches":1,"leaves":0,"switches":2,"bells_rung":0,"bells_got":0,"sleeps":0},
{"netns":4,"local":"10.0.0.2:4242","remote":"10.0.0.1:80","pid":22,"uid":0,"command":"a\u001b[2Jb","role":"connect","transport":"tcp","backend":null,"reason":"not-coresident","peer_reason":null,"ring_tx":0,"ring_rx":0,"tcp_tx":5,"tcp_rx":6,"attaches":0,"leaves":0,"switches":0,"bells_rung":0,"bells_got":0,"sleeps":0},
{"netns":4,"local":"[fd00::1]:9","remote":"[fd00::2]:10","pid":22,"uid":0,"command":"x","role":"unknown","transport":"switching","reason":"switching","peer_reason":"switching","ring_tx":0,"ring_rx":0,"tcp_tx":7,"tcp_rx":8,"attaches":1,"leaves":0,"switches":1,"bells_rung":0,"bells_got":0,"sleeps":0}]}
J
cat >"$work/totals.json" <<'J'
{"version":1,"instance":"00000000000000ab","uptime_s":12,"clients":3,
"connections":{"open":2,"on_ring":1,"ended":10,"ended_on_ring":4},
"bytes":{"ring_tx":300,"ring_rx":200,"tcp_tx":100,"tcp_rx":200},
"counters":{"attaches":5,"leaves":1,"switches":10,"bells_rung":6,"bells_got":6,"sleeps":7},
"reasons":{"ring":{"open":1,"ended":4},"no-daemon":{"open":1,"ended":6},"later-one":{"open":0,"ended":1}},
"daemon":{"offers":5,"claims":5,"matched":5,"declined":{"quota":2},"probes_ok":1,"probes_failed":0,"bad_messages":0,"offers_waiting":0,"endpoints":2,"clients_total":9,"arenas":3},
"role":"guest","xen":{"domid":3,"guests":2,"peers":1,"channels":4,"channels_total":7}}
J

# of the protocol with clients, as this tree has it
FAKE_VERSION=$(sed -n 's/^#define XSHIM_PROTO_VERSION \([0-9]*\)$/\1/p' "$src/include/xshim/proto.h")
[ -n "$FAKE_VERSION" ] || { echo "FAIL: no version in proto.h"; exit 99; }
export FAKE_VERSION
cat >"$work/fake.py" <<'P'
# fake.py SOCKET MODE [REPORT]: a daemon for one trial; its socket appears when it listens.
import fcntl, os, signal, socket, struct, sys

MAGIC, WELCOME, REFUSED, REPORT = 0x58534843, 2, 3, 15
ALL = 1 | 2 | 4 | 8         # F_SEAL_SEAL, SHRINK, GROW, WRITE
OURS = int(os.environ["FAKE_VERSION"])

def header(kind, length, version=OURS):
    return struct.pack("=IHHII", MAGIC, version, kind, length, 0)

def memory(data, seals=ALL, size=None):
    fd = os.memfd_create("fake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, len(data) if size is None else size)
    os.pwrite(fd, data, 0)
    fcntl.fcntl(fd, 1033, seals)
    return fd

path, mode = sys.argv[1:3]
texts = [open(name, "rb").read() for name in sys.argv[3:]]
co_map = memory(struct.pack("=IHHQ", 0x5853484d, 2, 0, 0xab), 1 | 2 | 4 | 16, 4096 + 8 * 8192 + 8 * 16384 + 16 * 4096 + 16 * 1024)
welcome = header(WELCOME, 64) + struct.pack("=IIQ32s", 0, 0, 0xac if mode == "othermap" else 0xab, b"fake")

server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if mode == "stream" else socket.SOCK_SEQPACKET)
server.bind(path + ".new")
os.chmod(path + ".new", 0o666)
server.listen(0 if mode == "full" else 8)
waiting = []
if mode == "full":
    try:
        while True:
            c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            c.setblocking(False)
            c.connect(path + ".new")
            waiting.append(c)
    except BlockingIOError:
        pass
os.rename(path + ".new", path)
if mode == "full":
    signal.pause()

def serve(conn):
    if mode == "quota":     # before HELLO is read, as a daemon at its limit does
        conn.send(header(REFUSED, 24) + struct.pack("=IHH", 10, 1, 1))
        return
    hello = conn.recv(256)
    if len(hello) != 72 or hello[:16] != header(1, 72) or struct.unpack("=I", hello[20:24])[0] != 2:
        return
    if mode == "refused":
        conn.send(header(REFUSED, 24) + struct.pack("=IHH", 3, OURS + 1, OURS + 2))
    elif mode == "newer":
        conn.send(header(WELCOME, 96, OURS + 3) + bytes(80))
    elif mode == "garbage":
        conn.send(b"x" * 100)
    elif mode == "long":
        conn.send(bytes(4000))
    elif mode == "nomap":
        conn.send(welcome)
    elif mode == "twomaps":
        socket.send_fds(conn, [welcome], [co_map, co_map])
    elif mode == "silent":
        conn.recv(256)
    elif mode != "close":
        socket.send_fds(conn, [welcome], [co_map])
        answer(conn)

def answer(conn):
    ask = conn.recv(256)
    if mode.startswith("drain") and len(ask) == 24 and ask[:16] == struct.pack("=IHHII", MAGIC, OURS, 19, 24, 1):
        domid, end = struct.unpack("=II", ask[16:24])
        if mode == "drainno":
            conn.send(header(11, 24) + struct.pack("=IHH", 7, 2, 2))
        elif mode == "drainhang":
            conn.recv(256)
        elif (domid, end) in ((3, 0), (0xffffffff, 1)):
            conn.send(header(20, 24) + struct.pack("=II", domid, 5 if mode == "drainleft" else 0))
        return
    if len(ask) != 24 or ask[:16] != header(14, 24):
        return
    what = struct.unpack("=I", ask[16:20])[0]
    text = texts[what - 1] if texts else b"{}"
    if mode == "unsealed":
        fd = memory(text, 1)
    elif mode == "huge":
        fd = memory(text, ALL, (64 << 20) + 1)
    elif mode == "empty":
        fd = memory(b"")
    elif mode == "pipe":
        fd = os.pipe()[0]
    elif mode == "notjson":
        fd = memory(b'{"version":1,')
    elif mode == "list":
        fd = memory(b"[]")
    elif mode == "version2":
        fd = memory(b'{"version":2}')
    elif mode == "bare":
        fd = memory(b'{"version":1}')
    elif mode == "noreport":
        conn.recv(256)
        return
    else:
        fd = memory(text)
    socket.send_fds(conn, [header(REPORT, 16)], [fd])
    conn.recv(256)

while True:
    conn, _ = server.accept()
    try:
        serve(conn)
    except OSError:
        pass
    conn.close()
P

# serve MODE [PREFIX...]: starts the fake, sets $sock and $server
serve() {
	local mode=$1
	shift
	sock=$work/$mode.sock
	rm -f "$sock"
	"$@" $python "$work/fake.py" "$sock" "$mode" "$work/report.json" "$work/totals.json" &
	server=$!
	pids="$pids $server"
	wait_for test -S "$sock"
}

end_server() {
	kill -KILL "$server"
	wait "$server" 2>/dev/null
	pids=${pids% *}
}

echo "# run"
run() { env ${runtime:+LD_PRELOAD="$runtime"} "$tool" run "$@"; }
export -f run
export tool runtime
try 0 bash -c 'run env'
out_has "^LD_PRELOAD=(.*:)?$lib\$"
try 0 bash -c 'LD_PRELOAD= run --lib="$0" -- sh -c "echo \$LD_PRELOAD"' "$lib"
out_has "$lib"
try 0 env LD_PRELOAD="${runtime:+$runtime:}libdl.so.2" "$tool" run sh -c 'echo $LD_PRELOAD'
out_has "^(.*:)?$lib:libdl.so.2\$"
try 0 env LD_PRELOAD="${runtime:+$runtime:}$lib" "$tool" run sh -c 'echo $LD_PRELOAD'
out_has "^${runtime:+$runtime:}$lib\$"
mkdir "$work/san"
cp "$lib" "$work/san/libasan.so.99"
try 0 env LD_PRELOAD="$work/san/libasan.so.99 /nowhere/other.so" "$tool" run sh -c 'echo $LD_PRELOAD'
[ -n "$runtime" ] || out_has "^$work/san/libasan.so.99:$lib /nowhere/other.so\$"
try 0 bash -c 'run --ring-size=8192 --disable --log=debug:/dev/null --socket=/tmp/s --trigger-ops 3 -- env'
for v in RING_SIZE=8192 DISABLE=1 LOG=debug:/dev/null SOCKET=/tmp/s TRIGGER_OPS=3; do out_has "^XSHIM_$v\$"; done
try 0 bash -c 'run printf "%s\n" --ring-size=1 -x'
out_has '^--ring-size=1$'
try 42 bash -c 'run sh -c "exit 42"'
try 127 bash -c 'PATH=/usr/bin:/bin run no-such-program'
err_has '^xshim: cannot run no-such-program: '
try 126 "$tool" run /etc/passwd
err_is_one_line
try 125 "$tool" run
try 125 "$tool" run --no-such-option true
for bad in ring-size=5000 ring-size=2048 ring-size= ring-size=0x1000 ring-size=8192k ring-size=-8192 disable=2 \
	spin-us=99999999999999999999 log=loud socket=relative.sock; do
	try 125 "$tool" run --$bad true
	err_has "^xshim run: XSHIM_[A-Z_]*=${bad#*=}: "
done
try 125 "$tool" run --lib=/nowhere/libxshim.so true
err_has '^xshim: cannot preload: --lib=/nowhere/libxshim.so: .*; '
try 125 env XSHIM_LIB=/nowhere/l.so "$tool" run true
err_has 'XSHIM_LIB=/nowhere/l.so'
mkdir "$work/a b"
cp "$lib" "$work/a b/libxshim.so"
try 125 "$tool" run --lib="$work/a b/libxshim.so" true
err_has 'blank or a colon'

echo "# usage"
try 2 "$tool"
try 2 "$tool" frobnicate
err_has "unknown command 'frobnicate'"
try 2 "$tool" ss --pid=x
try 2 "$tool" ss nonsense
err_has "state 'nonsense': one of"
try 2 "$tool" ss --count=3
try 2 "$tool" ss --watch=0
try 2 "$tool" stat something
try 2 "$tool" doctor --no-such-option
try 0 "$tool" --version
out_has '^xshim [0-9u]'

echo "# reports"
serve good
export XSHIM_SOCKET=$sock
try 0 "$tool" ss
out_has '^NETNS  LOCAL +REMOTE +PID  COMMAND +TRANSPORT  BACKEND +REASON +PEER-REASON +RING-TX +RING-RX +TCP-TX +TCP-RX$'
out_has '^ +1  10.0.0.1:80 +10.0.0.2:4242 +11  nginx +ring +xen +ring +ring +1000 +2000 +3 +4$'
out_has '^ +4  10.0.0.2:4242 +10.0.0.1:80 +22  a\?\[2Jb +tcp +- +not-coresident +- +0 +0 +5 +6$'
[ "$(wc -l <"$work/out")" -eq 4 ] || fail "ss: not 3 rows and a header"
rows() { [ "$(($(wc -l <"$work/out") - 1))" -eq "$1" ] || fail "not $1 rows"; }
try 0 "$tool" ss ring; rows 1; out_has nginx
try 0 "$tool" ss state tcp switching; rows 2; out_lacks nginx
try 0 "$tool" ss -p 22; rows 2
try 0 "$tool" ss -p 22 tcp; rows 1
try 0 "$tool" ss -a :80; rows 2
try 0 "$tool" ss -a fd00; rows 1
try 0 "$tool" ss -a 192.168; rows 0
try 0 "$tool" ss --json
diff <(jq -S . "$work/report.json") <(jq -S . "$work/out") >/dev/null || fail "ss --json is not the report"
try 0 "$tool" ss --json -p 11
[ "$(jq -c '[.version, [.connections[].pid]]' "$work/out")" = '[1,[11]]' ] || fail "ss --json -p 11: wrong rows"
try 0 "$tool" ss --json --watch=0.01 --count=3
[ "$(jq -s length "$work/out"),$(wc -l <"$work/out")" = 3,3 ] || fail "--watch --json: not one line a report"
try 0 "$tool" stat
out_has '^xshimd 00000000000000ab, up 12 s, 3 clients$'
out_has '^sent +300 +100 +75.00 %$'
out_has '^received +200 +200 +50.00 %$'
out_has '^declined +quota 2$'
out_has '^xen +.*guests 2, .*channels 4'
out_has '^role +guest$'
out_has '^no-daemon +1 +6  xshimd cannot be reached at its socket$'
out_has '^later-one +0 +1  not known'
try 0 "$tool" stat --json
diff <(jq -S . "$work/totals.json") <(jq -S . "$work/out") >/dev/null || fail "stat --json is not the report"
try 1 bash -c '"$tool" stat >/dev/full'
err_has 'cannot write to standard output'
XSHIM_SOCKET=/nowhere/x try 0 "$tool" stat --socket="$sock"
try 0 "$tool" doctor
out_lacks '^fail'
out_has '^ok: xshimd answers at '
out_has "^ok: $lib can be loaded\$"
try 0 "$tool" doctor --json
[ "$(jq -r '.version, .failed, (.findings | map(.check) | index("daemon") != null)' "$work/out" | tr '\n' ' ')" = \
	"1 0 true " ] || fail "doctor --json"
XSHIM_RING_SIZE=5 XSHIM_BOGUS=1 XSHIM_DISABLE=1 try 0 "$tool" doctor
out_has '^warn: XSHIM_RING_SIZE=5: not a number from 4096 .*; '
out_has '^warn: XSHIM_BOGUS is not a variable'
out_has '^warn: XSHIM_DISABLE=1 is set'

echo "# drain"
try 2 "$tool" drain 1 2
try 2 "$tool" drain -- -1
try 2 "$tool" drain 32752
try 2 "$tool" drain web1
try 2 "$tool" drain --timeout=0
for mode in drained drainleft drainno drainhang; do
	serve $mode
	case $mode in
	drained)
		try 0 "$tool" drain --socket="$sock" 3
		out_has '^drained$'
		try 0 "$tool" drain --socket="$sock" --end
		out_has '^ended$'
		try 0 "$tool" drain --socket="$sock" -q 3
		[ ! -s "$work/out" ] || fail "drain -q prints"
		;;
	drainleft)
		try 1 "$tool" drain --socket="$sock" 3
		err_is_one_line
		err_has '^xshim: 5 connections are left'
		;;
	drainno)
		try 1 "$tool" drain --socket="$sock"
		err_is_one_line
		err_has 'from root alone'
		;;
	drainhang)
		try 1 "$tool" drain --socket="$sock" --timeout=1
		err_is_one_line
		err_has 'does not answer'
		;;
	esac
	end_server
done
serve good
export XSHIM_SOCKET=$sock

echo "# a daemon that is stopped, and one that has gone"
kill -STOP "$server"
try 1 "$tool" ss
err_is_one_line
err_has "^xshim: $sock: xshimd \(pid $server\) is stopped; "
try 1 "$tool" doctor
out_has "^fail: .*is stopped; "
kill -CONT "$server"
end_server
try 1 "$tool" stat
err_is_one_line
err_has "^xshim: $sock: nobody listens on it.*; "
rm "$sock"
try 1 "$tool" stat
err_has "^xshim: $sock: there is no socket: xshimd is not running here; start xshimd"
try 1 "$tool" ss --socket="$(printf 'x%.0s' {1..200})"
err_has '1 to 107 bytes'
try 1 "$tool" ss --watch=0.01 --count=2
[ "$(wc -l <"$work/err")" -eq 2 ] || fail "--watch ended at the first error"

echo "# a daemon that misbehaves"
# mode|command|what stderr says
while IFS='|' read -r mode command text; do
	serve "$mode"
	try 1 "$tool" "$command" --socket="$sock"
	err_is_one_line
	err_has "^xshim: $sock: $text.*; ."
	end_server
done <<T
refused|ss|xshimd speaks protocol $((FAKE_VERSION + 1)) to $((FAKE_VERSION + 2)), this command version $FAKE_VERSION
newer|ss|xshimd speaks protocol $((FAKE_VERSION + 3)) to $((FAKE_VERSION + 3))
quota|stat|xshimd refused us: quota \(
garbage|ss|bad message while WELCOME is due: magic
long|ss|cannot read WELCOME
nomap|ss|bad message while WELCOME is due: number of descriptors \(0\)
twomaps|ss|bad message while WELCOME is due: number of descriptors \(2\)
close|ss|the connection was closed before WELCOME came
silent|ss|pid [0-9]+ listens but does not answer within 2000 ms
full|ss|pid [0-9]+ listens but|somebody listens but
stream|ss|the socket there is of another type
unsealed|ss|the report is not sealed memory \(seals 0x1\)
huge|ss|the report has 67108865 bytes
empty|ss|the report has 0 bytes
pipe|ss|the report is not sealed memory
notjson|stat|the report is not a JSON object
list|stat|the report is not a JSON object
version2|stat|the report has version 2, this command knows 1
noreport|stat|pid [0-9]+ listens but does not answer
T
serve bare
try 0 "$tool" ss --socket="$sock"
try 0 "$tool" stat --socket="$sock"
end_server
serve newer
try 1 "$tool" doctor --socket="$sock"
out_has "^fail: .*speaks protocol $((FAKE_VERSION + 3))"
end_server
serve othermap
try 1 "$tool" doctor --socket="$sock"
out_has '^fail: the co-residency map is of another instance'
end_server
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	mkdir "$work/theirs"
	chown 65533 "$work/theirs"
	sock=$work/theirs/s
	setpriv --reuid=65533 --clear-groups $python "$work/fake.py" "$sock" good "$work/report.json" "$work/totals.json" &
	server=$!
	pids="$pids $server"
	wait_for test -S "$sock"
	try 1 "$tool" doctor --socket="$sock"
	out_has '^fail: the daemon runs as .*uid 65533.*neither root nor xshim'
	out_has "^warn: $work/theirs belongs to uid 65533"
	end_server
	chmod 777 "$work/theirs"
	try 1 "$tool" doctor --socket="$sock"
	out_has '^warn: .*mode 0777'
else
	echo "note: not root, no daemon of another user tried"
fi

echo "# programs"
cat >"$work/patch.py" <<'P'
# patch.py KIND FROM TO: a program that is special in one way, out of an ordinary 64-bit little-endian one
import os, struct, sys

kind, source, target = sys.argv[1:]
b = bytearray(open(source, "rb").read())
if b[:6] != b"\x7fELF\x02\x01":
    sys.exit(77)
phoff, = struct.unpack_from("<Q", b, 32)
phnum, = struct.unpack_from("<H", b, 56)

def headers(kind):
    return [phoff + 56 * i for i in range(phnum) if struct.unpack_from("<I", b, phoff + 56 * i)[0] == kind]

if kind == "32bit":
    b[4] = 1
elif kind == "bigendian":
    b[5] = 2
elif kind == "machine":
    struct.pack_into("<H", b, 18, 8)
elif kind == "static":
    for h in headers(3):
        struct.pack_into("<I", b, h, 0)
elif kind in ("musl", "nointerp"):
    off, = struct.unpack_from("<Q", b, headers(3)[0] + 8)
    size, = struct.unpack_from("<Q", b, headers(3)[0] + 32)
    name = b"/lib/ld-musl-x.so.1" if kind == "musl" else b"/nowhere/ld.so.2"
    b[off:off + size] = name.ljust(size, b"\0")
elif kind == "gosection":
    assert b.count(b"\0.eh_frame_hdr\0") == 1
    b = b.replace(b"\0.eh_frame_hdr\0", b"\0.go.buildinfo\0")
elif kind == "gonote":
    note = struct.pack("<III4s8s", 4, 8, 4, b"Go\0\0", b"build-id")
    h = headers(4)[0]
    struct.pack_into("<Q", b, h + 8, len(b))
    struct.pack_into("<Q", b, h + 32, len(note))
    b += note
elif kind == "damaged":
    del b[100:]
elif kind == "phnum":
    struct.pack_into("<H", b, 56, 0xffff)
open(target, "wb").write(b)
os.chmod(target, 0o755)
P
serve good
true_bin=$(type -P true)
# judge TEXT PROGRAM: TEXT starts with the level
judge() {
	local want=1
	case $1 in fail*) ;; *) want=0 ;; esac
	try $want "$tool" doctor --socket="$sock" -- "$2"
	out_has "^$1"
}
judge 'ok: .*/true gains no rights' true
judge 'ok: .*/true is dynamically linked' "$true_bin"
out_lacks '^(fail|warn: .*/true)'
while IFS='|' read -r kind text; do
	$python "$work/patch.py" "$kind" "$(readlink -f "$true_bin")" "$work/$kind"
	case $? in
	0) judge "$text" "$work/$kind" ;;
	77) echo "note: $true_bin is not a 64-bit little-endian program, $kind not tried" ;;
	*) fail "cannot make a program that is $kind" ;;
	esac
done <<'T'
32bit|fail: .*/32bit is 32-bit .*, libxshim.so is not; 
bigendian|fail: .*/bigendian is 64-bit, of the other byte order
machine|fail: .*/machine is 64-bit mips
static|fail: .*/static is statically linked
musl|fail: .*/musl needs /lib/ld-musl-x.so.1 \(musl\), libxshim.so is built for glibc
nointerp|fail: .*/nointerp needs /nowhere/ld.so.2: No such file
gosection|fail: .*/gosection is made by Go
gonote|fail: .*/gonote is made by Go
damaged|fail: .*/damaged: damaged ELF file
phnum|fail: .*/phnum: damaged ELF file
T
script() { printf "$2" >"$work/$1"; chmod 755 "$work/$1"; }
script s1 '#!/bin/sh\ntrue\n'
judge 'ok: .*/s1 is a script, run by /bin/sh' "$work/s1"
out_has '^ok: /bin/sh is dynamically linked'
script s2 '#! /usr/bin/env -S FOO=1 true\n'
judge 'ok: .*/s2 is a script, run by .*/true' "$work/s2"
if [ -x "$work/static" ]; then
	script s3 "#!$work/static\n"
	judge 'fail: .*/static is statically linked' "$work/s3"
fi
script s4 '#!/nowhere/interp\n'
judge 'fail: .*/s4: its interpreter /nowhere/interp cannot be run' "$work/s4"
script s5 "#!$work/s5\n"
judge 'fail: .*/s5: too many interpreters' "$work/s5"
script s6 '#!\n'
judge 'fail: .*/s6: no interpreter after' "$work/s6"
script s7 'true\n'
judge 'warn: .*/s7: neither ELF nor #!' "$work/s7"
: >"$work/empty" && chmod 755 "$work/empty"
judge 'warn: .*/empty: neither' "$work/empty"
judge 'fail: no-such-program: not found' no-such-program
judge 'fail: /etc/passwd: not found, or may not be run' /etc/passwd
judge 'fail: : not found' ''
cp "$true_bin" "$work/$(printf 'new\nline\377')"
judge 'ok: .*/new\?line\? is dynamically' "$work/$(printf 'new\nline\377')"
if ${CC:-cc} -x c -shared -fPIC -Wl,-soname,liburing.so.2 -o "$work/liburing.so" /dev/null 2>/dev/null &&
	echo 'int main(void) { return 0; }' |
		${CC:-cc} -x c - -x none -Wl,--no-as-needed "$work/liburing.so" -o "$work/uring" 2>/dev/null; then
	judge 'warn: .*/uring uses liburing' "$work/uring"
else
	echo "note: no compiler, nothing linked with liburing"
fi
if [ "$(id -u)" -eq 0 ] && ! findmnt -no OPTIONS -T "$work" | grep -q nosuid; then
	cp "$true_bin" "$work/suid" && chown 65533:65533 "$work/suid"
	chmod 4755 "$work/suid"
	judge 'fail: .*/suid is set-user-ID' "$work/suid"
	chmod 2755 "$work/suid"
	judge 'fail: .*/suid is set-group-ID' "$work/suid"
	chown 0:0 "$work/suid" && chmod 4755 "$work/suid"
	judge 'warn: .*/suid is privileged: for this user' "$work/suid"
	cp "$true_bin" "$work/caps"
	if $python -c 'import os, struct, sys
os.setxattr(sys.argv[1], "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))' "$work/caps" 2>/dev/null; then
		judge 'warn: .*/caps is privileged' "$work/caps"
		# The build tree may stand where another user cannot look.
		if setpriv --reuid=65533 --clear-groups test -x "$tool" && setpriv --reuid=65533 --clear-groups test -r "$lib"; then
			try 1 setpriv --reuid=65533 --clear-groups "$tool" doctor --socket="$sock" -- "$work/caps"
			out_has '^fail: .*/caps has file capabilities'
		fi
	fi
else
	echo "note: not root, or $work is mounted nosuid: no privileged programs tried"
fi
try 1 "$tool" doctor --socket="$sock" --lib=/etc/passwd
out_has '^fail: /etc/passwd: not a library'
[ ! -e "$work/damaged" ] || { try 1 "$tool" doctor --socket="$sock" --lib="$work/damaged"; out_has '^fail: .*damaged: not a library'; }
end_server
unset XSHIM_SOCKET

echo "# the manual"
sed 's/\\-/-/g' "$src/tools/xshim.1" >"$work/manual"
in_manual() { grep -qE -- "(^|[^a-z_-])$1([^a-z_-]|\$)" "$work/manual" || fail "xshim.1 does not name $1"; }
for c in run ss stat doctor drain; do
	"$tool" $c --help >"$work/out" 2>"$work/err" || fail "$c --help"
	for option in $(grep -oE -- '--[a-z-]+' "$work/out" | grep -v -- '^--$' | sort -u); do
		[ "$option" = --lib ] || in_manual "$option"
		cases=$((cases + 1))
	done
done
keys() { jq -r '[paths | map(select(type == "string"))[]] | unique[]' "$1"; }
for key in $(keys "$work/report.json") $(keys "$work/totals.json" | grep -vxE 'ring|no-daemon|later-one|quota'); do
	in_manual "$key"
	cases=$((cases + 1))
done

echo "# the real daemon"
daemon=${XSHIMD:-$build/xshimd}
if [ -x "$daemon" ]; then
	export XSHIM_SOCKET=$work/xshimd.sock
	"$daemon" --socket="$XSHIM_SOCKET" >"$work/daemon.log" 2>&1 </dev/null &
	server=$!
	pids="$pids $server"
	answers() { "$tool" stat >/dev/null 2>&1; }
	wait_for answers || cat "$work/daemon.log"
	if grep -q "role local" "$work/daemon.log"; then
		try 1 "$tool" drain
		err_is_one_line
	fi
	try 0 "$tool" doctor -- true
	out_lacks '^fail'
	cat >"$work/pair.py" <<'P'
# pair.py server|client FILE: round trips of 4096 bytes until FILE.enough is there; then holds the connection until stdin ends
import itertools, os, socket, sys

def whole(s):
    data = b""
    while len(data) < 4096:
        more = s.recv(4096 - len(data))
        if not more:
            sys.exit("connection ended early")
        data += more
    return data

name = sys.argv[2]
if sys.argv[1] == "server":
    listener = socket.create_server(("127.0.0.1", 0))
    with open(name + ".new", "w") as f:
        f.write(str(listener.getsockname()[1]))
    os.rename(name + ".new", name)
    s = listener.accept()[0]
else:
    s = socket.create_connection(("127.0.0.1", int(open(name).read())))
for i in itertools.count():
    last = sys.argv[1] == "client" and os.path.exists(name + ".enough")
    b = bytes([255 if last else i % 255]) * 4096
    if sys.argv[1] == "client":
        s.sendall(b)
    got = whole(s)
    if got != b and (sys.argv[1] == "client" or got != bytes([255]) * 4096):
        sys.exit("wrong bytes")
    if sys.argv[1] == "server":
        s.sendall(got)
    if got[0] == 255:
        break
open(name + "." + sys.argv[1], "w").close()
sys.stdin.read()
P
	mkfifo "$work/hold"
	# exec: $! is the program itself. The writing half of the fifo is ours alone, else it would never end.
	pair() { exec env ${runtime:+LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0} "$tool" run $python "$work/pair.py" "$1" "$work/port" <"$work/hold" 9>&-; }
	pair server &
	pids="$pids $!"
	exec 9>"$work/hold"
	wait_for test -s "$work/port"
	pair client &
	client=$!
	pids="$pids $client"
	port=$(cat "$work/port")
	both_on_ring() {
		[ "$("$tool" ss --json ring -a ":$port" | jq '[.connections[] |
			select(.reason == "ring" and .peer_reason == "ring" and .ring_tx > 1000000)] | length')" = 2 ]
	}
	wait_for both_on_ring
	: >"$work/port.enough"
	wait_for test -e "$work/port.client"
	wait_for test -e "$work/port.server"
	try 0 "$tool" ss -a ":$port"
	[ "$(grep -c "127.0.0.1:$port" "$work/out")" -ge 2 ] || fail "ss does not show both ends"
	try 0 "$tool" ss --json ring -a ":$port"
	[ "$(jq '[.connections[] | select(.reason == "ring" and .peer_reason == "ring" and .ring_tx > 1000000)] | length' "$work/out")" = 2 ] ||
		fail "the two ends are not on a ring"
	for key in $(keys "$work/out"); do in_manual "$key"; done
	try 0 "$tool" ss -p "$client"
	out_has "127.0.0.1:$port"
	exec 9>&-
	gone() { ! kill -0 "$client" 2>/dev/null; }
	wait_for gone || kill -KILL "$client"
	wait "$client" || fail "client: status $?"
	ended() { [ "$("$tool" stat --json | jq '.connections.ended_on_ring >= 2')" = true ]; }
	wait_for ended
	try 0 "$tool" stat --json
	[ "$(jq '.bytes.ring_tx > 1000000 and (.reasons.ring.ended >= 2)' "$work/out")" = true ] || fail "totals lack the ended pair"
	for key in $(jq 'del(.reasons, .daemon.declined)' "$work/out" >"$work/keys" && keys "$work/keys"); do in_manual "$key"; done
	kill -STOP "$server"
	try 1 "$tool" stat
	err_has "xshimd \(pid $server\) is stopped"
	kill -CONT "$server"
else
	echo "note: $daemon is not built, only the fake was asked"
fi

echo "$cases cases"
exit $failed
