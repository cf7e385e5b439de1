/* SPDX-License-Identifier: MIT */
/*
 * table.h - uthash, for a program that does not end when there is no memory.
 *
 * HASH_ADD may fail. After each one: XSHIMD_ADDED(handle, element), and where that is false the element is not in the table and is the
 * caller's still.
 */
#ifndef XSHIMD_TABLE_H
#define XSHIMD_TABLE_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define XSHIMD_ADDED(hh, e) ((e)->hh.tbl != NULL)

#endif
