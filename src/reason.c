/* SPDX-License-Identifier: MIT */
/*
 * reason.c - the reason table, made from reasons.def.
 */
#include <string.h>
#include <xshim/reason.h>

static const struct {
	const char *name, *text;
} table[] = {
#define XSHIM_REASON(num, sym, name, text) [num] = { name, text },
#include <xshim/reasons.def>
#undef XSHIM_REASON
};

#define TABLE_SIZE (sizeof(table) / sizeof(table[0]))
_Static_assert(TABLE_SIZE == XSHIM_R_COUNT, "reasons.def is in ascending order");

const char *xshim_reason_name(uint32_t reason)
{
	return reason < TABLE_SIZE && table[reason].name ? table[reason].name : "unknown";
}

const char *xshim_reason_text(uint32_t reason)
{
	return reason < TABLE_SIZE && table[reason].text ? table[reason].text : "a reason this version does not know";
}

int xshim_reason_from_name(const char *name)
{
	for (unsigned int i = 0; i < TABLE_SIZE; i++)
		if (table[i].name && strcmp(table[i].name, name) == 0)
			return (int)i;
	return -1;
}
