/* SPDX-License-Identifier: MIT */
#include "elffile.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_HEADERS 4096		/* program or section headers looked at */
#define MAX_TABLE (16u << 20)		/* bytes of a string table or note */

#if __BYTE_ORDER == __LITTLE_ENDIAN
#define NATIVE_ORDER ELFDATA2LSB
#else
#define NATIVE_ORDER ELFDATA2MSB
#endif
#define NATIVE_CLASS (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)

/* All of [off, off + len), or -EBADMSG when the file is shorter. */
static int read_at(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	if (off > (uint64_t)INT64_MAX - len)
		return -EBADMSG;
	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

/* The caller frees *out; it ends in a NUL that is not of the file. */
static int read_block(int fd, uint64_t off, uint64_t len, char **out)
{
	int rc;

	if (len == 0 || len > MAX_TABLE)
		return -EBADMSG;
	*out = malloc(len + 1);
	if (!*out)
		return -ENOMEM;
	rc = read_at(fd, *out, len, off);
	(*out)[len] = '\0';
	if (rc < 0) {
		free(*out);
		*out = NULL;
	}
	return rc;
}

static uint16_t own_machine(void)
{
	unsigned char ehdr[EI_NIDENT + 4];
	FILE *self = fopen("/proc/self/exe", "re");
	uint16_t machine = EM_NONE;

	if (!self)
		return EM_NONE;
	if (fread(ehdr, sizeof(ehdr), 1, self) == 1)
		memcpy(&machine, ehdr + EI_NIDENT + 2, sizeof(machine));
	fclose(self);
	return machine;
}

static void read_interp(struct xshim_elf *e, int fd, const ElfW(Phdr) *ph)
{
	size_t len = ph->p_filesz < sizeof(e->interp) ? ph->p_filesz : sizeof(e->interp) - 1;

	e->has_interp = true;
	if (read_at(fd, e->interp, len, ph->p_offset) < 0)
		len = 0;
	e->interp[len] = '\0';
}

/* The toolchain of Go leaves a note of its name, type 4. */
static bool has_go_note(int fd, const ElfW(Phdr) *ph)
{
	ElfW(Nhdr) note;
	uint64_t off = 0, step;
	char name[4];

	while (off + sizeof(note) <= ph->p_filesz && off < MAX_TABLE) {
		if (read_at(fd, &note, sizeof(note), ph->p_offset + off) < 0)
			return false;
		if (note.n_namesz == 4 && note.n_type == 4 &&
		    read_at(fd, name, 4, ph->p_offset + off + sizeof(note)) == 0 && memcmp(name, "Go\0", 4) == 0)
			return true;
		step = sizeof(note) + (((uint64_t)note.n_namesz + 3) & ~3ull) + (((uint64_t)note.n_descsz + 3) & ~3ull);
		off += step;
	}
	return false;
}

static bool has_go_section(int fd, const ElfW(Ehdr) *eh)
{
	ElfW(Shdr) names, sh;
	char *table;
	bool found = false;

	if (eh->e_shentsize != sizeof(sh) || eh->e_shstrndx >= eh->e_shnum ||
	    read_at(fd, &names, sizeof(names), eh->e_shoff + (uint64_t)eh->e_shstrndx * sizeof(sh)) < 0 ||
	    read_block(fd, names.sh_offset, names.sh_size, &table) < 0)
		return false;
	for (unsigned int i = 0; i < eh->e_shnum && i < MAX_HEADERS && !found; i++) {
		if (read_at(fd, &sh, sizeof(sh), eh->e_shoff + (uint64_t)i * sizeof(sh)) < 0)
			break;
		if (sh.sh_name < names.sh_size)
			found = strcmp(table + sh.sh_name, ".go.buildinfo") == 0 ||
				strcmp(table + sh.sh_name, ".note.go.buildid") == 0;
	}
	free(table);
	return found;
}

/* Where in the file a virtual address stands; UINT64_MAX when no segment holds it. */
static uint64_t file_offset(const ElfW(Phdr) *ph, unsigned int n, uint64_t vaddr)
{
	for (unsigned int i = 0; i < n; i++)
		if (ph[i].p_type == PT_LOAD && vaddr >= ph[i].p_vaddr && vaddr - ph[i].p_vaddr < ph[i].p_filesz)
			return ph[i].p_offset + (vaddr - ph[i].p_vaddr);
	return UINT64_MAX;
}

static int read_needed(struct xshim_elf *e, int fd, const ElfW(Phdr) *ph, unsigned int n, const ElfW(Phdr) *dyn)
{
	uint64_t strtab = 0, strsz = 0;
	size_t count = dyn->p_filesz / sizeof(ElfW(Dyn)), i;
	ElfW(Dyn) *d;
	char *block, *names;
	int rc;

	rc = read_block(fd, dyn->p_offset, dyn->p_filesz, &block);
	if (rc < 0)
		return rc;
	d = (ElfW(Dyn) *)block;
	for (i = 0; i < count && d[i].d_tag != DT_NULL; i++) {
		if (d[i].d_tag == DT_STRTAB)
			strtab = d[i].d_un.d_ptr;
		if (d[i].d_tag == DT_STRSZ)
			strsz = d[i].d_un.d_val;
	}
	count = i;
	rc = strsz ? read_block(fd, file_offset(ph, n, strtab), strsz, &names) : -EBADMSG;
	if (rc < 0)
		goto free_block;
	for (i = 0; i < count; i++)
		if (d[i].d_tag == DT_NEEDED && d[i].d_un.d_val < strsz &&
		    strncmp(names + d[i].d_un.d_val, "liburing.so", strlen("liburing.so")) == 0)
			e->needs_liburing = true;
	free(names);
free_block:
	free(block);
	return rc;
}

static int read_native(struct xshim_elf *e, int fd)
{
	const ElfW(Phdr) *dyn = NULL;
	ElfW(Ehdr) eh;
	ElfW(Phdr) *ph;
	char *block;
	int rc;

	rc = read_at(fd, &eh, sizeof(eh), 0);
	if (rc < 0)
		return rc;
	if (eh.e_phentsize != sizeof(*ph) || eh.e_phnum == 0 || eh.e_phnum > MAX_HEADERS)
		return -EBADMSG;
	rc = read_block(fd, eh.e_phoff, (uint64_t)eh.e_phnum * sizeof(*ph), &block);
	if (rc < 0)
		return rc;
	ph = (ElfW(Phdr) *)block;
	for (unsigned int i = 0; i < eh.e_phnum; i++) {
		if (ph[i].p_type == PT_INTERP)
			read_interp(e, fd, &ph[i]);
		if (ph[i].p_type == PT_DYNAMIC)
			dyn = &ph[i];
		if (ph[i].p_type == PT_NOTE && has_go_note(fd, &ph[i]))
			e->is_go = true;
	}
	e->has_dynamic = dyn != NULL;
	e->is_go = e->is_go || has_go_section(fd, &eh);
	if (dyn)
		rc = read_needed(e, fd, ph, eh.e_phnum, dyn);
	free(block);
	return rc;
}

int xshim_elf_read(struct xshim_elf *e, int fd)
{
	unsigned char ident[EI_NIDENT + 4];
	int rc;

	*e = (struct xshim_elf){ 0 };
	rc = read_at(fd, ident, sizeof(ident), 0);
	if (rc == -EBADMSG || (rc == 0 && memcmp(ident, ELFMAG, SELFMAG) != 0))
		return -ENOEXEC;
	if (rc < 0)
		return rc;
	e->elf_class = ident[EI_CLASS];
	e->byte_order = ident[EI_DATA];
	if (e->byte_order == NATIVE_ORDER)
		memcpy(&e->machine, ident + EI_NIDENT + 2, sizeof(e->machine));
	e->is_native = e->elf_class == NATIVE_CLASS && e->byte_order == NATIVE_ORDER && e->machine == own_machine();
	return e->is_native ? read_native(e, fd) : 0;
}

const char *xshim_elf_kind(const struct xshim_elf *e, char buf[48])
{
	static const struct {
		uint16_t machine;
		const char *name;
	} names[] = {
		{ EM_386, "i386" }, { EM_X86_64, "x86-64" }, { EM_ARM, "arm" }, { EM_AARCH64, "aarch64" },
		{ EM_RISCV, "riscv" }, { EM_PPC64, "ppc64" }, { EM_S390, "s390" }, { EM_MIPS, "mips" },
	};
	const char *bits = e->elf_class == ELFCLASS64 ? "64-bit" : e->elf_class == ELFCLASS32 ? "32-bit" : "unknown";

	if (e->byte_order != NATIVE_ORDER) {
		snprintf(buf, 48, "%s, of the other byte order", bits);
		return buf;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].machine == e->machine) {
			snprintf(buf, 48, "%s %s", bits, names[i].name);
			return buf;
		}
	}
	snprintf(buf, 48, "%s machine %u", bits, e->machine);
	return buf;
}
