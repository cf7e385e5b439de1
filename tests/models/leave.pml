/* SPDX-License-Identifier: MIT */
/*
 * leave.pml - a full channel goes up, spills, leaves to TCP by LEAVE frames, and joins again (link.h).
 *
 * Two ends, both directions, TCP as two FIFOs that carry raw bytes, LEAVE and FIN. Either end, or both at
 * once, may ask to leave at any time at which it has not closed, also while its own stream is on TCP (it then
 * goes up for it), and while the other spills or half-closes. Who has asked may take it back at any time at which it has not
 * begun; or leave alone, without LEAVE; or give back what is unread on the other's ring, which the other takes, or which it takes back to
 * read it. A byte's value is its offset. Accesses that one decision rests on are separate steps, so the other end can move in
 * between; what switch.pml has shown to be one announcement (sw_at, sw_seq) is one step here. An end that can do nothing
 * sleeps, and wakes whenever that changes (ring_sleep.pml).
 *
 * Checked: each stream exact; a frame met only where one is expected, raw bytes only where they are;
 * nothing sent after FIN; what is sent again is still in the ring; nobody begins to leave when no one asks for it, because it would
 * wait for an answer; no state in which an end waits for ever.
 * Bounds: N ring size, T TCP's buffer, MA and MB bytes from A and B, U times up and D times down a
 * channel (one up more for a peer that asks to leave), ASKS asks of an end, of which it takes UNASKS back, G channels,
 * of which an end leaves ALONE alone; GIVES gives, of which it takes UNGIVES back.
 * Variants: (none); MUST_LEAVE: who asked sends nothing more until it is out, as before an exec, and an end closes
 * only when it has read everything: so a leave that does not come about is a deadlock. MUST_GIVE: what was given is not taken back, as
 * after an exec, and an end closes only when it has read everything: so are bytes that do not come.
 *
 * RUN: -DN=1 -DMA=2 -DMB=1
 * RUN: -DN=1 -DMA=2 -DMB=1 -DG=1 -DASKS=2 -DUNASKS=1
 * RUN: -DN=1 -DMA=1 -DMB=1 -DG=1 -DALONE=1
 * RUN: -DN=1 -DMA=2 -DMB=1 -DG=1 -DGIVES=1 -DUNGIVES=1
 * RUN: -DN=1 -DMA=2 -DMB=1 -DG=1 -DASKS=0 -DGIVES=1 -DMUST_GIVE
 * RUN: -DN=2 -DMA=2 -DMB=1 -DD=0
 * RUN: -DN=1 -DMA=2 -DMB=1 -DMUST_LEAVE
 * LONG: -DN=1 -DMA=2 -DMB=2
 * LONG: -DN=1 -DMA=2 -DMB=2 -DMUST_LEAVE
 * LONG: -DN=2 -DMA=2 -DMB=1
 * LONG: -DN=1 -DMA=2 -DMB=1 -DASKS=2 -DG=3 -DD=0
 * LONG: -DN=2 -DMA=3 -DMB=1
 * LONG: -DN=1 -DMA=2 -DMB=1 -DG=1 -DALONE=1
 * LONG: -DN=1 -DMA=1 -DMB=1 -DASKS=0 -DGIVES=1 -DUNGIVES=1
 * LONG: -DN=2 -DMA=2 -DMB=1 -DG=1 -DGIVES=2 -DUNGIVES=2
 * LONG: -DN=1 -DMA=1 -DMB=1 -DG=1 -DASKS=0 -DGIVES=1 -DUNGIVES=1 -DALONE=1
 * LONG: -DN=1 -DMA=1 -DMB=1 -DG=1 -DUNASKS=1 -DGIVES=1 -DUNGIVES=1
 * LONG: -DN=1 -DMA=2 -DMB=1 -DUNASKS=1
 * LONG: -DN=1 -DMA=2 -DMB=1 -DG=1 -DASKS=2 -DUNASKS=2
 *
 * MUTANT: ASKER_BEGINS LEAVE_WITHOUT_ACK LEAVE_WITH_BOUNDARY_AHEAD LEAVE_WORD_LAST DOWN_AFTER_ASK
 * MUTANT: CONSULT_BEFORE_LOOK NOTHING_RESENT RESEND_FROM_TAIL_SEEN RESEND_FROM_START NEW_BEFORE_RESENT
 * MUTANT: READ_AFTER_BEGIN
 * MUTANT: WRITE_AFTER_BEGIN FIN_NOT_DEFERRED NO_UNDO ANSWER_AFTER_FIN HOLD_AFTER_FIN UP_UNATTACHED
 * MUTANT -DG=1 -DUNASKS=1: UNASK_BLIND ANSWERING_LAST DOWN_AFTER_UNDO
 * MUTANT -DG=1 -DALONE=1: ALONE_BLIND ALONE_UNREAD ALONE_LOOKS_FIRST DOWN_BLIND FIN_BLIND LATE_BLIND ALONE_TOGETHER
 * MUTANT -DG=1 -DASKS=0 -DGIVES=1 -DUNGIVES=1: UNGIVE_BLIND TAKE_BLIND TAKE_AFTER_DOWN TAKEN_BY_ANY_DOWN GIVE_OVER_DOWN
 * MUTANT -DG=1 -DASKS=0 -DGIVES=1 -DUNGIVES=1: GIVEN_IS_READ GIVEN_IS_TCP SETTLE_LOOKS_FIRST
 * MUTANT -DG=1 -DASKS=0 -DGIVES=1 -DMUST_GIVE: TAKE_FROM_START GIVE_AFTER_FIN FIN_OVER_GIFT
 * MUTANT -DMUST_LEAVE: NO_UP_FOR_LEAVE
 */
