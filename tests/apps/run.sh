#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh [NAME...] [MODE...] - run the named programs' tests (default: all) in the named modes (default:
# the test's own), one after the other. Names are those of the scripts beside this one; for modes see lib/app.sh.

here=$(cd "$(dirname "$0")" && pwd)
names=() modes=() status=0
for word in "$@"; do
	if [ -x "$here/$word.sh" ] && [ "$word" != run ]; then
		names+=("$word")
	else
		case $word in
		plain | both | nodaemon | oneend | killed | restarted | version) modes+=("$word") ;;
		*) echo "run.sh: \"$word\" is neither a program here nor a mode" >&2; exit 2 ;;
		esac
	fi
done
if [ ${#names[@]} = 0 ]; then
	for f in "$here"/*.sh; do
		[ "$f" = "$here/run.sh" ] || names+=("$(basename "$f" .sh)")
	done
fi
for name in "${names[@]}"; do
	"$here/$name.sh" "${modes[@]}"
	rc=$?
	[ $rc = 77 ] || [ $rc = 0 ] || { echo "$name: failed"; status=1; }
done
exit $status
