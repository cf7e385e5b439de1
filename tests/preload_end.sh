#!/bin/bash
# SPDX-License-Identifier: MIT
# how connections end: half-closes, closes, resets, deaths of either end: the same as over plain TCP.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"
case ${1:-} in
leave_*) XSHIM_FORCE_LEAVE=100000 behave_main leave "$@" ;;
?*) behave_main end "$@" ;;
*)
	behave_main end
	XSHIM_FORCE_LEAVE=100000 behave_main leave
	;;
esac
