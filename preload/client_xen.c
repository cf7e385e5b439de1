/* SPDX-License-Identifier: MIT */
#include "client_xen.h"
#include "client.h"

#include <errno.h>
#include <xshim/proto.h>

#define LEAVERS 64

static _Atomic uint32_t session = 1;	/* written under the lock */
/* Not guarded: for those who could not have the lock. 0: free. */
static _Atomic uint32_t leavers[LEAVERS];
static _Atomic uint32_t overflow;	/* there was no room: end the conversation, that says it of all */

uint32_t xshim_session(void)
{
	return atomic_load_explicit(&session, memory_order_relaxed);
}

/* A xshimd that does not hear LEFT of a channel sees the end of its bell. */
void xshim_session_new(void)
{
	atomic_fetch_add_explicit(&session, 1, memory_order_relaxed);
	for (size_t i = 0; i < LEAVERS; i++)
		atomic_store_explicit(&leavers[i], 0, memory_order_relaxed);
}

void xshim_session_send_left(int sock)
{
	union xshim_msg m;

	for (size_t i = 0; i < LEAVERS; i++) {
		uint32_t id = atomic_load_explicit(&leavers[i], memory_order_acquire);

		if (!id)
			continue;
		xshim_msg_init(&m, XSHIM_MSG_LEFT, id);
		if (sock >= 0 && xshim_msg_send(sock, &m, NULL, 0) == -EAGAIN)
			return;
		atomic_store_explicit(&leavers[i], 0, memory_order_relaxed);
	}
}

bool xshim_session_overflowed(void)
{
	return atomic_exchange_explicit(&overflow, 0, memory_order_relaxed);
}

void xshim_client_left(uint32_t id, uint32_t of)
{
	uint32_t none;
	size_t i;

	if (!id || of != xshim_session())
		return;
	for (i = 0; i < LEAVERS; i++) {
		none = 0;
		if (atomic_compare_exchange_strong_explicit(&leavers[i], &none, id, memory_order_release,
							    memory_order_relaxed))
			break;
	}
	if (i == LEAVERS)
		atomic_store_explicit(&overflow, 1, memory_order_relaxed);
	xshim_client_say_left();
}

/* The channel of c over xen that xshimd has to know of and does not. */
static struct xshim_chan *to_resume(struct xshim_conn *c)
{
	struct xshim_chan *ch = c->intro == XSHIM_INTRO_MATCHED ? c->pending : xshim_conn_chan(c);

	if (!ch || ch->be->kind != XSHIM_BACKEND_XEN)
		return NULL;
	return atomic_load_explicit(&ch->session, memory_order_relaxed) == xshim_session() ? NULL : ch;
}

int xshim_session_resume(int sock)
{
	struct xshim_obj *o;
	struct xshim_chan *ch;
	union xshim_msg m;
	int rc;

	for (uint32_t i = 0; i < xshim_obj_count(XSHIM_OBJ_CONN); i++) {
		o = xshim_obj_at(XSHIM_OBJ_CONN, i);
		ch = o ? to_resume((struct xshim_conn *)o) : NULL;
		if (!ch)
			continue;
		xshim_msg_init(&m, XSHIM_MSG_RESUME, ((struct xshim_conn *)o)->id);
		m.resume.domid = ch->local.domid;
		rc = xshim_msg_send(sock, &m, &ch->local.fds[XSHIM_LOCAL_BELL_OUT], 1);
		if (rc == -EAGAIN || rc == -ETOOMANYREFS)
			return -EAGAIN;
		if (rc == -EPIPE || rc == -ECONNRESET)
			return -EPIPE;
		ch->id = m.h.id;
		atomic_store_explicit(&ch->session, xshim_session(), memory_order_relaxed);
	}
	return 0;
}
