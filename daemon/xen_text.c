/* SPDX-License-Identifier: MIT */
#include "xen_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <xshim/proto.h>

struct words {
	const char *at;
	size_t left;
};

static int wrong(const char **why, const char *what)
{
	*why = what;
	return -EINVAL;
}

static int check_value(const char *s, size_t len, const char **why)
{
	if (len > XSHIMD_XEN_VALUE_MAX)
		return wrong(why, "longer than 1024 bytes");
	if (memchr(s, '\0', len))
		return wrong(why, "a NUL byte");
	return 0;
}

/* The next word: up to one separator or the end. False when there is none; an empty word is one. */
static bool next_word(struct words *w, char separator, const char **word, size_t *len)
{
	const char *end;

	if (!w->at)
		return false;
	end = memchr(w->at, separator, w->left);
	*word = w->at;
	*len = end ? (size_t)(end - w->at) : w->left;
	w->at = end ? end + 1 : NULL;
	w->left -= end ? *len + 1 : *len;
	return true;
}

static bool is_word(const char *word, size_t len, const char *text)
{
	return len == strlen(text) && !memcmp(word, text, len);
}

int xshimd_xen_number(const char *s, size_t len, uint64_t max, uint64_t *out, const char **why)
{
	uint64_t n = 0;

	if (!len || len > 19 || (s[0] == '0' && len > 1))
		return wrong(why, "not a plain decimal number");
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return wrong(why, "not a plain decimal number");
		n = n * 10 + (uint64_t)(s[i] - '0');
	}
	if (n > max)
		return wrong(why, "number too large");
	*out = n;
	return 0;
}

int xshimd_xen_hex(const char *s, size_t len, uint64_t *out, const char **why)
{
	uint64_t n = 0;

	if (len != 16)
		return wrong(why, "not 16 hexadecimal digits");
	for (size_t i = 0; i < len; i++) {
		if (s[i] >= '0' && s[i] <= '9')
			n = n << 4 | (uint64_t)(s[i] - '0');
		else if (s[i] >= 'a' && s[i] <= 'f')
			n = n << 4 | (uint64_t)(s[i] - 'a' + 10);
		else
			return wrong(why, "not 16 hexadecimal digits");
	}
	if (!n)
		return wrong(why, "zero");
	*out = n;
	return 0;
}

/* What cannot be the address of one guest that others reach it at. */
static bool is_general(const struct xshim_endpoint *ep)
{
	static const uint8_t zero[16];
	const uint8_t *a = ep->addr;

	if (xshim_endpoint_is_v4(ep))
		return a[12] != 0 && a[12] != 127 && a[12] < 224 && !(a[12] == 169 && a[13] == 254);
	return memcmp(a, zero, 15) && a[0] != 0xff && !(a[0] == 0xfe && (a[1] & 0xc0) == 0x80);
}

static int parse_address(const char *s, size_t len, bool with_prefix, struct xshim_endpoint *ep, const char **why)
{
	const char *slash = with_prefix ? memchr(s, '/', len) : NULL;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct sockaddr_in four = { .sin_family = AF_INET };
	char text[INET6_ADDRSTRLEN];
	uint64_t prefix;

	if (slash) {
		if (xshimd_xen_number(slash + 1, (size_t)(s + len - slash - 1), 128, &prefix, why) < 0)
			return wrong(why, "a bad prefix length");
		len = (size_t)(slash - s);
	}
	if (!len || len >= sizeof(text))
		return wrong(why, "not an address");
	memcpy(text, s, len);
	text[len] = '\0';
	memset(ep, 0, sizeof(*ep));
	if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
		xshim_endpoint_from_sockaddr(ep, (struct sockaddr *)&four, sizeof(four));
	else if (inet_pton(AF_INET6, text, &six.sin6_addr) == 1)
		xshim_endpoint_from_sockaddr(ep, (struct sockaddr *)&six, sizeof(six));
	else
		return wrong(why, "not an address");
	return is_general(ep) ? 0 : wrong(why, "an address that no single guest can have");
}

bool xshimd_xen_addrs_have(const struct xshimd_xen_addrs *a, const struct xshim_endpoint *ep)
{
	for (uint32_t i = 0; i < a->n; i++)
		if (!memcmp(a->a[i].addr, ep->addr, sizeof(ep->addr)))
			return true;
	return false;
}

