/* SPDX-License-Identifier: MIT */
/*
 * ring_sleep.pml - bytes through a ring, and sleeping without a lost wake-up (region.h, "Sleeping").
 *
 * Direction 0 runs from end Y to end X, direction 1 (with -DDUPLEX) from X to Y. An end has one doorbell,
 * shared by all its threads: a token that stays readable until somebody empties it. Each thread has a
 * one-deep store buffer in front of the shared words (more than one in flight adds nothing here: a
 * thread's stores leave in order), so a store that should be seq_cst and is not shows. The variants with
 * more threads leave the buffers out unless -DBUFFERS: they are about tokens taken by the wrong thread.
 *
 *   sleeper: empty the bell /then/ store the wish /then/ re-read the position /then/ sleep
 *   waker:   publish the position /then/ read the wish; ring if old <= wish < new
 *
 * Who empties a bell that others of the same end sleep on too has taken a token that may have been
 * theirs. So (PASS ON below) it rings its own bell again if it does not sleep itself, or if the other
 * direction has a sleeper whose wish has been passed.
 *
 * Checked: every byte in its place, exactly once; no end state but the one where everybody is done.
 * With two threads on one side, the second may give up at any time (a timeout, a signal, enough read).
 * Bounds: N ring size, M bytes a direction.
 * Variants: (none) one writer, one reader; TWO_READERS; TWO_WRITERS; DUPLEX: a reader and a writer of end X
 * share its bell; end Y is reduced to what it publishes and when it rings.
 *
 * RUN:
 * RUN: -DM=5 -DN=1
 * RUN: -DTWO_READERS -DM=3
 * RUN: -DTWO_WRITERS
 * RUN: -DDUPLEX -DM=3
 * LONG: -DM=8 -DN=3
 * LONG: -DTWO_READERS
 * LONG: -DTWO_READERS -DM=3 -DBUFFERS
 * LONG: -DTWO_WRITERS -DBUFFERS
 * LONG: -DDUPLEX
 *
 * MUTANT: NOFENCE_HEAD NOFENCE_TAIL NOFENCE_WANT_DATA NOFENCE_WANT_SPACE NO_RECHECK_DATA NO_RECHECK_SPACE
 * MUTANT: EMPTY_AFTER_RECHECK WISH_AFTER_RECHECK LOOK_BEFORE_PUBLISH RING_LATE SPACE_WISH_TOO_FAR
 * MUTANT: HEAD_BEFORE_DATA TAIL_BEFORE_COPY FIN_SILENT
 * MUTANT -DN=1: WISH_TOO_FAR
 * MUTANT -DTWO_READERS: NO_PASS_ON_OWN CLEAR_WISH
 * MUTANT -DTWO_WRITERS: NO_PASS_ON_OWN
 * MUTANT -DDUPLEX: NO_PASS_ON_OTHER
 */
#ifndef N
#define N 2
#endif
#ifndef M
#define M 4
#endif
#define NOTHING 255

/* shared words; the index doubles as the code in the store buffers */
#define HEAD(d) (1 + (d))
#define TAIL(d) (3 + (d))
#define WANT_DATA(d) (5 + (d))
#define WANT_SPACE(d) (7 + (d))
#define FIN(d) (9 + (d))
byte mem[11];
byte ring[2 * N];

#define THREADS 4
byte sb_code[THREADS], sb_val[THREADS];	/* code 0: empty */

bool bell[2];				/* of X, of Y */
bool rx_lock[2], tx_lock[2];		/* of the direction, at the end concerned */
byte rx_pos[2], tx_pos[2];		/* private to that end */
byte rx_sleepers[2], tx_sleepers[2];
byte rx_wish[2], tx_wish[2];		/* the end's own copies of what it published */
byte tx_done[2];

#define BELL_RX(d) (d)			/* direction 0 is read by X */
#define BELL_TX(d) (1 - (d))

inline lock(l) { atomic { !l -> l = 1 } }
inline unlock(l) { l = 0 }
#if (defined(TWO_READERS) || defined(TWO_WRITERS) || defined(DUPLEX)) && !defined(BUFFERS)
inline store(t, code, v) { mem[code] = v }
inline fence(t) { skip }
#else
inline store(t, code, v) { atomic { sb_code[t] == 0 -> sb_val[t] = v; sb_code[t] = code } }
inline fence(t) { sb_code[t] == 0 }
#endif

#ifdef NOFENCE_HEAD
#define FENCE_HEAD(t) skip
#else
#define FENCE_HEAD(t) fence(t)
#endif
#ifdef NOFENCE_TAIL
#define FENCE_TAIL(t) skip
#else
#define FENCE_TAIL(t) fence(t)
#endif
#ifdef NOFENCE_WANT_DATA
#define FENCE_WANT_DATA(t) skip
#else
#define FENCE_WANT_DATA(t) fence(t)
#endif
#ifdef NOFENCE_WANT_SPACE
#define FENCE_WANT_SPACE(t) skip
#else
#define FENCE_WANT_SPACE(t) fence(t)
#endif

#ifdef RING_LATE
#define PASSED(old, w, new) (old < w && w < new)
#else
#define PASSED(old, w, new) (old <= w && w < new)
#endif

