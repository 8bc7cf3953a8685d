// Artifacts without their weights, for benchmarks: files of hundreds of megabytes travel as a few.
//   sample strip IN OUT   keeps the first 16 KiB of each constant
//   sample fill IN OUT    makes an artifact of that: each constant is its 16 KiB again and again
// The times of a filled artifact are those of the original one; its results mean nothing, but are the same on every device.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/artifact.h"

enum { KEPT = 16384 };

typedef struct bytes { unsigned char *p; size_t n; } bytes;

static bytes read_file(const char *path) {
  bytes b = {0};
  FILE *f = fopen(path, "rb");
  if (!f || fseek(f, 0, SEEK_END) != 0) return b;
  b.n = (size_t)ftell(f);
  rewind(f);
  b.p = malloc(b.n + 1);
  if (b.p && fread(b.p, 1, b.n, f) != b.n) free(b.p), b.p = NULL;
  fclose(f);
  return b;
}

static const sard_art_section *find(const unsigned char *p, uint32_t kind) {
  const sard_art_header *h = (const void *)p;
  const sard_art_section *s = (const void *)(h + 1);
  for (uint32_t i = 0; i < h->n_sections; i++)
    if (s[i].kind == kind) return &s[i];
  return NULL;
}

typedef struct constant { uint64_t at, size; } constant;

// Constants in order of their place; the number of them.
static size_t constants(const unsigned char *p, constant *out) {
  const sard_art_section *bufs = find(p, SARD_ART_BUFS), *dims = find(p, SARD_ART_DIMS), *data = find(p, SARD_ART_CONST);
  size_t n = 0;
  for (uint32_t i = 0; bufs && dims && data && i < bufs->count; i++) {
    const sard_art_buf *b = (const sard_art_buf *)(const void *)(p + bufs->offset) + i;
    if (b->kind == SARD_AB_CONST) out[n++] = (constant){data->offset + b->offset, (uint64_t)((const sard_art_dim *)(const void *)(p + dims->offset))[b->bytes].value};
  }
  return n;
}

static uint64_t kept(uint64_t size) { return size < KEPT ? size : KEPT; }

static int strip(const bytes *in, FILE *out) {
  const sard_art_section *data = find(in->p, SARD_ART_CONST);
  constant *c = calloc(find(in->p, SARD_ART_BUFS)->count + 1, sizeof *c);
  if (!c) return 1;
  size_t n = constants(in->p, c);
  fwrite(in->p, 1, data ? data->offset : in->n, out);
  for (size_t i = 0; i < n; i++) fwrite(in->p + c[i].at, 1, kept(c[i].size), out);
  free(c);
  return ferror(out);
}

static int fill(const bytes *in, FILE *out) {
  const sard_art_header *h = (const void *)in->p;
  const sard_art_section *data = find(in->p, SARD_ART_CONST);
  unsigned char *whole = calloc(1, h->file_size);
  constant *c = calloc(find(in->p, SARD_ART_BUFS)->count + 1, sizeof *c);
  uint64_t from = data ? data->offset : in->n;
  if (!whole || !c) return 1;
  memcpy(whole, in->p, from);
  size_t n = constants(in->p, c);
  for (size_t i = 0; i < n; i++) {
    uint64_t k = kept(c[i].size);
    for (uint64_t at = 0; at < c[i].size; at += k) memcpy(whole + c[i].at + at, in->p + from, c[i].size - at < k ? c[i].size - at : k);
    from += k;
  }
  fwrite(whole, 1, h->file_size, out);
  free(whole), free(c);
  return ferror(out);
}

int main(int argc, char **argv) {
  bytes in = argc == 4 ? read_file(argv[2]) : (bytes){0};
  if (!in.p || in.n < sizeof(sard_art_header) || memcmp(in.p, SARD_ART_MAGIC, 8) != 0) {
    fprintf(stderr, "usage: sample strip|fill ARTIFACT OUT\n");
    return 2;
  }
  FILE *out = fopen(argv[3], "wb");
  int failed = !out || (strcmp(argv[1], "fill") == 0 ? fill(&in, out) : strip(&in, out));
  if (out && fclose(out) != 0) failed = 1;
  free(in.p);
  return failed;
}
