/* SPDX-License-Identifier: MIT */
/*
 * xenring.c - two guests exercise the xen backend alone: xenring offer|claim PEER-DOMID CASE
 *
 * One end runs it with "offer", the other with "claim", the same case and each other's domain. Tickets go through xenstore, by its
 * command line tools, as leaves under data/ that only the peer may read; everything else goes through the rings.
 *
 *   stream  bytes both ways, sleeping on the bell whenever there is nothing to do
 *   death   the claiming process is killed: -EPIPE, and what it had sent is still there
 *   fork    a child reads, rings and ends, and nobody takes that for the end of the process
 *   taken   a child in which something else has come to lie where the mapping was (PV alone loses it there)
 *   forsake letting go under a reader, who sees right bytes or none
 *   ports   each of an end's event channels has its turn, also when others are rung than the one that is asked for
 *   refuse  tickets that are wrong; nothing is left of them
 *   late    the other's half is taken back before it is mapped, and another one may have its place
 *   limit   as many halves as there can be, and again after they were given back
 *   sleeps  measures round trips of one byte by what an end sleeps in; asserts nothing of the figures. Seen (PV, virtual clock): 72 us
 *           with a read that blocks, 77 and 78 with poll before it, 73 with poll and several event channels in turn, 71 with an
 *           epoll in place of poll; programs with the library 77, of which 4 are their look at the clock, netfront's TCP 165
 *   saved   reads on until the mapping is cut, because this guest was saved and restored, or until the file $STOP is there
 *
 * Status 0: all as expected; 1 and a line on stderr: not.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xshim/backend.h>
#include <xshim/ring.h>

/* The kernel's header uses Xen's name without defining it. */
typedef uint16_t domid_t;
#include <xen/evtchn.h>

#define ORDER 14
#define PATIENCE_MS 30000
#define CHECK(x) ((x) ? (void)0 : give_up(__LINE__, #x))

static const struct xshim_backend *be;
static bool offers;
static uint32_t domid;
static const char *what;
static struct xshim_local local;
static struct xshim_remote remote;

/* our positions in the two rings */
static uint64_t put, taken;

static void give_up(int line, const char *expr)
{
	fprintf(stderr, "xenring %s %s, line %d: %s (errno %s)\n", offers ? "offer" : "claim", what, line, expr,
		strerror(errno));
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t now_ms(void)
{
	return now_ns() / 1000000;
}

/* ---- xenstore ---- */

static bool ask(char *out, size_t size, const char *command)
{
	FILE *f = popen(command, "r");
	bool some;

	CHECK(f);
	some = fgets(out, (int)size, f) != NULL;
	return pclose(f) == 0 && some;
}

static void publish(const char *name, const struct xshim_local *l)
{
	char line[256];
	int rc;

	snprintf(line, sizeof(line),
		 "N=data/xenring-%s-%s; xenstore-write $N '%" PRIx64 " %u %u %u' && "
		 "xenstore-chmod $N n$(xenstore-read domid) r%u",
		 what, name, l->nonce, l->order, l->gref, l->port, domid);
	rc = system(line);
	CHECK(rc == 0);
}

static void learn(const char *name, struct xshim_ticket *t)
{
	uint64_t limit = now_ms() + PATIENCE_MS;
	char line[256], text[128];

	snprintf(line, sizeof(line), "xenstore-read /local/domain/%u/data/xenring-%s-%s 2>/dev/null", domid, what, name);
	while (!ask(text, sizeof(text), line)) {
		CHECK(now_ms() < limit);
		usleep(50000);
	}
	*t = (struct xshim_ticket){ .domid = domid };
	CHECK(sscanf(text, "%" SCNx64 " %u %u %u", &t->nonce, &t->order, &t->gref, &t->port) == 4);
}

/* ---- a channel ---- */

static int fds_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int mappings(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	int n = 0;

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "/dev/xen/") != NULL;
	fclose(f);
	return n;
}

static void give_back(void)
{
	be->detach(&remote);
	be->bye(&local);
	be->destroy(&local);
}

static void make(const char *name, struct xshim_ticket *t)
{
	struct xshim_party peer = { .domid = domid, .offers = offers };
	uint64_t nonce = (uint64_t)getpid() << 32 | (uint64_t)(put & 0xffff) | 1;

	errno = -be->create(&local, &peer, ORDER, nonce);
	CHECK(errno == 0);
	publish(name, &local);
	learn(name, t);
}