#ifndef N
#define N 1
#endif
#ifndef T
#define T 2
#endif
#ifndef MA
#define MA 2
#endif
#ifndef MB
#define MB 2
#endif
#ifndef U
#define U 1
#endif
#ifndef D
#define D 1
#endif
#ifndef ASKS
#define ASKS 1
#endif
#ifndef UNASKS
#define UNASKS 0
#endif
#ifndef ALONE
#define ALONE 0
#endif
#ifndef GIVES
#define GIVES 0
#endif
#ifndef UNGIVES
#define UNGIVES 0
#endif
#ifndef G
#define G 2
#endif

mtype = { DATA, LEAVE, FIN };
mtype = { TX_TCP, TX_RING, TX_HELD, TX_RESEND, TX_OUT };
mtype = { RX_TCP, RX_RING, RX_FRAME, RX_RAW, RX_OUT, RX_GIVEN };

chan tcp[2] = [T] of { mtype, byte, byte, byte };	/* by sender */

/* Regions, by owner and channel: e * G + g. */
byte ring[2 * G * N];
byte head[2 * G], sw_at[4 * G], sw_seq[2 * G], tail[2 * G], ack[2 * G];
byte leave[2 * G];	/* 0, or: */
#define ASKS_IT 1
#define LEFT 2
#define STOP 3
#define GIVES_IT 4
bool fin[2 * G], answering[2 * G], attached[2 * G], made[2 * G];
bool asked[2];	/* by end, private: it asks */

#define OWN (e * G + g)
#define PEER ((1 - e) * G + g)
#define MINE (e == 0 -> MA : MB)
#define YOURS (e == 0 -> MB : MA)
#define OUT tcp[e]
#define IN tcp[1 - e]
#define ROOM (len(tcp[e]) < T)
#define INLEN (len(tcp[1 - e]))

