/* SPDX-License-Identifier: MIT */
/* player.c - the beginning of an end and of the comparison (player.h). */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "player.h"

void die(const char *fmt, ...)
{
	va_list ap;

	fputs("player: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "end"))
		return end_main(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "compare"))
		return compare_main(argc - 1, argv + 1);
	die("usage: player compare OPTION... FILE...");
}
