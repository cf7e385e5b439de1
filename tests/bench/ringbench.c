/* SPDX-License-Identifier: MIT */
/*
 * ringbench.c - the yardstick: a bare ring of bytes each way between two processes, and nothing else. What
 * the machine's memory and its scheduler allow to anything that copies in and out of shared memory.
 *
 *   ringbench rr|paced|stream SIZE SECONDS CPU_SERVER CPU_CLIENT [RING_BYTES]
 *
 * Measures and prints what sockbench does under these names. Both ends busy-wait up to 20 us for the other
 * and sleep on a futex then; not if they share a processor, where waiting busily only keeps the other from
 * running. Each keeps a copy of the other's position. The memory is theirs alone, so nothing is checked.
 */
#include "bench_util.h"

#include <errno.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SPIN_S 20e-6
#define PACED_WARM_UP 50
#define LINE __attribute__((aligned(64)))

/*
 *   field            written by   read by
 *   head             writer       reader
 *   tail             reader       writer
 *   reader_sleeps    both: the sleeper sets it /then/ re-reads head; the writer moves head /then/ reads it
 *   writer_sleeps    likewise with tail
 */
struct ring {
	LINE _Atomic uint64_t head;
	LINE _Atomic uint64_t tail;
	LINE _Atomic uint32_t reader_sleeps;
	LINE _Atomic uint32_t writer_sleeps;
	LINE _Atomic bool ended;
	LINE char data[];
};

/* One end's own view. */
struct end {
	struct ring *r;
	uint64_t pos, peer;
};

static uint64_t ring_bytes = 1 << 20;
static double spin_s = SPIN_S;

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *sleeps)
{
	if (!atomic_load(sleeps))
		return;
	atomic_store(sleeps, 0);
	futex(sleeps, FUTEX_WAKE, 1);
}

/* Until the position has moved beyond `old`, or the ring has ended. */
static uint64_t wait_past(struct ring *r, _Atomic uint64_t *position, uint64_t old, _Atomic uint32_t *sleeps)
{
	double until = 0;
	uint64_t now;
	int i;

	while (spin_s > 0) {
		for (i = 0; i < 32; i++) {
			now = atomic_load_explicit(position, memory_order_acquire);
			if (now > old || atomic_load_explicit(&r->ended, memory_order_relaxed))
				return atomic_load(position);
			_mm_pause();
		}
		if (!until)
			until = bench_now() + spin_s;
		else if (bench_now() > until)
			break;
	}
	for (;;) {
		atomic_store(sleeps, 1);
		now = atomic_load(position);
		if (now > old || atomic_load(&r->ended)) {
			atomic_store(sleeps, 0);
			return atomic_load(position);
		}
		futex(sleeps, FUTEX_WAIT, 1);
	}
}

static void ring_write(struct end *e, const char *buf, size_t len)
{
	struct ring *r = e->r;

	while (len) {
		uint64_t room = ring_bytes - (e->pos - e->peer), at = e->pos & (ring_bytes - 1), n;

		if (!room) {
			e->peer = atomic_load_explicit(&r->tail, memory_order_acquire);
			if (e->pos - e->peer == ring_bytes)
				e->peer = wait_past(r, &r->tail, e->peer, &r->writer_sleeps);
			continue;
		}
		n = len < room ? len : room;
		if (n > ring_bytes - at)
			n = ring_bytes - at;
		memcpy(r->data + at, buf, n);
		e->pos += n;
		buf += n;
		len -= n;
		atomic_store(&r->head, e->pos);
		wake(&r->reader_sleeps);
	}
}

/* As recv does: what is there, at least a byte. 0: the end. */
static size_t ring_read(struct end *e, char *buf, size_t len)
{
	struct ring *r = e->r;
	uint64_t at = e->pos & (ring_bytes - 1), n;

	if (e->peer == e->pos) {
		e->peer = atomic_load_explicit(&r->head, memory_order_acquire);
		if (e->peer == e->pos)
			e->peer = wait_past(r, &r->head, e->pos, &r->reader_sleeps);
		if (e->peer == e->pos)
			return 0;
	}
	n = e->peer - e->pos < len ? e->peer - e->pos : len;
	if (n > ring_bytes - at)
		n = ring_bytes - at;
	memcpy(buf, r->data + at, n);
	e->pos += n;
	atomic_store(&r->tail, e->pos);
	wake(&r->writer_sleeps);
	return n;
}

static bool read_all(struct end *e, char *buf, size_t len)
{
	while (len) {
		size_t n = ring_read(e, buf, len);

		if (!n)
			return false;
		buf += n;
		len -= n;
	}
	return true;
}