#ifdef LEAVE_WITHOUT_ACK
#define LEAVE_ACK 1
#else
#define LEAVE_ACK (ack[PEER] == txseq)
#endif
#ifdef LEAVE_WITH_BOUNDARY_AHEAD
#define LEAVE_CROSSED 1
#else
#define LEAVE_CROSSED (sw_seq[PEER] == rxseq)
#endif
#ifdef ASKER_BEGINS
#define LEAVE_WANTED (leave[PEER] == ASKS_IT || asked[e])
#else
#define LEAVE_WANTED (leave[PEER] == ASKS_IT)
#endif
/* The peer's `leave` /then/ its sw_seq: who asked makes no down any more. */
#ifdef LEAVE_WORD_LAST
#define LEAVE_FIRST 1
#define LEAVE_SECOND LEAVE_WANTED
#else
#define LEAVE_FIRST LEAVE_WANTED
#define LEAVE_SECOND LEAVE_CROSSED
#endif
#ifdef ALONE_BLIND
#define ALONE_BUSY 0
#else
#define ALONE_BUSY busy
#endif
#ifdef ALONE_UNREAD
#define ALONE_MORE 0
#else
#define ALONE_MORE ((ahead || rxs == RX_RING) && hd != (ahead -> AHEAD_AT : rxpos))
#endif
#ifdef DOWN_BLIND
#define DOWN_STILL 1
#else
#define DOWN_STILL (leave[PEER] <= ASKS_IT)
#endif
/* Who takes back what it gave stores leave /then/ looks at answering; who takes it stores answering /then/ looks at leave. */
#ifdef UNGIVE_BLIND
#define UNGIVE_REFUSED 0
#else
#define UNGIVE_REFUSED answering[PEER]
#endif
#ifdef TAKE_BLIND
#define TAKE_STILL 1
#else
#define TAKE_STILL (leave[PEER] == GIVES_IT)
#endif
#ifdef TAKE_FROM_START
#define TAKE_TAIL txstart
#else
#define TAKE_TAIL (tail[PEER] > txstart -> tail[PEER] : txstart)
#endif
/* Who gives stores leave /then/ looks at answering /then/ at sw_seq and fin: only then TCP alone has what is to come. */
#ifdef SETTLE_LOOKS_FIRST
#define SETTLE_FIRST (GIVE_ABOVE && GIVE_OPEN)
#define SETTLE_THEN 1
#else
#define SETTLE_FIRST (!answering[PEER])
#define SETTLE_THEN (GIVE_ABOVE && GIVE_OPEN)
#endif
#ifdef MUST_GIVE
#define UNGIVES_LEFT 0
#else
/* the last one is for what the peer's end leaves to it */
#define UNGIVES_LEFT (ungives < UNGIVES || finseen)
#endif
#ifdef TAKE_AFTER_DOWN
#define TAKE_FROM (txs == TX_RING || txs == TX_TCP)
#else
#define TAKE_FROM (txs == TX_RING)
#endif
#ifdef GIVE_OVER_DOWN
#define GIVE_ABOVE (sw_seq[PEER] != 0)
#else
/* the peer is on the ring, with no down ahead of what is unread */
#define GIVE_ABOVE (sw_seq[PEER] % 2 == 1 && sw_seq[PEER] - rxseq <= 1)
#endif
#ifdef GIVE_AFTER_FIN
#define GIVE_OPEN 1
#else
#define GIVE_OPEN (!fin[PEER])
#endif
/* It comes down where what is unread begins. A down further on was on its way when it was given. */
#define TAKEN_SEQ (sw_seq[PEER] == rxseq + (rxseq % 2 == 1 -> 1 : 2))
#ifdef TAKEN_BY_ANY_DOWN
#define TAKEN TAKEN_SEQ
#else
#define TAKEN (TAKEN_SEQ && (rxseq % 2 == 1 -> rxend : AT(PEER, 1)) == AT(PEER, 0))
#endif
/* Who takes its question back stores leave /then/ looks at answering; who answers stores answering /then/ looks at leave. */
#ifdef UNASK_BLIND
#define UNASK_REFUSED 0
#else
#define UNASK_REFUSED answering[PEER]
#endif
#ifdef ANSWERING_LAST
#define ANSWERING_FIRST skip
#define ANSWERING_THEN answering[OWN] = 1
#else
#define ANSWERING_FIRST answering[OWN] = 1
#define ANSWERING_THEN skip
#endif
/* See that TCP has something /then/ that no switch was announced: then it is a frame. */
#ifdef CONSULT_BEFORE_LOOK
#define FRAME_FIRST 1
#define FRAME_SECOND (INLEN > 0)
#else
#define FRAME_FIRST (INLEN > 0)
#define FRAME_SECOND (sw_seq[PEER] == rxseq)
#endif
#ifdef ANSWER_AFTER_FIN
#define LEAVE_OPEN 1
#else
#define LEAVE_OPEN (!shut && !finseen && !fin[PEER])
#endif
#ifdef UP_UNATTACHED
#define PEER_THERE 1
#else
#define PEER_THERE attached[PEER]
#endif
#ifdef DOWN_AFTER_UNDO
#define BEGUN 0
#else
#define BEGUN begun
#endif
#ifdef DOWN_AFTER_ASK
#define MAY_DOWN 1
#else
/*
 * xshim_tx_may_come_down(): who still reads TCP may, whoever asks; the other does not begin LEAVE before we have crossed. Nor does
 * it after its half-close.
 */
