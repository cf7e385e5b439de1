#!/bin/bash
# SPDX-License-Identifier: MIT
#
# How a program comes to be: other libraries that are preloaded, before and after ours, and use sockets before our start; libraries
# that are opened later; a debugger, a tracer, a sanitizer, other allocators; set-uid; standard descriptors that are closed; limits of
# descriptors, small or changed on the way. The results are those of plain TCP, and the counters show the ring, or that there is none.
#
#   preload_load.sh [SCENE...]	SCENE one of behave's, or one of the starts below: early_after ... statics
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"

TESTS_DIR=$(cd "${srcdir:-$(dirname "$0")/..}/tests" && pwd)
CC_NOW=$(command -v cc || command -v gcc || :)
CXX_NOW=$(command -v g++ || command -v c++ || :)
OURS=${XSHIM_PRELOAD##*:}
FIRST=${XSHIM_PRELOAD%"$OURS"}	# a sanitizer's, and a colon
STARTS=(early_after early_before jemalloc_before jemalloc_after tcmalloc_before tcmalloc_after debugger tracer
	closed secure sanitizer statics runpath
	filtered)

not_played() { note "not played: $1: $2"; }

# found NAME: the shared library, in FOUND
found() {
	FOUND=$(/sbin/ldconfig -p 2>/dev/null | sed -n "s,^[[:space:]]*$1[.0-9]* (.*x86-64.*) => ,,p" | head -n 1)
	[ -n "$FOUND" ]
}

# as_plain NAME SCENE KEEP [RING-ATTACHES]: the scene is played by CLIENT_BY under the preload; KEEP filters what the client says
as_plain() {
	local name=$1 scene=$2 keep=$3 want=${4:-2} attaches who
	snapshot "$WORK/before.json"
	play shim "$scene" ring
	$keep <"$WORK/ring.client" >"$WORK/ring.kept"
	mv "$WORK/ring.kept" "$WORK/ring.client"
	for who in client server; do
		cmp -s "$WORK/plain.$who" "$WORK/ring.$who" && continue
		diff -U1 "$WORK/plain.$who" "$WORK/ring.$who" | tail -n +3 >&2
		fail "$name: the $who differs (over plain TCP -, so started +)"
	done
	attaches=$(since "$WORK/before.json" .counters.attaches)
	if [ "$want" = 0 ]; then
		check_eq "$name: ends attached to a ring" "$attaches" 0
	else
		check_ge "$name: ends attached to a ring" "$attaches" "$want"
		check_gt "$name: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 0
	fi
	note "ok $name"
}

# plain_first SCENE: what to compare with
plain_first() {
	CLIENT_BY=()
	play env "$1" plain
	! grep -h '^stderr: behave: ' "$WORK"/plain.* >&2 ||
		fail "$1 does not work over plain TCP: $(tail -n 20 "$WORK/plain.client" "$WORK/plain.server")"
}

early_lines() { grep -v '^it began\|^it ended'; }

# with NAME LIBRARY-PATH-LIST KEEP
with() {
	plain_first load_exchange
	CLIENT_BY=(env "LD_PRELOAD=$FIRST$2")
	as_plain "$1" load_exchange "$3"
}

start_early_after() {	# constructors run from the last to the first: theirs after ours
	with early_after "$WORK/early.so:$OURS" early_lines
	grep -q '^it began' "$WORK/client.out" && grep -q '^it ended' "$WORK/client.out" ||
		fail "early_after: the other library said nothing: $(cat "$WORK/client.out")"
}
start_early_before() {
	with early_before "$OURS:$WORK/early.so" early_lines
	grep -q '^it began' "$WORK/client.out" && grep -q '^it ended' "$WORK/client.out" ||
		fail "early_before: the other library said nothing: $(cat "$WORK/client.out")"
}

allocator() {
	found "$2" || { not_played "$1" "$2 is not installed"; return; }
	case $1 in
	*_before) with "$1" "$FOUND:$OURS" cat ;;
	*) with "$1" "$OURS:$FOUND" cat ;;
	esac
}
start_jemalloc_before() { allocator jemalloc_before libjemalloc.so; }
start_jemalloc_after() { allocator jemalloc_after libjemalloc.so; }
start_tcmalloc_before() { allocator tcmalloc_before libtcmalloc_minimal.so; }
start_tcmalloc_after() { allocator tcmalloc_after libtcmalloc_minimal.so; }

