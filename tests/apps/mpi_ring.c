/* SPDX-License-Identifier: MIT */
/*
 * mpi_ring.c - each process sends blocks of growing size round a ring of all, checks what comes, and all add up a vector;
 * rank 0 prints the sum. mpi_ring ROUNDS
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST (1 << 20)

static unsigned char out[MOST], in[MOST];

static void fill(unsigned char *b, int n, uint32_t x)
{
	for (int i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		b[i] = (unsigned char)(x >> 24);
	}
}

int main(int argc, char **argv)
{
	uint64_t mine[64], all[64] = { 0 }, sum = 0;
	int rank, size, rounds;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	rounds = argc > 1 ? atoi(argv[1]) : 100;
	for (int r = 0; r < rounds; r++) {
		int n = r % 10 == 9 ? MOST : 1 << (r % 16), from = (rank + size - 1) % size;

		fill(out, n, (uint32_t)(rank * 1000003 + r));
		MPI_Sendrecv(out, n, MPI_BYTE, (rank + 1) % size, 1, in, n, MPI_BYTE, from, 1, MPI_COMM_WORLD,
			     MPI_STATUS_IGNORE);
		fill(out, n, (uint32_t)(from * 1000003 + r));
		for (int i = 0; i < n; i++) {
			if (in[i] != out[i]) {
				fprintf(stderr, "rank %d round %d: byte %d of %d is wrong\n", rank, r, i, n);
				MPI_Abort(MPI_COMM_WORLD, 1);
			}
		}
		for (int i = 0; i < 64; i++)
			mine[i] = (uint64_t)in[(unsigned int)i % (unsigned int)n] + (uint64_t)(rank + i);
		MPI_Allreduce(mine, all, 64, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
		for (int i = 0; i < 64; i++)
			sum = sum * 31 + all[i];
	}
	if (rank == 0)
		printf("size %d rounds %d sum %llu\n", size, rounds, (unsigned long long)sum);
	MPI_Finalize();
	return 0;
}
