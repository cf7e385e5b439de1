/* SPDX-License-Identifier: MIT */
/*
 * switch.pml - one direction goes up to the ring and down to TCP again and again (region.h, "Switches").
 *
 * TCP is a FIFO of bytes that says nothing of the switches; they are announced out of band, in words that
 * can be seen before or after the bytes. A byte's value is its offset, so a byte on the wrong path, lost,
 * doubled or out of order fails an assertion. A TCP read takes one or two bytes at once, and what was
 * consulted before it may be stale by then. It goes down to TCP also before the reader has crossed the up, if it finds it not
 * `reading`. The writer's words, and `reading`, pass a store buffer. Each end sleeps on its bell
 * (and on TCP where it is on TCP), having emptied the bell before it looked. Bytes on the ring ring only by the
 * reader's wish, and there is none while it is on TCP: who crosses onto an empty ring has to arm again.
 *
 * Checked: bytes in order and complete; positions never go back (what -EPROTO would be); both ends finish.
 * Bounds: N ring size, T TCP's buffer, M bytes, U times up.
 * Variants: (none); STOPS: the reader may read no more from some time on, and rings no more, but is not in a read then. TCP takes all
 * the bytes, so a writer that does not finish is one that did not come down. When a read ends nothing rings: a writer with a full
 * ring that was held up by it looks again by itself, after a while.
 *
 * RUN:
 * RUN: -DN=1 -DT=2
 * RUN: -DSTOPS -DN=1 -DM=5 -DT=5
 * LONG: -DM=9 -DU=3
 * LONG: -DM=11 -DU=4 -DN=3
 * LONG: -DSTOPS -DN=2 -DM=8 -DT=8 -DU=3
 *
 * MUTANT: UP_WITHOUT_ACK DOWN_IN_READ READ_UNSAID LOOK_BEFORE_SAID NOFENCE_READING ONE_PLACE
 * MUTANT: ACK_WHEN_ANNOUNCED CROSS_WHEN_ANNOUNCED SEQ_BEFORE_AT LOAD_AT_FIRST
 * MUTANT: SWITCH_BEFORE_HEAD UP_UNATTACHED UP_SILENT DOWN_SILENT RING_THEN_SWITCH NOFENCE_SWITCH
 * MUTANT: NO_CONSULT_BEFORE_SLEEP SLEEP_AFTER_CROSSING
 * MUTANT -DSTOPS -DN=1 -DM=5 -DT=5: NO_LOOK_AGAIN DOWN_ONLY_WHEN_ACKED DOWN_IN_READ
 */
#ifndef N
#define N 2
#endif
#ifndef T
#define T 3
#endif
#ifndef M
#define M 7
#endif
#ifndef U
#define U 2
#endif
#define NONE 255

chan tcp = [T] of { byte };
byte ring[N];
byte head, sw_at[2], sw_seq;	/* the writer's words */
byte tail, ack, want_data = NONE;	/* the reader's words */
bool attached, reading;		/* the reader's, too */
bool bell_w, bell_r;

#define W_HEAD 1
#define W_SEQ 2
#define W_AT 3		/* and 4: by the parity of the switch */
chan stores = [3] of { byte, byte };	/* the writer's store buffer */
chan said = [1] of { bool };		/* the reader's, for `reading` */

active proctype Drain()
{
	byte v;

end:	do
	:: atomic { stores?W_HEAD(v) -> head = v }
	:: atomic { stores?W_AT(v) -> sw_at[0] = v }
	:: atomic { stores?eval(W_AT + 1)(v) -> sw_at[1] = v }
	:: atomic { stores?W_SEQ(v) -> sw_seq = v }
	:: atomic { said?reading }
	od
}

#ifdef ONE_PLACE
#define PLACE 0
#else
#define PLACE (seq % 2)
#endif

inline announce(silent)
{
	seq++;
#ifdef RING_THEN_SWITCH
	bell_r = 1;
#endif
#ifdef SEQ_BEFORE_AT
	stores!W_SEQ(seq);
	if
	:: PLACE -> stores!(W_AT + 1), pos
	:: else -> stores!W_AT, pos
	fi;
#else
	if
	:: PLACE -> stores!(W_AT + 1), pos
	:: else -> stores!W_AT, pos
	fi;
	stores!W_SEQ(seq);
#endif
#ifndef NOFENCE_SWITCH
	empty(stores);
#endif
#ifndef RING_THEN_SWITCH
	if
	:: !(silent) -> bell_r = 1
	:: else
	fi
#endif
}

#ifdef UP_WITHOUT_ACK
#define MAY_UP 1
#else
#define MAY_UP (ack == seq)
#endif
#ifdef DOWN_IN_READ
#define MAY_DOWN 1
#elif defined(DOWN_ONLY_WHEN_ACKED)
#define MAY_DOWN (ack == seq)
#else
#define MAY_DOWN (ack == seq || !reading)
#endif
#ifdef UP_UNATTACHED
#define PEER_THERE 1
#else
#define PEER_THERE attached
#endif
#ifdef UP_SILENT
#define SILENT_UP 1
#else
#define SILENT_UP 0
#endif
#ifdef DOWN_SILENT
#define SILENT_DOWN 1
#else
#define SILENT_DOWN 0
#endif
/* Until the reader crosses, its tail still speaks of an earlier segment. */
#define SPACE (N - (pos - (tail > start -> tail : start)))

