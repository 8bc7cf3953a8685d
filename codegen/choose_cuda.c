// Chooses schedules for GPUs: a nest is a contraction (tiles in shared memory), rows with reductions, or
// points.
//
// A first set of rules without measurements: neighbouring threads touch neighbouring elements, long
// reductions are shared by a group of threads, contractions with reuse on both sides go through shared
// memory. Symbolic sizes are guessed.
#include "codegen/choose_cuda_nest.h"

#include "runtime/base/alloc.h"

static bool writes(const sd_nest *n, const sd_buf *b) {
  for (uint32_t i = 0; i < n->stores.len; i++)
    if (n->stores.at[i].buf == b) return true;
  return false;
}

static bool reads_own(const sd_cuda_choice *c, bool reductions) {
  for (uint32_t i = 0; i < c->loads.len; i++)
    if ((c->loads.at[i].reduce || !reductions) && writes(c->n, c->loads.at[i].load->buf)) return true;
  return false;
}

bool sd_cuda_reads_own(const sd_cuda_choice *c) { return reads_own(c, false); }
bool sd_cuda_reduces_own(const sd_cuda_choice *c) { return reads_own(c, true); }

void sd_cuda_contiguous_last(const sd_cuda_choice *c, const sd_axis **axes, uint32_t n, const sd_expr *offset) {
  for (uint32_t i = n; i-- > 0;) {
    if (sd_access_stride(c->k, offset, axes[i]) != SD_STRIDE_ONE) continue;
    const sd_axis *a = axes[i];
    for (; i + 1 < n; i++) axes[i] = axes[i + 1];
    axes[n - 1] = a;
    return;
  }
}

void sd_cuda_along_stores(sd_cuda_choice *c, uint32_t from) {
  sd_cuda_contiguous_last(c, c->out->axes + from, c->n->n_axes - from, c->n->stores.at[0].offset);
}

// ---- nests ----

static void choose_nest(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  *o = (sd_cuda_nest){.nest = c->n, .form = SD_CUDA_POINTS};
  for (uint32_t i = 0; i < c->n->n_axes; i++) o->axes[i] = c->n->axes[i];
  if (c->n->sequential) {
    sd_choose_cuda_serial(c);
    return;
  }
  if (c->n->stores.len == 0) return;
  sd_access_collect(c->k, c->n, c->a, &c->loads, &c->reductions);
  sd_cuda_along_stores(c, 0);
  const sd_cuda_nest points = *o;
  if (c->reductions.len) {
    if (sd_choose_cuda_tiles(c)) return;
    *o = points;
    if (sd_choose_cuda_columns(c)) return;
    *o = points;
    if (sd_choose_cuda_rows(c)) return;
    *o = points;
  }
  if (sd_choose_cuda_turned(c)) return;
  *o = points;
  sd_choose_cuda_points(c);
}

static void choose_items(sd_kernel *k, const sd_cuda_options *options, const sd_items *items, sd_arena *a,
                         sd_cuda_plan *p) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop) {
      choose_items(k, options, items->at[i].body, a, p);
      continue;
    }
    sd_cuda_nest o;
    sd_cuda_choice c = {.k = k,
                        .n = items->at[i].nest,
                        .a = a,
                        .whole = p->whole,
                        .alone = p->whole && k->items.len == 1,
                        .threads = p->threads,
                        .options = options,
                        .out = &o};
    choose_nest(&c);
    sd_vec_push(a, &p->nests, o);
  }
}

// ---- kernels ----

// Are all items nests whose points may be computed in any order, also among the nests?
static bool independent(sd_kernel *k, sd_arena *a) {
  const sd_nest **writer = SD_NEW_ARRAY(a, const sd_nest *, k->bufs.len + 1);
  for (uint32_t i = 0; i < k->items.len; i++) {
    const sd_nest *n = k->items.at[i].nest;
    if (!n || n->sequential) return false;
    for (uint32_t s = 0; s < n->stores.len; s++) {
      const sd_buf *b = n->stores.at[s].buf;
      if (b->kind == SD_BUF_LOCAL || (writer[b->id] && writer[b->id] != n)) return false;
      writer[b->id] = n;
    }
  }
  for (uint32_t i = 0; i < k->items.len; i++) {
    sd_accesses loads = {0};
    sd_reductions reductions = {0};
    sd_access_collect(k, k->items.at[i].nest, a, &loads, &reductions);
    for (uint32_t l = 0; l < loads.len; l++) {
      const sd_nest *w = writer[loads.at[l].load->buf->id];
      if (w && w != k->items.at[i].nest) return false;
    }
  }
  return k->items.len > 0;
}

sard_status *sd_choose_cuda(sd_kernel *k, const sd_cuda_options *o, sd_arena *a, sd_cuda_plan *out) {
  static const sd_cuda_options defaults;
  *out = (sd_cuda_plan){.threads = 256, .blocks = 1};
  out->whole = k->grid.len == 0 && independent(k, a);
  out->fragments = sd_choose_cuda_fragments(k, a);
  if (out->fragments) {
    int warps = out->fragments->rows / 16;
    out->threads = SD_CUDA_WARP * (warps > 4 ? 4 : warps);
    return NULL;
  }
  if ((out->scan = sd_choose_cuda_scan(k, a))) return NULL;
  choose_items(k, o ? o : &defaults, &k->items, a, out);
  if (out->whole && out->nests.len == 1 && out->nests.at[0].threads) out->threads = out->nests.at[0].threads;
  for (uint32_t i = 0; i < out->nests.len; i++) {
    const sd_cuda_nest *n = &out->nests.at[i];
    if (n->form == SD_CUDA_TILES) out->threads = 256;
    if (n->form == SD_CUDA_TILES && n->product) out->blocks = n->product->blocks;
  }
  return NULL;
}
