/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xshim/log.h>
#include "unit.h"

static int out[2];
static struct xshim_log log_to;

static void setup(void)
{
	ck_assert_int_eq(pipe2(out, O_NONBLOCK | O_CLOEXEC), 0);
	log_to = (struct xshim_log){ .fd = out[1], .level = XSHIM_LOG_DEBUG, .who = "me" };
}

static void teardown(void)
{
	close(out[0]);
	close(out[1]);
}

/* What came, NUL-terminated; "" if nothing did. */
static const char *got(void)
{
	static char text[4096];
	ssize_t n = read(out[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

START_TEST(a_line_has_who_level_and_text)
{
	xshim_log(&log_to, XSHIM_LOG_WARN, "hello");
	ck_assert_str_eq(got(), "me: warn: hello\n");
}
END_TEST

START_TEST(a_process_is_named_where_several_write)
{
	struct xshim_log to = log_to;
	char want[64];

	to.pid = true;
	xshim_log(&to, XSHIM_LOG_WARN, "hello");
	snprintf(want, sizeof(want), "me[%d]: warn: hello\n", (int)getpid());
	ck_assert_str_eq(got(), want);
}
END_TEST

START_TEST(each_conversion)
{
	const char *volatile null = NULL;	/* behind the compiler's back */

	xshim_log(&log_to, XSHIM_LOG_INFO, "%s|%d|%d|%u|%x|%llu|%zu|%%|%c|%s", "str", INT_MIN, 42, UINT_MAX,
		  0xdeadbeefu, ULLONG_MAX, (size_t)0, 'q', null);
	ck_assert_str_eq(got(), "me: info: str|-2147483648|42|4294967295|deadbeef|18446744073709551615|0|%|q|(null)\n");
}
END_TEST

START_TEST(an_unknown_conversion_is_shown_and_takes_no_argument)
{
	static const char *volatile fmt = "a %d b %ld c %s";	/* not seen by the compiler's check */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	xshim_log(&log_to, XSHIM_LOG_INFO, fmt, 1, 2L, "x");
#pragma GCC diagnostic pop
	ck_assert_str_eq(got(), "me: info: a 1 b %ld c %s\n");
}
END_TEST

START_TEST(less_urgent_lines_are_left_out)
{
	log_to.level = XSHIM_LOG_WARN;
	xshim_log(&log_to, XSHIM_LOG_DEBUG, "no");
	xshim_log(&log_to, XSHIM_LOG_INFO, "no");
	ck_assert_str_eq(got(), "");
	xshim_log(&log_to, XSHIM_LOG_WARN, "a");
	xshim_log(&log_to, XSHIM_LOG_ERROR, "b");
	ck_assert_str_eq(got(), "me: warn: a\nme: error: b\n");
	log_to.fd = -1;
	xshim_log(&log_to, XSHIM_LOG_ERROR, "no");
	ck_assert_str_eq(got(), "");
}
END_TEST

START_TEST(a_string_cannot_make_a_second_line)
{
	xshim_log(&log_to, XSHIM_LOG_INFO, "comm %s", "x\nme: error: forged\t\x1b[2J");
	ck_assert_str_eq(got(), "me: info: comm x?me: error: forged??[2J\n");
}
END_TEST

START_TEST(a_long_line_is_cut_and_still_ends)
{
	char big[3000];
	const char *text;

	memset(big, 'z', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	xshim_log(&log_to, XSHIM_LOG_INFO, "%s", big);
	text = got();
	ck_assert_uint_eq(strlen(text), 512);
	ck_assert_int_eq(text[510], 'z');
	ck_assert_int_eq(text[511], '\n');
}
END_TEST

START_TEST(errno_is_kept)
{
	errno = 123;
	xshim_log(&log_to, XSHIM_LOG_INFO, "x");
	log_to.fd = 9999;
	xshim_log(&log_to, XSHIM_LOG_INFO, "x");
	log_to.dev = 1;
	xshim_log(&log_to, XSHIM_LOG_INFO, "x");
	ck_assert_int_eq(errno, 123);
}
END_TEST

START_TEST(another_file_under_the_number_is_not_written)
{
	struct stat st;

	ck_assert_int_eq(fstat(out[1], &st), 0);
	log_to.dev = st.st_dev;
	log_to.ino = st.st_ino;
	xshim_log(&log_to, XSHIM_LOG_INFO, "ours");
	ck_assert_str_eq(got(), "me: info: ours\n");
	log_to.ino++;
	xshim_log(&log_to, XSHIM_LOG_INFO, "not ours");
	ck_assert_str_eq(got(), "");
}
END_TEST

static volatile sig_atomic_t pipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	pipes++;
}

START_TEST(a_closed_pipe_does_not_signal)
{
	sigset_t pending, blocked;

	signal(SIGPIPE, on_sigpipe);
	close(out[0]);
	xshim_log(&log_to, XSHIM_LOG_INFO, "into the void");
	ck_assert_int_eq(pipes, 0);
	sigpending(&pending);
	ck_assert(!sigismember(&pending, SIGPIPE));
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	ck_assert(!sigismember(&blocked, SIGPIPE));
	/* The program's own still comes. */
	ck_assert_int_lt(write(out[1], "x", 1), 0);
	ck_assert_int_eq(pipes, 1);
	out[0] = -1;
}
END_TEST

START_TEST(a_pending_sigpipe_of_the_program_stays)
{
	sigset_t set, pending;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGPIPE);
	close(out[0]);
	xshim_log(&log_to, XSHIM_LOG_INFO, "into the void");
	sigpending(&pending);
	ck_assert(sigismember(&pending, SIGPIPE));
	sigprocmask(SIG_SETMASK, NULL, &pending);
	ck_assert(sigismember(&pending, SIGPIPE));
	out[0] = -1;
}
END_TEST

START_TEST(a_file_that_may_not_grow_is_no_signal)
{
	struct rlimit was, none;
	struct xshim_log to = log_to;
	FILE *f = tmpfile();
	sigset_t pending;
	int err, came, came_of_own;
	ssize_t own;

	ck_assert_ptr_nonnull(f);
	to.fd = fileno(f);
	to.dev = to.ino = 0;
	signal(SIGXFSZ, on_sigpipe);
	getrlimit(RLIMIT_FSIZE, &was);
	none = was;
	none.rlim_cur = 0;
	/* Check writes to a file, too */
	setrlimit(RLIMIT_FSIZE, &none);
	errno = ENOENT;
	xshim_log(&to, XSHIM_LOG_INFO, "too long");
	err = errno;
	came = pipes;
	sigpending(&pending);
	own = write(to.fd, "x", 1);
	came_of_own = pipes;
	setrlimit(RLIMIT_FSIZE, &was);
	ck_assert_int_eq(err, ENOENT);
	ck_assert_int_eq(came, 0);
	ck_assert(!sigismember(&pending, SIGXFSZ));
	/* the program's own still comes */
	ck_assert_int_lt(own, 0);
	ck_assert_int_eq(came_of_own, 1);
	fclose(f);
}
END_TEST

START_TEST(level_names)
{
	ck_assert_int_eq(xshim_log_level_from_name("error", 5), XSHIM_LOG_ERROR);
	ck_assert_int_eq(xshim_log_level_from_name("warn:/tmp/x", 4), XSHIM_LOG_WARN);
	ck_assert_int_eq(xshim_log_level_from_name("info", 4), XSHIM_LOG_INFO);
	ck_assert_int_eq(xshim_log_level_from_name("debug", 5), XSHIM_LOG_DEBUG);
	ck_assert_int_eq(xshim_log_level_from_name("debugger", 8), 0);
	ck_assert_int_eq(xshim_log_level_from_name("warn", 3), 0);
	ck_assert_int_eq(xshim_log_level_from_name("", 0), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("log");
	TCase *tc = tcase_create("log");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_line_has_who_level_and_text);
	tcase_add_test(tc, a_process_is_named_where_several_write);
	tcase_add_test(tc, each_conversion);
	tcase_add_test(tc, an_unknown_conversion_is_shown_and_takes_no_argument);
	tcase_add_test(tc, less_urgent_lines_are_left_out);
	tcase_add_test(tc, a_string_cannot_make_a_second_line);
	tcase_add_test(tc, a_long_line_is_cut_and_still_ends);
	tcase_add_test(tc, errno_is_kept);
	tcase_add_test(tc, another_file_under_the_number_is_not_written);
	tcase_add_test(tc, a_closed_pipe_does_not_signal);
	tcase_add_test(tc, a_pending_sigpipe_of_the_program_stays);
	tcase_add_test(tc, a_file_that_may_not_grow_is_no_signal);
	tcase_add_test(tc, level_names);
	suite_add_tcase(s, tc);
	return s;
}

UNIT_MAIN(suite)
