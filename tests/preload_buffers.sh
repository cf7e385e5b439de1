#!/bin/bash
# SPDX-License-Identifier: MIT
# SO_SNDBUF and SO_RCVBUF bound what is under way on a ring as they do over plain TCP; on one that could take more by far.
. "${srcdir:-$(dirname "$0")/..}/tests/lib/behave.sh"

export XSHIM_RING_SIZE=1048576
behave_main buffers "$@"
