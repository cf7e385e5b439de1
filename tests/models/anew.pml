/* SPDX-License-Identifier: MIT */
/*
 * anew.pml - a ring that begins anew when it is empty (region.h, "Beginning anew"; src/link.c, xshim_tx_anew(), xshim_rx_take_base()).
 *
 * Byte n of the stream lies at data[(n - base) % R]. Memory is sequentially consistent here: base is stored before bytes and head, with
 * release, head is loaded with acquire before base, and the copies lie between, so no weaker order can be seen.
 *
 *   writer: looks at tail, or does not; where it knows that the ring is empty, it may store base; then the bytes, then head
 *   reader: loads head /then/ base; takes some of what lies below that head, with several looks or none between; stores tail
 *
 * Checked: each byte that is read is the one of its offset, and an honest base is never taken for a lie.
 *
 * RUN: -DR=2 -DT=7
 * RUN: -DR=4 -DT=9
 * LONG: -DR=4 -DT=14
 *
 * MUTANT -DR=4 -DT=9: BASE_BEFORE_HEAD BASE_AFTER_HEAD NOT_EMPTY TAIL_BEFORE_COPY
 */
byte data[R], head, base, tail;

proctype Writer()
{
	byte pos, known, at, n, put;

	do
	:: pos == T -> break
	:: pos < T ->
		if
		:: known = tail
		:: skip
		fi;
#ifdef NOT_EMPTY
		at = known + 1;
#else
		at = known;
#endif
		if
		:: at >= pos && pos > base ->
#ifndef BASE_AFTER_HEAD
			base = pos
#else
			skip
#endif
		:: skip
		fi;
		n = 0;
		do
		:: pos + n < T && pos + n - known < R ->
			/* what is not published yet is laid out by the base of its own */
#ifdef BASE_AFTER_HEAD
			put = (at >= pos && pos > base -> pos : base);
#else
			put = base;
#endif
			data[(pos + n - put) % R] = pos + n;
			n++
		:: n > 0 -> break
		:: pos + n - known >= R && n == 0 -> break
		od;
#ifdef BASE_AFTER_HEAD
		put = (at >= pos && pos > base -> pos : base);
		pos = pos + n;
		head = pos;
		base = put
#else
		pos = pos + n;
		head = pos
#endif
	od
}

proctype Reader()
{
	byte pos, h, b, seen, i;

	do
	:: pos == T -> break
	:: pos < T ->
#ifdef BASE_BEFORE_HEAD
		seen = base;
		h = head;
#else
		h = head;
		seen = base;
#endif
		assert(seen >= b && seen <= pos);
		b = seen;
		do
		:: pos < h ->
#ifdef TAIL_BEFORE_COPY
			i = pos;
			pos++;
			tail = pos;
			assert(data[(i - b) % R] == i)
#else
			assert(data[(pos - b) % R] == pos);
			pos++;
			tail = pos
#endif
		:: break
		od
	od
}

init {
	atomic {
		run Writer();
		run Reader()
	}
}
