#!/bin/bash
# SPDX-License-Identifier: MIT
#
# lab.sh - a Xen to play with: dom0 and guests under QEMU, with the build of $XSHIM_BUILD inside; `make xen-lab`.
#
#   lab.sh [OPTION]...        options of run.sh: -n GUESTS (2), -t pv|pvh, -m MIB, -v PROCESSORS, -a, -p DIR, -e WORDS
#
# The terminal becomes dom0's console; half a minute later there is a shell. Then, for example:
#
#   dom0# xl list
#   dom0# xl console g1                       leave it with Ctrl-] ; a shell runs there, too
#   g1#   mkdir -p /run/xshim; xshimd &       libxshim.so, xshimd, xshim and test programs are in /opt/xshim
#   g1#   . /lab/lib.sh; shim stream server 10.77.0.11 7000
#   dom0# exit                                powers the machine off; Ctrl-A X ends QEMU at once
#
# Guest N has address 10.77.0.1N, dom0 10.77.0.1. The functions of lib.sh (. /lab/lib.sh) are in guests and dom0:
# xshimd_start, stat_get, as_user, and in dom0 guest_destroy, guest_create, guest_save, guest_restore.
[ "${1:-}" != -h ] || { sed -n '/^# lab.sh -/,/^\[/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0; }
. "$(dirname "$0")/common.sh"
missing=$(lab_missing)
[ -z "$missing" ] || die "$missing"
[ -t 0 ] || say "the console wants a terminal; going on without" >&2
LAB_MODE=shell exec "$LAB_SOURCE/run.sh" "$@"
