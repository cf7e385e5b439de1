#!/bin/bash
# SPDX-License-Identifier: MIT
#
# build.sh - makes what the Xen lab boots, in $XSHIM_XEN_DIR (see common.sh); needs no root.
#
#   xen.elf      the hypervisor
#   vmlinux      the kernel of dom0 and of the guests; kernel.cpio: the same for dom0's ramdisk, as /boot/vmlinux
#   dom0.cpio    ramdisk of dom0: busybox, xl, xenstored, xenconsoled, modules
#   guest.cpio   ramdisk of a guest: busybox, xenstore tools, jq, vchanbench, modules; user lab of group xshim
#   apps.cpio    for the boots that want it: iperf3, redis, python3 with what a socket program imports
#
# Each is made again only when what it is made from has changed. xshim itself is not in here: run.sh adds it
# as it is at that time. Programs that are not installed are left out of apps.cpio.
. "$(dirname "$0")/common.sh"

APPS="/usr/bin/iperf3 /usr/bin/redis-server /usr/bin/redis-cli /usr/bin/redis-benchmark"
PYTHON=/usr/bin/python3.11
PYTHON_IMPORTS="argparse,hashlib,http.client,http.server,json,multiprocessing,os,random,selectors,signal,socket,socketserver,struct,subprocess,sys,threading,time,urllib.request"
DOM0_MODULES="xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc xen-netback bridge virtio_pci 9pnet_virtio 9p"
GUEST_MODULES="xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc xen-netfront"

# stale NAME INPUT...: has NAME to be made? Remembers the inputs' sizes and times for made().
stale() {
	local name=$1
	shift
	INPUTS=$(stat -L -c '%n %s %Y' "$@" 2>/dev/null)
	[ ! -e "$name" ] || [ "$(cat "$name.inputs" 2>/dev/null)" != "$INPUTS" ]
}
made() { mv "$1.new" "$1" && printf '%s\n' "$INPUTS" >"$1.inputs" || die "cannot write $LAB/$1"; }

# Debian's kernel image holds an ELF file as an xz stream. Unpacked here once, rather than by emulated
# processors at each boot. The magic number may appear earlier by accident, hence the loop.
extract_vmlinux() {
	local at
	for at in $(LC_ALL=C grep -aobP '\xFD7zXZ\x00' "$1" | cut -d: -f1); do
		tail -c +$((at + 1)) "$1" | xz -dcq --single-stream 2>/dev/null >"$2"
		[ "$(head -c 4 "$2" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] && return
	done
	return 1
}

# skeleton ROOT: busybox under all its names, users
skeleton() {
	local root=$1 a
	rm -rf "$root"
	mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,etc,root,lab,mnt,var/lib,var/log,usr/bin,usr/sbin} || die "cannot make $root"
	ln -s ../run "$root/var/run" && ln -s ../run/lock "$root/var/lock"
	cp /bin/busybox "$root/bin/busybox"
	for a in $(/bin/busybox --list); do
		[ "$a" = busybox ] || ln -s /bin/busybox "$root/bin/$a"
	done
	cat >"$root/etc/passwd" <<-X
		root:x:0:0:root:/root:/bin/sh
		lab:x:1000:1000:lab:/tmp:/bin/sh
		other:x:1001:1001:other:/tmp:/bin/sh
	X
	printf 'root:x:0:\nxshim:x:900:lab\nlab:x:1000:\nother:x:1001:\n' >"$root/etc/group"
}

# modules ROOT NAME...: with what they depend on; ROOT/modules.list has the order of insmod
modules() {
	local root=$1 m k
	shift
	mkdir -p "$root/mod"
	: >"$root/modules.list"
	for m in "$@"; do
		modprobe -d "${KERNEL_ROOT:-/}" -S "$KERNEL" --show-depends "$m" >"$LAB/depends" 2>&1 ||
			die "kernel $KERNEL has no module $m: $(cat "$LAB/depends")"
		for k in $(sed -n 's/^insmod \([^ ]*\).*/\1/p' "$LAB/depends"); do
			grep -qx "$(basename "$k")" "$root/modules.list" && continue
			cp "$k" "$root/mod/" && strip --strip-debug "$root/mod/$(basename "$k")" || die "cannot copy $k"
			basename "$k" >>"$root/modules.list"
		done
	done
	rm -f "$LAB/depends"
}

xenstore_tools() { ls /usr/bin/xenstore-* /usr/sbin/xenstore-* 2>/dev/null | grep -v control; }