can_trace() { "$@" true >/dev/null 2>&1; }

debugger_lines() { grep -v -E '^(\[|Using host|stderr: |warning: |\$1 = |$)'; }
start_debugger() {
	[ -z "$FIRST" ] || { not_played debugger "a sanitizer does not work in a program that is traced"; return; }
	command -v gdb >/dev/null || { not_played debugger "gdb is not installed"; return; }
	gdb -nx -batch -ex run --args true 2>&1 | grep -q 'exited normally' ||
		{ not_played debugger "gdb cannot run a program here"; return; }
	plain_first load_exchange
	# the debugger has the preload, too
	CLIENT_BY=(gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'handle SIGALRM nostop noprint' -ex 'break getauxval'
		-ex run -ex 'info threads' -ex 'delete' -ex continue --args)
	as_plain debugger load_exchange only_said
	grep -q 'Breakpoint 1, ' "$WORK/client.out" || fail "debugger: it has not stopped"
	grep -q 'exited normally' "$WORK/client.out" || fail "debugger: $(tail -n 5 "$WORK/client.out")"
}
only_said() { grep -E '^(all the bytes|the end|end of|status)'; }

start_tracer() {
	[ -z "$FIRST" ] || { not_played tracer "a sanitizer does not work in a program that is traced"; return; }
	command -v strace >/dev/null || { not_played tracer "strace is not installed"; return; }
	can_trace strace -o /dev/null || { not_played tracer "strace cannot trace here"; return; }
	plain_first load_exchange
	CLIENT_BY=(strace -f -qq -o "$WORK/trace")
	as_plain tracer load_exchange cat
	grep -q recvfrom "$WORK/trace" || fail "tracer: nothing was traced"
}

start_closed() {
	local kind by='exec "$@" <&- >&- 2>&-'
	chmod 777 "$WORK"
	for kind in plain ring; do
		# the client's own words are in a file, and nothing may be written elsewhere
		rm -f "$WORK/said"
		export BEHAVE_OUT=$WORK/said
		CLIENT_BY=(sh -c "$by" sh)
		if [ $kind = plain ]; then
			play_client_closed env plain
		else
			snapshot "$WORK/before.json"
			play_client_closed shim ring
		fi
		unset BEHAVE_OUT
		cat "$WORK/said" >>"$WORK/$kind.client"
	done
	diff -U1 "$WORK/plain.client" "$WORK/ring.client" >&2 || fail "closed: the client differs"
	diff -U1 "$WORK/plain.server" "$WORK/ring.server" >&2 || fail "closed: the server differs"
	check_ge "closed: ends attached to a ring" "$(since "$WORK/before.json" .counters.attaches)" 4
	note "ok closed"
}
# Only the client has its standard descriptors closed.
play_client_closed() {
	local out=$BEHAVE_OUT
	unset BEHAVE_OUT
	CLIENT_BY=(env "BEHAVE_OUT=$out" XSHIM_LOG=debug "${CLIENT_BY[@]}")
	play "$1" closed_at_start "$2"
}

# The loader leaves LD_PRELOAD with a path alone in a set-uid program, but takes libraries of the system that are set-uid themselves.
# So ours is laid over one of those, in a mount namespace.
start_secure() {
	local over by
	command -v setpriv >/dev/null && command -v unshare >/dev/null || { not_played secure "no setpriv or unshare"; return; }
	[ -z "$FIRST" ] || { not_played secure "a sanitizer cannot be loaded so"; return; }
	over=$(/sbin/ldconfig -p | sed -n 's,.*libBrokenLocale[.]so[.]1 (.*x86-64.*) => ,,p' | head -n 1)
	[ -n "$over" ] || { not_played secure "no libBrokenLocale to lay it over"; return; }
	cp "$BEHAVE" "$WORK/setuid" && cp "$OURS" "$WORK/libsecure.so" && chmod 4755 "$WORK/setuid" "$WORK/libsecure.so"
	unshare -m sh -c 'mount --bind "$1" "$2"' sh "$WORK/libsecure.so" "$over" 2>/dev/null ||
		{ not_played secure "no bind mounts here"; return; }
	setpriv --reuid nobody --regid nogroup --clear-groups "$WORK/setuid" list load >/dev/null 2>&1 &&
		[ "$(findmnt -no OPTIONS -T "$WORK" | grep -c nosuid)" = 0 ] ||
		{ not_played secure "set-uid programs cannot be run from $WORK"; return; }
	chmod 777 "$WORK"
	plain_first load_exchange
	by='mount --bind "$1" "$2" && shift 2 && exec "$@"'
	BEHAVE_CLIENT=$WORK/setuid INERT=1
	CLIENT_BY=(env -u LD_PRELOAD unshare -m sh -c "$by" sh "$WORK/libsecure.so" "$over"
		setpriv --reuid nobody --regid nogroup --clear-groups
		env LD_PRELOAD=libBrokenLocale.so.1 "XSHIM_LOG=debug" "BEHAVE_MAPS=$WORK/maps")
	as_plain secure load_exchange cat 0
	BEHAVE_CLIENT= INERT=
	grep -q '^secure 1' "$WORK/maps" || fail "secure: the program was not started in secure mode"
	grep -q libBrokenLocale "$WORK/maps" || fail "secure: the library was not loaded, which proves nothing"
	check_eq "secure: offers" "$(since "$WORK/before.json" .daemon.offers)" 0
}

