#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Descriptors that rings take and the program needs (preload/privfd.h): many connections have rings, up to three quarters of what the limit
# allows; and a program that then uses up all numbers gets as many as without us, but for the few that we keep for the process, because
# connections that are idle leave their rings. They work on, by TCP, and come back to none while there is no room. Each call that makes a
# descriptor does that by itself where none is free, and the usual ones before.
#
#   preload_room.sh [many|used_up|before|each|shrinks]
. "${srcdir:-$(dirname "$0")/..}/tests/lib/dialogue.sh"

PORT=7990
LIMIT=1024
CONNECTIONS=200
KEPT=10		# of ours that do not go: to xshimd, its map, where the counters are, the log, what is on its way

SERVER='
import resource, select, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]),) * 2)
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=1000)
ep = select.epoll()
ep.register(s, select.EPOLLIN)
all = {}
while True:
    for fd, what in ep.poll():
        if fd == s.fileno():
            c, _ = s.accept()
            all[c.fileno()] = c
            ep.register(c, select.EPOLLIN)
            continue
        data = all[fd].recv(1000)
        if not data:
            all.pop(fd).close()
            if not all:
                sys.exit(0)
        else:
            all[fd].sendall(data)
'
# Lines on its input: trips N | sockets and the other kinds, until none is left | open N | pass N | send | take | make KIND | free | limit N;
# an answer each
CLIENT='
import ctypes, os, resource, select, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
def limit(n):
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, most))
limit(int(sys.argv[3]))
all = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for i in range(int(sys.argv[4]))]
more = []
def until_none(make):
    n = 0
    try:
        while True:
            more.append(make())
            n += 1
    except OSError as e:
        return n, e.strerror
lib = ctypes.CDLL(None, use_errno=True)
directory = sys.argv[5].encode()
class Made:
    def __init__(self, *fds):
        self.fds = fds
    def close(self):
        for fd in self.fds:
            os.close(fd)
def call(name, *args, result=ctypes.c_int):
    made = getattr(lib, name)
    made.restype = result
    ctypes.set_errno(77)    # no call that succeeds changes it
    rc = made(*args)
    if rc == -1 or rc is None:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return rc
def stream(name, *args):
    return call(name, *args, result=ctypes.c_void_p)
def number(f):
    lib.fileno.argtypes = [ctypes.c_void_p]
    return lib.fileno(f)
def pair(name, *args):
    fds = (ctypes.c_int * 2)()
    call(name, *args, fds)
    return Made(*fds)
def pair_first(name, *args):
    fds = (ctypes.c_int * 2)()
    call(name, fds, *args)
    return Made(*fds)
def terminal(name):
    fds = ctypes.c_int(), ctypes.c_int()
    pid = call(name, ctypes.byref(fds[0]), *([None] * 3 if name == "forkpty" else [ctypes.byref(fds[1]), None, None, None]))
    if name == "forkpty":
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        return Made(fds[0].value)
    return Made(fds[0].value, fds[1].value)
files = 0
def fresh():
    global files
    files += 1
    return b"%s/%d.%d" % (directory, os.getpid(), files)
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL    # a second try would find the file
at = os.open(directory, os.O_RDONLY)
streams = [call("fopen", b"/dev/null", b"r", result=ctypes.c_void_p) for i in range(2)]
def again(name, f):
    was = number(f)
    stream(name, b"/dev/zero", b"r", ctypes.c_void_p(f))
    if number(f) != was:
        raise RuntimeError(f"{number(f)}, not {was}")
    return Made(was)
def temporary(name, *args):
    path = ctypes.create_string_buffer(fresh() + b"X" * 6 + (b".c" if args and "mps" in name else b""))
    fd = call(name, path, *args)
    if os.fstat(fd).st_ino != os.stat(path.value).st_ino:
        raise RuntimeError(path.value)
    return Made(fd)
def shared(name, *args):
    path = b"/" + os.path.basename(fresh())
    made = Made(call(name, path, NEW, *args))
    lib.shm_unlink(path)
    return made