make_dom0() {
	local root=$LAB/dom0.root
	skeleton "$root"
	for p in xl xenstored xenconsoled xenconsole xen-init-dom0 libxl-save-helper lsevtchn xentop; do
		put_as "$root" "$XEN_BIN/$p" "/usr/lib/xen-$XEN_VERSION/bin/$p" || die "cannot copy $XEN_BIN/$p"
	done
	# shellcheck disable=SC2046
	put "$root" $(xenstore_tools) /usr/bin/jq || die "cannot copy the xenstore tools"
	# opened by name in pthread_cancel, which xl uses
	put "$root" /lib/x86_64-linux-gnu/libgcc_s.so.1 || die "cannot copy libgcc_s.so.1"
	ln -s "/usr/lib/xen-$XEN_VERSION/bin/xl" "$root/bin/xl"
	cp xswait "$root/bin/xswait"
	cp domid.so "$root/lib/domid.so"
	mkdir -p "$root"/etc/xen/scripts "$root"/var/lib/{xenstored,xen} "$root"/var/log/xen
	: >"$root/etc/xen/xl.conf"
	install -m 755 "$LAB_SOURCE/vif-lab" "$root/etc/xen/scripts/vif-lab"
	# shellcheck disable=SC2086
	modules "$root" $DOM0_MODULES
	install -m 755 "$LAB_SOURCE/dom0-init" "$root/init"
	pack "$root" >dom0.cpio.new || die "cannot pack dom0.cpio"
}

make_guest() {
	local root=$LAB/guest.root
	skeleton "$root"
	# shellcheck disable=SC2046
	put "$root" $(xenstore_tools) /usr/bin/jq || die "cannot copy the xenstore tools"
	put "$root" /lib/x86_64-linux-gnu/libgcc_s.so.1 || die "cannot copy libgcc_s.so.1"
	put_as "$root" xswait /bin/xswait
	put_as "$root" vchanbench /bin/vchanbench
	# shellcheck disable=SC2086
	modules "$root" $GUEST_MODULES
	install -m 755 "$LAB_SOURCE/guest-init" "$root/init"
	pack "$root" >guest.cpio.new || die "cannot pack guest.cpio"
}

# The files of the standard library that the imports load, and the encodings a start needs.
python_files() {
	"$PYTHON" -I -S -c "import $PYTHON_IMPORTS, encodings.idna, encodings.utf_8, encodings.latin_1
for m in list(sys.modules.values()):
    f = getattr(m, '__file__', None)
    if f: print(f)" && ls /usr/lib/python3.11/site.py
}

make_apps() {
	local root=$LAB/apps.root p
	rm -rf "$root"
	mkdir -p "$root/usr/bin"
	for p in $APPS; do
		[ ! -x "$p" ] || put "$root" "$p" || die "cannot copy $p"
	done
	if [ -x "$PYTHON" ]; then
		# shellcheck disable=SC2046
		put "$root" "$PYTHON" $(python_files) || die "cannot copy $PYTHON"
		ln -s python3.11 "$root/usr/bin/python3"
	fi
	pack "$root" >apps.cpio.new || die "cannot pack apps.cpio"
}

main() {
	local missing
	missing=$(lab_missing)
	[ -z "$missing" ] || { say "$missing" >&2; exit 77; }
	lab_find
	mkdir -p "$LAB" && cd "$LAB" || die "cannot make $LAB"
	exec 9>"$LAB/lock" && flock 9 || die "cannot lock $LAB/lock"
	local image=$KERNEL_ROOT/boot/vmlinuz-$KERNEL
	if stale xen.elf "$XEN_GZ"; then
		gzip -dc "$XEN_GZ" >xen.elf.new || die "cannot unpack $XEN_GZ"
		made xen.elf
	fi
	if stale vmlinux "$image" || [ ! -e kernel.cpio ]; then
		extract_vmlinux "$image" vmlinux.new || die "no ELF file is found in $image"
		made vmlinux
		rm -rf kernel.root
		mkdir -p kernel.root/boot && ln vmlinux kernel.root/boot/vmlinux && pack kernel.root >kernel.cpio ||
			die "cannot pack kernel.cpio"
		rm -rf kernel.root
	fi
	# Dynamically linked: xs_watch of the static libxenstore fails when an event overtakes the answer.
	if stale xswait "$LAB_SOURCE/xswait.c"; then
		${CC:-gcc} -O2 -Wall -o xswait.new "$LAB_SOURCE/xswait.c" -lxenstore || die "xswait.c does not build"
		made xswait
	fi
	if stale vchanbench "$LAB_SOURCE/vchanbench.c"; then
		${CC:-gcc} -O2 -Wall -o vchanbench.new "$LAB_SOURCE/vchanbench.c" -lxenvchan || die "vchanbench.c does not build"
		made vchanbench
	fi
	if stale domid.so "$LAB_SOURCE/domid.c"; then
		${CC:-gcc} -O2 -Wall -D_GNU_SOURCE -shared -fPIC -o domid.so.new "$LAB_SOURCE/domid.c" || die "domid.c does not build"
		made domid.so
	fi
	if stale dom0.cpio "$0" "$LAB_SOURCE"/{common.sh,dom0-init,vif-lab} "$XEN_BIN/xl" "$image" xswait domid.so /bin/busybox /usr/bin/jq; then
		make_dom0
		made dom0.cpio
	fi
	if stale guest.cpio "$0" "$LAB_SOURCE"/{common.sh,guest-init} "$image" xswait vchanbench /bin/busybox /usr/bin/jq; then
		make_guest
		made guest.cpio
	fi
	# shellcheck disable=SC2086
	if stale apps.cpio "$0" $APPS "$PYTHON"; then
		make_apps
		made apps.cpio
	fi
}

main