# A program with the address sanitizer built in demands that its library comes first.
start_sanitizer() {
	local asan
	[ -n "$CC_NOW" ] || { not_played sanitizer "no compiler"; return; }
	asan=$("$CC_NOW" -print-file-name=libasan.so)
	[ -n "$FIRST" ] && { not_played sanitizer "the library has a sanitizer itself"; return; }
	[ "$asan" != libasan.so ] && "$CC_NOW" -g -fsanitize=address -o "$WORK/talk" "$TESTS_DIR/prog/talk.c" 2>"$WORK/cc.err" ||
		{ not_played sanitizer "programs with -fsanitize=address cannot be built here"; return; }
	talk_pair sanitizer env "LD_PRELOAD=$asan:$OURS" "$WORK/talk"
}

# talk_pair NAME CLIENT...: two ends of tests/prog/talk, until both are on the ring, then some
talk_pair() {
	local name=$1 i
	shift
	snapshot "$WORK/before.json"
	rm -f "$WORK/in.server" "$WORK/in.client"
	mkfifo "$WORK/in.server" "$WORK/in.client"
	exec 7<>"$WORK/in.server" 8<>"$WORK/in.client"
	build_cmd b shim "$XSHIM_PROG/talk" listen "$IP_B" $PORT
	"${CMD[@]}" <"$WORK/in.server" >"$WORK/server.out" 2>"$WORK/server.err" 7>&- 8>&- &
	JOB_PID[server]=$!
	build_cmd a "$@" connect "$IP_B" $PORT
	"${CMD[@]}" <"$WORK/in.client" >"$WORK/client.out" 2>"$WORK/client.err" 7>&- 8>&- &
	JOB_PID[client]=$!
	for ((i = 1; i <= 200; i++)); do
		echo "rounds 20" >&7
		echo "rounds 20" >&8
		wait_for 20 "$name: round $i" lines_of client "$i"
		[ "$("$XSHIM_TOOL" stat --json | jq .connections.on_ring)" -ge 2 ] && break
	done
	printf '%s\n' "send 200000" "recv 300000" "half" "eof" end >&7
	printf '%s\n' "recv 200000" "send 300000" "half" "eof" end >&8
	job_wait client 30
	[ "$STATUS" = 0 ] || { cat "$WORK"/client.{out,err} >&2; fail "$name: the client ended with status $STATUS"; }
	job_wait server 30
	[ "$STATUS" = 0 ] || { cat "$WORK"/server.{out,err} >&2; fail "$name: the server ended with status $STATUS"; }
	exec 7>&- 8>&-
	check_empty "$name: the client's stderr" "$WORK/client.err"
	check_ge "$name: ends attached to a ring" "$(since "$WORK/before.json" .counters.attaches)" 2
	check_gt "$name: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 400000
	PORT=$((PORT + 1))
	note "ok $name"
}
lines_of() { job_ended "$1" || [ "$(wc -l <"$WORK/$1.out")" -ge "$2" ]; }

