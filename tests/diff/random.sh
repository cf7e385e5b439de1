#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Random sequences of socket calls over plain TCP and under the preload. A sequence whose results differ is
# shortened as long as it still differs, and printed with its seed.
#
#   random.sh [SEED [COUNT]]	default: 2000 from 1, always the same
#   random.sh long [SEED]	on and on, from one that depends on the time, until SIGINT or SIGTERM, or for XSHIM_LONG_SECONDS;
#				says how many were played. One that differs ends it at once, with a status that is not 0.
. "${srcdir:-$(dirname "$0")/../..}/tests/diff/lib.sh"

if [ "${1:-}" = long ]; then
	SEED=${2:-$(($(date +%s) % 1000000 * 1000))}
	case ${XSHIM_LONG_SECONDS:=0} in
	*[!0-9]*) fail "XSHIM_LONG_SECONDS=$XSHIM_LONG_SECONDS is no number of seconds" ;;
	esac
	START_BY=(setsid)	# what the terminal sends is for this script, and not for what it has started
	diff_begin
	note "seeds from $SEED on, until SIGINT or SIGTERM for process $$" \
		"$([ "$XSHIM_LONG_SECONDS" = 0 ] || echo "or for $XSHIM_LONG_SECONDS seconds")"
	diff_play --random "$SEED" --until-told --seconds "$XSHIM_LONG_SECONDS"
	players_wait
	diff_end
	note "$(cat "$WORK"/player*.out | awk '/^[0-9]+ cases, / { n += $1 } END { print n + 0 }') seeds played, none differs"
	exit 0
fi
SEED=${1:-1} COUNT=${2:-2000}
LIMIT=$((600 + COUNT / 3))	# seconds; of a quiet machine it is a hundredth of COUNT
note "seeds $SEED to $((SEED + COUNT - 1))"
diff_begin
diff_play --random "$SEED" --count "$COUNT"
diff_end