bool xshimd_xen_addrs_equal(const struct xshimd_xen_addrs *a, const struct xshimd_xen_addrs *b)
{
	if (a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++)
		if (!xshimd_xen_addrs_have(b, &a->a[i]))
			return false;
	return true;
}

int xshimd_xen_addrs_parse(const char *s, size_t len, char separator, bool with_prefix, struct xshimd_xen_addrs *out,
			   const char **why)
{
	struct words w = { s, len };
	struct xshim_endpoint ep;
	const char *word;
	size_t n;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = check_value(s, len, why);
	if (rc < 0 || !len)
		return rc;
	while (next_word(&w, separator, &word, &n)) {
		rc = parse_address(word, n, with_prefix, &ep, why);
		if (rc < 0)
			return rc;
		if (xshimd_xen_addrs_have(out, &ep))
			return wrong(why, "an address twice");
		if (out->n == XSHIMD_XEN_ADDRS)
			return wrong(why, "more than 16 addresses");
		out->a[out->n++] = ep;
	}
	return 0;
}

int xshimd_xen_guest_parse(const char *s, size_t len, bool self, struct xshimd_xen_guest *out, const char **why)
{
	struct words w = { s, len };
	struct xshimd_xen_guest g = { 0 };
	const char *word;
	uint64_t domid;
	size_t n;

	if (check_value(s, len, why) < 0)
		return -EINVAL;
	if (!next_word(&w, ' ', &word, &n) || xshimd_xen_number(word, n, XSHIMD_XEN_DOMID_MAX, &domid, why) < 0)
		return wrong(why, "not a domain's number");
	g.domid = (uint32_t)domid;
	if (!next_word(&w, ' ', &word, &n) || xshimd_xen_hex(word, n, &g.instance, why) < 0)
		return wrong(why, "not an instance");
	if (!next_word(&w, ' ', &word, &n) || xshimd_xen_hex(word, n, &g.life, why) < 0)
		return wrong(why, "not a life");
	if (!self) {
		if (!next_word(&w, ' ', &word, &n))
			return wrong(why, "no word of trust");
		g.by_vif = is_word(word, n, "vif");
		if (!g.by_vif && !is_word(word, n, "claim"))
			return wrong(why, "an unknown word of trust");
	}
	if (!next_word(&w, ' ', &word, &n) || !n)
		return wrong(why, "no addresses");
	if (w.at)
		return wrong(why, "more words than are due");
	if (!is_word(word, n, "-") && xshimd_xen_addrs_parse(word, n, ',', false, &g.addrs, why) < 0)
		return -EINVAL;
	*out = g;
	return 0;
}

int xshimd_xen_drain_parse(const char *s, size_t len, struct xshimd_xen_drain *out, const char **why)
{
	struct words w = { s, len };
	struct xshimd_xen_drain d = { .asked = true };
	const char *word;
	uint64_t n;
	size_t l;

	memset(out, 0, sizeof(*out));
	if (check_value(s, len, why) < 0)
		return -EINVAL;
	if (!len)
		return 0;
	if (!next_word(&w, ' ', &word, &l) || !is_word(word, l, "request"))
		return wrong(why, "an unknown word");
	if (!next_word(&w, ' ', &word, &l) || xshimd_xen_number(word, l, UINT32_MAX, &n, why) < 0)
		return wrong(why, "not a request's number");
	d.number = (uint32_t)n;
	if (!next_word(&w, ' ', &word, &l) || w.at)
		return wrong(why, "not the words that are due");
	if (is_word(word, l, "all"))
		d.domid = XSHIM_DOMID_ALL;
	else if (xshimd_xen_number(word, l, XSHIMD_XEN_DOMID_MAX, &n, why) == 0)
		d.domid = (uint32_t)n;
	else
		return wrong(why, "not a domain's number");
	*out = d;
	return 0;
}

