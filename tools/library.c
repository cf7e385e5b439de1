/* SPDX-License-Identifier: MIT */
#include "library.h"
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef XSHIM_LIBDIR
#define XSHIM_LIBDIR "/usr/local/lib"
#endif
#define LIBRARY "libxshim.so"

/* 0 if it is a regular file that can be named in LD_PRELOAD. */
static int resolve(const char *candidate, char path[PATH_MAX])
{
	struct stat st;

	if (!realpath(candidate, path))
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

/* The directory of the running command, without the final slash. */
static int own_directory(char dir[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", dir, PATH_MAX - 1);
	char *slash;

	if (n < 0)
		return -errno;
	dir[n] = '\0';
	slash = strrchr(dir, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

static int search(char path[PATH_MAX])
{
	/* ".": the command itself stands in .libs when libtool wraps it. */
	static const char *const beside[] = { ".libs", "../lib", "." };
	char dir[PATH_MAX], candidate[PATH_MAX + 32];

	if (own_directory(dir) == 0) {
		for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
			snprintf(candidate, sizeof(candidate), "%s/%s/%s", dir, beside[i], LIBRARY);
			if (resolve(candidate, path) == 0)
				return 0;
		}
	}
	return resolve(XSHIM_LIBDIR "/" LIBRARY, path);
}

int xshim_library_find(const char *option, char path[PATH_MAX], char *why, size_t why_len)
{
	const char *env = secure_getenv("XSHIM_LIB");
	const char *named = option ? option : env && *env ? env : NULL;
	int rc;

	if (named) {
		rc = resolve(named, path);
		if (rc < 0)
			snprintf(why, why_len, "%s=%s: %s", option ? "--lib" : "XSHIM_LIB", named, strerror(-rc));
	} else {
		rc = search(path);
		if (rc < 0)
			snprintf(why, why_len, "%s is not beside this command, nor in %s", LIBRARY, XSHIM_LIBDIR);
	}
	if (rc == 0 && strpbrk(path, " :\t\n")) {
		/* ld.so splits LD_PRELOAD at blanks and colons and knows no quoting. */
		snprintf(why, why_len, "%s: LD_PRELOAD cannot hold a path with a blank or a colon", path);
		rc = -EINVAL;
	}
	return rc;
}