#define MAY_DOWN (!BEGUN && (rxs == RX_TCP || fin[PEER] || !asked[e] && !leave[PEER]))
#endif
/* Where switch k of an end's region r takes effect; the next one of the peer is ahead, and where. */
#define AT(r, k) sw_at[(r) * 2 + (k) % 2]
#define AHEAD (sw_seq[PEER] != rxseq)
#define AHEAD_AT AT(PEER, rxseq + 1)
#ifdef NO_UP_FOR_LEAVE
#define MAY_UP (PEER_THERE && ack[PEER] == txseq && ups < U && !leave[PEER])
#else
#define MAY_UP (PEER_THERE && ack[PEER] == txseq && (ups < U || leave[PEER] == ASKS_IT || asked[e]) && leave[PEER] != LEFT && rxs != RX_GIVEN)
#endif
#ifdef FIN_NOT_DEFERRED
#define MAY_FIN (txs != TX_RESEND)
#else
#define MAY_FIN (LAST && (txs == TX_TCP || txs == TX_RING || txs == TX_OUT))
#endif
/* What was put on the ring behind STOP may be left there by a peer that leaves alone, and has to go before FIN. */
#ifdef LATE_BLIND
#define LATE(now) 0
#else
#define LATE(now) (now)
#endif
#if ALONE > 0 && !defined(FIN_BLIND)
#define FIN_DECIDED (txs != TX_RING || leave[PEER] <= ASKS_IT || !late || (tail[PEER] > txstart -> tail[PEER] : txstart) == txpos)
#else
#define FIN_DECIDED 1
#endif
#ifdef FIN_OVER_GIFT
#define FIN_SAYS(now) skip
#define FIN_MAY 1
#else
#define FIN_SAYS(now) answering[OWN] = (now)
#define FIN_MAY (leave[PEER] != GIVES_IT)
#endif
#ifdef GIVEN_IS_TCP
#define SETTLED 1
#else
#define SETTLED settled
#endif
#if ALONE > 0
#define MAY_PUT (leave[PEER] != STOP)
/* the peer may stop to decide in between */
#define LOOK_THEN(c) c -> atomic {
#else
#define MAY_PUT 1
#define LOOK_THEN(c) atomic { c ->
#endif
#ifdef MUST_LEAVE
#define FREE (!asked[e] || finseen || txs == TX_OUT && rxs != RX_FRAME)
#define LAST (rxpos == YOURS)
#else
#define FREE 1
#ifdef MUST_GIVE
#define LAST (rxpos == YOURS)
#else
#define LAST 1
#endif
#endif
#ifdef READ_AFTER_BEGIN
#define READS_RING (rxs == RX_RING || rxs == RX_FRAME)
#elif defined(GIVEN_IS_READ)
#define READS_RING (rxs == RX_RING || rxs == RX_GIVEN && rxseq % 2 == 1)
#else
#define READS_RING (rxs == RX_RING)
#endif
#ifdef WRITE_AFTER_BEGIN
#define WRITES_RING (txs == TX_RING || txs == TX_HELD)
#else
#define WRITES_RING (txs == TX_RING)
#endif
#define SPACE (N - (txpos - (tail[PEER] > txstart -> tail[PEER] : txstart)))

