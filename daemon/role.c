/* SPDX-License-Identifier: MIT */
#include "role.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {
	[XSHIMD_ROLE_AUTO] = "auto",
	[XSHIMD_ROLE_LOCAL] = "local",
	[XSHIMD_ROLE_GUEST] = "guest",
	[XSHIMD_ROLE_HOST] = "host",
};

int xshimd_role_parse(const char *name, uint32_t *role)
{
	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(name, names[i])) {
			*role = i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *xshimd_role_name(uint32_t role)
{
	return role < sizeof(names) / sizeof(names[0]) ? names[role] : "unknown";
}

static bool file_has(const char *path, const char *text)
{
	char buf[256];
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	return strstr(buf, text) != NULL;
}

uint32_t xshimd_role_detect(void)
{
	if (file_has("/proc/xen/capabilities", "control_d"))
		return XSHIMD_ROLE_HOST;
	if (!file_has("/sys/hypervisor/type", "xen"))
		return XSHIMD_ROLE_LOCAL;
	/* A dom0 whose /proc/xen is not mounted has a xenstored of its own. */
	if (access("/run/xenstored/socket", R_OK | W_OK) == 0 || access("/var/run/xenstored/socket", R_OK | W_OK) == 0)
		return XSHIMD_ROLE_HOST;
	if (access("/dev/xen/xenbus", R_OK | W_OK) == 0 || access("/proc/xen/xenbus", R_OK | W_OK) == 0)
		return XSHIMD_ROLE_GUEST;
	return XSHIMD_ROLE_LOCAL;
}
