// Chooses schedules for GPUs: a nest is a contraction (tiles in shared memory), rows with reductions, or
// points.
//
// A first set of rules without measurements: neighbouring threads touch neighbouring elements, long
// reductions are shared by a group of threads, contractions with reuse on both sides go through shared
// memory. Symbolic sizes are guessed.
#include "codegen/choose_cuda.h"

#include "codegen/access.h"
#include "runtime/base/alloc.h"

#define LONG_SUM    32   // steps from which on a reduction is shared
#define SHORT_ROW   8    // below, most threads of a group would have nothing to do
#define WARP_SUM    1024 // steps up to which a warp is enough
#define MANY_POINTS 4096 // that fill a GPU with a thread each
#define LEAST_SIDE  8    // results along m and n from which on tiles pay

typedef struct choice {
  sd_kernel *k;
  const sd_nest *n;
  sd_arena *a;
  bool whole, alone; // points are spread over all blocks; the kernel has no other nest
  int threads;       // of a block where the points are not spread over all blocks
  sd_accesses loads;
  sd_reductions reductions;
  sd_cuda_nest *out;
} choice;

static double extent(const choice *c, const sd_axis *a) {
  return (double)sd_access_guess(c->k->dims, a->extent);
}

static bool writes(const sd_nest *n, const sd_buf *b) {
  for (uint32_t i = 0; i < n->stores.len; i++)
    if (n->stores.at[i].buf == b) return true;
  return false;
}

// A reduction reads what the nest writes: it belongs to its point alone.
static bool reduces_own(const choice *c) {
  for (uint32_t i = 0; i < c->loads.len; i++)
    if (c->loads.at[i].reduce && writes(c->n, c->loads.at[i].load->buf)) return true;
  return false;
}

static void move_last(sd_cuda_nest *o, uint32_t n, uint32_t from) {
  const sd_axis *a = o->axes[from];
  for (uint32_t i = from; i + 1 < n; i++) o->axes[i] = o->axes[i + 1];
  o->axes[n - 1] = a;
}

// Neighbouring threads store to neighbouring elements.
static void along_stores(choice *c, uint32_t from) {
  for (uint32_t i = c->n->n_axes; i-- > from;)
    if (sd_access_stride(c->k, c->n->stores.at[0].offset, c->out->axes[i]) == SD_STRIDE_ONE) {
      move_last(c->out, c->n->n_axes, i);
      return;
    }
}

// ---- contractions ----

typedef struct factors {
  bool x, y;
} factors;
static factors moves_with(const sd_expr *product, const sd_axis *a) {
  return (factors){sd_x_uses_axis(product->a[0], a), sd_x_uses_axis(product->a[1], a)};
}

static bool is_product(const choice *c, const sd_expr *r) {
  const sd_expr *b = r->a[0];
  if (r->rop != SD_R_SUM || b->op != SD_X_MUL) return false;
  for (uint32_t i = 0; i < c->reductions.len; i++)
    if (c->reductions.at[i].parent == r) return false; // the factors are computed for each element of a slice
  for (uint32_t i = 0; i < r->n_axes; i++) {
    factors f = moves_with(b, r->axes[i]);
    if (!f.x || !f.y || r->axes[i]->limit) return false;
  }
  return true;
}

// Are the elements of a factor neighbours along the last reduction axis, or along axis `a`?
static bool along(const choice *c, const sd_expr *r, const sd_expr *factor, const sd_axis *a,
                  bool otherwise) {
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load;
    if (c->loads.at[i].reduce != r || !sd_x_uses_axis(l, r->axes[r->n_axes - 1])) continue;
    bool mine = factor == l;
    for (uint32_t j = 0; j < factor->n && !mine; j++) mine = factor->a[j] == l;
    if (!mine) continue;
    bool in_k = sd_access_stride(c->k, l->a[0], r->axes[r->n_axes - 1]) == SD_STRIDE_ONE;
    bool in_a = sd_access_stride(c->k, l->a[0], a) == SD_STRIDE_ONE;
    if (in_k && in_a)
      return extent(c, r->axes[r->n_axes - 1]) >= extent(c, a); // windows: runs along the image are longer
    if (in_k || in_a) return in_k;
  }
  return otherwise;
}

static void tile_sizes(sd_cuda_nest *o, double m, double n) {
  o->bm = m > 32 ? 64 : m > 16 ? 32 : 16;
  o->bn = n > 32 ? 64 : n > 16 ? 32 : 16;
  o->tm = o->bm / 16, o->tn = o->bn / 16; // 16 x 16 threads
  o->bk = 16;
}

