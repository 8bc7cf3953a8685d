// The frame of unit tests: each file is a program; CHECK counts, the last line says how many passed and failed.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/status.h"
#include "runtime/base/str.h"

static int check_passed, check_failed;

// A folder that the test has made, and all that is in it.
static inline bool check_remove(const char *folder) {
  char command[400];
  snprintf(command, sizeof command, "rm -r '%s'", folder);
  return system(command) == 0;
}

#define CHECK(cond)                                                                                                    \
  do {                                                                                                                 \
    if (cond) check_passed++;                                                                                          \
    else check_failed++, printf("%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #cond);                               \
  } while (0)

#define CHECK_TEXT(got, want)                                                                                          \
  do {                                                                                                                 \
    const char *check_g = (got), *check_w = (want);                                                                    \
    if (check_g && strcmp(check_g, check_w) == 0) check_passed++;                                                      \
    else check_failed++, printf("%s:%d: got \"%s\", want \"%s\"\n", __FILE__, __LINE__, check_g ? check_g : "(null)", check_w); \
  } while (0)

#define CHECK_OK(expr)                                                                                                 \
  do {                                                                                                                 \
    sard_status *check_st = (expr);                                                                                    \
    if (!check_st) check_passed++;                                                                                     \
    else {                                                                                                             \
      check_failed++;                                                                                                  \
      printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #expr, sard_status_text(check_st, SARD_TEXT_MESSAGE));             \
      sard_status_free(check_st);                                                                                      \
    }                                                                                                                  \
  } while (0)

// An error of that code whose message contains `part`.
#define CHECK_ERR(expr, code, part)                                                                                    \
  do {                                                                                                                 \
    sard_status *check_st = (expr);                                                                                    \
    if (check_st && sard_status_code(check_st) == SARD_E_##code && strstr(sard_status_text(check_st, SARD_TEXT_MESSAGE), part)) \
      check_passed++;                                                                                                  \
    else                                                                                                               \
      check_failed++, printf("%s:%d: %s: got %d \"%s\", want \"%s\"\n", __FILE__, __LINE__, #expr, sard_status_code(check_st), \
                             sard_status_text(check_st, SARD_TEXT_MESSAGE), part);                                     \
    sard_status_free(check_st);                                                                                        \
  } while (0)

// Under sanitizers, where most of the time is LLVM's: a part of what the test goes through is enough.
static inline bool check_short(void) { return getenv("SARD_TEST_SHORT") != NULL; }

static inline int check_end(void) {
  printf("%d passed, %d failed\n", check_passed, check_failed);
  return check_failed != 0;
}