static void join(const char *name)
{
	struct xshim_ticket t;

	make(name, &t);
	CHECK(be->attach(&remote, &local, &t, NULL) == 0);
	close(local.fds[XSHIM_LOCAL_MEMORY]);
	local.fds[XSHIM_LOCAL_MEMORY] = -1;
	put = taken = 0;
}

static uint8_t byte_at(uint64_t pos, bool of_offerer)
{
	uint64_t x = (pos + (of_offerer ? 7 : 1000003)) * 0x9e3779b97f4a7c15u;

	return (uint8_t)(x >> 56);
}

static size_t room(void)
{
	uint64_t tail = atomic_load(&remote.region->tail);

	CHECK(tail <= put && put - tail <= 1u << ORDER);
	return (1u << ORDER) - (size_t)(put - tail);
}

static size_t there(void)
{
	uint64_t head = atomic_load(&remote.region->head);

	CHECK(head >= taken && head - taken <= 1u << ORDER);
	return (size_t)(head - taken);
}

/* Put up to n bytes; rings if the peer waits for them. */
static size_t send_some(size_t n)
{
	uint8_t *data = xshim_region_data(local.region);
	uint64_t old = put, want;

	n = n < room() ? n : room();
	for (size_t i = 0; i < n; i++)
		data[(put + i) & ((1u << ORDER) - 1)] = byte_at(put + i, offers);
	put += n;
	atomic_store(&local.region->head, put);
	want = atomic_load(&remote.region->want_data);
	if (n && want >= old && want < put)
		CHECK(be->ring(&local, &remote) == 0);
	return n;
}

static size_t take_some(void)
{
	const uint8_t *data = xshim_region_cdata(remote.region);
	size_t n = there();
	uint64_t old = taken, want;

	for (size_t i = 0; i < n; i++)
		CHECK(data[(taken + i) & ((1u << ORDER) - 1)] == byte_at(taken + i, !offers));
	taken += n;
	atomic_store(&local.region->tail, taken);
	want = atomic_load(&remote.region->want_space);
	if (n && want >= old && want < taken)
		CHECK(be->ring(&local, &remote) == 0);
	return n;
}

/* Sleep until the bell rings, empty it. What hush says. */
static int sleep_on_bell(void)
{
	struct pollfd p = { .fd = local.fds[XSHIM_LOCAL_BELL], .events = POLLIN };

	CHECK(poll(&p, 1, PATIENCE_MS) == 1);
	return be->hush(&local, &remote);
}

/* Wishes, look, sleep. */
static void wait_for(bool data, bool space)
{
	atomic_store(&local.region->want_data, data ? taken : XSHIM_WANT_NOTHING);
	atomic_store(&local.region->want_space, space ? put - (1u << ORDER) : XSHIM_WANT_NOTHING);
	/* who has sent its last may be gone */
	if (!(data && there()) && !(space && room()))
		CHECK(sleep_on_bell() == 0 || there());
}

static void wait_for_bytes(size_t n)
{
	while (there() < n) {
		atomic_store(&local.region->want_data, taken + n - 1);
		if (there() < n)
			CHECK(sleep_on_bell() == 0 || there() >= n);
	}
}

static void receive(uint64_t n)
{
	while (taken < n) {
		take_some();
		if (taken < n)
			wait_for(true, false);
	}
}

/* The other has come as far, too. The n-th meeting after `bytes` each way; what it sends for the next may have come already. */
static void meet(uint64_t bytes, int n)
{
	uint64_t to = bytes + (uint64_t)n;

	while (!send_some(1))
		wait_for(false, true);
	receive(to);
}

/* Wait until the peer's process is gone. Who is killed does not ring: a connection over TCP tells then. */
static void until_dead(bool rings)
{
	uint64_t limit = now_ms() + PATIENCE_MS;

	while ((rings ? sleep_on_bell() : be->hush(&local, &remote)) == 0) {
		CHECK(now_ms() < limit);
		usleep(rings ? 0 : 10000);
	}
	CHECK(atomic_load(&remote.region->alive) == XSHIM_REGION_GONE);
	CHECK(xshim_region_is_whole(remote.region));
	CHECK(be->ring(&local, &remote) == -EPIPE);
}

/* ---- cases ---- */