int xshimd_xen_answer_parse(const char *s, size_t len, uint32_t *number, uint32_t *left, const char **why)
{
	struct words w = { s, len };
	const char *word;
	uint64_t a, b;
	size_t l;

	if (check_value(s, len, why) < 0)
		return -EINVAL;
	if (!next_word(&w, ' ', &word, &l) || !is_word(word, l, "done"))
		return wrong(why, "an unknown word");
	if (!next_word(&w, ' ', &word, &l) || xshimd_xen_number(word, l, UINT32_MAX, &a, why) < 0 ||
	    !next_word(&w, ' ', &word, &l) || xshimd_xen_number(word, l, UINT32_MAX, &b, why) < 0 || w.at)
		return wrong(why, "not the two numbers that are due");
	*number = (uint32_t)a;
	*left = (uint32_t)b;
	return 0;
}

#define PORT_MAX 131071			/* of the event channels that a domain can have */

int xshimd_xen_half_parse(const char *s, size_t len, bool offer, struct xshimd_xen_half *out, const char **why)
{
	struct words w = { s, len };
	uint64_t gref, port = 0;
	const char *word;
	size_t l;

	memset(out, 0, sizeof(*out));
	if (check_value(s, len, why) < 0)
		return -EINVAL;
	if (!next_word(&w, ' ', &word, &l) || xshimd_xen_number(word, l, UINT32_MAX >> 1, &gref, why) < 0 || !gref)
		return wrong(why, "no grant first");
	if (offer && (!next_word(&w, ' ', &word, &l) || xshimd_xen_number(word, l, PORT_MAX, &port, why) < 0 || !port))
		return wrong(why, "no port second");
	if (!next_word(&w, ' ', &word, &l) || xshimd_xen_hex(word, l, &out->nonce, why) < 0)
		return wrong(why, "no nonce");
	if (!offer && (!next_word(&w, ' ', &word, &l) || xshimd_xen_hex(word, l, &out->to, why) < 0))
		return wrong(why, "no nonce of an offer");
	if (w.at)
		return wrong(why, "too many words");
	out->gref = (uint32_t)gref;
	out->port = (uint32_t)port;
	return 0;
}

void xshimd_xen_half_format(char buf[XSHIMD_XEN_HALF_TEXT], bool offer, const struct xshimd_xen_half *h)
{
	if (offer)
		snprintf(buf, XSHIMD_XEN_HALF_TEXT, "%u %u %016llx", h->gref, h->port, (unsigned long long)h->nonce);
	else
		snprintf(buf, XSHIMD_XEN_HALF_TEXT, "%u %016llx %016llx", h->gref, (unsigned long long)h->nonce,
			 (unsigned long long)h->to);
}

static const char *address_text(const struct xshim_endpoint *ep, char text[INET6_ADDRSTRLEN])
{
	if (xshim_endpoint_is_v4(ep))
		return inet_ntop(AF_INET, ep->addr + 12, text, INET6_ADDRSTRLEN);
	return inet_ntop(AF_INET6, ep->addr, text, INET6_ADDRSTRLEN);
}

int xshimd_xen_addrs_format(char *buf, size_t size, char separator, const struct xshimd_xen_addrs *a)
{
	char text[INET6_ADDRSTRLEN];
	size_t at = 0;
	int n;

	if (!size)
		return -ENOSPC;
	buf[0] = '\0';
	for (uint32_t i = 0; i < a->n; i++) {
		n = snprintf(buf + at, size - at, "%.*s%s", i ? 1 : 0, &separator, address_text(&a->a[i], text));
		if (n < 0 || (size_t)n >= size - at)
			return -ENOSPC;
		at += (size_t)n;
	}
	return (int)at;
}

int xshimd_xen_guest_format(char *buf, size_t size, bool self, const struct xshimd_xen_guest *g)
{
	int n, m;

	n = snprintf(buf, size, "%u %016llx %016llx %s", g->domid, (unsigned long long)g->instance,
		     (unsigned long long)g->life, self ? "" : g->by_vif ? "vif " : "claim ");
	if (n < 0 || (size_t)n + 2 > size)
		return -ENOSPC;
	if (!g->addrs.n) {
		buf[n] = '-';
		buf[n + 1] = '\0';
		return n + 1;
	}
	m = xshimd_xen_addrs_format(buf + n, size - (size_t)n, ',', &g->addrs);
	return m < 0 ? m : n + m;
}
