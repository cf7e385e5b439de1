/* SPDX-License-Identifier: MIT */
/*
 * bell_edge.pml - a doorbell that is heard by edges and not emptied each time (region.h, rung; preload/ready.c).
 *
 * The bell holds CAP tokens. One that finds it full is lost; every other is an edge to who waits for edges, also if there are tokens
 * in it already; one that ticks (src/backend_shm.c) is never full. A poller sees tokens and no edges. What wakes a waiter for edges is looked at again when he runs: if the bell has
 * been emptied meanwhile, he sleeps on.
 *
 *   peer:   count the ring /then/ put the token
 *   waiter for edges: let the bell be if, since it was emptied, less than HOLDS rings were counted, at least one of
 *           them since he last let it be, and none was our own; else empty it (the count is read /then/ the
 *           bell emptied); store the wish /then/ look /then/ sleep
 *   poller: empties what was heard, always
 *
 * Who empties the bell and finds something that others of the same end wait for rings it himself. Bytes and wishes are as in
 * ring_sleep.pml, which is about their order; here memory is sequentially consistent and the ring has no end. The peer rings up to
 * K times more than it is asked to, as it does for switches and requests.
 *
 * Checked: no end state but the one where everybody is done: all M bytes read, the end of the stream seen, and what another
 * thread of ours had to tell (TELLS); that alone, if the peer lies.
 * Variants: POLLER: a poller is at it, too, and may give up at any time. TELLS: a thread of ours rings our own bell when it has
 * something to tell, T times. LIAR: the rings beyond those asked for are not counted.
 * CAP is HOLDS and one more for each who rings: one ring may be counted, or noted as our own, before the bell is emptied, and put in after.
 *
 * RUN: -DK=4
 * RUN: -DPOLLER -DM=1 -DK=1
 * RUN: -DTELLS -DM=1 -DK=3
 * RUN: -DTELLS -DM=1 -DLIAR -DK=2
 * LONG: -DPOLLER -DK=2
 * LONG: -DTELLS -DK=4
 * LONG: -DPOLLER -DTELLS -DM=1 -DK=1 -DT=1
 *
 * MUTANT -DK=5: NO_LIMIT NO_MARGIN COUNT_AFTER_EMPTY
 * MUTANT -DPOLLER -DM=1 -DK=1: NO_PASS_ON
 * MUTANT -DTELLS -DM=1 -DK=5: OWN_RINGS_UNNOTED
 * MUTANT -DTELLS -DM=1 -DLIAR -DK=5: OWN_RING_INTO_FULL
 */
#ifndef M
#define M 2
#endif
#ifndef K
#define K 2
#endif
#ifndef T
#define T 2
#endif
#define HOLDS 2
#ifdef NO_MARGIN
#define CAP HOLDS
#elif defined(TELLS)
#define CAP (HOLDS + 2)
#else
#define CAP (HOLDS + 1)
#endif
#define NOTHING 255

byte head, want = NOTHING, rung;	/* shared with the peer */
bool fin;
byte bell;
bool edge;				/* a token was put in since the waiter for edges was last told */

bool lock;				/* both of the slot; guards what follows */
byte pos, hushed_rung, let_rung;
byte maybe;				/* 1: heard; 2: let be */
bool self_rung;
byte waits;				/* counted before the look */
byte telling, told;			/* by a thread of ours, and seen */

#define HEARD 1
#define LET 2

inline take() { atomic { !lock -> lock = 1 } }
inline drop() { lock = 0 }

inline put()
{
	atomic {
		if
		:: bell < CAP -> bell++; edge = 1
		:: else
		fi
	}
}

inline ring_self()
{
#ifndef OWN_RINGS_UNNOTED
	self_rung = 1;
#endif
	atomic {
		if
		:: bell < CAP
#ifndef OWN_RING_INTO_FULL
		:: else -> bell = 0	/* a pending edge finds nothing, but for the token that follows */
#else
		:: else
#endif
		fi
	};
	put()
}

proctype Peer()
{
	byte sent, extra, w;

	do
	:: sent < M ->
		sent++;
		head = sent;
		w = want;
		if
		:: w < sent && sent - 1 <= w -> rung++; put()
		:: else
		fi
	:: extra < K ->
		extra++;
#ifndef LIAR
		rung++;
#endif
		put()
	:: sent == M -> break
	od;
	fin = 1;
	rung++;
	put()
}

#ifdef TELLS
proctype Teller()
{
	byte n;

	do
	:: n < T ->
		n++;
		telling = n;
		ring_self()
	:: else -> break
	od
}
#define ALL_TOLD (told == T)
#define NEWS (telling != told)
#else
#define ALL_TOLD true
#define NEWS false
#endif

#ifdef NO_LIMIT
#define IS_FULL(n) false
#else
#define IS_FULL(n) ((n) - hushed_rung >= HOLDS)
#endif

/* by_edges: the waiter for edges. seen: what the peer's count was. */
inline look(by_edges)
{
	hushed = 0;
	if
	:: maybe != 0 ->
		was = maybe;
		seen = rung;
		if
		:: by_edges && !self_rung && !IS_FULL(seen) && (was == LET || seen != let_rung) ->
			let_rung = seen;
			atomic {
				if
				:: maybe == was -> maybe = LET
				:: else
				fi
			}
		:: else ->
			maybe = 0;
			self_rung = 0;
#ifdef COUNT_AFTER_EMPTY
			bell = 0;
			hushed_rung = rung;
#else
			hushed_rung = rung;
			bell = 0;
#endif
			let_rung = hushed_rung;
			hushed = 1
		fi
	:: else
	fi;
	want = pos;
	found = head != pos || fin || NEWS;
#ifndef NO_PASS_ON
	if
	:: hushed && found && waits > 1 -> ring_self()
	:: else
	fi
#endif
}

#ifdef LIAR
#define DONE ALL_TOLD		/* its own rings may be lost, and what they were for comes late or not at all */
#else
#define DONE (pos == M && fin && ALL_TOLD)
#endif

proctype Dozer()
{
	byte was, seen;
	bool hushed, found;

again:	take();
	if
	:: NEWS -> told = telling
	:: else
	fi;
	if
	:: pos < head -> pos++; drop(); goto again
	:: else
	fi;
	if
	:: DONE -> drop(); goto out
	:: else
	fi;
	drop();
	waits++;
	take();
	look(true);
#ifdef TELLS
	/* the end of the stream is no news, as long as there is something to be told */
	found = pos < head || NEWS || (fin && ALL_TOLD);
#endif
	drop();
	if
	:: found
	:: else ->
sleep:		atomic { edge -> edge = 0 };
		if
		:: bell == 0 -> goto sleep
		:: else -> maybe = HEARD
		fi
	fi;
	waits--;
	goto again;
out:	skip
}

#ifdef POLLER
proctype Poller()
{
	byte was, seen;
	bool hushed, found;

again:	take();
	if
	:: pos < head -> pos++
	:: skip
	fi;
	if
	:: DONE -> drop(); goto out
	:: else
	fi;
	drop();
	waits++;
	take();
	look(false);
	drop();
	if
	:: found
	:: else ->
		if
		:: bell > 0 -> maybe = HEARD
		:: waits--; goto out
		fi
	fi;
	waits--;
	if
	:: goto again
	:: goto out
	fi;
out:	skip
}
#endif

init {
	atomic {
		run Peer();
		run Dozer();
#ifdef POLLER
		run Poller();
#endif
#ifdef TELLS
		run Teller();
#endif
	}
}