static void case_stream(void)
{
	const uint64_t total = 4 << 20;
	unsigned int sleeps = 0;
	bool sent;

	join("1");
	while (put < total || taken < total) {
		sent = put < total && send_some(put % 5000 + 1 < total - put ? put % 5000 + 1 : total - put);
		if (!take_some() && !sent) {
			wait_for(taken < total, put < total);
			sleeps++;
		}
	}
	printf("%" PRIu64 " bytes each way, %u sleeps\n", total, sleeps);
	CHECK(sleeps > 0);
	meet(total, 1);
	/* our own end can wake us, too, and what is rung stays rung until it is hushed */
	CHECK(be->ring_self(&local) == 0 && be->ring_self(&local) == 0);
	CHECK(sleep_on_bell() == 0);
	meet(total, 2);
	give_back();
}

static void case_death(void)
{
	int status;
	pid_t pid;

	if (!offers) {
		pid = fork();
		if (pid == 0) {
			join("1");
			while (put < 1000)
				send_some(1000 - put);
			receive(1);
			(void)raise(SIGKILL);
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		return;
	}
	join("1");
	wait_for_bytes(1000);
	CHECK(send_some(1) == 1);
	until_dead(false);
	CHECK(take_some() == 1000);
	give_back();
	printf("killed, seen, and all it had sent was there\n");
}

static void child_reads(void)
{
	CHECK(be->forked(&local, &remote) == 0);
	CHECK(xshim_region_is_whole(remote.region));
	receive(taken + 5000);
	CHECK(send_some(10) == 10);
	CHECK(be->ring(&local, &remote) == 0);
	_exit(0);
}

static void case_fork(void)
{
	int status;
	pid_t pid;

	join("1");
	if (!offers) {
		while (put < 5000)
			if (!send_some(5000 - put))
				wait_for(false, true);
		receive(10);			/* from the child */
		receive(11);			/* from the parent, when the child has ended */
		CHECK(atomic_load(&remote.region->alive) == XSHIM_REGION_ALIVE);
		while (put < 6000)
			if (!send_some(6000 - put))
				wait_for(false, true);
		until_dead(true);
		give_back();
		return;
	}
	pid = fork();
	if (pid == 0)
		child_reads();
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	put += 10;
	taken += 5000;
	CHECK(send_some(1) == 1);
	receive(6000);
	give_back();
	printf("the child read on, its end was not ours\n");
}

/* Mappings that have a byte outside of these. */
static int mappings_beside(const void *from, size_t bytes)
{
	uintptr_t low = (uintptr_t)from, a, b;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		CHECK(sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &a, &b) == 2);
		n += a < low || b > low + bytes;
	}
	fclose(f);
	return n;
}

static void child_finds_it_taken(void)
{
	const uint8_t *old = (const uint8_t *)remote.region, *now;
	const size_t bytes = xshim_region_bytes(ORDER), piece = 2 << 20;
	void *intruder;
	int rc, n;

	intruder = mmap((void *)(uintptr_t)(old + 4096), 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (intruder == MAP_FAILED) {
		CHECK(errno == EEXIST && be->forked(&local, &remote) == 0 && xshim_region_is_whole(remote.region));
		_exit(2);
	}
	memset(intruder, 42, 4096);
	rc = be->forked(&local, &remote);
	CHECK(rc == -EEXIST);
	now = (const uint8_t *)remote.region;
	CHECK(now && (now + bytes <= old || old + piece <= now));
	for (size_t i = 0; i < bytes; i++)
		CHECK(now[i] == 0);
	CHECK(!xshim_region_is_whole(remote.region));
	n = mappings_beside(now, bytes);
	be->detach(&remote);
	/* but for what is left of the piece; nothing of anybody else's has gone with it */
	rc = mappings_beside(now, bytes);
	CHECK(rc == n || rc == n - 1);
	for (size_t i = 0; i < 4096; i++)
		CHECK(((uint8_t *)intruder)[i] == 42);
	_exit(0);
}

static void case_taken(void)
{
	int status;
	pid_t pid;

	join("1");
	meet(0, 1);
	pid = fork();
	if (pid == 0)
		child_finds_it_taken();
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 1);
	CHECK(xshim_region_is_whole(remote.region));
	meet(0, 2);
	give_back();
	printf("a child had %s; nothing of its other memory has gone\n", WEXITSTATUS(status) ? "the mapping" : "something else there");
}

static _Atomic unsigned long copies, voids;
static _Atomic bool let_go;

