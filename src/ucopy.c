/* SPDX-License-Identifier: MIT */
/*
 * ucopy.c - copies that survive a bad address (ucopy.h).
 *
 * The routines take (to, from, n) as C functions do, keep nothing on the stack and return 0
 * in eax, so that a routine can be left at any instruction: the place to resume at sets eax and
 * returns. The one for few bytes says it by the overflow flag, which comparing small numbers leaves 0 and
 * that place sets: so who calls it by xshim_ucopy_few() has nothing to load and to compare.
 *
 * Sizes were chosen by measurement against glibc's memcpy (Xeon, AVX-512, positions in the ring
 * unaligned as they are in use): up to 128 bytes SSE is as fast or faster; up to 4 KiB AVX is as
 * fast, SSE up to half as fast where source and target are aligned and in the first cache; from
 * there on "rep movsb" is as fast as anything, if the processor says that it is good at it.
 */
#include <xshim/ucopy.h>

#include <errno.h>
#include <string.h>

#if XSHIM_UCOPY_RESUMES

#include <cpuid.h>
#include <stdatomic.h>

#define MOVSB_MIN 4096

int xshim_ucopy_small(void *to, const void *from, size_t n) __attribute__((visibility("hidden")));
int xshim_ucopy_sse(void *to, const void *from, size_t n) __attribute__((visibility("hidden")));
int xshim_ucopy_avx(void *to, const void *from, size_t n) __attribute__((visibility("hidden")));
int xshim_ucopy_movsb(void *to, const void *from, size_t n) __attribute__((visibility("hidden")));
extern const char xshim_ucopy_begin[] __attribute__((visibility("hidden")));
extern const char xshim_ucopy_avx_begin[] __attribute__((visibility("hidden")));
extern const char xshim_ucopy_avx_fault[] __attribute__((visibility("hidden")));
extern const char xshim_ucopy_fault[] __attribute__((visibility("hidden")));

#define FUNCTION(name)                                                                             \
	".globl " #name "\n\t"                                                                     \
	".hidden " #name "\n\t"                                                                    \
	".type " #name ", @function\n"                                                             \
	#name ":\n\t"                                                                              \
	".cfi_startproc\n\t"
#define END(name)                                                                                  \
	".cfi_endproc\n\t"                                                                         \
	".size " #name ", .-" #name "\n\t"
#define ROUTINE(name) FUNCTION(name) "xorl %eax, %eax\n\t"
#define LABEL(name)                                                                                \
	".globl " #name "\n\t"                                                                     \
	".hidden " #name "\n"                                                                      \
	#name ":\n\t"