proctype Drain(byte t)
{
end:	do
	:: atomic { sb_code[t] != 0 -> mem[sb_code[t]] = sb_val[t]; sb_code[t] = 0 }
	od
}

inline put_bytes(d, n)
{
	d_step {
		i = 0;
		do
		:: i < n -> ring[d * N + (tx_pos[d] + i) % N] = tx_pos[d] + i; i++
		:: else -> break
		od;
		i = 0
	}
}

inline get_bytes(d, from, n)
{
	d_step {
		i = 0;
		do
		:: i < n -> assert(ring[d * N + (from + i) % N] == from + i); i++
		:: else -> break
		od;
		i = 0
	}
}

/* The token in `took` may have been meant for a sleeper of the other direction of this end. */
inline pass_on_to_reader()
{
#if defined(DUPLEX) && !defined(NO_PASS_ON_OTHER)
	if
	:: took ->
		lock(rx_lock[o]);
		if
		:: rx_sleepers[o] > 0 && (mem[HEAD(o)] > rx_wish[o] || mem[FIN(o)]) -> bell[end] = 1
		:: else
		fi;
		unlock(rx_lock[o])
	:: else
	fi
#else
	skip
#endif
}

inline pass_on_to_writer()
{
#if defined(DUPLEX) && !defined(NO_PASS_ON_OTHER)
	if
	:: took ->
		lock(tx_lock[o]);
		if
		:: tx_sleepers[o] > 0 && mem[TAIL(o)] > tx_wish[o] -> bell[end] = 1
		:: else
		fi;
		unlock(tx_lock[o])
	:: else
	fi
#else
	skip
#endif
}

inline empty_bell(b) { atomic { took = bell[b]; bell[b] = 0 } }

proctype Writer(byte t, d)
{
	byte i, n, w, space;
	byte o = 1 - d;		/* the other direction */
	byte end = BELL_TX(d);
	bool took;

again:	lock(tx_lock[d]);
look:	if
	:: tx_pos[d] == M -> goto done
	:: else
	fi;
	space = N - (tx_pos[d] - mem[TAIL(d)]);
	assert(space <= N);
	if
	:: space > 0 ->
		if
		:: n = 1
		:: space > 1 && tx_pos[d] + 1 < M -> n = 2
		fi;
#ifdef LOOK_BEFORE_PUBLISH
		w = mem[WANT_DATA(d)];
#endif
#ifdef HEAD_BEFORE_DATA
		store(t, HEAD(d), tx_pos[d] + n);
		FENCE_HEAD(t);
		put_bytes(d, n);
#else
		put_bytes(d, n);
		store(t, HEAD(d), tx_pos[d] + n);
		FENCE_HEAD(t);
#endif
		tx_pos[d] = tx_pos[d] + n;
#ifndef LOOK_BEFORE_PUBLISH
		w = mem[WANT_DATA(d)];
#endif
		if
		:: PASSED(tx_pos[d] - n, w, tx_pos[d]) -> bell[BELL_RX(d)] = 1
		:: else
		fi;
		if
		:: tx_pos[d] == M -> goto done
		:: else -> unlock(tx_lock[d]); goto again
#ifdef TWO_WRITERS
		:: t == 2 -> goto quit
#endif
		fi
	:: else
	fi;

	/* Full. Any amount from one byte to the whole ring may be asked for. */
	if
	:: w = tx_pos[d] - N
	:: N > 1 && tx_pos[d] < M -> w = tx_pos[d] - N + 1
	fi;
#ifdef TWO_WRITERS
	w = tx_pos[d] - N;	/* one wish serves both: it has to be the most modest */
#endif
#ifdef SPACE_WISH_TOO_FAR
	w = tx_pos[d];
#endif
	tx_wish[d] = w;
#ifndef EMPTY_AFTER_RECHECK
	empty_bell(end);
#endif
#ifndef WISH_AFTER_RECHECK
	store(t, WANT_SPACE(d), w);
	FENCE_WANT_SPACE(t);
#endif
#ifndef NO_RECHECK_SPACE
	if
	:: tx_pos[d] - mem[TAIL(d)] < N ->
#ifndef NO_PASS_ON_OWN
		if
		:: took -> bell[end] = 1
		:: else
		fi;
#endif
		goto look
	:: else
	fi;
#endif
#ifdef EMPTY_AFTER_RECHECK
	empty_bell(end);
#endif
#ifdef WISH_AFTER_RECHECK
	store(t, WANT_SPACE(d), w);
	FENCE_WANT_SPACE(t);
#endif
	tx_sleepers[d]++;
	unlock(tx_lock[d]);
	pass_on_to_reader();
	if
	:: bell[end]	/* sleep: the token stays */
#ifdef TWO_WRITERS
	:: t == 2 -> lock(tx_lock[d]); tx_sleepers[d]--; goto quit
#endif
	fi;
	lock(tx_lock[d]);
	tx_sleepers[d]--;
	goto look;

done:	if
	:: !tx_done[d] ->
		tx_done[d] = 1;
		store(t, FIN(d), 1);
		fence(t);
#ifndef FIN_SILENT
		bell[BELL_RX(d)] = 1;
#endif
#ifdef TWO_WRITERS
		bell[BELL_TX(d)] = 1;	/* the other writer has nothing more to wait for */
#endif
	:: else
	fi;
quit:	unlock(tx_lock[d])
}

