/* SPDX-License-Identifier: MIT */
/*
 * port_turn.pml - an end with several event channels, which are written back together (region.h, "Ports"; src/backend_xen.c).
 *
 * A port that has spoken is mute until it is written back; what is rung meanwhile is told then. Ports that have spoken are queued
 * for a read, and the sleeper is woken while there are any. Memory is sequentially consistent, as all accesses to port_at and the
 * wishes are, and those to the ring's positions (ring_sleep.pml).
 *
 *   waker:   publishes /then/ reads the wish /then/ reads port_at /then/ rings
 *   sleeper: reads which have spoken. The one that was asked for: the next is, and behind the last all are written back and it is the
 *            first; others are written back at once. It stores port_at /then/ its wish /then/ looks /then/ sleeps
 *
 * Wakers are W threads of the peer, which send one byte each after the other and may be held up anywhere; each rings up to K times
 * more without being asked, as is done for switches.
 *
 * Checked: no end state but the one where all bytes were read.
 *
 * RUN: -DW=1 -DM=4 -DK=2
 * RUN: -DW=2 -DM=2 -DK=1
 * RUN: -DN=3 -DW=1 -DM=4 -DK=3
 * LONG: -DW=2 -DM=3 -DK=1
 * LONG: -DN=3 -DW=2 -DM=2 -DK=2
 *
 * MUTANT -DW=2 -DM=2 -DK=1: LATE_LEFT_MUTE PORT_AFTER_WISH PORT_BEFORE_PUBLISHING NOT_WRITTEN_BACK
 */
#ifndef N
#define N 2
#endif
#ifndef K
#define K 1
#endif
#define TOTAL (W * M)

byte head, want, port_at;		/* want: "ring when your head passes n" */
bool mute[N], pending[N], queued[N];
bool queue;				/* some are */
byte pos;
bool sending;				/* the peer's lock of the direction */

inline speak(p)
{
	atomic {
		if
		:: mute[p] -> pending[p] = 1
		:: else -> mute[p] = 1; queued[p] = 1; queue = 1
		fi
	}
}

/* a pending event is told at once */
inline write_back(p)
{
	atomic {
		if
		:: mute[p] && pending[p] && !queued[p] -> pending[p] = 0; queued[p] = 1; queue = 1
		:: mute[p] && !pending[p] && !queued[p] -> mute[p] = 0
		:: else
		fi
	}
}

proctype Waker()
{
	byte sent, extra, w, p, mine;

	do
	:: sent < M ->
#ifdef PORT_BEFORE_PUBLISHING
		p = port_at;
#endif
		atomic { !sending -> sending = 1 };
		mine = head + 1;
		head = mine;
		w = want;
		sending = 0;
		sent++;
		if
		:: w == mine - 1 ->
#ifndef PORT_BEFORE_PUBLISHING
			p = port_at;
#endif
			speak(p)
		:: else
		fi
	:: extra < K ->
		extra++;
		p = port_at;
		speak(p)
	:: sent == M -> break
	od
}

proctype Sleeper()
{
	byte at, i;
	bool heard, hit, spoken[N];

again:	do
	:: pos < head -> pos = head
	:: else -> break
	od;
	if
	:: pos == TOTAL -> goto out
	:: else
	fi;
#ifdef PORT_AFTER_WISH
	want = pos;
	if
	:: head != pos -> goto again
	:: else
	fi;
#endif
	if
	:: heard ->
		heard = 0;
		atomic {	/* one read */
			i = 0;
			do
			:: i < N -> spoken[i] = queued[i]; queued[i] = 0; i++
			:: else -> break
			od;
			queue = 0
		};
		at = port_at;
		hit = spoken[at];
		spoken[at] = 0;
		if
		:: hit && at + 1 == N ->
#ifndef NOT_WRITTEN_BACK
			i = 0;
			do
			:: i < N -> write_back(i); i++
			:: else -> break
			od;
#endif
			at = 0
		:: else ->
#ifndef LATE_LEFT_MUTE
			i = 0;
			do
			:: i < N ->
				if
				:: spoken[i] -> write_back(i)
				:: else
				fi;
				i++
			:: else -> break
			od;
#endif
			if
			:: hit -> at++
			:: else
			fi
		fi;
		port_at = at
	:: else
	fi;
#ifndef PORT_AFTER_WISH
	want = pos;
	if
	:: head != pos -> goto again
	:: else
	fi;
#endif
	queue;
	heard = 1;
	goto again;
out:	skip
}

init {
	byte i;

	atomic {
		want = 255;
		run Sleeper();
		i = 0;
		do
		:: i < W -> run Waker(); i++
		:: else -> break
		od;
		i = 0
	}
}
