// Lays the sections of an artifact out: header, table, tables, code, and the weights last.
#include "codegen/artifact_write.h"

#include <stdio.h>

#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

#define ALIGN 64u

sd_artifact *sd_artifact_new(sd_arena *a, const sd_dimtab *dims, sd_art_weights *weights) {
  sd_artifact *x = SD_NEW(a, sd_artifact);
  x->arena = a, x->weights = weights;
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
  sd_art_weights *w = x->weights;
  uint64_t at = w->bytes;
  sd_vec_push(x->arena, &w->at, ((sd_art_blob){data, bytes}));
  w->bytes = sd_align_up(at + bytes + 64, ALIGN); // readable bytes after each
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

// ---- layout ----

typedef struct layout { sard_art_section s; const void *data; } layout;
typedef struct layouts {
  SD_VEC(layout) at;
  sd_arena *a;
  uint32_t part;
} layouts;

static void section(layouts *l, uint32_t kind, const void *data, uint32_t count, uint64_t size) {
  sd_vec_push(l->a, &l->at, ((layout){{kind | l->part << 16, count, 0, size}, data}));
}

static void add_sections(layouts *l, const sd_artifact *x) {
  section(l, SARD_ART_TEXT, x->text.at, x->text.len, x->text.len);
  section(l, SARD_ART_DIMS, x->slots.dims.at, x->slots.dims.len, x->slots.dims.len * sizeof(sard_art_dim));
  section(l, SARD_ART_SYMS, x->syms.at, x->syms.len, x->syms.len * sizeof(sard_art_sym));
  section(l, SARD_ART_IO, x->io.at, x->n_inputs, x->io.len * sizeof(sard_art_io));
  section(l, SARD_ART_BUFS, x->bufs.at, x->bufs.len, x->bufs.len * sizeof(sard_art_buf));
  section(l, SARD_ART_KERNELS, x->kernels.at, x->kernels.len, x->kernels.len * sizeof(sard_art_kernel));
  section(l, SARD_ART_STEPS, x->steps.at, x->steps.len, x->steps.len * sizeof(sard_art_step));
  section(l, SARD_ART_LISTS, x->lists.at, x->lists.len, x->lists.len * sizeof(uint32_t));
  section(l, SARD_ART_CHECKS, x->checks.at, x->checks.len, x->checks.len * sizeof(sard_art_check));
  section(l, SARD_ART_STRINGS, x->strings.at, x->strings.len, x->strings.len * sizeof(uint32_t));
  if (x->batch.len) section(l, SARD_ART_BATCH, x->batch.at, x->batch.len, x->batch.len * sizeof(uint32_t));
  if (x->parts.len) section(l, SARD_ART_PARTS, x->parts.at, x->parts.len, x->parts.len * sizeof(uint32_t));
  if (x->ways.len) section(l, SARD_ART_WAYS, x->ways.at, x->ways.len, x->ways.len * sizeof(sard_art_way));
  section(l, SARD_ART_CODE, x->code.at, x->code.len, x->code.len);
  if (x->cuda.len) {
    section(l, SARD_ART_CUDA, x->cuda.at, x->cuda.len, x->cuda.len * sizeof(sard_art_cuda));
    section(l, SARD_ART_CUDA_IMAGES, x->cuda_images.at, x->cuda_images.len, x->cuda_images.len * sizeof(sard_art_cuda_image));
    if (x->products.len) section(l, SARD_ART_CUDA_PRODUCTS, x->products.at, x->products.len, x->products.len * sizeof(sard_art_product));
    section(l, SARD_ART_CUDA_CODE, x->images.at, x->images.len, x->images.len);
  }
  if (x->ir) section(l, SARD_ART_IR, x->ir, 0, strlen(x->ir) + 1);
  if (x->meta) section(l, SARD_ART_META, x->meta, 0, strlen(x->meta) + 1);
}

// Header, table and all sections but the weights, which follow.
static sd_piece write_head(const layouts *l, const sd_isa *isa) {
  uint32_t n = l->at.len;
  uint64_t at = sizeof(sard_art_header) + n * sizeof(sard_art_section);
  for (uint32_t i = 0; i < n; i++) {
    at = sd_align_up(at, ALIGN);
    l->at.at[i].s.offset = at;
    at += l->at.at[i].s.size;
  }
  uint64_t head = l->at.at[n - 1].s.offset;
  uint8_t *p = sd_arena_aligned(l->a, head ? head : 1, ALIGN);
  sard_art_header h = {.version = SARD_ART_VERSION, .n_sections = n, .file_size = at};
  memcpy(h.magic, SARD_ART_MAGIC, sizeof h.magic);
  snprintf(h.isa, sizeof h.isa, "%s", isa->name);
  snprintf(h.arch, sizeof h.arch, "%s", isa->arch);
  snprintf(h.compiler, sizeof h.compiler, "sard " SARD_VERSION_TEXT);
  for (uint32_t i = 0; i < n; i++) {
    const layout *x = &l->at.at[i];
    memcpy(p + sizeof h + i * sizeof x->s, &x->s, sizeof x->s);
    if (x->data && x->s.size) memcpy(p + x->s.offset, x->data, x->s.size);
  }
  h.hash = sd_hash_bytes(p + sizeof h, head - sizeof h, 0);
  memcpy(p, &h, sizeof h);
  return (sd_piece){p, head};
}

void sd_artifact_write(sd_artifact *const *x, uint32_t n, const sd_isa *isa, sd_piece **out, size_t *out_n) {
  static const uint8_t zeros[128];
  const sd_art_weights *w = x[0]->weights;
  layouts l = {.a = x[0]->arena};
  for (; l.part < n; l.part++) add_sections(&l, x[l.part]);
  l.part = 0;
  section(&l, SARD_ART_CONST, NULL, w->at.len, w->bytes);
  sd_piece *pieces = SD_NEW_ARRAY(l.a, sd_piece, 1 + 2 * (size_t)w->at.len);
  size_t np = 0;
  uint64_t offset = 0;
  pieces[np++] = write_head(&l, isa);
  for (uint32_t i = 0; i < w->at.len; i++) {
    uint64_t end = offset + w->at.at[i].bytes, next = sd_align_up(end + 64, ALIGN);
    pieces[np++] = (sd_piece){w->at.at[i].data, w->at.at[i].bytes};
    pieces[np++] = (sd_piece){zeros, next - end};
    offset = next;
  }
  *out = pieces, *out_n = np;
}
