/* SPDX-License-Identifier: MIT */
/*
 * elffile.h - the facts of an ELF file that decide whether a library can be preloaded into it.
 *
 * The file is read with pread and every offset is checked: it may be damaged or change meanwhile.
 */
#ifndef XSHIM_ELFFILE_H
#define XSHIM_ELFFILE_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct xshim_elf {
	uint8_t elf_class;		/* ELFCLASS32, ELFCLASS64 */
	uint8_t byte_order;		/* ELFDATA2LSB, ELFDATA2MSB */
	uint16_t machine;		/* EM_*; 0 when the byte order is the other one */
	bool is_native;			/* class, byte order and machine are those of this command; else nothing below is set */
	bool has_interp, has_dynamic;
	char interp[256];		/* PT_INTERP, the dynamic linker */
	bool is_go;
	bool needs_liburing;		/* named in its own DT_NEEDED */
};

/* 0; -ENOEXEC: not ELF; -EBADMSG: ELF, but damaged; or -errno of reading. */
int xshim_elf_read(struct xshim_elf *e, int fd);
/* "64-bit x86-64"; returns buf. */
const char *xshim_elf_kind(const struct xshim_elf *e, char buf[48]);

#endif