static void *copier(void *arg)
{
	static uint8_t copy[1 << ORDER];
	const uint8_t *data = xshim_region_cdata(remote.region);

	(void)arg;
	/* until some copies came after the memory had gone */
	while (atomic_load(&voids) < 100) {
		memcpy(copy, data, sizeof(copy));
		if (!xshim_region_is_whole(remote.region)) {
			CHECK(atomic_load(&let_go));
			atomic_fetch_add(&voids, 1);
			continue;
		}
		for (size_t i = 0; i < sizeof(copy); i++)
			CHECK(copy[i] == byte_at(i, !offers));
		atomic_fetch_add(&copies, 1);
	}
	return NULL;
}

static void case_forsake(void)
{
	pthread_t thread;
	int n = fds_open();

	join("1");
	while (put < 1u << ORDER)
		send_some((1u << ORDER) - put);
	wait_for_bytes(1u << ORDER);
	CHECK(pthread_create(&thread, NULL, copier, NULL) == 0);
	while (atomic_load(&copies) < 20)
		usleep(1000);
	atomic_store(&let_go, true);
	be->forsake(&remote);
	pthread_join(thread, NULL);
	CHECK(!xshim_region_is_whole(remote.region) && atomic_load(&remote.region->alive) == 0);
	CHECK(be->ring(&local, &remote) == -EPIPE && be->hush(&local, &remote) == -EPIPE);
	be->forsake(&remote);
	CHECK(mappings() == 1);			/* our own */
	printf("%lu copies were right, then let go\n", (unsigned long)copies);
	give_back();
	CHECK(mappings() == 0 && fds_open() <= n + 1);	/* gntdev stays */
}

/* As by somebody who had read what was asked for long ago. */
static void ring_late(unsigned int round)
{
	struct ioctl_evtchn_notify n = { .port = local.more_ports[round * 3 % (local.ports - 1)] };

	CHECK(ioctl(local.fds[XSHIM_LOCAL_EVENT], IOCTL_EVTCHN_NOTIFY, &n) == 0);
}

static void case_ports(void)
{
	const unsigned int rounds = 12 * XSHIM_REGION_PORTS;
	uint64_t next = 1;	/* the other may have sent the first of a round already */
	uint32_t seen = 0, at;

	join("1");
	/* event channels are plenty in this guest */
	CHECK(local.ports == XSHIM_REGION_PORTS);
	meet(0, 1);
	CHECK(atomic_load(&remote.region->ports) == XSHIM_REGION_PORTS);
	for (unsigned int i = 0; i < rounds; i++) {
		if (!offers)
			receive(++next);
		if (i > rounds / 2)
			ring_late(i);
		at = atomic_load(&remote.region->port_at);
		CHECK(at < XSHIM_REGION_PORTS);
		seen |= 1u << at;
		CHECK(send_some(1) == 1);
		if (offers)
			receive(++next);
	}
	CHECK(seen == (1u << XSHIM_REGION_PORTS) - 1);
	/* a child shares them: no turns any more, and all of them are heard each time; a number that cannot be is the first */
	atomic_store(&local.shared, true);
	/* the first may have had its turn, and would not speak before this: it is not asked for then, but by such a number */
	CHECK(be->hush(&local, &remote) == 0);
	atomic_store(&local.region->port_at, 77777);
	for (unsigned int i = 0; i < rounds; i++) {
		if (!offers)
			receive(++next);
		ring_late(i);
		CHECK(send_some(1) == 1);
		if (offers)
			receive(++next);
	}
	meet(2 * rounds + 1, 1);
	give_back();
	printf("%u event channels, each has had its turn\n", (unsigned int)XSHIM_REGION_PORTS);
}

static void case_refuse(void)
{
	struct xshim_ticket t, bad;
	int fds, maps;

	make("1", &t);
	for (int i = 0; i < 2; i++) {	/* the first time opens gntdev */
		fds = fds_open();
		maps = mappings();
		bad = t, bad.gref += 5000;	/* it may have been granted once */
		CHECK(be->attach(&remote, &local, &bad, NULL) == -EPIPE);
		bad = t, bad.nonce ^= 1;
		CHECK(be->attach(&remote, &local, &bad, NULL) == -EPIPE);
		bad = t, bad.order = 13;
		CHECK(be->attach(&remote, &local, &bad, NULL) == -EPROTO);
		bad = t, bad.order = 22;
		CHECK(be->attach(&remote, &local, &bad, NULL) == -EPROTO);
		bad = t, bad.domid++;
		CHECK(be->attach(&remote, &local, &bad, NULL) == -EPROTO);
		bad = t, bad.port = offers ? 77 : 4000;
		CHECK(be->attach(&remote, &local, &bad, NULL) == (offers ? -EPROTO : -EPIPE));
		CHECK(!remote.region && (offers || !local.port));
	}
	CHECK(fds_open() == fds && mappings() == maps);
	/* the channel deals with nobody else, even if asked by this process: BIND_INTERDOMAIN with another domain */
	CHECK(ioctl(local.fds[XSHIM_LOCAL_EVENT], _IOC(_IOC_NONE, 'E', 1, 8), &(unsigned int[2]){ domid + 1, 5 }) < 0);
	CHECK(errno == EACCES);
	CHECK(be->attach(&remote, &local, &t, NULL) == 0);
	meet(0, 1);
	give_back();
	printf("what was wrong was refused, what was right was taken\n");
}

