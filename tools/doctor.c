/* SPDX-License-Identifier: MIT */
/*
 * doctor.c - `xshim doctor`: is this machine ready for xshim? Each check is one function and one or more
 * findings; those about a program are in doctor_program.c. Nothing is changed, nothing waits long.
 */
#include "tool.h"

#include <argp.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xshim/map.h>

#include "client.h"
#include "elffile.h"
#include "findings.h"
#include "library.h"
#include "settings.h"

#define KEY_LIB 0x100
#define KEY_SOCKET 0x101
#define LOAD_MS 5000			/* for the library to be loaded by a child */
#define DAEMON_USER "xshim"
#define OVERFLOW_UID 65534		/* what a uid of another user namespace looks like */

extern char **environ;

struct doctor {
	const char *socket;
	const char *lib;
	bool json;
	const char *program;
};

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "print the findings as JSON", 1 },
	{ "lib", KEY_LIB, "FILE", 0, "the libxshim.so to look at", 2 },
	{ "socket", KEY_SOCKET, "PATH", 0, "where xshimd listens", 2 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct doctor *d = state->input;

	switch (key) {
	case 'j':
		d->json = true;
		return 0;
	case KEY_LIB:
		d->lib = arg;
		return 0;
	case KEY_SOCKET:
		d->socket = arg;
		return 0;
	case ARGP_KEY_ARG:
		d->program = arg;
		state->next = state->argc;	/* its arguments do not matter */
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

void xshim_finding(struct xshim_findings *f, enum xshim_verdict verdict, const char *check, const char *advice,
		   const char *fmt, ...)
{
	static const char *const names[] = { "ok", "warn", "fail" };
	char text[1024];
	json_t *one;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	one = json_string(text);
	if (!one) {			/* a path that is not UTF-8, which JSON cannot hold */
		for (char *p = text; *p; p++)
			if (*p & 0x80)
				*p = '?';
		one = json_string(text);
	}
	f->count[verdict]++;
	json_array_append_new(f->list, json_pack("{s:s, s:s, s:o, s:s}", "level", names[verdict], "check", check,
						 "text", one, "advice", advice));
}

static bool user_uid(const char *name, uid_t *uid)
{
	const struct passwd *pw = getpwnam(name);

	if (pw)
		*uid = pw->pw_uid;
	return pw != NULL;
}

/* May somebody with this uid run the daemon that we talk to? */
static bool is_plausible_owner(uid_t uid)
{
	uid_t daemon_uid;

	return uid == 0 || (user_uid(DAEMON_USER, &daemon_uid) && uid == daemon_uid);
}

/* Whoever may write to the directory may put a daemon of his own there. */
static void check_directory(struct xshim_findings *f, const char *socket_path)
{
	char *copy = strdup(socket_path), *dir;
	struct stat st;

	if (!copy)
		return;
	dir = dirname(copy);
	if (stat(dir, &st) < 0)
		xshim_finding(f, XSHIM_FAIL, "directory", "start xshimd; for a container bind-mount the directory into it",
			      "%s: %s", dir, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		xshim_finding(f, XSHIM_FAIL, "directory", "remove it", "%s is not a directory", dir);
	else if ((st.st_mode & 022) && !(st.st_mode & S_ISVTX))
		xshim_finding(f, XSHIM_WARN, "directory", "take the right to write from group and others",
			      "%s: mode %04o: others than its owner can put a false daemon there", dir,
			      st.st_mode & 07777u);
	else if (!is_plausible_owner(st.st_uid) && st.st_uid != geteuid())
		xshim_finding(f, XSHIM_WARN, "directory", "give it to root or " DAEMON_USER,
			      "%s belongs to uid %u, who can put a false daemon there", dir, st.st_uid);
	else
		xshim_finding(f, XSHIM_OK, "directory", "", "%s exists, only its owner can write to it", dir);
	free(copy);
}

static void check_owner(struct xshim_findings *f, const struct xshim_client *c)
{
	const struct passwd *pw;

	if (!c->has_server)
		return;
	pw = getpwuid(c->server.uid);
	if (is_plausible_owner(c->server.uid))
		xshim_finding(f, XSHIM_OK, "owner", "", "the daemon runs as %s (pid %d)", pw ? pw->pw_name : "root",
			      (int)c->server.pid);
	else if (c->server.uid == geteuid())
		xshim_finding(f, XSHIM_WARN, "owner", "use it for trials only",
			      "the daemon runs as yourself (uid %u)", c->server.uid);
	else if (c->server.uid == OVERFLOW_UID)
		xshim_finding(f, XSHIM_WARN, "owner", "check on the host that root or " DAEMON_USER " runs it",
			      "the daemon runs as a user that this user namespace does not know");
	else
		xshim_finding(f, XSHIM_FAIL, "owner", "end that program, start xshimd as root or " DAEMON_USER,
			      "the daemon runs as %s (uid %u, pid %d), neither root nor " DAEMON_USER,
			      pw ? pw->pw_name : "somebody", c->server.uid, (int)c->server.pid);
}

static void check_map(struct xshim_findings *f, const struct xshim_client *c)
{
	const struct xshim_map *map;
	int rc = xshim_map_open(&map, c->map_fd);

	if (rc < 0) {
		xshim_finding(f, XSHIM_FAIL, "map", "restart xshimd", "the co-residency map cannot be used: %s", strerror(-rc));
		return;
	}
	if (map->instance != c->welcome.instance)
		xshim_finding(f, XSHIM_FAIL, "map", "restart xshimd", "the co-residency map is of another instance of xshimd");
	else
		xshim_finding(f, XSHIM_OK, "map", "", "the co-residency map can be read");
	xshim_map_close(map);
}

/* role: receives that of the daemon; "" if none answers. */
static void check_daemon(struct xshim_findings *f, const char *path, char role[16])
{
	struct xshim_client c;
	json_t *report = NULL;
	const char *its;

	role[0] = '\0';
	if (xshim_client_open(&c, path) < 0) {
		check_owner(f, &c);
		xshim_finding(f, XSHIM_FAIL, c.fault == XSHIM_CLIENT_OTHER_VERSION ? "version" : "daemon", c.advice,
			      "%s", c.cause);
		xshim_client_close(&c);
		return;
	}
	xshim_finding(f, XSHIM_OK, "daemon", "", "xshimd answers at %s", path);
	check_owner(f, &c);
	if (strncmp(c.welcome.build, XSHIM_TOOL_VERSION, sizeof(c.welcome.build) - 1) == 0)
		xshim_finding(f, XSHIM_OK, "version", "", "xshimd speaks protocol %u and is release %.32s like this command",
			      c.welcome.h.version, c.welcome.build);
	else
		xshim_finding(f, XSHIM_OK, "version", "", "xshimd speaks protocol %u (release %.32s, this command %s)",
			      c.welcome.h.version, c.welcome.build, XSHIM_TOOL_VERSION);
	check_map(f, &c);
	if (xshim_client_report(&c, XSHIM_REPORT_TOTALS, &report) < 0)
		xshim_finding(f, XSHIM_FAIL, "report", c.advice, "%s", c.cause);
	its = json_string_value(json_object_get(report, "role"));
	if (its)
		snprintf(role, 16, "%s", its);
	json_decref(report);
	xshim_client_close(&c);
}

/* In a child, as its constructor runs: load the library, tell the pipe why not. */
static void load_child(const char *lib, int out)
{
	const char *why;
	ssize_t n = 0;

	setenv("XSHIM_DISABLE", "1", 1);
	if (dlopen(lib, RTLD_NOW | RTLD_LOCAL))
		_exit(0);
	why = dlerror();
	if (why)
		n = write(out, why, strlen(why));
	_exit(n < 0 ? 2 : 1);
}

/* 0, or -errno with the reason in why. */
static int try_load(const char *lib, char *why, size_t why_len)
{
	int p[2], status = 0;
	struct pollfd pfd;
	ssize_t n = 0;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		load_child(lib, p[1]);
	close(p[1]);
	pfd = (struct pollfd){ .fd = p[0], .events = POLLIN };
	snprintf(why, why_len, "it ended the process that loaded it");
	if (pid > 0) {
		if (poll(&pfd, 1, LOAD_MS) > 0)
			n = read(p[0], why, why_len - 1);
		else
			snprintf(why, why_len, "not loaded within %d ms", LOAD_MS);
		if (n > 0)
			why[n] = '\0';
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	close(p[0]);
	/* Success closes the pipe by _exit(0); the kill then may or may not come first. */
	if (pid > 0 && n == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return -ELIBBAD;
}

static void check_library(struct xshim_findings *f, const char *option)
{
	static const char advice[] = "install libxshim.so, or name it with --lib or XSHIM_LIB";
	char path[PATH_MAX], why[PATH_MAX + 256], kind[48];
	struct xshim_elf elf;
	int fd, rc;

	if (xshim_library_find(option, path, why, sizeof(why)) < 0) {
		xshim_finding(f, XSHIM_FAIL, "library", advice, "libxshim.so is not found: %s", why);
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	rc = fd < 0 ? -errno : xshim_elf_read(&elf, fd);
	if (fd >= 0)
		close(fd);
	if (rc < 0)
		xshim_finding(f, XSHIM_FAIL, "library", advice, "%s: %s", path,
			      rc == -ENOEXEC || rc == -EBADMSG ? "not a library" : strerror(-rc));
	else if (!elf.is_native)
		xshim_finding(f, XSHIM_FAIL, "library", advice, "%s is %s", path, xshim_elf_kind(&elf, kind));
	else if (try_load(path, why, sizeof(why)) < 0)
		xshim_finding(f, XSHIM_FAIL, "library", advice, "%s cannot be loaded: %s", path, why);
	else
		xshim_finding(f, XSHIM_OK, "library", "", "%s can be loaded", path);
}

static void check_kernel(struct xshim_findings *f)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
	int mem = memfd_create("xshim-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;
	socklen_t len = sizeof(cookie);
	bool fine = true;

	if (mem < 0 || fcntl(mem, F_ADD_SEALS, seals) < 0) {
		xshim_finding(f, XSHIM_FAIL, "kernel", "use Linux 5.14 or later", "memory cannot be sealed against writing: %s",
			      strerror(errno));
		fine = false;
	}
	if (tcp >= 0 && getsockopt(tcp, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0) {
		xshim_finding(f, XSHIM_FAIL, "kernel", "use Linux 5.14 or later", "network namespaces cannot be told apart: %s",
			      strerror(errno));
		fine = false;
	}
	if (fine)
		xshim_finding(f, XSHIM_OK, "kernel", "", "the kernel has sealed memory and network namespace cookies");
	if (mem >= 0)
		close(mem);
	if (tcp >= 0)
		close(tcp);
}

/* What of XSHIM_* stands in our own environment, and so would in a program started from here. */
static void check_environment(struct xshim_findings *f)
{
	static const char *const ours[] = { "XSHIM_LIB" };
	char name[64], why[128];
	bool fine = true;

	for (char **e = environ; *e; e++) {
		const char *value = strchr(*e, '=');
		const struct xshim_setting *s;

		if (strncmp(*e, "XSHIM_", 6) != 0 || !value || (size_t)(value - *e) >= sizeof(name))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)(value - *e), *e);
		value++;
		s = xshim_setting_find(name);
		if (s && xshim_setting_check(s, value, why, sizeof(why)) == 0 &&
		    !(strcmp(name, "XSHIM_DISABLE") == 0 && strtol(value, NULL, 10) == 1))
			continue;
		if (!s && strcmp(name, ours[0]) == 0)
			continue;
		fine = false;
		if (!s)
			xshim_finding(f, XSHIM_WARN, "environment", "see xshim(7) for the names", "%s is not a variable of xshim", name);
		else if (xshim_setting_check(s, value, why, sizeof(why)) < 0)
			xshim_finding(f, XSHIM_WARN, "environment", "correct or unset it; until then the default holds",
				      "%s=%.200s: %s", name, value, why);
		else
			xshim_finding(f, XSHIM_WARN, "environment", "unset it", "XSHIM_DISABLE=1 is set: nothing goes by ring");
	}
	if (fine)
		xshim_finding(f, XSHIM_OK, "environment", "", "the XSHIM_ variables are in order");
}

static void print_people(const struct xshim_findings *f)
{
	const char *level, *text, *advice;
	json_t *one;
	size_t i;

	json_array_foreach(f->list, i, one) {
		level = json_string_value(json_object_get(one, "level"));
		text = json_string_value(json_object_get(one, "text"));
		advice = json_string_value(json_object_get(one, "advice"));
		printf("%s: %s%s%s\n", level, text, *advice ? "; " : "", advice);
	}
}

int xshim_doctor_main(int argc, char **argv)
{
	static const struct argp argp = { .options = options, .parser = parse, .args_doc = "[-- PROGRAM [ARG...]]",
		.doc = "Check whether this machine is ready for xshim and, if one is named, whether PROGRAM can be served." };
	struct xshim_findings f = { .list = json_array() };
	struct doctor d = { 0 };
	const char *path;
	char role[16];
	json_t *out;

	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &d) != 0)
		return XSHIM_EXIT_USAGE;
	path = xshim_tool_socket(d.socket);
	check_kernel(&f);
	check_directory(&f, path);
	check_daemon(&f, path, role);
	check_library(&f, d.lib);
	check_environment(&f);
	xshim_doctor_xen(&f, role);
	if (d.program)
		xshim_doctor_program(&f, d.program);
	if (d.json) {
		out = json_pack("{s:i, s:i, s:i, s:O}", "version", 1, "failed", (int)f.count[XSHIM_FAIL], "warned",
				(int)f.count[XSHIM_WARN], "findings", f.list);
		json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(out);
	} else {
		print_people(&f);
	}
	json_decref(f.list);
	return xshim_tool_finish(f.count[XSHIM_FAIL] ? XSHIM_EXIT_FAIL : XSHIM_EXIT_OK);
}
