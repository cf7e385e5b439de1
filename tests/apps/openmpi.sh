#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Open MPI over its TCP transport. mpirun starts all processes of a node, so they are in one namespace: the preload is given
# to them and not to it.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need mpirun mpicc

APP_CASES="tcp"
APP_MODES="both nodaemon oneend killed"

rounds() {
	case $MODE in
	killed) echo 1000 ;;
	plain | both) if full; then echo 2000; else echo 400; fi ;;
	*) echo 50 ;;
	esac
}

app_prepare() { mpicc -O1 -o "$WORK/mpi_ring" "$TESTS_DIR/apps/mpi_ring.c" || fail "mpicc"; }

# The first half is what elsewhere is the server, the other one the client. Where only one end is to have the preload they are
# one each, else two.
half() { [ "$MODE" = oneend ] && echo 1 || echo 2; }

app_server() { echo "$1" >"$WORK/server.prefix"; }
app_server_end() { STATUS=0; : >"$WORK/server.err"; }

with() {
	[ "$1" = env ] && return
	preload_for mpi_ring
	printf -- '-x %s ' "${PRELOADED[@]}" "XSHIM_SOCKET=$XSHIM_SOCKET"
}

app_client() {
	local server n
	n=$(half)
	server=$(cat "$WORK/server.prefix")
	# shellcheck disable=SC2046
	ns_run b env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PMIX_MCA_gds=hash HOME="$WORK" \
		mpirun --oversubscribe --bind-to none --mca btl tcp,self --mca btl_tcp_if_include v0 --mca pml ob1 \
		--mca mpi_yield_when_idle 1 --mca oob_tcp_if_include lo --mca btl_vader_single_copy_mechanism none \
		-np "$n" $(with "$server") "$WORK/mpi_ring" "$(rounds)" : -np "$n" $(with "$1") "$WORK/mpi_ring" "$(rounds)"
}

app_check() {
	local kept
	kept=$WORK/sum.$(half).$(rounds)
	check_eq "$RUN: the answer but for the sum" "$(cut -d' ' -f1-4 "$WORK/client.out")" "size $((2 * $(half))) rounds $(rounds)"
	[ -e "$kept" ] || cp "$WORK/client.out" "$kept"
	cmp -s "$WORK/client.out" "$kept" || fail "$RUN: the sum is not as over plain TCP"
	APP_BYTES=$(($(rounds) * 2 * $(half) * 110000))
}

app_label() { echo "ring of 4 processes"; }
# four processes and two processors: the first blocks of 1 MiB go while the ends are introduced
app_share() { echo 95; }
app_half() { echo 20000000; }

app_main "$@"