__asm__(".pushsection .text, \"ax\", @progbits\n\t"
	".p2align 6\n"
	LABEL(xshim_ucopy_begin)

	/* n <= 128, by moves that overlap; all but rax, rcx and xmm registers are left as they are (xshim_ucopy_few()) */
	FUNCTION(xshim_ucopy_128)
	"cmpq $32, %rdx\n\t"
	"jbe 1f\n\t"
	"cmpq $64, %rdx\n\t"
	"ja 4f\n\t"
	"movups (%rsi), %xmm0\n\t"
	"movups 16(%rsi), %xmm1\n\t"
	"movups -32(%rsi,%rdx), %xmm2\n\t"
	"movups -16(%rsi,%rdx), %xmm3\n\t"
	"movups %xmm0, (%rdi)\n\t"
	"movups %xmm1, 16(%rdi)\n\t"
	"movups %xmm2, -32(%rdi,%rdx)\n\t"
	"movups %xmm3, -16(%rdi,%rdx)\n\t"
	"ret\n"
	"1:\n\t"
	"cmpl $16, %edx\n\t"
	"jb 2f\n\t"
	"movups (%rsi), %xmm0\n\t"
	"movups -16(%rsi,%rdx), %xmm1\n\t"
	"movups %xmm0, (%rdi)\n\t"
	"movups %xmm1, -16(%rdi,%rdx)\n\t"
	"ret\n"
	"2:\n\t"
	"cmpl $8, %edx\n\t"
	"jb 3f\n\t"
	"movq (%rsi), %xmm0\n\t"
	"movq -8(%rsi,%rdx), %xmm1\n\t"
	"movq %xmm0, (%rdi)\n\t"
	"movq %xmm1, -8(%rdi,%rdx)\n\t"
	"ret\n"
	"3:\n\t"
	"cmpl $4, %edx\n\t"
	"jb 5f\n\t"
	"movd (%rsi), %xmm0\n\t"
	"movd -4(%rsi,%rdx), %xmm1\n\t"
	"movd %xmm0, (%rdi)\n\t"
	"movd %xmm1, -4(%rdi,%rdx)\n\t"
	"ret\n"
	/* the last byte, below it the first two of three, or of two the first and the last again */
	"5:\n\t"
	"cmpl $1, %edx\n\t"
	"jb 6f\n\t"
	"movzbl -1(%rsi,%rdx), %ecx\n\t"
	"je 7f\n\t"
	"movzwl (%rsi), %eax\n\t"
	"movw %ax, (%rdi)\n"
	"7:\n\t"
	"movb %cl, -1(%rdi,%rdx)\n"
	"6:\n\t"
	"ret\n"
	"4:\n\t"
	"movups (%rsi), %xmm0\n\t"
	"movups 16(%rsi), %xmm1\n\t"
	"movups 32(%rsi), %xmm2\n\t"
	"movups 48(%rsi), %xmm3\n\t"
	"movups -64(%rsi,%rdx), %xmm4\n\t"
	"movups -48(%rsi,%rdx), %xmm5\n\t"
	"movups -32(%rsi,%rdx), %xmm6\n\t"
	"movups -16(%rsi,%rdx), %xmm7\n\t"
	"movups %xmm0, (%rdi)\n\t"
	"movups %xmm1, 16(%rdi)\n\t"
	"movups %xmm2, 32(%rdi)\n\t"
	"movups %xmm3, 48(%rdi)\n\t"
	"movups %xmm4, -64(%rdi,%rdx)\n\t"
	"movups %xmm5, -48(%rdi,%rdx)\n\t"
	"movups %xmm6, -32(%rdi,%rdx)\n\t"
	"movups %xmm7, -16(%rdi,%rdx)\n\t"
	"ret\n\t"
	END(xshim_ucopy_128)

	/* the same for C */
	FUNCTION(xshim_ucopy_small)
	"call xshim_ucopy_128\n\t"
	"seto %al\n\t"
	"movzbl %al, %eax\n\t"
	"ret\n\t"
	END(xshim_ucopy_small)

	/* n > 128: the first 16 and the last 64 bytes wait in registers; between them, aligned at the target */
	".p2align 6\n\t"
	ROUTINE(xshim_ucopy_sse)
	"movups (%rsi), %xmm8\n\t"
	"movups -64(%rsi,%rdx), %xmm4\n\t"
	"movups -48(%rsi,%rdx), %xmm5\n\t"
	"movups -32(%rsi,%rdx), %xmm6\n\t"
	"movups -16(%rsi,%rdx), %xmm7\n\t"
	"leaq -64(%rdi,%rdx), %r9\n\t"
	"movq %rdi, %r8\n\t"
	"subq %rdi, %rsi\n\t"
	"addq $16, %rdi\n\t"
	"andq $-16, %rdi\n\t"
	"cmpq %r9, %rdi\n\t"
	"jae 2f\n\t"
	".p2align 4\n"
	"1:\n\t"
	"movups (%rdi,%rsi), %xmm0\n\t"
	"movups 16(%rdi,%rsi), %xmm1\n\t"
	"movups 32(%rdi,%rsi), %xmm2\n\t"
	"movups 48(%rdi,%rsi), %xmm3\n\t"
	"movaps %xmm0, (%rdi)\n\t"
	"movaps %xmm1, 16(%rdi)\n\t"
	"movaps %xmm2, 32(%rdi)\n\t"
	"movaps %xmm3, 48(%rdi)\n\t"
	"addq $64, %rdi\n\t"
	"cmpq %r9, %rdi\n\t"
	"jb 1b\n"
	"2:\n\t"
	"movups %xmm4, (%r9)\n\t"
	"movups %xmm5, 16(%r9)\n\t"
	"movups %xmm6, 32(%r9)\n\t"
	"movups %xmm7, 48(%r9)\n\t"
	"movups %xmm8, (%r8)\n\t"
	"ret\n\t"
	END(xshim_ucopy_sse)

	".p2align 6\n\t"
	ROUTINE(xshim_ucopy_movsb)
	"movq %rdx, %rcx\n\t"
	"rep movsb\n\t"
	"ret\n\t"
	END(xshim_ucopy_movsb)

	/* n > 128; as above with 32 and 128 */
	".p2align 6\n\t"
	LABEL(xshim_ucopy_avx_begin)
	ROUTINE(xshim_ucopy_avx)
	"vmovups (%rsi), %ymm8\n\t"
	"vmovups -128(%rsi,%rdx), %ymm4\n\t"
	"vmovups -96(%rsi,%rdx), %ymm5\n\t"
	"vmovups -64(%rsi,%rdx), %ymm6\n\t"
	"vmovups -32(%rsi,%rdx), %ymm7\n\t"
	"leaq -128(%rdi,%rdx), %r9\n\t"
	"movq %rdi, %r8\n\t"
	"subq %rdi, %rsi\n\t"
	"addq $32, %rdi\n\t"
	"andq $-32, %rdi\n\t"
	"cmpq %r9, %rdi\n\t"
	"jae 2f\n\t"
	".p2align 4\n"
	"1:\n\t"
	"vmovups (%rdi,%rsi), %ymm0\n\t"
	"vmovups 32(%rdi,%rsi), %ymm1\n\t"
	"vmovups 64(%rdi,%rsi), %ymm2\n\t"
	"vmovups 96(%rdi,%rsi), %ymm3\n\t"
	"vmovaps %ymm0, (%rdi)\n\t"
	"vmovaps %ymm1, 32(%rdi)\n\t"
	"vmovaps %ymm2, 64(%rdi)\n\t"
	"vmovaps %ymm3, 96(%rdi)\n\t"
	"addq $128, %rdi\n\t"
	"cmpq %r9, %rdi\n\t"
	"jb 1b\n"
	"2:\n\t"
	"vmovups %ymm4, (%r9)\n\t"
	"vmovups %ymm5, 32(%r9)\n\t"
	"vmovups %ymm6, 64(%r9)\n\t"
	"vmovups %ymm7, 96(%r9)\n\t"
	"vmovups %ymm8, (%r8)\n\t"
	"vzeroupper\n\t"
	"ret\n\t"
	/* where a routine goes on that has faulted */
	LABEL(xshim_ucopy_avx_fault)
	"vzeroupper\n\t"
	LABEL(xshim_ucopy_fault)
	"movl $0x7fffffff, %eax\n\t"
	"incl %eax\n\t"
	"ret\n\t"
	END(xshim_ucopy_avx)
	".popsection");

