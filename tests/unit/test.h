// Frame of the runtime's unit tests: named cases on top of check.h, each prints "ok NAME" or "not ok NAME".
#pragma once
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/check.h"

// Runs a case `static void name(void)`.
#define RUN(name)                                                                                                      \
  do {                                                                                                                 \
    int run_failed = check_failed;                                                                                     \
    name();                                                                                                            \
    printf("%s %s\n", check_failed == run_failed ? "ok" : "not ok", #name);                                            \
    fflush(stdout);                                                                                                    \
  } while (0)

// Code of a status, which is freed.
static inline int take_code(sard_status *st) {
  int code = sard_status_code(st);
  sard_status_free(st);
  return code;
}

// Seeded numbers, the same everywhere.
static inline uint64_t test_random(uint64_t *state) {
  *state += 0x9e3779b97f4a7c15ull;
  uint64_t z = (*state ^ *state >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

// Processor time of this thread: other work on the machine does not count.
static inline double test_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// A path in a fresh folder of this process, removed by the system's tidying at the latest.
static inline const char *test_path(const char *name) {
  static char folder[64], path[4][512];
  static int turn;
  if (!folder[0]) {
    snprintf(folder, sizeof folder, "/tmp/sard-test-XXXXXX");
    if (!mkdtemp(folder)) abort();
  }
  turn = (turn + 1) % 4;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  return path[turn];
}
