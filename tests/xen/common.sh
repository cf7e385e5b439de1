#!/bin/bash
# SPDX-License-Identifier: MIT
#
# common.sh - what the scripts of the Xen lab agree on: where things are, and what is missing. To be sourced.
#
#   XSHIM_BUILD     build directory (default: the working directory)
#   XSHIM_XEN_DIR   what the lab is made of and where it runs (default: $XSHIM_BUILD/tests/xen/lab)
#
# Two kinds of packages. LAB_TOOLS must be installed. LAB_UNPACKED are never installed, because the hypervisor
# and a kernel would change how this machine boots: fetch.sh downloads them and unpacks what is needed into
# $XSHIM_XEN_DIR/pkg. If they are installed anyway, those are used.

set -u

LAB_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
XSHIM_BUILD=${XSHIM_BUILD:-$PWD}
LAB=${XSHIM_XEN_DIR:-$XSHIM_BUILD/tests/xen/lab}
XEN_VERSION=4.17

LAB_TOOLS="qemu-system-x86 busybox-static cpio xz-utils kmod binutils gcc xenstore-utils libxenmisc$XEN_VERSION libxen-dev jq"
LAB_UNPACKED="xen-hypervisor-$XEN_VERSION-amd64 xen-utils-$XEN_VERSION linux-image-amd64"

say() { printf '%s\n' "$*"; }
die() { printf 'xen lab: %s\n' "$*" >&2; exit 1; }

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Newest kernel below $1 that can be dom0: the cloud flavour cannot.
kernel_below() {
	local k
	for k in $(ls "$1/lib/modules" 2>/dev/null | grep -E '^[0-9.]+-[0-9]+-amd64$' | sort -Vr); do
		[ -r "$1/boot/vmlinuz-$k" ] && [ -d "$1/lib/modules/$k/kernel" ] && { echo "$k"; return; }
	done
}

# Sets XEN_GZ, XEN_BIN, KERNEL_ROOT, KERNEL; what is nowhere is appended to MISSING_UNPACKED.
lab_find() {
	local root
	XEN_GZ= XEN_BIN= KERNEL_ROOT= KERNEL= MISSING_UNPACKED= MISSING_TOOLS=
	for root in "$LAB/pkg" ""; do
		[ -n "$XEN_GZ" ] || [ ! -r "$root/boot/xen-$XEN_VERSION-amd64.gz" ] || XEN_GZ=$root/boot/xen-$XEN_VERSION-amd64.gz
		[ -n "$XEN_BIN" ] || [ ! -x "$root/usr/lib/xen-$XEN_VERSION/bin/xl" ] || XEN_BIN=$root/usr/lib/xen-$XEN_VERSION/bin
		[ -n "$KERNEL" ] || { KERNEL=$(kernel_below "$root"); KERNEL_ROOT=$root; }
	done
	[ -n "$XEN_GZ" ] || MISSING_UNPACKED+=" xen-hypervisor-$XEN_VERSION-amd64"
	[ -n "$XEN_BIN" ] || MISSING_UNPACKED+=" xen-utils-$XEN_VERSION"
	[ -n "$KERNEL" ] || MISSING_UNPACKED+=" linux-image-amd64"
	for root in $LAB_TOOLS; do
		is_installed "$root" || MISSING_TOOLS+=" $root"
	done
}

# One line about what is missing; empty if nothing is.
lab_missing() {
	lab_find
	[ -z "$MISSING_TOOLS$MISSING_UNPACKED" ] && return
	printf 'the Xen lab lacks'
	[ -z "$MISSING_TOOLS" ] || printf ' installed packages:%s%s' "$MISSING_TOOLS" "${MISSING_UNPACKED:+; and}"
	[ -z "$MISSING_UNPACKED" ] || printf ' packages unpacked by %s/fetch.sh:%s' "$LAB_SOURCE" "$MISSING_UNPACKED"
	printf '\n'
}

# Paths of the shared libraries that a program needs.
libraries_of() { ldd "$1" 2>/dev/null | grep -o '/[^ )]*'; }

# put ROOT FILE...: each file to the same path below ROOT, with its libraries
put() {
	local root=$1 f l
	shift
	for f in "$@"; do
		put_as "$root" "$f" "$f"
	done
}

# put_as ROOT FILE PATH: FILE as PATH below ROOT, with its libraries
put_as() {
	local l
	mkdir -p "$1$(dirname "$3")" && cp -L "$2" "$1$3" || return
	for l in $(libraries_of "$2"); do
		[ -e "$1$l" ] || { mkdir -p "$1$(dirname "$l")" && cp -L "$l" "$1$l" || return; }
	done
}

# pack ROOT: an archive of it, on standard output; uncompressed, for unpacking is what emulation is slow at.
# The kernel accepts several one after another; a file of a later one replaces that of an earlier one.
pack() { (cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc -R 0:0 --quiet); }
