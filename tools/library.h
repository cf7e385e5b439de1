/* SPDX-License-Identifier: MIT */
/*
 * library.h - where is libxshim.so?
 */
#ifndef XSHIM_LIBRARY_H
#define XSHIM_LIBRARY_H
#include <limits.h>
#include <stddef.h>

/*
 * The first that exists of: `option` and $XSHIM_LIB (when given, the only place looked at), .libs/ and ../lib/
 * beside the running command, the directory set when it was built. path is then absolute.
 * 0, or -errno with the reason in why.
 */
int xshim_library_find(const char *option, char path[PATH_MAX], char *why, size_t why_len);

#endif
