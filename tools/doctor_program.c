/* SPDX-License-Identifier: MIT */
/*
 * doctor_program.c - can libxshim.so be preloaded into this program, and will it see its socket calls?
 *
 * A script is followed to its interpreter as execve(2) does. What the program links is read from its own
 * headers only; a library that it loads later is not looked at.
 */
#include "findings.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "elffile.h"

#define SCRIPT_DEPTH 5			/* as deep as the kernel goes */
#define LINE 256			/* of a #! line, as in the kernel */

static const char stays_on_tcp[] = "it runs, and its connections stay on TCP";

static bool is_runnable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As execvp(3): PATH, unless the name has a slash. */
static bool find_program(const char *name, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH");
	size_t len;

	if (strchr(name, '/')) {
		snprintf(path, PATH_MAX, "%s", name);
		return is_runnable(path);
	}
	if (!dirs)
		dirs = "/bin:/usr/bin";
	for (; *name; dirs += len + 1) {
		len = strcspn(dirs, ":");
		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)len, dirs, len ? "/" : "./", name) < PATH_MAX &&
		    is_runnable(path))
			return true;
		if (!dirs[len])
			break;
	}
	return false;
}

/* An id or capabilities gained at exec make ld.so drop LD_PRELOAD; then the shim would be inert anyway. */
static void check_secure(struct xshim_findings *f, const char *path, int fd)
{
	static const char advice[] = "run a copy without these rights, or start it as the user it changes to";
	struct statvfs vfs;
	struct stat st;
	bool gains_id, has_caps;

	if (fstat(fd, &st) < 0 || (fstatvfs(fd, &vfs) == 0 && (vfs.f_flag & ST_NOSUID)))
		return;
	gains_id = ((st.st_mode & S_ISUID) && st.st_uid != getuid()) ||
		   ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid());
	has_caps = fgetxattr(fd, "security.capability", NULL, 0) > 0;
	if (gains_id)
		xshim_finding(f, XSHIM_FAIL, "privilege", advice,
			      "%s is set-%s: the dynamic linker ignores LD_PRELOAD for it", path,
			      st.st_mode & S_ISUID ? "user-ID" : "group-ID");
	else if (has_caps && getuid() != 0)
		xshim_finding(f, XSHIM_FAIL, "privilege", advice,
			      "%s has file capabilities: the dynamic linker ignores LD_PRELOAD for it", path);
	else if ((st.st_mode & (S_ISUID | S_ISGID)) || has_caps)
		xshim_finding(f, XSHIM_WARN, "privilege", "start it as this user only",
			      "%s is privileged: for this user LD_PRELOAD holds, for others it does not", path);
	else
		xshim_finding(f, XSHIM_OK, "privilege", "", "%s gains no rights at its start", path);
}

static bool is_musl(const char *interp)
{
	const char *slash = strrchr(interp, '/');

	return strncmp(slash ? slash + 1 : interp, "ld-musl", 7) == 0;
}

/* This command was built for the C library that libxshim.so was built for. */
static bool is_built_for_musl(void)
{
	struct xshim_elf self;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	bool musl = fd >= 0 && xshim_elf_read(&self, fd) == 0 && is_musl(self.interp);

	if (fd >= 0)
		close(fd);
	return musl;
}

static void check_libc(struct xshim_findings *f, const char *path, const struct xshim_elf *e)
{
	bool ours = is_built_for_musl(), its = is_musl(e->interp);

	if (ours != its)
		xshim_finding(f, XSHIM_FAIL, "libc", "build xshim for that C library and name the result with --lib",
			      "%s needs %s (%s), libxshim.so is built for %s", path, e->interp, its ? "musl" : "glibc",
			      ours ? "musl" : "glibc");
	else if (access(e->interp, X_OK) < 0)
		xshim_finding(f, XSHIM_FAIL, "libc", "install it", "%s needs %s: %s", path, e->interp, strerror(errno));
	else
		xshim_finding(f, XSHIM_OK, "libc", "", "%s is loaded by %s, of the C library of libxshim.so", path, e->interp);
}

