#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fetch.sh - downloads what the Xen lab boots and unpacks it into $XSHIM_XEN_DIR/pkg (see common.sh).
# Installs nothing, and needs no root; what is installed or unpacked already is not fetched.
. "$(dirname "$0")/common.sh"

# The parts of the kernel package that the lab uses, of 400 MB.
KERNEL_PARTS="boot/vmlinuz-* lib/modules/*/modules.order lib/modules/*/modules.builtin
	lib/modules/*/modules.builtin.modinfo lib/modules/*/kernel/drivers/xen lib/modules/*/kernel/drivers/net/xen*
	lib/modules/*/kernel/drivers/virtio lib/modules/*/kernel/net/9p lib/modules/*/kernel/net/802
	lib/modules/*/kernel/net/llc lib/modules/*/kernel/net/bridge lib/modules/*/kernel/fs/9p
	lib/modules/*/kernel/fs/netfs lib/modules/*/kernel/fs/fscache"

# Newest version of the kernel package that linux-image-amd64 stands for.
kernel_package() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1; }

lab_find
[ -n "$MISSING_UNPACKED" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
	die "this is no Debian; unpack what corresponds to$MISSING_UNPACKED into $LAB/pkg"
mkdir -p "$LAB/deb" && cd "$LAB/deb" || die "cannot make $LAB/deb"
names=
for p in $MISSING_UNPACKED; do
	[ "$p" != linux-image-amd64 ] || p=$(kernel_package)
	names="$names ${p:-linux-image-amd64}"
done
rm -f ./*.deb
# shellcheck disable=SC2086
apt-get download -qq -o APT::Sandbox::User=root $names || die "apt-get download failed for:$names"
mkdir -p "$LAB/pkg.new"
for deb in ./*.deb; do
	case $deb in
	# shellcheck disable=SC2086
	*/linux-image-*) dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$LAB/pkg.new" --wildcards $(printf './%s ' $KERNEL_PARTS) ;;
	*) dpkg-deb -x "$deb" "$LAB/pkg.new" ;;
	esac || die "cannot unpack $deb"
done
mkdir -p "$LAB/pkg" && cp -a "$LAB/pkg.new/." "$LAB/pkg/" || die "cannot write $LAB/pkg"
rm -rf "$LAB/pkg.new" "$LAB/deb"
lab_find
[ -z "$MISSING_UNPACKED" ] || die "still missing in $LAB/pkg:$MISSING_UNPACKED"
KERNEL_ROOT=${KERNEL_ROOT:-/}
depmod -b "$KERNEL_ROOT" "$KERNEL" || die "depmod failed for $KERNEL_ROOT/lib/modules/$KERNEL"
say "unpacked into $LAB/pkg:$names"