lib.unshare(0x08000000)    # CLONE_NEWIPC: queues go with us
queue = b"/" + os.path.basename(fresh())
lib.close(lib.mq_open(queue, NEW, 0o600, None))
def handle():
    h = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136)
    call("name_to_handle_at", at, b"", h, ctypes.byref(ctypes.c_int()), 0x1000)
    return Made(call("open_by_handle_at", at, h, os.O_RDONLY))
def by_number(nr, *args):
    return Made(call("syscall", ctypes.c_long(nr), *args, result=ctypes.c_long))
kinds = {
    "fopen": lambda: Made(number(stream("fopen", fresh(), b"wx"))),
    "_IO_fopen": lambda: Made(number(stream("_IO_fopen", fresh(), b"wx"))),
    "fopen64": lambda: Made(number(stream("fopen64", fresh(), b"wx"))),
    "freopen": lambda: again("freopen", streams[0]),
    "freopen64": lambda: again("freopen64", streams[1]),
    "tmpfile": lambda: Made(number(stream("tmpfile"))),
    "tmpfile64": lambda: Made(number(stream("tmpfile64"))),
    "popen": lambda: Made(number(stream("popen", b"exit 0", b"r"))),
    "opendir": lambda: Made(lib.dirfd(ctypes.c_void_p(stream("opendir", b"/")))),
    "pipe": lambda: pair("pipe"), "__pipe": lambda: pair("__pipe"), "pipe2": lambda: pair_first("pipe2", os.O_CLOEXEC),
    "socketpair": lambda: pair("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "openpty": lambda: terminal("openpty"), "forkpty": lambda: terminal("forkpty"),
    "posix_openpt": lambda: Made(call("posix_openpt", os.O_RDWR)), "getpt": lambda: Made(call("getpt")),
    "eventfd": lambda: Made(call("eventfd", 0, 0)),
    "signalfd": lambda: Made(call("signalfd", -1, bytes(128), 0)),
    "timerfd_create": lambda: Made(call("timerfd_create", 1, 0)),
    "inotify_init": lambda: Made(call("inotify_init")), "inotify_init1": lambda: Made(call("inotify_init1", 0)),
    "fanotify_init": lambda: Made(call("fanotify_init", 0, 0)),
    "memfd_create": lambda: Made(call("memfd_create", b"room", 0)),
    "pidfd_open": lambda: Made(call("pidfd_open", os.getpid(), 0)),
    "shm_open": lambda: shared("shm_open", 0o640),
    "mq_open": lambda: shared("mq_open", 0o640, None),
    "__mq_open_2": lambda: Made(call("__mq_open_2", queue, os.O_RDONLY)),
    "open_by_handle_at": handle,
    "SYS_openat": lambda: by_number(257, at, fresh(), NEW, 0o640),
    "SYS_memfd_create": lambda: by_number(319, b"room", 0),
}
for name in "open", "open64", "__open", "__open64":
    kinds[name] = lambda name=name: Made(call(name, fresh(), NEW, 0o640))
    kinds[name + ", O_TMPFILE"] = lambda name=name: Made(call(name, directory, os.O_RDWR | os.O_TMPFILE, 0o640))
for name in "creat", "creat64":
    kinds[name] = lambda name=name: Made(call(name, fresh(), 0o640))
for name in "openat", "openat64":
    kinds[name] = lambda name=name: Made(call(name, at, fresh(), NEW, 0o640))
for name in "__open_2", "__open64_2":
    kinds[name] = lambda name=name: Made(call(name, b"/dev/null", os.O_RDWR))
for name in "__openat_2", "__openat64_2":
    kinds[name] = lambda name=name: Made(call(name, at, b"/dev/null", os.O_RDWR))
for name in "mkstemp", "mkostemp", "mkstemps", "mkostemps":
    for name in name, name + "64":
        kinds[name] = lambda name=name: temporary(name, *([2] if "mps" in name else []), *([os.O_CLOEXEC] if "mko" in name else []))
if os.uname().machine != "x86_64":
    kinds = {k: v for k, v in kinds.items() if not k.startswith("SYS_")}
# What it makes, how many, and errno
def make(name):
    try:
        made = kinds[name]()
    except (OSError, AttributeError) as e:
        return getattr(e, "strerror", "is not there")
    more.append(made)
    return f"{len(made.fds)} numbers, mode {os.fstat(made.fds[0]).st_mode:o}, errno {ctypes.get_errno()}"
ends = socket.socketpair()
def passed():
    socket.send_fds(ends[0], [b"x"], [at])
    fds = socket.recv_fds(ends[1], 1, 1)[1]
    if not fds:
        raise OSError(24, os.strerror(24))
    return Made(*fds)
def opened():
    return Made(os.open("/dev/null", os.O_RDONLY))
def send():
    for i, s in enumerate(all):
        s.sendall(b"%5d" % i)
    for s in all:
        p = select.poll()
        p.register(s, select.POLLIN)
        p.poll()
def take():
    for i, s in enumerate(all):
        if s.recv(5, socket.MSG_WAITALL) != b"%5d" % i:
            sys.exit(f"{i}: something else")
def trips(n):
    for k in range(n):
        for i, s in enumerate(all):
            s.sendall(b"%3d%2d" % (i % 1000, k % 100))
        for i, s in enumerate(all):
            got = b""
            while len(got) < 5:
                part = s.recv(5 - len(got))
                if not part:
                    sys.exit("the server has closed")
                got += part
            if got != b"%3d%2d" % (i % 1000, k % 100):
                sys.exit(f"{i}: {got}")
listener = socket.create_server(("127.0.0.1", 0), backlog=2000)
def accepted():
    s = socket.socket()
    s.connect(listener.getsockname())
    more.append(s)
    return listener.accept()[0]
print("ready", flush=True)
for line in sys.stdin:
    what, *args = line.split()
    if what == "end":
        break
    if what == "trips":
        print(trips(int(args[0])), flush=True)
    if what == "sockets":
        print(*until_none(socket.socket), flush=True)
    if what == "dups":
        print(*until_none(lambda: socket.socket(fileno=os.dup(all[0].fileno()))), flush=True)
    if what == "accepts":
        print(*until_none(accepted), flush=True)
    if what in ("files", "pipes", "events", "streams", "directories"):
        print(*until_none({"files": opened, "pipes": kinds["pipe"], "events": kinds["eventfd"], "streams": kinds["fopen"],
                           "directories": kinds["opendir"]}[what]), flush=True)
    if what == "open":
        for i in range(int(args[0])):
            more.append(opened())
        print("ok", flush=True)
    if what == "pass":
        for i in range(int(args[0])):
            more.append(passed())
        print("ok", flush=True)
    if what == "kinds":
        print(*(k.replace(" ", "") for k in kinds), flush=True)
    if what == "send":
        print(send(), flush=True)
    if what == "take":
        print(take(), flush=True)
    if what == "make":
        print(make(args[0].replace(",", ", ")), flush=True)
    if what == "free":
        for s in more:
            s.close()
        more.clear()
        print("ok", flush=True)
    if what == "limit":
        limit(int(args[0]))
        print("ok", flush=True)
'

LINES=0
said() { [ "$(wc -l <"$WORK/client.out")" -ge "$1" ] || job_ended client; }
ask() {
	echo "$*" >&9
	LINES=$((LINES + 1))
	wait_for 60 "the client's answer to $*" said $LINES
	job_alive client || { cat "$WORK/client.err" >&2; fail "the client has ended"; }
	ANSWER=$(tail -n 1 "$WORK/client.out")
}

# ends env|shim
ends() {
	LINES=1
	snapshot "$WORK/before.json"
	ns_start server b "$1" "$PYTHON" -c "$SERVER" "$IP_B" $PORT $LIMIT
	wait_listen b $PORT
	held_start client a "$1" "$PYTHON" -c "$CLIENT" "$IP_B" $PORT $LIMIT $CONNECTIONS "$WORK"
	wait_for 20 "the client to be ready" said 1
}
ends_over() {
	held_end
	job_ok client 20 "$1"
	job_ok server 20 "$1"
	PORT=$((PORT + 1))
}

on_ring() { "$XSHIM_TOOL" stat --json | jq .connections.on_ring; }
are_on_ring() {
	ask trips 20
	[ "$(on_ring)" -ge "$1" ]
}

play_many() {
	ends shim
	wait_for 30 "all $CONNECTIONS connections to be on rings" are_on_ring $((CONNECTIONS * 2))
	ends_over many
	note "ok many: $CONNECTIONS connections on rings with a limit of $LIMIT"
}

# Of the client's ends. They do not come back: the program has needed all of its numbers, and may again
say_why() {
	ask trips 20
	[ "$("$XSHIM_TOOL" stat --json | jq '.reasons["fd-limit"].open // 0')" -ge $((CONNECTIONS / 2)) ]
}

play_used_up() {
	local how plain text got left
	for how in sockets dups accepts files pipes events streams directories; do
		ends env
		ask $how
		read -r plain text <<<"$ANSWER"
		ends_over "used_up, $how"
		ends shim
		wait_for 30 "connections to be on rings" are_on_ring $CONNECTIONS
		ask $how
		got=${ANSWER%% *}
		check_eq "used_up, $how: how it ends" "${ANSWER#* }" "$text"
		check_ge "used_up, $how: numbers that the program got, of $plain" "$got" $((plain - KEPT))
		left=$(since "$WORK/before.json" .counters.leaves)
		check_gt "used_up, $how: rings that were left" "$left" 50
		ask trips 50
		ask free
		wait_for 20 "the reason fd-limit" say_why
		ask trips 50
		ends_over "used_up, $how"
		note "ok used_up, $how: $plain numbers without us, $got with, $left rings left"
	done
}

# The files that are opened make room before a number is missing, which what nobody notes finds then: descriptors that come with a message.
# Three for each ring leave the program some 200; the eighth is 128, and when 64 are left of that, rings go.
play_before() {
	ends shim
	wait_for 30 "all $CONNECTIONS connections to be on rings" are_on_ring $((CONNECTIONS * 2))
	ask open 190
	check_ge "before: rings that were left before a number was missing" "$(since "$WORK/before.json" .counters.leaves)" 10
	ask pass 60
	check_eq "before: passed descriptors" "$ANSWER" ok
	ask trips 20
	ends_over before
	note "ok before: room is made before it is missed"
}

# Each kind of call that makes one, where none is free: rings cannot be left while something is unread, and nothing is when the call is made
play_each() {
	local LIMIT=384 CONNECTIONS=60 kind n=0
	local -A expected=()
	ends env
	ask kinds
	for kind in $ANSWER; do
		ask make "$kind"
		expected[$kind]=$ANSWER
	done
	ends_over each
	for kind in "${!expected[@]}"; do
		case ${expected[$kind]} in
		*numbers*) ;;
		*) note "not here: $kind: ${expected[$kind]}"; continue ;;
		esac
		ends shim
		wait_for 30 "all $CONNECTIONS connections to be on rings" are_on_ring $((CONNECTIONS * 2))
		ask send
		ask files
		check_eq "each, $kind: how files end" "${ANSWER#* }" "Too many open files"
		check_ge "each, $kind: ends on rings" "$(on_ring)" $CONNECTIONS
		ask take
		ask make "$kind"
		check_eq "each, $kind: where none was free" "$ANSWER" "${expected[$kind]}"
		ask trips 5
		ends_over "each, $kind"
		n=$((n + 1))
	done
	check_ge "each: kinds" $n 40
	note "ok each: $n kinds of calls where no number was free"
}

# The limit goes below what is open, and the program asks for more: that fails, as it does without us, and with room again all goes on
play_shrinks() {
	local was
	ends shim
	wait_for 30 "connections to be on rings" are_on_ring $CONNECTIONS
	ask limit $((CONNECTIONS / 2))
	ask sockets
	check_eq "shrinks: sockets beyond the limit" "$ANSWER" "0 Too many open files"
	ask trips 20
	ask limit $LIMIT
	ask sockets
	check_gt "shrinks: sockets with room again" "${ANSWER%% *}" 700
	ask free
	ask trips 20
	ends_over shrinks
	note "ok shrinks"
}

ns_up
daemon_start
for what in ${*:-many used_up before each shrinks}; do
	"play_$what"
done