/* Both locks held; the frame always fits, TCP is empty this way (see the assertion). */
inline begin()
{
	txs = TX_HELD;
	rxs = RX_FRAME;
	txend = txpos;
	upto = rxpos;
	begun = 1;
	assert(!finsent);
	assert(ROOM);
	OUT!LEAVE(upto, txend, g)
}

inline got(u, h, nonce)
{
	assert(nonce == g);
	if
#ifndef HOLD_AFTER_FIN
	:: shut && rxs == RX_RING	/* our FIN is the answer: thrown away */
#endif
	:: else ->
		if
		:: rxs == RX_RING && shut -> rxs = RX_FRAME; txs = TX_HELD	/* only a mutant comes here */
		:: rxs == RX_RING && !shut -> assert(txs == TX_RING); begin()
		:: else
		fi;
		assert(rxs == RX_FRAME && txs == TX_HELD || shut);
		if
		:: !shut ->
			assert(u >= txstart && u <= txpos);
#ifdef NOTHING_RESENT
			txpos = txend;
#else
#ifdef RESEND_FROM_TAIL_SEEN
			txpos = tailseen;
#else
#ifdef RESEND_FROM_START
			txpos = txstart;
#else
			txpos = u;
#endif
#endif
#endif
			if
			:: txpos < txend -> txs = TX_RESEND
			:: else -> txs = TX_OUT
			fi;
			rxend = h;
			if
			:: rxpos < h -> rxs = RX_RAW
			:: else -> rxs = RX_OUT
			fi
		:: else
		fi
	fi
}

inline is_left()
{
	if
	:: txs == TX_RING ->
		txend = txpos;
		txpos = (tail[PEER] > txstart -> tail[PEER] : txstart);
		assert(txpos <= txend);
		assert(!shut || txpos == txend);
		if
		:: txpos < txend -> txs = TX_RESEND
		:: else -> txs = TX_OUT
		fi
	:: txs == TX_TCP ->
		/* or what it left was empty: it was given, and our down came in between */
		assert(ack[PEER] == txseq || (tail[PEER] > txstart -> tail[PEER] : txstart) == AT(OWN, txseq));
		txs = TX_OUT
	:: else
	fi
}

/* The next thing on TCP, wherever it is met. */
inline take()
{
	atomic {
		IN?what(a, b, c);
		if
		:: what == DATA ->
			assert(rxs == RX_TCP || rxs == RX_RAW || rxs == RX_OUT || rxs == RX_GIVEN);
			assert(a == rxpos);
			rxpos++;
			if
			:: rxs == RX_RAW && rxpos == rxend -> rxs = RX_OUT
			:: else
			fi
		:: what == LEAVE ->
			assert(rxs == RX_RING || rxs == RX_FRAME);
			got(a, b, c)
		:: what == FIN ->
			finseen = 1;
			if
#ifndef NO_UNDO
			:: rxs == RX_FRAME -> rxs = RX_RING; txs = TX_RING
#endif
			:: else
			fi
		fi;
		what = 0; a = 0; b = 0; c = 0
	}
}