static void ring_end(struct end *e)
{
	atomic_store(&e->r->ended, true);
	atomic_store(&e->r->reader_sleeps, 0);
	futex(&e->r->reader_sleeps, FUTEX_WAKE, 1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		bench_die("sched_setaffinity");
}

static struct ring *new_ring(void)
{
	size_t n = sizeof(struct ring) + ring_bytes;
	struct ring *r = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (r == MAP_FAILED)
		bench_die("mmap");
	return r;
}

static void serve(const char *kind, char *buf, size_t size, struct end *in, struct end *out)
{
	uint64_t sum = 0;
	size_t n;

	if (strcmp(kind, "stream")) {
		while (read_all(in, buf, size))
			ring_write(out, buf, size);
		return;
	}
	while ((n = ring_read(in, buf, size)))
		sum += n;
	ring_write(out, (char *)&sum, sizeof(sum));
}

static void round_trip(char *buf, size_t size, struct end *out, struct end *in)
{
	ring_write(out, buf, size);
	if (!read_all(in, buf, size))
		bench_die("the server has gone");
}

/* A pause before each round trip, if paced, so that both ends have gone to sleep. */
static void run_rr(bool paced, char *buf, size_t size, double seconds, struct end *out, struct end *in)
{
	float *us = malloc(MAX_SAMPLES * sizeof(*us));
	struct timespec due;
	double start, t0, t1;
	size_t n = 0;
	int i = 0;

	if (!us)
		bench_die("malloc");
	clock_gettime(CLOCK_MONOTONIC, &due);
	start = bench_now();
	do {
		round_trip(buf, size, out, in);
		t1 = bench_now();
	} while (paced ? ++i < PACED_WARM_UP : t1 < start + WARM_UP_S);
	start = t1;
	while (t1 < start + seconds && n < MAX_SAMPLES) {
		t0 = t1;
		if (paced) {
			due.tv_nsec += 1000000;
			if (due.tv_nsec >= 1000000000) {
				due.tv_nsec -= 1000000000;
				due.tv_sec++;
			}
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
			t0 = bench_now();
		}
		round_trip(buf, size, out, in);
		t1 = bench_now();
		us[n++] = (float)((t1 - t0) * 1e6);
	}
	bench_print_us(us, n, t1 - start);
	free(us);
}

static void run_stream(char *buf, size_t size, double seconds, struct end *out, struct end *in)
{
	uint64_t sum = 0, seen = 0;
	double start = bench_now();
	int i;

	while (bench_now() < start + seconds) {
		for (i = 0; i < 16; i++)
			ring_write(out, buf, size);
		sum += 16 * size;
	}
	ring_end(out);
	if (!read_all(in, (char *)&seen, sizeof(seen)) || seen != sum) {
		errno = EPROTO;
		bench_die("the server has not counted what was sent");
	}
	printf("{\"bytes_per_s\": %.1f}\n", (double)sum / (bench_now() - start));
}

int main(int argc, char **argv)
{
	struct end out = { 0 }, in = { 0 };
	int cpu_server, cpu_client, status;
	double seconds;
	size_t size;
	char *buf;
	pid_t child;

	if (argc < 6 || (strcmp(argv[1], "rr") && strcmp(argv[1], "paced") && strcmp(argv[1], "stream"))) {
		fprintf(stderr, "usage: ringbench rr|paced|stream SIZE SECONDS CPU_SERVER CPU_CLIENT [RING_BYTES]\n");
		return 2;
	}
	size = strtoul(argv[2], NULL, 0);
	seconds = atof(argv[3]);
	cpu_server = atoi(argv[4]);
	cpu_client = atoi(argv[5]);
	if (argc > 6)
		ring_bytes = strtoull(argv[6], NULL, 0);
	if (!size || !ring_bytes || (ring_bytes & (ring_bytes - 1))) {
		fprintf(stderr, "ringbench: SIZE must be at least 1, RING_BYTES a power of two\n");
		return 2;
	}
	if (cpu_server == cpu_client)
		spin_s = 0;
	buf = calloc(1, size);
	if (!buf)
		bench_die("calloc");
	out.r = new_ring();
	in.r = new_ring();
	child = fork();
	if (child < 0)
		bench_die("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(cpu_server);
		serve(argv[1], buf, size, &out, &in);
		_exit(0);
	}
	pin(cpu_client);
	if (!strcmp(argv[1], "stream")) {
		run_stream(buf, size, seconds, &out, &in);
	} else {
		run_rr(!strcmp(argv[1], "paced"), buf, size, seconds, &out, &in);
		ring_end(&out);
	}
	if (waitpid(child, &status, 0) < 0 || status) {
		errno = ECHILD;
		bench_die("the other process has not ended well");
	}
	return 0;
}