start_statics() {
	local kind
	[ -n "$CXX_NOW" ] || { not_played statics "no C++ compiler"; return; }
	"$CXX_NOW" -std=c++11 -o "$WORK/statics" "$TESTS_DIR/load/statics.cc" 2>"$WORK/cc.err" ||
		fail "statics.cc cannot be compiled: $(cat "$WORK/cc.err")"
	for kind in env shim; do
		snapshot "$WORK/before.json"
		rm -f "$WORK/go"
		STATICS="server $IP_B $PORT $WORK/go" ns_start server b $kind "$WORK/statics"
		wait_listen b $PORT
		STATICS="client $IP_B $PORT $WORK/go" ns_start client a $kind "$WORK/statics"
		[ $kind = env ] || wait_for 20 "statics: both ends on the ring" eval '[ "$(ends ring)" -ge 2 ]'
		: >"$WORK/go"
		for who in client server; do
			job_wait $who 20
			{ cat "$WORK/$who.out" "$WORK/$who.err"; echo "status $STATUS"; } >"$WORK/$kind.$who"
		done
		PORT=$((PORT + 1))
	done
	for who in client server; do
		diff "$WORK/env.$who" "$WORK/shim.$who" >&2 || fail "statics: the $who differs"
	done
	grep -q 'after main: talked' "$WORK/shim.client" || fail "statics: $(cat "$WORK/shim.client")"
	check_ge "statics: bytes by ring" "$(since "$WORK/before.json" .bytes.ring_tx)" 300000
	note "ok statics"
}

# A library is found by the RUNPATH of the program that asks for it, also with our dlopen between.
start_runpath() {
	[ -z "$FIRST" ] || { not_played runpath "a sanitizer's own dlopen loses the RUNPATH"; return; }
	mkdir -p "$WORK/part"
	cat >"$WORK/asks.c" <<-'C'
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <stdio.h>
		int main(void)
		{
			void *lazy = dlopen("libpart.so", RTLD_LAZY);
			void *deep = dlopen("libpart.so", RTLD_NOW | RTLD_DEEPBIND);
			printf("%s %s\n", lazy ? "found" : "not found", deep ? "found" : "not found");
			return !lazy || !deep;
		}
	C
	echo 'int part; void *dlopen_of_part(void) { return &part; }' >"$WORK/part.c"
	"$CC_NOW" -shared -fPIC -o "$WORK/part/libpart.so" "$WORK/part.c" &&
		"$CC_NOW" -o "$WORK/asks" "$WORK/asks.c" -ldl -Wl,--enable-new-dtags,-rpath,'$ORIGIN/part' ||
		fail "the program with a RUNPATH cannot be built"
	ns_run a env "$WORK/asks" >"$WORK/asks.plain" || fail "runpath: it does not work without the preload"
	ns_run a shim "$WORK/asks" >"$WORK/asks.shim" 2>&1 || fail "runpath: $(cat "$WORK/asks.shim")"
	check_eq "runpath: what the program says" "$(cat "$WORK/asks.shim")" "$(cat "$WORK/asks.plain")"
	note "ok runpath"
}

# A filter from outside, as service managers and containers set it, that has an error for a call that a ring takes.
start_filtered() {
	plain_first load_exchange
	INERT=1
	CLIENT_BY=(env -u LD_PRELOAD "$XSHIM_PROG/filtered" memfd env "LD_PRELOAD=$XSHIM_PRELOAD")
	as_plain filtered load_exchange cat 0
	INERT=
}

SCENES=() CHOSEN=()
for what in "$@"; do
	case " ${STARTS[*]} " in
	*" $what "*) CHOSEN+=("$what") ;;
	*) SCENES+=("$what") ;;
	esac
done
[ -n "$CC_NOW" ] || skip "no C compiler for the library that is loaded"
NOT=closed_at_start	# by a start of its own
if ldd "$BEHAVE" | grep -q -E 'lib(a|t)san'; then
	not_played dlopen_deepbind "a sanitizer ends programs that ask for RTLD_DEEPBIND"
	NOT='closed_at_start|dlopen_deepbind'
fi
[ $# -gt 0 ] || { CHOSEN=("${STARTS[@]}") SCENES=($("$BEHAVE" list load | grep -v -E "$NOT")); }
ns_up
"$CC_NOW" -shared -fPIC -o "$WORK/early.so" "$TESTS_DIR/load/early.c" || fail "early.c cannot be compiled"
export BEHAVE_LIBRARY=$WORK/early.so
[ ${#SCENES[@]} = 0 ] || behave_main load "${SCENES[@]}"
[ -n "${JOB_PID[daemon]:-}" ] || daemon_start
export XSHIM_TRIGGER_OPS=1 XSHIM_TRIGGER_BYTES=1
for what in "${CHOSEN[@]}"; do
	"start_$what"
done