proctype End(byte e)
{
	mtype txs = TX_TCP, rxs = RX_TCP, what;
	byte g, txseq, txpos, txstart, txend, tailseen, ups, downs, asks, unasks, alones, gives, ungives, ahead, hd, accepted;
	byte rxseq, rxpos, rxend, upto, a, b, c;
	bool shut, finsent, finseen, begun, busy, late, taken, settled;

	do
	/* ---- sending ---- */
	:: atomic {
		(txs == TX_TCP || txs == TX_OUT) && txpos < MINE && FREE && ROOM ->
		assert(!finsent);
		assert(txpos == accepted);	/* nothing that the program has handed over is left out */
		OUT!DATA(txpos, 0, 0);
		txpos++;
		accepted = txpos
	   }
	:: LOOK_THEN(WRITES_RING && txpos < MINE && FREE && SPACE > 0 && MAY_PUT)
		tailseen = (tail[PEER] > txstart -> tail[PEER] : txstart);
		ring[OWN * N + txpos % N] = txpos;
		txpos++;
		accepted = txpos;
		head[OWN] = txpos
	   }
#if ALONE > 0
		/* before the call ends; one that is deciding is not waited for for ever */
		atomic {
			late = LATE(leave[PEER] > ASKS_IT);
			if
			:: leave[PEER] == LEFT -> is_left()
			:: else
			fi
		}
#endif
	:: atomic {
		txs == TX_TCP && !shut && MAY_UP ->
		txs = TX_RING;
		if
		:: ups < U -> ups++
		:: else
		fi;
		txstart = txpos;
		tailseen = txpos;
		txseq++;
		head[OWN] = txpos;
		AT(OWN, txseq) = txpos;
		sw_seq[OWN] = txseq
	   }
	:: txs == TX_RING && !shut && downs < D && MAY_DOWN ->
		/* The peer may ask to leave right here. */
#if ALONE > 0 || GIVES > 0
		answering[OWN] = 1;
		if
		:: DOWN_STILL ->
#endif
		atomic {
			txs = TX_TCP;
			downs++;
			txseq++;
			AT(OWN, txseq) = txpos;
			sw_seq[OWN] = txseq
		}
#if ALONE > 0 || GIVES > 0
		:: else
		fi;
		answering[OWN] = 0
#endif
	:: atomic {
#ifdef NEW_BEFORE_RESENT
		txs == TX_RESEND && txend < MINE && ROOM ->
		OUT!DATA(txend, 0, 0);
		txend++
	   }
	:: atomic {
#endif
		txs == TX_RESEND && ROOM ->
		assert(!finsent);
		assert(ring[OWN * N + txpos % N] == txpos);
		OUT!DATA(ring[OWN * N + txpos % N], 0, 0);
		txpos++;
		if
		:: txpos == txend -> txs = TX_OUT
		:: else
		fi
	   }
#if GIVES > 0
	:: accepted == MINE && !shut && FREE && MAY_FIN && FIN_DECIDED && txs == TX_RING ->
		/* answering /then/ leave */
		FIN_SAYS(1);
		atomic {
			if
			:: FIN_MAY -> shut = 1; fin[OWN] = 1
			:: else
			fi
		}
		FIN_SAYS(0)
	:: LOOK_THEN(accepted == MINE && !shut && FREE && MAY_FIN && FIN_DECIDED && txs != TX_RING) shut = 1; fin[OWN] = 1 }
#else
	:: LOOK_THEN(accepted == MINE && !shut && FREE && MAY_FIN && FIN_DECIDED) shut = 1; fin[OWN] = 1 }
#endif
	:: atomic { shut && !finsent && ROOM -> OUT!FIN(0, 0, 0); finsent = 1 }

	/* ---- leaving ---- */
	:: atomic {
		!asked[e] && asks < ASKS && (txs == TX_RING || txs == TX_TCP) && rxs != RX_GIVEN && !shut && !finseen ->
		asked[e] = 1;
		asks++;
		leave[OWN] = ASKS_IT
	   }