/*
 * One end learns of a half and maps it only when it is gone. The second time the other makes a new half at once, which as a rule
 * has the numbers of the first. Either is the end of a peer, and no lie.
 */
static void case_late(void)
{
	struct xshim_party peer = { .domid = domid, .offers = offers };
	struct xshim_ticket t, dummy = { .domid = domid };
	struct xshim_local next;
	uint32_t gref;
	int rc;

	for (int again = 0; again < 2; again++) {
		make(again ? "2" : "1", &t);
		gref = local.gref;
		if (offers) {
			be->bye(&local);
			be->destroy(&local);
			if (again) {
				CHECK(be->create(&next, &peer, ORDER, 2) == 0);
				printf("a new half has %s number\n", next.gref == gref ? "the same" : "another");
			}
		}
		publish(again ? "gone2" : "gone1", &local);
		learn(again ? "gone2" : "gone1", &dummy);
		if (offers) {
			learn(again ? "seen2" : "seen1", &dummy);
			continue;
		}
		rc = be->attach(&remote, &local, &t, NULL);
		CHECK(rc == -EPIPE && !remote.region && !local.port);
		be->destroy(&local);
		publish(again ? "seen2" : "seen1", &local);
	}
	if (offers)
		be->destroy(&next);
	printf("what had gone was not there\n");
}

static int fill(struct xshim_local *l, int max, int *why)
{
	struct xshim_party peer = { .domid = domid, .offers = true };
	int n = 0;

	for (; n < max; n++) {
		*why = be->create(&l[n], &peer, 17, 1);
		if (*why < 0)
			break;
	}
	return n;
}

static void case_limit(void)
{
	struct xshim_local l[200];
	int fds = fds_open(), first, again, why;

	first = fill(l, 200, &why);
	CHECK(why == -ENOSPC && first >= 20);
	for (int i = 0; i < first; i++)
		be->destroy(&l[i]);
	CHECK(fds_open() == fds && mappings() == 0);
	again = fill(l, 200, &why);
	CHECK(again == first && why == -ENOSPC);
	for (int i = 0; i < again; i++)
		be->destroy(&l[i]);
	printf("%d halves of 128 KiB, then -ENOSPC\n", first);
}

#define TRIPS 500

/* Without time limits: one takes 3 us of each end, because the clock is asked by way of Xen. Until the other's head is beyond `taken`. */
static void sleep_by(int by, int sock, int ep)
{
	struct pollfd p[2] = { { .fd = local.fds[XSHIM_LOCAL_EVENT], .events = POLLIN }, { .fd = sock, .events = POLLIN } };
	struct epoll_event ev;
	uint32_t port;

	while (!there()) {
		if (by >= 3) {
			p[0].fd = local.fds[XSHIM_LOCAL_BELL];
			CHECK(by == 3 ? poll(p, 2, -1) == 1 : epoll_wait(ep, &ev, 1, -1) == 1);
			CHECK(be->hush(&local, &remote) == 0);
			continue;
		}
		if (by)
			CHECK(poll(p, by == 2 ? 2 : 1, -1) == 1);
		CHECK(read(p[0].fd, &port, sizeof(port)) == sizeof(port));
		CHECK(write(p[0].fd, &port, sizeof(port)) == sizeof(port));
	}
	taken++;
	atomic_store(&local.region->tail, taken);
}

