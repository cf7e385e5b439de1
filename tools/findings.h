/* SPDX-License-Identifier: MIT */
/*
 * findings.h - what `xshim doctor` has found: a list of ok, warn and fail, each with what to do about it.
 */
#ifndef XSHIM_FINDINGS_H
#define XSHIM_FINDINGS_H
#include <jansson.h>

enum xshim_verdict {
	XSHIM_OK = 0,
	XSHIM_WARN,
	XSHIM_FAIL,
};

struct xshim_findings {
	json_t *list;
	unsigned int count[3];		/* by verdict */
};

/* `check` is a stable name (manual); advice "" for what is in order. */
__attribute__((format(printf, 5, 6)))
void xshim_finding(struct xshim_findings *f, enum xshim_verdict verdict, const char *check, const char *advice,
		   const char *fmt, ...);

/* doctor_program.c: can this program, looked for in PATH, be served? */
void xshim_doctor_program(struct xshim_findings *f, const char *program);

/* doctor_xen.c: rings between the guests of a Xen host. role: what the xshimd that answers calls itself; "": none answers. */
void xshim_doctor_xen(struct xshim_findings *f, const char *role);

#endif
