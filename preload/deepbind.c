/* SPDX-License-Identifier: MIT */
/*
 * deepbind.c - libraries that are opened with RTLD_DEEPBIND.
 *
 * Such a library looks for symbols in its own dependencies first, the C library among them, so its calls would go past us: what it
 * sends on a connection that is on a ring would be out of order, and end the connection. PHP and others load their parts so.
 * After the dlopen, entries of relocation tables that name a call of ours and lead to the C library's, or to nothing yet, are led
 * where any other library's lead. What else the flag is for stays: a symbol that one of its own dependencies has is that one's.
 *
 * Calls that a constructor of the library makes come before that; and in a library that is found by the RUNPATH of who asks, which
 * only the C library knows, nothing is mended.
 */
#include "libc.h"
#include "process.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#define IS_SLOT(type) ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT || (type) == R_X86_64_64)
#elif defined(__aarch64__)
#define IS_SLOT(type) ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT || (type) == R_AARCH64_ABS64)
#else
#error "relocations of this architecture are not known here"
#endif

struct object {
	uintptr_t base, low, high;		/* where it is loaded */
	uintptr_t fixed, fixed_end;		/* read-only since it was relocated */
	const char *strings;
	const ElfW(Sym) *symbols;
	const ElfW(Rela) *tables[2];
	size_t counts[2];
};

static bool holds(const struct object *o, const void *p)
{
	return (uintptr_t)p >= o->low && (uintptr_t)p < o->high;
}

/* Looked up beforehand: dlsym waits for a lock that who loads something holds while he waits for the one of dl_iterate_phdr. */
static void *_Atomic everybodys[XSHIM_CALLS];

/* The call that the symbol names, if the object only uses it: its value in the C library; and what replaces that. */
static const void *real_of(const struct object *o, size_t symbol, void **ours)
{
	const ElfW(Sym) *s = &o->symbols[symbol];
	const char *name = o->strings + s->st_name;

	if (!symbol || s->st_shndx != SHN_UNDEF)
		return NULL;
	for (size_t i = 0; i < XSHIM_CALLS; i++) {
		if (strcmp(xshim_call_names[i], name))
			continue;
		*ours = atomic_load_explicit(&everybodys[i], memory_order_relaxed);
		return *xshim_call_place(i);
	}
	return NULL;
}

static void lead(const struct object *o, void **slot, void *to)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)slot & ~(page - 1);
	bool fixed = (uintptr_t)slot >= o->fixed && (uintptr_t)slot < o->fixed_end;

	if (fixed && mprotect((void *)at, page, PROT_READ | PROT_WRITE) < 0)
		return;
	__atomic_store_n(slot, to, __ATOMIC_RELEASE);
	if (fixed)
		(void)mprotect((void *)at, page, PROT_READ);
}

static void mend(const struct object *o, const struct object *library)
{
	for (int t = 0; t < 2; t++) {
		for (size_t i = 0; o->tables[t] && i < o->counts[t]; i++) {
			const ElfW(Rela) *r = &o->tables[t][i];
			void **slot = (void **)(o->base + r->r_offset), *ours = NULL;
			const void *real;

			/* within the object itself: it is looked up when it is first called */
			if (!IS_SLOT(ELF64_R_TYPE(r->r_info)) || r->r_addend || (!holds(library, *slot) && !holds(o, *slot)))
				continue;
			real = real_of(o, ELF64_R_SYM(r->r_info), &ours);
			if (real && ours && ours != *slot && (*slot == real || holds(o, *slot)))
				lead(o, slot, ours);
		}
	}
}

static bool describe(struct object *o, const struct dl_phdr_info *info)
{
	const ElfW(Dyn) *d = NULL;
	size_t jump_bytes = 0, bytes = 0;

	*o = (struct object){ .base = info->dlpi_addr, .low = UINTPTR_MAX };
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + p->p_vaddr, end = at + p->p_memsz;

		if (p->p_type == PT_LOAD) {
			o->low = at < o->low ? at : o->low;
			o->high = end > o->high ? end : o->high;
		} else if (p->p_type == PT_DYNAMIC) {
			d = (const ElfW(Dyn) *)at;
		} else if (p->p_type == PT_GNU_RELRO) {
			o->fixed = at;
			o->fixed_end = end;
		}
	}
	for (; d && d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_STRTAB)
			o->strings = (const char *)d->d_un.d_ptr;
		else if (d->d_tag == DT_SYMTAB)
			o->symbols = (const ElfW(Sym) *)d->d_un.d_ptr;
		else if (d->d_tag == DT_JMPREL)
			o->tables[0] = (const ElfW(Rela) *)d->d_un.d_ptr;
		else if (d->d_tag == DT_PLTRELSZ)
			jump_bytes = d->d_un.d_val;
		else if (d->d_tag == DT_RELA)
			o->tables[1] = (const ElfW(Rela) *)d->d_un.d_ptr;
		else if (d->d_tag == DT_RELASZ)
			bytes = d->d_un.d_val;
	}
	o->counts[0] = jump_bytes / sizeof(ElfW(Rela));
	o->counts[1] = bytes / sizeof(ElfW(Rela));
	/* the loader has made addresses of the offsets; where it has not, it is an object of the kernel's */
	return o->strings && o->symbols && holds(o, o->strings) && holds(o, o->symbols);
}

static int find_library(struct dl_phdr_info *info, size_t size, void *library)
{
	(void)size;
	return describe(library, info) && holds(library, (const void *)libc.read);
}

static int each(struct dl_phdr_info *info, size_t size, void *library)
{
	struct object o;

	(void)size;
	/* neither the C library itself, nor us, nor the program, which cannot be opened so */
	if (info->dlpi_name && info->dlpi_name[0] && describe(&o, info) && !holds(&o, (const void *)libc.read) &&
	    !holds(&o, (const void *)&xshim_libc))
		mend(&o, library);
	return 0;
}

/* A name with a slash means one file, whoever asks. */
static void *open_deep(const char *file, int mode)
{
	struct object library;
	void *handle = NULL;

	if (file && strchr(file, '/'))
		handle = libc.dlopen(file, mode);
	if (!handle)
		return NULL;
	for (size_t i = 0; i < XSHIM_CALLS; i++)
		atomic_store_explicit(&everybodys[i], dlsym(RTLD_DEFAULT, xshim_call_names[i]), memory_order_relaxed);
	if (dl_iterate_phdr(find_library, &library))
		(void)dl_iterate_phdr(each, &library);
	return handle;
}

/* A call that does not return here, also where nothing else is optimized. */
#ifdef __clang__
#define TAIL_CALL __attribute__((musttail))
#define TAIL_CALLER
#else
#define TAIL_CALL
#define TAIL_CALLER __attribute__((optimize("O2")))
#endif

/* The last call has to be such a one: the C library asks who calls it, for that one's RUNPATH. */
TAIL_CALLER XSHIM_EXPORT void *dlopen(const char *file, int mode)
{
	void *handle;

	if ((mode & RTLD_DEEPBIND) && xshim_active) {
		handle = open_deep(file, mode);
		if (handle)
			return handle;
	}
	TAIL_CALL return libc.dlopen(file, mode);
}
