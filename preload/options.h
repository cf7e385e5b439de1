/* SPDX-License-Identifier: MIT */
/*
 * options.h - the XSHIM_* environment, read once by the constructor (options.def).
 *
 * Threads: const after xshim_options_read(). The strings belong to the environment at start; they are copied.
 */
#ifndef XSHIM_OPTIONS_H
#define XSHIM_OPTIONS_H
#include <stdint.h>
#include <xshim/log.h>

struct xshim_options {
#define XSHIM_OPTION_NUM(field, name, def, min, max, unit, help) uint64_t field;
#define XSHIM_OPTION_STR(field, name, def, help) char field[108];
#include "options.def"
#undef XSHIM_OPTION_NUM
#undef XSHIM_OPTION_STR
};

extern struct xshim_options xshim_opt;
extern struct xshim_log xshim_logger;

void xshim_options_read(void);

#define xlog(level, ...)                                                                           \
	do {                                                                                       \
		if (__builtin_expect(xshim_logger.fd >= 0, 0))                                     \
			xshim_log(&xshim_logger, XSHIM_LOG_##level, __VA_ARGS__);                  \
	} while (0)

#endif