#if ALONE > 0
	:: (txs == TX_RING || txs == TX_TCP) && (rxs == RX_RING || rxs == RX_TCP) && !begun && !finseen && alones < ALONE ->
		/* leave /then/ answering /then/ sw_seq, head, leave */
#ifndef ALONE_LOOKS_FIRST
		leave[OWN] = STOP;
#endif
		busy = answering[PEER];
		ahead = sw_seq[PEER] - rxseq;
		hd = head[PEER];
#ifndef ALONE_TOGETHER
		busy = busy || leave[PEER] > ASKS_IT;	/* what it has left of ours is not sent yet */
#endif
#ifdef ALONE_LOOKS_FIRST
		leave[OWN] = STOP;
#endif
		atomic {
			if
			:: ALONE_BUSY || ahead > (rxs == RX_TCP) || ALONE_MORE -> leave[OWN] = asked[e]
			:: else ->
				if
				:: txs == TX_RING && !shut ->
					txseq++;
					AT(OWN, txseq) = txpos;
					sw_seq[OWN] = txseq
				:: else
				fi;
				txs = TX_OUT;
				rxs = RX_OUT;
				asked[e] = 0;
				alones++;
				leave[OWN] = LEFT
			fi;
			busy = 0;
			ahead = 0;
			hd = 0
		}
#endif
#if ALONE > 0 || GIVES > 0
	:: atomic { leave[PEER] == LEFT && (txs == TX_RING || txs == TX_TCP) -> is_left() }
	:: atomic { leave[PEER] == LEFT && rxs == RX_TCP && sw_seq[PEER] == rxseq -> rxs = RX_OUT }
#endif
#if GIVES > 0
	:: (txs == TX_TCP || txs == TX_RING && shut) && gives < GIVES &&
	   (rxs == RX_RING || rxs == RX_TCP) && !asked[e] && GIVE_ABOVE && GIVE_OPEN && !answering[PEER] ->
		/* the peer may half-close, or come down, in between */
		atomic {
			rxend = rxpos;
			rxs = RX_GIVEN;
			settled = 0;
			gives++;
			leave[OWN] = GIVES_IT
		}
	:: rxs == RX_GIVEN && !settled && SETTLE_FIRST ->
		atomic {
			if
			:: TAKEN
			:: !TAKEN && SETTLE_THEN -> settled = 1
			:: else ->	/* it takes nothing any more */
				rxend = 0;
				leave[OWN] = 0;
				rxs = (rxseq % 2 == 1 -> RX_RING : RX_TCP)
			fi
		}
	:: atomic { rxs == RX_GIVEN && TAKEN -> txs = TX_OUT; rxs = RX_OUT; leave[OWN] = LEFT }
	:: rxs == RX_GIVEN && !TAKEN && UNGIVES_LEFT ->
		settled = 0;
		leave[OWN] = 0;
		atomic {
			if
			:: UNGIVE_REFUSED -> leave[OWN] = GIVES_IT
			:: else ->
				ungives++;
				rxend = 0;
				rxs = (rxseq % 2 == 1 -> RX_RING : RX_TCP)
			fi
		}
	:: leave[PEER] == GIVES_IT && TAKE_FROM && !shut && !taken ->
		answering[OWN] = 1;
		if
		:: TAKE_STILL ->
			atomic {
				taken = 1;
				txend = txpos;
				txpos = TAKE_TAIL;
				if
				:: txpos < txend -> txs = TX_RESEND
				:: else -> txs = TX_OUT
				fi;
				txseq = txseq + txseq % 2;
				AT(OWN, txseq) = txpos;
				sw_seq[OWN] = txseq
			}
		:: else -> answering[OWN] = 0
		fi
	:: atomic { taken && rxs == RX_TCP && sw_seq[PEER] == rxseq -> rxs = RX_OUT }
