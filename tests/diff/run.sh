#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The differential suite: every case of cases/ over plain TCP and under the preload, from each phase of a
# connection's life; what the calls return must be the same (cases/README). The kernel is the oracle.
#
#   run.sh [FILE...]	XSHIM_DIFF_CASE=NAME: one case; XSHIM_DIFF_PHASES=LIST; XSHIM_DIFF_VERBOSE=1: print all results
. "${srcdir:-$(dirname "$0")/../..}/tests/diff/lib.sh"

FILES=("$@")
[ $# -gt 0 ] || FILES=("$DIFF_DIR"/cases/*.txt)
# Its threads keep step by another process, and what one hands to another goes by entries of the kernel's: a checker of threads sees
# neither, and ends them.
if [ $# = 0 ] && [[ $XSHIM_PRELOAD = *libtsan* ]]; then
	note "threads.txt: not under the thread sanitizer"
	GLOBIGNORE=$DIFF_DIR/cases/threads.txt
	FILES=("$DIFF_DIR"/cases/*.txt)
	unset GLOBIGNORE
fi
diff_begin
diff_play "${FILES[@]}"
diff_end
