#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh - boots Xen, dom0 and guests under QEMU, without KVM; runs cases in them; reports.
#
#   run.sh [OPTION]... CASE...            files of cases/ by name, or paths (format: cases/README)
#   run.sh [OPTION]... -c CMD [-c CMD]... [-d CMD]
#                                         one command for each guest, and one for dom0
#
#   -n N         guests (default: as many as the cases or commands need)
#   -t pv|pvh    kind of the guests (pv)
#   -k CLOCK     real, or virtual: time counts instructions, so neither the load of this machine nor its speed
#                matters; idle time costs nothing; takes two to three times as long (real)
#   -m MIB       memory of a guest (192; with -a 320)
#   -v N         processors of a guest (1)
#   -a           the guests have iperf3, redis and python3 as well
#   -p DIR       what is in it appears in the guests as /payload, which is in PATH; with the libraries
#   -o DIR       keep the results there: guest-gN.log and console.log; CASE.gN.log, CASE.dom0.log; verdicts, a
#                line "CASE:" for each case, followed by what went wrong; complaints, those of kernels
#   -w SECONDS   longest time by the wall clock (1200)
#   -e WORDS     more options for the guests' kernels, e.g. "xen-gntalloc.limit=4096"
#
# The build of $XSHIM_BUILD is in the guests and in dom0, in /opt/xshim: libxshim.so, xshimd, xshim, stream,
# behave, talk, sockbench. Status: 0 if all the parts of all cases ended with 0 and no kernel complained.
#
# Guest N has address 10.77.0.1N, dom0 10.77.0.1. QEMU's memory: with guests of 192 MiB about 1.1 GiB and 0.2
# GiB for each, of which what is touched is taken from this machine.
. "$(dirname "$0")/common.sh"

usage() { sed -n '/^# run.sh -/,/^\. /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }

GUESTS= TYPE=pv CLOCK=real MEMORY= VCPUS=1 APPS= PAYLOAD= KEEP= WALL=1200 EXTRA= MODE=${LAB_MODE:-cases}
COMMANDS=() DOM0_COMMAND=
while getopts n:t:k:m:v:ap:o:w:e:c:d:h opt; do
	case $opt in
	n) GUESTS=$OPTARG ;;
	t) TYPE=$OPTARG ;;
	k) CLOCK=$OPTARG ;;
	m) MEMORY=$OPTARG ;;
	v) VCPUS=$OPTARG ;;
	a) APPS=1 ;;
	p) PAYLOAD=$OPTARG ;;
	o) KEEP=$OPTARG ;;
	w) WALL=$OPTARG ;;
	e) EXTRA=$OPTARG ;;
	c) COMMANDS+=("$OPTARG") ;;
	d) DOM0_COMMAND=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || [ ${#COMMANDS[@]} -gt 0 ] || [ "$MODE" = shell ] || usage
case $TYPE in pv | pvh) ;; *) die "no kind of guest is called $TYPE (pv, pvh)" ;; esac
MEMORY=${MEMORY:-$([ -n "$APPS" ] && echo 320 || echo 192)}