static bool choose_tiles(choice *c) {
  const sd_expr *r = NULL;
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    if (c->reductions.at[i].parent) continue;
    if (r) return false;
    r = c->reductions.at[i].expr;
  }
  if (!c->alone || !r || !is_product(c, r) || reduces_own(c)) return false;
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (c->n->axes[i]->limit) return false;
  sd_cuda_nest *o = c->out;
  uint32_t at = 0;
  double m = 1, n = 1;
  static const factors kinds[] = {{true, true}, {false, false}, {true, false}, {false, true}};
  for (int k = 0; k < 4; k++) {
    for (uint32_t i = 0; i < c->n->n_axes; i++) {
      factors f = moves_with(r->a[0], c->n->axes[i]);
      if (f.x != kinds[k].x || f.y != kinds[k].y) continue;
      o->axes[at++] = c->n->axes[i];
      *(k == 2 ? &m : &n) *= k >= 2 ? extent(c, c->n->axes[i]) : 1;
    }
    if (k == 1) o->n_rows = at;
    if (k == 2) o->n_m = at - o->n_rows;
  }
  if (m < LEAST_SIDE || n < LEAST_SIDE || o->n_m == 0 || at == o->n_rows + o->n_m) return false;
  o->form = SD_CUDA_TILES, o->sum = r;
  tile_sizes(o, m, n);
  o->x_along_k = along(c, r, r->a[0]->a[0], o->axes[o->n_rows + o->n_m - 1], true);
  o->y_along_k = along(c, r, r->a[0]->a[1], o->axes[at - 1], false);
  return true;
}

// ---- rows ----

// With a thread for each point, do neighbouring threads read neighbouring elements in all reductions?
static bool coalesced(const choice *c) {
  if (c->n->n_axes == 0) return false;
  const sd_axis *last = c->out->axes[c->n->n_axes - 1];
  for (uint32_t i = 0; i < c->loads.len; i++) {
    if (!c->loads.at[i].reduce) continue;
    sd_stride s = sd_access_stride(c->k, c->loads.at[i].load->a[0], last);
    if (s != SD_STRIDE_ONE && s != SD_STRIDE_ZERO) return false;
  }
  return true;
}

static bool choose_rows(choice *c) {
  sd_cuda_nest *o = c->out;
  double steps = 0, points = 1, columns = 1;
  uint32_t at = 0;
  bool row[SD_MAX_AXES] = {false};
  for (uint32_t i = 0; i < c->n->n_axes; i++) {
    points *= extent(c, c->n->axes[i]);
    for (uint32_t j = 0; j < c->reductions.len; j++)
      row[i] |= !c->reductions.at[j].parent && sd_x_uses_axis(c->reductions.at[j].expr, c->n->axes[i]);
    if (!row[i]) columns *= extent(c, c->n->axes[i]);
  }
  for (uint32_t j = 0; j < c->reductions.len; j++)
    if (!c->reductions.at[j].parent && sd_access_steps(c->k->dims, c->reductions.at[j].expr) > steps)
      steps = sd_access_steps(c->k->dims, c->reductions.at[j].expr);
  double most = steps > columns ? steps : columns;
  if (reduces_own(c) || most < SHORT_ROW || (columns < 2 && steps < LONG_SUM)) return false;
  if (columns < 2 && coalesced(c) && points >= MANY_POINTS) return false;
  for (int k = 0; k < 2; k++) {
    for (uint32_t i = 0; i < c->n->n_axes; i++)
      if (row[i] == (k == 0)) o->axes[at++] = c->n->axes[i];
    if (k == 0) o->n_rows = at;
  }
  for (uint32_t i = 0; i < o->n_rows; i++) // a limit that moves with a column would need the columns first
    for (uint32_t j = o->n_rows; o->axes[i]->limit && j < at; j++)
      if (sd_x_uses_axis(o->axes[i]->limit, o->axes[j])) return false;
  o->form = SD_CUDA_ROWS;
  o->group = most <= WARP_SUM || !c->whole ? SD_CUDA_WARP : c->threads;
  along_stores(c, o->n_rows);
  return true;
}

// ---- nests ----

static void choose_nest(choice *c) {
  sd_cuda_nest *o = c->out;
  *o = (sd_cuda_nest){.nest = c->n, .form = SD_CUDA_POINTS};
  for (uint32_t i = 0; i < c->n->n_axes; i++) o->axes[i] = c->n->axes[i];
  if (c->n->sequential) {
    o->form = SD_CUDA_SERIAL;
    return;
  }
  if (c->n->stores.len == 0) return;
  sd_access_collect(c->k, c->n, c->a, &c->loads, &c->reductions);
  along_stores(c, 0);
  if (c->reductions.len == 0 || choose_tiles(c)) return;
  sd_cuda_nest points = *o;
  if (!choose_rows(c)) *o = points;
}

static void choose_items(sd_kernel *k, const sd_items *items, sd_arena *a, sd_cuda_plan *p) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop) {
      choose_items(k, items->at[i].body, a, p);
      continue;
    }
    sd_cuda_nest o;
    choice c = {.k = k,
                .n = items->at[i].nest,
                .a = a,
                .whole = p->whole,
                .alone = p->whole && k->items.len == 1,
                .threads = p->threads,
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

sard_status *sd_choose_cuda(sd_kernel *k, sd_arena *a, sd_cuda_plan *out) {
  *out = (sd_cuda_plan){.threads = 256};
  out->whole = k->grid.len == 0 && independent(k, a);
  choose_items(k, &k->items, a, out);
  for (uint32_t i = 0; i < out->nests.len; i++)
    if (out->nests.at[i].form == SD_CUDA_TILES) out->threads = 256;
  return NULL;
}