#endif
#if UNASKS > 0
	:: asked[e] && unasks < UNASKS && (txs == TX_RING || txs == TX_TCP) && rxs != RX_FRAME ->
		/* leave /then/ the other's answering */
		leave[OWN] = 0;
		atomic {
			if
			:: UNASK_REFUSED -> leave[OWN] = ASKS_IT
			:: else -> asked[e] = 0; unasks++
			fi
		}
#endif
#if UNASKS > 0 || ALONE > 0
	:: txs == TX_RING && rxs == RX_RING && LEAVE_OPEN && LEAVE_ACK && LEAVE_CROSSED && leave[PEER] == ASKS_IT ->
		ANSWERING_FIRST;
		if
		:: LEAVE_FIRST ->
			ANSWERING_THEN;
			atomic {
				if
				:: LEAVE_SECOND -> assert(asked[1 - e]); begin()
				:: else -> answering[OWN] = 0
				fi
			}
		:: else -> answering[OWN] = 0
		fi
#else
	:: txs == TX_RING && rxs == RX_RING && LEAVE_OPEN && LEAVE_ACK && LEAVE_CROSSED && LEAVE_FIRST ->
		atomic {
			if
			:: LEAVE_SECOND -> begin()
			:: else
			fi
		}
#endif
	:: atomic {
		txs == TX_OUT && rxs == RX_OUT && g + 1 < G && !shut && !finseen ->
		g++;
		txs = TX_TCP;
		rxs = RX_TCP;
		txseq = 0;
		rxseq = 0;
		ups = 0;
		downs = 0;
		asked[e] = 0;
		begun = 0;
		late = 0;
		taken = 0;
		txend = 0;
		rxend = 0;
		upto = 0;
		made[OWN] = 1
	   }
	:: atomic { !attached[OWN] && made[PEER] && made[OWN] -> attached[OWN] = 1 }

	/* ---- receiving ---- */
	:: atomic {
		(rxs == RX_TCP || rxs == RX_RING) && attached[OWN] && AHEAD && AHEAD_AT == rxpos ->
		assert(sw_seq[PEER] == rxseq + 1 || rxs == RX_TCP && sw_seq[PEER] == rxseq + 2);
		rxseq++;
		if
		:: rxs == RX_TCP -> rxs = RX_RING; tail[OWN] = rxpos
		:: else -> rxs = RX_TCP
		fi;
		ack[OWN] = rxseq
	   }
	:: atomic {
		READS_RING && head[PEER] > rxpos ->
		assert(head[PEER] - rxpos <= N);
		assert(ring[PEER * N + rxpos % N] == rxpos);
		rxpos++;
		tail[OWN] = rxpos
	   }
	:: atomic {
		/* up to the boundary; that a read does not overtake it, switch.pml shows */
		rxs == RX_TCP && INLEN > 0 && !finseen && !(attached[OWN] && AHEAD && AHEAD_AT == rxpos) ->
		take()
	   }
	:: (rxs == RX_FRAME || rxs == RX_RAW || rxs == RX_OUT) && INLEN > 0 && !finseen ->
		take()
#if GIVES > 0
	:: atomic {
		/* by another program; by one that is in on it, no further than to the ring */
		rxs == RX_GIVEN && INLEN > 0 && !finseen && (SETTLED || rxseq % 2 == 0 && AHEAD_AT > rxpos) ->
		take()
	   }
#endif
	:: rxs == RX_RING && sw_seq[PEER] == rxseq && !finseen && FRAME_FIRST ->
		if
		:: FRAME_SECOND -> take()
		:: else		/* raw bytes behind a down */
		fi
	:: rxpos == YOURS && finseen && finsent -> break
	od
}

init {
	atomic {
		made[0] = 1;
		made[G] = 1;
		attached[0] = 1;
		attached[G] = 1;
		run End(0);
		run End(1)
	}
}
