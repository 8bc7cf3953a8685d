// Columns: reductions over outer axes, products of few rows with a matrix that is contiguous along the
// results.
//
// Neighbouring threads compute neighbouring results, in vectors; the steps of the reductions are split over
// the threads of a block that have the same results, whose parts are put together in shared memory. An axis
// that most loads do not move with (few rows of the first factor) is computed by each thread as a whole: what
// it loads serves all of it.
#include "codegen/choose_cuda_nest.h"
#include "runtime/base/alloc.h"

#define LEAST_STEPS  32     // of the reductions, else points are enough
#define MANY_THREADS 131072 // that fill a large GPU: points with lanes do without the others then
#define MOST_MANY    8
#define SEGMENT      64 // bytes that neighbouring threads read at least
#define MOST_VALUES  64 // accumulators of a thread
#define BLOCKS       132

// All reductions move with the last axis, their loads by one element or not at all.
static bool contiguous(const sd_cuda_choice *c, const sd_axis *last, int *narrow, int *wide) {
  bool some = false;
  for (uint32_t i = 0; i < c->out->n_phases; i++)
    if (!sd_x_uses_axis(c->out->phases[i].reduce, last)) return false;
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load;
    if (!c->loads.at[i].reduce || !sd_x_uses_axis(l, last)) continue;
    if (sd_access_stride(c->k, l->a[0], last) != SD_STRIDE_ONE || (l->a[1] && sd_x_uses_axis(l->a[1], last)))
      return false;
    int bits = sd_dtype_bits(l->buf->dtype);
    some = true, *narrow = bits < *narrow ? bits : *narrow, *wide = bits > *wide ? bits : *wide;
  }
  return some;
}

// A short axis that some loads of the reductions move with and others, which move with the last axis, do not.
static const sd_axis *find_many(const sd_cuda_choice *c, const sd_axis *last) {
  int64_t extent;
  for (uint32_t i = 0; i < c->n->n_axes; i++) {
    const sd_axis *a = c->n->axes[i];
    bool serves = false;
    if (a == last || !sd_dim_is_const(c->k->dims, a->extent, &extent) || extent > MOST_MANY) continue;
    for (uint32_t l = 0; l < c->loads.len; l++) {
      const sd_expr *x = c->loads.at[l].load;
      serves |= c->loads.at[l].reduce && sd_x_uses_axis(x, last) && !sd_x_uses_axis(x, a);
    }
    for (uint32_t p = 0; p < c->out->n_phases; p++) serves &= sd_x_uses_axis(c->out->phases[p].reduce, a);
    if (serves) return a;
  }
  return NULL;
}

// Axes in the order: rows, the last axis, those that the reductions do not move with.
static void order_axes(sd_cuda_choice *c, const sd_axis *last) {
  sd_cuda_nest *o = c->out;
  uint32_t at = 0;
  for (int k = 0; k < 2; k++) {
    for (uint32_t i = 0; i < c->n->n_axes; i++) {
      const sd_axis *a = c->n->axes[i];
      bool row = false;
      for (uint32_t p = 0; p < o->n_phases; p++) row |= sd_x_uses_axis(o->phases[p].reduce, a);
      if (a != last && a != o->many && row == (k == 0)) o->axes[at++] = a;
    }
    if (k == 0) o->axes[at++] = last, o->n_rows = at;
  }
  o->n_columns = at - o->n_rows;
}

static bool make(sd_cuda_choice *c, int vec) {
  sd_cuda_nest *o = c->out;
  sd_accesses loads = {0};
  sd_reductions reductions = {0};
  const sd_axis *last = o->axes[o->n_rows - 1];
  if (!sd_dim_multiple_of(c->k->dims, last->extent, vec)) {
    if (sd_dim_is_const(c->k->dims, last->extent, NULL)) return false;
    sd_cuda_test(o, last->extent, vec);
  }
  sd_expr *by = sd_cuda_make_lanes(c, o->n_rows - 1, vec);
  for (uint32_t i = 0; i < o->n_phases; i++) {
    const sd_expr *r = sd_x_subst(c->k, (sd_expr *)o->phases[i].reduce, last, by);
    o->phases[i] = (sd_cuda_phase){r, r->a[0]};
  }
  for (uint32_t i = 0; i < o->nest->stores.len; i++)
    sd_cuda_vector_of(c->k, o->nest->stores.at[i].buf, o->nest->stores.at[i].offset, o->lane, o);
  sd_access_collect(c->k, o->nest, c->a, &loads, &reductions);
  return sd_cuda_vectors(c, &loads, o->lane) || (vec == 1 && o->n_tests == 0);
}

// Threads along the results: as many as leave every part of a GPU a block, but whole segments of memory.
static void choose_strip(sd_cuda_choice *c, int bits) {
  sd_cuda_nest *o = c->out;
  double vectors = sd_cuda_extent(c, o->axes[o->n_rows - 1]), outer = 1;
  for (uint32_t i = 0; i + 1 < o->n_rows; i++) outer *= sd_cuda_extent(c, o->axes[i]);
  o->strip = SD_CUDA_WARP;
  while (o->strip > 1 && o->strip / 2 >= vectors) o->strip /= 2;
  for (int part = SEGMENT; part >= SEGMENT / 2;
       part /= 2) { // of a segment, where else half of the GPU has nothing to do
    double least = part == SEGMENT ? BLOCKS : BLOCKS / 2.0;
    while (o->strip > 1 && outer * vectors / o->strip < least && o->strip / 2 * o->vec * bits / 8 >= part)
      o->strip /= 2;
  }
  o->threads = outer * vectors / o->strip < 2 * BLOCKS ? SD_CUDA_MOST_THREADS : 256;
}

bool sd_choose_cuda_columns(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  const sd_axis *last = c->n->n_axes ? o->axes[c->n->n_axes - 1] : NULL;
  int narrow = 64, wide = 8;
  double steps = 0;
  if (!c->alone || !last || sd_cuda_has_limits(c) || sd_cuda_reads_own(c) ||
      !sd_cuda_collect_phases(c->out, &c->reductions))
    return false;
  if (sd_access_stride(c->k, c->n->stores.at[0].offset, last) != SD_STRIDE_ONE ||
      !contiguous(c, last, &narrow, &wide))
    return false;
  for (uint32_t i = 0; i < o->n_phases; i++) {
    double s = sd_access_steps(c->k->dims, o->phases[i].reduce);
    steps = s > steps ? s : steps;
  }
  o->many = find_many(c, last);
  int64_t many = 1;
  if (o->many) sd_dim_is_const(c->k->dims, o->many->extent, &many);
  int v = 128 / narrow;
  while (v > 1 && (v * wide > 256 || v * many > MOST_VALUES)) v /= 2;
  if (steps < LEAST_STEPS || sd_cuda_points(c) / v >= MANY_THREADS) return false;
  order_axes(c, last);
  const sd_cuda_nest plain = *o;
  for (; v >= 1; v /= 2) {
    *o = plain;
    if (!make(c, v)) continue;
    o->form = SD_CUDA_COLUMNS;
    choose_strip(c, wide);
    return true;
  }
  return false;
}