"$LAB_SOURCE/build.sh" || exit
W=$(mktemp -d "$LAB/run.XXXXXX") || die "cannot write to $LAB"
QEMU=
clean_up() {
	[ -z "$QEMU" ] || { kill -TERM "$QEMU" && wait "$QEMU"; } 2>/dev/null
	rm -rf "$W"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$W/root/lab/cases" "$W/root/opt/xshim" "$W/dom0/boot" "$W/out"

# ---- what this boot adds to the ramdisks ----

CASES=
add_cases() {
	local c file
	for c in "$@"; do
		file=$c
		[ -e "$file" ] || file=$LAB_SOURCE/cases/$c
		[ -e "$file" ] || die "there is no case $c"
		cp "$file" "$W/root/lab/cases/" || exit 1
		CASES="$CASES ${file##*/}"
	done
}

# The commands as a case.
commands_case() {
	local n=0 c
	echo "# limit: $((WALL / 2))"
	for c in "${COMMANDS[@]}"; do
		n=$((n + 1))
		printf 'guest%d() {\n%s\n}\n' $n "$c"
	done
	[ -z "$DOM0_COMMAND" ] || printf 'dom0() {\n%s\n}\n' "$DOM0_COMMAND"
}

if [ ${#COMMANDS[@]} -gt 0 ]; then
	commands_case >"$W/root/lab/cases/command"
	CASES=" command"
fi
add_cases "$@"
[ -n "$GUESTS" ] || GUESTS=$(grep -h -o '^guest[1-9]' "$W"/root/lab/cases/* | tr -dc '1-9\n' | sort -n | tail -n 1)
GUESTS=${GUESTS:-2}

cp "$LAB_SOURCE/lib.sh" "$W/root/lab/lib.sh" || die "cannot write to $W"
cat >"$W/root/lab/conf" <<X
GUESTS=$GUESTS
TYPE=$TYPE
MEMORY=$MEMORY
VCPUS=$VCPUS
MODE=$MODE
BOOT_LIMIT=$((WALL / 2))
CASES="$CASES"
KERNEL_OPTIONS="LAB_KERNEL_OPTIONS $EXTRA"
X
# No retpolines, self tests, page table scans: dear when emulated.
KERNEL_OPTIONS="mitigations=off cryptomgr.notests rodata=off nokaslr audit=0 apparmor=0 tsc=reliable"
sed -i "s/LAB_KERNEL_OPTIONS/$KERNEL_OPTIONS/" "$W/root/lab/conf"

put_product() {
	local f
	for f in .libs/libxshim.so xshimd xshim tests/prog/stream tests/prog/behave tests/prog/talk tests/bench/sockbench tests/xen/prog/xenring tests/xen/prog/hostile; do
		if [ ! -e "$XSHIM_BUILD/$f" ]; then
			# the last ones depend on how the build is configured
			case $f in tests/xen/*) ;; *) say "xen lab: $XSHIM_BUILD/$f is not built and not in the guests" >&2 ;; esac
			continue
		fi
		# a wrapper that libtool has put there hides the program
		[ "$(head -c 2 "$XSHIM_BUILD/$f")" != '#!' ] || f=$(dirname "$f")/.libs/$(basename "$f")
		put_as "$W/root" "$XSHIM_BUILD/$f" "/opt/xshim/${f##*/}" || die "cannot copy $f"
	done
	strip --strip-debug "$W"/root/opt/xshim/* || die "strip"
}
put_payload() {
	local f l
	mkdir -p "$W/root/payload" && cp -aL "$PAYLOAD/." "$W/root/payload/" || die "cannot copy $PAYLOAD"
	for f in $(find "$W/root/payload" -type f -perm -u+x); do
		for l in $(libraries_of "$f"); do
			mkdir -p "$W/root$(dirname "$l")" && cp -Ln "$l" "$W/root$l"
		done
	done
}
put_product
[ -z "$PAYLOAD" ] || put_payload
# libraries that both ramdisks have already
(cd "$W/root" && find . -name '*.so*' -path './lib*') | while read -r l; do
	[ -e "$LAB/guest.root/$l" ] && [ -e "$LAB/dom0.root/$l" ] && rm -f "$W/root/$l"
done
pack "$W/root" >"$W/extra.cpio" || die "cannot pack the ramdisk"
cat "$LAB/guest.cpio" ${APPS:+"$LAB/apps.cpio"} "$W/extra.cpio" >"$W/dom0/boot/guest.cpio" &&
	pack "$W/dom0" >"$W/boot.cpio" &&
	cat "$LAB/dom0.cpio" "$LAB/kernel.cpio" "$W/extra.cpio" "$W/boot.cpio" >"$W/dom0.cpio" || die "cannot write to $W"
rm -rf "$W/boot.cpio" "$W/extra.cpio" "$W/dom0"

# ---- the boot ----

case $CLOCK in
# one thread, one processor: the order of events then depends on nothing outside
virtual) machine="-accel tcg,thread=single -icount shift=0,sleep=off -smp 1" ;;
real) machine="-accel tcg,thread=multi -smp 2" ;;
*) die "no clock is called $CLOCK (real, virtual)" ;;
esac
if [ "$MODE" = shell ]; then
	console="-serial mon:stdio"
else
	console="-serial file:$W/console.log -monitor none"
fi
# dom0 can hold the image of a saved guest, and there is room for one more guest, while one migrates.
# Each guest takes a little more than its memory. +npt lets Xen run PVH guests. The guard ends QEMU even if nobody
# is left who waits for it; it is not wanted at a terminal.
dom0=$((448 + MEMORY))
run_qemu() {
	# shellcheck disable=SC2086
	exec ${GUARD-timeout -k 5 $((WALL + 60))} qemu-system-x86_64 $machine -cpu qemu64,+npt,+rdrand -m $((dom0 + 256 + (GUESTS + 1) * (MEMORY + 24))) \
		-display none -vga none -net none -no-reboot $console \
		-kernel "$LAB/xen.elf" \
		-append "console=com1 com1=115200,8n1 dom0_mem=${dom0}M,max:${dom0}M dom0_max_vcpus=1 bootscrub=0 spec-ctrl=no xpti=no" \
		-initrd "$LAB/vmlinux console=hvc0 quiet panic=-1 $KERNEL_OPTIONS,$W/dom0.cpio" \
		-virtfs "local,path=$W/out,mount_tag=lab,security_model=none,multidevs=remap"
}
if [ "$MODE" = shell ]; then
	GUARD=
	(run_qemu)
	exit
fi
began=${EPOCHREALTIME/./}
deadline=$((began + WALL * 1000000))
run_qemu >"$W/qemu.log" 2>&1 </dev/null &
QEMU=$!
while kill -0 $QEMU 2>/dev/null && [ "${EPOCHREALTIME/./}" -lt $deadline ]; do
	sleep 0.5
done
timed_out=
if kill -0 $QEMU 2>/dev/null; then
	timed_out=1
	kill -TERM $QEMU
fi
wait $QEMU 2>/dev/null
QEMU=
took=$(((${EPOCHREALTIME/./} - began) / 100000))

# ---- the report ----

status=0
OUT=$W/out
cp "$W/console.log" "$W/qemu.log" "$OUT/" 2>/dev/null
for f in "$OUT"/guest-g*.log; do
	[ -e "$f" ] && sed -i 's/\r//g' "$f"
done
if ! grep -q LAB-DONE "$OUT/console.log" 2>/dev/null; then
	say "the lab did not come to its end${timed_out:+ within $WALL s}; its last words:"
	tail -n 25 "$OUT/console.log" "$OUT/qemu.log" 2>/dev/null | sed 's/^/  | /'
	status=3
fi

# A part of the case $1 on guest $2, out of the console; of what was migrated xl calls it gN--incoming.
part_of() {
	cat "$OUT/guest-g$2.log" "$OUT/guest-g$2--incoming.log" 2>/dev/null |
		awk -v c="$1" '/^LAB-BEGIN / { on = $2 == c; next } /^LAB-END/ { on = 0 } on'
}

# may guest $2 be gone at the end of case $1?
may_be_gone() { sed -n 's/^# gone://p' "$W/root/lab/cases/$1" | grep -qw "$2"; }

# report CASE PART LOG RC: adds to WRONG
report() {
	say "===== $1, $2: status $4"
	cat "$3" 2>/dev/null
	[ "$4" = 0 ] || WRONG="$WRONG $2: $4;"
}

for c in $CASES; do
	WRONG=
	for n in $(seq "$GUESTS"); do
		grep -q "^guest$n" "$W/root/lab/cases/$c" || continue
		part_of "$c" "$n" >"$OUT/$c.g$n.log"
		rc=$(cat "$OUT/$c.g$n.rc" 2>/dev/null || echo none)
		[ "$rc" != gone ] || ! may_be_gone "$c" "$n" || rc=0
		report "$c" "guest $n" "$OUT/$c.g$n.log" "$rc"
	done
	if grep -q '^dom0()' "$W/root/lab/cases/$c"; then
		report "$c" dom0 "$OUT/$c.dom0.log" "$(cat "$OUT/$c.dom0.rc" 2>/dev/null || echo none)"
	fi
	[ -z "$WRONG" ] || status=$((status ? status : 1))
	say "$c:$WRONG" >>"$OUT/verdicts"
done
if grep -h -E 'BUG:|Oops|general protection|Call Trace|Kernel panic|WARNING: CPU' "$OUT"/guest-g*.log "$OUT/console.log" >"$OUT/complaints"; then
	say "===== a kernel complained:"
	sort -u "$OUT/complaints" | head -n 20 | sed 's/^/  | /'
	status=$((status ? status : 1))
fi
say "===== $GUESTS $TYPE guests, $CLOCK clock: $((took / 10)).$((took % 10)) s ($(tr '\n' ';' <"$OUT/times" 2>/dev/null) s in the lab); status $status"
if [ -n "$KEEP" ]; then
	mkdir -p "$KEEP" && cp -a "$OUT/." "$KEEP/" || die "cannot write to $KEEP"
fi
exit $status