static void case_sleeps(void)
{
	static const char *const how[] = {
		"a read that blocks, as libxenvchan does", "poll for the channel", "poll for the channel and a socket",
		"poll for the bell, which has two descriptors inside, and a socket; several channels in turn",
		"an epoll of these three descriptors; several channels in turn: as the library does",
	};
	int sock = socket(AF_INET, SOCK_STREAM, 0), ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN };
	struct sockaddr_in any = { .sin_family = AF_INET };
	uint64_t began;

	CHECK(sock >= 0 && bind(sock, (struct sockaddr *)&any, sizeof(any)) == 0 && listen(sock, 1) == 0);
	join("1");
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, sock, &ev) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, local.fds[XSHIM_LOCAL_EVENT], &ev) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, local.fds[XSHIM_LOCAL_BELL_IN], &ev) == 0);
	for (int by = 0; by < 5; by++) {
		int flags = fcntl(local.fds[XSHIM_LOCAL_EVENT], F_GETFL);

		CHECK(fcntl(local.fds[XSHIM_LOCAL_EVENT], F_SETFL, by ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
		began = now_ns();
		for (int i = 0; i < TRIPS; i++) {
			if (!offers)
				sleep_by(by, sock, ep);
			xshim_region_data(local.region)[put & ((1u << ORDER) - 1)] = byte_at(put, offers);
			atomic_store(&local.region->head, ++put);
			CHECK(be->ring(&local, &remote) == 0);
			if (offers)
				sleep_by(by, sock, ep);
		}
		if (offers)
			printf("a round trip of one byte: %.1f us: %s\n", (double)(now_ns() - began) / TRIPS / 1000, how[by]);
	}
	/* events that came after the byte was seen are still in the channel: they do no harm to who goes on with the bell */
	meet(5 * TRIPS, 1);
	close(ep);
	close(sock);
	give_back();
}

static volatile sig_atomic_t faults;

/* A PV guest finds nothing where the peer's pages were. */
static void on_bus(int sig, siginfo_t *info, void *context)
{
	const char *at = info->si_addr, *from = (const char *)remote.region;

	(void)context;
	if (at < from || at >= from + xshim_region_bytes(ORDER) || sig != SIGBUS)
		_exit(3);
	faults++;
	be->forsake(&remote);
}

static void case_saved(void)
{
	struct sigaction act = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	const uint8_t *data;
	uint8_t copy[1 << ORDER];
	unsigned long n = 0;

	(void)sigaction(SIGBUS, &act, NULL);
	(void)sigaction(SIGSEGV, &act, NULL);
	join("1");
	data = xshim_region_cdata(remote.region);
	while (put < 1u << ORDER)
		send_some((1u << ORDER) - put);
	wait_for_bytes(1u << ORDER);
	printf("mapped\n");
	fflush(stdout);
	for (;; n++) {
		memcpy(copy, data, sizeof(copy));
		if (!xshim_region_is_whole(remote.region))
			break;
		for (size_t i = 0; i < sizeof(copy); i++)
			CHECK(copy[i] == byte_at(i, !offers));
		if (getenv("STOP") && access(getenv("STOP"), F_OK) == 0) {
			printf("whole to the end, after %lu copies\n", n);
			give_back();
			return;
		}
		usleep(5000);
	}
	printf("cut after %lu copies, %d faults, alive reads 0x%x\n", n, (int)faults,
	       (unsigned int)atomic_load(&remote.region->alive));
	CHECK(be->ring(&local, &remote) == -EPIPE && be->hush(&local, &remote) == -EPIPE);
	be->forsake(&remote);
	fflush(stdout);
	/* Somebody keeps BELL_OUT, as xshimd would, and this process ends, without taking the kernel with it. */
	if (fork() == 0) {
		for (int fd = 0; fd < 256; fd++)
			if (fd != local.fds[XSHIM_LOCAL_BELL_OUT])
				close(fd);
		for (;;)
			pause();
	}
	give_back();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{ "stream", case_stream }, { "death", case_death },   { "fork", case_fork },
		{ "taken", case_taken },
		{ "forsake", case_forsake }, { "ports", case_ports }, { "refuse", case_refuse }, { "late", case_late },
		{ "limit", case_limit }, { "sleeps", case_sleeps },
		{ "saved", case_saved },
	};

	if (argc != 4) {
		fprintf(stderr, "usage: xenring offer|claim PEER-DOMID CASE\n");
		return 2;
	}
	be = xshim_backend_find("xen");
	offers = strcmp(argv[1], "offer") == 0;
	domid = (uint32_t)atoi(argv[2]);
	what = argv[3];
	remote.bell = -1;
	CHECK(be);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (strcmp(cases[i].name, what) == 0) {
			cases[i].run();
			return 0;
		}
	fprintf(stderr, "xenring: no case is called %s\n", what);
	return 2;
}
