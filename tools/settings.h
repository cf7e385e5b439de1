/* SPDX-License-Identifier: MIT */
/*
 * settings.h - the XSHIM_* environment of libxshim.so as a table (from preload/options.def), so that
 * `xshim run` can offer each as an option and `xshim doctor` can say which value the shim will ignore.
 */
#ifndef XSHIM_SETTINGS_H
#define XSHIM_SETTINGS_H
#include <stdbool.h>
#include <stddef.h>

struct xshim_setting {
	const char *variable;		/* "XSHIM_RING_SIZE" */
	bool is_number;
	long long number, min, max;	/* default and range of a number */
	const char *text;		/* default of a text */
	const char *unit;
	const char *help;
};

extern const struct xshim_setting xshim_settings[];
extern const size_t xshim_settings_count;

const struct xshim_setting *xshim_setting_find(const char *variable);	/* NULL: no such variable */

/* Would the shim take this value? 0, or -EINVAL with the reason in why. */
int xshim_setting_check(const struct xshim_setting *s, const char *value, char *why, size_t why_len);

#endif