proctype Reader(byte t, d)
{
	byte i, n, w, from;
	byte o = 1 - d;
	byte end = BELL_RX(d);
	bool took, fin;

again:	lock(rx_lock[d]);
look:	fin = mem[FIN(d)];
	n = mem[HEAD(d)] - rx_pos[d];
	assert(n <= N);
	if
	:: n > 0 ->
		if
		:: n > 1 -> n = 1
		:: skip
		fi;
		from = rx_pos[d];
		rx_pos[d] = from + n;
#ifdef TAIL_BEFORE_COPY
		store(t, TAIL(d), rx_pos[d]);
		FENCE_TAIL(t);
		get_bytes(d, from, n);
#else
		get_bytes(d, from, n);
		store(t, TAIL(d), rx_pos[d]);
		FENCE_TAIL(t);
#endif
		w = mem[WANT_SPACE(d)];
		if
		:: PASSED(from, w, from + n) -> bell[BELL_TX(d)] = 1
		:: else
		fi;
		if
		:: unlock(rx_lock[d]); goto again
#ifdef TWO_READERS
		:: t == 2 -> goto quit
#endif
		fi
	:: n == 0 && fin -> goto done
	:: else
	fi;

#ifndef EMPTY_AFTER_RECHECK
	empty_bell(end);
#endif
	rx_wish[d] = rx_pos[d];
#ifndef WISH_AFTER_RECHECK
#ifdef WISH_TOO_FAR
	store(t, WANT_DATA(d), rx_pos[d] + 1);
#else
	store(t, WANT_DATA(d), rx_pos[d]);
#endif
	FENCE_WANT_DATA(t);
#endif
#ifndef NO_RECHECK_DATA
	if
	:: mem[HEAD(d)] != rx_pos[d] || mem[FIN(d)] ->
#ifndef NO_PASS_ON_OWN
		if
		:: took -> bell[end] = 1
		:: else
		fi;
#endif
		goto look
	:: else
	fi;
#endif
#ifdef EMPTY_AFTER_RECHECK
	empty_bell(end);
#endif
#ifdef WISH_AFTER_RECHECK
	store(t, WANT_DATA(d), rx_pos[d]);
	FENCE_WANT_DATA(t);
#endif
	rx_sleepers[d]++;
	unlock(rx_lock[d]);
	pass_on_to_writer();
	if
	:: bell[end]
#ifdef TWO_READERS
	:: t == 2 ->
		lock(rx_lock[d]);
		rx_sleepers[d]--;
#ifdef CLEAR_WISH
		store(t, WANT_DATA(d), NOTHING);
		fence(t);
#endif
		goto quit
#endif
	fi;
	lock(rx_lock[d]);
	rx_sleepers[d]--;
	goto look;

done:	assert(rx_pos[d] == M);
quit:	unlock(rx_lock[d])
}

#ifdef DUPLEX
proctype PeerWriter()
{
	do
	:: tx_pos[0] < M ->
		atomic {
			tx_pos[0] - mem[TAIL(0)] < N ->
			ring[tx_pos[0] % N] = tx_pos[0];
			tx_pos[0]++;
			mem[HEAD(0)] = tx_pos[0]
		}
		atomic {
			if
			:: PASSED(tx_pos[0] - 1, mem[WANT_DATA(0)], tx_pos[0]) -> bell[0] = 1
			:: else
			fi
		}
	:: else -> break
	od;
	mem[FIN(0)] = 1;
	bell[0] = 1
}

proctype PeerReader()
{
	/* A program may well read nothing before its own message has been read. */
	rx_pos[0] == M;
	do
	:: rx_pos[1] < M ->
		atomic {
			mem[HEAD(1)] > rx_pos[1] ->
			assert(ring[N + rx_pos[1] % N] == rx_pos[1]);
			rx_pos[1]++;
			mem[TAIL(1)] = rx_pos[1]
		}
		atomic {
			if
			:: PASSED(rx_pos[1] - 1, mem[WANT_SPACE(1)], rx_pos[1]) -> bell[0] = 1
			:: else
			fi
		}
	:: else -> break
	od
}
#endif

init {
	atomic {
		mem[WANT_DATA(0)] = NOTHING;
		mem[WANT_DATA(1)] = NOTHING;
		mem[WANT_SPACE(0)] = NOTHING;
		mem[WANT_SPACE(1)] = NOTHING;
#ifdef DUPLEX
		run PeerWriter();
		run Reader(1, 0);
		run Writer(2, 1);
		run PeerReader();
#else
		run Writer(0, 0);
		run Reader(1, 0);
		run Drain(0);
		run Drain(1);
#ifdef TWO_READERS
		run Reader(2, 0);
		run Drain(2);
#endif
#ifdef TWO_WRITERS
		run Writer(2, 0);
		run Drain(2);
#endif
#endif
	}
}
