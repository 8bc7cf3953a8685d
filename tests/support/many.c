// The program `sard` for thousands of commands: LLVM is loaded, and what is made once is made, before each
// command runs in a process of its own. That saves the 35 ms of processor time which each start takes.
//
// usage: many       reads commands from standard input, every item closed by a zero byte: folder, number of
//                   arguments, arguments. What a command writes is in the folder's files out and err; answers
//                   a line with its exit code, or the negative number of the signal that ended it. Links with
//                   sard's objects, whose main is __real_main.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/warm.h"

enum { MAX_ARGUMENTS = 64, SECONDS = 120 }; // a command that takes longer hangs

int __real_main(int argc, char **argv); // NOLINT
int __wrap_main(int argc, char **argv); // NOLINT

static char *item(void) {
  char *text = NULL;
  size_t room = 0;
  if (getdelim(&text, &room, 0, stdin) > 0) return text;
  free(text);
  return NULL;
}

static void open_as(int fd, const char *folder, const char *name, int flags) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int f = open(path, flags, 0666);
  if (f < 0 || dup2(f, fd) < 0) _exit(99);
  close(f);
}

static int run(const char *folder, int argc, char **argv) {
  pid_t pid = fork();
  if (pid < 0) return 99;
  if (!pid) {
    open_as(0, "/dev", "null", O_RDONLY);
    open_as(1, folder, "out", O_WRONLY | O_CREAT | O_TRUNC);
    open_as(2, folder, "err", O_WRONLY | O_CREAT | O_TRUNC);
    alarm(SECONDS);
    exit(__real_main(argc, argv));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int __wrap_main(int argc, char **argv) {
  (void)argc;
  char *at[MAX_ARGUMENTS + 2] = {argv[0]}, *folder;
  sard_context_free(warm_up());
  while ((folder = item())) {
    char *count = item();
    int n = count ? atoi(count) : -1, got = 0;
    free(count);
    while (got < n && n <= MAX_ARGUMENTS && (at[got + 1] = item())) got++;
    if (got != n) return fprintf(stderr, "many: a command is cut\n"), 2;
    at[n + 1] = NULL;
    printf("%d\n", run(folder, n + 1, at));
    fflush(stdout);
    for (int i = 0; i < n; i++) free(at[i + 1]);
    free(folder);
  }
  return 0;
}
