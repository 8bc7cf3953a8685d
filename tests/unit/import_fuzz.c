// Damaged models: imports every prefix, seeded flips, or the files as they are. Meant for ASan and UBSan builds.
//
//   import_fuzz MODE [options] FILE...
//     whole          each file as it is
//     prefix [STEP]  every prefix (STEP bytes apart from 4096 on, default 97)
//     flip N [SEED]  N variants of each file with 1 to 4 bytes changed
// A variant may import or fail with a status; a crash, an internal error, or more than 2 s of processor time, and 2 s
// for each MB of the file, is a failure (exit code 1).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx/import.h"
#include "runtime/base/file.h"
#include "tests/unit/test.h"

static long runs, imported, slow, internal;

static void import_bytes(const char *file, const char *what, long variant, const void *data, uint64_t size) {
  sard_source src = {.size = sizeof src, .data = data, .bytes = size};
  sd_module *m = NULL;
  double began = test_seconds();
  sard_status *st = sd_import_onnx(&src, &m);
  double ms = (test_seconds() - began) * 1e3;
  runs++;
  if (!st) imported++;
  if (sard_status_code(st) == SARD_E_INTERNAL) {
    internal++;
    printf("%s: %s %ld: %s\n", file, what, variant, sard_status_text(st, SARD_TEXT_MESSAGE));
  }
  if (ms > 2000 * (1 + (double)size * 1e-6)) {
    slow++;
    printf("%s: %s %ld took %.0f ms\n", file, what, variant, ms);
  }
  sard_status_free(st);
  sd_module_free(m);
}

// The bytes end where an allocation ends, so that reading past them is seen.
static void import_copy(const char *file, const char *what, long variant, const uint8_t *data, uint64_t size) {
  uint8_t *copy = malloc(size ? size : 1);
  if (!copy) return;
  memcpy(copy, data, size);
  import_bytes(file, what, variant, copy, size);
  free(copy);
}

static void prefixes(const char *file, const sd_map *m, uint64_t step) {
  for (uint64_t n = 0; n < m->size; n += n < 4096 ? 1 : step) import_copy(file, "prefix", (long)n, m->data, n);
}

static uint64_t next_random(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  *s ^= *s << 17;
  return *s;
}

static void flips(const char *file, const sd_map *m, long count, uint64_t seed) {
  uint8_t *copy = malloc(m->size ? m->size : 1);
  uint64_t s = seed * 0x9e3779b97f4a7c15ull + 1;
  if (!copy || !m->size) return free(copy);
  for (long i = 0; i < count; i++) {
    memcpy(copy, m->data, m->size);
    for (uint64_t k = next_random(&s) % 4 + 1; k--;) {
      uint64_t at = next_random(&s) % m->size, how = next_random(&s);
      copy[at] = how & 1 ? (uint8_t)(copy[at] ^ 1u << (how >> 1 & 7)) : (uint8_t)(how >> 8);
    }
    import_bytes(file, "flip", i, copy, m->size);
  }
  free(copy);
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  int at = 2;
  long a = at < argc ? strtol(argv[at], NULL, 10) : 0, b = 1;
  if (strcmp(mode, "whole") && strcmp(mode, "prefix") && strcmp(mode, "flip")) {
    fprintf(stderr, "usage: import_fuzz whole|prefix [STEP]|flip N [SEED] FILE...\n");
    return 2;
  }
  if (a > 0) at++;
  if (strcmp(mode, "flip") == 0 && at < argc && strtol(argv[at], NULL, 10) > 0) b = strtol(argv[at++], NULL, 10);
  for (; at < argc; at++) {
    sd_map m;
    sard_status *st = sd_file_map(argv[at], &m);
    if (st) {
      printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
      sard_status_free(st);
      return 1;
    }
    if (strcmp(mode, "whole") == 0) import_copy(argv[at], "whole", 0, m.data, m.size);
    if (strcmp(mode, "prefix") == 0) prefixes(argv[at], &m, a > 0 ? (uint64_t)a : 97);
    if (strcmp(mode, "flip") == 0) flips(argv[at], &m, a > 0 ? a : 1000, (uint64_t)b);
    sd_file_unmap(&m);
  }
  printf("import_fuzz %s: %ld runs, %ld imported, %ld slow, %ld internal errors\n", mode, runs, imported, slow,
         internal);
  return internal || slow;
}