enum { UNKNOWN, SSE, AVX, MOVSB, SSE_MOVSB };

static int ask_processor(void)
{
	unsigned int a, b, c, d;
	bool avx = __builtin_cpu_supports("avx");
	bool erms = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 9 & 1);

	return erms ? avx ? MOVSB : SSE_MOVSB : avx ? AVX : SSE;
}

/* More than XSHIM_UCOPY_FEW. */
static int copy_more(void *to, const void *from, size_t n)
{
	static _Atomic int known;
	int best = atomic_load_explicit(&known, memory_order_relaxed);

	if (best == UNKNOWN) {
		best = ask_processor();
		atomic_store_explicit(&known, best, memory_order_relaxed);
	}
	if (n >= MOVSB_MIN && (best == MOVSB || best == SSE_MOVSB))
		return xshim_ucopy_movsb(to, from, n);
	if (best == MOVSB || best == AVX)
		return xshim_ucopy_avx(to, from, n);
	return xshim_ucopy_sse(to, from, n);
}

static inline int copy(void *to, const void *from, size_t n)
{
	return n <= XSHIM_UCOPY_FEW ? xshim_ucopy_small(to, from, n) : copy_more(to, from, n);
}

bool xshim_ucopy_resume(uintptr_t pc, uintptr_t *resume)
{
	if (pc < (uintptr_t)xshim_ucopy_begin || pc >= (uintptr_t)xshim_ucopy_avx_fault)
		return false;
	*resume = pc < (uintptr_t)xshim_ucopy_avx_begin ? (uintptr_t)xshim_ucopy_fault :
							  (uintptr_t)xshim_ucopy_avx_fault;
	return true;
}

#else

static inline int copy(void *to, const void *from, size_t n)
{
	memcpy(to, from, n);
	return 0;
}

bool xshim_ucopy_resume(uintptr_t pc, uintptr_t *resume)
{
	(void)pc;
	(void)resume;
	return false;
}

#endif

#if XSHIM_UCOPY_WATCHED && XSHIM_UCOPY_RESUMES
void __tsan_read_range(void *at, long size);
void __tsan_write_range(void *at, long size);
#define watch(to, from, n)                                                                         \
	do {                                                                                       \
		__tsan_read_range((void *)(uintptr_t)(from), (long)(n));                                   \
		__tsan_write_range(to, (long)(n));                                                         \
	} while (0)
#else
#define watch(to, from, n) (void)0
#endif

int xshim_ucopy(void *to, const void *from, size_t n)
{
	if (__builtin_expect(copy(to, from, n), 0))
		return -EFAULT;
	watch(to, from, n);
	return 0;
}
