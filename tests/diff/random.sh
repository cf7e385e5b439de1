#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Random sequences of socket calls over plain TCP and under the preload. A sequence whose results differ is
# shortened as long as it still differs, and printed with its seed.
#
#   random.sh [SEED [COUNT]]	default: 2000 from 1, always the same; with XSHIM_LONG 20000 from one that depends on the time
. "${srcdir:-$(dirname "$0")/../..}/tests/diff/lib.sh"

if [ -n "${XSHIM_LONG:-}" ]; then
	SEED=${1:-$(($(date +%s) % 1000000 * 1000))} COUNT=${2:-20000}
else
	SEED=${1:-1} COUNT=${2:-2000}
fi
note "seeds $SEED to $((SEED + COUNT - 1))"
diff_begin
diff_play --random "$SEED" --count "$COUNT"
diff_end
