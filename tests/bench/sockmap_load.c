/* SPDX-License-Identifier: MIT */
/*
 * sockmap_load.c - puts sockmap.bpf.c to work for the processes of a cgroup, until it is killed. Built by
 * sockmap.sh where libbpf is there.
 *
 *   sockmap_load OBJECT CGROUP
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "sockmap_load: %s\n", what);
	return 1;
}

int main(int argc, char **argv)
{
	struct bpf_program *ops, *msg;
	struct bpf_object *o;
	int cgroup, map;

	if (argc != 3)
		return fail("usage: sockmap_load OBJECT CGROUP");
	o = bpf_object__open_file(argv[1], NULL);
	if (!o || bpf_object__load(o))
		return fail("the kernel does not take the programs");
	ops = bpf_object__find_program_by_name(o, "note_connection");
	msg = bpf_object__find_program_by_name(o, "redirect");
	map = bpf_object__find_map_fd_by_name(o, "connections");
	cgroup = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!ops || !msg || map < 0 || cgroup < 0)
		return fail("a part of the object, or the cgroup, is missing");
	if (bpf_prog_attach(bpf_program__fd(msg), map, BPF_SK_MSG_VERDICT, 0))
		return fail("the message program cannot be attached to the map");
	/* by a link, which goes with this process */
	if (!bpf_program__attach_cgroup(ops, cgroup))
		return fail("the connection program cannot be attached to the cgroup");
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
