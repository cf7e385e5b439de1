/* SPDX-License-Identifier: MIT */
#include "settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <xshim/log.h>

const struct xshim_setting xshim_settings[] = {
#define XSHIM_OPTION_NUM(field, name, dflt, lo, hi, unit_text, help_text) \
	{ .variable = name, .is_number = true, .number = dflt, .min = lo, .max = hi, .unit = unit_text, .help = help_text },
#define XSHIM_OPTION_STR(field, name, dflt, help_text) \
	{ .variable = name, .text = dflt, .unit = "", .help = help_text },
#include "../preload/options.def"
#undef XSHIM_OPTION_NUM
#undef XSHIM_OPTION_STR
};
const size_t xshim_settings_count = sizeof(xshim_settings) / sizeof(xshim_settings[0]);

const struct xshim_setting *xshim_setting_find(const char *variable)
{
	for (size_t i = 0; i < xshim_settings_count; i++)
		if (strcmp(xshim_settings[i].variable, variable) == 0)
			return &xshim_settings[i];
	return NULL;
}

/* Digits only: no sign, no blank, no 0x, no unit. */
static bool is_decimal(const char *s)
{
	return *s && s[strspn(s, "0123456789")] == '\0';
}

static int check_number(const struct xshim_setting *s, const char *value, char *why, size_t why_len)
{
	long long n;

	errno = 0;
	n = is_decimal(value) ? strtoll(value, NULL, 10) : -1;
	if (n < s->min || n > s->max || errno == ERANGE) {
		snprintf(why, why_len, "not a number from %lld to %lld", s->min, s->max);
		return -EINVAL;
	}
	if (strcmp(s->variable, "XSHIM_RING_SIZE") == 0 && (n & (n - 1)) != 0) {
		snprintf(why, why_len, "not a power of two from %lld to %lld", s->min, s->max);
		return -EINVAL;
	}
	return 0;
}

static int check_log(const char *value, char *why, size_t why_len)
{
	if (!*value || xshim_log_level_from_name(value, strcspn(value, ":")) != 0)
		return 0;
	snprintf(why, why_len, "does not start with error, warn, info or debug");
	return -EINVAL;
}

static int check_socket(const char *value, char *why, size_t why_len)
{
	struct sockaddr_un un;

	if (value[0] != '/')
		snprintf(why, why_len, "not an absolute path");
	else if (strlen(value) >= sizeof(un.sun_path))
		snprintf(why, why_len, "longer than %zu bytes", sizeof(un.sun_path) - 1);
	else
		return 0;
	return -EINVAL;
}

int xshim_setting_check(const struct xshim_setting *s, const char *value, char *why, size_t why_len)
{
	if (s->is_number)
		return check_number(s, value, why, why_len);
	if (strcmp(s->variable, "XSHIM_LOG") == 0)
		return check_log(value, why, why_len);
	if (strcmp(s->variable, "XSHIM_SOCKET") == 0)
		return check_socket(value, why, why_len);
	return 0;
}