active proctype Writer()
{
	byte pos, seq, start, ups;
	bool on_ring;

	do
	:: pos == M -> break
	:: else ->
		bell_w = 0;
		if
		:: !on_ring && nfull(tcp) -> atomic { tcp!pos; pos++ }
		:: !on_ring && ups < U && PEER_THERE && MAY_UP ->
			on_ring = 1;
			ups++;
			start = pos;
#ifndef SWITCH_BEFORE_HEAD
			stores!W_HEAD(pos);
#endif
			announce(SILENT_UP);
#ifdef SWITCH_BEFORE_HEAD
			stores!W_HEAD(pos);
			empty(stores)
#endif
		:: on_ring && SPACE > 0 ->
			atomic { ring[pos % N] = pos; pos++ }
			stores!W_HEAD(pos);
			empty(stores);
			if
			:: want_data == pos - 1 -> bell_r = 1
			:: else
			fi
		:: on_ring && MAY_DOWN ->
			on_ring = 0;
			announce(SILENT_DOWN)
		:: else ->
			if
			:: bell_w
			:: !on_ring && nfull(tcp)
#if defined(STOPS) && !defined(NO_LOOK_AGAIN)
			:: on_ring && MAY_DOWN	/* xshim_tx_peer_reads() */
#endif
			fi
		fi
	od
}

inline take_tcp()
{
	atomic { tcp?b; assert(b == pos); pos++ }
}

active proctype Reader()
{
	byte pos, seq, s, at, lim, known, b, h;
	bool on_ring, aloof, nothing;

	/* Not attached: plain reads, nothing is consulted. It may stay so for good. */
	if
	:: aloof = 1
	:: skip
	fi;
	do
	:: pos < M && nempty(tcp) -> take_tcp()
	:: pos == M -> goto done
	:: pos < M && !aloof -> attached = 1; bell_w = 1; break
	od;

again:	if
	:: pos == M -> goto done
#ifdef STOPS
	:: pos < M -> goto done
#endif
	:: pos < M
	fi;
	bell_r = 0;
	want_data = (on_ring -> pos : NONE);
#ifdef NO_CONSULT_BEFORE_SLEEP
	if
	:: !on_ring -> lim = NONE; goto read
	:: else
	fi;
#endif
consult:
#ifdef LOAD_AT_FIRST
	at = sw_at[(seq + 1) % 2];
	s = sw_seq;
#else
	s = sw_seq;
	at = sw_at[(seq + 1) % 2];
#endif
	if
	:: s == seq -> lim = NONE
	:: else ->
		assert(s == seq + 1 || s == seq + 2 && !on_ring);
		lim = at;
#ifdef ACK_WHEN_ANNOUNCED
		ack = s;
		bell_w = 1;
#endif
#ifdef CROSS_WHEN_ANNOUNCED
		lim = pos;
#endif
		assert(lim >= pos);
		if
		:: lim == pos ->
			seq++;
			on_ring = !on_ring;
			if
			:: on_ring -> known = pos; tail = pos
			:: else
			fi;
			ack = seq;
			bell_w = 1;
#ifdef SLEEP_AFTER_CROSSING
			goto consult
#else
			goto again
#endif
		:: else
		fi
	fi;
#ifdef NO_CONSULT_BEFORE_SLEEP
read:
#endif
	if
	:: on_ring ->
		h = (lim == NONE -> head : lim);
		assert(h >= known && h - pos <= N);
		known = h;
		if
		:: h > pos ->
			assert(ring[pos % N] == pos);
			pos++;
			tail = pos;
			bell_w = 1
		:: else -> bell_r
		fi
	:: else ->
#ifndef READ_UNSAID
		if
		:: lim == NONE ->
			said!1;
#ifndef NOFENCE_READING
			empty(said);
#endif
#if !defined(LOOK_BEFORE_SAID) && !defined(NO_CONSULT_BEFORE_SLEEP)
			if
			:: sw_seq != seq -> said!0; goto again
			:: else
			fi
#endif
		:: else
		fi;
#endif
		if
		:: nempty(tcp) && (lim == NONE || lim > pos) -> take_tcp()
		:: len(tcp) > 1 && (lim == NONE || lim > pos + 1) -> atomic { take_tcp(); take_tcp() }
		:: empty(tcp) -> nothing = 1
		fi;
#ifndef READ_UNSAID
		if
		:: lim == NONE -> said!0
		:: else
		fi;
#endif
		if
		:: nothing ->
			nothing = 0;
			if
			:: bell_r
			:: nempty(tcp)
			fi
		:: else
		fi
	fi;
	goto again;

done:	skip
}
