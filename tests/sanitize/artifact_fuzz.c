// Damaged artifacts: compiles a model, then loads prefixes and seeded variants of the bytes, with the checksum made right.
// A variant may load or be refused with a status. Loaded ones are asked for everything but a run: code that was tampered
// with is for the checksum (and a signature) to refuse. Meant for ASan and UBSan builds.
//
//   artifact_fuzz N SEED MODEL...   with SARD_NVRTC also artifacts for GPUs
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/artifact_read.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "sard/sard_compile.h"

static long runs, loaded, bad;

static uint64_t next_random(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  *s ^= *s << 17;
  return *s;
}

static void ask(sard_model *m) {
  sard_session *s = NULL;
  char *json = NULL;
  sard_tensor_desc d = {.size = sizeof d};
  for (int side = 0; side < 2; side++)
    for (int i = 0; i < sard_model_io_count(m, side); i++) sard_status_free(sard_model_io(m, side, i, &d));
  sard_status_free(sard_model_report(m, &json));
  sard_free(json), json = NULL;
  sard_status *st = sard_session_new(m, NULL, &s);
  if (!st) {
    sard_tensor *out[64] = {0};
    int n = sard_model_io_count(m, 1);
    st = sard_session_run(s, NULL, 0, out, n > 64 ? 64 : n); // no inputs: refused before anything runs, unless there are none
    for (int i = 0; i < 64; i++) sard_tensor_free(out[i]);
    sard_status_free(sard_session_stats(s, &json));
    sard_free(json);
  }
  sard_status_free(st);
  sard_session_free(s);
}

static void load(sard_context *ctx, const char *file, long variant, const uint8_t *data, uint64_t size) {
  sard_source src = {.size = sizeof src, .data = data, .bytes = size};
  sard_model *m = NULL;
  sard_status *st = sard_model_open(ctx, &src, NULL, &m);
  runs++;
  if (!st) loaded++, ask(m);
  if (sard_status_code(st) == SARD_E_INTERNAL) bad++, printf("%s: variant %ld: %s\n", file, variant, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  sard_model_free(m);
}

// The checksum of changed bytes, where the section table still says where the weights are.
static void mend(uint8_t *p, uint64_t size) {
  sard_art_header *h = (sard_art_header *)p;
  const sard_art_section *s = (const sard_art_section *)(h + 1);
  if (size < sizeof *h || h->n_sections > SD_ART_MAXSECTIONS || sizeof *h + h->n_sections * sizeof *s > size) return;
  for (uint32_t i = 0; i < h->n_sections; i++)
    if (s[i].kind == SARD_ART_CONST && s[i].offset >= sizeof *h && s[i].offset <= size && s[i].size <= size - s[i].offset)
      h->hash = sd_artifact_hash(p, size, s[i].offset, s[i].size);
}

static void damage(uint8_t *p, uint64_t size, uint64_t *seed) {
  for (uint64_t k = 1 + next_random(seed) % 3; k--;) {
    uint64_t r = next_random(seed), at = 8 + next_random(seed) % (size - 8);
    if (r % 3 == 0 && at % 4 == 0 && at + 4 <= size) memcpy(p + at, &(uint32_t){r & 8 ? UINT32_MAX : (uint32_t)(r >> 8) % 64}, 4);
    else p[at] = r & 4 ? (uint8_t)(r >> 8) : (uint8_t)(p[at] ^ 1u << (r >> 8 & 7));
  }
  mend(p, size);
}

// `options`: those of the compilation.
static void one_model(sard_context *ctx, const char *path, const sard_options *options, long count, uint64_t seed) {
  char artifact[] = "/tmp/sard-artifact-fuzz-XXXXXX";
  int fd = mkstemp(artifact);
  sard_source src = {.size = sizeof src, .path = path};
  sd_map map = {0};
  uint64_t s = seed * 0x9e3779b97f4a7c15ull + 1;
  sard_status *st = fd < 0 ? sd_status_errno("make", artifact) : sard_compile_file(&src, options, artifact, NULL);
  if (!st) st = sd_file_map(artifact, &map);
  if (!st) {
    uint64_t step = map.size / 2000 + 1;
    for (uint64_t n = 0; n < map.size; n += n < 2048 ? 1 : step) {
      uint8_t *exact = sd_alloc_aligned(n ? n : 1);
      if (!exact) break;
      memcpy(exact, map.data, n);
      load(ctx, path, -(long)n, exact, n);
      sd_free_aligned(exact);
    }
    if (loaded) bad++, printf("%s: a part of the artifact was loaded\n", path);
    uint8_t *copy = sd_alloc_aligned(map.size + 64); // a runtime reads up to 64 bytes behind the weights
    for (long i = 0; copy && i < count; i++) {
      memcpy(copy, map.data, map.size);
      if (i) damage(copy, map.size, &s);
      load(ctx, path, i, copy, map.size);
    }
    sd_free_aligned(copy);
    sd_file_unmap(&map);
  }
  if (st) bad++, printf("%s: %s\n", path, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  remove(artifact);
}

int main(int argc, char **argv) {
  sard_context *ctx;
  if (argc < 4) {
    fprintf(stderr, "usage: artifact_fuzz N SEED MODEL...\n");
    return 2;
  }
  sard_status *st = sard_context_new(NULL, &ctx);
  if (st) {
    printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
    return 1;
  }
  sard_options *parts = sard_options_new();
  st = sard_options_set(parts, "devices", "cpu:0,cpu:1");
  if (!st) st = sard_options_set(parts, "split", "layer");
  sard_options *cuda = sard_options_new();
  if (!st) st = sard_options_set(cuda, "device", "cuda:sm_80");
  if (!st) st = sard_options_set(cuda, "precision", "tf32");
  const sard_options *ways[] = {NULL, parts, cuda}; // as one piece, in two parts, and with code for GPUs
  for (int i = 3; i < argc && !st; i++)
    for (int k = 0; k < (getenv("SARD_NVRTC") ? 3 : 2); k++) {
      one_model(ctx, argv[i], ways[k], strtol(argv[1], NULL, 10), strtoull(argv[2], NULL, 10));
      loaded = 0;
    }
  bad += st != NULL;
  sard_status_free(st);
  sard_options_free(parts), sard_options_free(cuda);
  sard_context_free(ctx);
  printf("artifact_fuzz: %ld runs, %ld bad\n", runs, bad);
  return bad != 0;
}
