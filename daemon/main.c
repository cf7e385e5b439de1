/* SPDX-License-Identifier: MIT */
/*
 * main.c - xshimd: options, signals, the loop. One thread; it opens nothing after its start but what arrives.
 */
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "bounded.h"
#include "role.h"
#include "xen.h"
#include "xshimd.h"

#define EXIT_RUNTIME 1
#define EXIT_USAGE 2
#define LATE_MS 1000	/* for what is under way in xenstore at the end */

struct command {
	const char *config;	/* NULL: the usual place, which may be empty */
	const char *socket, *log, *role;
	bool check;
};

struct run {
	struct xshimd d;
	struct command cmd;
	char config[PATH_MAX];
	unsigned int fixed;
	uv_signal_t signals[3];
	uv_timer_t late;
};

static const struct argp_option argp_options[] = {
	{ "socket", 's', "PATH", 0, "Listen at PATH instead of " XSHIM_DEFAULT_SOCKET, 0 },
	{ "config", 'c', "FILE", 0, "Read FILE instead of " XSHIMD_CONFIG, 0 },
	{ "check", 'k', NULL, 0, "Check the configuration and exit: 0 if it is good, 2 if not", 0 },
	{ "log", 'l', "LEVEL", 0, "What is written to standard error: error, warn, info or debug", 0 },
	{ "role", 'r', "ROLE", 0, "local, guest, host or auto (the default)", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct command *cmd = state->input;
	uint32_t role;

	switch (key) {
	case 's':
		if (arg[0] != '/' || strlen(arg) >= sizeof(((struct xshimd_options *)0)->socket))
			argp_error(state, "--socket=%s: an absolute path of at most 107 bytes is needed", arg);
		cmd->socket = arg;
		return 0;
	case 'c':
		if (!*arg)
			argp_error(state, "--config=: the name of a file is needed");
		cmd->config = arg;
		return 0;
	case 'k':
		cmd->check = true;
		return 0;
	case 'l':
		if (!xshim_log_level_from_name(arg, strlen(arg)))
			argp_error(state, "--log=%s: one of error, warn, info, debug is needed", arg);
		cmd->log = arg;
		return 0;
	case 'r':
		if (xshimd_role_parse(arg, &role) < 0)
			argp_error(state, "--role=%s: one of local, guest, host, auto is needed", arg);
		cmd->role = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "%s: no argument is expected", arg);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	argp_options, parse, NULL,
	"Introduces to each other the two ends of TCP connections within this host, so that "
	"libxshim.so can move them to shared memory.",
	NULL, NULL, NULL
};

static int configure(struct run *r, struct xshimd_options *o)
{
	xshimd_options_default(o);
	if (r->cmd.socket)
		strcpy(o->socket, r->cmd.socket);
	if (r->cmd.log)
		o->log_level = (uint32_t)xshim_log_level_from_name(r->cmd.log, strlen(r->cmd.log));
	if (r->cmd.role)
		(void)xshimd_role_parse(r->cmd.role, &o->role);
	return xshimd_options_read(o, r->config, r->cmd.config != NULL, r->fixed, &r->d.journal.log);
}

/* What auto is here; and whether this build can do it. */
static bool settle_role(struct xshimd *d)
{
	bool is_auto = d->opt.role == XSHIMD_ROLE_AUTO;

	d->role = is_auto ? xshimd_role_detect() : d->opt.role;
#ifndef HAVE_XEN_DAEMON
	if (d->role != XSHIMD_ROLE_LOCAL) {
		xshim_log(&d->journal.log, is_auto ? XSHIM_LOG_WARN : XSHIM_LOG_ERROR, "role=%s: this xshimd was built "
			  "without Xen's library (libxenstore)%s", xshimd_role_name(d->role),
			  is_auto ? "; role local is taken" : "; role local is the only one it has");
		d->role = XSHIMD_ROLE_LOCAL;
		return is_auto;
	}
#endif
	return true;
}

static void notify(const char *state)
{
#ifdef HAVE_LIBSYSTEMD
	sd_notify(0, state);
#else
	(void)state;
#endif
}

static void reload(struct run *r)
{
	struct xshimd *d = &r->d;
	struct xshimd_options o;

	if (configure(r, &o) < 0) {
		xshim_log(&d->journal.log, XSHIM_LOG_ERROR, "%s: not taken; everything stays as it was", r->config);
		return;
	}
	if (strcmp(o.socket, d->opt.socket)) {
		xshim_log(&d->journal.log, XSHIM_LOG_WARN, "socket=%s: takes a restart; still at %s", o.socket,
			  d->opt.socket);
		strcpy(o.socket, d->opt.socket);
	}
	if (o.role != d->opt.role)
		xshim_log(&d->journal.log, XSHIM_LOG_WARN, "role=%s: takes a restart; still %s", xshimd_role_name(o.role),
			  xshimd_role_name(d->role));
	d->opt = o;
	d->journal.log.level = (enum xshim_log_level)o.log_level;
	xshim_log(&d->journal.log, XSHIM_LOG_INFO, "%s: read again", r->config);
}

static void on_signal(uv_signal_t *s, int sig)
{
	struct run *r = s->data;

	if (sig == SIGHUP) {
		reload(r);
		return;
	}
	xshim_log(&r->d.journal.log, XSHIM_LOG_INFO, "%s: closing", sig == SIGTERM ? "SIGTERM" : "SIGINT");
	uv_stop(&r->d.loop);
}

static int watch_signals(struct run *r)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGHUP };
	int rc;

	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		rc = uv_signal_init(&r->d.loop, &r->signals[i]);
		r->signals[i].data = r;
		if (rc == 0)
			rc = uv_signal_start(&r->signals[i], on_signal, sigs[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The owner of a namespace can be asked for with CAP_NET_ADMIN only; see probe.h. */
static void tell_about_owners(struct xshimd *d)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (d->opt.cross_netns == XSHIMD_CROSS_OWNED && (fd < 0 || xshimd_verify_owner(fd) < 0))
		xshim_log(&d->journal.log, XSHIM_LOG_INFO, "cross_netns=owned: without CAP_NET_ADMIN it cannot be told "
			  "who owns a network namespace; the probe alone decides");
	if (fd >= 0)
		close(fd);
}

static int start(struct run *r)
{
	struct xshimd *d = &r->d;
	int rc;

	rc = xshimd_bounded_init();
	if (rc == 0)
		rc = xshimd_watch_init();
	if (rc == 0)
		rc = xshimd_init(d);
	if (rc == 0)
		rc = watch_signals(r);
	if (rc < 0) {
		xshim_log(&d->journal.log, XSHIM_LOG_ERROR, "cannot start: %s", strerror(-rc));
		return rc;
	}
	rc = xshimd_server_open(d);
	if (rc < 0)
		return rc;
	tell_about_owners(d);
	rc = xshimd_xen_open(d);
	if (rc < 0)
		return rc;
	xshim_log(&d->journal.log, XSHIM_LOG_INFO, "version %s, protocol %d, role %s, at %s", XSHIMD_VERSION,
		  XSHIM_PROTO_VERSION, xshimd_role_name(d->role), d->server.path[0] ? d->server.path : "the service manager's socket");
	notify("READY=1");
	return 0;
}

static void close_others(uv_handle_t *h, void *but)
{
	if (h != but && !uv_is_closing(h))
		uv_close(h, NULL);
}

static void on_late(uv_timer_t *timer)
{
	(void)timer;
	_exit(0);	/* a job waits for a xenstored that does not answer; everything else is done */
}

static void finish(struct run *r)
{
	notify("STOPPING=1");
	xshimd_shut(&r->d);
	if (xshimd_xen_is_busy(&r->d)) {
		uv_timer_init(&r->d.loop, &r->late);
		uv_timer_start(&r->late, on_late, LATE_MS, 0);
		uv_unref((uv_handle_t *)&r->late);
		uv_walk(&r->d.loop, close_others, &r->late);
		uv_run(&r->d.loop, UV_RUN_DEFAULT);
	}
	uv_walk(&r->d.loop, close_others, NULL);
	uv_run(&r->d.loop, UV_RUN_DEFAULT);
	uv_loop_close(&r->d.loop);
	xshimd_xen_free(&r->d);
}

int main(int argc, char **argv)
{
	static struct run run;
	struct run *r = &run;
	struct xshimd *d = &r->d;
	int rc;

	argp_program_version = "xshimd " XSHIMD_VERSION;
	argp_err_exit_status = EXIT_USAGE;
	d->journal.log.fd = 2;
	d->journal.log.level = XSHIM_LOG_INFO;
	d->journal.log.who = "xshimd";
	d->server.fd = d->server.lock = d->server.spare = -1;
	/* Of what is wrong with the arguments it speaks itself, and ends; what is left is that it had no memory to look at them. */
	rc = argp_parse(&argp, argc, argv, 0, NULL, &r->cmd);
	if (rc) {
		xshim_log(&d->journal.log, XSHIM_LOG_ERROR, "cannot start: %s", strerror(rc));
		return EXIT_RUNTIME;
	}
	r->fixed = (r->cmd.socket ? XSHIMD_FIXED_SOCKET : 0) | (r->cmd.log ? XSHIMD_FIXED_LOG : 0) |
		   (r->cmd.role ? XSHIMD_FIXED_ROLE : 0);
	/* Absolute, since it is read again after the change of directory. */
	if (!r->cmd.config)
		strcpy(r->config, XSHIMD_CONFIG);
	else if (!realpath(r->cmd.config, r->config))
		snprintf(r->config, sizeof(r->config), "%s", r->cmd.config);
	if (configure(r, &d->opt) < 0)
		return EXIT_USAGE;
	if (r->cmd.check) {
		printf("%s: good\n", r->config);
		return fflush(stdout) ? EXIT_RUNTIME : 0;
	}
	if (!settle_role(d))
		return EXIT_USAGE;
	d->journal.log.level = (enum xshim_log_level)d->opt.log_level;
	rc = xshimd_journal_open(&d->journal);
	if (rc < 0 || chdir("/") < 0) {
		xshim_log(&d->journal.log, XSHIM_LOG_ERROR, "cannot start: %s", strerror(rc < 0 ? -rc : errno));
		return EXIT_RUNTIME;
	}
	signal(SIGPIPE, SIG_IGN);
	if (start(r) < 0) {
		xshimd_server_close(d);
		return EXIT_RUNTIME;
	}
	/*
	 * It sleeps nearly always and works for microseconds, while two busy programs wait for an
	 * introduction over TCP; without the right to this it is just as it was.
	 */
	(void)setpriority(PRIO_PROCESS, 0, -10);
	uv_run(&d->loop, UV_RUN_DEFAULT);
	finish(r);
	return 0;
}
