// Lays the sections of an artifact out: header, table, tables, code, and the weights last.
#include "codegen/artifact_write.h"

#include <stdio.h>

#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

#define ALIGN 64u

sd_artifact *sd_artifact_new(sd_arena *a, const sd_dimtab *dims) {
  sd_artifact *x = SD_NEW(a, sd_artifact);
  x->arena = a;
  x->slots = (sd_dimslots){.arena = a, .tab = dims};
  sd_vec_push(a, &x->text, '\0');
  return x;
}

uint32_t sd_artifact_text(sd_artifact *x, const char *s) {
  if (!s || !*s) return 0;
  size_t n = strlen(s) + 1;
  uint32_t at = x->text.len;
  sd_vec_reserve(x->arena, &x->text, n);
  memcpy(x->text.at + at, s, n);
  x->text.len += (uint32_t)n;
  return at;
}

uint32_t sd_artifact_list(sd_artifact *x, const uint32_t *v, uint32_t n) {
  uint32_t at = x->lists.len;
  sd_vec_reserve(x->arena, &x->lists, n);
  if (n) memcpy(x->lists.at + at, v, n * sizeof *v);
  x->lists.len += n;
  return at;
}

uint64_t sd_artifact_const(sd_artifact *x, const void *data, uint64_t bytes) {
  uint64_t at = x->const_bytes;
  sd_vec_push(x->arena, &x->consts, ((sd_art_blob){data, bytes}));
  x->const_bytes = sd_align_up(at + bytes + 64, ALIGN); // readable bytes after each
  return at;
}

static uint64_t append(sd_artifact *x, sd_art_text *to, const void *data, uint64_t bytes) {
  uint64_t at = sd_align_up(to->len, ALIGN);
  sd_vec_reserve(x->arena, to, at - to->len + bytes);
  memset(to->at + to->len, 0, at - to->len);
  memcpy(to->at + at, data, bytes);
  to->len = (uint32_t)(at + bytes);
  return at;
}

uint64_t sd_artifact_code(sd_artifact *x, const void *object, uint64_t bytes) { return append(x, &x->code, object, bytes); }
uint64_t sd_artifact_image(sd_artifact *x, const void *data, uint64_t bytes) { return append(x, &x->images, data, bytes); }

typedef struct layout { sard_art_section s; const void *data; } layout;

static void section(layout *l, uint32_t *n, uint32_t kind, const void *data, uint32_t count, uint64_t size) {
  l[(*n)++] = (layout){{kind, count, 0, size}, data};
}

void sd_artifact_write(sd_artifact *x, const sd_isa *isa, sd_piece **out, size_t *out_n) {
  layout l[20];
  uint32_t n = 0;
  section(l, &n, SARD_ART_TEXT, x->text.at, x->text.len, x->text.len);
  section(l, &n, SARD_ART_DIMS, x->slots.dims.at, x->slots.dims.len, x->slots.dims.len * sizeof(sard_art_dim));
  section(l, &n, SARD_ART_SYMS, x->syms.at, x->syms.len, x->syms.len * sizeof(sard_art_sym));
  section(l, &n, SARD_ART_IO, x->io.at, x->n_inputs, x->io.len * sizeof(sard_art_io));
  section(l, &n, SARD_ART_BUFS, x->bufs.at, x->bufs.len, x->bufs.len * sizeof(sard_art_buf));
  section(l, &n, SARD_ART_KERNELS, x->kernels.at, x->kernels.len, x->kernels.len * sizeof(sard_art_kernel));
  section(l, &n, SARD_ART_STEPS, x->steps.at, x->steps.len, x->steps.len * sizeof(sard_art_step));
  section(l, &n, SARD_ART_LISTS, x->lists.at, x->lists.len, x->lists.len * sizeof(uint32_t));
  section(l, &n, SARD_ART_CHECKS, x->checks.at, x->checks.len, x->checks.len * sizeof(sard_art_check));
  section(l, &n, SARD_ART_STRINGS, x->strings.at, x->strings.len, x->strings.len * sizeof(uint32_t));
  if (x->batch.len) section(l, &n, SARD_ART_BATCH, x->batch.at, x->batch.len, x->batch.len * sizeof(uint32_t));
  section(l, &n, SARD_ART_CODE, x->code.at, x->code.len, x->code.len);
  if (x->cuda.len) {
    section(l, &n, SARD_ART_CUDA, x->cuda.at, x->cuda.len, x->cuda.len * sizeof(sard_art_cuda));
    section(l, &n, SARD_ART_CUDA_IMAGES, x->cuda_images.at, x->cuda_images.len, x->cuda_images.len * sizeof(sard_art_cuda_image));
    section(l, &n, SARD_ART_CUDA_CODE, x->images.at, x->images.len, x->images.len);
  }
  if (x->ir) section(l, &n, SARD_ART_IR, x->ir, 0, strlen(x->ir) + 1);
  if (x->meta) section(l, &n, SARD_ART_META, x->meta, 0, strlen(x->meta) + 1);
  section(l, &n, SARD_ART_CONST, NULL, x->consts.len, x->const_bytes);
  uint64_t at = sizeof(sard_art_header) + n * sizeof(sard_art_section);
  for (uint32_t i = 0; i < n; i++) {
    at = sd_align_up(at, ALIGN);
    l[i].s.offset = at;
    at += l[i].s.size;
  }
  uint64_t head = l[n - 1].s.offset; // the weights follow
  uint8_t *p = sd_arena_aligned(x->arena, head ? head : 1, ALIGN);
  sard_art_header h = {.version = SARD_ART_VERSION, .n_sections = n, .file_size = at};
  memcpy(h.magic, SARD_ART_MAGIC, sizeof h.magic);
  snprintf(h.isa, sizeof h.isa, "%s", isa->name);
  snprintf(h.arch, sizeof h.arch, "%s", isa->arch);
  snprintf(h.compiler, sizeof h.compiler, "sard " SARD_VERSION_TEXT);
  for (uint32_t i = 0; i < n; i++) {
    memcpy(p + sizeof h + i * sizeof l[i].s, &l[i].s, sizeof l[i].s);
    if (l[i].data && l[i].s.size) memcpy(p + l[i].s.offset, l[i].data, l[i].s.size);
  }
  h.hash = sd_hash_bytes(p + sizeof h, head - sizeof h, 0);
  memcpy(p, &h, sizeof h);

  static const uint8_t zeros[128];
  sd_piece *pieces = SD_NEW_ARRAY(x->arena, sd_piece, 1 + 2 * (size_t)x->consts.len);
  size_t np = 0;
  uint64_t offset = 0;
  pieces[np++] = (sd_piece){p, head};
  for (uint32_t i = 0; i < x->consts.len; i++) {
    uint64_t end = offset + x->consts.at[i].bytes, next = sd_align_up(end + 64, ALIGN);
    pieces[np++] = (sd_piece){x->consts.at[i].data, x->consts.at[i].bytes};
    pieces[np++] = (sd_piece){zeros, next - end};
    offset = next;
  }
  *out = pieces, *out_n = np;
}