static void check_elf(struct xshim_findings *f, const char *path, int fd, const struct xshim_elf *e)
{
	char kind[48];

	if (!e->is_native) {
		xshim_finding(f, XSHIM_FAIL, "machine", "build xshim for it and name the result with --lib",
			      "%s is %s, libxshim.so is not", path, xshim_elf_kind(e, kind));
		return;
	}
	xshim_finding(f, XSHIM_OK, "machine", "", "%s is %s like libxshim.so", path, xshim_elf_kind(e, kind));
	if (e->is_go)
		xshim_finding(f, XSHIM_FAIL, "go", stays_on_tcp,
			      "%s is made by Go, which makes system calls without the C library", path);
	if (!e->has_interp || !e->has_dynamic) {
		xshim_finding(f, XSHIM_FAIL, "dynamic", "link it dynamically; as it is, it runs, and stays on TCP",
			      "%s is statically linked: nothing can be preloaded", path);
		return;
	}
	xshim_finding(f, XSHIM_OK, "dynamic", "", "%s is dynamically linked", path);
	check_libc(f, path, e);
	check_secure(f, path, fd);
	if (e->needs_liburing)
		xshim_finding(f, XSHIM_WARN, "io_uring", "choose another event method in its configuration if it has one",
			      "%s uses liburing: once it has made an io_uring, all its connections stay on TCP", path);
}

/*
 * "#!INTERPRETER ARG": 1 and the interpreter's path, looking through env(1), which is how scripts name
 * one that PATH finds; 0 if the file does not start so; -ENOEXEC when nothing stands there.
 */
static int script_interpreter(int fd, char interp[PATH_MAX])
{
	char line[LINE + 1], *save, *word, *base;
	ssize_t n = pread(fd, line, LINE, 0);

	if (n < 2 || line[0] != '#' || line[1] != '!')
		return 0;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	word = strtok_r(line + 2, " \t\r", &save);
	if (!word)
		return -ENOEXEC;
	snprintf(interp, PATH_MAX, "%s", word);
	base = strrchr(word, '/');
	if (strcmp(base ? base + 1 : word, "env") != 0)
		return 1;
	/* env's own options and assignments, -S among them, come before the name. */
	do {
		word = strtok_r(NULL, " \t\r", &save);
	} while (word && (word[0] == '-' || strchr(word, '=')));
	if (word && !find_program(word, interp))
		snprintf(interp, PATH_MAX, "%s", word);
	return 1;
}

static void check_file(struct xshim_findings *f, const char *path, int depth)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
	char interp[PATH_MAX];
	struct xshim_elf elf;

	if (fd < 0) {
		xshim_finding(f, errno == EACCES ? XSHIM_WARN : XSHIM_FAIL, "program", "run this as a user who may read it",
			      "%s: cannot be judged: %s", path, strerror(errno));
		return;
	}
	rc = xshim_elf_read(&elf, fd);
	if (rc == 0) {
		check_elf(f, path, fd, &elf);
	} else if (rc != -ENOEXEC) {
		xshim_finding(f, XSHIM_FAIL, "program", "install it again", "%s: %s", path,
			      rc == -EBADMSG ? "damaged ELF file" : strerror(-rc));
	} else if ((rc = script_interpreter(fd, interp)) < 0) {
		xshim_finding(f, XSHIM_FAIL, "program", "mend its first line", "%s: no interpreter after #!", path);
	} else if (depth == 0) {
		xshim_finding(f, XSHIM_FAIL, "program", "mend its first line", "%s: too many interpreters in a row", path);
	} else if (rc == 0) {
		xshim_finding(f, XSHIM_WARN, "program", "give it a #! line",
			      "%s: neither ELF nor #!: a shell runs it, if anything does", path);
		check_file(f, "/bin/sh", depth - 1);
	} else if (!is_runnable(interp)) {
		xshim_finding(f, XSHIM_FAIL, "program", "install it or mend the first line",
			      "%s: its interpreter %s cannot be run", path, interp);
	} else {
		xshim_finding(f, XSHIM_OK, "program", "", "%s is a script, run by %s", path, interp);
		check_file(f, interp, depth - 1);
	}
	close(fd);
}

void xshim_doctor_program(struct xshim_findings *f, const char *program)
{
	char path[PATH_MAX];

	if (!find_program(program, path)) {
		xshim_finding(f, XSHIM_FAIL, "program", "check the name and PATH", "%s: not found, or may not be run", program);
		return;
	}
	check_file(f, path, SCRIPT_DEPTH);
}
